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
    RechainServer *server = ((Cli *)data)->server;
    if (server != NULL) {
      rechain_server_tell (server, "say", message);
      continue;
    }
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

int
main (int argc, char **argv)
{
  g_auto (Cli) cli = {0};
  g_autoptr (GError) error = NULL;
  prepare_process (&cli);
  if (cli_run (&cli, argc, argv, &error))
    return cli.exit_code;
  print_error (&cli, error);
  /* What became of an operation stands, also where it could not be printed. */
  return cli.exit_code != 0 ? cli.exit_code : exit_code_of (error_code (error));
}
