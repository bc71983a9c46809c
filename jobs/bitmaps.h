/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dirty bitmaps go where their layer's data goes, so that incremental backups stay valid: an overlay gets
 * the bitmaps of the layer under it in the transaction that makes it active, and the layer that receives
 * data gets the bits of those that fall out (QEMU: docs/interop/bitmaps). What is marked may be more than
 * what was written, never less. */
#pragma once

#include "jobs/step.h"

/* Where it is seen which bitmaps a layer has. */
typedef struct {
  World *world;  /* NULL: offline, then: */
  Json *on_disk; /* node name -> as QEMU's "dirty-bitmaps" of a node; nullable */
} BitmapSource;

/* Finds the disk's bitmaps, and tells in the operation's notes of those that cannot be taken along. */
void plan_bitmaps (Op *op, OpDisk *disk, const BitmapSource *source);
/* The bitmaps in what "qemu-img info" says, in QEMU's own form; full. */
Json *bitmaps_from_info (const char *out);

/* For the transaction of a snapshot: the overlay records from the instant on at which it is active. */
void add_overlay_bitmaps (OpDisk *disk, Json *actions);

gboolean op_merges_bitmaps (Op *op);
/* While the jobs wait (the receiver is writable then) and before anything is dropped. What the guest
 * writes from now on is marked in the receiver by the job that copies it. */
void merge_bitmaps (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void unmerge_bitmaps (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

#define BITMAPS_STEP                                                                               \
  {.name = "bitmaps",                                                                              \
   .says = "take the dirty bitmaps of the dropped layers along",                                   \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = op_merges_bitmaps,                                                                   \
   .ask = merge_bitmaps,                                                                           \
   .undo = unmerge_bitmaps,                                                                        \
   .undo_says = "remove the bitmaps that were added"}
