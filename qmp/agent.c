/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/agent.h"

#include "qmp/address.h"
#include "qmp/message.h"
#include "qmp/stream.h"
#include "qmp/wakeup.h"
#include "src/common/error.h"
#include "src/common/source.h"

#include <errno.h>

#define SENTINEL   0xff
#define RETRY_MS   50          /* connecting again while the backlog of a unix socket is full */
#define MAX_QUEUED (64u << 10) /* bytes waiting to be written */

typedef enum { CLOSED, CONNECTING, SYNCING, IDLE, ASKED } State;

static const char *const state_names[] = {"closed", "connecting", "syncing", "idle", "asked"};

typedef struct {
  char *command;
  Json *arguments;
  guint timeout_ms;
  QmpAgentReply callback;
  gpointer data;
} Question;

struct _QmpAgent {
  guint refs;
  char *name;
  GMainContext *context;
  QmpAddress address;
  State state;
  guint sync_ms;
  GCancellable *connecting; /* of a TCP connection */
  QmpStream *stream;
  gint64 sync_id;
  gint64 sent_us;
  GQueue questions; /* Question*; the first is the one in hand */
  GSource *turn;    /* what is to be done next */
  GSource *timer;   /* the deadline of the state */
  gboolean freed;
};

/* ---- state ----------------------------------------------------------------------------------- */

static void
set_state (QmpAgent *agent, State state)
{
  g_debug ("agent %s: %s -> %s", agent->name, state_names[agent->state], state_names[state]);
  agent->state = state;
}

static void
set_deadline (QmpAgent *agent, guint ms)
{
  wakeup_at (agent->timer, g_get_monotonic_time () + (gint64)ms * 1000);
}

static void
disconnect (QmpAgent *agent)
{
  if (agent->connecting != NULL)
    g_cancellable_cancel (agent->connecting);
  g_clear_object (&agent->connecting);
  g_clear_pointer (&agent->stream, qmp_stream_free);
  wakeup_at (agent->timer, WAKEUP_NEVER);
  set_state (agent, CLOSED);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void
question_free (gpointer data)
{
  Question *question = data;
  json_object_put (question->arguments);
  g_free (question->command);
  g_free (question);
}

static void
agent_unref (QmpAgent *agent)
{
  if (--agent->refs > 0)
    return;
  qmp_address_clear (&agent->address);
  g_main_context_unref (agent->context);
  g_free (agent->name);
  g_free (agent);
}

/* The one in hand; the next one gets its turn. */
static void
answer (QmpAgent *agent, Json *ret, const GError *error)
{
  Question *question = g_queue_pop_head (&agent->questions);
  if (question == NULL)
    return;
  agent->refs++; /* the callback may free it */
  if (question->callback != NULL)
    question->callback (agent, ret, error, question->data);
  if (!agent->freed)
    wakeup_at (agent->turn, WAKEUP_NOW);
  agent_unref (agent);
  question_free (question);
}

/* Takes @why: the connection is of no more use. */
static void
give_up (QmpAgent *agent, GError *why)
{
  g_autoptr (GError) error = why;
  Question *question = g_queue_peek_head (&agent->questions);
  g_debug ("agent %s: %s", agent->name, why->message);
  disconnect (agent);
  if (question != NULL)
    prefix (&error, "%s", question->command);
  answer (agent, NULL, error);
}

static void
give_up_saying (QmpAgent *agent, const char *phrase, const char *cause)
{
  GError *error = NULL;
  fail (&error, UNREACHABLE, "guest agent '%s' %s", agent->name, phrase);
  if (cause != NULL)
    because (&error, "%s", cause);
  give_up (agent, error);
}

static gboolean
on_timer (gpointer data)
{
  QmpAgent *agent = data;
  GError *error = NULL;
  fail (&error, UNREACHABLE, "guest agent '%s' does not answer", agent->name);
  if (agent->state == ASKED) {
    because (&error, "the deadline of the command has passed");
  } else {
    because (&error, "no answer to guest-sync-delimited within %u ms", agent->sync_ms);
    hint (&error,
          "is qemu-guest-agent running in the guest, is this its socket, and is nobody else "
          "connected to it?");
  }
  give_up (agent, error);
  return G_SOURCE_CONTINUE;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void
send_message (QmpAgent *agent, const char *command, Json *take_arguments)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Json) message = qmp_message_command (command, take_arguments, NULL);
  if (!qmp_stream_send (agent->stream, message, &error))
    give_up_saying (agent, error->message, rechain_error_get_cause (error));
}

static void
ask (QmpAgent *agent)
{
  Question *question = g_queue_peek_head (&agent->questions);
  set_state (agent, ASKED);
  set_deadline (agent, question->timeout_ms ? question->timeout_ms : AGENT_COMMAND_MS);
  agent->sent_us = g_get_monotonic_time ();
  send_message (agent, question->command, g_steal_pointer (&question->arguments));
}

/* Neither of us may know where the other one stands: another client may have gone away in
 * the middle of a command, or of an answer. The number fits into what every JSON reader
 * takes exactly. */
static void
get_in_step (QmpAgent *agent)
{
  agent->sync_id =
      (gint64)g_random_int_range (1, G_MAXINT32) << 20 | g_random_int_range (0, 1 << 20);
  set_state (agent, SYNCING);
  qmp_stream_resync (agent->stream, SENTINEL);
  send_message (agent, "guest-sync-delimited", json_make ("id", json_int (agent->sync_id), NULL));
}

/* ---- hearing --------------------------------------------------------------------------------- */

static void
on_sync_reply (QmpAgent *agent, const QmpMessage *message)
{
  gboolean ours = message->kind == MESSAGE_RETURN &&
                  json_object_is_type (message->body, json_type_int) &&
                  json_object_get_int64 (message->body) == agent->sync_id;
  if (!ours) { /* the answer to somebody else's */
    qmp_stream_resync_again (agent->stream);
    return;
  }
  qmp_stream_in_step (agent->stream);
  wakeup_at (agent->timer, WAKEUP_NEVER);
  set_state (agent, IDLE);
  wakeup_at (agent->turn, WAKEUP_NOW);
}

static void
on_answer (QmpAgent *agent, const QmpMessage *message)
{
  g_autoptr (GError) error = NULL;
  Question *question = g_queue_peek_head (&agent->questions);
  wakeup_at (agent->timer, WAKEUP_NEVER);
  set_state (agent, IDLE);
  if (message->kind == MESSAGE_ERROR)
    qmp_message_fail (message, question->command, &error);
  answer (agent, error ? NULL : message->body, error);
}

static void
on_message (QmpStream *stream, Json *json, gpointer data)
{
  QmpAgent *agent = data;
  QmpMessage message = qmp_message_read (json);
  if (agent->state == SYNCING)
    on_sync_reply (agent, &message);
  else if (agent->state != ASKED) /* nobody asked: the next command begins with a new connection */
    disconnect (agent);
  else if (message.kind == MESSAGE_RETURN || message.kind == MESSAGE_ERROR)
    on_answer (agent, &message);
  else
    give_up_saying (agent, "sent something that is no answer", message.reason);
}

static void
on_ended (QmpStream *stream, const GError *error, gpointer data)
{
  QmpAgent *agent = data;
  if (agent->state == IDLE)
    disconnect (agent);
  else
    give_up_saying (agent, error->message, rechain_error_get_cause (error));
}

static const QmpStreamOwner stream_owner = {.message = on_message, .ended = on_ended};

/* ---- connecting ------------------------------------------------------------------------------ */

static void
connected (QmpAgent *agent, GSocketConnection *connection)
{
  agent->stream = qmp_stream_new (G_IO_STREAM (connection), agent->context, AGENT_MAX_MESSAGE,
                                  MAX_QUEUED, &stream_owner, agent);
  get_in_step (agent);
}

static void
connect_unix (QmpAgent *agent)
{
  g_autoptr (GSocketConnection) connection = NULL;
  GError *error = NULL;
  int errnum = qmp_unix_connect (agent->address.path, &connection);
  if (errnum == 0) {
    connected (agent, connection);
  } else if (errnum == EAGAIN || errnum == EINTR) {
    wakeup_at (agent->turn, g_get_monotonic_time () + RETRY_MS * 1000);
  } else {
    qmp_address_fail_unix ("guest agent", agent->name, errnum, &error);
    give_up (agent, error);
  }
}

static void
on_remote_connected (GObject *source, GAsyncResult *result, gpointer data)
{
  QmpAgent *agent = data; /* with the reference of connect_remote() */
  g_autoptr (GError) why = NULL;
  GError *error = NULL;
  g_autoptr (GSocketConnection) connection =
      g_socket_client_connect_finish (G_SOCKET_CLIENT (source), result, &why);
  gboolean late = g_error_matches (why, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (!late && agent->state == CONNECTING) {
    if (connection != NULL) {
      connected (agent, connection);
    } else {
      qmp_address_fail_remote ("guest agent", agent->name, why, &error);
      give_up (agent, error);
    }
  }
  agent_unref (agent);
}

static void
connect_remote (QmpAgent *agent)
{
  g_autoptr (GSocketClient) connector = g_socket_client_new ();
  g_socket_client_set_enable_proxy (connector, FALSE);
  agent->connecting = g_cancellable_new ();
  agent->refs++;
  g_socket_client_connect_async (connector, agent->address.remote, agent->connecting,
                                 on_remote_connected, agent);
}

static gboolean
on_turn (gpointer data)
{
  QmpAgent *agent = data;
  if (g_queue_is_empty (&agent->questions))
    return G_SOURCE_CONTINUE;
  if (agent->state == CLOSED) {
    set_state (agent, CONNECTING);
    set_deadline (agent, agent->sync_ms);
    if (agent->address.remote != NULL)
      connect_remote (agent);
  }
  if (agent->state == CONNECTING && agent->address.remote == NULL)
    connect_unix (agent);
  else if (agent->state == IDLE)
    ask (agent);
  return G_SOURCE_CONTINUE;
}

/* ---- life ------------------------------------------------------------------------------------ */

QmpAgent *
qmp_agent_new (const char *address, guint sync_ms, GError **error)
{
  QmpAddress parsed;
  if (!qmp_address_parse (address, &parsed, error)) {
    prefix (error, "guest agent");
    return NULL;
  }
  QmpAgent *agent = g_new0 (QmpAgent, 1);
  agent->refs = 1;
  agent->name = g_strdup (address);
  agent->address = parsed;
  agent->sync_ms = sync_ms ? sync_ms : AGENT_SYNC_MS;
  agent->context = g_main_context_ref_thread_default ();
  g_queue_init (&agent->questions);
  agent->turn = wakeup_new (agent->context, on_turn, agent);
  agent->timer = wakeup_new (agent->context, on_timer, agent);
  return agent;
}

void
qmp_agent_free (QmpAgent *agent)
{
  if (agent == NULL)
    return;
  agent->freed = TRUE;
  disconnect (agent);
  source_clear (&agent->turn);
  source_clear (&agent->timer);
  g_queue_clear_full (&agent->questions, question_free);
  agent_unref (agent);
}

void
qmp_agent_execute (QmpAgent *agent, const char *command, Json *arguments, guint timeout_ms,
                   QmpAgentReply callback, gpointer data)
{
  Question *question = g_new0 (Question, 1);
  *question = (Question){.command = g_strdup (command),
                         .arguments = arguments,
                         .timeout_ms = timeout_ms,
                         .callback = callback,
                         .data = data};
  g_queue_push_tail (&agent->questions, question);
  if (agent->state == CLOSED || agent->state == IDLE)
    wakeup_at (agent->turn, WAKEUP_NOW);
}

const char *
qmp_agent_get_name (QmpAgent *agent)
{
  return agent->name;
}

gint64
qmp_agent_get_sent_us (QmpAgent *agent)
{
  return agent->sent_us;
}
