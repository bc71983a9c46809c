/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rechain: the command line over librechain. */
#include "src/cli/print.h"

#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- the process ----------------------------------------------------------------------------- */

/* A standard descriptor that is closed would become the first socket or journal that is opened, and
 * be written into. Opened this way, writing to it fails as it should. */
static void
guard_descriptors (void)
{
  static const int modes[] = {O_RDONLY, O_RDONLY, O_WRONLY};
  for (int fd = 0; fd < (int)G_N_ELEMENTS (modes); fd++)
    if (fcntl (fd, F_GETFD) < 0 && open ("/dev/null", modes[fd]) != fd)
      _exit (1);
}

/* What QEMU tells becomes some 10000 small objects, and goes again, several times. The heap is not
 * given back and asked for anew each time: that took a tenth of the CPU time of a snapshot. */
static void
keep_heap (void)
{
  mallopt (M_TRIM_THRESHOLD, 8 << 20);
  mallopt (M_TOP_PAD, 1 << 20);
}

/* -v shows what is remarkable, -vv everything; on stderr, since stdout is for data. */
static GLogWriterOutput
write_log (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  guint verbose = ((Cli *)data)->args.counts[OPT_VERBOSE];
  GLogLevelFlags shown = verbose > 1   ? G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG
                         : verbose > 0 ? G_LOG_LEVEL_INFO
                                       : 0;
  if ((level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG)) == 0 || !(level & shown))
    return g_log_writer_default (level, fields, n_fields, NULL);
  for (gsize i = 0; i < n_fields; i++) {
    if (strcmp (fields[i].key, "MESSAGE") != 0)
      continue;
    g_autofree char *message = fields[i].length < 0
                                   ? g_strdup (fields[i].value)
                                   : g_strndup (fields[i].value, (gsize)fields[i].length);
    g_autofree char *safe = text_escape (message);
    gboolean bar = ((Cli *)data)->progress == PROGRESS_BAR;
    fprintf (stderr, "%srechain: %s\n", bar ? "\r\033[K" : "", safe);
  }
  return G_LOG_WRITER_HANDLED;
}

static void
prepare_process (Cli *cli)
{
  guard_descriptors ();
  keep_heap ();
  signal (SIGPIPE, SIG_IGN);
  setlocale (LC_CTYPE, "");
  g_log_writer_default_set_use_stderr (TRUE);
  g_log_set_writer_func (write_log, cli, NULL);
}

/* ---- the command ----------------------------------------------------------------------------- */

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
  cli->command = command_find (cli->args.words, &used, problem ? NULL : error);
  if (cli->command != NULL && cli->command->run == NULL)
    return not_built (cli->command->name, error);
  if (problem != NULL)
    g_propagate_error (error, g_error_copy (problem));
  if (problem != NULL || cli->command == NULL)
    return FALSE;
  cli->n_words = cli->args.words->len - used;
  cli->words = g_memdup2 (cli->args.words->pdata + used, cli->n_words * sizeof (char *));
  return check_options (cli, error) && check_words (cli, error) && cli->command->run (cli, error);
}

static gboolean
run (Cli *cli, int argc, char **argv, GError **error)
{
  g_autoptr (GError) problem = NULL;
  args_parse (&cli->args, argc, argv, &problem);
  if (!cli_setup (cli, error))
    return FALSE;
  if (args_has (&cli->args, OPT_HELP))
    return print_help (cli, cli->args.words, error);
  if (args_has (&cli->args, OPT_VERSION) && problem == NULL)
    return run_version (cli, error);
  return run_command (cli, problem, error);
}

int
main (int argc, char **argv)
{
  g_auto (Cli) cli = {0};
  g_autoptr (GError) error = NULL;
  prepare_process (&cli);
  if (run (&cli, argc, argv, &error))
    return cli.exit_code;
  print_error (&cli, error);
  /* What became of an operation stands, also where it could not be printed. */
  return cli.exit_code != 0 ? cli.exit_code : exit_code_of (error_code (error));
}
