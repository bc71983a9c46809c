/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/client.h"

#include "qmp/address.h"
#include "qmp/calls.h"
#include "qmp/listeners.h"
#include "qmp/message.h"
#include "qmp/stream.h"
#include "qmp/wakeup.h"
#include "src/common/error.h"
#include "src/common/source.h"

#include <errno.h>
#include <string.h>

#define RETRY_MS        50  /* connecting again while the backlog of a unix socket is full */
#define MAX_PACKAGE     256 /* bytes of QEMU's "package" */
#define CAPABILITIES_ID 0   /* commands of users start at 1 */

enum { EVENTS, STATES }; /* kinds of listeners */

static const char *const state_names[] = {
    [QMP_CONNECTING] = "connecting",
    [QMP_GREETING] = "greeting",
    [QMP_CAPABILITIES] = "capabilities",
    [QMP_READY] = "ready",
    [QMP_CLOSED] = "closed",
};

struct _QmpClient {
  guint refs;
  char *name;
  GMainContext *context;
  QmpState state;
  GError *error; /* set in QMP_CLOSED */

  QmpAddress address;       /* while connecting */
  GCancellable *connecting; /* of a TCP connection */
  GSource *connector;       /* tries a unix socket */
  gint64 phase_deadline;    /* of what comes before QMP_READY; monotonic, us */
  QmpStream *stream;
  pid_t peer_pid;

  Json *greeting;
  guint version;
  char *version_string;

  Calls *calls;
  Listeners *listeners;
  GSource *timer;           /* the nearest deadline */
  GSource *farewell;        /* after the end: answers who waits, then tells that it is closed */
  gboolean saying_farewell; /* holds a reference */
  gboolean told_closed;
  GData *data;
};

static gboolean
on_timer (gpointer data);
static gboolean
on_farewell (gpointer data);
static gboolean
on_connect_turn (gpointer data);

/* ---- state ----------------------------------------------------------------------------------- */

static void
tell_state (const Listener *listener, gpointer what)
{
  QmpClient *client = what;
  ((QmpStateChanged)listener->callback) (client, client->state, listener->data);
}

/* The only setter. QMP_CLOSED is told by on_farewell(), when everybody has his answer. */
static void
set_state (QmpClient *client, QmpState state)
{
  g_debug ("%s: %s -> %s", client->name, state_names[client->state], state_names[state]);
  client->state = state;
  if (state != QMP_CLOSED)
    listeners_tell (client->listeners, STATES, NULL, tell_state, client);
}

/* Wakes up at the nearest deadline. */
static void
set_timer (QmpClient *client)
{
  gint64 when = calls_nearest_deadline (client->calls);
  if (client->state < QMP_READY && (when < 0 || client->phase_deadline < when))
    when = client->phase_deadline;
  if (client->timer != NULL)
    wakeup_at (client->timer, when);
}

static void
say_farewell (QmpClient *client)
{
  if (client->saying_farewell)
    return;
  client->saying_farewell = TRUE;
  qmp_client_ref (client);
  wakeup_at (client->farewell, WAKEUP_NOW);
}

static void
stop_connecting (QmpClient *client)
{
  if (client->connecting != NULL)
    g_cancellable_cancel (client->connecting);
  g_clear_object (&client->connecting);
  source_clear (&client->connector);
}

/* Ends the connection for the reason @why (taken); the first reason counts. */
static void
end (QmpClient *client, GError *why)
{
  if (client->state == QMP_CLOSED) {
    g_error_free (why);
    return;
  }
  g_debug ("%s: %s", client->name, why->message);
  client->error = why;
  set_state (client, QMP_CLOSED);
  stop_connecting (client);
  g_clear_pointer (&client->stream, qmp_stream_free);
  source_clear (&client->timer);
  say_farewell (client);
}

/* Ends it with "monitor 'NAME' @phrase". */
static void
end_saying (QmpClient *client, const char *phrase, const char *cause, const char *advice)
{
  GError *error = NULL;
  fail (&error, UNREACHABLE, "monitor '%s' %s", client->name, phrase);
  if (cause != NULL)
    because (&error, "%s", cause);
  if (advice != NULL)
    hint (&error, "%s", advice);
  end (client, error);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void
answer (QmpClient *client, const Call *call, Json *ret, const GError *error)
{
  if (call->callback != NULL)
    call->callback (client, ret, error, call->data);
}

/* Why the connection ended, as the answer to @call. */
static void
answer_ended (QmpClient *client, const Call *call)
{
  g_autoptr (GError) error = g_error_copy (client->error);
  if (call->sent)
    prefix (&error, "%s", call->command);
  answer (client, call, NULL, error);
}

static gboolean
on_farewell (gpointer data)
{
  QmpClient *client = data;
  client->saying_farewell = FALSE;
  /* Who asks again from his callback is answered in another turn. */
  for (guint n = calls_waiting (client->calls); n > 0; n--) {
    g_autoptr (Call) call = calls_take_oldest (client->calls);
    if (call != NULL) /* a nested main loop may have been here */
      answer_ended (client, call);
  }
  if (!client->told_closed && calls_waiting (client->calls) == 0) {
    client->told_closed = TRUE;
    listeners_tell (client->listeners, STATES, NULL, tell_state, client);
  }
  if (!client->told_closed || calls_waiting (client->calls) > 0)
    say_farewell (client);
  qmp_client_unref (client);
  return G_SOURCE_CONTINUE;
}

static void
answer_expired (QmpClient *client, const Call *call)
{
  g_autoptr (GError) error = NULL;
  fail (&error, UNREACHABLE, "%s: monitor '%s' does not answer", call->command, client->name);
  because (&error, "%s",
           call->sent ? "the deadline of the command has passed"
                      : "the deadline passed before the command could be sent");
  answer (client, call, NULL, error);
}

static void
end_phase (QmpClient *client)
{
  GError *error = NULL;
  if (client->state == QMP_CAPABILITIES) {
    end_saying (client, "does not answer", "no reply to qmp_capabilities", NULL);
  } else if (client->address.remote != NULL && client->state == QMP_CONNECTING) {
    end_saying (client, "cannot be reached", "no connection within the deadline", NULL);
  } else {
    qmp_address_fail_silent (client->name, client->stream != NULL, &error);
    end (client, error);
  }
}

static gboolean
on_timer (gpointer data)
{
  QmpClient *client = qmp_client_ref (data);
  gint64 now = g_get_monotonic_time ();
  if (client->state < QMP_READY && client->phase_deadline <= now)
    end_phase (client);
  while (client->state != QMP_CLOSED) {
    g_autoptr (Call) call = calls_take_expired (client->calls, now);
    if (call == NULL)
      break;
    answer_expired (client, call);
  }
  set_timer (client);
  qmp_client_unref (client);
  return G_SOURCE_CONTINUE;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void
send_message (QmpClient *client, Json *message)
{
  g_autoptr (GError) error = NULL;
  if (!g_log_writer_default_would_drop (G_LOG_LEVEL_DEBUG, G_LOG_DOMAIN)) {
    g_autofree char *text = qmp_message_for_log (message);
    g_debug ("%s <- %s", client->name, text);
  }
  if (!qmp_stream_send (client->stream, message, &error))
    end_saying (client, error->message, rechain_error_get_cause (error), NULL);
}

static void
send_waiting (QmpClient *client)
{
  Call *call;
  while (client->state == QMP_READY && (call = calls_next_unsent (client->calls)) != NULL) {
    g_autoptr (Json) message = qmp_message_command (
        call->command, g_steal_pointer (&call->arguments), json_int (call->id));
    send_message (client, message);
  }
}

/* ---- receiving ------------------------------------------------------------------------------- */

static guint
version_part (Json *version, const char *name, guint limit)
{
  gint64 value = json_get_int (version, name);
  return (guint)CLAMP (value, 0, (gint64)limit);
}

static void
keep_greeting (QmpClient *client, Json *greeting)
{
  Json *version = json_get (greeting, "version");
  Json *qemu = json_get (version, "qemu");
  const char *package = json_get_str (version, "package");
  guint major = version_part (qemu, "major", 9999);
  guint minor = version_part (qemu, "minor", 99);
  guint micro = version_part (qemu, "micro", 99);
  gboolean plain = package == NULL || *package == '\0' || strlen (package) > MAX_PACKAGE;
  client->greeting = json_dup (greeting);
  client->version = major * 10000 + minor * 100 + micro;
  client->version_string =
      g_strdup_printf ("%u.%u.%u%s%s%s", major, minor, micro, plain ? "" : " (",
                       plain ? "" : package, plain ? "" : ")");
}

static void
on_greeting (QmpClient *client, const QmpMessage *message)
{
  if (client->state != QMP_GREETING) {
    end_saying (client, "greeted twice", NULL, NULL);
    return;
  }
  keep_greeting (client, message->body);
  g_autoptr (Json) command =
      qmp_message_command ("qmp_capabilities", NULL, json_int (CAPABILITIES_ID));
  client->phase_deadline = g_get_monotonic_time () + (gint64)QMP_COMMAND_MS * 1000;
  set_state (client, QMP_CAPABILITIES);
  if (client->state == QMP_CAPABILITIES)
    send_message (client, command);
  set_timer (client);
}

static void
on_capabilities (QmpClient *client, const QmpMessage *message)
{
  if (message->kind == MESSAGE_ERROR) {
    end_saying (client, "refused qmp_capabilities", message->desc, NULL);
    return;
  }
  set_state (client, QMP_READY);
  send_waiting (client);
  set_timer (client);
}

static void
on_reply (QmpClient *client, const QmpMessage *message)
{
  if (message->kind == MESSAGE_ERROR && message->id == NULL) {
    end_saying (client, "did not understand us", message->desc, NULL);
    return;
  }
  gboolean number = json_object_is_type (message->id, json_type_int);
  gint64 id = number ? json_object_get_int64 (message->id) : -1;
  if (client->state == QMP_CAPABILITIES && id == CAPABILITIES_ID) {
    on_capabilities (client, message);
    return;
  }
  /* Only who was asked can answer: before QMP_READY nothing was. */
  g_autoptr (Call) call = client->state == QMP_READY ? calls_take (client->calls, id) : NULL;
  if (call == NULL) {
    g_info ("%s: reply with %s id dropped", client->name,
            calls_knew (client->calls, id) ? "a late or repeated" : "an unknown");
    return;
  }
  g_autoptr (GError) error = NULL;
  if (message->kind == MESSAGE_ERROR)
    qmp_message_fail (message, call->command, &error);
  set_timer (client);
  answer (client, call, error ? NULL : message->body, error);
}

typedef struct {
  QmpClient *client;
  const QmpMessage *message;
} Telling;

static void
tell_event (const Listener *listener, gpointer what)
{
  Telling *telling = what;
  ((QmpEvent)listener->callback) (telling->client, telling->message->name, telling->message->body,
                                  listener->data);
}

static void
on_event (QmpClient *client, const QmpMessage *message)
{
  Telling telling = {.client = client, .message = message};
  if (client->state == QMP_GREETING)
    end_saying (client, "sent an event before its greeting", NULL, NULL);
  else
    listeners_tell (client->listeners, EVENTS, message->name, tell_event, &telling);
}

/* The only router. */
static void
on_message (QmpStream *stream, Json *json, gpointer data)
{
  QmpClient *client = qmp_client_ref (data);
  QmpMessage message = qmp_message_read (json);
  if (!g_log_writer_default_would_drop (G_LOG_LEVEL_DEBUG, G_LOG_DOMAIN)) {
    g_autofree char *text = qmp_message_for_log (json);
    g_debug ("%s -> %s", client->name, text);
  }
  switch (message.kind) {
  case MESSAGE_GREETING:
    on_greeting (client, &message);
    break;
  case MESSAGE_RETURN:
  case MESSAGE_ERROR:
    on_reply (client, &message);
    break;
  case MESSAGE_EVENT:
    on_event (client, &message);
    break;
  case MESSAGE_MALFORMED:
    end_saying (client, "sent something that is not QMP", message.reason, NULL);
    break;
  }
  qmp_client_unref (client);
}

static void
on_ended (QmpStream *stream, const GError *error, gpointer data)
{
  QmpClient *client = data;
  const char *advice =
      client->state == QMP_GREETING
          ? "is this a QMP monitor (-qmp), and not a human monitor or a guest agent?"
          : NULL;
  end_saying (client, error->message, rechain_error_get_cause (error), advice);
}

static const QmpStreamOwner stream_owner = {.message = on_message, .ended = on_ended};

/* ---- connecting ------------------------------------------------------------------------------ */

static void
connected (QmpClient *client, GIOStream *connection)
{
  uid_t uid;
  qmp_peer_identify (connection, &client->peer_pid, &uid);
  client->stream = qmp_stream_new (connection, client->context, QMP_MAX_MESSAGE, QMP_MAX_QUEUED,
                                   &stream_owner, client);
}

static gboolean
on_connect_turn (gpointer data)
{
  QmpClient *client = qmp_client_ref (data);
  g_autoptr (GSocketConnection) connection = NULL;
  GError *error = NULL;
  int errnum = qmp_unix_connect (client->address.path, &connection);
  if (errnum == 0) {
    connected (client, G_IO_STREAM (connection));
    set_state (client, QMP_GREETING);
  } else if (errnum == EAGAIN || errnum == EINTR) {
    wakeup_at (client->connector, g_get_monotonic_time () + RETRY_MS * 1000);
  } else {
    qmp_address_fail_unix ("monitor", client->name, errnum, &error);
    end (client, error);
  }
  qmp_client_unref (client);
  return G_SOURCE_CONTINUE;
}

static void
on_remote_connected (GObject *source, GAsyncResult *result, gpointer data)
{
  QmpClient *client = data; /* with the reference of connect_remote() */
  g_autoptr (GError) why = NULL;
  g_autoptr (GSocketConnection) connection =
      g_socket_client_connect_finish (G_SOCKET_CLIENT (source), result, &why);
  GError *error = NULL;
  if (client->state == QMP_CLOSED) {
    g_debug ("%s: connected too late", client->name);
  } else if (connection != NULL) {
    /* A host that vanished is noticed although nothing is sent. */
    g_socket_set_keepalive (g_socket_connection_get_socket (connection), TRUE);
    connected (client, G_IO_STREAM (connection));
    set_state (client, QMP_GREETING);
  } else {
    qmp_address_fail_remote ("monitor", client->name, why, &error);
    end (client, error);
  }
  qmp_client_unref (client);
}

static void
connect_remote (QmpClient *client)
{
  g_autoptr (GSocketClient) connector = g_socket_client_new ();
  g_socket_client_set_enable_proxy (connector, FALSE);
  client->connecting = g_cancellable_new ();
  g_socket_client_connect_async (connector, client->address.remote, client->connecting,
                                 on_remote_connected, qmp_client_ref (client));
}

/* ---- life ------------------------------------------------------------------------------------ */

static QmpClient *
client_new (const char *name, QmpState state, guint greeting_ms)
{
  guint ms = greeting_ms ? greeting_ms : QMP_GREETING_MS;
  QmpClient *client = g_new0 (QmpClient, 1);
  client->refs = 1;
  client->name = g_strdup (name);
  client->context = g_main_context_ref_thread_default ();
  client->state = state;
  client->calls = calls_new ();
  client->listeners = listeners_new ();
  client->timer = wakeup_new (client->context, on_timer, client);
  client->farewell = wakeup_new (client->context, on_farewell, client);
  client->phase_deadline = g_get_monotonic_time () + (gint64)ms * 1000;
  g_datalist_init (&client->data);
  set_timer (client);
  return client;
}

QmpClient *
qmp_client_new (const char *address, guint greeting_ms, GError **error)
{
  QmpAddress parsed;
  if (!qmp_address_parse (address, &parsed, error))
    return NULL;
  QmpClient *client = client_new (address, QMP_CONNECTING, greeting_ms);
  client->address = parsed;
  if (parsed.remote != NULL) {
    connect_remote (client);
  } else {
    client->connector = wakeup_new (client->context, on_connect_turn, client);
    wakeup_at (client->connector, WAKEUP_NOW);
  }
  return client;
}

QmpClient *
qmp_client_new_for_connection (GIOStream *connection, const char *name, guint greeting_ms)
{
  QmpClient *client = client_new (name, QMP_GREETING, greeting_ms);
  connected (client, connection);
  return client;
}

QmpClient *
qmp_client_ref (QmpClient *client)
{
  client->refs++;
  return client;
}

static void
client_finalize (QmpClient *client)
{
  stop_connecting (client);
  g_clear_pointer (&client->stream, qmp_stream_free);
  source_clear (&client->timer);
  source_clear (&client->farewell);
  g_datalist_clear (&client->data);
  calls_free (client->calls);
  listeners_free (client->listeners);
  qmp_address_clear (&client->address);
  json_object_put (client->greeting);
  g_clear_error (&client->error);
  g_main_context_unref (client->context);
  g_free (client->version_string);
  g_free (client->name);
  g_free (client);
}

/* Nobody is there to be told, but who waits for an answer gets it. */
static void
outlive (QmpClient *client)
{
  listeners_free (client->listeners);
  client->listeners = listeners_new ();
  client->refs = 1;
  qmp_client_close (client);
  qmp_client_unref (client);
}

void
qmp_client_unref (QmpClient *client)
{
  if (client == NULL || --client->refs > 0)
    return;
  if (calls_waiting (client->calls) > 0)
    outlive (client);
  else
    client_finalize (client);
}

void
qmp_client_close (QmpClient *client)
{
  if (client->state == QMP_CLOSED)
    return;
  GError *error = NULL;
  fail (&error, UNREACHABLE, "the connection to monitor '%s' was closed by us", client->name);
  end (client, error);
}

void
qmp_client_execute (QmpClient *client, const char *command, Json *arguments, guint timeout_ms,
                    QmpReply callback, gpointer data)
{
  calls_add (client->calls, command, arguments, timeout_ms, callback, data);
  if (client->state == QMP_CLOSED) {
    say_farewell (client);
    return;
  }
  send_waiting (client);
  set_timer (client);
}

/* ---- listening ------------------------------------------------------------------------------- */

guint
qmp_client_watch_state (QmpClient *client, QmpStateChanged callback, gpointer data)
{
  return listeners_add (client->listeners, STATES, NULL, G_CALLBACK (callback), data);
}

guint
qmp_client_listen (QmpClient *client, const char *event_name, QmpEvent callback, gpointer data)
{
  return listeners_add (client->listeners, EVENTS, event_name, G_CALLBACK (callback), data);
}

void
qmp_client_unlisten (QmpClient *client, guint id)
{
  listeners_remove (client->listeners, id);
}

/* ---- looking --------------------------------------------------------------------------------- */

QmpState
qmp_client_get_state (QmpClient *client)
{
  return client->state;
}

const GError *
qmp_client_get_error (QmpClient *client)
{
  return client->error;
}

Json *
qmp_client_get_greeting (QmpClient *client)
{
  return client->greeting;
}

const char *
qmp_client_get_name (QmpClient *client)
{
  return client->name;
}

guint
qmp_client_get_version (QmpClient *client)
{
  return client->version;
}

const char *
qmp_client_get_version_string (QmpClient *client)
{
  return client->version_string;
}

pid_t
qmp_client_get_peer_pid (QmpClient *client)
{
  return client->peer_pid;
}

void
qmp_client_set_data (QmpClient *client, const char *key, gpointer data, GDestroyNotify destroy)
{
  g_datalist_set_data_full (&client->data, key, data, destroy);
}

gpointer
qmp_client_get_data (QmpClient *client, const char *key)
{
  return g_datalist_get_data (&client->data, key);
}
