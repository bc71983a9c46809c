/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/cli.h"
#include "src/cli/print.h"
#include "src/cli/wait.h"
#include "src/common/fs.h"
#include "src/common/xml.h"

#include <string.h>
#include <unistd.h>

#define MAX_DOCUMENT (64u << 20) /* bytes; XML has a limit of its own */

/* ---- how to speak ---------------------------------------------------------------------------- */

/* @words: NULL-terminated; the index of the one that is the value of @id, 0 where it was
 * not given. */
static gboolean
choose (Cli *cli, OptionId id, const char *const *words, int *ret_choice, GError **error)
{
  const char *value = args_value (&cli->args, id);
  *ret_choice = 0;
  for (int i = 0; value != NULL && words[i] != NULL; i++)
    if (strcmp (words[i], value) == 0) {
      *ret_choice = i;
      return TRUE;
    }
  if (value == NULL)
    return TRUE;
  g_autofree char *known = g_strjoinv (", ", (char **)words);
  fail (error, USAGE, "'%s' is no value of --%s", value, options[id].name);
  return hint (error, "it can be: %s", known);
}

static gboolean
wants_colour (int when, int fd)
{
  const char *no_colour = g_getenv ("NO_COLOR");
  if (when != 0)
    return when == 1;
  return isatty (fd) && (no_colour == NULL || *no_colour == 0) &&
         g_strcmp0 (g_getenv ("TERM"), "dumb") != 0;
}

/* Not a tty: no bar. A terminal that cannot redraw a line gets lines. */
static ProgressMode
progress_mode (Cli *cli, int chosen)
{
  if (args_has (&cli->args, OPT_NO_PROGRESS))
    return PROGRESS_NONE;
  if (chosen != PROGRESS_AUTO)
    return (ProgressMode)chosen;
  if (!cli->tty_err || cli->quiet)
    return PROGRESS_NONE;
  return g_strcmp0 (g_getenv ("TERM"), "dumb") == 0 ? PROGRESS_PLAIN : PROGRESS_BAR;
}

gboolean
cli_setup (Cli *cli, GError **error)
{
  static const char *const outputs[] = {"text", "json", "dot", NULL};
  static const char *const progresses[] = {"auto", "bar", "plain", "json", "none", NULL};
  static const char *const whens[] = {"auto", "always", "never", NULL};
  int output = 0, progress = 0, when = 0;
  gboolean ok = choose (cli, OPT_OUTPUT, outputs, &output, error);
  cli->output = (Output)output;
  ok = ok && choose (cli, OPT_PROGRESS, progresses, &progress, error);
  ok = ok && choose (cli, OPT_COLOR, whens, &when, error);
  cli->quiet = args_has (&cli->args, OPT_QUIET);
  cli->tty_err = isatty (STDERR_FILENO);
  if (args_has (&cli->args, OPT_CONFIG))
    cli->config_file = args_value (&cli->args, OPT_CONFIG);
  if (args_has (&cli->args, OPT_STATE_DIR))
    cli->state_dir = args_value (&cli->args, OPT_STATE_DIR);
  cli->colour_out = wants_colour (when, STDOUT_FILENO);
  cli->colour_err = wants_colour (when, STDERR_FILENO);
  cli->progress = progress_mode (cli, progress);
  return ok;
}

void
cli_clear (Cli *cli)
{
  args_clear (&cli->args);
  g_clear_pointer (&cli->words, g_free);
  g_clear_pointer (&cli->config, config_free);
  g_clear_object (&cli->controller);
}

/* ---- what commands work on ------------------------------------------------------------------- */

Config *
cli_config (Cli *cli, GError **error)
{
  if (cli->config == NULL)
    cli->config = config_load (cli->config_file, error);
  return cli->config;
}

/* A document lies where the words were typed: to another host it is sent along. */
char *
cli_document (Cli *cli, OptionId id, gsize *ret_length, GError **error)
{
  g_autofree char *option = g_strconcat ("--", options[id].name, NULL);
  const char *path = args_value (&cli->args, id);
  const char *sent = cli->server ? rechain_server_get_document (cli->server, option) : NULL;
  g_autofree char *text = NULL;
  if (cli->server != NULL && sent == NULL) {
    fail (error, USAGE, "option '%s': the document did not come along", option);
    return NULL;
  }
  if (sent != NULL) {
    *ret_length = strlen (sent);
    return g_strdup (sent);
  }
  if (id == OPT_XML)
    return xml_slurp (path, ret_length, error);
  text = file_slurp (path, MAX_DOCUMENT, ret_length, error);
  if (text == NULL) {
    prefix (error, "option '%s'", option);
    return NULL;
  }
  if (*ret_length <= MAX_DOCUMENT)
    return g_steal_pointer (&text);
  fail (error, USAGE, "option '%s': '%s' is over 64 MiB", option, path);
  return NULL;
}

RechainController *
cli_controller (Cli *cli)
{
  if (cli->controller == NULL)
    cli->controller = rechain_controller_new (cli->state_dir);
  return cli->controller;
}

static const char *
no_such_vm (Config *config, const char *name, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (guint i = 0; i < config->vms->len; i++)
    g_string_append_printf (names, "%s%s", i ? ", " : "",
                            ((ConfigVm *)config->vms->pdata[i])->name);
  fail (error, NOT_FOUND, "no VM '%s' in the configuration", name);
  if (names->len > 0)
    hint (error, "there are: %s; or give the path of a monitor socket", names->str);
  else
    hint (error, "none is configured; give the path of a monitor socket, such as ./%s", name);
  return NULL;
}

const char *
cli_address (Cli *cli, const char *vm, GError **error)
{
  Config *config = cli_config (cli, error);
  if (config == NULL)
    return NULL;
  if (is_address (vm))
    return vm;
  ConfigVm *known = config_vm (config, vm);
  if (known == NULL)
    return no_such_vm (config, vm, error);
  if (known->qmp == NULL) {
    fail (error, USAGE, "the configuration has no monitor of VM '%s'", vm);
    hint (error, "add qmp=ADDRESS to [vm %s]", vm);
  }
  return known->qmp;
}

const char *
cli_agent (Cli *cli, const char *vm, GError **error)
{
  const char *named = args_value (&cli->args, OPT_AGENT);
  Config *config = named ? NULL : cli_config (cli, error);
  ConfigVm *known = config ? config_vm (config, vm) : NULL;
  return named ? named : known ? known->agent : NULL;
}

RechainVm *
cli_vm (Cli *cli, const char *vm, GError **error)
{
  const char *address = cli_address (cli, vm, error);
  return address ? rechain_vm_new (cli_controller (cli), address, error) : NULL;
}

RechainVm *
cli_look (Cli *cli, const char *name, GError **error)
{
  g_autoptr (RechainVm) vm = cli_vm (cli, name, error);
  if (vm == NULL)
    return NULL;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_vm_look_async (vm, wait_cancellable (wait), wait_done, wait);
  if (rechain_vm_look_finish (vm, wait_run (wait), error))
    return g_steal_pointer (&vm);
  wait_explain (wait, name, error);
  return NULL;
}
