/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allocate: regions of the active layer get their own data, and, with fill=full, their own zeros.
 *
 * Data of backing layers is read through a copy-on-read filter over the live node (QEMU:
 * docs/interop/live-block-operations, block/copy-on-read.c): QEMU itself copies each cluster, serialised
 * with the guest's writes. Zeros of a qcow2 layer are jobs/fill-hold.c, those of a raw file
 * jobs/fill-file.c, which needs no QEMU at all.
 *
 * There is nothing to take back of what was allocated: the guest reads the same. Undo only takes out of
 * QEMU what was put there, and continues a guest that is held. */
#include "jobs/blocks.h"
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
           json_make ("driver", json_str ("copy-on-read"), "node-name", json_str (disk->node), "file",
                      json_str (active (disk)->node), NULL));
}

static Seen
filter_is_there (Op *op, OpDisk *disk, World *world)
{
  return world_has_node (world, disk->node) ? SEEN_YES : SEEN_NO;
}

static void
remove_filter (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world == NULL || world_has_node (world, disk->node))
    ask_qmp (asks, "blockdev-del", json_make ("node-name", json_str (disk->node), NULL));
}

static gboolean
filter_is_gone (Op *op, OpDisk *disk, World *world, GError **error)
{
  return !world_has_node (world, disk->node) ||
         fail (error, FAILED, "node '%s' is still in QEMU", disk->node);
}

static void
add_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  export_add (op, disk, has_backing (op) ? disk->node : active (disk)->node, asks);
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
const Step allocate_steps[] = {
  {.name = "filter",
   .says = "put a copy-on-read filter over the active layer",
   .kind = STEP_UNDOABLE,
   .applies = has_backing,
   .ask = add_filter,
   .probe = filter_is_there,
   .undo = remove_filter,
   .undo_says = "remove the filter"},
  {.name = "export",
   .says = "export it, read-only, on a private socket",
   .kind = STEP_UNDOABLE,
   .applies = is_not_raw,
   .ask = add_export,
   .probe = export_is_there,
   .undo = export_remove,
   .undo_says = "remove the export, the NBD server and the socket"},
  {.name = "fill",
   .says = "allocate the regions",
   .kind = STEP_UNDOABLE,
   .ask = fill,
   .undo = let_go,
   .undo_says = "nothing: what is allocated reads the same; a held guest is continued"},
  {.name = "flush",
   .says = "make it durable",
   .kind = STEP_UNDOABLE,
   .applies = is_not_raw,
   .ask = flush},
  {.name = "unexport",
   .says = "remove the export, the NBD server and the socket",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .applies = is_not_raw,
   .ask = export_remove,
   .verify = export_is_gone},
  {.name = "unfilter",
   .says = "remove the filter",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .applies = has_backing,
   .ask = remove_filter,
   .verify = filter_is_gone},
  {0},
};
/* clang-format on */
