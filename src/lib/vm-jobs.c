/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The jobs of a VM, whoever started them: told, changed, waited for. */
#include "src/lib/lib-private.h"

#include "jobs/watch.h"
#include "src/common/source.h"

static ChainJob *
find_job (RechainVm *vm, const char *job, GError **error)
{
  ChainJob *found = world_job (rechain_vm_get_link (vm)->world, job);
  if (found != NULL)
    return found;
  g_autoptr (GString) ids = g_string_new (NULL);
  GPtrArray *jobs = world_jobs (rechain_vm_get_link (vm)->world);
  for (guint i = 0; i < jobs->len; i++)
    g_string_append_printf (ids, "%s%s", i ? ", " : "", ((ChainJob *)jobs->pdata[i])->id);
  fail (error, NOT_FOUND, "there is no job '%s'", job);
  hint (error, "jobs of this VM: %s", jobs->len ? ids->str : "none");
  return NULL;
}

char *
rechain_vm_jobs_to_json (RechainVm *vm, const char *job, GError **error)
{
  g_return_val_if_fail (rechain_vm_get_link (vm)->world != NULL, NULL);
  ChainJob *only = job ? find_job (vm, job, error) : NULL;
  if (job != NULL && only == NULL)
    return NULL;
  return print_document (document_jobs (rechain_vm_get_link (vm)->world, only));
}

typedef struct {
  RechainJobVerb verb;
  char *job;
  guint64 speed;
  gboolean foreign;
  JobWatch *watch;
} JobCall;

static void
job_call_free (gpointer data)
{
  JobCall *call = data;
  g_clear_pointer (&call->watch, job_watch_free);
  g_free (call->job);
  g_free (call);
}

static const struct {
  const char *command, *key; /* of QMP; the argument that names the job */
  const char *says;
} verbs[] = {
    [RECHAIN_JOB_CANCEL] = {"job-cancel", "id", "cancel"},
    [RECHAIN_JOB_PAUSE] = {"job-pause", "id", "pause"},
    [RECHAIN_JOB_RESUME] = {"job-resume", "id", "resume"},
    [RECHAIN_JOB_SPEED] = {"block-job-set-speed", "device", "change the speed of"},
};

static void
on_verb_done (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  JobCall *call = g_task_get_task_data (task);
  if (error == NULL) {
    g_task_return_boolean (task, TRUE);
    return;
  }
  GError *copy = g_error_copy (error);
  if (copy->code == (int)FAILED)
    recode (&copy, REFUSED);
  prefix (&copy, "%s job '%s'", verbs[call->verb].says, call->job);
  g_task_return_error (task, copy);
}

static void
on_looked_for_job (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = RECHAIN_VM (source);
  JobCall *call = g_task_get_task_data (task);
  GError *error = NULL;
  ChainJob *job =
      rechain_vm_look_finish (vm, result, &error) ? find_job (vm, call->job, &error) : NULL;
  if (job != NULL && !job->ours && !call->foreign) {
    fail (&error, REFUSED, "job '%s' is not one of rechain's", call->job);
    hint (&error, "--foreign if you mean it");
  }
  if (error != NULL) {
    g_task_return_error (task, error);
    return;
  }
  Json *arguments = json_make (
      verbs[call->verb].key, json_str (call->job), "speed",
      call->verb == RECHAIN_JOB_SPEED ? json_int ((gint64)MIN (call->speed, G_MAXINT64)) : NULL,
      NULL);
  qmp_client_execute (rechain_vm_get_link (vm)->client, verbs[call->verb].command, arguments, 0,
                      on_verb_done, g_steal_pointer (&task));
}

static GTask *
job_task (RechainVm *vm, const char *job, GCancellable *cancellable, GAsyncReadyCallback callback,
          gpointer user_data)
{
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  JobCall *call = g_new0 (JobCall, 1);
  call->job = g_strdup (job);
  g_task_set_task_data (task, call, job_call_free);
  return task;
}

void
rechain_vm_job_command_async (RechainVm *vm, RechainJobVerb verb, const char *job, guint64 speed,
                              gboolean foreign, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail ((guint)verb < G_N_ELEMENTS (verbs) && job != NULL);
  GTask *task = job_task (vm, job, cancellable, callback, user_data);
  JobCall *call = g_task_get_task_data (task);
  call->verb = verb;
  call->speed = speed;
  call->foreign = foreign;
  rechain_vm_look_async (vm, cancellable, on_looked_for_job, task);
}

gboolean
rechain_vm_job_command_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
rechain_vm_job_command (RechainVm *vm, RechainJobVerb verb, const char *job, guint64 speed,
                        gboolean foreign, GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_vm_job_command_async (vm, verb, job, speed, foreign, cancellable, waiting_done, &waiting);
  return rechain_vm_job_command_finish (vm, waiting_result (&waiting), error);
}

/* ---- waiting for a job ----------------------------------------------------------------------- */

typedef struct {
  GTask *task;
  guint closed_listener, event_listener;
  QmpClient *client;
  gboolean completed; /* BLOCK_JOB_COMPLETED was seen, with QEMU's words if it failed */
  char *words;
  GSource *cancel_source;
} JobWait;

static void
job_wait_end (JobWait *wait, GError *take_error)
{
  JobCall *call = g_task_get_task_data (wait->task);
  g_clear_pointer (&call->watch, job_watch_free);
  qmp_client_unlisten (wait->client, wait->closed_listener);
  qmp_client_unlisten (wait->client, wait->event_listener);
  g_free (wait->words);
  source_clear (&wait->cancel_source);
  if (take_error != NULL)
    g_task_return_error (wait->task, take_error);
  else
    g_task_return_boolean (wait->task, TRUE);
  g_object_unref (wait->task);
  qmp_client_unref (wait->client);
  g_free (wait);
}

/* The record of a job may be gone before it can be read; what was said of its end is not. */
static void
on_job_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  JobWait *wait = data;
  JobCall *call = g_task_get_task_data (wait->task);
  Json *what = json_get (event, "data");
  gboolean cancelled = g_str_equal (name, "BLOCK_JOB_CANCELLED");
  if ((!cancelled && !g_str_equal (name, "BLOCK_JOB_COMPLETED")) ||
      g_strcmp0 (json_get_str (what, "device"), call->job) != 0)
    return;
  wait->completed = TRUE;
  g_free (wait->words);
  wait->words = g_strdup (cancelled ? "Operation canceled" : json_get_str (what, "error"));
}

static void
on_job_over (const char *job, JobStatus status, const char *words, gpointer data)
{
  JobWait *wait = data;
  GError *error = NULL;
  if (status == JOB_NULL && wait->words != NULL)
    words = wait->words;
  if (words != NULL) {
    fail (&error, FAILED, "job '%s' failed", job);
    because (&error, "%s", words);
  } else if (status == JOB_NULL && !wait->completed) {
    fail (&error, FAILED, "job '%s' vanished without leaving a record, which is not success", job);
    hint (&error, "look at the chain: rechain chain");
  }
  job_wait_end (data, error);
}

static void
on_closed (QmpClient *client, QmpState state, gpointer data)
{
  JobWait *wait = data;
  if (state != QMP_CLOSED)
    return;
  /* A lent monitor goes away with its operation, right after the job. */
  if (wait->completed)
    on_job_over (((JobCall *)g_task_get_task_data (wait->task))->job, JOB_NULL, NULL, wait);
  else
    job_wait_end (wait, g_error_copy (qmp_client_get_error (client)));
}

static gboolean
on_cancelled (GCancellable *cancellable, gpointer data)
{
  JobWait *wait = data;
  GError *error = NULL;
  g_cancellable_set_error_if_cancelled (cancellable, &error);
  job_wait_end (wait, error);
  return G_SOURCE_REMOVE;
}

static void
on_looked_to_wait (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = RECHAIN_VM (source);
  JobCall *call = g_task_get_task_data (task);
  GCancellable *cancellable = g_task_get_cancellable (task);
  GError *error = NULL;
  if (!rechain_vm_look_finish (vm, result, &error) || find_job (vm, call->job, &error) == NULL) {
    g_task_return_error (task, error);
    return;
  }
  JobWait *wait = g_new0 (JobWait, 1);
  wait->task = g_steal_pointer (&task);
  wait->client = qmp_client_ref (rechain_vm_get_link (vm)->client);
  wait->closed_listener = qmp_client_watch_state (wait->client, on_closed, wait);
  wait->event_listener = qmp_client_listen (wait->client, NULL, on_job_event, wait);
  source_on_cancel (&wait->cancel_source, cancellable, on_cancelled, wait);
  call->watch = job_watch_new (wait->client);
  job_watch_wait (call->watch, call->job, JOB_CONCLUDED, on_job_over, wait);
}

void
rechain_vm_wait_job_async (RechainVm *vm, const char *job, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (job != NULL);
  rechain_vm_look_async (vm, cancellable, on_looked_to_wait,
                         job_task (vm, job, cancellable, callback, user_data));
}

gboolean
rechain_vm_wait_job_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
rechain_vm_wait_job (RechainVm *vm, const char *job, GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_vm_wait_job_async (vm, job, cancellable, waiting_done, &waiting);
  return rechain_vm_wait_job_finish (vm, waiting_result (&waiting), error);
}
