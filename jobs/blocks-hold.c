/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/blocks-hold.h"

#include "jobs/blocks.h"

gboolean
note_hold (Op *op, OpDisk *disk, GError **error)
{
  op->held = TRUE;
  op->held_us = g_get_monotonic_time ();
  return TRUE;
}

gboolean
note_release (Op *op, OpDisk *disk, GError **error)
{
  if (op->held && op->held_us > 0)
    op->pause_us = MAX (op->pause_us, (guint64)(g_get_monotonic_time () - op->held_us));
  op->held = FALSE;
  return TRUE;
}

/* While the guest is held it waits for what remains to be copied. */
static void
limit_job (Op *op, const char *job, guint64 speed, World *world, GPtrArray *asks)
{
  ChainJob *found = world && job ? world_job (world, job) : NULL;
  JobStatus status = found ? job_status_parse (found->status) : JOB_NULL;
  if (op->bandwidth > 0 && (status == JOB_RUNNING || status == JOB_READY))
    ask_qmp (asks, "block-job-set-speed",
             json_make ("device", json_str (job), "speed", json_int ((gint64)speed), NULL))
        ->tolerant = TRUE;
}

static void
limit_jobs (Op *op, guint64 speed, World *world, GPtrArray *asks)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    limit_job (op, op_disk_switches (disk) ? disk->job : NULL, speed, world, asks);
    limit_job (op, disk->fold_job, speed, world, asks);
  }
}

/* "Held" is recorded before the guest is stopped: whoever comes after us knows whom to continue. */
void
hold_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "wait until what remains fits into the pause budget", NULL)->calm = TRUE;
  limit_jobs (op, 0, world, asks);
  if (world != NULL && !world_running (world))
    return;
  ask_local (asks, "note that the guest is stopped by us", note_hold);
  ask_qmp (asks, "stop", NULL);
  Ask *drained = ask_local (asks, "wait until nothing remains, within the pause budget", NULL);
  drained->calm = drained->drained = TRUE;
}

Seen
guest_is_held (Op *op, OpDisk *disk, World *world)
{
  return op->held ? SEEN_YES : SEEN_NO;
}

gboolean
op_holds (Op *op)
{
  return (op->flags & OP_PIVOT_LIVE) == 0;
}

void
release_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  /* Stopped by us, or by QEMU because a layer could not be written (werror): its requests are tried
   * again. A guest that somebody else stopped stays stopped. */
  gboolean stopped = world && !world_running (world);
  gboolean io_error = stopped && g_strcmp0 (world_run_state (world), "io-error") == 0;
  if (world == NULL || (stopped && (op->held || (io_error && op->was_running))))
    ask_qmp (asks, "cont", NULL);
  ask_local (asks, "note that the guest runs", note_release);
}

void
unhold_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  release_guest (op, disk, world, asks);
  limit_jobs (op, bandwidth_share (op, op->disks->len), world, asks);
}

void
start_jobs_held (Op *op, World *world, StartJob start, GPtrArray *asks)
{
  gboolean stop = op->start_held && world != NULL && world_running (world);
  if (stop) {
    ask_local (asks, "note that the guest is stopped by us", note_hold);
    ask_qmp (asks, "stop", NULL);
  }
  for (guint i = 0; i < op->disks->len; i++)
    start (op, op_disk (op, i), world, asks);
  if (stop) {
    ask_qmp (asks, "cont", NULL);
    ask_local (asks, "note that the guest runs", note_release);
  }
}
