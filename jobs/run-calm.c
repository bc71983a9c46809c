/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks that wait for a calm moment: before the guest is held, until what remains of the jobs fits
 * into the pause budget; then, while it is held, until nothing remains. */
#include "jobs/run-private.h"

#include "src/common/size.h"
#include "src/common/source.h"

#include <errno.h>

#define CALM_EVERY_MS  100
#define CALM_TRIES     50 /* after 5 s the guest is held all the same, within the budget */
#define HOPELESS       4  /* unless so many times what it has time for remains */
#define DRAIN_EVERY_MS 5

void
lane_stop_calm (Lane *lane)
{
  source_clear (&lane->calm);
}

static gboolean
on_calm_timer (gpointer data)
{
  Lane *lane = data;
  g_clear_pointer (&lane->calm, g_source_unref);
  lane_ask_calm (lane);
  return G_SOURCE_REMOVE;
}

/* @ret_ready: all of them could be completed now. */
static guint64
remaining_bytes (Runner *runner, Json *jobs, gboolean *ret_ready)
{
  Op *op = runner->op;
  guint64 sum = 0;
  *ret_ready = TRUE;
  for (gsize i = 0; i < json_length (jobs); i++)
    for (guint d = 0; d < op->disks->len; d++) {
      Json *job = json_at (jobs, i);
      OpDisk *disk = op_disk (op, d);
      const char *id = json_get_str (job, "device");
      gint64 len = json_get_int (job, "len"), offset = json_get_int (job, "offset");
      if (g_strcmp0 (id, disk->fold_job) != 0 &&
          !(op_disk_switches (disk) && g_strcmp0 (id, disk->job) == 0))
        continue;
      JobStatus status = job_status_parse (json_get_str (job, "status"));
      sum += (guint64)MAX (len - offset, 0);
      *ret_ready = *ret_ready && job_status_reached (status, JOB_READY);
      pace_see (runner, disk, status, (guint64)MAX (offset, 0), (guint64)MAX (len, 0));
    }
  return sum;
}

/* The words for a job of ours that stands for an I/O error; full, NULL. */
static char *
io_error_of (Runner *runner, Json *jobs)
{
  Op *op = runner->op;
  for (gsize i = 0; i < json_length (jobs); i++) {
    Json *job = json_at (jobs, i);
    const char *id = json_get_str (job, "device"), *status = json_get_str (job, "io-status");
    gboolean told = id && runner->erring && g_hash_table_contains (runner->erring, id);
    for (guint d = 0; status && d < op->disks->len; d++)
      if (g_strcmp0 (id, op_disk (op, d)->job) == 0 && (told || !g_str_equal (status, "ok")) &&
          (g_str_equal (status, "failed") || !growth_takes_job (runner, id)))
        return g_str_equal (status, "nospace") ? growth_why (runner, id)
                                               : g_strdup (g_strerror (EIO));
  }
  return NULL;
}

/* A job that was READY when the guest was to be held, and is completed by us only after this. */
static const char *
find_ended (Runner *runner, Json *jobs)
{
  for (gsize i = 0; i < json_length (jobs); i++)
    for (guint d = 0; d < runner->op->disks->len; d++) {
      OpDisk *disk = op_disk (runner->op, d);
      const char *id = json_get_str (json_at (jobs, i), "device");
      const char *status = json_get_str (json_at (jobs, i), "status");
      gboolean ours = g_strcmp0 (id, disk->fold_job) == 0 ||
                      (op_disk_switches (disk) && g_strcmp0 (id, disk->job) == 0);
      if (ours && job_status_parse (status) == JOB_PENDING)
        return id;
    }
  return NULL;
}

static void
fail_too_late (Lane *lane, guint64 remaining, const char *when)
{
  g_autofree char *left = format_size (remaining);
  g_autofree char *figures = pace_figures (lane->runner);
  fail (&lane->error, TIMED_OUT, "%s remained to be copied %s", left, when);
  hint (&lane->error, "%s%stry at a calmer time, with more --bandwidth or a longer --max-pause",
        figures ? figures : "", figures ? ": " : "");
}

/* Before the hold: does what is left fit into the pause budget? It is tried once all the same, and
 * again where there is hope, since only a hold tells how fast the storage is. */
static gboolean
may_hold (Lane *lane, guint64 remaining)
{
  Runner *runner = lane->runner;
  guint64 budget = pace_budget (runner);
  runner->drain_from = 0;
  if (remaining <= budget)
    return TRUE;
  if (++lane->calm_tries <= CALM_TRIES)
    return FALSE;
  if (runner->in_fold || runner->drain_rate <= 0 || remaining / HOPELESS <= budget)
    return TRUE;
  fail_too_late (lane, remaining, "when no calm moment came");
  return FALSE;
}

/* The guest is held, no longer than the budget; unless this is an undo, which must end. */
static gboolean
is_drained (Lane *lane, guint64 remaining, gboolean ready)
{
  Runner *runner = lane->runner;
  gint64 held_us = g_get_monotonic_time () - runner->op->held_us;
  gboolean over = held_us / 1000 > (gint64)runner->op->max_pause_ms;
  if (runner->drain_from == 0)
    runner->drain_from = remaining;
  pace_drained (runner, remaining, held_us);
  if ((runner->in_fold && runner->patience > 1) || (remaining == 0 && ready && !over))
    return TRUE;
  if (over) {
    g_autofree char *when = g_strdup_printf (
        "when the guest had been held for %" G_GINT64_FORMAT " ms", held_us / 1000);
    fail_too_late (lane, remaining, when);
  }
  return FALSE;
}

static gboolean
is_calm (Lane *lane, Json *jobs)
{
  gboolean ready;
  guint64 remaining = remaining_bytes (lane->runner, jobs, &ready);
  const char *ended = lane_ask (lane)->drained ? find_ended (lane->runner, jobs) : NULL;
  if (ended != NULL)
    return fail (&lane->error, FAILED, ENDED_BY_OTHERS, ended);
  return lane_ask (lane)->drained ? is_drained (lane, remaining, ready)
                                  : may_hold (lane, remaining);
}

static void
ask_calm_later (Lane *lane, guint ms)
{
  source_after (&lane->calm, ms, on_calm_timer, lane);
}

static void
on_block_jobs (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Lane *lane = data;
  g_autoptr (Runner) runner = lane->runner;
  if (lane_is_stale (lane))
    return;
  g_autofree char *stopped = error || lane->error ? NULL : io_error_of (runner, ret);
  if (error != NULL)
    lane_failed (lane, g_error_copy (error));
  else if (stopped != NULL) {
    fail (&lane->error, FAILED, "the job stopped");
    because (&lane->error, "%s", stopped);
    lane_ended (lane);
  } else if (lane->error != NULL)
    lane_ended (lane);
  else if (is_calm (lane, ret))
    lane_next (lane);
  else if (lane->error != NULL)
    lane_ended (lane);
  else
    ask_calm_later (lane, lane_ask (lane)->drained ? DRAIN_EVERY_MS : CALM_EVERY_MS);
}

void
lane_ask_calm (Lane *lane)
{
  runner_ref (lane->runner);
  qmp_client_execute (lane->runner->client, "query-block-jobs", NULL, 0, on_block_jobs, lane);
}
