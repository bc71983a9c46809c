/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshot: a new, empty active layer over the old one, on all disks at one instant.
 * (QEMU: docs/interop/live-block-operations; libvirt: VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY) */
#include "jobs/blocks.h"

static gboolean
is_on_overlay (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return disk_shows (op, disk, world, planned, error);
}

const Step snapshot_steps[] = {
  {.name = "overlay",
   .says = "create the new active layer",
   .kind = STEP_UNDOABLE,
   .ask = make_layer,
   .probe = layer_is_made,
   .undo = unmake_layer,
   .undo_says = "remove the new file"},
  {.name = "attach",
   .says = "open it in QEMU",
   .kind = STEP_UNDOABLE,
   .ask = attach_layer,
   .probe = layer_is_attached,
   .undo = detach_layer,
   .undo_says = "close its nodes"},
  {.name = "snapshot",
   .says = "switch all disks to their new layers at one instant",
   .kind = STEP_PIVOT,
   .once = TRUE,
   .ask = take_snapshot,
   .probe = snapshot_is_taken,
   .undo_table = fold_steps,
   .undo_says = "fold: commit the new layer back into the old one and pivot to it",
   .verify = is_on_overlay},
  {0},
};
