/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations in the journal: op list, show, wait, cancel; recover. */
#include "src/cli/operate.h"
#include "src/cli/show.h"
#include "src/cli/wait.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

gboolean
run_op_list (Cli *cli, GError **error)
{
  g_autofree char *list = rechain_controller_list_operations (cli_controller (cli), error);
  return list != NULL && out_either (cli, list, show_operations, error);
}

gboolean
run_op_show (Cli *cli, GError **error)
{
  g_autofree char *operation =
      rechain_controller_show_operation (cli_controller (cli), cli->words[0], error);
  return operation != NULL && out_either (cli, operation, show_operation_full, error);
}

/* ---- waiting for one ------------------------------------------------------------------------- */

static void
on_status (gpointer data)
{
  Cli *cli = data;
  say (cli, "waiting for operation %s", cli->words[0]);
}

static gboolean
print_operation (Cli *cli, const char *document, GError **error)
{
  return (cli->quiet && cli->output == OUTPUT_TEXT) ||
         out_either (cli, document, show_operation, error);
}

gboolean
run_op_wait (Cli *cli, GError **error)
{
  RechainController *controller = cli_controller (cli);
  const char *timeout = args_value (&cli->args, OPT_TIMEOUT);
  WaitSpec spec = {.on_status = on_status, .data = cli};
  if (timeout != NULL && !parse_duration (timeout, &spec.timeout_ms, error))
    return prefix (error, "option '--timeout'");
  g_autoptr (Wait) wait = wait_new (&spec);
  rechain_controller_wait_operation_async (controller, cli->words[0], wait_cancellable (wait),
                                           wait_done, wait);
  g_autofree char *document =
      rechain_controller_wait_operation_finish (controller, wait_run (wait), error);
  if (document == NULL) {
    wait_explain (wait, cli->words[0], error);
    return wait_timed_out (wait) ? hint (error, "the operation goes on") : FALSE;
  }
  g_autoptr (Json) json = json_parse (document, -1);
  cli->exit_code = exit_code_of_state (json);
  if (cli->exit_code == 8 && cli->output == OUTPUT_TEXT)
    note (cli, "its process is gone or it is stuck: 'rechain recover --op %s' settles it",
          cli->words[0]);
  return print_operation (cli, document, error);
}

/* ---- op undo --------------------------------------------------------------------------------- */

gboolean
run_op_undo (Cli *cli, GError **error)
{
  g_autofree char *vm = NULL;
  g_autoptr (RechainRequest) request =
      rechain_controller_undo_request (cli_controller (cli), cli->words[0], &vm, error);
  return request != NULL && operate (cli, vm, request, error);
}

/* ---- op cancel ------------------------------------------------------------------------------- */

/* Asked to be cancelled, it may have been past the pivot. */
static gboolean
judge_cancelled (Cli *cli, const char *document, GError **error)
{
  g_autoptr (Json) json = json_parse (document, -1);
  int code = exit_code_of_state (json);
  cli->exit_code = code == 7 ? 0 : code == 0 ? 4 : 8;
  if (code == 0)
    note (cli, "too late: the operation was past its pivot, and is done");
  return print_operation (cli, document, error);
}

gboolean
run_op_cancel (Cli *cli, GError **error)
{
  RechainController *controller = cli_controller (cli);
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){.on_status = on_status, .data = cli});
  rechain_controller_cancel_operation_async (controller, cli->words[0], wait_cancellable (wait),
                                             wait_done, wait);
  g_autofree char *document =
      rechain_controller_cancel_operation_finish (controller, wait_run (wait), error);
  if (document == NULL)
    return wait_explain (wait, cli->words[0], error);
  return judge_cancelled (cli, document, error);
}

/* ---- recover --------------------------------------------------------------------------------- */

typedef struct {
  Cli *cli;
  Wait *wait;
} Recovering;

static void
on_recover_interrupt (guint nth, gpointer data)
{
  Recovering *recovering = data;
  if (nth > 1)
    _exit (exit_code_of (STUCK));
  note (recovering->cli, "stopping after this step; 'rechain recover' can be run again");
  g_cancellable_cancel (wait_cancellable (recovering->wait));
}

static void
on_recover_status (gpointer data)
{
  say (((Recovering *)data)->cli, "recovering");
}

static gboolean
choose_direction (Cli *cli, RechainDirection *ret_direction, GError **error)
{
  gboolean undo = args_has (&cli->args, OPT_UNDO), finish = args_has (&cli->args, OPT_FINISH);
  *ret_direction = undo     ? RECHAIN_DIRECTION_UNDO
                   : finish ? RECHAIN_DIRECTION_FINISH
                            : RECHAIN_DIRECTION_DEFAULT;
  return !(undo && finish) || fail (error, USAGE, "--undo and --finish exclude each other");
}

static char *
recover (Cli *cli, const char *vm, RechainDirection direction, guint *ret_unsettled, GError **error)
{
  RechainController *controller = cli_controller (cli);
  Recovering recovering = {.cli = cli};
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){
      .on_interrupt = on_recover_interrupt, .on_status = on_recover_status, .data = &recovering});
  recovering.wait = wait;
  rechain_controller_recover_async (controller, vm, args_value (&cli->args, OPT_OP), direction,
                                    wait_cancellable (wait), wait_done, wait);
  char *list =
      rechain_controller_recover_finish (controller, wait_run (wait), ret_unsettled, error);
  if (list == NULL && g_cancellable_is_cancelled (wait_cancellable (wait)))
    recode (error, STUCK);
  return list;
}

gboolean
run_recover (Cli *cli, GError **error)
{
  RechainDirection direction;
  if (!choose_direction (cli, &direction, error))
    return FALSE;
  const char *vm = cli->n_words > 0 ? cli_address (cli, cli->words[0], error) : NULL;
  if (cli->n_words > 0 && vm == NULL)
    return FALSE;
  guint unsettled = 0;
  g_autofree char *list = recover (cli, vm, direction, &unsettled, error);
  if (list == NULL)
    return FALSE;
  cli->exit_code = unsettled > 0 ? exit_code_of (STUCK) : 0;
  if (!out_either (cli, list, show_recovered, error))
    return FALSE;
  if (unsettled == 0 || cli->output == OUTPUT_JSON)
    return TRUE;
  fail (error, STUCK, "%u %s not settled", unsettled,
        unsettled == 1 ? "operation is" : "operations are");
  return hint (error, "'rechain op show OP' says where each one stands; recover can be run again");
}
