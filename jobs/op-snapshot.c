/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshot: a new, empty active layer over the old one, on all disks at one instant.
 * (QEMU: docs/interop/live-block-operations; libvirt: VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY) */
#include "jobs/blocks.h"
#include "jobs/freeze.h"

#include "jobs/records.h"

static void
record (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("record the snapshot '%s'", op->name);
  ask_record (asks, says, records_add);
}

/* clang-format off */
const Step snapshot_steps[] = {
  MAKE_STEP,
  ATTACH_STEP,
  QUIESCE_STEP,
  {SNAPSHOT_STEP, .kind = STEP_PIVOT, .verify = shows_planned_chain},
  {THAW_STEP, .kind = STEP_FINISH, .verify = shows_planned_chain},
  {.name = "record",
   .says = "put the snapshot on record",
   .kind = STEP_FINISH,
   .once = TRUE,
   .aside = TRUE,
   .ask = record},
  {0},
};
/* clang-format on */
