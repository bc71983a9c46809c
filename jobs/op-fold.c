/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fold: the undo of a snapshot. Active commit of the overlay back into the layer under it, and the
 * two-phase pivot: with the guest held, both layers are equal when the commit record is written, so
 * at every instant exactly one of them is authoritative (design, "The two-phase pivot"). */
#include "jobs/blocks-hold.h"
#include "jobs/blocks.h"

/* Node of the layer under the overlay, as QEMU has it now. */
static const char *
layer_below (Op *op, OpDisk *disk, World *world)
{
  ChainLayer *old = disk->before->pdata[0];
  if (world == NULL)
    return old->node;
  ChainDisk *now = op_find_disk (op, disk, world);
  return now && now->layers->len > 1 ? ((ChainLayer *)now->layers->pdata[1])->node : old->node;
}

static gboolean
needs_fold (Op *op, OpDisk *disk, World *world)
{
  return world == NULL || disk_is_on (op, disk, world, disk->node);
}

/* A guest that waits for us, since its write to the overlay failed, waits no longer than the
 * storage needs; one that runs is protected by the operation's bandwidth. */
static guint64
fold_speed (Op *op, World *world)
{
  gboolean waits = world && g_strcmp0 (world_run_state (world), "io-error") == 0;
  return waits ? 0 : bandwidth_share (op, op->disks->len);
}

/* At an error it pauses, and is cancelled: a commit that ends by itself while the guest's writes
 * fail too can be the end of QEMU 7.2 (docs/qemu-findings.md). */
static void
ask_commit (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainDisk *now = world ? op_find_disk (op, disk, world) : NULL;
  ask_qmp (asks, "block-commit",
           json_make ("job-id", json_str (disk->fold_job), "device",
                      json_str (now               ? now->root_node
                                : disk->attach_to ? disk->attach_to
                                                  : disk->node),
                      "top-node", json_str (disk->node), "base-node",
                      json_str (layer_below (op, disk, world)), "speed",
                      json_int ((gint64)fold_speed (op, world)), "on-error", json_str ("stop"),
                      "auto-finalize", json_flag (FALSE), "auto-dismiss", json_flag (FALSE), NULL));
}

static Seen
commit_is_ready (Op *op, OpDisk *disk, World *world)
{
  return disk_is_on (op, disk, world, disk->node) ? job_is_there (world, disk->fold_job) : SEEN_NO;
}

static void
end_commit (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  end_job (op, world, disk->fold_job, asks);
}

static void
start_commit (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (needs_fold (op, disk, world) && (world == NULL || world_job (world, disk->fold_job) == NULL))
    ask_commit (op, disk, world, asks);
}

static void
start_commits (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  start_jobs_held (op, world, start_commit, asks);
}

static void
copy_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (needs_fold (op, disk, world))
    ask_wait (asks, disk->fold_job, JOB_READY);
}

/* One job may have started and the next one not. */
static void
end_commits (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (guint i = 0; i < op->disks->len; i++)
    end_job (op, world, op_disk (op, i)->fold_job, asks);
  release_guest (op, NULL, world, asks);
}

static void
complete (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainJob *job = world ? world_job (world, disk->fold_job) : NULL;
  if (!needs_fold (op, disk, world))
    return;
  if (job == NULL || job_status_reached (job_status_parse (job->status), JOB_READY))
    ask_qmp (asks, "job-complete", json_make ("id", json_str (disk->fold_job), NULL));
  ask_wait (asks, disk->fold_job, JOB_PENDING);
}

static void
finalize (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!needs_fold (op, disk, world))
    return;
  Ask *ask = ask_qmp (asks, "job-finalize", json_make ("id", json_str (disk->fold_job), NULL));
  ask->job = disk->fold_job;
  ask->wanted = JOB_CONCLUDED;
  record_and_dismiss (disk->fold_job, asks);
}

static Seen
is_folded (Op *op, OpDisk *disk, World *world)
{
  return disk_is_on (op, disk, world, disk->node) ? SEEN_NO : SEEN_YES;
}

static gboolean
is_on_old (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (GStrv) before = chain_files (disk->before);
  return disk_shows (op, disk, world, before, error);
}

/* The overlay is removed next: what was copied back must not live in a cache only. */
static void
settle (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainDisk *now = world ? op_find_disk (op, disk, world) : NULL;
  ChainLayer *active = now && now->layers->len > 0 ? now->layers->pdata[0] : NULL;
  flush_node (active ? active->node : layer_below (op, disk, NULL), asks);
}

/* clang-format off */
const Step fold_steps[] = {
  {.name = "fold-commit",
   .says = "start to copy what was written since back into the old layer",
   .kind = STEP_UNDOABLE,
   .once = TRUE,
   .looks = TRUE,
   .ask = start_commits,
   .undo = end_commits,
   .undo_says = "cancel the jobs, continue the guest"},
  {.name = "fold-copy",
   .says = "copy it, until both layers are nearly the same",
   .kind = STEP_UNDOABLE,
   .looks = TRUE,
   .ask = copy_back,
   .probe = commit_is_ready,
   .undo = end_commit,
   .undo_says = "cancel the job"},
  {.name = "hold",
   .says = "stop the guest for a moment",
   .kind = STEP_UNDOABLE,
   .once = TRUE,
   .looks = TRUE,
   .patient = TRUE,
   .applies = op_holds,
   .ask = hold_guest,
   .probe = guest_is_held,
   .undo = unhold_guest,
   .undo_says = "continue the guest"},
  {.name = "complete",
   .says = "bring both layers to the same contents",
   .kind = STEP_UNDOABLE,
   .looks = TRUE,
   .ask = complete,
   .undo = end_commit,
   .undo_says = "cancel that job"},
  {.name = "fold-pivot",
   .says = "pivot to the old layer",
   .kind = STEP_PIVOT,
   .looks = TRUE,
   .commits = TRUE,
   .decides = DECIDED_OLD,
   .ask = finalize,
   .probe = is_folded,
   .verify = is_on_old},
  {.name = "release",
   .says = "continue the guest",
   .kind = STEP_FINISH,
   .once = TRUE,
   .looks = TRUE,
   .ask = release_guest},
  {.name = "fold-settle",
   .says = "flush the old layer",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .ask = settle},
  {0},
};
/* clang-format on */
