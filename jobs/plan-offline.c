/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plan of an operation on images that no process has open. Headers are read by our own reader
 * only, and nothing in them is followed that is not a plain file. */
#include "jobs/plan-private.h"

#include "jobs/bitmaps.h"
#include "jobs/header.h"
#include "jobs/op-offline.h"
#include "src/common/fs.h"

#include <string.h>
#include <stdio.h>

/* QEMU 6.1: blockdev-reopen, which had another name before; 8.2: copy-on-read knows of subclusters,
 * and does not abort any more (docs/qemu-findings.md). */
#define FIRST             50200
#define FIRST_REOPEN      60100
#define FIRST_SUBCLUSTERS 80200

static gboolean
is_qcow2 (const ChainLayer *layer)
{
  return g_strcmp0 (layer->format, "qcow2") == 0;
}

/* ---- every layer ----------------------------------------------------------------------------- */

static gboolean
check_header (const ChainLayer *layer, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (!is_qcow2 (layer))
    return TRUE;
  if (!image_header_read (layer->file, &header, error))
    return FALSE;
  if (!header.corrupt)
    return TRUE;
  fail (error, REFUSED, "'%s' is marked as corrupt", layer->file);
  return hint (error, "look at it: qemu-img check -f qcow2 '%s'", layer->file);
}

static gboolean
check_layer (const ChainLayer *layer, GError **error)
{
  if (layer->encrypted)
    return fail (error, REFUSED, "'%s' is encrypted, and its secret is not known", layer->file);
  if (layer->data_file) {
    fail (error, REFUSED, "'%s' keeps its data in an external data file", layer->file);
    return hint (error,
                 "its header could lead to any file; qemu-img convert makes a plain image of it");
  }
  if (!g_utf8_validate (layer->file, -1, NULL))
    return fail (error, REFUSED, "the name of layer '%s' is not UTF-8, which QMP cannot carry",
                 layer->file);
  return check_header (layer, error);
}

static gboolean
add_image (Op *op, const RequestDisk *wanted, const char *name, OpDisk **ret_disk, GError **error)
{
  g_autoptr (GPtrArray) layers = chain_read_offline (wanted->disk, wanted->format, error);
  if (layers == NULL)
    return FALSE;
  OpDisk *disk = *ret_disk = op_add_disk (op, name ? name : ((ChainLayer *)layers->pdata[0])->file);
  for (guint i = 0; i < layers->len; i++) {
    ChainLayer *layer = chain_layer_copy (layers->pdata[i]);
    g_ptr_array_add (disk->before, layer);
    layer->node = g_strdup_printf ("disk%u-layer%u", disk->index, i);
    layer->protocol_node = g_strdup_printf ("disk%u-file%u", disk->index, i);
    if (!check_layer (layers->pdata[i], error))
      return FALSE;
  }
  return TRUE;
}

/* ---- the layers that are changed ------------------------------------------------------------- */

static gboolean
is_touched (OpDisk *disk, int i)
{
  return i < disk->base || path_same_file (op_disk_layer (disk, i)->file, disk->receiver);
}

/* A base that is only read may be open in others, as a template is. */
static gboolean
check_closed (OpDisk *disk, GError **error)
{
  for (int i = 0; i < (int)disk->before->len; i++) {
    const char *file = op_disk_layer (disk, i)->file;
    if (!is_touched (disk, i) || !file_is_locked (file))
      continue;
    fail (error, REFUSED, "'%s' is open in another process", file);
    return hint (error, "stop the guest that runs on it, or work on the running guest: leave "
                        "--offline out and name its VM");
  }
  return TRUE;
}

/* @chosen: it is known which layers are changed; before that, at least the topmost is. */
static gboolean
check_not_taken (OpDisk *disk, Journal *journal, gboolean chosen, GError **error)
{
  for (int i = 0; journal != NULL && i < (int)disk->before->len; i++) {
    const char *file = op_disk_layer (disk, i)->file;
    g_autofree char *other =
        journal_find_user (journal, file, chosen ? is_touched (disk, i) : i == 0);
    if (other == NULL)
      continue;
    gboolean alive = journal_owner (journal, other, NULL) == OWNER_ALIVE;
    fail (error, REFUSED, "operation %s %s '%s'", other,
          alive ? "is running on" : "was interrupted and is not settled, on", file);
    return alive ? hint (error, "wait for it, or: rechain op cancel %s", other)
                 : hint (error, "rechain recover --op %s", other);
  }
  return TRUE;
}

/* A header keeps its manner of naming: a chain that can be moved as a whole stays so. */
static void
keep_relative (OpDisk *disk)
{
  if (disk->backing == NULL || disk->backing_old == NULL || disk->backing_old[0] == '/')
    return;
  g_free (disk->backing);
  disk->backing = path_relative (disk->header, op_disk_layer (disk, disk->base)->file);
}

/* So that what somebody else writes between two of our steps is seen. */
static void
stamp_layers (OpDisk *disk)
{
  Json *stamps = json_array ();
  for (guint i = 0; i < disk->before->len; i++) {
    g_autofree char *stamp = file_stamp (op_disk_layer (disk, (int)i)->file);
    json_append (stamps, json_str (stamp ? stamp : ""));
  }
  if (disk->details == NULL)
    disk->details = json_object_new_object ();
  json_set (disk->details, "stamps", stamps);
}

static void
tell_how (Op *op, OpDisk *disk)
{
  g_ptr_array_add (op->notes,
                   g_strdup_printf ("copied by a %s job of a qemu-storage-daemon%s",
                                    disk->mode == MODE_STREAM ? "block-stream" : "block-commit",
                                    disk->header ? "; the header is rewritten by qemu-img" : ""));
  if (disk->mode == MODE_STREAM)
    g_ptr_array_add (
        op->notes,
        g_strdup_printf ("if this is undone, '%s' keeps what was copied, which reads the same",
                         disk->receiver));
  if (disk->mode == MODE_COMMIT_ACTIVE)
    g_ptr_array_add (
        op->notes,
        g_strdup_printf ("from then on the disk is '%s': change the guest's configuration",
                         disk->receiver));
}

gboolean
plan_add_offline (Op *op, const Request *request, const RequestDisk *wanted, const char *name,
                  Journal *journal, GError **error)
{
  OpDisk *disk;
  if (!add_image (op, wanted, name, &disk, error) ||
      !check_not_taken (disk, journal, FALSE, error) ||
      !(op->kind == OP_ALLOCATE ? plan_allocate_image (op, disk, wanted, error)
                                : plan_merge_disk (op, disk, wanted, NULL, error)))
    return FALSE;
  keep_relative (disk);
  op_name_disk (op, disk);
  if (op_changes_chain (op))
    stamp_layers (disk);
  if (op->kind != OP_ALLOCATE)
    tell_how (op, disk);
  return check_not_taken (disk, journal, TRUE, error) && check_closed (disk, error) &&
         plan_check_writable (disk->receiver, TRUE, error) &&
         plan_check_writable (disk->header, TRUE, error);
}

OpDisk *
plan_look_offline (Op *op, const RequestDisk *wanted, const char *name, GError **error)
{
  OpDisk *disk;
  return add_image (op, wanted, name, &disk, error) ? disk : NULL;
}

/* A pull into an image with subclusters. */
static gboolean
streams_subclusters (OpDisk *disk)
{
  g_auto (ImageHeader) header = {0};
  return disk->mode == MODE_STREAM && image_header_read (disk->receiver, &header, NULL) &&
         header.extended_l2;
}

gboolean
plan_check_engine (Op *op, OpDisk *disk, const char *out, GError **error)
{
  int major = 0, minor = 0;
  if (sscanf (out, "qemu-storage-daemon version %d.%d", &major, &minor) != 2)
    return fail (error, FAILED, "qemu-storage-daemon does not tell its version");
  int version = major * 10000 + minor * 100;
  g_free (op->qemu);
  op->qemu = g_strdup_printf ("qemu-storage-daemon %d.%d", major, minor);
  if (version < FIRST) {
    fail (error, REFUSED, "this qemu-storage-daemon is version %d.%d", major, minor);
    return hint (error, "5.2 and later can hold a job before its end");
  }
  if (version < FIRST_REOPEN && disk->details != NULL)
    json_set (disk->details, OLD_REOPEN, json_flag (TRUE));
  if (version >= FIRST_SUBCLUSTERS || !streams_subclusters (disk))
    return TRUE;
  fail (error, REFUSED,
        "'%s' has subclusters (extended_l2), and qemu-storage-daemon %d.%d aborts when it "
        "copies into such an image",
        disk->receiver, major, minor);
  return hint (error, "8.2 and later do not; or commit instead of pulling");
}

/* ---- dirty bitmaps --------------------------------------------------------------------------- */

gboolean
plan_layer_has_bitmaps (OpDisk *disk, int i)
{
  g_auto (ImageHeader) header = {0};
  ChainLayer *layer = op_disk_layer (disk, i);
  gboolean falls_out = i >= disk->first && i < disk->base;
  return (falls_out || path_same_file (layer->file, disk->receiver)) && is_qcow2 (layer) &&
         image_header_read (layer->file, &header, NULL) && header.has_bitmaps;
}

gboolean
plan_bitmaps_offline (Op *op, OpDisk *disk, Json *found, GError **error)
{
  plan_bitmaps (op, disk, &(BitmapSource){.on_disk = found});
  ChainLayer *receiver =
      op_disk_layer (disk, disk->mode == MODE_STREAM ? disk->first - 1 : disk->base);
  if (op_merges_bitmaps (op) && !is_qcow2 (receiver)) {
    const char *name = json_get_str (json_at (disk->bitmaps, 0), "name");
    fail (error, REFUSED, "the dirty bitmap '%s' cannot be kept: '%s' is no qcow2 image", name,
          receiver->file);
    return hint (error, "if no backup relies on it: qemu-img bitmap --remove FILE %s", name);
  }
  if (json_length (json_get (found, receiver->node)) > 0)
    g_ptr_array_add (op->notes,
                     g_strdup_printf ("the dirty bitmaps of '%s' become inconsistent if this is "
                                      "killed while it copies",
                                      receiver->file));
  return TRUE;
}
