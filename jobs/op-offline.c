/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Offline: pull, commit and merge on image files that nobody has open. A job of a
 * qemu-storage-daemon copies (jobs/engine.h), one rewritten header is the pivot.
 *
 * The job is never finalized. When all is copied, the receiver is flushed, the job is cancelled in
 * PENDING, which keeps what was copied, and the daemon quits; what is copied then equals what the
 * dropped layers hold, so either chain reads the same. After the commit record only the header of
 * one layer is rewritten, by a command that can be repeated: recovery goes the same way as the
 * normal course. */
#include "jobs/op-offline.h"

#include "jobs/base-size.h"
#include "jobs/beside.h"
#include "jobs/bitmaps.h"
#include "jobs/blocks.h"

#include "jobs/header.h"
#include "jobs/image.h"
#include "jobs/on-disk.h"

#include <string.h>
#include <sys/stat.h>

static gboolean
is_pull (OpDisk *disk)
{
  return disk->mode == MODE_STREAM;
}

/* The layer that the job's data goes into, and the uppermost one that has to be open. */
static int
receiver_of (OpDisk *disk)
{
  return is_pull (disk) ? disk->first - 1 : disk->base;
}

static int
uppermost (OpDisk *disk)
{
  return is_pull (disk) ? disk->first - 1 : disk->first;
}

static gboolean
is_qcow2 (ChainLayer *layer)
{
  return g_strcmp0 (layer->format, "qcow2") == 0;
}

/* ---- open ------------------------------------------------------------------------------------ */

/* What is copied is written past the page cache: a third of the CPU time, and nothing is left for
 * the flush at the end to wait for (docs/qemu-findings.md). Not into a raw file where a layer has
 * an odd end, which could be rounded up. */
static gboolean
is_written_direct (OpDisk *disk, gboolean device)
{
  ChainLayer *receiver = op_disk_layer (disk, receiver_of (disk));
  gboolean odd = FALSE;
  for (int i = 0; i <= receiver_of (disk); i++)
    odd = odd || op_disk_layer (disk, i)->virtual_size % DIRECT_ALIGNMENT != 0;
  return (is_qcow2 (receiver) || device || !odd) && file_takes_direct (receiver->file);
}

static Json *
file_options (OpDisk *disk, int i)
{
  struct stat st;
  ChainLayer *layer = op_disk_layer (disk, i);
  gboolean device = stat (layer->file, &st) == 0 && S_ISBLK (st.st_mode);
  Json *options = json_make ("driver", json_str (device ? "host_device" : "file"), "node-name",
                             json_str (layer->protocol_node), "filename", json_str (layer->file),
                             "read-only", json_flag (i != receiver_of (disk)), NULL);
  if (i == receiver_of (disk) && is_written_direct (disk, device))
    json_set (options, "cache", json_make ("direct", json_flag (TRUE), NULL));
  return options;
}

/* Every layer is named with its format, and what its header says of others is not followed. */
static Json *
node_options (OpDisk *disk, int i)
{
  ChainLayer *layer = op_disk_layer (disk, i);
  gboolean last = (guint)i + 1 == disk->before->len;
  Json *options = json_make ("driver", json_str (layer->format), "node-name",
                             json_str (layer->node), "file", json_str (layer->protocol_node),
                             "read-only", json_flag (i != receiver_of (disk)), NULL);
  if (is_qcow2 (layer))
    json_set (options, "backing",
              last ? json_null () : json_str (op_disk_layer (disk, i + 1)->node));
  return options;
}

static void
open_nodes (OpDisk *disk, GPtrArray *asks)
{
  for (int i = (int)disk->before->len - 1; i >= uppermost (disk); i--) {
    ask_qmp (asks, "blockdev-add", file_options (disk, i));
    ask_qmp (asks, "blockdev-add", node_options (disk, i));
  }
}

void
open_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_engine (asks);
  open_nodes (disk, asks);
}

/* One daemon has the layers of all disks. */
static void
open_all (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_engine (asks);
  for (guint i = 0; i < op->disks->len; i++)
    if (!op_disk_is_beside (op_disk (op, i)))
      open_nodes (op_disk (op, i), asks);
}

/* Clusters that were allocated when it was killed, and are not used. */
static void
repair_leaks (OpDisk *disk, GPtrArray *asks, gboolean tolerant)
{
  ChainLayer *receiver = op_disk_layer (disk, receiver_of (disk));
  if (is_qcow2 (receiver))
    ask_run (asks, image_repair_args (receiver->file, receiver->format))->tolerant = tolerant;
}

void
close_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_quit (asks)->tolerant = TRUE;
  repair_leaks (disk, asks, TRUE);
}

static void
close_all (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_quit (asks)->tolerant = TRUE;
  for (guint i = 0; i < op->disks->len; i++)
    if (!op_disk_is_beside (op_disk (op, i)))
      repair_leaks (op_disk (op, i), asks, TRUE);
}

/* ---- copy ------------------------------------------------------------------------------------ */

void
offline_copy (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op_disk_is_beside (disk))
    return;
  gboolean flatten = (guint)disk->base == disk->before->len;
  const char *base = flatten ? NULL : op_disk_layer (disk, disk->base)->node;
  ask_qmp (asks, is_pull (disk) ? "block-stream" : "block-commit",
           json_make ("job-id", json_str (disk->job), "device",
                      json_str (op_disk_layer (disk, uppermost (disk))->node), "base-node",
                      json_str (base), "speed",
                      json_int ((gint64)bandwidth_share (op, op->disks->len)), "on-error",
                      json_str ("report"), "auto-finalize", json_flag (FALSE), "auto-dismiss",
                      json_flag (FALSE), NULL));
  ask_wait (asks, disk->job, is_pull (disk) ? JOB_PENDING : JOB_READY);
}

void
offline_cancel (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!op_disk_is_beside (disk))
    end_job (op, NULL, disk->job, asks);
}

/* Opening it again flushes it, and tells where that failed. A commit flushes its base by itself
 * before it is PENDING, and the base must not be touched then (qemu-reference 3.3). */
void
offline_flush (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  Json *options = is_pull (disk) ? node_options (disk, receiver_of (disk)) : NULL;
  if (op_disk_is_beside (disk))
    return;
  if (options != NULL && json_has (disk->details, OLD_REOPEN))
    ask_qmp (asks, OLD_REOPEN, options);
  else if (options != NULL)
    ask_qmp (asks, "blockdev-reopen", json_make ("options", json_list (options, NULL), NULL));
  else {
    ask_qmp (asks, "job-complete", json_make ("id", json_str (disk->job), NULL));
    ask_wait (asks, disk->job, JOB_PENDING);
  }
}

gboolean
sync_receiver (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->receiver, error);
}

/* The daemon of 5.2 does not close its images at its end, which would write bitmaps and
 * refcounts. */
static void
close_one_by_one (OpDisk *disk, GPtrArray *asks)
{
  for (int i = uppermost (disk); i < (int)disk->before->len; i++) {
    const char *node = op_disk_layer (disk, i)->node;
    ask_qmp (asks, "blockdev-del", json_make ("node-name", json_str (node), NULL));
  }
}

static gboolean
sync_receivers (Op *op, OpDisk *disk, GError **error)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (op_disk (op, i)->receiver != NULL && !sync_receiver (op, op_disk (op, i), error))
      return FALSE;
  return TRUE;
}

void
offline_close (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (guint i = 0; i < op->disks->len; i++)
    offline_cancel (op, op_disk (op, i), world, asks);
  for (guint i = 0; i < op->disks->len; i++)
    if (json_has (op_disk (op, i)->details, OLD_REOPEN))
      close_one_by_one (op_disk (op, i), asks);
  ask_quit (asks);
  ask_local (asks, "sync the layers that received it", sync_receivers)->no_facts = TRUE;
}

/* While nobody had it open but us: a layer that was only read is still what it was when the plan
 * was made. */
gboolean
offline_sources_are_unchanged (Op *op, OpDisk *disk, World *world, GError **error)
{
  Json *stamps = json_get (disk->details, "stamps");
  for (int i = 0; (gsize)i < json_length (stamps); i++) {
    const char *file = op_disk_layer (disk, i)->file;
    g_autofree char *now = i == receiver_of (disk) ? NULL : file_stamp (file);
    if (now != NULL && g_strcmp0 (now, json_object_get_string (json_at (stamps, i))) != 0)
      return fail (error, REFUSED, "'%s' was changed by somebody else meanwhile", file);
  }
  return TRUE;
}

/* ---- pivot ----------------------------------------------------------------------------------- */

/* A header that could not be synced is no pivot, whatever reads back from a cache. */
static gboolean
sync_header (Op *op, OpDisk *disk, GError **error)
{
  if (!file_sync (disk->header, error))
    return FALSE;
  json_object_put (disk->found);
  disk->found = json_make ("synced", json_flag (TRUE), NULL);
  return TRUE;
}

static void
write_header (OpDisk *disk, const char *backing, const char *format, GPtrArray *asks)
{
  ask_run (asks, image_repoint_args (disk->header, backing, format))->silent_program = TRUE;
  ask_local (asks, "sync it", sync_header);
}

void
offline_repoint (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (disk->header != NULL)
    write_header (disk, disk->backing, disk->backing_format, asks);
}

static gboolean
header_names (OpDisk *disk, const char *backing, const char *format, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (!image_header_read (disk->header, &header, error))
    return prefix (error, "read back the header of '%s'", disk->header);
  if (g_strcmp0 (header.backing, backing) == 0 &&
      (backing == NULL || g_strcmp0 (header.backing_format, format) == 0))
    return TRUE;
  return fail (error, FAILED, "the header of '%s' names the backing file '%s' and not '%s'",
               disk->header, header.backing ? header.backing : "", backing ? backing : "");
}

gboolean
offline_is_right (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return (disk->header == NULL ||
          header_names (disk, disk->backing, disk->backing_format, error)) &&
         disk_reads (disk, planned, error);
}

Seen
offline_is_pivoted (Op *op, OpDisk *disk, World *world)
{
  gboolean synced = disk->header == NULL || json_get_bool (disk->found, "synced");
  return op->decided == DECIDED_NEW && synced && offline_is_right (op, disk, world, NULL) ? SEEN_YES
                                                                                          : SEEN_NO;
}

void
offline_point_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *layer = op_disk_layer (disk, disk->first);
  if (disk->header != NULL && !header_names (disk, disk->backing_old, layer->format, NULL))
    write_header (disk, disk->backing_old, layer->format, asks);
}

/* ---- finish ---------------------------------------------------------------------------------- */

void
offline_check (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!op_disk_is_beside (disk))
    repair_leaks (disk, asks, FALSE);
}

/* clang-format off */
const Step offline_steps[] = {
  BASE_SIZE_STEP,
  {.name = "open",
   .says = "open the layers in a qemu-storage-daemon of our own",
   .kind = STEP_UNDOABLE,
   .once = TRUE,
   .applies = op_has_overlays,
   .ask = open_all,
   .undo = close_all,
   .undo_says = "end it, and free clusters that nothing refers to"},
  OFFLINE_COPY_STEPS,
  OFFLINE_PIVOT_STEPS,
  {0},
};
/* clang-format on */
