/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshot: a new, empty active layer over the old one, or an image beside the chain, on all disks
 * at one instant. (QEMU: docs/interop/live-block-operations; libvirt:
 * VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY) */
#include "jobs/beside.h"
#include "jobs/blocks.h"
#include "jobs/freeze.h"
#include "jobs/grow.h"

#include "jobs/records.h"

static void
record (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("record the snapshot '%s'", op->name);
  ask_record (asks, says, records_add);
}

/* clang-format off */
#define RECORD_STEP                                                                                \
  {.name = "record",                                                                               \
   .says = "put the snapshot on record",                                                           \
   .kind = STEP_FINISH,                                                                            \
   .once = TRUE,                                                                                   \
   .aside = TRUE,                                                                                  \
   .ask = record}

const Step snapshot_steps[] = {
  MAKE_STEP,
  ATTACH_STEP,
  WATCH_STEP,
  QUIESCE_STEP,
  HOLD_BESIDE_STEPS,
  BESIDE_STEP,
  {SNAPSHOT_STEP, .kind = STEP_PIVOT, .verify = shows_planned_chain},
  RELEASE_BESIDE_STEP,
  {THAW_STEP, .kind = STEP_FINISH, .verify = shows_planned_chain},
  SETTLE_BESIDE_STEP,
  RECORD_STEP,
  UNWATCH_STEP,
  {0},
};

/* No disk gets a new layer: what decides is that all of them are taken. */
const Step beside_steps[] = {
  MAKE_STEP,
  QUIESCE_STEP,
  HOLD_BESIDE_STEPS,
  BESIDE_STEP,
  {.name = "keep",
   .says = "record that all snapshots are taken",
   .kind = STEP_PIVOT,
   .once = TRUE,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = keep_beside,
   .probe = beside_is_kept,
   .verify = shows_planned_chain},
  RELEASE_BESIDE_STEP,
  {THAW_STEP, .kind = STEP_FINISH, .verify = shows_planned_chain},
  SETTLE_BESIDE_STEP,
  RECORD_STEP,
  {0},
};
/* clang-format on */
