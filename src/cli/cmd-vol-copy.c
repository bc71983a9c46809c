/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vol copy, on this host or between hosts, and the three commands that one rechain asks of another
 * for it.
 *
 * The host of the source makes an offer, the host of the target does the operation, and whoever of
 * the two is not here is asked through ssh. Data goes from host to host through sessions of its
 * own. */
#include "src/cli/loan.h"
#include "src/cli/operate.h"
#include "src/cli/vol.h"
#include "src/cli/wait.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GO_MS 60000

/* ---- [HOST:]PATH ----------------------------------------------------------------------------- */

typedef struct {
  RechainHost *host; /* NULL: here */
  const char *path;  /* borrowed */
} Spot;

static void
spot_clear (Spot *spot)
{
  g_clear_object (&spot->host);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Spot, spot_clear)

/* As for scp: a colon before the first slash; [::1]:/path. "./a:b" is a file. */
static const char *
colon_of (const char *word)
{
  const char *bracket = word[0] == '[' ? strchr (word, ']') : NULL;
  const char *colon = strchr (bracket ? bracket : word, ':'), *slash = strchr (word, '/');
  return colon == NULL || colon == word || (slash != NULL && slash < colon) ? NULL : colon;
}

static gboolean
find_spot (Cli *cli, const char *word, Spot *ret_spot, GError **error)
{
  const char *colon = colon_of (word);
  ret_spot->path = colon ? colon + 1 : word;
  if (colon == NULL)
    return TRUE;
  if (cli->server != NULL)
    return fail (error, USAGE, "'%s' is on a third host", word);
  if (colon[1] != '/') {
    fail (error, USAGE, "'%s': a path on another host is absolute", word);
    return hint (error, "write HOST:/PATH, or ./NAME for a file with a ':' in its name");
  }
  gboolean brackets = word[0] == '[' && colon[-1] == ']';
  g_autofree char *name = g_strndup (word + brackets, (gsize)(colon - word) - (brackets ? 2 : 0));
  ret_spot->host = cli_host (cli, name, error);
  return ret_spot->host != NULL;
}

/* ---- the offer ------------------------------------------------------------------------------- */

/* What belongs to the source; the rest is of the target. */
#define OF_SOURCE (OPTION_BIT (OPT_SOURCE_FORMAT) | OPTION_BIT (OPT_SNAPSHOT))

/* Full. */
static RechainVolumeRequest *
source_request (Cli *cli, RechainVolumeKind kind, const char *path, GError **error)
{
  static const OptionId of_source[] = {OPT_SOURCE_FORMAT, OPT_ARCHIVE};
  g_autoptr (RechainVolumeRequest) request = rechain_volume_request_new (kind);
  gboolean ok = rechain_volume_request_set (request, "source", path, error);
  for (gsize i = 0; ok && i < G_N_ELEMENTS (of_source); i++)
    if (args_has (&cli->args, of_source[i]))
      ok = rechain_volume_request_set (request, options[of_source[i]].name,
                                       args_value (&cli->args, of_source[i]), error);
  return ok ? g_steal_pointer (&request) : NULL;
}

/* Full. */
static char *
offer_here (Cli *cli, RechainStorage *storage, const char *path, GError **error)
{
  g_autoptr (RechainVolumeRequest) request = source_request (cli, RECHAIN_VOLUME_COPY, path, error);
  if (request == NULL)
    return NULL;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_storage_offer_async (storage, request, wait_cancellable (wait), wait_done, wait);
  char *offer = rechain_storage_offer_finish (storage, wait_run (wait), error);
  if (offer == NULL)
    wait_explain (wait, "vol copy", error);
  return offer;
}

/* Full: what the source's host is asked for. */
static char **
words_for_source (Cli *cli, const char *command, const char *path)
{
  static const OptionId of_source[] = {OPT_SOURCE_FORMAT, OPT_ARCHIVE, OPT_DRY_RUN};
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  g_strv_builder_add_many (argv, "vol", command, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (of_source); i++) {
    const char *value = args_value (&cli->args, of_source[i]);
    g_autofree char *word =
        g_strconcat ("--", options[of_source[i]].name, value ? "=" : NULL, value, NULL);
    if (args_has (&cli->args, of_source[i]))
      g_strv_builder_add (argv, word);
  }
  g_strv_builder_add_many (argv, "--", path, NULL);
  return g_strv_builder_end (argv);
}

/* Full. */
static char *
offer_there (Cli *cli, const Spot *source, GError **error)
{
  g_auto (GStrv) argv = words_for_source (cli, "offer", source->path);
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_host_run_async (source->host, (const char *const *)argv, wait_cancellable (wait),
                          wait_done, wait);
  int code = rechain_host_run_finish (source->host, wait_run (wait), error);
  if (code == 0)
    return g_strdup (rechain_host_get_output (source->host));
  if (code > 0)
    fail (error, UNREACHABLE, "host '%s' offers nothing", rechain_host_get_name (source->host));
  wait_explain (wait, "vol copy", error);
  return NULL;
}

/* Full. Of a snapshot that stands as long as *ret_loan, which is nullable. */
static char *
offer_of (Cli *cli, RechainStorage *storage, const Spot *source, Loan **ret_loan, GError **error)
{
  char *offer = NULL;
  if (!args_has (&cli->args, OPT_SNAPSHOT))
    return source->host ? offer_there (cli, source, error)
                        : offer_here (cli, storage, source->path, error);
  g_auto (GStrv) argv = words_for_source (cli, "lend", source->path);
  g_autoptr (RechainVolumeRequest) request =
      source_request (cli, RECHAIN_VOLUME_LEND, source->path, error);
  if (request != NULL)
    *ret_loan =
        loan_take (cli, storage, source->host, request, (const char *const *)argv, &offer, error);
  return offer;
}

/* Full: with what to call it. It was made by another program, and is only looked at where it is
 * used. */
static char *
offer_named (const char *offer, const char *name)
{
  g_autoptr (Json) document = json_parse (offer, -1);
  if (!json_object_is_type (document, json_type_object))
    return g_strdup (offer);
  json_set (document, "name", json_str (name));
  return json_line (document);
}

/* ---- between hosts --------------------------------------------------------------------------- */

static gboolean
copy_to_here (Cli *cli, RechainStorage *storage, const char *offer, RechainHost *from,
              GError **error)
{
  static const char *const from_to[] = {"source", "volume"};
  g_autoptr (RechainVolumeRequest) request = vol_request (cli, RECHAIN_VOLUME_COPY, from_to, error);
  return request != NULL && rechain_volume_request_set_offer (request, offer, from, error) &&
         vol_operate (cli, storage, request, error);
}

static gboolean
copy_to_there (Cli *cli, RechainStorage *storage, const char *offer, const Spot *from,
               const Spot *to, GError **error)
{
  guint64 rate = 0;
  const char *arguments[] = {cli->words[0], to->path, NULL};
  if (!bandwidth_wanted (cli, &rate, error))
    return FALSE;
  if (from->host != NULL)
    rechain_host_offer_from_host (to->host, offer, from->host);
  else
    rechain_host_offer_volume (to->host, offer, storage, rate);
  return cli_run_on (cli, to->host, arguments, "--offer", OF_SOURCE | OPTION_BIT (OPT_STATE_DIR),
                     error);
}

static gboolean
copy_between (Cli *cli, RechainStorage *storage, const Spot *from, const Spot *to, GError **error)
{
  Loan *loan = NULL;
  g_autofree char *plain = offer_of (cli, storage, from, &loan, error);
  if (plain == NULL)
    return FALSE;
  g_autofree char *offer = offer_named (plain, cli->words[0]);
  gboolean ok = to->host ? copy_to_there (cli, storage, offer, from, to, error)
                         : copy_to_here (cli, storage, offer, from->host, error);
  g_autoptr (GError) left = NULL;
  if (loan == NULL || loan_end (loan, &left))
    return ok;
  if (ok)
    g_propagate_error (error, g_steal_pointer (&left));
  else
    note (cli, "%s", left->message);
  return FALSE;
}

/* For another host: the source is what its side offers. */
static gboolean
copy_offered (Cli *cli, RechainStorage *storage, GError **error)
{
  const char *offer = cli->server ? rechain_server_get_document (cli->server, "--offer") : NULL;
  return offer != NULL ? copy_to_here (cli, storage, offer, NULL, error)
                       : fail (error, USAGE, "nothing is offered");
}

gboolean
run_vol_copy (Cli *cli, GError **error)
{
  static const char *const from_to[] = {"source", "volume"};
  g_auto (Spot) from = {0}, to = {0};
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  if (storage == NULL)
    return FALSE;
  if (args_has (&cli->args, OPT_OFFER))
    return copy_offered (cli, storage, error);
  if (!find_spot (cli, cli->words[0], &from, error) || !find_spot (cli, cli->words[1], &to, error))
    return FALSE;
  if (from.host != NULL || to.host != NULL)
    return copy_between (cli, storage, &from, &to, error);
  g_autoptr (RechainVolumeRequest) request = vol_request (cli, RECHAIN_VOLUME_COPY, from_to, error);
  return request != NULL && vol_operate (cli, storage, request, error);
}

/* ---- what another rechain asks for ----------------------------------------------------------- */

gboolean
run_vol_offer (Cli *cli, GError **error)
{
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  g_autofree char *offer = storage ? offer_here (cli, storage, cli->words[0], error) : NULL;
  return offer != NULL && out_document (cli, offer, error);
}

gboolean
run_vol_lend (Cli *cli, GError **error)
{
  g_autofree char *offer = NULL;
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  g_autoptr (RechainVolumeRequest) request =
      storage ? source_request (cli, RECHAIN_VOLUME_LEND, cli->words[0], error) : NULL;
  Loan *loan = request ? loan_take (cli, storage, NULL, request, NULL, &offer, error) : NULL;
  gboolean told = offer != NULL && out_document (cli, offer, error);
  if (loan == NULL)
    return told;
  if (told)
    loan_wait (loan);
  return loan_end (loan, told ? error : NULL) && told;
}

/* Until this byte comes, the other side still reads messages. */
static gboolean
wait_for_go (int input)
{
  char byte;
  GPollFD poll = {.fd = input, .events = G_IO_IN | G_IO_HUP};
  return g_poll (&poll, 1, GO_MS) == 1 && read (input, &byte, 1) == 1;
}

gboolean
run_vol_send (Cli *cli, GError **error)
{
  int in, out;
  guint64 from = 0;
  Config *config = cli_config (cli, error);
  g_autoptr (RechainStorage) storage = config ? cli_storage (cli, error) : NULL;
  const char *offer = rechain_server_get_document (cli->server, "--offer");
  if (storage == NULL)
    return FALSE;
  if (offer == NULL)
    return fail (error, USAGE, "nothing is offered");
  if (args_has (&cli->args, OPT_FROM) &&
      !parse_size (args_value (&cli->args, OPT_FROM), &from, error))
    return FALSE;
  if (!rechain_storage_check_offer (storage, offer, error))
    return FALSE;
  if (!rechain_server_hand_over (cli->server, &in, &out) || !wait_for_go (in))
    return TRUE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_storage_send_async (storage, offer, from, config->bandwidth, out, NULL, wait_done, wait);
  return rechain_storage_send_finish (storage, wait_run (wait), error);
}

gboolean
run_vol_feed (Cli *cli, GError **error)
{
  int in, out;
  if (!rechain_server_hand_over (cli->server, &in, &out))
    return TRUE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_controller_feed_async (cli_controller (cli), cli->words[0], in, NULL, wait_done, wait);
  return rechain_controller_feed_finish (cli_controller (cli), wait_run (wait), error);
}
