/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A commit makes a base that is smaller as large as what it gets. That is taken back on files that nobody has open;
 * QEMU resizes no layer that lies under another (docs/qemu-findings.md). */
#pragma once

#include "jobs/step.h"

gboolean op_enlarges_base (Op *op);
void restore_base_size (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

/* Before the rows that open the layers, since it is taken back after them. */
#define BASE_SIZE_STEP                                                                             \
  {.name = "size",                                                                                 \
   .says = "remember the size of a base that grows",                                               \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = op_enlarges_base,                                                                    \
   .undo = restore_base_size,                                                                      \
   .undo_says = "give it its old size again, unless somebody has it open"}
