/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at the world: jobs of ours that concluded are settled first, a refused look is asked
 * again. */
#include "jobs/run-private.h"

#define LOOK_TRIES 4

typedef struct {
  Runner *runner;
  Looked then;
} Look;

static gboolean
look_later (gpointer data)
{
  Runner *runner = data;
  runner_look_then (runner, runner->look_again);
  return G_SOURCE_REMOVE;
}

static void
on_world (World *world, const GError *error, gpointer data)
{
  g_autofree Look *look = data;
  g_autoptr (Runner) runner = look->runner;
  if (runner->ended || runner->detached) {
    world_free (world);
    return;
  }
  g_clear_pointer (&runner->world, world_free);
  runner->world = world;
  if (world != NULL) {
    runner->looks_failed = 0;
    look->then (runner, world);
  } else if (runner->lost || error == NULL || g_error_matches (error, RECHAIN_ERROR, UNREACHABLE)) {
    runner->lost = TRUE;
    link_again (runner);
  } else if (++runner->looks_failed < LOOK_TRIES) {
    runner->look_again = look->then;
    runner_after (runner, 100u << runner->looks_failed, look_later);
  } else {
    GError *copy = g_error_copy (error);
    prefix (&copy, "look at QEMU");
    runner_get_stuck (runner, copy);
  }
}

static gboolean
is_our_job (Op *op, const char *id)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (g_strcmp0 (id, op_disk (op, i)->job) == 0 || g_strcmp0 (id, op_disk (op, i)->fold_job) == 0)
      return TRUE;
  return FALSE;
}

/* A job of ours that concluded outside the normal course (it failed, or we were interrupted): its
 * outcome is recorded, then it is dismissed, and only then is QEMU asked for its nodes, since 7.2
 * dies of that question otherwise. TRUE: there was one. */
static gboolean
note_concluded (Runner *runner, Json *jobs)
{
  guint n = 0;
  for (gsize i = 0; i < json_length (jobs); i++) {
    Json *job = json_at (jobs, i);
    const char *id = json_get_str (job, "id"), *words = json_get_str (job, "error");
    if (!is_our_job (runner->op, id) || g_strcmp0 (json_get_str (job, "status"), "concluded") != 0)
      continue;
    g_autofree char *detail =
        g_strdup_printf ("job %s concluded: %s", id, words ? words : "no error");
    runner_note (runner, NULL, "note", detail);
    n++;
  }
  return n > 0;
}

static void
on_jobs_before_look (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Look *look = data;
  Runner *runner = look->runner;
  GError *unwritten = NULL;
  if (runner->ended || runner->detached || (error != NULL && runner->lost)) {
    on_world (NULL, error, look);
    return;
  }
  if (note_concluded (runner, ret) && !journal_write (runner->journal, runner->op, &unwritten)) {
    g_autoptr (Runner) last = runner;
    g_free (look);
    runner_journal_failed (runner, unwritten);
    return;
  }
  for (gsize i = 0; i < json_length (ret); i++) {
    Json *job = json_at (ret, i);
    if (is_our_job (runner->op, json_get_str (job, "id")) &&
        g_strcmp0 (json_get_str (job, "status"), "concluded") == 0)
      qmp_client_execute (client, "job-dismiss",
                          json_make ("id", json_str (json_get_str (job, "id")), NULL), 0, NULL,
                          NULL);
  }
  world_query (client, runner->features, on_world, look);
}

void
runner_look_then (Runner *runner, Looked then)
{
  if (runner->lost) {
    link_again (runner);
    return;
  }
  if ((runner->fresh && runner->world != NULL) || op_is_offline (runner->op)) {
    then (runner, runner->world);
    return;
  }
  Look *look = g_new0 (Look, 1);
  *look = (Look){.runner = runner_ref (runner), .then = then};
  qmp_client_execute (runner->client, "query-jobs", NULL, 0, on_jobs_before_look, look);
}
