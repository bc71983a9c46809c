/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's jobs, ours and foreign: job list, show, wait, cancel, pause, resume, speed. */
#include "src/cli/show.h"
#include "src/cli/wait.h"

#include <stdio.h>

gboolean
run_job_list (Cli *cli, GError **error)
{
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], error);
  g_autofree char *list = vm ? rechain_vm_jobs_to_json (vm, NULL, error) : NULL;
  return list != NULL && out_either (cli, list, show_jobs, error);
}

gboolean
run_job_show (Cli *cli, GError **error)
{
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], error);
  g_autofree char *list = vm ? rechain_vm_jobs_to_json (vm, cli->words[1], error) : NULL;
  return list != NULL && out_either (cli, list, show_job, error);
}

/* ---- after a verb ---------------------------------------------------------------------------- */

/* The job as it is now; an empty list where it is gone. */
static char *
job_document (RechainVm *vm, const char *job)
{
  g_autofree char *list =
      rechain_vm_look (vm, NULL, NULL) ? rechain_vm_jobs_to_json (vm, job, NULL) : NULL;
  if (list != NULL)
    return g_steal_pointer (&list);
  g_autoptr (Json) empty =
      json_make ("schema", json_str ("rechain.job-list/1"), "jobs", json_object_new_array (), NULL);
  return json_line (empty);
}

static gboolean
say_job (Cli *cli, RechainVm *vm, const char *job, const char *words, GError **error)
{
  if (cli->output == OUTPUT_JSON) {
    g_autofree char *document = job_document (vm, job);
    return out_document (cli, document, error);
  }
  g_autoptr (GString) out = g_string_new (NULL);
  text_line (out, "job '%s' %s", job, words);
  return cli->quiet || out_text (cli, out->str, error);
}

/* ---- verbs ----------------------------------------------------------------------------------- */

static gboolean
command_job (Cli *cli, RechainJobVerb verb, guint64 speed, const char *words, GError **error)
{
  const char *job = cli->words[1];
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], error);
  if (vm == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_vm_job_command_async (vm, verb, job, speed, args_has (&cli->args, OPT_FOREIGN),
                                wait_cancellable (wait), wait_done, wait);
  if (!rechain_vm_job_command_finish (vm, wait_run (wait), error))
    return wait_explain (wait, job, error);
  return say_job (cli, vm, job, words, error);
}

gboolean
run_job_cancel (Cli *cli, GError **error)
{
  return command_job (cli, RECHAIN_JOB_CANCEL, 0, "is cancelled", error);
}

gboolean
run_job_pause (Cli *cli, GError **error)
{
  return command_job (cli, RECHAIN_JOB_PAUSE, 0, "is paused", error);
}

gboolean
run_job_resume (Cli *cli, GError **error)
{
  return command_job (cli, RECHAIN_JOB_RESUME, 0, "goes on", error);
}

gboolean
run_job_speed (Cli *cli, GError **error)
{
  guint64 speed = 0;
  if (!parse_size (cli->words[2], &speed, error))
    return FALSE;
  g_autofree char *size = format_size (speed);
  g_autofree char *words =
      speed ? g_strdup_printf ("is limited to %s/s", size) : g_strdup ("has no speed limit");
  return command_job (cli, RECHAIN_JOB_SPEED, speed, words, error);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void
on_status (gpointer data)
{
  Cli *cli = data;
  say (cli, "waiting for job '%s'", cli->words[1]);
}

static gboolean
wait_timeout (Cli *cli, guint64 *ret_ms, GError **error)
{
  const char *text = args_value (&cli->args, OPT_TIMEOUT);
  *ret_ms = 0;
  return text == NULL || parse_duration (text, ret_ms, error) ||
         prefix (error, "option '--timeout'");
}

gboolean
run_job_wait (Cli *cli, GError **error)
{
  const char *job = cli->words[1];
  WaitSpec spec = {.on_status = on_status, .data = cli};
  g_autoptr (RechainVm) vm =
      wait_timeout (cli, &spec.timeout_ms, error) ? cli_look (cli, cli->words[0], error) : NULL;
  if (vm == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&spec);
  rechain_vm_wait_job_async (vm, job, wait_cancellable (wait), wait_done, wait);
  if (rechain_vm_wait_job_finish (vm, wait_run (wait), error))
    return say_job (cli, vm, job, "is done", error);
  wait_explain (wait, job, error);
  return wait_timed_out (wait) ? hint (error, "the job goes on") : FALSE;
}
