/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots that lie beside the chain: the guest stays where it is, and what is made is the source to take
 * backups from. Three ways, by the mode of the disk:
 *
 *   MODE_LV         lvcreate -s of the logical volume under the active layer
 *   MODE_REFLINK    a file that shares the blocks of the active layer (FICLONE)
 *   MODE_SUBVOLUME  btrfs subvolume snapshot of the subvolume that it lies in
 *
 * disk->to is that source. details: for a volume what jobs/lv.h says, and "size"; for a subvolume "source" and
 * "subvolume", its snapshot, and "part", its name until it is known what it is; "uuid" of what is to be
 * removed. found: "uuid" of a subvolume that was made.
 *
 * The steps are rows for tables: hold and freeze (flush) go before beside, release behind the instant. */
#pragma once

#include "jobs/step.h"

/* The guest must stand still for it: several disks are to be of one instant, or the image has a format of
 * its own, which only QEMU can bring in order, or a filesystem does not take it at one instant. */
gboolean holds_beside (Op *op);
void hold_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen beside_is_held (Op *op, OpDisk *disk, World *world);
void unhold_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void flush_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void release_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

void make_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen beside_is_made (Op *op, OpDisk *disk, World *world);
void unmake_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

/* The pivot of a table in which nothing else is one: the commit record. */
void keep_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen beside_is_kept (Op *op, OpDisk *disk, World *world);

/* Makes names durable. */
void settle_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

/* The snapshot is deleted: what the record names is removed, if it is still that. */
gboolean drops_beside (Op *op);
void drop_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

#define HOLD_BESIDE_STEPS                                                                          \
  {.name = "hold",                                                                                 \
   .says = "stop the guest for a moment",                                                          \
   .kind = STEP_UNDOABLE,                                                                          \
   .once = TRUE,                                                                                   \
   .looks = TRUE,                                                                                  \
   .applies = holds_beside,                                                                        \
   .ask = hold_beside,                                                                             \
   .probe = beside_is_held,                                                                        \
   .undo = unhold_beside,                                                                          \
   .undo_says = "continue the guest"},                                                             \
  {.name = "flush",                                                                                \
   .says = "write out what QEMU keeps of the disks whose images are taken",                        \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = holds_beside,                                                                        \
   .ask = flush_beside}
#define BESIDE_STEP                                                                                \
  {.name = "beside",                                                                               \
   .says = "take the snapshots that lie beside the chains",                                        \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = op_has_beside,                                                                       \
   .ask = make_beside,                                                                             \
   .probe = beside_is_made,                                                                        \
   .undo = unmake_beside,                                                                          \
   .undo_says = "remove them"}
#define RELEASE_BESIDE_STEP                                                                        \
  {.name = "release",                                                                              \
   .says = "continue the guest",                                                                   \
   .kind = STEP_FINISH,                                                                            \
   .once = TRUE,                                                                                   \
   .foretold = TRUE,                                                                               \
   .applies = holds_beside,                                                                        \
   .ask = release_beside,                                                                          \
   .verify = shows_planned_chain}
#define SETTLE_BESIDE_STEP                                                                         \
  {.name = "settle",                                                                               \
   .says = "make what lies beside the chains durable",                                             \
   .kind = STEP_FINISH,                                                                            \
   .applies = op_has_beside,                                                                       \
   .ask = settle_beside}
#define DROP_BESIDE_STEP                                                                           \
  {.name = "drop",                                                                                 \
   .says = "remove the snapshots that lie beside the chains",                                      \
   .kind = STEP_FINISH,                                                                            \
   .applies = drops_beside,                                                                        \
   .ask = drop_beside}
