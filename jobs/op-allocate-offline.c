/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allocate, offline: the same work as with a running guest (jobs/fill.c) on an image that nobody
 * has open. A qemu-storage-daemon of our own exports it through a copy-on-read filter, and since
 * nobody else writes, the export may write: zeros need no hold. */
#include "jobs/export.h"
#include "jobs/fill.h"
#include "jobs/op-offline.h"

static gboolean
is_not_raw (Op *op)
{
  ChainLayer *active = op_disk (op, 0)->before->pdata[0];
  return g_strcmp0 (active->format, "raw") != 0;
}

static void
open_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  gboolean filter = disk->before->len > 1;
  const char *active = op_disk_layer (disk, 0)->node;
  open_layers (op, disk, world, asks);
  if (filter)
    ask_qmp (asks, "blockdev-add",
             json_make ("driver", json_str ("copy-on-read"), "node-name", json_str ("filter"),
                        "file", json_str (active), NULL));
  export_add (op, disk, filter ? "filter" : active, TRUE, asks);
}

/* The daemon is gone, or will be when it is asked; its socket goes with its directory. */
static void
close_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  close_layers (op, disk, world, asks);
  export_forget (asks);
}

static void
fill (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!is_not_raw (op))
    ask_work (asks, "allocate space for the regions of the file (fallocate)", fill_file_start);
  else if (disk->depths != NULL) /* else recovered: what was not allocated stays so */
    ask_work (
        asks,
        fill_is_full (disk)
            ? "read the regions, which allocates them, then write zeros where there is no data"
            : "read the regions, which allocates them",
        fill_start);
}

static void
close_daemon (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_quit (asks);
  ask_local (asks, "sync the image", sync_receiver)->no_facts = TRUE;
  export_forget (asks);
}

/* clang-format off */
#define OPEN_STEP                                                                                  \
  {.name = "open",                                                                                 \
   .says = "open the layers in a qemu-storage-daemon of our own, and export the active one",       \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = is_not_raw,                                                                          \
   .ask = open_export,                                                                             \
   .undo = close_export,                                                                           \
   .undo_says = "end it, and free clusters that nothing refers to"}
#define FILL_STEP                                                                                  \
  {.name = "fill",                                                                                 \
   .says = "allocate the regions",                                                                 \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = fill,                                                                                    \
   .undo_says = "nothing: what is allocated reads the same"}
#define END_STEP                                                                                   \
  {.name = "end",                                                                                  \
   .says = "end the daemon, which makes all durable",                                              \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = is_not_raw,                                                                          \
   .ask = close_daemon}

const Step allocate_offline_steps[] = {
  OPEN_STEP,
  FILL_STEP,
  END_STEP,
  {0},
};

/* Nothing is left to copy; that a job looks through the disk, and not we, makes sure that the link goes
 * only when nothing is needed from behind it. */
const Step allocate_offline_detach_steps[] = {
  OPEN_STEP,
  FILL_STEP,
  END_STEP,
  {.name = "reopen",
   .says = "open the layers again, without the export",
   .kind = STEP_UNDOABLE,
   .ask = open_layers,
   .undo = close_layers,
   .undo_says = "end the daemon, and free clusters that nothing refers to"},
  OFFLINE_COPY_STEPS,
  OFFLINE_PIVOT_STEPS,
  {0},
};
/* clang-format on */
