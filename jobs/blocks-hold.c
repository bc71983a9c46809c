/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/blocks-hold.h"

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
lift_limit (Op *op, const char *job, World *world, GPtrArray *asks)
{
  ChainJob *found = world && job ? world_job (world, job) : NULL;
  if (op->bandwidth == 0 || found == NULL ||
      !job_status_reached (job_status_parse (found->status), JOB_READY))
    return;
  ask_qmp (asks, "block-job-set-speed",
           json_make ("device", json_str (job), "speed", json_int (0), NULL))
      ->tolerant = TRUE;
}

/* "Held" is recorded before the guest is stopped: whoever comes after us knows whom to continue. */
void
hold_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "wait until what remains fits into the pause budget", NULL)->calm = TRUE;
  for (guint i = 0; i < op->disks->len; i++) {
    lift_limit (op, op_disk (op, i)->job, world, asks);
    lift_limit (op, op_disk (op, i)->fold_job, world, asks);
  }
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
