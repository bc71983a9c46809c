/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Performing one ask of a lane: a QMP command, a word to the guest agent, a program, work of our
 * own, a local act, a wait for a job. Each ends with lane_next() or lane_failed(). */
#include "jobs/run-private.h"

/* ---- jobs ------------------------------------------------------------------------------------ */

GError *
lane_job_failure (const char *job, JobStatus wanted, JobStatus status, const char *words)
{
  GError *error = NULL;
  if (status == JOB_NULL)
    fail (&error, FAILED, "job '%s' vanished without leaving a record", job);
  else if (words == NULL)
    fail (&error, FAILED, "job '%s' ended before it was %s", job, job_status_name (wanted));
  else
    fail (&error, FAILED, "job '%s' failed", job);
  if (words != NULL)
    because (&error, "%s", words);
  else if (status == JOB_NULL)
    hint (&error, "somebody else cancelled or dismissed it");
  return error;
}

static void
send (Lane *lane);

static void
on_job (const char *job, JobStatus status, const char *words, gpointer data)
{
  Lane *lane = data;
  Ask *ask = lane_ask (lane);
  g_autofree char *detail = g_strdup_printf ("job %s is %s%s%s", job,
                                             status == JOB_NULL ? "gone" : job_status_name (status),
                                             words ? ": " : "", words ? words : "");
  journal_note (lane->runner->journal, lane->runner->op, runner_step (lane->runner)->name,
                lane->disk ? lane->disk->name : NULL, runner_direction (lane->runner), "note",
                detail);
  lane->waiting_for = NULL;
  if (ask->insists && status == JOB_PENDING && !lane->asked_again) {
    lane->asked_again = TRUE;
    send (lane);
    return;
  }
  /* A job that concluded without error, or is gone where its end was waited for, proves nothing
   * yet: the step's verify looks at the graph. */
  gboolean ok = ask->tolerant || (job_status_reached (status, ask->wanted) && words == NULL) ||
                (ask->wanted == JOB_CONCLUDED && status == JOB_NULL);
  if (ok)
    lane_next (lane);
  else
    lane_failed (lane, lane_job_failure (job, ask->wanted, status, words));
}

static void
wait_for_job (Lane *lane)
{
  Ask *ask = lane_ask (lane);
  gboolean again = ask->insists && !lane->asked_again;
  lane->waiting_for = ask->job;
  job_watch_wait (lane->runner->watch, ask->job, again ? JOB_PENDING : ask->wanted, on_job, lane);
}

/* ---- QMP ------------------------------------------------------------------------------------- */

/* Kept, should it turn out to matter. */
void
lane_note_refusal (Lane *lane, const GError *error)
{
  Runner *runner = lane->runner;
  const char *words = rechain_error_get_cause (error);
  g_free (runner->refusal);
  runner->refusal = g_strdup (words);
  g_autofree char *text =
      g_strdup_printf ("%s is refused%s%s", error->message, words ? ": " : "", words ? words : "");
  runner_note (runner, lane->disk, "note", text);
}

static void
on_reply (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Lane *lane = data;
  g_autoptr (Runner) runner = lane->runner; /* the reference that the command held */
  if (lane_is_stale (lane))
    return;
  Ask *ask = lane_ask (lane);
  GError *unwanted = NULL;
  if (error != NULL && ask->tolerant)
    lane_note_refusal (lane, error);
  /* A mirror that is left in PENDING keeps the guest's writes waiting. */
  if (error != NULL && ask->insists && !lane->was_refused && !runner->lost) {
    lane->was_refused = TRUE;
    send (lane);
    return;
  }
  gboolean noisy =
      ask->silent_reply && ret != NULL &&
      (!json_object_is_type (ret, json_type_string) || json_object_get_string_len (ret) > 0);
  if (noisy) {
    GError *said = NULL;
    g_autofree char *words = g_strdup (json_object_get_string (ret));
    fail (&said, FAILED, "%s", ask->command);
    because (&said, "%s", g_strstrip (words));
    lane_failed (lane, said);
  } else if (error != NULL && (!ask->tolerant || runner->lost ||
                               g_error_matches (error, RECHAIN_ERROR, UNREACHABLE)))
    lane_failed (lane, g_error_copy (error));
  else if (error == NULL && ask->answered != NULL && !ask->answered (runner->op, ret, &unwanted))
    lane_failed (lane, unwanted);
  else if (ask->job != NULL && error == NULL) /* what was refused will not happen */
    wait_for_job (lane);
  else
    lane_next (lane);
}

void
lane_send_to_nobody (Lane *lane)
{
  GError *error = NULL;
  if (lane_ask (lane)->tolerant)
    lane_next (lane);
  else {
    fail (&error, FAILED, "%s: there is no qemu-storage-daemon", lane_ask (lane)->command);
    lane_failed (lane, error);
  }
}

static void
send (Lane *lane)
{
  Ask *ask = lane_ask (lane);
  if (lane->runner->client == NULL) {
    lane_send_to_nobody (lane);
    return;
  }
  runner_ref (lane->runner);
  qmp_client_execute (lane->runner->client, ask->command,
                      ask->arguments ? json_dup (ask->arguments) : NULL, 0, on_reply, lane);
}

/* ---- the guest agent ------------------------------------------------------------------------- */

static void
ask_guest (Lane *lane);

static void
on_agent_reply (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  Lane *lane = data;
  Runner *runner = lane->runner;
  Ask *ask = lane_ask (lane);
  gboolean silent = g_error_matches (error, RECHAIN_ERROR, UNREACHABLE);
  if (silent && ask->patient && !lane->asked_again) {
    lane->asked_again = TRUE;
    ask_guest (lane);
    return;
  }
  if (error != NULL && ask->tolerant)
    lane_note_refusal (lane, error);
  if (ask->heard != NULL && (error == NULL || ask->tolerant))
    ask->heard (runner->op, ret, qmp_agent_get_sent_us (agent));
  if (error != NULL && !ask->tolerant)
    lane_failed (lane, g_error_copy (error));
  else
    lane_next (lane);
}

/* The agent ends with the runner, and then no reply comes. */
static void
ask_guest (Lane *lane)
{
  Ask *ask = lane_ask (lane);
  GError *error = NULL;
  QmpAgent *agent = runner_agent (lane->runner, &error);
  if (agent == NULL)
    lane_failed (lane, error);
  else
    qmp_agent_execute (agent, ask->agent, ask->arguments ? json_dup (ask->arguments) : NULL,
                       ask->agent_ms, on_agent_reply, lane);
}

/* ---- qemu-img -------------------------------------------------------------------------------- */

static void
on_image (const char *out, const GError *error, gpointer data)
{
  Lane *lane = data;
  g_autoptr (Runner) runner = lane->runner;
  lane->image = NULL;
  if (lane_is_stale (lane))
    return;
  gboolean tolerated = error != NULL && lane_ask (lane)->tolerant && lane->error == NULL;
  if (tolerated)
    lane_note_refusal (lane, error);
  GError *bad = error != NULL && !tolerated ? g_error_copy (error) : NULL;
  AskTold told = lane_ask (lane)->told;
  if (error == NULL && told != NULL && lane->error == NULL)
    told (runner->op, lane->disk, out, &bad);
  if (bad != NULL)
    lane_failed (lane, bad);
  else
    lane_next (lane);
}

/* Offline there is no job to count bytes: the share of what the plan expects. */
static void
on_image_progress (guint share, gpointer data)
{
  Lane *lane = data;
  if (lane_is_stale (lane) || lane->disk == NULL || !op_is_offline (lane->runner->op))
    return;
  lane->disk->total = lane->disk->needed;
  lane->disk->current = (guint64)((double)lane->disk->total * share / 10000);
  runner_changed (lane->runner);
}

/* What programs of this operation that live on keep locked; full. */
static char *
lane_busy_path (Lane *lane)
{
  Runner *runner = lane->runner;
  return journal_run_path (runner->state_dir, runner->op->id, ".busy");
}

static void
run (Lane *lane)
{
  Ask *ask = lane_ask (lane);
  g_autofree char *busy = lane_busy_path (lane);
  const ImageMore more = {.busy = ask->lives_on ? busy : NULL,
                          .from = ask->from,
                          .into = ask->into,
                          .fills = ask->fills,
                          .on_progress = ask->watched ? on_image_progress : NULL,
                          .most_exit = ask->most_exit};
  ImageFlags flags = (ask->silent_program ? IMAGE_STDERR_FAILS : IMAGE_DEFAULT) |
                     (ask->lives_on ? IMAGE_LIVES_ON : IMAGE_DEFAULT);
  runner_ref (lane->runner);
  lane->image = image_run_more ((const char *const *)ask->argv, flags, &more, on_image, lane);
}

/* ---- work of our own ------------------------------------------------------------------------- */

static void
on_worked (const GError *error, gpointer data)
{
  Lane *lane = data;
  g_autoptr (Runner) runner = lane->runner;
  lane->work = NULL;
  if (lane_is_stale (lane))
    return;
  if (error != NULL)
    lane_failed (lane, g_error_copy (error));
  else
    lane_next (lane);
}

static void
on_work_changed (gpointer data)
{
  runner_changed (((Lane *)data)->runner);
}

static void
work (Lane *lane)
{
  Runner *runner = runner_ref (lane->runner);
  g_autofree char *busy = lane_busy_path (lane);
  WorkHost host = {.done = on_worked,
                   .changed = on_work_changed,
                   .data = lane,
                   .client = runner->client,
                   .busy = busy};
  lane->work = lane_ask (lane)->work (runner->op, lane->disk, &host);
}

/* ---- local acts ------------------------------------------------------------------------------ */

/* What a local act found out (the identity of a file, that the guest is held) is durable before the
 * next ask. */
static void
act (Lane *lane)
{
  Runner *runner = lane->runner;
  Ask *ask = lane_ask (lane);
  GError *error = NULL;
  if (ask->local (runner->op, lane->disk, &error) &&
      (ask->no_facts || journal_write (runner->journal, runner->op, &error)))
    lane_next (lane);
  else
    lane_failed (lane, error);
}

static void
act_on_record (Lane *lane)
{
  GError *error = NULL;
  if (lane_ask (lane)->record (lane->runner->journal, lane->runner->op, &error))
    lane_next (lane);
  else
    lane_failed (lane, error);
}

/* ---- the ask --------------------------------------------------------------------------------- */

void
lane_perform (Lane *lane)
{
  Ask *ask = lane_ask (lane);
  if (ask->calm)
    lane_ask_calm (lane);
  else if (ask->ends_engine)
    engine_quit (lane);
  else if (ask->command != NULL)
    send (lane);
  else if (ask->agent != NULL)
    ask_guest (lane);
  else if (ask->starts_engine)
    engine_start (lane);
  else if (ask->argv != NULL)
    run (lane);
  else if (ask->local != NULL)
    act (lane);
  else if (ask->record != NULL)
    act_on_record (lane);
  else if (ask->work != NULL)
    work (lane);
  else if (ask->job != NULL)
    wait_for_job (lane);
  else
    lane_next (lane);
}
