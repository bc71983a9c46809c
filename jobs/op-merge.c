/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Merge: layers fall out of a chain, and what they hold goes up (stream) or down (commit). One
 * table for pull, commit and merge, since each disk of an operation may go its own way.
 *
 * Streams and inner commits leave the guest on its active layer; they wait in PENDING while the
 * layer that received the data is flushed. An active commit moves the guest to another layer: it is
 * held, and when the commit record is written both layers are the same (design, "The two-phase
 * pivot"). All disks change their chains behind one commit record. */
#include "jobs/beside.h"
#include "jobs/bitmaps.h"
#include "jobs/blocks-hold.h"
#include "jobs/blocks-job.h"
#include "jobs/blocks-unlock.h"
#include "jobs/grow.h"

static void
start_all (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op_switches (op)) {
    start_jobs_held (op, world, start_job, asks);
    return;
  }
  for (guint i = 0; i < op->disks->len; i++)
    start_job (op, op_disk (op, i), world, asks);
}

static void
end_all (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (guint i = 0; i < op->disks->len; i++)
    end_own_job (op, op_disk (op, i), world, asks);
  release_guest (op, NULL, world, asks);
}

/* QEMU flushes what a mirror-like job wrote before it stands in PENDING. */
static void
flush_unless_held (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!op_disk_switches (disk))
    flush_copied (op, disk, world, asks);
}

/* One disk alone is copied as of one moment without being held, if the copying catches up. */
static gboolean
holds (Op *op)
{
  gboolean wanted = (op->flags & OP_NO_PIVOT) == 0 || op->disks->len > 1 || op->stalled;
  return op->held || (op_switches (op) && op_holds (op) && wanted);
}

static void
complete (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainJob *job = world ? world_job (world, disk->job) : NULL;
  if (!op_disk_switches (disk))
    return;
  if (job == NULL || g_strcmp0 (job->status, "pending") != 0)
    ask_qmp (asks, "job-complete", json_make ("id", json_str (disk->job), NULL));
  ask_wait (asks, disk->job, JOB_PENDING);
}

/* A soft cancel at READY ends a mirror with an exact copy of this moment (qemu-reference, 1.3). */
static void
end_copy (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainJob *job = world ? world_job (world, disk->job) : NULL;
  if (world != NULL && job == NULL)
    return;
  /* A soft cancel leads to PENDING too, since that was asked for when the job began. */
  if (job == NULL || g_strcmp0 (job->status, "pending") != 0) {
    Ask *cancel =
        ask_qmp (asks, "block-job-cancel", json_make ("device", json_str (disk->job), NULL));
    cancel->job = disk->job;
    cancel->wanted = JOB_PENDING;
  }
  Ask *finalize = ask_qmp (asks, "job-finalize", json_make ("id", json_str (disk->job), NULL));
  finalize->job = disk->job;
  finalize->wanted = JOB_CONCLUDED;
  record_and_dismiss (disk->job, asks);
}

/* The record is what this step is for: from here on the copy stays. */
static gboolean
note_whole (Op *op, OpDisk *disk, GError **error)
{
  return TRUE;
}

static void
keep (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "note that the copy is whole", note_whole);
}

static Seen
is_kept (Op *op, OpDisk *disk, World *world)
{
  return op->decided == DECIDED_NEW ? SEEN_YES : SEEN_NO;
}

/* ---- disks that cannot come back ------------------------------------------------------------- */

/* Of several disks they change their chains last, when no other disk can fail any more, and then
 * there is only forward. Their guest sees the same data in either chain. Where the guest is not
 * held
 * (--pivot live) no disk can come back: it writes to the new layer from the first instant on. */
static gboolean
is_late (Op *op, OpDisk *disk)
{
  gboolean writes_on = op_disk_switches (disk) && !op_holds (op);
  return op->disks->len > 1 && !disk->apart && (writes_on || !can_come_back (disk));
}

static gboolean
has_late (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (is_late (op, op_disk (op, i)))
      return TRUE;
  return FALSE;
}

static void
finalize_early (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!is_late (op, disk))
    finalize_job (op, disk, world, asks);
}

static Seen
is_new_early (Op *op, OpDisk *disk, World *world)
{
  if (!is_late (op, disk))
    return is_on_new_chain (op, disk, world);
  return op->decided == DECIDED_NEW ? SEEN_YES : SEEN_NO;
}

static gboolean
chain_is_new_early (Op *op, OpDisk *disk, World *world, GError **error)
{
  return is_late (op, disk) || chain_is_new (op, disk, world, error);
}

/* A job that QEMU would not finalize is gone: what it did is done once more. */
static void
finalize_late (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!is_late (op, disk) || (world != NULL && chain_is_new (op, disk, world, NULL)))
    return;
  ChainJob *job = world ? world_job (world, disk->job) : NULL;
  if (world != NULL && (job == NULL || g_strcmp0 (job->status, "pending") != 0)) {
    start_job (op, disk, world, asks);
    wait_for_copy (op, disk, world, asks);
    complete (op, disk, world, asks);
    flush_unless_held (op, disk, world, asks);
  }
  finalize_job (op, disk, NULL, asks);
}

/* A guest that stood for want of space has what the copy took. */
static void
unmake_copy (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  unmake_layer (op, disk, world, asks);
  if (world != NULL && op->was_running && g_strcmp0 (world_run_state (world), "io-error") == 0)
    ask_qmp (asks, "cont", NULL);
}

/* clang-format off */
#define MAKE_COPY_STEP                                                                             \
  MAKE_STEP_UNDONE_BY (unmake_copy,                                                                \
                       "remove the new file, continue a guest that stands for want of space")

#define UNLOCK_STEP                                                                                \
  {.name = "unlock",                                                                               \
   .says = "open files again that were opened with read-only=on",                                  \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = op_unlocks,                                                                          \
   .ask = unlock_files,                                                                            \
   .undo = lock_files,                                                                             \
   .undo_says = "open them with read-only=on"}

#define LOCK_STEP                                                                                  \
  {.name = "lock",                                                                                 \
   .says = "open them with read-only=on",                                                          \
   .kind = STEP_FINISH,                                                                            \
   .looks = TRUE,                                                                                  \
   .applies = op_unlocks,                                                                          \
   .ask = lock_files}

#define JOB_STEPS                                                                                  \
  {.name = "start",                                                                                \
   .says = "start the jobs",                                                                       \
   .kind = STEP_UNDOABLE,                                                                          \
   .once = TRUE,                                                                                   \
   .looks = TRUE,                                                                                  \
   .ask = start_all,                                                                               \
   .probe = job_is_started,                                                                        \
   .undo = end_all,                                                                                \
   .undo_says = "cancel the jobs, continue the guest"},                                            \
  {.name = "copy",                                                                                 \
   .says = "copy what the layers hold",                                                            \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = wait_for_copy,                                                                           \
   .probe = is_copied,                                                                             \
   .undo = end_own_job,                                                                            \
   .undo_says = "cancel the job"},                                                                 \
  BITMAPS_STEP,                                                                                    \
  {.name = "flush",                                                                                \
   .says = "make the copied data durable before any header names it",                              \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = flush_unless_held},                                                                      \
  {.name = "hold",                                                                                 \
   .says = "stop the guest for a moment",                                                          \
   .kind = STEP_UNDOABLE,                                                                          \
   .once = TRUE,                                                                                   \
   .looks = TRUE,                                                                                  \
   .patient = TRUE,                                                                                \
   .applies = holds,                                                                               \
   .ask = hold_guest,                                                                              \
   .probe = guest_is_held,                                                                         \
   .undo = unhold_guest,                                                                           \
   .undo_says = "continue the guest"}

#define PIVOT_STEPS                                                                                \
  {.name = "complete",                                                                             \
   .says = "bring both layers to the same contents",                                               \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = op_switches,                                                                         \
   .ask = complete,                                                                                \
   .undo = end_own_job,                                                                            \
   .undo_says = "cancel the job"},                                                                 \
  {.name = "pivot",                                                                                \
   .says = "change the chains, all or none",                                                       \
   .kind = STEP_PIVOT,                                                                             \
   .commits = TRUE,                                                                                \
   .decides = DECIDED_NEW,                                                                         \
   .ask = finalize_early,                                                                          \
   .probe = is_new_early,                                                                          \
   .undo = put_chain_back,                                                                         \
   .undo_says = "put the old layers back",                                                         \
   .verify = chain_is_new_early}

#define RELEASE_STEP                                                                               \
  {.name = "release",                                                                              \
   .says = "continue the guest",                                                                   \
   .kind = STEP_FINISH,                                                                            \
   .once = TRUE,                                                                                   \
   .looks = TRUE,                                                                                  \
   .applies = holds,                                                                               \
   .ask = release_guest}

#define END_STEPS                                                                                  \
  RELEASE_STEP,                                                                                    \
  {.name = "rest",                                                                                 \
   .says = "change the chains that could not be changed back",                                     \
   .kind = STEP_FINISH,                                                                            \
   .looks = TRUE,                                                                                  \
   .applies = has_late,                                                                            \
   .ask = finalize_late,                                                                           \
   .verify = chain_is_new},                                                                        \
  {.name = "settle",                                                                               \
   .says = "flush again and read the headers back",                                                \
   .kind = STEP_FINISH,                                                                            \
   .ask = flush_receiver,                                                                          \
   .verify = chain_is_new},                                                                        \
  {.name = "seal",                                                                                 \
   .says = "open a layer that lies under another read-only again, where QEMU has not",             \
   .kind = STEP_FINISH,                                                                            \
   .looks = TRUE,                                                                                  \
   .applies = op_streams_below,                                                                    \
   .ask = seal_receiver},                                                                          \
  DROP_BESIDE_STEP,                                                                                \
  FOLLOW_STEP,                                                                                     \
  DETACH_STEP,                                                                                     \
  REMOVE_STEP

const Step merge_steps[] = {
  UNLOCK_STEP,
  WATCH_STEP,
  JOB_STEPS,
  PIVOT_STEPS,
  END_STEPS,
  LOCK_STEP,
  UNWATCH_STEP,
  {0},
};

const Step copy_steps[] = {
  MAKE_COPY_STEP,
  ATTACH_STEP,
  WATCH_STEP,
  JOB_STEPS,
  PIVOT_STEPS,
  END_STEPS,
  UNWATCH_STEP,
  {0},
};

const Step leave_steps[] = {
  MAKE_COPY_STEP,
  ATTACH_STEP,
  WATCH_STEP,
  JOB_STEPS,
  {.name = "leave",
   .says = "end the mirror with a copy of this moment",
   .kind = STEP_UNDOABLE,
   .ask = end_copy,
   .undo = end_own_job,
   .undo_says = "cancel the job"},
  {.name = "keep",
   .says = "record that the copy is whole",
   .kind = STEP_PIVOT,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = keep,
   .probe = is_kept,
   .verify = chain_is_new},
  RELEASE_STEP,
  {.name = "detach",
   .says = "close the copy",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .ask = detach_layer},
  UNWATCH_STEP,
  {0},
};
/* clang-format on */
