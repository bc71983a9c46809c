/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holding the guest around a pivot: stopped only if it ran, and continued by whoever comes after us. */
#pragma once

#include "jobs/step.h"

/* For a lane: "held" is recorded before the guest is stopped. */
gboolean note_hold (Op *op, OpDisk *disk, GError **error);
gboolean note_release (Op *op, OpDisk *disk, GError **error);

/* hold: once what remains of the operation's jobs fits into the pause budget, the guest is stopped,
 * and what remains is copied; where that takes longer than the budget, the step fails with TIMEOUT, is
 * taken back and done again at a better moment. */
void hold_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen guest_is_held (Op *op, OpDisk *disk, World *world);
/* The undo: released, and the jobs back within the operation's bandwidth. */
void unhold_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void release_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
gboolean op_holds (Op *op); /* --pivot quiesced */

/* Starts mirror-like jobs by @start, for all disks in one lane: a QEMU before 7.2 can crash when such a
 * job starts while writes are in flight (qemu-reference, fact 6); there the guest is stopped for that
 * moment. */
typedef void (*StartJob) (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void start_jobs_held (Op *op, World *world, StartJob start, GPtrArray *asks);
