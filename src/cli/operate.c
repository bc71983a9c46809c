/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/operate.h"
#include "src/cli/progress.h"
#include "src/cli/show.h"
#include "src/cli/wait.h"

#include <string.h>

/* ---- plan ------------------------------------------------------------------------------------ */

static RechainOperation *
make_plan (Cli *cli, RechainVm *vm, RechainRequest *request, GError **error)
{
  RechainController *controller = cli_controller (cli);
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  GCancellable *cancellable = wait_cancellable (wait);
  RechainOperation *operation;
  rechain_request_set_brief (request, !args_has (&cli->args, OPT_DRY_RUN));
  if (vm != NULL) {
    rechain_operation_plan_async (vm, request, cancellable, wait_done, wait);
    operation = rechain_operation_plan_finish (vm, wait_run (wait), error);
  } else {
    rechain_operation_plan_offline_async (controller, request, cancellable, wait_done, wait);
    operation = rechain_operation_plan_offline_finish (controller, wait_run (wait), error);
  }
  if (operation == NULL)
    wait_explain (wait, "planning", error);
  return operation;
}

/* ---- run ------------------------------------------------------------------------------------- */

typedef struct {
  Cli *cli;
  RechainOperation *operation;
  Progress *progress;
} Running;

static void
first_interrupt (Running *running)
{
  const char *id = rechain_operation_get_id (running->operation);
  if (rechain_operation_get_state (running->operation) == RECHAIN_STATE_FINISHING)
    note (running->cli,
          "the new chain stands already; finishing (interrupt again to leave "
          "operation %s to 'rechain recover')",
          id);
  else
    note (running->cli,
          "cancelling; everything is taken back (interrupt again to leave "
          "operation %s to 'rechain recover')",
          id);
  rechain_operation_cancel (running->operation);
}

static void
on_interrupt (guint nth, gpointer data)
{
  Running *running = data;
  progress_clear (running->progress);
  if (nth == 1)
    first_interrupt (running);
  else
    rechain_operation_detach (running->operation);
}

static void
on_status (gpointer data)
{
  progress_say (((Running *)data)->progress);
}

static void
on_tick (gpointer data)
{
  progress_tick (((Running *)data)->progress);
}

/* The source of a copy lies with whom this is done for. */
static void
on_feed_wanted (RechainOperation *operation, guint64 from, gpointer data)
{
  rechain_server_want_feed (((Cli *)data)->server, rechain_operation_get_id (operation), from);
}

static gboolean
run_plan (Cli *cli, RechainOperation *operation, GError **error)
{
  g_autoptr (Progress) progress = progress_new (cli, operation);
  Running running = {cli, operation, progress};
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){
      .on_interrupt = on_interrupt, .on_status = on_status, .on_tick = on_tick, .data = &running});
  if (cli->server != NULL)
    g_signal_connect (operation, "feed-wanted", G_CALLBACK (on_feed_wanted), cli);
  rechain_operation_run_async (operation, wait_cancellable (wait), wait_done, wait);
  return rechain_operation_run_finish (operation, wait_run (wait), error);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* It is done, be it told or not: no exit code of a failure is to say otherwise. */
static void
print_done (Cli *cli, RechainOperation *operation)
{
  if (cli->quiet && cli->output == OUTPUT_TEXT)
    return;
  g_autoptr (GError) error = NULL;
  g_autofree char *document = rechain_operation_to_json (operation);
  if (!out_either (cli, document, show_operation, &error))
    print_error (cli, error);
}

/* What to do is said wherever something is left to do. */
static void
hint_recover (RechainOperation *operation, GError **error)
{
  const char *id = rechain_operation_get_id (operation);
  if (error_code (*error) == STUCK && rechain_error_get_hint (*error) == NULL)
    hint (error, "'rechain recover --op %s' settles it, 'rechain op show %s' shows it", id, id);
}

/* An operation that had begun says itself what became of it; with -o json that is the document, and
 * for people the chain is worth a look where it is not the old one. */
static gboolean
print_failed (Cli *cli, RechainOperation *operation, GError *failure, GError **error)
{
  g_autofree char *document = rechain_operation_to_json (operation);
  if (cli->output == OUTPUT_JSON) {
    cli->exit_code = exit_code_of (error_code (failure));
    return out_document (cli, document, error);
  }
  if (error_code (failure) == STUCK && !cli->quiet)
    out_either (cli, document, show_operation, NULL);
  g_propagate_error (error, g_error_copy (failure));
  return FALSE;
}

static gboolean
perform (Cli *cli, RechainOperation *operation, GError **error)
{
  g_autoptr (GError) failure = NULL;
  if (run_plan (cli, operation, &failure)) {
    print_done (cli, operation);
    return TRUE;
  }
  hint_recover (operation, &failure);
  if (rechain_operation_get_state (operation) != RECHAIN_STATE_PLANNED)
    return print_failed (cli, operation, failure, error);
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

void
operate_notes (Cli *cli, RechainOperation *operation)
{
  g_autofree char *plan = rechain_operation_plan_to_json (operation);
  g_autoptr (Json) json = json_parse (plan, -1);
  Json *notes = json_get (json, "notes");
  for (gsize i = 0; i < json_length (notes); i++)
    note (cli, "%s", json_object_get_string (json_at (notes, i)));
}

gboolean
operate_planned (Cli *cli, RechainOperation *operation, GError **error)
{
  operate_notes (cli, operation);
  if (!args_has (&cli->args, OPT_DRY_RUN))
    return perform (cli, operation, error);
  g_autofree char *plan = rechain_operation_plan_to_json (operation);
  return out_either (cli, plan, show_plan, error);
}

gboolean
operate (Cli *cli, const char *name, RechainRequest *request, GError **error)
{
  g_autoptr (RechainVm) vm = name ? cli_vm (cli, name, error) : NULL;
  if (name != NULL && vm == NULL)
    return FALSE;
  g_autoptr (RechainOperation) operation = make_plan (cli, vm, request, error);
  return operation != NULL && operate_planned (cli, operation, error);
}

gboolean
bandwidth_wanted (Cli *cli, guint64 *ret_bytes, GError **error)
{
  Config *config = cli_config (cli, error);
  const char *text = args_value (&cli->args, OPT_BANDWIDTH);
  if (config == NULL)
    return FALSE;
  guint64 limit = config->bandwidth, wanted = limit;
  if (text != NULL && !parse_size (text, &wanted, error))
    return prefix (error, "option '--bandwidth'");
  if (limit > 0 && (wanted == 0 || wanted > limit)) {
    g_autofree char *rate = format_size (limit);
    note (cli, "--bandwidth is held to %s/s by the configuration", rate);
    wanted = limit;
  }
  *ret_bytes = wanted;
  return TRUE;
}

int
exit_code_of_state (Json *operation)
{
  const char *state = json_get_str (operation, "state");
  if (g_strcmp0 (state, "done") == 0)
    return 0;
  return g_strcmp0 (state, "undone") == 0 ? 7 : 8;
}
