/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/fake-qemu.h"

#include "qmp/address.h"
#include "qmp/client.h"
#include "qmp/stream.h"

#include <dirent.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <unistd.h>

typedef enum { EXPECT, REPLY, SAY, CLOSE } ActionKind;

typedef struct {
  ActionKind kind;
  char *command;   /* EXPECT: which; REPLY: to which, NULL: the last */
  Json *arguments; /* EXPECT: nullable; REPLY: the message without id */
  GBytes *bytes;   /* SAY */
} Action;

typedef struct {
  char *command;
  Json *reply; /* or: */
  FakeQemuHandler handler;
  gpointer data;
} Standing;

struct _FakeQemu {
  GQueue script;
  GPtrArray *standing;
  GHashTable *ids; /* command -> id of its last one */
  Json *last_id;
  char *path;
  GSocket *listener;
  GSource *incoming;
  GIOStream *theirs;
  GIOStream *ours;
  QmpStream *stream; /* only for reading */
  GString *output;   /* from sent on */
  gsize sent;
  GSource *writer;
  gsize per_turn;
  gboolean deaf;
  gboolean closing;
  guint received;
  char *failure;
};

static void
play (FakeQemu *qemu);

/* JSON with ' for ". */
static Json *
relaxed (const char *text)
{
  g_autofree char *strict = g_strdup (text);
  Json *json = json_parse (g_strdelimit (strict, "'", '"'), -1);
  if (json == NULL)
    fail_test ("the test has malformed JSON: %s", text);
  return json;
}

/* Writing: our own, so that bytes can be wrong and slow. */

static void
hang_up (FakeQemu *qemu)
{
  g_clear_pointer (&qemu->stream, qmp_stream_free);
  if (qemu->ours != NULL)
    g_io_stream_close (qemu->ours, NULL, NULL);
  g_clear_object (&qemu->ours);
}

static gboolean
on_write (gpointer data)
{
  FakeQemu *qemu = data;
  GSocket *socket =
      qemu->ours ? g_socket_connection_get_socket (G_SOCKET_CONNECTION (qemu->ours)) : NULL;
  gsize n = MIN (qemu->output->len - qemu->sent, qemu->per_turn);
  gssize written =
      n && socket ? g_socket_send (socket, qemu->output->str + qemu->sent, n, NULL, NULL) : 0;
  qemu->sent += written > 0 ? (gsize)written : 0;
  if (socket != NULL && qemu->sent < qemu->output->len)
    return G_SOURCE_CONTINUE;
  g_string_truncate (qemu->output, 0);
  qemu->sent = 0;
  g_clear_pointer (&qemu->writer, g_source_unref);
  if (qemu->closing)
    hang_up (qemu);
  return G_SOURCE_REMOVE;
}

static void
start_writing (FakeQemu *qemu)
{
  if (qemu->writer != NULL || qemu->ours == NULL)
    return;
  qemu->writer = g_idle_source_new ();
  g_source_set_callback (qemu->writer, on_write, qemu, NULL);
  g_source_attach (qemu->writer, NULL);
}

static void
write_json (FakeQemu *qemu, Json *message)
{
  g_autofree char *line = json_line (message);
  g_string_append (qemu->output, line);
  g_string_append (qemu->output, "\r\n");
  start_writing (qemu);
}

/* Takes @message. */
static void
write_reply (FakeQemu *qemu, Json *message, Json *id)
{
  g_autoptr (Json) reply = message;
  json_set (reply, "id", json_dup (id));
  write_json (qemu, reply);
}

/* ---- the script ------------------------------------------------------------------------------ */

static void
action_free (gpointer data)
{
  Action *action = data;
  g_free (action->command);
  json_object_put (action->arguments);
  g_clear_pointer (&action->bytes, g_bytes_unref);
  g_free (action);
}

static void
add (FakeQemu *qemu, Action action)
{
  g_queue_push_tail (&qemu->script, g_memdup2 (&action, sizeof action));
  play (qemu);
}

static void
perform (FakeQemu *qemu, const Action *action)
{
  Json *id = action->command ? g_hash_table_lookup (qemu->ids, action->command) : qemu->last_id;
  gsize length = 0;
  if (action->kind == REPLY)
    write_reply (qemu, json_dup (action->arguments), id);
  if (action->kind == CLOSE)
    qemu->closing = TRUE;
  if (action->kind == SAY) {
    const char *bytes = g_bytes_get_data (action->bytes, &length);
    g_string_append_len (qemu->output, bytes, (gssize)length);
  }
  start_writing (qemu);
}

/* Up to the next "expects". */
static void
play (FakeQemu *qemu)
{
  Action *action;
  while (qemu->ours && (action = g_queue_peek_head (&qemu->script)) && action->kind != EXPECT) {
    g_queue_pop_head (&qemu->script);
    perform (qemu, action);
    action_free (action);
  }
}

static void
go_wrong (FakeQemu *qemu, const char *format, const char *a, const char *b)
{
  g_autofree char *text = g_strdup_printf (format, a, b);
  print_error ("fake QEMU: %s\n", text);
  if (qemu->failure == NULL)
    qemu->failure = g_steal_pointer (&text);
}

static gboolean
has_all (Json *arguments, Json *expected)
{
  gboolean all = TRUE;
  if (expected == NULL)
    return TRUE;
  json_object_object_foreach (expected, key, value) all =
      all && json_has (arguments, key) && json_object_equal (json_get (arguments, key), value);
  return all;
}

static Standing *
find_standing (FakeQemu *qemu, const char *command)
{
  for (guint i = qemu->standing->len; i > 0; i--) {
    Standing *standing = qemu->standing->pdata[i - 1];
    if (g_str_equal (standing->command, command))
      return standing;
  }
  return NULL;
}

static void
answer_standing (FakeQemu *qemu, Standing *standing, Json *arguments, Json *id)
{
  Json *reply = standing->handler
                    ? standing->handler (qemu, standing->command, arguments, standing->data)
                    : json_parse (json_object_to_json_string (standing->reply), -1);
  if (reply != NULL)
    write_reply (qemu, reply, id);
}

static void
follow_script (FakeQemu *qemu, const char *command, Json *request)
{
  Action *expected = g_queue_peek_head (&qemu->script);
  Json *id = json_get (request, "id");
  if (expected == NULL || !g_str_equal (expected->command, command)) {
    go_wrong (qemu, "got '%s', expected '%s'", command, expected ? expected->command : "nothing");
    write_reply (qemu, relaxed ("{'error':{'class':'GenericError','desc':'not in the script'}}"),
                 id);
    return;
  }
  if (!has_all (json_get (request, "arguments"), expected->arguments))
    go_wrong (qemu, "arguments of '%s': %s", command, json_object_to_json_string (request));
  json_object_put (qemu->last_id);
  qemu->last_id = json_dup (id);
  g_hash_table_replace (qemu->ids, g_strdup (command), json_dup (id));
  action_free (g_queue_pop_head (&qemu->script));
  play (qemu);
}

static void
on_command (QmpStream *stream, Json *request, gpointer data)
{
  FakeQemu *qemu = data;
  const char *command = json_get_str (request, "execute");
  Standing *standing = command ? find_standing (qemu, command) : NULL;
  qemu->received++;
  if (command == NULL)
    go_wrong (qemu, "got what is no command: %s%s", json_object_to_json_string (request), "");
  else if (standing != NULL)
    answer_standing (qemu, standing, json_get (request, "arguments"), json_get (request, "id"));
  else
    follow_script (qemu, command, request);
}

static void
on_gone (QmpStream *stream, const GError *error, gpointer data)
{
  hang_up (data);
}

static const QmpStreamOwner owner = {.message = on_command, .ended = on_gone};

/* Takes @connection. */
static void
serve (FakeQemu *qemu, GIOStream *connection)
{
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  qemu->ours = connection;
  if (!qemu->deaf)
    qemu->stream = qmp_stream_new (connection, context, QMP_MAX_MESSAGE, 0, &owner, qemu);
  play (qemu);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void
standing_free (gpointer data)
{
  Standing *standing = data;
  g_free (standing->command);
  json_object_put (standing->reply);
  g_free (standing);
}

static GIOStream *
connection_of_fd (int fd)
{
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, NULL);
  g_socket_set_blocking (socket, FALSE);
  return G_IO_STREAM (g_socket_connection_factory_create_connection (socket));
}

static void
id_free (gpointer id)
{
  json_object_put (id);
}

static FakeQemu *
fake_new (void)
{
  FakeQemu *qemu = g_new0 (FakeQemu, 1);
  qemu->standing = g_ptr_array_new_with_free_func (standing_free);
  qemu->ids = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, id_free);
  qemu->output = g_string_new (NULL);
  qemu->per_turn = 1 << 20;
  return qemu;
}

FakeQemu *
fake_qemu_new (void)
{
  int fds[2];
  FakeQemu *qemu = fake_new ();
  assert_int_equal (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  qemu->theirs = connection_of_fd (fds[1]);
  serve (qemu, connection_of_fd (fds[0]));
  return qemu;
}

static gboolean
on_incoming (GSocket *socket, GIOCondition condition, gpointer data)
{
  FakeQemu *qemu = data;
  g_autoptr (GSocket) accepted = g_socket_accept (socket, NULL, NULL);
  assert_non_null (accepted);
  g_socket_set_blocking (accepted, FALSE);
  serve (qemu, G_IO_STREAM (g_socket_connection_factory_create_connection (accepted)));
  return G_SOURCE_REMOVE;
}

FakeQemu *
fake_qemu_new_at (const char *path)
{
  FakeQemu *qemu = fake_new ();
  qemu->path = g_strdup (path);
  assert_int_equal (qmp_unix_listen (path, &qemu->listener), 0);
  qemu->incoming = g_socket_create_source (qemu->listener, G_IO_IN, NULL);
  g_source_set_callback (qemu->incoming, G_SOURCE_FUNC (on_incoming), qemu, NULL);
  g_source_attach (qemu->incoming, NULL);
  return qemu;
}

static void
source_clear (GSource **source)
{
  if (*source != NULL)
    g_source_destroy (*source);
  g_clear_pointer (source, g_source_unref);
}

void
fake_qemu_free (FakeQemu *qemu)
{
  g_autofree char *failure = g_steal_pointer (&qemu->failure);
  if (failure == NULL && !g_queue_is_empty (&qemu->script)) {
    Action *next = g_queue_peek_head (&qemu->script);
    failure = g_strdup_printf ("the script was left before '%s'",
                               next->command ? next->command : "its end");
  }
  source_clear (&qemu->incoming);
  source_clear (&qemu->writer);
  hang_up (qemu);
  g_clear_object (&qemu->theirs);
  g_clear_object (&qemu->listener);
  if (qemu->path != NULL)
    g_unlink (qemu->path);
  g_queue_clear_full (&qemu->script, action_free);
  g_ptr_array_unref (qemu->standing);
  g_hash_table_unref (qemu->ids);
  json_object_put (qemu->last_id);
  g_string_free (qemu->output, TRUE);
  g_free (qemu->path);
  g_free (qemu);
  if (failure != NULL)
    fail_test ("fake QEMU: %s", failure);
}

GIOStream *
fake_qemu_connection (FakeQemu *qemu)
{
  return qemu->theirs;
}

/* Telling it what to do */

void
qemu_greets (FakeQemu *qemu)
{
  qemu_says (qemu,
             "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
             "\"package\": \"Debian 1:7.2+dfsg-7+deb12u18\"}, \"capabilities\": [\"oob\"]}}\r\n");
  qemu_expects (qemu, "qmp_capabilities");
  qemu_replies (qemu, "{}");
}

void
qemu_expects (FakeQemu *qemu, const char *command)
{
  add (qemu, (Action){.kind = EXPECT, .command = g_strdup (command)});
}

void
qemu_expects_with (FakeQemu *qemu, const char *command, const char *arguments)
{
  add (qemu,
       (Action){.kind = EXPECT, .command = g_strdup (command), .arguments = relaxed (arguments)});
}

void
qemu_replies (FakeQemu *qemu, const char *ret)
{
  qemu_replies_to (qemu, NULL, ret);
}

void
qemu_replies_to (FakeQemu *qemu, const char *command, const char *ret)
{
  add (qemu, (Action){.kind = REPLY,
                      .command = g_strdup (command),
                      .arguments = json_make ("return", relaxed (ret), NULL)});
}

void
qemu_fails (FakeQemu *qemu, const char *class, const char *desc)
{
  Json *error = json_make ("class", json_str (class), "desc", json_str (desc), NULL);
  add (qemu, (Action){.kind = REPLY, .arguments = json_make ("error", error, NULL)});
}

void
qemu_event (FakeQemu *qemu, const char *name, const char *data)
{
  g_autoptr (Json) event =
      json_make ("event", json_str (name), "data", relaxed (data ? data : "{}"), "timestamp",
                 json_make ("seconds", json_int (1), "microseconds", json_int (2), NULL), NULL);
  qemu_says (qemu, json_object_to_json_string (event));
}

void
qemu_says (FakeQemu *qemu, const char *text)
{
  qemu_says_bytes (qemu, text, strlen (text));
}

void
qemu_says_bytes (FakeQemu *qemu, const void *bytes, gsize length)
{
  add (qemu, (Action){.kind = SAY, .bytes = g_bytes_new (bytes, length)});
}

void
qemu_closes (FakeQemu *qemu)
{
  add (qemu, (Action){.kind = CLOSE});
}

void
qemu_always (FakeQemu *qemu, const char *command, const char *ret)
{
  Standing standing = {.command = g_strdup (command),
                       .reply = json_make ("return", relaxed (ret), NULL)};
  g_ptr_array_add (qemu->standing, g_memdup2 (&standing, sizeof standing));
}

void
qemu_handles (FakeQemu *qemu, const char *command, FakeQemuHandler handler, gpointer data)
{
  Standing standing = {.command = g_strdup (command), .handler = handler, .data = data};
  g_ptr_array_add (qemu->standing, g_memdup2 (&standing, sizeof standing));
}

void
qemu_writes_slowly (FakeQemu *qemu, gsize n)
{
  qemu->per_turn = n;
}

void
qemu_stops_reading (FakeQemu *qemu)
{
  /* Freeing the reader would close the connection; a second handle keeps it open. */
  int fd =
      dup (g_socket_get_fd (g_socket_connection_get_socket (G_SOCKET_CONNECTION (qemu->ours))));
  qemu->deaf = TRUE;
  hang_up (qemu);
  serve (qemu, connection_of_fd (fd));
}

gboolean
qemu_is_done (FakeQemu *qemu)
{
  return g_queue_is_empty (&qemu->script) && qemu->output->len == 0;
}

gboolean
qemu_is_connected (FakeQemu *qemu)
{
  return qemu->ours != NULL;
}

guint
qemu_received (FakeQemu *qemu)
{
  return qemu->received;
}

void
fake_qemu_settle (void)
{
  for (int i = 0; i < 50; i++)
    while (g_main_context_iteration (NULL, FALSE))
      ;
}

static gboolean
on_tick (gpointer data)
{
  return G_SOURCE_CONTINUE;
}

void
fake_qemu_tick (void)
{
  static guint tick;
  if (tick == 0)
    tick = g_timeout_add (100, on_tick, NULL);
}

guint
count_fds (void)
{
  guint n = 0;
  DIR *fds = opendir ("/proc/self/fd");
  while (readdir (fds) != NULL)
    n++;
  closedir (fds);
  return n;
}
