/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* doctor: what is wrong, and --repair. */
#include "src/cli/operate.h"
#include "src/cli/show.h"
#include "src/cli/wait.h"

#include <string.h>

static const char *
path_of (const char *address)
{
  return g_str_has_prefix (address, "unix:") ? address + strlen ("unix:") : address;
}

/* The configured VM that @word means, by its name or its address; nullable. */
static ConfigVm *
configured (Config *config, const char *word)
{
  for (guint i = 0; i < config->vms->len; i++) {
    ConfigVm *vm = config->vms->pdata[i];
    if (strcmp (vm->name, word) == 0 ||
        (vm->qmp != NULL && strcmp (path_of (vm->qmp), path_of (word)) == 0))
      return vm;
  }
  return NULL;
}

/* *ret_name: what the doctor calls the VM of the command line; NULL: all are meant. */
static RechainDoctor *
make_doctor (Cli *cli, const char **ret_name, GError **error)
{
  Config *config = cli_config (cli, error);
  const char *word = cli->n_words > 0 ? cli->words[0] : NULL;
  if (config == NULL || (word != NULL && cli_address (cli, word, error) == NULL))
    return NULL;
  g_autoptr (RechainDoctor) doctor = rechain_doctor_new (cli_controller (cli));
  ConfigVm *meant = word ? configured (config, word) : NULL;
  *ret_name = meant ? meant->name : word;
  rechain_doctor_set_directories (doctor, (const char *const *)config->allow);
  for (guint i = 0; i < config->vms->len; i++) {
    ConfigVm *vm = config->vms->pdata[i];
    const char *agent = vm == meant ? cli_agent (cli, vm->name, error) : vm->agent;
    if (vm->qmp != NULL && !rechain_doctor_add_vm (doctor, vm->name, vm->qmp, agent, error))
      return NULL;
  }
  if (word != NULL && meant == NULL &&
      !rechain_doctor_add_vm (doctor, word, word, cli_agent (cli, word, error), error))
    return NULL;
  return g_steal_pointer (&doctor);
}

/* Full. */
static Json *
examine (RechainDoctor *doctor, const char *name, GError **error)
{
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_doctor_examine_async (doctor, name, wait_cancellable (wait), wait_done, wait);
  g_autofree char *text = rechain_doctor_examine_finish (doctor, wait_run (wait), NULL, error);
  if (text == NULL)
    wait_explain (wait, "examining", error);
  return text ? json_parse (text, -1) : NULL;
}

/* ---- repair ---------------------------------------------------------------------------------- */

/* Appends what became of each. FALSE: the journal cannot be read. */
static gboolean
recover_first (Cli *cli, Json *repairs, GError **error)
{
  RechainController *controller = cli_controller (cli);
  const char *vm = cli->n_words > 0 ? cli_address (cli, cli->words[0], error) : NULL;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_controller_recover_async (controller, vm, NULL, RECHAIN_DIRECTION_DEFAULT,
                                    wait_cancellable (wait), wait_done, wait);
  g_autofree char *text =
      rechain_controller_recover_finish (controller, wait_run (wait), NULL, error);
  g_autoptr (Json) list = text ? json_parse (text, -1) : NULL;
  Json *operations = json_get (list, "operations");
  for (gsize i = 0; i < json_length (operations); i++)
    json_append (repairs, json_dup (json_at (operations, i)));
  return text != NULL;
}

static void
run_repair (Cli *cli, RechainOperation *operation, Json *repairs)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_operation_run_async (operation, wait_cancellable (wait), wait_done, wait);
  if (!rechain_operation_run_finish (operation, wait_run (wait), &failure)) {
    note (cli, "%s", failure->message);
    if (error_code (failure) == STUCK)
      cli->exit_code = exit_code_of (STUCK);
  }
  g_autofree char *text = rechain_operation_to_json (operation);
  json_append (repairs, json_parse (text, -1));
}

/* Performs what can be repaired, or only plans it; appends the documents. */
static void
repair (Cli *cli, RechainDoctor *doctor, Json *documents)
{
  g_autoptr (GPtrArray) operations = rechain_doctor_plan_repairs (doctor);
  for (guint i = 0; i < operations->len; i++) {
    g_autofree char *plan = rechain_operation_plan_to_json (operations->pdata[i]);
    if (args_has (&cli->args, OPT_DRY_RUN))
      json_append (documents, json_parse (plan, -1));
    else
      run_repair (cli, operations->pdata[i], documents);
  }
}

/* What is left is found by looking again. Full. */
static Json *
examine_and_repair (Cli *cli, RechainDoctor *doctor, const char *name, GError **error)
{
  gboolean dry = args_has (&cli->args, OPT_DRY_RUN);
  g_autoptr (Json) documents = json_array ();
  if (!dry && !recover_first (cli, documents, error))
    return NULL;
  Json *found = examine (doctor, name, error);
  if (found == NULL)
    return NULL;
  gsize before = json_length (documents);
  repair (cli, doctor, documents);
  if (!dry && json_length (documents) > before) {
    json_clear (found);
    found = examine (doctor, name, error);
  }
  if (found != NULL)
    json_set (found, dry ? "plans" : "repairs", json_dup (documents));
  return found;
}

gboolean
run_doctor (Cli *cli, GError **error)
{
  const char *name = NULL;
  g_autoptr (RechainDoctor) doctor = make_doctor (cli, &name, error);
  if (doctor == NULL)
    return FALSE;
  g_autoptr (Json) found = args_has (&cli->args, OPT_REPAIR)
                               ? examine_and_repair (cli, doctor, name, error)
                               : examine (doctor, name, error);
  if (found == NULL)
    return FALSE;
  if (cli->exit_code == 0 && json_length (json_get (found, "findings")) > 0)
    cli->exit_code = exit_code_of (SAID_NO);
  g_autofree char *text = json_pretty (found);
  return out_either (cli, text, show_doctor, error);
}
