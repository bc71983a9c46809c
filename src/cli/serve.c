/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rechain --stdio: the commands that 'rechain -H' runs here. Each is a command line of its own,
 * with this side's configuration and journal; what it prints goes to whom it is done for. */
#include "src/cli/print.h"
#include "src/cli/wait.h"

#include <fcntl.h>
#include <unistd.h>

/* The descriptors of the session belong to it alone: whatever else is started here must neither
 * read commands nor write among answers. */
static gboolean
take_descriptors (int *ret_in, int *ret_out, GError **error)
{
  int null = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  *ret_in = fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  *ret_out = fcntl (STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  gboolean ok = null >= 0 && *ret_in >= 0 && *ret_out >= 0 && dup2 (null, STDIN_FILENO) >= 0 &&
                dup2 (STDERR_FILENO, STDOUT_FILENO) >= 0;
  if (null >= 0)
    close (null);
  return ok || fail (error, FAILED, "standard input and output are not open");
}

static void
run_one (Cli *cli, RechainServer *server, char **words)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  g_auto (Cli)
      one = {.server = server, .config_file = cli->config_file, .state_dir = cli->state_dir};
  g_autoptr (GError) error = NULL;
  g_ptr_array_add (argv, (gpointer) "rechain");
  for (char **word = words; *word != NULL; word++)
    g_ptr_array_add (argv, *word);
  wait_forget ();
  gboolean ok = cli_run (&one, (int)argv->len, (char **)argv->pdata, &error);
  if (ok || error->domain == RECHAIN_ERROR) {
    rechain_server_reply (server, one.exit_code, error);
    return;
  }
  g_autoptr (GError) ours = NULL;
  fail (&ours, error_code (error), "%s", error->message);
  rechain_server_reply (server, 0, ours);
}

gboolean
cli_serve (Cli *cli, GError **error)
{
  int in, out;
  if (!take_descriptors (&in, &out, error))
    return FALSE;
  g_autoptr (RechainServer) server = rechain_server_new (in, out, error);
  if (server == NULL)
    return FALSE;
  g_signal_connect (server, "interrupted", G_CALLBACK (wait_interrupt), NULL);
  g_signal_connect (server, "status-wanted", G_CALLBACK (wait_status), NULL);
  GError *broken = NULL;
  for (;;) {
    g_auto (GStrv) words = rechain_server_next (server, &broken);
    if (words == NULL)
      break;
    run_one (cli, server, words);
  }
  if (broken != NULL)
    g_propagate_error (error, broken);
  return broken == NULL;
}
