/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a command line to the function of its command, on this host or another. */
#include "src/cli/print.h"

#include <string.h>

static gboolean
not_built (const char *what, GError **error)
{
  fail (error, REFUSED, "'%s' is not built in this version", what);
  return hint (error, "'rechain help' lists what is");
}

static gboolean
check_option (Cli *cli, OptionId id, GError **error)
{
  const Option *option = &options[id];
  if (option->flags & OPTION_NOT_BUILT) {
    g_autofree char *name = g_strconcat ("--", option->name, NULL);
    return not_built (name, error);
  }
  if ((option->flags & OPTION_GLOBAL) || (cli->command->options & OPTION_BIT (id)))
    return TRUE;
  fail (error, USAGE, "'%s' has no option '--%s'", cli->command->name, option->name);
  return hint (error, "'rechain help %s' lists its options", cli->command->name);
}

static gboolean
check_options (Cli *cli, GError **error)
{
  for (OptionId id = 0; id < N_OPTIONS; id++)
    if (args_has (&cli->args, id) && !check_option (cli, id, error))
      return FALSE;
  if (cli->output != OUTPUT_DOT || strcmp (cli->command->name, "chain") == 0)
    return TRUE;
  fail (error, USAGE, "'%s' has no picture", cli->command->name);
  return hint (error, "-o dot goes with 'rechain chain'");
}

static gboolean
check_words (Cli *cli, GError **error)
{
  const Command *command = cli->command;
  /* --offline: the VM falls away, and an image takes the place of the disk. */
  guint least = command->min_words - (args_has (&cli->args, OPT_OFFLINE) && command->min_words > 1);
  gboolean few = cli->n_words < least;
  if (!few && cli->n_words <= command->max_words)
    return TRUE;
  if (few)
    fail (error, USAGE, "'%s' lacks an argument", command->name);
  else
    fail (error, USAGE, "'%s' has an argument too many: '%s'", command->name,
          cli->words[command->max_words]);
  return hint (error, "usage: rechain %s %s", command->name, command->synopsis);
}

/* @problem: what was wrong with the options; it waits until the command is known, since one that is
 * not built has options that nobody knows yet. */
static gboolean
run_command (Cli *cli, const GError *problem, GError **error)
{
  guint used = 0;
  cli->command = cli->server ? session_command_find (cli->args.words) : NULL;
  used = 2;
  if (cli->command == NULL)
    cli->command = command_find (cli->args.words, &used, problem ? NULL : error);
  if (cli->command != NULL && cli->command->run == NULL)
    return not_built (cli->command->name, error);
  if (problem != NULL)
    g_propagate_error (error, g_error_copy (problem));
  if (problem != NULL || cli->command == NULL)
    return FALSE;
  cli->n_words = cli->args.words->len - used;
  cli->words = g_memdup2 (cli->args.words->pdata + used, cli->n_words * sizeof (char *));
  if (!check_options (cli, error) || !check_words (cli, error))
    return FALSE;
  return args_has (&cli->args, OPT_HOST) ? cli_run_remote (cli, error)
                                         : cli->command->run (cli, error);
}

/* What would let the other side of a session choose where its limits and its journal are, or go on
 * to a third host. */
static gboolean
check_session (Cli *cli, GError **error)
{
  static const OptionId ours[] = {OPT_HOST, OPT_CONFIG, OPT_STATE_DIR, OPT_STDIO};
  for (gsize i = 0; cli->server != NULL && i < G_N_ELEMENTS (ours); i++)
    if (args_has (&cli->args, ours[i]))
      return fail (error, USAGE, "option '--%s' cannot be sent to another host",
                   options[ours[i]].name);
  return TRUE;
}

gboolean
cli_run (Cli *cli, int argc, char **argv, GError **error)
{
  g_autoptr (GError) problem = NULL;
  args_parse (&cli->args, argc, argv, &problem);
  if (!cli_setup (cli, error) || !check_session (cli, error))
    return FALSE;
  if (args_has (&cli->args, OPT_HELP))
    return print_help (cli, cli->args.words, error);
  if (args_has (&cli->args, OPT_VERSION) && problem == NULL)
    return run_version (cli, error);
  if (args_has (&cli->args, OPT_STDIO) && problem == NULL)
    return cli_serve (cli, error);
  return run_command (cli, problem, error);
}
