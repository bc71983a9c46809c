/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The far end of a session: commands come in, and what they print goes out
 * (src/remote/protocol.h). */
#include "src/lib/lib-private.h"

#include "qmp/stream.h"
#include "src/remote/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixinputstream.h>
#include <gio/gunixoutputstream.h>
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

struct _RechainServer {
  GObject parent;
  int input, output;
  QmpStream *stream;
  gboolean met;     /* it said hello */
  gboolean gone;    /* nobody listens any more */
  gboolean running; /* a command */
  GError *broken;   /* the rules; nullable */
  char **argv;      /* of the next command; nullable */
  gint64 id;        /* of its request */
  Json *documents;  /* {"--xml":TEXT} */
  gsize documents_length;
};

G_DEFINE_FINAL_TYPE (RechainServer, rechain_server, G_TYPE_OBJECT)

enum { SIGNAL_INTERRUPTED, SIGNAL_STATUS_WANTED, SIGNAL_RELEASED, N_SIGNALS };
static guint signals[N_SIGNALS];

static void
rechain_server_finalize (GObject *object)
{
  RechainServer *server = RECHAIN_SERVER (object);
  qmp_stream_free (server->stream);
  g_clear_error (&server->broken);
  g_strfreev (server->argv);
  json_object_put (server->documents);
  G_OBJECT_CLASS (rechain_server_parent_class)->finalize (object);
}

static void
rechain_server_class_init (RechainServerClass *class)
{
  G_OBJECT_CLASS (class)->finalize = rechain_server_finalize;
  signals[SIGNAL_INTERRUPTED] = g_signal_new ("interrupted", RECHAIN_TYPE_SERVER, G_SIGNAL_RUN_LAST,
                                              0, NULL, NULL, NULL, G_TYPE_NONE, 0);
  signals[SIGNAL_STATUS_WANTED] = g_signal_new (
      "status-wanted", RECHAIN_TYPE_SERVER, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
  signals[SIGNAL_RELEASED] = g_signal_new ("released", RECHAIN_TYPE_SERVER, G_SIGNAL_RUN_LAST, 0,
                                           NULL, NULL, NULL, G_TYPE_NONE, 0);
}

static void
rechain_server_init (RechainServer *server)
{
  server->documents = json_object_new_object ();
}

/* ---- what the peer asks for ------------------------------------------------------------------ */

/* A command that runs is taken back, as if its terminal had gone. */
static void
lose_peer (RechainServer *server)
{
  if (server->gone)
    return;
  server->gone = TRUE;
  qmp_stream_close (server->stream);
  if (server->running)
    g_signal_emit (server, signals[SIGNAL_INTERRUPTED], 0);
}

static void
breaks_rules (RechainServer *server, const char *what)
{
  if (server->broken == NULL)
    fail (&server->broken, UNREACHABLE, "the other side %s", what);
  lose_peer (server);
}

static void
answer (RechainServer *server, gint64 id, Json *take_return, const GError *error)
{
  g_autoptr (Json) message = NULL;
  if (server->gone) {
    json_object_put (take_return);
    return;
  }
  if (error == NULL)
    message = json_make ("return", take_return, "id", json_int (id), NULL);
  else
    message = json_make (
        "error",
        json_make ("class", json_str (rechain_error_code_name ((RechainError)error->code)), "desc",
                   json_str (error->message), "because", json_str (rechain_error_get_cause (error)),
                   "hint", json_str (rechain_error_get_hint (error)), "operation",
                   json_str (rechain_error_get_operation (error)), NULL),
        "id", json_int (id), NULL);
  if (!qmp_stream_send (server->stream, message, NULL))
    lose_peer (server);
}

static void
hello (RechainServer *server, Json *arguments, gint64 id)
{
  g_autoptr (GError) error = NULL;
  gint64 protocol = json_get_int (arguments, "protocol");
  server->met = protocol == REMOTE_PROTOCOL;
  if (!server->met)
    fail (&error, REFUSED, "protocol %" G_GINT64_FORMAT " is not spoken here, only %d", protocol,
          REMOTE_PROTOCOL);
  answer (server, id, error ? NULL : json_object_new_object (), error);
}

static void
document (RechainServer *server, Json *arguments)
{
  const char *option = json_get_str (arguments, "option"), *text = json_get_str (arguments, "text");
  if (option == NULL || text == NULL || strlen (option) > 64 || server->running) {
    breaks_rules (server, "sends a document that is none");
    return;
  }
  const char *begun = json_get_str (server->documents, option);
  server->documents_length += strlen (text) + strlen (option) + 64;
  if (server->documents_length > REMOTE_MAX_DOCUMENTS + REMOTE_PIECE) {
    breaks_rules (server, "sends documents without end");
    return;
  }
  g_autofree char *whole = g_strconcat (begun ? begun : "", text, NULL);
  json_set (server->documents, option, json_str (whole));
}

/* Full; NULL where it is no list of words. */
static char **
words_of (Json *list)
{
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();
  gsize n = json_length (list);
  if (n > REMOTE_MAX_WORDS)
    return NULL;
  for (gsize i = 0; i < n; i++) {
    Json *word = json_at (list, i);
    if (!json_object_is_type (word, json_type_string) ||
        strlen (json_object_get_string (word)) != (gsize)json_object_get_string_len (word))
      return NULL;
    g_strv_builder_add (words, json_object_get_string (word));
  }
  return g_strv_builder_end (words);
}

static void
run (RechainServer *server, Json *arguments, gint64 id)
{
  if (server->running || server->argv != NULL) {
    breaks_rules (server, "asks for two things at once");
    return;
  }
  server->argv = words_of (json_get (arguments, "argv"));
  server->id = id;
  if (server->argv == NULL)
    breaks_rules (server, "sends a command that is none");
}

/* FALSE: it is none of these. One that comes too late is nobody's fault. */
static gboolean
while_running (RechainServer *server, const char *command)
{
  static const struct {
    const char *command;
    guint signal;
  } known[] = {{"interrupt", SIGNAL_INTERRUPTED},
               {"status", SIGNAL_STATUS_WANTED},
               {"release", SIGNAL_RELEASED}};
  for (gsize i = 0; i < G_N_ELEMENTS (known); i++)
    if (g_strcmp0 (command, known[i].command) == 0) {
      if (server->running)
        g_signal_emit (server, signals[known[i].signal], 0);
      return TRUE;
    }
  return FALSE;
}

static void
on_message (QmpStream *stream, Json *message, gpointer data)
{
  g_autoptr (RechainServer) server = g_object_ref (data);
  const char *command = json_get_str (message, "execute");
  Json *arguments = json_get (message, "arguments");
  gint64 id = json_get_int (message, "id");
  if (g_strcmp0 (command, "hello") == 0 && !server->met)
    hello (server, arguments, id);
  else if (!server->met)
    breaks_rules (server, "does not say hello");
  else if (g_strcmp0 (command, "run") == 0)
    run (server, arguments, id);
  else if (g_strcmp0 (command, "document") == 0)
    document (server, arguments);
  else if (!while_running (server, command))
    breaks_rules (server, "asks for what nobody here knows");
}

static void
on_ended (QmpStream *stream, const GError *error, gpointer data)
{
  g_autoptr (RechainServer) server = g_object_ref (data);
  gboolean hung_up = g_strcmp0 (error->message, "closed the connection") == 0;
  if (hung_up)
    lose_peer (server);
  else
    breaks_rules (server, error->message);
}

/* ---- beginning ------------------------------------------------------------------------------- */

/* Full. @fd stays open. */
static GIOStream *
stream_of (int input, int output, GError **error)
{
  g_autoptr (GInputStream) in = g_unix_input_stream_new (input, FALSE);
  g_autoptr (GOutputStream) out = g_unix_output_stream_new (output, FALSE);
  gboolean can = g_pollable_input_stream_can_poll (G_POLLABLE_INPUT_STREAM (in)) &&
                 g_pollable_output_stream_can_poll (G_POLLABLE_OUTPUT_STREAM (out)) &&
                 g_unix_set_fd_nonblocking (input, TRUE, NULL) &&
                 g_unix_set_fd_nonblocking (output, TRUE, NULL);
  if (can)
    return g_simple_io_stream_new (in, out);
  fail (error, USAGE, "--stdio needs a pipe or a socket on standard input and output");
  hint (error, "it is what 'rechain -H HOST' runs on HOST");
  return NULL;
}

RechainServer *
rechain_server_new (int input, int output, GError **error)
{
  static const QmpStreamOwner callbacks = {.message = on_message, .ended = on_ended};
  g_autoptr (GIOStream) connection = stream_of (input, output, error);
  if (connection == NULL)
    return NULL;
  RechainServer *server = g_object_new (RECHAIN_TYPE_SERVER, NULL);
  server->input = input;
  server->output = output;
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  server->stream = qmp_stream_new (connection, context, REMOTE_MAX_MESSAGE, REMOTE_MAX_QUEUED,
                                   &callbacks, server);
  g_autoptr (Json) greeting = json_make ("rechain",
                                         json_make ("protocol", json_int (REMOTE_PROTOCOL),
                                                    "version", json_str (RECHAIN_VERSION), NULL),
                                         NULL);
  qmp_stream_send (server->stream, greeting, NULL);
  return server;
}

char **
rechain_server_next (RechainServer *server, GError **error)
{
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  while (server->argv == NULL && !server->gone)
    g_main_context_iteration (context, TRUE);
  server->running = server->argv != NULL;
  if (server->argv == NULL && server->broken != NULL && error != NULL)
    *error = g_error_copy (server->broken);
  return g_steal_pointer (&server->argv);
}

const char *
rechain_server_get_document (RechainServer *server, const char *option)
{
  return json_get_str (server->documents, option);
}

/* ---- what goes out --------------------------------------------------------------------------- */

/* While the peer does not read, the command waits, as it would with a terminal. */
static void
make_room (RechainServer *server)
{
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  while (!server->gone && qmp_stream_get_queued (server->stream) > REMOTE_MAX_QUEUED / 2)
    g_main_context_iteration (context, TRUE);
}

static void
tell (RechainServer *server, const char *event, Json *take_data)
{
  g_autoptr (Json) message = json_make ("event", json_str (event), "data", take_data, NULL);
  if (!server->gone && !qmp_stream_send (server->stream, message, NULL))
    lose_peer (server);
}

void
rechain_server_tell (RechainServer *server, const char *event, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid (text, -1);
  const char *rest = valid;
  do {
    const char *stop = remote_piece (rest);
    g_autofree char *piece = g_strndup (rest, (gsize)(stop - rest));
    make_room (server);
    tell (server, event, json_make ("text", json_str (piece), NULL));
    rest = stop;
  } while (*rest != 0 && !server->gone);
}

void
rechain_server_tell_progress (RechainServer *server, const char *object)
{
  if (!server->gone && qmp_stream_get_queued (server->stream) < REMOTE_MAX_MESSAGE)
    tell (server, "progress", json_parse (object, -1));
}

void
rechain_server_reply (RechainServer *server, int exit_code, const GError *error)
{
  server->running = FALSE;
  json_object_put (server->documents);
  server->documents = json_object_new_object ();
  server->documents_length = 0;
  make_room (server);
  answer (server, server->id, error ? NULL : json_make ("exit", json_int (exit_code), NULL), error);
}

/* Everything up to the reply goes out as messages; from then on nobody here reads or writes any. */
gboolean
rechain_server_hand_over (RechainServer *server, int *ret_input, int *ret_output)
{
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  g_autofree char *reply =
      g_strdup_printf ("{\"return\":{\"exit\":0},\"id\":%" G_GINT64_FORMAT "}\n", server->id);
  gsize length = strlen (reply), done = 0;
  while (!server->gone && qmp_stream_get_queued (server->stream) > 0)
    g_main_context_iteration (context, TRUE);
  if (server->gone)
    return FALSE;
  server->gone = TRUE;
  qmp_stream_close (server->stream);
  while (done < length) {
    gssize n = write (server->output, reply + done, length - done);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return FALSE;
    done += n > 0 ? (gsize)n : 0;
    if (n < 0)
      g_poll (&(GPollFD){.fd = server->output, .events = G_IO_OUT}, 1, 1000);
  }
  *ret_input = server->input;
  *ret_output = server->output;
  return TRUE;
}

void
rechain_server_want_feed (RechainServer *server, const char *operation, guint64 from)
{
  tell (server, "feed",
        json_make ("operation", json_str (operation), "from", json_int ((gint64)from), NULL));
}
