/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rechain -H HOST: the command line goes to the other host as it is, less what concerns only how it
 * is shown here; what comes back is shown as if it had been done here. No command knows of it. */
#include "src/cli/print.h"
#include "src/cli/progress.h"
#include "src/cli/wait.h"

#include <string.h>

/* ---- the words ------------------------------------------------------------------------------- */

/* What is of this side: the session has no use for it, or must not choose it. */
static const OptionId ours[] = {OPT_HOST, OPT_CONFIG, OPT_PROGRESS, OPT_NO_PROGRESS, OPT_COLOR};

static gboolean
is_ours (OptionId id, OptionSet less)
{
  if (less & OPTION_BIT (id))
    return TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS (ours); i++)
    if (ours[i] == id)
      return TRUE;
  return FALSE;
}

/* Flags, and options whose value was left out. */
static void
add_flags (const Args *args, OptionSet less, GStrvBuilder *argv)
{
  for (OptionId id = 0; id < N_OPTIONS; id++)
    for (guint n = 0; n < args->counts[id] && args->values[id] == NULL && !is_ours (id, less);
         n++) {
      g_autofree char *flag = g_strconcat ("--", options[id].name, NULL);
      g_strv_builder_add (argv, flag);
    }
}

/* Full: the command first, since an option may mean another thing with another command; then the
 * options, and the arguments, which may begin with a '-'. */
static char **
words_of (Cli *cli, const char *const *arguments, const char *more, OptionSet less)
{
  const Args *args = &cli->args;
  guint n_command = args->words->len - cli->n_words;
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  for (guint i = 0; i < n_command; i++)
    g_strv_builder_add (argv, args->words->pdata[i]);
  add_flags (args, less, argv);
  if (more != NULL)
    g_strv_builder_add (argv, more);
  for (guint i = 0; i < args->given->len; i++) {
    const Given *given = &g_array_index (args->given, Given, i);
    g_autofree char *word = g_strdup_printf ("--%s=%s", options[given->id].name, given->value);
    if (!is_ours (given->id, less))
      g_strv_builder_add (argv, word);
  }
  g_strv_builder_add (argv, cli->colour_out ? "--color=always" : "--color=never");
  g_strv_builder_add (argv, "--");
  for (guint i = 0; arguments[i] != NULL; i++)
    g_strv_builder_add (argv, arguments[i]);
  return g_strv_builder_end (argv);
}

/* Files that options name lie here. */
static gboolean
send_documents (Cli *cli, RechainHost *host, GError **error)
{
  static const OptionId documents[] = {OPT_XML, OPT_REGIONS};
  for (gsize i = 0; i < G_N_ELEMENTS (documents); i++) {
    gsize length = 0;
    if (!args_has (&cli->args, documents[i]))
      continue;
    g_autofree char *text = cli_document (cli, documents[i], &length, error);
    g_autofree char *option = g_strconcat ("--", options[documents[i]].name, NULL);
    if (text == NULL)
      return FALSE;
    if (strlen (text) != length)
      return fail (error, USAGE, "the document of '%s' has a NUL byte", option);
    rechain_host_set_document (host, option, text);
  }
  return TRUE;
}

/* ---- the host -------------------------------------------------------------------------------- */

RechainHost *
cli_host (Cli *cli, const char *name, GError **error)
{
  Config *config = cli_config (cli, error);
  ConfigHost *known = config ? config_host (config, name) : NULL;
  if (config == NULL)
    return NULL;
  return rechain_host_new (name, known ? known->ssh : NULL, known ? known->ssh_config : NULL,
                           error);
}

/* ---- while it runs --------------------------------------------------------------------------- */

typedef struct {
  Cli *cli;
  RechainHost *host;
  Progress *progress;
  Wait *wait;
} Running;

static void
on_note (RechainHost *host, const char *text, gpointer data)
{
  Running *running = data;
  progress_clear (running->progress);
  note (running->cli, "%s", text);
}

static void
on_say (RechainHost *host, const char *text, gpointer data)
{
  Running *running = data;
  progress_clear (running->progress);
  say (running->cli, "%s", text);
}

static void
on_progress (RechainHost *host, const char *object, gpointer data)
{
  progress_feed (((Running *)data)->progress, object);
}

/* The other side cancels as it would for its own Ctrl-C; where it does not answer at all, the third
 * one is the end. */
static void
on_interrupt (guint nth, gpointer data)
{
  Running *running = data;
  progress_clear (running->progress);
  if (nth <= 2)
    rechain_host_interrupt (running->host);
  else
    g_cancellable_cancel (wait_cancellable (running->wait));
}

static void
on_status (gpointer data)
{
  Running *running = data;
  if (progress_is_known (running->progress))
    progress_say (running->progress);
  else
    rechain_host_ask_status (running->host);
}

static void
on_tick (gpointer data)
{
  progress_tick (((Running *)data)->progress);
}

static int
run_there (Cli *cli, RechainHost *host, const char *const *argv, GError **error)
{
  g_autoptr (Progress) progress = progress_new (cli, NULL);
  Running running = {cli, host, progress, NULL};
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){
      .on_interrupt = on_interrupt, .on_status = on_status, .on_tick = on_tick, .data = &running});
  running.wait = wait;
  g_signal_connect (host, "note", G_CALLBACK (on_note), &running);
  g_signal_connect (host, "say", G_CALLBACK (on_say), &running);
  g_signal_connect (host, "progress", G_CALLBACK (on_progress), &running);
  rechain_host_run_async (host, argv, wait_cancellable (wait), wait_done, wait);
  int code = rechain_host_run_finish (host, wait_run (wait), error);
  g_signal_handlers_disconnect_by_data (host, &running);
  return code;
}

/* ---- what it printed ------------------------------------------------------------------------- */

/* Of the control sequences of a terminal only colours, where they were asked for; an "\033[1m"
 * long. */
static gsize
colour_length (Cli *cli, const char *text)
{
  gsize length = cli->colour_out && g_str_has_prefix (text, "\033[") ? 2 : 0;
  gsize digits = length ? strspn (text + length, "0123456789;") : 0;
  return length && digits < 16 && text[length + digits] == 'm' ? length + digits + 1 : 0;
}

/* Full. Lines stay lines; nothing else that the other side says reaches the terminal unescaped. */
static char *
harmless (Cli *cli, const char *text)
{
  GString *out = g_string_new (NULL);
  while (*text != 0) {
    gsize plain = strcspn (text, "\n\033"), colour = colour_length (cli, text);
    if (colour > 0 || *text == '\n') {
      colour = colour ? colour : 1;
      g_string_append_len (out, text, (gssize)colour);
      text += colour;
      continue;
    }
    g_autofree char *piece = g_strndup (text, MAX (plain, 1));
    g_autofree char *safe = text_escape (piece);
    g_string_append (out, safe);
    text += MAX (plain, 1);
  }
  return g_string_free (out, FALSE);
}

static gboolean
print_output (Cli *cli, RechainHost *host, GError **error)
{
  const char *output = rechain_host_get_output (host);
  if (*output == 0)
    return TRUE;
  if (cli->output == OUTPUT_JSON) {
    g_autoptr (Json) document = json_parse (output, -1);
    return document != NULL ? out_text (cli, output, error)
                            : fail (error, UNREACHABLE, "host '%s' printed no JSON",
                                    rechain_host_get_name (host));
  }
  g_autofree char *text = harmless (cli, output);
  return out_text (cli, text, error);
}

gboolean
cli_run_on (Cli *cli, RechainHost *host, const char *const *arguments, const char *more,
            OptionSet less, GError **error)
{
  g_auto (GStrv) argv = words_of (cli, arguments, more, less);
  g_autoptr (GError) failure = NULL;
  if (!send_documents (cli, host, error))
    return FALSE;
  int code = run_there (cli, host, (const char *const *)argv, &failure);
  if (!print_output (cli, host, failure ? NULL : error) && failure == NULL)
    return FALSE;
  cli->exit_code = MAX (code, 0);
  if (failure != NULL)
    g_propagate_error (error, g_steal_pointer (&failure));
  return code >= 0;
}

gboolean
cli_run_remote (Cli *cli, GError **error)
{
  g_autoptr (RechainHost) host = cli_host (cli, args_value (&cli->args, OPT_HOST), error);
  g_autoptr (GStrvBuilder) arguments = g_strv_builder_new ();
  if (host == NULL)
    return FALSE;
  if (args_has (&cli->args, OPT_STATE_DIR)) {
    fail (error, USAGE, "option '--state-dir' does not go with '--host'");
    return hint (error, "the journal of a host lies where that host says");
  }
  for (guint i = 0; i < cli->n_words; i++)
    g_strv_builder_add (arguments, cli->words[i]);
  g_auto (GStrv) words = g_strv_builder_end (arguments);
  return cli_run_on (cli, host, (const char *const *)words, NULL, 0, error);
}
