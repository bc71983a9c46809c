/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/session.h"

#include "qmp/stream.h"
#include "src/common/error.h"
#include "src/remote/ciphers.h"
#include "src/remote/protocol.h"
#include "src/remote/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_STDERR 4096u
#define HELLO_ID   -1
#define GRACE_MS   3000u /* for ssh to say why it ended */

typedef enum { GREETING, HELLO, READY, RAW, ENDING, OVER } Phase;

struct _Session {
  guint refs;
  Far *far;
  const SessionOwner *owner;
  gpointer data;
  Phase phase;
  Ciphers *ciphers; /* that are asked for first; nullable */
  GSubprocess *ssh; /* NULL: not yet */
  GCancellable *cancellable;
  QmpStream *stream;
  int fd;             /* our end of the socket pair */
  GString *words;     /* what ssh wrote to stderr */
  char *buffer;       /* of the read in flight */
  gboolean heard_out; /* stderr is at its end, or nobody has one */
  gboolean exited;    /* ssh has, or did not begin */
  Wait timer;
  GError *why;      /* it ends, as soon as ssh has said its part */
  gboolean lost;    /* it ends because the connection did */
  gboolean met;     /* it greeted as it should */
  gint64 id;        /* of the last request */
  gboolean waiting; /* for its reply */
  GPtrArray *early; /* Json*: messages that wait for the greeting */
};

static void
session_unref (Session *session)
{
  if (--session->refs > 0)
    return;
  far_free (session->far);
  g_clear_object (&session->ssh);
  g_object_unref (session->cancellable);
  g_string_free (session->words, TRUE);
  g_free (session->buffer);
  g_clear_error (&session->why);
  g_ptr_array_unref (session->early);
  g_free (session);
}

static void
start_timer (Session *session, guint ms, GSourceFunc callback)
{
  wait_stop (&session->timer);
  session->timer.turn = callback;
  session->timer.data = session;
  wait_for_ms (&session->timer, ms);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* What ssh said last; full, nullable. */
static char *
last_words (Session *session)
{
  g_autofree char *text = g_utf8_make_valid (session->words->str, (gssize)session->words->len);
  g_auto (GStrv) lines = g_strsplit (g_strstrip (text), "\n", -1);
  guint n = g_strv_length (lines);
  return n > 0 && *g_strstrip (lines[n - 1]) != 0 ? g_strdup (lines[n - 1]) : NULL;
}

int
session_exit_status (Session *session)
{
  return session->ssh != NULL && session->exited && g_subprocess_get_if_exited (session->ssh)
             ? g_subprocess_get_exit_status (session->ssh)
             : -1;
}

/* ssh passes on the exit status of the remote side, and has 255 for itself. */
static GError *
explain (Session *session)
{
  GError *error = NULL;
  const char *name = session->far->name;
  g_autofree char *words = last_words (session);
  gboolean met = session->met;
  int status = session_exit_status (session);
  if (!met && (status == 127 || status == 126)) {
    fail (&error, UNREACHABLE, "host '%s' has no rechain", name);
    hint (&error, "install it there, where the PATH of a command over ssh finds it");
  } else if (!met && status == 255) {
    fail (&error, UNREACHABLE, "host '%s' cannot be reached", name);
    hint (&error, "'ssh %s rechain --stdio' must work without questions", session->far->address);
  } else if (!session->lost)
    fail (&error, UNREACHABLE, "host '%s' %s", name, session->why->message);
  else if (met)
    fail (&error, UNREACHABLE, "the connection to host '%s' was lost", name);
  else
    fail (&error, UNREACHABLE, "host '%s' ended the session before it began", name);
  if (words != NULL)
    because (&error, "%s", words);
  else if (rechain_error_get_cause (session->why) != NULL)
    because (&error, "%s", rechain_error_get_cause (session->why));
  return error;
}

static void
tell_end (Session *session)
{
  if (session->phase == OVER)
    return;
  session->phase = OVER;
  wait_stop (&session->timer);
  g_autoptr (GError) error = explain (session);
  session->owner->ended (error, session->data);
}

static gboolean
on_grace (gpointer data)
{
  Session *session = data;
  g_subprocess_force_exit (session->ssh);
  tell_end (session);
  return G_SOURCE_REMOVE;
}

/* Takes @why: a verb phrase whose subject is the host. */
static void
end (Session *session, GError *take_why)
{
  if (session->phase >= ENDING) {
    g_error_free (take_why);
    return;
  }
  session->phase = ENDING;
  session->why = take_why;
  g_clear_pointer (&session->ciphers, ciphers_stop);
  g_clear_pointer (&session->stream, qmp_stream_free);
  if (session->fd >= 0)
    close (session->fd);
  session->fd = -1;
  if (session->exited && session->heard_out)
    tell_end (session);
  else
    start_timer (session, GRACE_MS, on_grace);
}

static void
end_with (Session *session, const char *format, ...) G_GNUC_PRINTF (2, 3);
static void
end_with (Session *session, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  GError *why = NULL;
  fail (&why, UNREACHABLE, "%s", text);
  end (session, why);
}

/* ---- ssh ------------------------------------------------------------------------------------- */

static void
ssh_said_all (Session *session)
{
  if (session->phase == ENDING && session->exited && session->heard_out)
    tell_end (session);
}

static void
on_exited (GObject *source, GAsyncResult *result, gpointer data)
{
  Session *session = data;
  g_subprocess_wait_finish (G_SUBPROCESS (source), result, NULL);
  session->exited = TRUE;
  ssh_said_all (session);
  session_unref (session);
}

static void
on_words (GObject *source, GAsyncResult *result, gpointer data);

static void
read_words (Session *session)
{
  GInputStream *in = g_subprocess_get_stderr_pipe (session->ssh);
  session->refs++;
  g_input_stream_read_async (in, session->buffer, MAX_STDERR, G_PRIORITY_DEFAULT,
                             session->cancellable, on_words, session);
}

/* Only the end is kept. */
static void
on_words (GObject *source, GAsyncResult *result, gpointer data)
{
  Session *session = data;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (source), result, NULL);
  if (n > 0) {
    g_string_append_len (session->words, session->buffer, n);
    if (session->words->len > MAX_STDERR)
      g_string_erase (session->words, 0, (gssize)(session->words->len - MAX_STDERR));
    read_words (session);
  } else {
    session->heard_out = TRUE;
    ssh_said_all (session);
  }
  session_unref (session);
}

/* Ctrl-C is ours: ssh is in a session of its own, and lives on while the other side takes
 * everything back. */
static void
leave_terminal (gpointer data)
{
  setsid ();
}

static GSubprocess *
start_ssh (const Far *far, int fd, GError **error)
{
  g_auto (GStrv) argv = far_command (far);
  g_autoptr (GSubprocessLauncher) launcher =
      g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDERR_PIPE);
  g_autoptr (GError) cause = NULL;
  g_subprocess_launcher_set_child_setup (launcher, leave_terminal, NULL, NULL);
  g_subprocess_launcher_take_stdin_fd (launcher, dup (fd));
  g_subprocess_launcher_take_stdout_fd (launcher, fd);
  GSubprocess *ssh = g_subprocess_launcher_spawnv (launcher, (const char *const *)argv, &cause);
  if (ssh == NULL) {
    fail (error, UNREACHABLE, "host '%s' cannot be reached", far->name);
    because (error, "%s", cause->message);
  }
  return ssh;
}

/* ---- messages -------------------------------------------------------------------------------- */

static void
send_now (Session *session, Json *message)
{
  GError *error = NULL;
  session->waiting |= json_has (message, "id");
  if (session->stream != NULL && !qmp_stream_send (session->stream, message, &error))
    end (session, error);
}

/* Full. */
static Json *
message_of (Session *session, const char *command, Json *take_arguments, gboolean answered)
{
  return json_make ("execute", json_str (command), "arguments", take_arguments, "id",
                    answered ? json_int (++session->id) : NULL, NULL);
}

static void
on_greeting (Session *session, Json *message)
{
  Json *greeting = json_get (message, "rechain");
  if (greeting == NULL) {
    end_with (session, "does not greet as rechain does");
    return;
  }
  if (json_get_int (greeting, "protocol") != REMOTE_PROTOCOL) {
    const char *version = json_get_str (greeting, "version");
    end_with (session,
              "has another rechain: protocol %" G_GINT64_FORMAT " of version %.40s; here it is %d",
              json_get_int (greeting, "protocol"), version ? version : "?", REMOTE_PROTOCOL);
    return;
  }
  wait_stop (&session->timer);
  session->met = TRUE;
  session->phase = HELLO;
  g_autoptr (Json) hello = json_make ("execute", json_str ("hello"), "arguments",
                                      json_make ("protocol", json_int (REMOTE_PROTOCOL), "version",
                                                 json_str (RECHAIN_VERSION), NULL),
                                      "id", json_int (HELLO_ID), NULL);
  send_now (session, hello);
}

static void
on_hello (Session *session, Json *message)
{
  if (!json_has (message, "return")) {
    const char *why = json_get_str (json_get (message, "error"), "desc");
    end_with (session, "refuses this rechain: %.200s", why ? why : "without a reason");
    return;
  }
  session->phase = READY;
  for (guint i = 0; i < session->early->len && session->phase == READY; i++)
    send_now (session, session->early->pdata[i]);
  g_ptr_array_set_size (session->early, 0);
}

/* Full. What the far side says of itself; the code counts, the words are only shown. */
static GError *
error_of (Json *json)
{
  GError *error = NULL;
  const char *class = json_get_str (json, "class"), *desc = json_get_str (json, "desc");
  const char *cause = json_get_str (json, "because"), *advice = json_get_str (json, "hint");
  const char *operation = json_get_str (json, "operation");
  RechainError code = FAILED;
  for (int i = FAILED; i <= INTERRUPTED; i++)
    if (g_strcmp0 (rechain_error_code_name ((RechainError)i), class) == 0)
      code = (RechainError)i;
  fail (&error, code, "%s", desc ? desc : "no reason was given");
  if (cause != NULL)
    because (&error, "%s", cause);
  if (advice != NULL)
    hint (&error, "%s", advice);
  if (operation != NULL)
    of_operation (&error, operation);
  return error;
}

static void
on_reply (Session *session, Json *message)
{
  g_autoptr (GError) error = NULL;
  Json *ret = json_get (message, "return");
  if (ret == NULL)
    error = error_of (json_get (message, "error"));
  session->owner->reply (error ? NULL : ret, error, session->data);
}

static void
take_reply (Session *session, Json *message)
{
  gboolean fits = json_has (message, "return") != json_has (message, "error");
  gint64 id = session->phase == HELLO ? HELLO_ID : session->id;
  if (!session->waiting || !fits || !json_has (message, "id") ||
      json_get_int (message, "id") != id) {
    end_with (session, "sent a reply to nothing that was asked");
    return;
  }
  session->waiting = FALSE;
  if (session->phase == HELLO)
    on_hello (session, message);
  else
    on_reply (session, message);
}

static void
on_message (QmpStream *stream, Json *message, gpointer data)
{
  Session *session = data;
  const char *event = json_get_str (message, "event");
  session->refs++;
  if (session->phase == GREETING)
    on_greeting (session, message);
  else if (event == NULL)
    take_reply (session, message);
  else if (session->phase == READY && session->waiting)
    session->owner->event (event, json_get (message, "data"), session->data);
  else
    end_with (session, "speaks without being asked");
  session_unref (session);
}

static void
on_stream_ended (QmpStream *stream, const GError *error, gpointer data)
{
  Session *session = data;
  session->lost =
      g_str_has_prefix (error->message, "closed") || g_str_has_prefix (error->message, "broke");
  end (session, g_error_copy (error));
}

static gboolean
on_late (gpointer data)
{
  end_with (data, "does not answer");
  return G_SOURCE_REMOVE;
}

/* ---- the owner's side ------------------------------------------------------------------------ */

static void
free_message (gpointer data)
{
  json_object_put (data);
}

static QmpStream *
stream_over (Session *session)
{
  static const QmpStreamOwner callbacks = {.message = on_message, .ended = on_stream_ended};
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fcntl (session->fd, F_DUPFD_CLOEXEC, 3), NULL);
  g_autoptr (GSocketConnection) connection = g_socket_connection_factory_create_connection (socket);
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  return qmp_stream_new (G_IO_STREAM (connection), context, REMOTE_MAX_MESSAGE, REMOTE_MAX_QUEUED,
                         &callbacks, session);
}

static Session *
session_new (const Far *far, const SessionOwner *owner, gpointer data)
{
  Session *session = g_new0 (Session, 1);
  *session = (Session){.refs = 1,
                       .far = far_copy (far),
                       .owner = owner,
                       .data = data,
                       .fd = -1,
                       .exited = TRUE,
                       .heard_out = TRUE};
  session->cancellable = g_cancellable_new ();
  session->words = g_string_new (NULL);
  session->early = g_ptr_array_new_with_free_func (free_message);
  session->buffer = g_malloc (MAX_STDERR);
  start_timer (session, REMOTE_GREETING_MS, on_late);
  return session;
}

static gboolean
begin (Session *session, GError **error)
{
  int fds[2];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return fail_errno (error, errno, "make a pair of sockets for ssh");
  session->ssh = start_ssh (session->far, fds[1], error);
  if (session->ssh == NULL) {
    close (fds[0]);
    return FALSE;
  }
  session->fd = fds[0];
  session->exited = session->heard_out = FALSE;
  session->stream = stream_over (session);
  session->refs++;
  g_subprocess_wait_async (session->ssh, NULL, on_exited, session);
  read_words (session);
  return TRUE;
}

Session *
session_open (const Far *far, const SessionOwner *owner, gpointer data, GError **error)
{
  Session *session = session_new (far, owner, data);
  if (begin (session, error))
    return session;
  session_free (session);
  return NULL;
}

static void
on_ciphers (const char *list, gpointer data)
{
  Session *session = data;
  g_autoptr (GError) error = NULL;
  session->ciphers = NULL;
  session->far->ciphers = g_strdup (list);
  if (!begin (session, &error))
    end_with (session, "cannot be reached: %s", error->message);
}

Session *
session_open_for_data (const Far *far, const SessionOwner *owner, gpointer data, GError **error)
{
  Session *session = session_new (far, owner, data);
  session->ciphers = ciphers_ask (far, on_ciphers, session);
  if (session->ciphers != NULL || begin (session, error))
    return session;
  session_free (session);
  return NULL;
}

static void
send_message (Session *session, Json *message)
{
  if (session->phase == READY)
    send_now (session, message);
  else if (session->phase < READY)
    g_ptr_array_add (session->early, json_dup (message));
}

void
session_ask (Session *session, const char *command, Json *take_arguments)
{
  g_autoptr (Json) message = message_of (session, command, take_arguments, TRUE);
  send_message (session, message);
}

void
session_tell (Session *session, const char *command, Json *take_arguments)
{
  g_autoptr (Json) message = message_of (session, command, take_arguments, FALSE);
  send_message (session, message);
}

gboolean
session_is_ready (Session *session)
{
  return session->phase == READY;
}

int
session_take (Session *session)
{
  int fd = session->fd;
  g_clear_pointer (&session->stream, qmp_stream_free);
  wait_stop (&session->timer);
  session->phase = RAW;
  session->fd = -1;
  return fd;
}

/* The end of its input is what ends the far side; ssh itself is not waited for. */
void
session_free (Session *session)
{
  if (session == NULL)
    return;
  session->phase = OVER;
  wait_stop (&session->timer);
  g_clear_pointer (&session->ciphers, ciphers_stop);
  g_clear_pointer (&session->stream, qmp_stream_free);
  if (session->fd >= 0)
    close (session->fd);
  session->fd = -1;
  g_cancellable_cancel (session->cancellable);
  session_unref (session);
}
