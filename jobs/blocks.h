/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The steps that more than one table is built of: making a layer, attaching it, the snapshot
 * transaction, ending jobs, dropping layers. Each is a do, a probe and an undo of one row. */
#pragma once

#include "jobs/step.h"

/* make: the new file, under a name that carries the operation's id until it is whole */
void make_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen layer_is_made (Op *op, OpDisk *disk, World *world);
void unmake_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* An AskLocal: the part gets its name. */
gboolean name_layer (Op *op, OpDisk *disk, GError **error);

/* attach: its nodes in QEMU, without a backing node yet */
void attach_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen layer_is_attached (Op *op, OpDisk *disk, World *world);
void detach_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

/* snapshot: one transaction over all disks */
void take_snapshot (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen snapshot_is_taken (Op *op, OpDisk *disk, World *world);

/* These three as rows: every table that gives disks a new active layer begins with them. */
#define MAKE_STEP_UNDONE_BY(how, words)                                                            \
  {.name = "overlay",                                                                              \
   .says = "create the new active layer",                                                          \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = make_layer,                                                                              \
   .probe = layer_is_made,                                                                         \
   .undo = how,                                                                                    \
   .undo_says = words}
#define MAKE_STEP MAKE_STEP_UNDONE_BY (unmake_layer, "remove the new file")
#define ATTACH_STEP                                                                                \
  {.name = "attach",                                                                               \
   .says = "open it in QEMU",                                                                      \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = attach_layer,                                                                            \
   .probe = layer_is_attached,                                                                     \
   .undo = detach_layer,                                                                           \
   .undo_says = "close its nodes"}
#define SNAPSHOT_STEP                                                                              \
  .name = "snapshot", .says = "switch all disks to their new layers at one instant", .once = TRUE, \
  .ask = take_snapshot, .probe = snapshot_is_taken, .undo_table = fold_steps,                      \
  .undo_says = "fold: commit the new layer back into the old one and pivot to it"

/* jobs of ours */
Seen job_is_there (World *world, const char *job);
void end_job (Op *op, World *world, const char *job, GPtrArray *asks); /* cancel, wait, dismiss */
/* Before QEMU 6.2 job-cancel lets a mirror that is ready end in its own time, and one whose target fails never end:
 * it tries again, without a pause and without ever listening. */
const char *cancel_command (Op *op);
Json *cancel_arguments (Op *op, const char *job); /* full */
void record_and_dismiss (const char *job, GPtrArray *asks);   /* a concluded one */

/* Opens a node of QEMU again, with these options and no others; before 6.1 by the command's old name. */
Ask *ask_reopen (Op *op, Json *take_options, GPtrArray *asks);
/* Is @node the active layer of the disk, and is the chain under it readable? */
gboolean disk_is_on (Op *op, OpDisk *disk, World *world, const char *node);
/* The chain that QEMU shows equals @files (NULL-terminated); else FAILED, telling both. */
gboolean disk_shows (Op *op, OpDisk *disk, World *world, char **files, GError **error);

/* The chain that was planned; for verify. */
gboolean shows_planned_chain (Op *op, OpDisk *disk, World *world, GError **error);

/* dropped layers: their nodes, top first, as far as nobody else uses them */
void drop_nodes (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
gboolean nodes_are_dropped (Op *op, OpDisk *disk, World *world, GError **error);
/* and their files, if the operation says so */
void drop_files (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

#define DETACH_STEP                                                                                \
  {.name = "detach",                                                                               \
   .says = "close the nodes of the dropped layers",                                                \
   .kind = STEP_FINISH,                                                                            \
   .looks = TRUE,                                                                                  \
   .ask = drop_nodes,                                                                              \
   .verify = nodes_are_dropped}
#define REMOVE_STEP                                                                                \
  {.name = "remove",                                                                               \
   .says = "remove the files of the dropped layers",                                               \
   .kind = STEP_FINISH,                                                                            \
   .applies = op_deletes,                                                                          \
   .ask = drop_files}

/* snapshots on record whose layers were dropped */
gboolean is_on_record (Op *op);
void follow_records (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

/* In every table that drops layers, right after its pivot is known to be durable. */
#define FOLLOW_STEP                                                                                \
  {.name = "records",                                                                              \
   .says = "take the snapshots on record along",                                                   \
   .kind = STEP_FINISH,                                                                            \
   .once = TRUE,                                                                                   \
   .aside = TRUE,                                                                                  \
   .applies = is_on_record,                                                                        \
   .ask = follow_records}

/* qemu-io flush of @node through the human monitor: the way that works on every version, also on
 * nodes in an IOThread (qemu-reference 3.3). */
void flush_node (const char *node, GPtrArray *asks);
/* This disk's share of the operation's bandwidth, bytes/s, 0 = unlimited. */
guint64 bandwidth_share (Op *op, guint running);
/* blockdev-add options of the new layer, full. @take_file: options or name of its file node; @backing:
 * node name, or NULL for none. */
Json *layer_options (OpDisk *disk, Json *take_file, const char *backing);
/* blockdev-reopen options of a layer that was there before, as far as QEMU tells how it was opened; full. Names
 * of nodes; @backing: nullable. */
Json *reopen_options (OpDisk *disk, const ChainLayer *layer, const char *node, const char *file,
                      const char *backing);
/* The cache mode taken over from the old active layer; full, nullable. */
Json *cache_options (OpDisk *disk);
