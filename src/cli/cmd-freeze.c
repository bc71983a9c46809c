/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Freezing and thawing the guest's filesystems: quiesce, thaw. */
#include "src/cli/print.h"
#include "src/cli/wait.h"

static void
show_frozen (Cli *cli, Json *document, GString *out)
{
  gint64 n = json_get_int (document, "filesystems");
  const char *state = json_get_str (document, "state");
  if (json_get_bool (document, "changed"))
    text_line (out, "%" G_GINT64_FORMAT " filesystem%s %s", n, n == 1 ? "" : "s", state);
  else
    text_line (out, "nothing to do: the guest's filesystems are %s already", state);
}

static const char *
needed_agent (Cli *cli, GError **error)
{
  const char *agent = cli_agent (cli, cli->words[0], error);
  if (agent != NULL || (error != NULL && *error != NULL))
    return agent;
  fail (error, USAGE, "no guest agent of '%s' is known", cli->words[0]);
  hint (error, "add --agent ADDRESS, or agent=ADDRESS to [vm NAME] of the configuration");
  return NULL;
}

gboolean
run_quiesce (Cli *cli, GError **error)
{
  const char *agent = needed_agent (cli, error);
  const char *limit = args_value (&cli->args, OPT_MAX_FREEZE);
  guint64 ms = 0;
  if (agent == NULL)
    return FALSE;
  if (limit != NULL && !parse_duration (limit, &ms, error))
    return prefix (error, "option '--max-freeze'");
  g_autoptr (RechainVm) vm = cli_vm (cli, cli->words[0], error);
  if (vm == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_vm_quiesce_async (vm, agent, ms, wait_cancellable (wait), wait_done, wait);
  g_autofree char *document = rechain_vm_quiesce_finish (vm, wait_run (wait), error);
  if (document == NULL)
    return FALSE;
  note (cli, "the guest's writes stand still until: rechain thaw %s", cli->words[0]);
  return out_either (cli, document, show_frozen, error);
}

gboolean
run_thaw (Cli *cli, GError **error)
{
  const char *agent = needed_agent (cli, error);
  g_autoptr (RechainVm) vm = agent ? cli_vm (cli, cli->words[0], error) : NULL;
  if (vm == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_vm_thaw_async (vm, agent, wait_cancellable (wait), wait_done, wait);
  g_autofree char *document = rechain_vm_thaw_finish (vm, wait_run (wait), error);
  return document != NULL && out_either (cli, document, show_frozen, error);
}
