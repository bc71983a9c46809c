/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Quiesce: the guest's filesystems are frozen, and stay frozen when it is done: whoever asked for
 * it takes his snapshots and thaws them. Where it dies before it is done, recovery thaws. */
#include "jobs/freeze.h"

static gboolean
agent_froze (Op *op, OpDisk *disk, World *world, GError **error)
{
  return op->frozen;
}

/* clang-format off */
const Step quiesce_steps[] = {
  {.name = "quiesce",
   .says = "freeze the guest's filesystems",
   .kind = STEP_PIVOT,
   .once = TRUE,
   .ask = freeze_guest,
   .probe = guest_is_frozen,
   .undo = thaw_guest,
   .undo_says = "thaw them",
   .verify = agent_froze},
  {0},
};
/* clang-format on */
