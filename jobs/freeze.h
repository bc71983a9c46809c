/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frozen filesystems around an instant, as rows for any table: quiesce goes right before the steps whose
 * instant counts, thaw right behind them. Both apply only where the operation asks for it.
 * (qemu-ga: guest-fsfreeze-freeze; libvirt: VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
 *
 * Between the two the guest's writes stand still. That the filesystems may be frozen is on record before
 * it is asked for; whoever comes after us thaws them first of all (run-thaw.c). */
#pragma once

#include "jobs/step.h"

/* What thaws a guest that may be frozen; also run-thaw.c asks this. */
#define THAW_COMMAND "guest-fsfreeze-thaw"
#define THAW_MS      10000u

gboolean freezes_guest (Op *op);
void freeze_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen guest_is_frozen (Op *op, OpDisk *disk, World *world);
void thaw_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* The agent thawed: measures how long it was. */
void heard_thaw (Op *op, Json *ret, gint64 sent_us);

#define QUIESCE_STEP                                                                               \
  {.name = "quiesce",                                                                              \
   .says = "freeze the guest's filesystems",                                                       \
   .kind = STEP_UNDOABLE,                                                                          \
   .once = TRUE,                                                                                   \
   .applies = freezes_guest,                                                                       \
   .ask = freeze_guest,                                                                            \
   .probe = guest_is_frozen,                                                                       \
   .undo = thaw_guest,                                                                             \
   .undo_says = "thaw them"}
/* Its kind differs: the row stands before the pivot of one table, and behind that of another, whose verify
 * it then takes over. */
/* clang-format off */
#define THAW_STEP                                                                                  \
  .name = "thaw", .says = "thaw the guest's filesystems", .once = TRUE, .foretold = TRUE,          \
  .applies = freezes_guest, .ask = thaw_guest
/* clang-format on */
