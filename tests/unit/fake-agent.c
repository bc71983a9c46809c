/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/fake-agent.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

static void
hang_up (FakeAgent *agent)
{
  GSource **sources[] = {&agent->readable, &agent->writable};
  for (guint i = 0; i < G_N_ELEMENTS (sources); i++)
    if (*sources[i] != NULL) {
      g_source_destroy (*sources[i]);
      g_clear_pointer (sources[i], g_source_unref);
    }
  if (agent->connection != NULL)
    g_io_stream_close (G_IO_STREAM (agent->connection), NULL, NULL);
  g_clear_object (&agent->connection);
  g_string_truncate (agent->in, 0);
  g_string_truncate (agent->out, 0);
}

/* ---- saying ---------------------------------------------------------------------------------- */

static gboolean
on_writable (GSocket *socket, GIOCondition condition, gpointer data)
{
  FakeAgent *agent = data;
  gssize n = g_socket_send (socket, agent->out->str, agent->out->len, NULL, NULL);
  if (n > 0)
    g_string_erase (agent->out, 0, n);
  if (n > 0 && agent->out->len > 0)
    return G_SOURCE_CONTINUE;
  g_clear_pointer (&agent->writable, g_source_unref);
  return G_SOURCE_REMOVE;
}

static GSource *
watch (FakeAgent *agent, GIOCondition condition, GSocketSourceFunc func)
{
  GSource *source =
      g_socket_create_source (g_socket_connection_get_socket (agent->connection), condition, NULL);
  g_source_set_callback (source, G_SOURCE_FUNC (func), agent, NULL);
  g_source_attach (source, NULL);
  return source;
}

void
fake_agent_says (FakeAgent *agent, const char *bytes, gssize length)
{
  if (agent->connection == NULL)
    return;
  g_string_append_len (agent->out, bytes, length);
  if (agent->writable == NULL)
    agent->writable = watch (agent, G_IO_OUT, on_writable);
}

static void
say_json (FakeAgent *agent, Json *take_json)
{
  g_autoptr (Json) json = take_json;
  g_autofree char *line = json_line (json);
  fake_agent_says (agent, line, -1);
  fake_agent_says (agent, "\n", 1);
}

/* ---- doing ----------------------------------------------------------------------------------- */

static Json *
capability (const char *name, gboolean enabled)
{
  return json_make ("name", json_str (name), "enabled", json_flag (enabled), NULL);
}

/* Full: {"return": ...} or {"error": ...}. */
static Json *
perform (FakeAgent *agent, const char *command, Json *arguments)
{
  gboolean freeze = g_str_equal (command, "guest-fsfreeze-freeze");
  gboolean thaw = g_str_equal (command, "guest-fsfreeze-thaw");
  if (freeze || thaw) {
    guint n = freeze != agent->frozen ? agent->filesystems : 0;
    agent->frozen = freeze;
    return json_make ("return", json_int (n), NULL);
  }
  if (g_str_equal (command, "guest-fsfreeze-status"))
    return json_make ("return", json_str (agent->frozen ? "frozen" : "thawed"), NULL);
  if (g_str_equal (command, "guest-info")) {
    Json *commands =
        json_list (capability ("guest-ping", TRUE),
                   capability ("guest-fsfreeze-freeze", !agent->frozen && !agent->no_freeze), NULL);
    return json_make (
        "return", json_make ("version", json_str ("7.2.22"), "supported_commands", commands, NULL),
        NULL);
  }
  if (g_str_equal (command, "guest-sync-delimited"))
    return json_make ("return", json_dup (json_get (arguments, "id")), NULL);
  return json_make ("error",
                    json_make ("class", json_str ("CommandNotFound"), "desc",
                               json_str ("The command has not been found"), NULL),
                    NULL);
}

static gboolean
is_hit (FakeAgent *agent, const char *which, const char *command)
{
  if (which == NULL || (!g_str_equal (which, "*") && !g_str_equal (which, command)))
    return FALSE;
  if (agent->times > 0 && --agent->times == 0)
    agent->refuse = agent->silent = agent->hang_up = agent->garble = NULL;
  return TRUE;
}

static void
on_command (FakeAgent *agent, const char *command, Json *arguments)
{
  gboolean is_sync = g_str_equal (command, "guest-sync-delimited");
  if (!is_sync)
    g_ptr_array_add (agent->log, g_strdup (command));
  if (agent->hook != NULL && !is_sync)
    agent->hook (agent, command, agent->data);
  const char *refuse = agent->refuse, *silent = agent->silent, *gone = agent->hang_up,
             *garble = agent->garble;
  if (agent->after && (is_hit (agent, silent, command) || is_hit (agent, gone, command))) {
    json_object_put (perform (agent, command, arguments));
    if (gone != NULL)
      hang_up (agent);
  } else if (is_hit (agent, refuse, command)) {
    say_json (agent, json_make ("error",
                                json_make ("class", json_str ("GenericError"), "desc",
                                           json_str ("the agent's own words"), NULL),
                                NULL));
  } else if (is_hit (agent, silent, command)) {
    ;
  } else if (is_hit (agent, gone, command)) {
    hang_up (agent);
  } else if (is_hit (agent, garble, command)) {
    fake_agent_says (agent, agent->answer,
                     agent->answer_length ? (gssize)agent->answer_length : -1);
  } else {
    if (is_sync)
      fake_agent_says (agent, "\xff", 1);
    say_json (agent, perform (agent, command, arguments));
  }
}

/* ---- hearing --------------------------------------------------------------------------------- */

static void
take_line (FakeAgent *agent, const char *line)
{
  g_autoptr (Json) message = json_parse (line, -1);
  const char *command = json_get_str (message, "execute");
  if (command != NULL)
    on_command (agent, command, json_get (message, "arguments"));
}

static gboolean
on_readable (GSocket *socket, GIOCondition condition, gpointer data)
{
  FakeAgent *agent = data;
  char bytes[4096];
  gssize n = g_socket_receive (socket, bytes, sizeof bytes, NULL, NULL);
  if (n <= 0) {
    hang_up (agent);
    return G_SOURCE_REMOVE;
  }
  g_string_append_len (agent->in, bytes, n);
  char *end;
  while (agent->connection && (end = memchr (agent->in->str, '\n', agent->in->len)) != NULL) {
    g_autofree char *line = g_strndup (agent->in->str, (gsize)(end - agent->in->str));
    g_string_erase (agent->in, 0, end + 1 - agent->in->str);
    /* The sentinel ends whatever an earlier client had begun. */
    char *sentinel = strrchr (line, '\xff');
    take_line (agent, sentinel ? sentinel + 1 : line);
  }
  return agent->connection ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean
on_incoming (GSocketService *service, GSocketConnection *connection, GObject *source, gpointer data)
{
  FakeAgent *agent = data;
  hang_up (agent);
  agent->connections++;
  agent->connection = g_object_ref (connection);
  g_socket_set_blocking (g_socket_connection_get_socket (connection), FALSE);
  agent->readable = watch (agent, G_IO_IN, on_readable);
  if (agent->stale != NULL)
    fake_agent_says (agent, agent->stale, -1);
  return TRUE;
}

/* ---- life ------------------------------------------------------------------------------------ */

FakeAgent *
fake_agent_new (const char *path)
{
  FakeAgent *agent = g_new0 (FakeAgent, 1);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (path);
  agent->path = g_strdup (path);
  agent->filesystems = 3;
  agent->log = g_ptr_array_new_with_free_func (g_free);
  agent->in = g_string_new (NULL);
  agent->out = g_string_new (NULL);
  agent->service = g_socket_service_new ();
  assert_true (g_socket_listener_add_address (G_SOCKET_LISTENER (agent->service), address,
                                              G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, NULL,
                                              NULL, NULL));
  g_signal_connect (agent->service, "incoming", G_CALLBACK (on_incoming), agent);
  g_socket_service_start (agent->service);
  return agent;
}

void
fake_agent_stops_listening (FakeAgent *agent)
{
  hang_up (agent);
  if (agent->service == NULL)
    return;
  g_socket_service_stop (agent->service);
  g_socket_listener_close (G_SOCKET_LISTENER (agent->service));
  g_clear_object (&agent->service);
}

void
fake_agent_free (FakeAgent *agent)
{
  if (agent == NULL)
    return;
  fake_agent_stops_listening (agent);
  g_unlink (agent->path);
  g_ptr_array_unref (agent->log);
  g_string_free (agent->in, TRUE);
  g_string_free (agent->out, TRUE);
  g_free (agent->path);
  g_free (agent);
}

guint
fake_agent_asked (FakeAgent *agent, const char *command)
{
  guint n = 0;
  for (guint i = 0; i < agent->log->len; i++)
    n += g_str_equal (agent->log->pdata[i], command);
  return n;
}
