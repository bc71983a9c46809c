/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshot: a new, empty active layer over the old one, on all disks at one instant.
 * (QEMU: docs/interop/live-block-operations; libvirt: VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY) */
#include "jobs/blocks.h"

/* clang-format off */
const Step snapshot_steps[] = {
  MAKE_STEP,
  ATTACH_STEP,
  {SNAPSHOT_STEP, .kind = STEP_PIVOT, .verify = shows_planned_chain},
  {0},
};
/* clang-format on */
