/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The runner's connection: events that matter to every step, losing it, and getting it back. */
#include "jobs/run-private.h"

#include <errno.h>

#define RECONNECT_MS    15000
#define RECONNECT_EVERY 250
#define FOLD_PATIENCE   G_TIME_SPAN_SECOND

/* What a borrower of the monitor may ask: looking, and the control of running jobs. */
static const char *const lent[] = {"query-block",
                                   "query-named-block-nodes",
                                   "x-debug-query-block-graph",
                                   "query-jobs",
                                   "query-block-jobs",
                                   "query-block-exports",
                                   "query-status",
                                   "query-migrate",
                                   "query-version",
                                   "query-qmp-schema",
                                   "query-name",
                                   "query-uuid",
                                   "block-job-set-speed",
                                   "job-pause",
                                   "job-resume",
                                   "job-cancel",
                                   NULL};

/* What the guest writes to now, of this disk. */
static const char *
active_node (OpDisk *disk)
{
  ChainLayer *old = op_disk_layer (disk, 0); /* none: its chain is not touched */
  return disk->to && disk->mode != MODE_MIRROR ? disk->node : old ? old->node : NULL;
}

static gboolean
is_on_disk (OpDisk *disk, const char *node, const char *device)
{
  const char *active = active_node (disk);
  return (active && g_strcmp0 (node, active) == 0) ||
         (disk->attach_to && g_strcmp0 (node, disk->attach_to) == 0) ||
         (disk->drive && g_strcmp0 (device, disk->drive) == 0);
}

/* A write of the guest failed while we change its disk: to a new layer, or where our copy took the
 * space. What the operation did hurts the guest, so it goes back. Which device is told by node
 * name, or by drive name for -drive guests. */
static void
on_io_error (QmpClient *client, const char *name, Json *event, gpointer data)
{
  Runner *runner = data;
  Op *op = runner->op;
  Json *d = json_get (event, "data");
  if (growth_takes_guest (runner, d))
    return;
  gboolean ours = op->switched || steps_of (op)->undo_table == NULL;
  if (!ours || op->decided != DECIDED_NOTHING ||
      g_strcmp0 (json_get_str (d, "operation"), "write") != 0)
    return;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if (!is_on_disk (disk, json_get_str (d, "node-name"), json_get_str (d, "device")))
      continue;
    const char *reason = json_get_str (d, "reason");
    g_autofree char *why =
        g_strdup_printf ("the guest's write to '%s' failed: %s",
                         disk->to ? disk->to : ((ChainLayer *)disk->before->pdata[0])->file,
                         reason ? reason : "I/O error");
    /* Already on the way back: the guest waits for us now, so the storage sets the pace. */
    if (runner->main.back)
      runner_set_bandwidth (runner, 0, NULL);
    else
      runner_cancel (runner, why);
    return;
  }
}

static void
on_state (QmpClient *client, QmpState state, gpointer data)
{
  Runner *runner = data;
  /* What becomes of an engine its process tells. */
  if (state != QMP_CLOSED || runner->lost || op_is_offline (runner->op))
    return;
  runner->lost = TRUE;
  if (runner->busy > 0)
    lanes_on_lost (runner);
}

/* Where what is left of a fold does not become less, the guest writes faster than the bandwidth
 * lets us copy; but an undo must end. */
static void
watch_fold (Runner *runner)
{
  guint64 left = 0;
  gint64 now = g_get_monotonic_time ();
  for (guint i = 0; i < runner->op->disks->len; i++) {
    OpDisk *disk = op_disk (runner->op, i);
    left += disk->total - MIN (disk->current, disk->total);
  }
  if (!runner->in_fold || runner->fold_least_us == 0 || left < runner->fold_least) {
    runner->fold_least = left;
    runner->fold_least_us = runner->in_fold ? now : 0;
  } else if (runner->op->bandwidth > 0 && now - runner->fold_least_us > FOLD_PATIENCE)
    runner_set_bandwidth (runner, 0, NULL);
}

/* The disk whose @job copies on our behalf; NULL also for one that is being taken back. */
static OpDisk *
disk_at_work (Runner *runner, const char *job)
{
  OpDisk *found = NULL;
  for (guint i = 0; i < runner->op->disks->len; i++) {
    OpDisk *disk = op_disk (runner->op, i);
    if (g_strcmp0 (runner_job_of (runner, disk), job) == 0)
      found = disk;
  }
  return runner->ended || runner_cursor (runner)->back ? NULL : found;
}

static gboolean
is_at_work (Runner *runner, const char *job)
{
  return disk_at_work (runner, job) != NULL;
}

static void
on_io_status (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Runner) runner = data;
  for (gsize i = 0; i < json_length (ret); i++) {
    const char *job = json_get_str (json_at (ret, i), "device");
    const char *status = json_get_str (json_at (ret, i), "io-status");
    if (!is_at_work (runner, job))
      continue;
    gboolean told = runner->erring != NULL && g_hash_table_contains (runner->erring, job);
    gboolean full = g_strcmp0 (status, "nospace") == 0;
    gboolean unsaid = told && g_strcmp0 (status, "failed") != 0;
    if ((full || unsaid) && growth_takes_job (runner, job))
      continue;
    g_autofree char *why = full ? growth_why (runner, job) : NULL;
    if (full)
      lanes_fail_job (runner, job, why);
    else if (told || g_strcmp0 (status, "failed") == 0)
      lanes_fail_job (runner, job, g_strerror (EIO));
  }
}

/* A job that meets an error pauses (on-error: stop). Is it that, or did somebody pause it? */
static void
look_at_pause (Runner *runner, const char *job)
{
  if (is_at_work (runner, job))
    qmp_client_execute (runner->client, "query-block-jobs", NULL, 0, on_io_status,
                        runner_ref (runner));
}

/* Remembered, since whoever continues the guest, we ourselves or another, has QEMU forget the
 * io-status of all jobs, but leaves them paused. */
static void
on_job_error (QmpClient *client, const char *name, Json *event, gpointer data)
{
  Runner *runner = data;
  Json *d = json_get (event, "data");
  const char *job = json_get_str (d, "device");
  if (g_strcmp0 (json_get_str (d, "action"), "stop") != 0 || !is_at_work (runner, job))
    return;
  if (runner->erring == NULL)
    runner->erring = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_hash_table_add (runner->erring, g_strdup (job));
  if (runner->growth != NULL)
    look_at_pause (runner, job);
}

static gboolean
is_ended_by_us (Runner *runner, const char *job)
{
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    for (guint k = 0; k < lane->asks->len; k++) {
      Ask *ask = lane->asks->pdata[k];
      if (ask->wanted == JOB_PENDING && g_strcmp0 (ask->job, job) == 0)
        return TRUE;
    }
  }
  return FALSE;
}

/* A job that was to stay READY until we complete it: somebody else completed it, or cancelled it
 * softly. Which of the two, nobody tells, and the guest's writes wait while it is PENDING: it is
 * taken back at once. */
static void
on_job_status (QmpClient *client, const char *name, Json *event, gpointer data)
{
  Runner *runner = data;
  Json *d = json_get (event, "data");
  const char *job = json_get_str (d, "id");
  OpDisk *disk = disk_at_work (runner, job);
  gboolean switches = disk != NULL && (runner->in_fold || op_disk_switches (disk));
  if (!switches || job_status_parse (json_get_str (d, "status")) != JOB_PENDING ||
      is_ended_by_us (runner, job))
    return;
  g_autofree char *why = g_strdup_printf (ENDED_BY_OTHERS, job);
  if (!runner->in_fold)
    runner_cancel (runner, why);
  else if (runner->busy > 0)
    lanes_abort (runner, FAILED, why);
}

static void
on_progress (const char *job, JobStatus status, guint64 current, guint64 total, gpointer data)
{
  Runner *runner = data;
  for (guint i = 0; i < runner->op->disks->len; i++) {
    OpDisk *disk = op_disk (runner->op, i);
    if (g_strcmp0 (job, disk->job) == 0 || g_strcmp0 (job, disk->fold_job) == 0) {
      disk->current = current;
      disk->total = total;
      pace_see (runner, disk, status, current, total);
    }
  }
  if (status == JOB_PAUSED || status == JOB_STANDBY)
    look_at_pause (runner, job);
  watch_fold (runner);
  runner_changed (runner);
}

void
link_attach (Runner *runner, QmpClient *client)
{
  runner->client = qmp_client_ref (client);
  runner->watch = job_watch_new (client);
  runner->lost = qmp_client_get_state (client) == QMP_CLOSED;
  runner->listeners[0] = qmp_client_watch_state (client, on_state, runner);
  runner->listeners[1] = qmp_client_listen (client, "BLOCK_IO_ERROR", on_io_error, runner);
  runner->listeners[2] = qmp_client_listen (client, "BLOCK_JOB_ERROR", on_job_error, runner);
  runner->listeners[3] =
      qmp_client_listen (client, "BLOCK_WRITE_THRESHOLD", growth_on_threshold, runner);
  runner->listeners[4] = qmp_client_listen (client, "JOB_STATUS_CHANGE", on_job_status, runner);
  job_watch_set_progress (runner->watch, 500, on_progress, runner);
}

void
link_drop (Runner *runner)
{
  if (runner->client == NULL)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (runner->listeners); i++)
    qmp_client_unlisten (runner->client, runner->listeners[i]);
  growth_forget_link (runner);
  if (runner->relay != NULL)
    qmp_relay_set_client (runner->relay, NULL);
  g_clear_pointer (&runner->watch, job_watch_free);
  g_clear_pointer (&runner->client, qmp_client_unref);
}

/* ---- getting it back ------------------------------------------------------------------------- */

static gboolean
try_again (gpointer data);

static void
on_new_state (QmpClient *client, QmpState state, gpointer data)
{
  Runner *runner = data;
  if (runner->detached)
    return;
  if (state == QMP_READY) {
    qmp_client_unlisten (client, runner->listeners[0]);
    g_autoptr (QmpClient) keep = g_steal_pointer (&runner->client);
    link_attach (runner, keep);
    link_is_back (runner);
    return;
  }
  if (state != QMP_CLOSED)
    return;
  GError *error = g_error_copy (qmp_client_get_error (client));
  qmp_client_unlisten (client, runner->listeners[0]);
  g_clear_pointer (&runner->client, qmp_client_unref);
  if (op_qemu_is_gone (runner->op) || g_get_monotonic_time () > runner->reconnect_until) {
    link_is_dead (runner, error);
    return;
  }
  g_error_free (error);
  runner_after (runner, RECONNECT_EVERY, try_again);
}

static gboolean
try_again (gpointer data)
{
  Runner *runner = data;
  GError *error = NULL;
  if (op_qemu_is_gone (runner->op)) {
    fail (&error, UNREACHABLE, "QEMU (process %d) is gone", (int)runner->op->qemu_pid);
    link_is_dead (runner, error);
    return G_SOURCE_REMOVE;
  }
  runner->client = qmp_client_new (runner->op->vm, QMP_GREETING_MS, &error);
  if (runner->client == NULL)
    link_is_dead (runner, error);
  else
    runner->listeners[0] = qmp_client_watch_state (runner->client, on_new_state, runner);
  return G_SOURCE_REMOVE;
}

void
link_again (Runner *runner)
{
  /* The agent of a guest that is held does not answer. */
  if (!runner->op->held && runner_thaw_first (runner, link_again))
    return;
  link_drop (runner);
  runner->reconnect_until = g_get_monotonic_time () + RECONNECT_MS * G_TIME_SPAN_MILLISECOND;
  g_debug ("operation %s: the connection to QEMU ended; connecting again", runner->op->id);
  runner_after (runner, 1, try_again);
}

/* ---- lending --------------------------------------------------------------------------------- */

static gboolean
on_own_command (const char *command, Json *arguments, Json **ret_return, gpointer data,
                GError **error)
{
  Runner *runner = data;
  Json *speed = json_get (arguments, "bandwidth");
  gboolean ok = TRUE;
  if (g_str_equal (command, "rechain-cancel"))
    runner_cancel (runner, "cancelled by the user");
  else if (g_str_equal (command, "rechain-bandwidth") && json_object_is_type (speed, json_type_int))
    ok = runner_set_bandwidth (runner, (guint64)MAX (json_object_get_int64 (speed), 0), error);
  else
    ok = fail (error, REFUSED, "'%s' is not understood", command);
  if (ok)
    *ret_return = json_make ("operation", json_str (runner->op->id), NULL);
  return ok;
}

/* Borrowing is a convenience: where the socket cannot be made, the operation runs all the same. */
void
link_lend (Runner *runner)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = journal_run_path (runner->state_dir, runner->op->id, ".sock");
  runner->relay = qmp_relay_new (path, lent, on_own_command, runner, &error);
  if (runner->relay == NULL)
    g_message ("operation %s: its monitor cannot be lent: %s", runner->op->id, error->message);
  link_set_lent (runner, FALSE);
}

void
link_set_lent (Runner *runner, gboolean lent_now)
{
  if (runner->relay == NULL)
    return;
  qmp_relay_set_client (runner->relay, runner->client);
  qmp_relay_hold (runner->relay, !lent_now);
}
