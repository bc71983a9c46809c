/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which layers fall out of the chain, which one receives what they hold, and by which job. */
#include "jobs/plan-private.h"

#include "jobs/header.h"
#include "src/common/fs.h"
#include "src/common/size.h"

#include <string.h>

#define FORMAT_EXTENSION 16u /* bytes that a first backing format takes in a header */

/* Index of a layer that the request names; @otherwise where it names none, -1 with an error. */
static int
find_layer (OpDisk *disk, const char *wanted, const char *what, int otherwise, GError **error)
{
  int found = wanted ? chain_find_layer (disk->before, wanted, error) : otherwise;
  if (found < 0)
    prefix (error, "%s of disk '%s'", what, disk->name);
  return found;
}

/* ---- modes ----------------------------------------------------------------------------------- */

static gboolean
is_below (OpDisk *disk, int base, int top, GError **error)
{
  if (base > top)
    return TRUE;
  fail (error, REFUSED, "disk '%s': '%s' does not lie under '%s'", disk->name,
        op_disk_layer (disk, base)->file, op_disk_layer (disk, top)->file);
  return hint (error, "base is the lower layer, top the upper one: rechain chain shows them");
}

static gboolean
pull_into (Op *op, OpDisk *disk, int top, int base, GError **error)
{
  int none = (int)disk->before->len;
  if (base < none && !is_below (disk, base, top, error))
    return FALSE;
  if (base == top + 1) {
    fail (error, REFUSED, "disk '%s': nothing lies between '%s' and '%s'", disk->name,
          op_disk_layer (disk, top)->file,
          base < none ? op_disk_layer (disk, base)->file : "the end of its chain");
    return hint (error, "there is nothing to merge");
  }
  ChainLayer *receiver = op_disk_layer (disk, top);
  disk->mode = MODE_STREAM;
  disk->first = top + 1;
  disk->base = base;
  disk->node = g_strdup (receiver->node);
  disk->receiver = g_strdup (receiver->file);
  disk->header = g_strdup (receiver->file);
  disk->backing_old = g_strdup (receiver->backing);
  return TRUE;
}

static gboolean
commit_from (Op *op, OpDisk *disk, int top, int base, GError **error)
{
  if (base >= (int)disk->before->len) {
    fail (error, REFUSED, "disk '%s': no layer lies under '%s'", disk->name,
          op_disk_layer (disk, top)->file);
    return hint (error, "there is nothing to commit into");
  }
  if (!is_below (disk, base, top, error))
    return FALSE;
  ChainLayer *receiver = op_disk_layer (disk, base);
  disk->mode = top == 0 ? MODE_COMMIT_ACTIVE : MODE_COMMIT;
  disk->first = top;
  disk->base = base;
  disk->node = g_strdup (receiver->node);
  disk->receiver = g_strdup (receiver->file);
  if (top > 0) {
    disk->header = g_strdup (op_disk_layer (disk, top - 1)->file);
    disk->backing_old = g_strdup (op_disk_layer (disk, top - 1)->backing);
  }
  return TRUE;
}

static gboolean
choose_pull (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  int none = (int)disk->before->len;
  gboolean all = g_strcmp0 (wanted->base, "none") == 0;
  int top = find_layer (disk, wanted->top, "top", 0, error);
  int base = top < 0 ? -1 : find_layer (disk, all ? NULL : wanted->base, "base", none, error);
  return base >= 0 && pull_into (op, disk, top, base, error);
}

static gboolean
choose_commit (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  int top = find_layer (disk, wanted->top, "top", 0, error);
  int base = top < 0 ? -1 : find_layer (disk, wanted->base, "base", top + 1, error);
  return base >= 0 && commit_from (op, disk, top, base, error);
}

/* Whatever was backed by the source is backed by the destination afterwards; what lies between them
 * goes the same way. */
static gboolean
choose_merge (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  int source = find_layer (disk, wanted->source, "source", -1, error);
  int dest = source < 0 ? -1 : find_layer (disk, wanted->dest, "dest", -1, error);
  if (source < 0 || dest < 0)
    return FALSE;
  if (source == dest)
    return fail (error, REFUSED, "disk '%s': source and destination are the same layer '%s'",
                 disk->name, op_disk_layer (disk, source)->file);
  if (!(dest < source ? pull_into (op, disk, dest, source + 1, error)
                      : commit_from (op, disk, source, dest, error)))
    return FALSE;
  g_ptr_array_add (
      op->notes, g_strdup_printf (
                     "'%s' lies %s '%s': its data is %s", op_disk_layer (disk, source)->file,
                     dest < source ? "under" : "above", op_disk_layer (disk, dest)->file,
                     dest < source ? "pulled up (block-stream)" : "committed down (block-commit)"));
  return TRUE;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* A header update that does not fit crashes QEMU at an inner commit (qemu-reference, fact 3). */
static gboolean
check_header_room (OpDisk *disk, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (disk->header == NULL)
    return TRUE;
  if (!image_header_read (disk->header, &header, error))
    return prefix (error, "disk '%s'", disk->name);
  if (!header.is_qcow2)
    return fail (error, REFUSED,
                 "disk '%s': '%s' is no qcow2 image; only such a layer can get "
                 "another backing file",
                 disk->name, disk->header);
  gsize old = header.backing ? strlen (header.backing) : 0;
  gsize needed = disk->backing ? strlen (disk->backing) : 0;
  needed += header.backing_format == NULL ? FORMAT_EXTENSION : 0;
  if (needed <= old + header.header_room)
    return TRUE;
  fail (error, REFUSED, "disk '%s': the name '%s' does not fit into the header of '%s'", disk->name,
        disk->backing, disk->header);
  return hint (error, "a shorter name does: try --relative");
}

static gboolean
name_backing (Op *op, OpDisk *disk, GError **error)
{
  if (disk->header != NULL && (guint)disk->base < disk->before->len) {
    ChainLayer *base = op_disk_layer (disk, disk->base);
    disk->backing = plan_backing_name (op, disk->header, base->file);
    disk->backing_format = g_strdup (base->format);
  }
  return check_header_room (disk, error);
}

/* ---- what a merge does to others ------------------------------------------------------------- */

/* The layers whose contents, or whose meaning, are no longer what they were. */
static gboolean
check_shared (OpDisk *disk, const RequestDisk *wanted, pid_t qemu, World *world, GError **error)
{
  gboolean commit = disk->mode != MODE_STREAM;
  int from = commit ? disk->first : disk->first - 1;
  int to = commit ? disk->base : disk->first - 1;
  int allowed = -1;
  if (wanted->allow_shared != NULL &&
      (allowed = find_layer (disk, wanted->allow_shared, "allow-shared", -1, error)) < 0)
    return FALSE;
  for (int i = MAX (from, commit ? 0 : 1); i <= to; i++) {
    if (i == allowed || plan_check_not_shared (disk, op_disk_layer (disk, i), qemu, world, error))
      continue;
    prefix (error, commit ? "'%s' would change" : "'%s' would be written to",
            op_disk_layer (disk, i)->file);
    return hint (error, "merge upwards instead (pull), or name the layer: --allow-shared '%s'",
                 op_disk_layer (disk, i)->file);
  }
  return TRUE;
}

/* Beyond the end of a shorter layer its overlay reads zeros; dropped, it would read what the base
 * has there, since block-stream stops at the end (docs/qemu-findings.md). */
static gboolean
check_sizes_of_pull (OpDisk *disk, GError **error)
{
  if ((guint)disk->base >= disk->before->len)
    return TRUE;
  ChainLayer *base = op_disk_layer (disk, disk->base),
             *receiver = op_disk_layer (disk, disk->first - 1);
  for (int i = disk->first; i < disk->base; i++) {
    ChainLayer *layer = op_disk_layer (disk, i);
    if (layer->virtual_size >= MIN (base->virtual_size, receiver->virtual_size))
      continue;
    fail (error, REFUSED,
          "disk '%s': '%s' (%" G_GUINT64_FORMAT " bytes) is smaller than '%s' (%" G_GUINT64_FORMAT
          " bytes): without it, what lies beyond its end would be seen",
          disk->name, layer->file, layer->virtual_size, base->file, base->virtual_size);
    return hint (error, "pull everything (base none), or grow the layer first");
  }
  return TRUE;
}

/* Beyond the end of a shorter layer its overlay reads zeros; committed, it would read what the base
 * has there. */
static gboolean
check_sizes (Op *op, OpDisk *disk, GError **error)
{
  if (disk->mode == MODE_STREAM)
    return check_sizes_of_pull (disk, error);
  guint64 base = op_disk_layer (disk, disk->base)->virtual_size, largest = 0;
  const char *undone = op_is_offline (op) ? "and gets its size back"
                                          : "and stays so, as QEMU resizes no layer under another,";
  for (int i = disk->first; i < disk->base; i++) {
    ChainLayer *layer = op_disk_layer (disk, i);
    largest = MAX (largest, layer->virtual_size);
    if (layer->virtual_size >= base)
      continue;
    fail (error, REFUSED,
          "disk '%s': '%s' (%" G_GUINT64_FORMAT " bytes) is smaller than '%s' (%" G_GUINT64_FORMAT
          " bytes), into which it would be committed",
          disk->name, layer->file, layer->virtual_size, op_disk_layer (disk, disk->base)->file,
          base);
    return hint (error, "pull instead of committing, or grow the layer first");
  }
  if (largest > base)
    g_ptr_array_add (op->notes,
                     g_strdup_printf ("'%s' grows from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                                      " bytes, %s when the operation is undone",
                                      disk->receiver, base, largest, undone));
  return TRUE;
}

static void
tell_changes (Op *op, OpDisk *disk)
{
  if (disk->mode == MODE_STREAM)
    return;
  g_ptr_array_add (
      op->notes,
      g_strdup_printf ("'%s' is changed from the beginning: if this is undone, the guest reads "
                       "what it read before, but '%s' by itself is no longer what it was",
                       disk->receiver, disk->receiver));
}

/* Whoever reads such a header guesses the format from bytes that a guest may have written. */
static gboolean
check_formats_are_named (OpDisk *disk, GError **error)
{
  for (int i = 0; i + 1 < (int)disk->before->len; i++) {
    ChainLayer *layer = op_disk_layer (disk, i), *below = op_disk_layer (disk, i + 1);
    if (layer->backing == NULL || layer->backing_format != NULL ||
        g_strcmp0 (below->format, "raw") != 0)
      continue;
    fail (error, REFUSED,
          "disk '%s': the format of '%s' would have to be probed, since the header of '%s' does "
          "not name it",
          disk->name, below->file, layer->file);
    return hint (error, "when the guest is off: qemu-img rebase -u -f %s -b '%s' -F raw '%s'",
                 layer->format, layer->backing, layer->file);
  }
  return TRUE;
}

gboolean
plan_merge_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, World *world, GError **error)
{
  gboolean pulls = op->kind == OP_PULL || op->kind == OP_ALLOCATE;
  gboolean chosen = pulls                   ? choose_pull (op, disk, wanted, error)
                    : op->kind == OP_COMMIT ? choose_commit (op, disk, wanted, error)
                                            : choose_merge (op, disk, wanted, error);
  if (!chosen || !check_formats_are_named (disk, error) || !name_backing (op, disk, error))
    return FALSE;
  if (!check_shared (disk, wanted, op->qemu_pid, world, error))
    return op->kind == OP_SNAPSHOT_DELETE
               ? hint (error, "--direction forward leaves it as it is; or: --allow-shared '%s'",
                       disk->receiver)
               : FALSE;
  if (!check_sizes (op, disk, error) ||
      (world != NULL && !(plan_check_writable (disk->receiver, FALSE, error) &&
                          plan_check_writable (disk->header, FALSE, error))))
    return FALSE;
  tell_changes (op, disk);
  return TRUE;
}

/* ---- copy ------------------------------------------------------------------------------------ */

gboolean
plan_copy_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  ChainLayer *active = op_disk_layer (disk, 0);
  gboolean shallow = (op->flags & OP_SHALLOW) != 0 && disk->before->len > 1;
  const char *same = g_strcmp0 (active->format, "raw") == 0 ? "raw" : "qcow2";
  disk->mode = MODE_MIRROR;
  disk->base = shallow ? 1 : (int)disk->before->len;
  disk->apart = (op->flags & OP_NO_PIVOT) != 0;
  disk->to_format = g_strdup (wanted->format ? wanted->format : same);
  disk->receiver = g_strdup (disk->to);
  if (!g_str_equal (disk->to_format, "raw") && !g_str_equal (disk->to_format, "qcow2"))
    return fail (error, REFUSED, "disk '%s': a copy can be qcow2 or raw, not '%s'", disk->name,
                 disk->to_format);
  if (g_str_equal (disk->to_format, "qcow2"))
    disk->header = g_strdup (disk->to);
  if (!shallow)
    return TRUE;
  ChainLayer *base = op_disk_layer (disk, 1);
  if (disk->header == NULL) {
    fail (error, REFUSED, "disk '%s': a raw image cannot have a backing file", disk->name);
    return hint (error, "make it qcow2 (--format qcow2), or copy everything (without --shallow)");
  }
  disk->backing = plan_backing_name (op, disk->to, base->file);
  disk->backing_first = g_strdup (disk->backing);
  disk->backing_format = g_strdup (base->format);
  return TRUE;
}
