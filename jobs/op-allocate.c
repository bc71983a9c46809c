/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allocate: regions of the active layer get their own data, and, with fill=full, their own zeros.
 *
 * Data of backing layers is read through a copy-on-read filter over the live node (QEMU:
 * docs/interop/live-block-operations, block/copy-on-read.c): QEMU itself copies each cluster,
 * serialised with the guest's writes. Zeros of a qcow2 layer are jobs/fill-hold.c, those of a raw
 * file jobs/fill-file.c, which needs no QEMU at all.
 *
 * There is nothing to take back of what was allocated: the guest reads the same. Undo only takes
 * out of QEMU what was put there, and continues a guest that is held. */
#include "jobs/blocks-job.h"
#include "jobs/export.h"
#include "jobs/fill.h"

static ChainLayer *
active (OpDisk *disk)
{
  return disk->before->pdata[0];
}

static gboolean
is_raw (Op *op)
{
  return g_strcmp0 (active (op_disk (op, 0))->format, "raw") == 0;
}

static gboolean
is_not_raw (Op *op)
{
  return !is_raw (op);
}

/* There is somebody to copy from. */
static gboolean
has_backing (Op *op)
{
  return is_not_raw (op) && op_disk (op, 0)->before->len > 1;
}

/* ---- the filter ------------------------------------------------------------------------------ */

static void
add_filter (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_qmp (asks, "blockdev-add",
           json_make ("driver", json_str ("copy-on-read"), "node-name", json_str (disk->file_node),
                      "file", json_str (active (disk)->node), NULL));
}

static Seen
filter_is_there (Op *op, OpDisk *disk, World *world)
{
  return world_has_node (world, disk->file_node) ? SEEN_YES : SEEN_NO;
}

static void
remove_filter (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world == NULL || world_has_node (world, disk->file_node))
    ask_qmp (asks, "blockdev-del", json_make ("node-name", json_str (disk->file_node), NULL));
}

static gboolean
filter_is_gone (Op *op, OpDisk *disk, World *world, GError **error)
{
  return !world_has_node (world, disk->file_node) ||
         fail (error, FAILED, "node '%s' is still in QEMU", disk->file_node);
}

static void
add_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  export_add (op, disk, has_backing (op) ? disk->file_node : active (disk)->node, FALSE, asks);
}

/* ---- the work -------------------------------------------------------------------------------- */

/* On record before the first hold and until after the last: whoever comes after us continues the
 * guest if it stands still. */
static gboolean
may_hold (Op *op, OpDisk *disk, GError **error)
{
  op->held = TRUE;
  op->held_us = 0;
  return TRUE;
}

static gboolean
holds_no_more (Op *op, OpDisk *disk, GError **error)
{
  op->held = FALSE;
  return TRUE;
}

static void
fill (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  gboolean holds = fill_is_full (disk) && !is_raw (op) && !op_is_offline (op);
  if (is_raw (op)) {
    ask_work (asks, "allocate space for the regions of the file (fallocate)", fill_file_start);
    return;
  }
  if (disk->depths == NULL) /* recovered: what was not allocated stays so */
    return;
  if (holds)
    ask_local (asks, "note that the guest is stopped by us for moments", may_hold);
  ask_work (asks,
            holds ? "read the regions through the filter, then write zeros where there is no data, "
                    "with the guest held for moments"
                  : "read the regions through the filter, which allocates them",
            fill_start);
  if (holds)
    ask_local (asks, "note that the guest is not stopped any more", holds_no_more);
}

static void
let_go (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!op->held)
    return;
  if (world != NULL && op->was_running && !world_running (world))
    ask_qmp (asks, "cont", NULL);
  ask_local (asks, "note that the guest is not stopped any more", holds_no_more);
}

static void
flush (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  flush_node (active (disk)->node, asks);
}

/* clang-format off */
#define UNEXPORT_STEP(step_kind)                                                                   \
  {.name = "unexport",                                                                             \
   .says = "remove the export, the NBD server and the socket",                                     \
   .kind = step_kind,                                                                              \
   .looks = TRUE,                                                                                  \
   .applies = is_not_raw,                                                                          \
   .ask = export_remove,                                                                           \
   .verify = export_is_gone}
#define UNFILTER_STEP(step_kind)                                                                   \
  {.name = "unfilter",                                                                             \
   .says = "remove the filter",                                                                    \
   .kind = step_kind,                                                                              \
   .looks = TRUE,                                                                                  \
   .applies = has_backing,                                                                         \
   .ask = remove_filter,                                                                           \
   .verify = filter_is_gone}
#define FILL_STEPS                                                                                 \
  {.name = "filter",                                                                               \
   .says = "put a copy-on-read filter over the active layer",                                      \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = has_backing,                                                                         \
   .ask = add_filter,                                                                              \
   .probe = filter_is_there,                                                                       \
   .undo = remove_filter,                                                                          \
   .undo_says = "remove the filter"},                                                              \
  {.name = "export",                                                                               \
   .says = "export it, read-only, on a private socket",                                            \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = is_not_raw,                                                                          \
   .ask = add_export,                                                                              \
   .probe = export_is_there,                                                                       \
   .undo = export_remove,                                                                          \
   .undo_says = "remove the export, the NBD server and the socket"},                               \
  {.name = "fill",                                                                                 \
   .says = "allocate the regions",                                                                 \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = fill,                                                                                    \
   .undo = let_go,                                                                                 \
   .undo_says = "nothing: what is allocated reads the same; a held guest is continued"},           \
  {.name = "flush",                                                                                \
   .says = "make it durable",                                                                      \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = is_not_raw,                                                                          \
   .ask = flush}

const Step allocate_steps[] = {
  FILL_STEPS,
  UNEXPORT_STEP (STEP_FINISH),
  UNFILTER_STEP (STEP_FINISH),
  {0},
};

/* Nothing is left to copy, so the stream only looks through the disk; that it does so, and not we, makes
 * sure that the link goes only when nothing is needed from behind it. */
const Step allocate_detach_steps[] = {
  FILL_STEPS,
  UNEXPORT_STEP (STEP_UNDOABLE),
  UNFILTER_STEP (STEP_UNDOABLE),
  {.name = "start",
   .says = "pull what is left, which is nothing",
   .kind = STEP_UNDOABLE,
   .ask = start_job,
   .probe = job_is_started,
   .undo = end_own_job,
   .undo_says = "cancel the job"},
  {.name = "copy",
   .says = "wait until QEMU has looked through the disk",
   .kind = STEP_UNDOABLE,
   .ask = wait_for_copy,
   .probe = is_copied,
   .undo = end_own_job,
   .undo_says = "cancel the job"},
  {.name = "sync",
   .says = "make it durable before any header names it",
   .kind = STEP_UNDOABLE,
   .ask = flush_copied},
  {.name = "pivot",
   .says = "drop the backing layers from the chain",
   .kind = STEP_PIVOT,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = finalize_job,
   .probe = is_on_new_chain,
   .undo = put_chain_back,
   .undo_says = "put the old layers back",
   .verify = chain_is_new},
  {.name = "settle",
   .says = "flush again and read the header back",
   .kind = STEP_FINISH,
   .ask = flush_receiver,
   .verify = chain_is_new},
  FOLLOW_STEP,
  DETACH_STEP,
  {0},
};
/* clang-format on */
