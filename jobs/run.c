/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The runner from the outside: starting, recovering, cancelling, and where it is. How a step is
 * done is in run-step.c, which looks at the world by run-look.c, performs asks by run-lane.c, keeps
 * the connection by run-link.c and ends by run-end.c. */
#include "jobs/run-private.h"

#include "jobs/blocks.h"
#include "src/common/source.h"

/* ---- where we are ---------------------------------------------------------------------------- */

Cursor *
runner_cursor (Runner *runner)
{
  return runner->in_fold ? &runner->fold : &runner->main;
}

const Step *
runner_step (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  return cursor->steps + MAX (cursor->at, 0);
}

const char *
runner_direction (Runner *runner)
{
  if (runner->in_fold)
    return runner->fold.back ? "unfold" : "fold";
  return runner->main.back ? "undo" : "do";
}

const char *
runner_step_name (Runner *runner)
{
  const char *name = runner->main.steps ? runner_step (runner)->name : NULL;
  return name ? name : "";
}

void
runner_changed (Runner *runner)
{
  if (runner->on_changed != NULL && !runner->ended)
    runner->on_changed (runner, runner->data);
}

void
runner_note (Runner *runner, OpDisk *disk, const char *phase, const char *detail)
{
  journal_note (runner->journal, runner->op, runner_step_name (runner), disk ? disk->name : NULL,
                runner_direction (runner), phase, detail);
}

void
runner_note_error (Runner *runner, OpDisk *disk, const GError *error)
{
  const char *cause = rechain_error_get_cause (error);
  g_autofree char *text =
      g_strdup_printf ("%s%s%s", error->message, cause ? ": " : "", cause ? cause : "");
  runner_note (runner, disk, "failed", text);
}

const char *
runner_job_of (Runner *runner, const OpDisk *disk)
{
  return runner->in_fold ? disk->fold_job : disk->job;
}

void
runner_after (Runner *runner, guint ms, GSourceFunc func)
{
  source_after (&runner->timer, ms, func, runner);
}

gboolean
runner_begin_later (gpointer data)
{
  runner_begin_again (data);
  return G_SOURCE_REMOVE;
}

/* ---- the caller's side ----------------------------------------------------------------------- */

Runner *
runner_new (Op *op, Journal *journal, const char *state_dir, QmpClient *client,
            QmpFeatures *features)
{
  Runner *runner = g_new0 (Runner, 1);
  runner->refs = 1;
  runner->op = op;
  runner->journal = journal;
  runner->features = features;
  runner->state_dir = g_strdup (state_dir);
  runner->main = (Cursor){.steps = steps_of (op)};
  runner->turn_at = -1;
  runner->paces = g_new0 (Pace, op->disks->len);
  runner->lanes = g_ptr_array_new_with_free_func (lane_free);
  if (client != NULL)
    link_attach (runner, client);
  return runner;
}

Runner *
runner_ref (Runner *runner)
{
  runner->refs++;
  return runner;
}

void
runner_unref (Runner *runner)
{
  if (--runner->refs > 0)
    return;
  runner->ended = TRUE;
  source_clear (&runner->timer);
  source_clear (&runner->deadline);
  engine_drop (runner);
  link_drop (runner);
  runner_drop_agent (runner);
  g_clear_pointer (&runner->relay, qmp_relay_free);
  g_clear_pointer (&runner->growth, growth_free);
  g_clear_pointer (&runner->erring, g_hash_table_unref);
  g_clear_pointer (&runner->lanes, g_ptr_array_unref);
  g_clear_pointer (&runner->world, world_free);
  g_clear_pointer (&runner->journal, journal_close);
  g_clear_pointer (&runner->op, op_free);
  g_clear_error (&runner->failure);
  g_free (runner->paces);
  g_free (runner->refusal);
  g_free (runner->cancelled);
  g_free (runner->state_dir);
  g_free (runner);
}

static gboolean
on_deadline (gpointer data)
{
  Runner *runner = data;
  g_autofree char *figures = pace_figures (runner);
  g_autofree char *why =
      g_strdup_printf ("not done within %" G_GUINT64_FORMAT " ms%s%s", runner->op->timeout_ms,
                       figures ? ": " : "", figures ? figures : "");
  runner_cancel (runner, why);
  return G_SOURCE_REMOVE;
}

static void
set_deadline (Runner *runner)
{
  guint64 ms = runner->op->timeout_ms;
  if (ms == 0)
    return;
  source_after (&runner->deadline, (guint)MIN (ms, G_MAXUINT), on_deadline, runner);
}

gboolean
runner_start (Runner *runner, RunnerEnded ended, RunnerChanged changed, gpointer data,
              GError **error)
{
  Op *op = runner->op;
  if (runner->lost)
    return fail (error, UNREACHABLE, "the connection to QEMU ended before anything was changed");
  op->started_us = g_get_real_time ();
  op_set_state (op, OP_RUNNING);
  if (!journal_begin (runner->journal, op, error)) {
    op->state = OP_PLANNED;
    return FALSE;
  }
  runner->on_ended = ended;
  runner->on_changed = changed;
  runner->data = data;
  link_lend (runner);
  set_deadline (runner);
  runner_after (runner, 0, runner_begin_later);
  return TRUE;
}

void
runner_cancel (Runner *runner, const char *why)
{
  gboolean back = runner->main.back && runner->turn_at < 0;
  if (runner->ended || runner->cancelled != NULL || runner->in_fold || back ||
      runner->op->state != OP_RUNNING || runner->op->decided != DECIDED_NOTHING)
    return;
  runner->cancelled = g_strdup (why);
  if (runner->busy > 0 && !runner->main.back)
    lanes_abort (runner, INTERRUPTED, why);
}

static void
leave (Runner *runner)
{
  Op *op = runner->op;
  if (!journal_release (runner->journal, op, FALSE, NULL))
    g_message ("operation %s: the journal could not be written", op->id);
  g_clear_error (&op->error);
  fail (&op->error, STUCK, "operation %s was let go of at step '%s'", op->id,
        runner_step_name (runner));
  if (op->frozen)
    hint (&op->error,
          "the guest may still be frozen: 'rechain thaw' thaws it; then rechain recover --op %s",
          op->id);
  else
    hint (&op->error, "rechain recover --op %s", op->id);
  runner_end (runner);
}

static void
release_and_leave (Runner *runner)
{
  runner_let_guest_go (runner, leave);
}

void
runner_detach (Runner *runner, gboolean at_once)
{
  gboolean again = runner->detached;
  if (runner->ended || (again && !at_once))
    return;
  runner->detached = TRUE;
  source_clear (&runner->timer);
  if (at_once)
    leave (runner);
  else if (!runner_thaw_soon (runner, release_and_leave))
    release_and_leave (runner);
}

static gboolean
for_each_job (Runner *runner, const char *command, gint64 speed, GError **error)
{
  if (runner->client == NULL && op_is_offline (runner->op))
    return fail (error, REFUSED, "operation %s has no job that could be held or slowed down now",
                 runner->op->id);
  for (guint i = 0; !runner->lost && runner->client && i < runner->op->disks->len; i++) {
    OpDisk *disk = op_disk (runner->op, i);
    const char *job = runner_job_of (runner, disk);
    qmp_client_execute (runner->client, command,
                        json_make (speed < 0 ? "id" : "device", json_str (job), "speed",
                                   speed < 0 ? NULL : json_int (speed), NULL),
                        0, NULL, NULL);
  }
  return TRUE;
}

gboolean
runner_pause (Runner *runner, gboolean pause, GError **error)
{
  return for_each_job (runner, pause ? "job-pause" : "job-resume", -1, error);
}

gboolean
runner_set_bandwidth (Runner *runner, guint64 bytes_per_second, GError **error)
{
  runner->op->bandwidth = bytes_per_second;
  guint64 share = bandwidth_share (runner->op, runner->op->disks->len);
  return for_each_job (runner, "block-job-set-speed", (gint64)MIN (share, G_MAXINT64), error);
}

Op *
runner_op (Runner *runner)
{
  return runner->op;
}

gboolean
runner_was_detached (Runner *runner)
{
  return runner->detached;
}

void
runner_progress (Runner *runner, guint64 *ret_done, guint64 *ret_total, double *ret_rate)
{
  guint64 done = 0, total = 0;
  for (guint i = 0; i < runner->op->disks->len; i++) {
    done += op_disk (runner->op, i)->current;
    total += op_disk (runner->op, i)->total;
  }
  gint64 now = g_get_monotonic_time ();
  Sample *last = runner->samples + (runner->n_samples + N_SAMPLES - 1) % N_SAMPLES;
  if (runner->n_samples == 0 || now - last->us > 400 * G_TIME_SPAN_MILLISECOND)
    runner->samples[runner->n_samples++ % N_SAMPLES] = (Sample){.us = now, .bytes = done};
  Sample *first =
      runner->samples + (runner->n_samples > N_SAMPLES ? runner->n_samples % N_SAMPLES : 0);
  double seconds = (double)(now - first->us) / G_USEC_PER_SEC;
  *ret_done = done;
  *ret_total = total;
  *ret_rate = seconds > 0.2 && done > first->bytes ? (double)(done - first->bytes) / seconds : 0;
}
