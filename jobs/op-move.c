/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Move: snapshot into a new file, stream everything above the kept base into it, drop the rest.
 *
 * The stream is held in PENDING (harmless for streams: the guest runs on) while the new layer is
 * flushed: QEMU rewrites the image header before the tables of the copied data are on disk, and a
 * kill at that moment would destroy data that the guest flushed long ago (qemu-facts, hazard 0). */
#include "jobs/blocks.h"

#include "jobs/freeze.h"
#include "jobs/header.h"
#include "src/common/fs.h"

static ChainLayer *
kept_base (OpDisk *disk)
{
  return (guint)disk->base < disk->before->len ? disk->before->pdata[disk->base] : NULL;
}

/* ---- stream ---------------------------------------------------------------------------------- */

/* At an error the job pauses, and the undo cancels it. QEMU 7.2 does not survive a stream that
 * aborts by itself while the guest is being stopped for an I/O error: its filter stays behind as a
 * dead node (docs/qemu-findings.md). */
static void
stream (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *base = kept_base (disk);
  if (world == NULL || world_job (world, disk->job) == NULL)
    ask_qmp (asks, "block-stream",
             json_make ("job-id", json_str (disk->job), "device", json_str (disk->node),
                        "base-node", json_str (base ? base->node : NULL), "backing-file",
                        json_str (base ? disk->backing : NULL), "backing-mask-protocol",
                        base && op->mask_protocol ? json_flag (TRUE) : NULL, "speed",
                        json_int ((gint64)bandwidth_share (op, op->disks->len)), "on-error",
                        json_str ("stop"), "auto-finalize", json_flag (FALSE), "auto-dismiss",
                        json_flag (FALSE), NULL));
  ask_wait (asks, disk->job, JOB_PENDING);
}

/* PENDING, or already past it. */
static Seen
is_streamed (Op *op, OpDisk *disk, World *world)
{
  return job_is_there (world, disk->job);
}

static void
end_stream (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  end_job (world, disk->job, asks);
}

static void
flush (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  flush_node (disk->node, asks);
}

/* ---- finalize -------------------------------------------------------------------------------- */

/* Graph and header: when the write of the header failed, QEMU shows the shortened chain all the
 * same. */
static gboolean
header_is_right (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (!image_header_read (disk->to, &header, error))
    return prefix (error, "read back the header of '%s'", disk->to);
  if (g_strcmp0 (header.backing, disk->backing) != 0)
    return fail (error, FAILED, "the header of '%s' names the backing file '%s' and not '%s'",
                 disk->to, header.backing ? header.backing : "",
                 disk->backing ? disk->backing : "");
  return shows_planned_chain (op, disk, world, error);
}

static Seen
is_pivoted (Op *op, OpDisk *disk, World *world)
{
  return header_is_right (op, disk, world, NULL) ? SEEN_YES : SEEN_NO;
}

static void
finalize (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  /* Done before we were interrupted; the graph is looked at in any case. */
  if (world != NULL && world_job (world, disk->job) == NULL)
    return;
  Ask *ask = ask_qmp (asks, "job-finalize", json_make ("id", json_str (disk->job), NULL));
  ask->job = disk->job;
  ask->wanted = JOB_CONCLUDED;
  record_and_dismiss (disk->job, asks);
}

/* blockdev-add options of the dropped layers from @i on, as one nested tree that ends at the kept
 * base's node: for a QEMU that has let go of them by itself. Full. */
static Json *
dropped_tree (OpDisk *disk, guint i, const char *node)
{
  ChainLayer *layer = disk->before->pdata[i];
  ChainLayer *base = kept_base (disk);
  Json *file = json_make ("driver", json_str ("file"), "filename", json_str (layer->file),
                          "auto-read-only", json_flag (TRUE), NULL);
  Json *backing = i + 1 < op_disk_dropped (disk) ? dropped_tree (disk, i + 1, NULL)
                  : base                         ? json_str (base->node)
                                                 : NULL;
  gboolean can_back = g_strcmp0 (layer->format, "raw") != 0;
  return json_make ("driver", json_str (layer->format), "node-name", json_str (node), "file", file,
                    "backing",
                    backing    ? backing
                    : can_back ? json_null ()
                               : NULL,
                    NULL);
}

/* The other direction: the new layer gets its old backing chain again. It holds all data either
 * way; then the fold takes it back (QEMU QMP: blockdev-reopen). */
static void
reattach (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *old = disk->before->pdata[0];
  const char *node = old->node;
  if (!disk_is_on (op, disk, world, disk->node) || !shows_planned_chain (op, disk, world, NULL))
    return;
  if (!world_has_node (world, node)) {
    node = disk->old_node;
    if (!world_has_node (world, node))
      ask_qmp (asks, "blockdev-add", dropped_tree (disk, 0, node));
  }
  Json *options = json_list (layer_options (disk, json_str (disk->file_node), node), NULL);
  ask_qmp (asks, "blockdev-reopen", json_make ("options", options, NULL));
}

/* ---- finish ---------------------------------------------------------------------------------- */

static gboolean
deletes (Op *op)
{
  return (op->flags & OP_DELETE) != 0;
}

/* clang-format off */
const Step move_steps[] = {
  MAKE_STEP,
  ATTACH_STEP,
  QUIESCE_STEP,
  {SNAPSHOT_STEP, .kind = STEP_UNDOABLE},
  {THAW_STEP, .kind = STEP_UNDOABLE},
  {.name = "stream",
   .says = "copy everything above the kept base into the new layer",
   .kind = STEP_UNDOABLE,
   .ask = stream,
   .probe = is_streamed,
   .undo = end_stream,
   .undo_says = "cancel the job"},
  {.name = "flush",
   .says = "make the copied data durable before any header names it",
   .kind = STEP_UNDOABLE,
   .ask = flush},
  {.name = "pivot",
   .says = "drop the layers above the base from the chain",
   .kind = STEP_PIVOT,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = finalize,
   .probe = is_pivoted,
   .undo = reattach,
   .undo_says = "put the old layers back under the new one",
   .verify = header_is_right},
  {.name = "settle",
   .says = "flush again and read the new header back",
   .kind = STEP_FINISH,
   .ask = flush,
   .verify = header_is_right},
  FOLLOW_STEP,
  {.name = "detach",
   .says = "close the nodes of the dropped layers",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .ask = drop_nodes,
   .verify = nodes_are_dropped},
  {.name = "remove",
   .says = "remove the files of the dropped layers",
   .kind = STEP_FINISH,
   .applies = deletes,
   .ask = drop_files},
  {0},
};
/* clang-format on */
