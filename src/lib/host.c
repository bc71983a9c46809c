/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Another host: commands that are run there. */
#include "src/lib/lib-private.h"

#include "src/common/source.h"
#include "src/remote/protocol.h"
#include "src/remote/session.h"

#include <string.h>

#define INTERRUPTED_EXIT 130

struct _RechainHost {
  GObject parent;
  Far *far;
  Session *session; /* NULL: not connected */
  GTask *task;      /* of run; NULL: nothing runs */
  GSource *cancel_source;
  Json *documents;  /* of the next command */
  GString *output;  /* of the last one */
  char *operation;  /* that runs, as far as known */
  gboolean settled; /* it has ended */
  guint interrupts;
  FeedSource source; /* what the command may ask for; owned */
  Feed *feed;        /* on its way; nullable */
};

G_DEFINE_FINAL_TYPE (RechainHost, rechain_host, G_TYPE_OBJECT)

enum { SIGNAL_NOTE, SIGNAL_SAY, SIGNAL_PRINT, SIGNAL_PROGRESS, N_SIGNALS };
static guint signals[N_SIGNALS];

static void
forget_source (RechainHost *host)
{
  g_clear_pointer (&host->feed, feed_free);
  json_object_put (host->source.offer);
  g_clear_object (&host->source.storage);
  g_clear_object (&host->source.host);
  host->source = (FeedSource){0};
}

static void
rechain_host_finalize (GObject *object)
{
  RechainHost *host = RECHAIN_HOST (object);
  session_free (host->session);
  forget_source (host);
  far_free (host->far);
  json_object_put (host->documents);
  g_string_free (host->output, TRUE);
  g_free (host->operation);
  G_OBJECT_CLASS (rechain_host_parent_class)->finalize (object);
}

static guint
text_signal (const char *name)
{
  return g_signal_new (name, RECHAIN_TYPE_HOST, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE,
                       1, G_TYPE_STRING);
}

static void
rechain_host_class_init (RechainHostClass *class)
{
  G_OBJECT_CLASS (class)->finalize = rechain_host_finalize;
  signals[SIGNAL_NOTE] = text_signal ("note");
  signals[SIGNAL_SAY] = text_signal ("say");
  signals[SIGNAL_PRINT] = text_signal ("print");
  signals[SIGNAL_PROGRESS] = text_signal ("progress");
}

static void
rechain_host_init (RechainHost *host)
{
  host->output = g_string_new (NULL);
}

RechainHost *
rechain_host_new (const char *name, const char *address, const char *ssh_config, GError **error)
{
  Far *far = far_new (name, address, ssh_config, error);
  if (far == NULL)
    return NULL;
  RechainHost *host = g_object_new (RECHAIN_TYPE_HOST, NULL);
  host->far = far;
  return host;
}

const char *
rechain_host_get_name (RechainHost *host)
{
  return host->far->name;
}

const char *
rechain_host_get_output (RechainHost *host)
{
  return host->output->str;
}

void
rechain_host_set_document (RechainHost *host, const char *option, const char *text)
{
  if (host->documents == NULL)
    host->documents = json_object_new_object ();
  if (text != NULL)
    json_set (host->documents, option, json_str (text));
  else
    json_object_object_del (host->documents, option);
}

const Far *
rechain_host_get_far (RechainHost *host)
{
  return host->far;
}

static void
offer (RechainHost *host, const char *document)
{
  forget_source (host);
  host->source.offer = json_parse (document, -1);
  rechain_host_set_document (host, "--offer", document);
}

void
rechain_host_offer_volume (RechainHost *host, const char *document, RechainStorage *storage,
                           guint64 bytes_per_second)
{
  offer (host, document);
  host->source.storage = g_object_ref (storage);
  host->source.rate = bytes_per_second;
}

void
rechain_host_offer_from_host (RechainHost *host, const char *document, RechainHost *from)
{
  offer (host, document);
  host->source.host = g_object_ref (from);
}

/* ---- the end of a command -------------------------------------------------------------------- */

/* Takes @error; NULL: the command ended with @exit_code. */
static void
end_command (RechainHost *host, int exit_code, GError *take_error)
{
  g_autoptr (GTask) task = g_steal_pointer (&host->task);
  source_clear (&host->cancel_source);
  forget_source (host);
  if (task == NULL)
    g_clear_error (&take_error);
  else if (take_error != NULL)
    g_task_return_error (task, take_error);
  else
    g_task_return_int (task, exit_code);
}

static void
drop_session (RechainHost *host)
{
  g_clear_pointer (&host->session, session_free);
}

/* The other side cancels by itself when we are gone; whether it has done so nobody can tell from
 * here. */
static void
say_left (RechainHost *host, GError **error)
{
  if (host->operation == NULL || host->settled)
    return;
  recode (error, STUCK);
  of_operation (error, host->operation);
  hint (error, "operation %s is cancelled there, or left: rechain -H %s recover --op %s",
        host->operation, host->far->name, host->operation);
}

static void
on_ended (const GError *reason, gpointer data)
{
  RechainHost *host = data;
  GError *error = g_error_copy (reason);
  int status = session_exit_status (host->session);
  /* Interrupted twice, it left: its exit status says how. */
  if (host->interrupts > 1 && status == INTERRUPTED_EXIT)
    recode (&error, INTERRUPTED);
  else
    say_left (host, &error);
  drop_session (host);
  end_command (host, -1, error);
}

static void
on_reply (Json *ret, const GError *error, gpointer data)
{
  RechainHost *host = data;
  gint64 code = json_get_int (ret, "exit");
  GError *failure = error ? g_error_copy (error) : NULL;
  if (failure == NULL && (code < 0 || code > 255))
    fail (&failure, UNREACHABLE, "host '%s' ended the command with an impossible exit code",
          host->far->name);
  end_command (host, (int)code, failure);
}

/* ---- what it says meanwhile ------------------------------------------------------------------ */

static void
abandon (RechainHost *host, const char *why)
{
  GError *error = NULL;
  fail (&error, UNREACHABLE, "host '%s' %s", host->far->name, why);
  say_left (host, &error);
  drop_session (host);
  end_command (host, -1, error);
}

static void
on_progress (RechainHost *host, Json *object)
{
  const char *operation = json_get_str (object, "operation"),
             *state = json_get_str (object, "state");
  OpState seen = state ? op_state_parse (state) : N_OP_STATES;
  g_autofree char *line = json_line (object);
  if (operation != NULL && strlen (operation) == 8 && strspn (operation, "0123456789abcdef") == 8) {
    g_free (host->operation);
    host->operation = g_strdup (operation);
    host->settled = seen == OP_DONE || seen == OP_UNDONE || seen == OP_PLANNED;
  }
  g_signal_emit (host, signals[SIGNAL_PROGRESS], 0, line);
}

/* The operation gets what was offered to it, and nothing else. */
static void
on_feed (RechainHost *host, Json *object)
{
  const char *operation = json_get_str (object, "operation");
  gint64 from = json_get_int (object, "from");
  g_clear_pointer (&host->feed, feed_free);
  if (operation != NULL && from >= 0 && host->source.offer != NULL)
    host->feed = feed_start (host->far, operation, &host->source, (guint64)from);
}

/* What is not known here is of a newer rechain, and can be done without. */
static void
on_event (const char *event, Json *object, gpointer data)
{
  g_autoptr (RechainHost) host = g_object_ref (data);
  const char *text = json_get_str (object, "text");
  if (strcmp (event, "progress") == 0 && json_object_is_type (object, json_type_object))
    on_progress (host, object);
  else if (strcmp (event, "feed") == 0)
    on_feed (host, object);
  else if (text == NULL)
    return;
  else if (strcmp (event, "note") == 0)
    g_signal_emit (host, signals[SIGNAL_NOTE], 0, text);
  else if (strcmp (event, "say") == 0)
    g_signal_emit (host, signals[SIGNAL_SAY], 0, text);
  else if (strcmp (event, "print") == 0 && host->output->len + strlen (text) <= REMOTE_MAX_TEXT) {
    g_string_append (host->output, text);
    g_signal_emit (host, signals[SIGNAL_PRINT], 0, text);
  } else if (strcmp (event, "print") == 0)
    abandon (host, "prints without end");
}

/* ---- running --------------------------------------------------------------------------------- */

static const SessionOwner callbacks = {.event = on_event, .reply = on_reply, .ended = on_ended};

static gboolean
on_cancelled (GCancellable *cancellable, gpointer data)
{
  RechainHost *host = data;
  GError *error = NULL;
  fail (&error, INTERRUPTED, "host '%s': interrupted", host->far->name);
  say_left (host, &error);
  drop_session (host);
  end_command (host, -1, error);
  return G_SOURCE_REMOVE;
}

/* Full; NULL where the words do not fit into a message. */
static Json *
request_of (RechainHost *host, const char *const *argv, GError **error)
{
  g_autoptr (Json) words = json_array ();
  gsize length = 0;
  for (gsize i = 0; argv[i] != NULL; i++) {
    if (!g_utf8_validate (argv[i], -1, NULL)) {
      fail (error, USAGE, "'%s' is not UTF-8, and cannot be sent to host '%s'", argv[i],
            host->far->name);
      return NULL;
    }
    length += strlen (argv[i]);
    json_append (words, json_str (argv[i]));
  }
  if (length > REMOTE_PIECE) {
    fail (error, USAGE, "the command is too long to be sent to host '%s'", host->far->name);
    return NULL;
  }
  return json_make ("argv", g_steal_pointer (&words), NULL);
}

static gboolean
check_documents (RechainHost *host, GError **error)
{
  gsize length = 0;
  json_object_object_foreach (host->documents, option, text)
  {
    if (!g_utf8_validate (json_object_get_string (text), -1, NULL))
      return fail (error, USAGE, "the document of '%s' is not UTF-8", option);
    length += (gsize)json_object_get_string_len (text);
  }
  return length <= REMOTE_MAX_DOCUMENTS ||
         fail (error, USAGE, "a document of more than %u MiB cannot be sent to host '%s'",
               REMOTE_MAX_DOCUMENTS >> 20, host->far->name);
}

/* In pieces, ahead of the command: each line is short. */
static void
send_documents (RechainHost *host)
{
  g_autoptr (Json) documents = g_steal_pointer (&host->documents);
  if (documents == NULL)
    return;
  json_object_object_foreach (documents, option, text)
  {
    const char *rest = json_object_get_string (text);
    do {
      const char *stop = remote_piece (rest);
      g_autofree char *piece = g_strndup (rest, (gsize)(stop - rest));
      session_tell (host->session, "document",
                    json_make ("option", json_str (option), "text", json_str (piece), NULL));
      rest = stop;
    } while (*rest != 0);
  }
}

static gboolean
start (RechainHost *host, const char *const *argv, GError **error)
{
  g_autoptr (Json) request = request_of (host, argv, error);
  if (request == NULL || (host->documents != NULL && !check_documents (host, error)))
    return FALSE;
  if (host->session == NULL)
    host->session = session_open (host->far, &callbacks, host, error);
  if (host->session == NULL)
    return FALSE;
  send_documents (host);
  session_ask (host->session, "run", g_steal_pointer (&request));
  return TRUE;
}

void
rechain_host_run_async (RechainHost *host, const char *const *argv, GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (host, NULL, callback, user_data);
  GError *error = NULL;
  if (host->task != NULL)
    fail (&error, REFUSED, "host '%s' runs another command", host->far->name);
  if (error != NULL || !start (host, argv, &error)) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  host->task = task;
  g_string_truncate (host->output, 0);
  g_clear_pointer (&host->operation, g_free);
  host->settled = FALSE;
  host->interrupts = 0;
  source_on_cancel (&host->cancel_source, cancellable, on_cancelled, host);
}

int
rechain_host_run_finish (RechainHost *host, GAsyncResult *result, GError **error)
{
  return (int)g_task_propagate_int (G_TASK (result), error);
}

int
rechain_host_run (RechainHost *host, const char *const *argv, GCancellable *cancellable,
                  GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_host_run_async (host, argv, cancellable, waiting_done, &waiting);
  return rechain_host_run_finish (host, waiting_result (&waiting), error);
}

void
rechain_host_interrupt (RechainHost *host)
{
  host->interrupts++;
  if (host->session != NULL && session_is_ready (host->session))
    session_tell (host->session, "interrupt", NULL);
  else if (host->session != NULL)
    on_cancelled (NULL, host); /* nothing was asked of it yet */
}

void
rechain_host_ask_status (RechainHost *host)
{
  if (host->session != NULL)
    session_tell (host->session, "status", NULL);
}

void
rechain_host_give_back (RechainHost *host)
{
  if (host->session != NULL)
    session_tell (host->session, "release", NULL);
}
