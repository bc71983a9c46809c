/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What offline operations share: a qemu-storage-daemon of our own with the layers of a chain. */
#pragma once

#include "jobs/beside.h"
#include "jobs/bitmaps.h"
#include "jobs/blocks.h"

/* The detail of a disk that says: this is what QEMU before 6.1 calls blockdev-reopen. */
#define OLD_REOPEN "x-blockdev-reopen"

/* Starts it and opens every layer, by the names in before. */
void open_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Ends it, and frees clusters that nothing refers to; also after it died. */
void close_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
gboolean sync_receiver (Op *op, OpDisk *disk, GError **error);

/* copy, close: jobs of the daemon, which are cancelled when all is copied */
void offline_copy (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void offline_cancel (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void offline_flush (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void offline_close (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
gboolean offline_sources_are_unchanged (Op *op, OpDisk *disk, World *world, GError **error);

/* pivot: the header that names another backing file, or none */
void offline_repoint (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen offline_is_pivoted (Op *op, OpDisk *disk, World *world);
void offline_point_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void offline_check (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
gboolean offline_is_right (Op *op, OpDisk *disk, World *world, GError **error);

/* These as rows, for every table that drops layers offline. */
#define OFFLINE_COPY_STEPS                                                                         \
  {.name = "copy",                                                                                 \
   .says = "copy what the layers hold that fall out of the chain",                                 \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = offline_copy,                                                                            \
   .undo = offline_cancel,                                                                         \
   .undo_says = "cancel the job"},                                                                 \
  BITMAPS_STEP,                                                                                    \
  {.name = "flush",                                                                                \
   .says = "make the copied data durable before any header names it",                              \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = offline_flush},                                                                          \
  {.name = "close",                                                                                \
   .says = "cancel the jobs, which keeps what was copied, and close the layers",                   \
   .kind = STEP_UNDOABLE,                                                                          \
   .once = TRUE,                                                                                   \
   .applies = op_has_overlays,                                                                     \
   .ask = offline_close,                                                                           \
   .verify = offline_sources_are_unchanged}
#define OFFLINE_PIVOT_STEPS                                                                        \
  {.name = "pivot",                                                                                \
   .says = "drop the layers from the chain",                                                       \
   .kind = STEP_PIVOT,                                                                             \
   .commits = TRUE,                                                                                \
   .decides = DECIDED_NEW,                                                                         \
   .ask = offline_repoint,                                                                         \
   .probe = offline_is_pivoted,                                                                    \
   .undo = offline_point_back,                                                                     \
   .undo_says = "write the old name into the header again",                                        \
   .verify = offline_is_right},                                                                    \
  {.name = "check",                                                                                \
   .says = "check the layer that received the data",                                               \
   .kind = STEP_FINISH,                                                                            \
   .ask = offline_check,                                                                           \
   .verify = offline_is_right},                                                                    \
  DROP_BESIDE_STEP,                                                                                \
  FOLLOW_STEP,                                                                                     \
  REMOVE_STEP
