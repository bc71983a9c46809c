/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/watch.h"

#include "src/common/source.h"

typedef struct {
  char *job;
  JobStatus wanted;
  JobReached callback;
  gpointer data;
} Wait;

struct _JobWatch {
  QmpClient *client;
  GPtrArray *waits; /* Wait* */
  guint listener;
  guint looking; /* number of the query in flight, 0 = none */
  guint looks;
  gboolean again; /* something happened while a query was in flight */
  GSource *timer;
  guint progress_ms;
  JobProgress progress;
  gpointer progress_data;
  gint refs;
};

static void
look (JobWatch *watch);

static void
wait_free (gpointer data)
{
  Wait *wait = data;
  g_free (wait->job);
  g_free (wait);
}

static void
watch_unref (JobWatch *watch)
{
  if (--watch->refs > 0)
    return;
  g_ptr_array_unref (watch->waits);
  qmp_client_unref (watch->client);
  g_free (watch);
}

static Json *
find_job (Json *jobs, const char *id)
{
  for (gsize i = 0; i < json_length (jobs); i++)
    if (g_strcmp0 (json_get_str (json_at (jobs, i), "id"), id) == 0)
      return json_at (jobs, i);
  return NULL;
}

static void
judge (JobWatch *watch, Json *jobs)
{
  /* Callbacks may add and cancel waits: first take those that are decided out of the list. */
  g_autoptr (GPtrArray) decided = g_ptr_array_new_with_free_func (wait_free);
  for (guint i = 0; i < watch->waits->len;) {
    Wait *wait = watch->waits->pdata[i];
    Json *job = find_job (jobs, wait->job);
    JobStatus status = job ? job_status_parse (json_get_str (job, "status")) : JOB_NULL;
    if (job != NULL && watch->progress != NULL)
      watch->progress (wait->job, status, (guint64)json_get_int (job, "current-progress"),
                       (guint64)json_get_int (job, "total-progress"), watch->progress_data);
    if (job_status_reached (status, wait->wanted) || job_status_is_over (status))
      g_ptr_array_add (decided, g_ptr_array_steal_index (watch->waits, i));
    else
      i++;
  }
  for (guint i = 0; i < decided->len && watch->listener != 0; i++) {
    Wait *wait = decided->pdata[i];
    Json *job = find_job (jobs, wait->job);
    wait->callback (wait->job, job ? job_status_parse (json_get_str (job, "status")) : JOB_NULL,
                    json_get_str (job, "error"), wait->data);
  }
}

static void
on_jobs (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  JobWatch *watch = data;
  watch->looking = 0;
  /* A connection that ended is the business of whoever owns it; the watch just stays quiet. */
  if (watch->listener != 0 && error == NULL)
    judge (watch, ret);
  if (watch->listener != 0 && error == NULL && watch->again)
    look (watch);
  watch_unref (watch);
}

static void
look (JobWatch *watch)
{
  watch->again = watch->looking != 0;
  if (watch->looking != 0 || watch->waits->len == 0)
    return;
  watch->looking = ++watch->looks;
  watch->refs++;
  qmp_client_execute (watch->client, "query-jobs", NULL, 0, on_jobs, watch);
}

static void
on_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  look (data);
}

static gboolean
on_timer (gpointer data)
{
  look (data);
  return G_SOURCE_CONTINUE;
}

JobWatch *
job_watch_new (QmpClient *client)
{
  JobWatch *watch = g_new0 (JobWatch, 1);
  watch->refs = 1;
  watch->client = qmp_client_ref (client);
  watch->waits = g_ptr_array_new_with_free_func (wait_free);
  watch->listener = qmp_client_listen (client, "JOB_STATUS_CHANGE", on_event, watch);
  return watch;
}

void
job_watch_free (JobWatch *watch)
{
  if (watch == NULL)
    return;
  source_clear (&watch->timer);
  qmp_client_unlisten (watch->client, watch->listener);
  watch->listener = 0;
  g_ptr_array_set_size (watch->waits, 0);
  watch_unref (watch);
}

void
job_watch_wait (JobWatch *watch, const char *job, JobStatus wanted, JobReached callback,
                gpointer data)
{
  Wait *wait = g_new0 (Wait, 1);
  *wait = (Wait){.job = g_strdup (job), .wanted = wanted, .callback = callback, .data = data};
  g_ptr_array_add (watch->waits, wait);
  look (watch);
}

void
job_watch_cancel (JobWatch *watch, const char *job)
{
  for (guint i = watch->waits->len; i-- > 0;)
    if (g_str_equal (((Wait *)watch->waits->pdata[i])->job, job))
      g_ptr_array_remove_index (watch->waits, i);
}

void
job_watch_set_progress (JobWatch *watch, guint ms, JobProgress callback, gpointer data)
{
  source_clear (&watch->timer);
  watch->progress = callback;
  watch->progress_data = data;
  if (ms == 0)
    return;
  source_after (&watch->timer, ms, on_timer, watch);
}
