/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Performing the asks of one step. A lane per disk; each does one thing at a time. */
#include "jobs/run-private.h"

static void
go_on (Lane *lane);

void
lane_free (gpointer data)
{
  Lane *lane = data;
  lane_stop_calm (lane);
  g_clear_pointer (&lane->asks, g_ptr_array_unref);
  g_clear_error (&lane->error);
  g_free (lane);
}

Ask *
lane_ask (Lane *lane)
{
  return lane->asks->pdata[lane->at];
}

void
lane_ended (Lane *lane)
{
  Runner *runner = lane->runner;
  lane->running = FALSE;
  if (--runner->busy == 0)
    lanes_ended (runner);
}

gboolean
lane_is_stale (Lane *lane)
{
  return lane->runner->ended || lane->runner->detached;
}

void
lane_next (Lane *lane)
{
  lane->at++;
  lane->asked_again = lane->was_refused = FALSE;
  go_on (lane);
}

void
lane_failed (Lane *lane, GError *take_error)
{
  if (lane->error == NULL)
    lane->error = take_error;
  else
    g_error_free (take_error);
  lane_ended (lane);
}

/* ---- the lane -------------------------------------------------------------------------------- */

static void
go_on (Lane *lane)
{
  if (lane->error != NULL || lane->at >= lane->asks->len)
    lane_ended (lane);
  else
    lane_perform (lane);
}

static Ask *
next_act (Lane *lane)
{
  Ask *ask = lane->error == NULL && lane->at < lane->asks->len ? lane_ask (lane) : NULL;
  return ask != NULL && ask->local != NULL && !ask->calm ? ask : NULL;
}

/* One local act of each lane that has one now. @ret_facts: something is to be recorded. */
static guint
act_once (Runner *runner, gboolean *ret_facts)
{
  guint acted = 0;
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    Ask *ask = next_act (lane);
    if (ask == NULL)
      continue;
    if (ask->local (runner->op, lane->disk, &lane->error))
      lane->at++;
    *ret_facts |= !ask->no_facts;
    acted++;
  }
  return acted;
}

/* The local acts that lanes begin with are done in lockstep: one write of the journal makes the
 * facts of all durable, and the first sync of a filesystem takes the others along. */
static void
act_together (Runner *runner)
{
  gboolean facts = FALSE;
  while (act_once (runner, &facts) > 0) {
    g_autoptr (GError) error = NULL;
    if (!facts || journal_write (runner->journal, runner->op, &error)) {
      facts = FALSE;
      continue;
    }
    for (guint i = 0; i < runner->lanes->len; i++) {
      Lane *lane = runner->lanes->pdata[i];
      if (lane->error == NULL)
        lane->error = g_error_copy (error);
    }
    return;
  }
}

void
lanes_start (Runner *runner)
{
  /* The barrier must not fall while lanes are still being started. */
  runner->busy = runner->lanes->len + 1;
  for (guint i = 0; i < runner->lanes->len; i++)
    ((Lane *)runner->lanes->pdata[i])->running = TRUE;
  act_together (runner);
  for (guint i = 0; i < runner->lanes->len; i++)
    go_on (runner->lanes->pdata[i]);
  if (--runner->busy == 0)
    lanes_ended (runner);
}

/* Ends what can be ended; a command that is on its way is waited for, since only its
 * reply tells. */
void
lanes_abort (Runner *runner, RechainError code, const char *why)
{
  g_autoptr (GPtrArray) idle = g_ptr_array_new ();
  for (guint i = 0; runner->lanes != NULL && i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (!lane->running)
      continue;
    if (lane->error == NULL)
      fail (&lane->error, code, "%s", why);
    if (lane->image != NULL)
      image_cancel (lane->image);
    if (lane->work != NULL)
      work_cancel (lane->work);
    if (lane->waiting_for != NULL || lane->calm != NULL)
      g_ptr_array_add (idle, lane);
  }
  for (guint i = 0; i < idle->len; i++) {
    Lane *lane = idle->pdata[i];
    if (lane->waiting_for != NULL && runner->watch != NULL)
      job_watch_cancel (runner->watch, lane->waiting_for);
    lane->waiting_for = NULL;
    lane_stop_calm (lane);
    lane_ended (lane);
  }
}

/* Lanes stay allocated with the runner: replies that are on their way still point at them. */
void
lanes_stop (Runner *runner)
{
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (lane->image != NULL)
      image_cancel (lane->image);
    if (lane->work != NULL)
      work_cancel (lane->work);
    lane_stop_calm (lane);
  }
}

void
lanes_on_lost (Runner *runner)
{
  lanes_abort (runner, UNREACHABLE, "the connection to QEMU ended");
}

void
lanes_fail_job (Runner *runner, const char *job, const char *words)
{
  Lane *found = NULL;
  for (guint i = 0; runner->lanes != NULL && i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (lane->running && lane->error == NULL && g_strcmp0 (lane->waiting_for, job) == 0)
      found = lane;
  }
  if (found == NULL)
    return;
  if (runner->erring != NULL) /* another try may come, by the same name */
    g_hash_table_remove (runner->erring, job);
  found->error = lane_job_failure (job, lane_ask (found)->wanted, JOB_PAUSED, words);
  lanes_abort (runner, INTERRUPTED, "the job of another disk failed");
}

void
lanes_stop_waiting (Runner *runner, const char *job)
{
  gboolean live = (runner->op->flags & OP_PIVOT_LIVE) != 0;
  for (guint i = 0; runner->lanes != NULL && i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (!lane->running || lane->error != NULL || g_strcmp0 (lane->waiting_for, job) != 0)
      continue;
    /* Without a hold a READY job is only completed when it has caught up. */
    JobStatus wanted = lane_ask (lane)->wanted;
    if (wanted != JOB_READY && !(live && wanted == JOB_PENDING))
      continue;
    job_watch_cancel (runner->watch, job);
    lane->waiting_for = NULL;
    if (live) {
      g_autofree char *figures = pace_figures (runner);
      fail (&lane->error, FAILED, "the copying does not catch up with the guest");
      because (&lane->error, "%s", figures ? figures : "it was not measured");
      hint (&lane->error, "more --bandwidth, or leave out --pivot live: then the guest is held");
      lane_ended (lane);
      lanes_abort (runner, INTERRUPTED, "the copying of another disk does not catch up");
      return;
    }
    lane_next (lane);
    return;
  }
}
