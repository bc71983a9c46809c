/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/fetch.h"

#include "qmp/address.h"
#include "src/common/source.h"
#include "src/remote/bulk.h"
#include "src/remote/receiver.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixfdmessage.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES     5u
#define FEED_MS   60000u     /* until somebody brings the data */
#define TELL_EACH (4u << 20) /* bytes between two words of progress */

typedef struct {
  Work work;
  Op *op;
  OpDisk *disk;
  WorkHost host;
  Json *stream; /* borrowed */
  int file;
  GSubprocess *program; /* it goes through; nullable */
  int pipe;             /* into it */
  Session *session;
  GSocket *listener, *feeder;
  GSource *source; /* of the listener or the feeder, or a timer */
  GSource *deadline;
  Receiver *receiver;
  guint64 at;    /* of the stream: so much has come */
  guint64 began; /* where this connection began */
  guint64 told;
  guint tries; /* without anything having come */
} Fetch;

static void
try_later (Fetch *fetch, GError *take_why);

/* ---- the end --------------------------------------------------------------------------------- */

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

static void
drop_connection (Fetch *fetch)
{
  source_clear (&fetch->source);
  source_clear (&fetch->deadline);
  g_clear_pointer (&fetch->receiver, receiver_free);
  g_clear_pointer (&fetch->session, session_free);
  g_clear_object (&fetch->feeder);
}

static void
stop_listening (Fetch *fetch)
{
  if (fetch->listener == NULL)
    return;
  g_unlink (json_get_str (fetch->stream, "socket"));
  g_clear_object (&fetch->listener);
}

/* Takes @error; NULL: all of it has come. */
static void
end (Fetch *fetch, GError *take_error)
{
  g_autoptr (GError) error = take_error;
  WorkHost host = fetch->host;
  prefix (&error, "copy '%s'", json_get_str (fetch->stream, "name"));
  drop_connection (fetch);
  stop_listening (fetch);
  if (fetch->program != NULL) {
    g_object_set_data (G_OBJECT (fetch->program), "fetch", NULL);
    g_subprocess_force_exit (fetch->program);
  }
  g_clear_object (&fetch->program);
  close_fd (&fetch->pipe);
  close_fd (&fetch->file);
  g_free (fetch);
  host.done (error, host.data);
}

/* ---- the program that it goes through -------------------------------------------------------- */

/* Full. */
static char **
program_of (Json *stream)
{
  Json *words = json_get (stream, "through");
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  for (gsize i = 0; i < json_length (words); i++)
    g_strv_builder_add (argv, json_object_get_string (json_at (words, i)));
  return g_strv_builder_end (argv);
}

/* Full, nullable: what it wrote to stderr, at most a line or two. */
static char *
words_of (GSubprocess *program)
{
  char text[512];
  gssize n = g_input_stream_read (g_subprocess_get_stderr_pipe (program), text, sizeof text - 1,
                                  NULL, NULL);
  if (n <= 0)
    return NULL;
  text[n] = 0;
  g_autofree char *valid = g_utf8_make_valid (text, -1);
  return g_strdup (g_strstrip (valid));
}

static void
on_program_ended (GObject *source, GAsyncResult *result, gpointer data)
{
  GSubprocess *program = G_SUBPROCESS (source);
  Fetch *fetch = g_object_get_data (source, "fetch"); /* NULL: it is gone */
  GError *error = NULL;
  g_autoptr (GError) cause = NULL;
  gboolean ok = g_subprocess_wait_check_finish (program, result, &cause);
  if (fetch == NULL)
    return;
  if (ok && fetch->pipe < 0) {
    end (fetch, NULL);
    return;
  }
  g_autofree char *words = words_of (program);
  fail (&error, FAILED, "the archive cannot be decompressed");
  because (&error, "%s", words ? words : cause ? cause->message : "it has more than one part");
  end (fetch, error);
}

static gboolean
start_program (Fetch *fetch, GError **error)
{
  int ends[2];
  g_auto (GStrv) argv = program_of (fetch->stream);
  g_autoptr (GError) cause = NULL;
  if (argv[0] == NULL)
    return TRUE;
  if (pipe2 (ends, O_CLOEXEC) != 0)
    return fail_errno (error, errno, "make a pipe to %s", argv[0]);
  g_autoptr (GSubprocessLauncher) launcher =
      g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDERR_PIPE);
  g_subprocess_launcher_take_stdin_fd (launcher, ends[0]);
  g_subprocess_launcher_take_stdout_fd (launcher, fcntl (fetch->file, F_DUPFD_CLOEXEC, 3));
  fetch->program = g_subprocess_launcher_spawnv (launcher, (const char *const *)argv, &cause);
  fetch->pipe = ends[1];
  if (fetch->program != NULL) {
    g_object_set_data (G_OBJECT (fetch->program), "fetch", fetch);
    g_subprocess_wait_check_async (fetch->program, NULL, on_program_ended, NULL);
    return TRUE;
  }
  fail (error, FAILED, "cannot start %s", argv[0]);
  return because (error, "%s", cause->message);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void
on_moved (guint64 bytes, gpointer data)
{
  Fetch *fetch = data;
  fetch->disk->current += bytes;
  fetch->told += bytes;
  if (fetch->told < TELL_EACH || fetch->host.changed == NULL)
    return;
  fetch->told = 0;
  fetch->host.changed (fetch->host.data);
}

static void
on_received (const GError *error, gpointer data)
{
  Fetch *fetch = data;
  fetch->at = receiver_at (fetch->receiver);
  if (fetch->at > fetch->began)
    fetch->tries = 0;
  if (error == NULL && fetch->program != NULL) {
    drop_connection (fetch);
    stop_listening (fetch);
    close_fd (&fetch->pipe); /* its end of file */
    return;
  }
  if (error != NULL && error->code == UNREACHABLE)
    try_later (fetch, g_error_copy (error));
  else
    end (fetch, error ? g_error_copy (error) : NULL);
}

/* Takes @fd. */
static void
receive (Fetch *fetch, int take_fd)
{
  gint64 bytes = json_get_int (fetch->stream, "bytes");
  source_clear (&fetch->source);
  source_clear (&fetch->deadline);
  fetch->began = fetch->at;
  fetch->receiver =
      receiver_start (&(ReceiverSpec){.in = take_fd,
                                      .out = fetch->program ? fetch->pipe : fetch->file,
                                      .piped = fetch->program != NULL,
                                      .from = fetch->at,
                                      .size = bytes < 0 ? G_MAXUINT64 : (guint64)bytes,
                                      .rate = fetch->op->bandwidth,
                                      .moved = on_moved,
                                      .done = on_received,
                                      .data = fetch});
}

/* ---- asked of its host ----------------------------------------------------------------------- */

static void
on_event (const char *event, Json *object, gpointer data)
{
}

static void
on_reply (Json *ret, const GError *error, gpointer data)
{
  Fetch *fetch = data;
  if (error != NULL || json_get_int (ret, "exit") != 0) {
    GError *why = error ? g_error_copy (error) : NULL;
    if (why == NULL)
      fail (&why, FAILED, "its host does not send it");
    end (fetch, why);
    return;
  }
  int fd = session_take (fetch->session);
  if (write (fd, "\n", 1) == 1) { /* now it may begin */
    receive (fetch, fd);
    return;
  }
  close (fd);
  GError *lost = NULL;
  fail (&lost, UNREACHABLE, "the connection was lost");
  try_later (fetch, lost);
}

static void
on_session_ended (const GError *error, gpointer data)
{
  try_later (data, g_error_copy (error));
}

static gboolean
ask_host (Fetch *fetch, GError **error)
{
  static const SessionOwner callbacks = {
      .event = on_event, .reply = on_reply, .ended = on_session_ended};
  Json *from = json_get (fetch->stream, "from"), *offer = json_get (fetch->stream, "offer");
  const char *name = json_get_str (from, "name");
  g_autoptr (Far) far = far_new (name ? name : "", json_get_str (from, "address"),
                                 json_get_str (from, "config"), error);
  fetch->session = far ? session_open_for_data (far, &callbacks, fetch, error) : NULL;
  if (fetch->session == NULL)
    return FALSE;
  bulk_ask_to_send (fetch->session, offer, fetch->at);
  return TRUE;
}

/* ---- brought by somebody --------------------------------------------------------------------- */

/* Full descriptor, -1: none came. */
static int
take_descriptor (GSocket *connection)
{
  char byte;
  GInputVector vector = {&byte, 1};
  GSocketControlMessage **messages = NULL;
  int n = 0, fd = -1;
  gssize length =
      g_socket_receive_message (connection, NULL, &vector, 1, &messages, &n, NULL, NULL, NULL);
  for (int i = 0; i < n; i++) {
    if (G_IS_UNIX_FD_MESSAGE (messages[i]) && fd < 0) {
      int count = 0;
      int *fds = g_unix_fd_message_steal_fds (G_UNIX_FD_MESSAGE (messages[i]), &count);
      for (int k = 0; k < count; k++)
        if (length > 0 && fd < 0)
          fd = fds[k];
        else
          close (fds[k]);
      g_free (fds);
    }
    g_object_unref (messages[i]);
  }
  g_free (messages);
  return fd;
}

static gboolean
on_descriptor (GSocket *socket, GIOCondition condition, gpointer data)
{
  Fetch *fetch = data;
  int fd = take_descriptor (socket);
  GError *error = NULL;
  if (fd >= 0)
    receive (fetch, fd);
  else {
    fail (&error, UNREACHABLE, "nobody brings the data");
    try_later (fetch, error);
  }
  return G_SOURCE_REMOVE;
}

static void
watch_socket (Fetch *fetch, GSocket *socket, GSocketSourceFunc callback)
{
  source_clear (&fetch->source);
  fetch->source = g_socket_create_source (socket, G_IO_IN | G_IO_HUP, NULL);
  g_source_set_callback (fetch->source, G_SOURCE_FUNC (callback), fetch, NULL);
  g_source_attach (fetch->source, g_main_context_get_thread_default ());
}

static gboolean
on_incoming (GSocket *socket, GIOCondition condition, gpointer data)
{
  Fetch *fetch = data;
  fetch->feeder = g_socket_accept (socket, NULL, NULL);
  if (fetch->feeder == NULL)
    return G_SOURCE_CONTINUE;
  g_socket_set_blocking (fetch->feeder, FALSE);
  watch_socket (fetch, fetch->feeder, on_descriptor);
  return G_SOURCE_REMOVE;
}

static gboolean
on_nobody (gpointer data)
{
  GError *error = NULL;
  fail (&error, UNREACHABLE, "nobody brings the data");
  try_later (data, error);
  return G_SOURCE_REMOVE;
}

/* Only who may enter the state directory can connect. */
static gboolean
wait_for_feeder (Fetch *fetch, GError **error)
{
  const char *path = json_get_str (fetch->stream, "socket");
  int errnum = 0;
  if (fetch->listener == NULL) {
    g_unlink (path);
    errnum = qmp_unix_listen (path, &fetch->listener);
  }
  if (errnum != 0)
    return fail_errno (error, errnum, "listen at '%s'", path);
  watch_socket (fetch, fetch->listener, on_incoming);
  source_after (&fetch->deadline, FEED_MS, on_nobody, fetch);
  fetch->op->fed++;
  fetch->op->fed_from = fetch->at;
  if (fetch->host.changed != NULL)
    fetch->host.changed (fetch->host.data);
  return TRUE;
}

int
fetch_feed (const char *socket, int fd, GError **error)
{
  g_autoptr (GSocketConnection) connection = NULL;
  g_autoptr (GSocketControlMessage) message = g_unix_fd_message_new ();
  GOutputVector vector = {"\n", 1};
  int errnum = qmp_unix_connect (socket, &connection);
  if (errnum != 0) {
    fail (error, NOT_FOUND, "no operation waits for data at '%s'", socket);
    because (error, "%s", g_strerror (errnum));
    return -1;
  }
  GSocket *end = g_socket_connection_get_socket (connection);
  if (!g_unix_fd_message_append_fd (G_UNIX_FD_MESSAGE (message), fd, error) ||
      g_socket_send_message (end, NULL, &vector, 1, &message, 1, 0, NULL, error) < 0)
    return -1;
  return fcntl (g_socket_get_fd (end), F_DUPFD_CLOEXEC, 3);
}

/* ---- connecting, and again ------------------------------------------------------------------- */

static gboolean
connect_now (gpointer data)
{
  Fetch *fetch = data;
  GError *error = NULL;
  drop_connection (fetch);
  gboolean asked = json_has (fetch->stream, "from");
  if (asked ? !ask_host (fetch, &error) : !wait_for_feeder (fetch, &error))
    end (fetch, error);
  return G_SOURCE_REMOVE;
}

/* What was compressed on the way is not made twice alike for sure. */
static gboolean
can_go_on (Fetch *fetch)
{
  return fetch->tries < TRIES && (fetch->at == 0 || json_get_int (fetch->stream, "bytes") >= 0);
}

static void
try_later (Fetch *fetch, GError *take_why)
{
  if (!can_go_on (fetch)) {
    end (fetch, take_why);
    return;
  }
  g_info ("copy '%s': %s; trying again", json_get_str (fetch->stream, "name"), take_why->message);
  g_error_free (take_why);
  drop_connection (fetch);
  source_after (&fetch->source, 250u << fetch->tries++, connect_now, fetch);
}

/* ---- the beginning --------------------------------------------------------------------------- */

static gboolean
open_file (Fetch *fetch, GError **error)
{
  FileId id = {0};
  struct stat st;
  const char *path = fetch->disk->part;
  gboolean device =
      json_has (fetch->disk->details, "lv"); /* its name is a symlink, and carries our id */
  fetch->file = open (path, O_WRONLY | O_CLOEXEC | (device ? 0 : O_NOFOLLOW));
  if (fetch->file < 0 || fstat (fetch->file, &st) != 0 ||
      !file_identify_fd (fetch->file, path, &id))
    return fail_errno (error, errno, "open '%s'", path);
  if (device)
    return S_ISBLK (st.st_mode) || fail (error, REFUSED, "'%s' is no device", path);
  if (!file_id_equal (id, fetch->disk->id))
    return fail (error, REFUSED, "'%s' is not the file that was just made: somebody replaced it",
                 path);
  return ftruncate (fetch->file, 0) == 0 || fail_errno (error, errno, "empty '%s'", path);
}

static gboolean
begin (gpointer data)
{
  Fetch *fetch = data;
  GError *error = NULL;
  source_clear (&fetch->source);
  if (!open_file (fetch, &error) || !start_program (fetch, &error)) {
    end (fetch, error);
    return G_SOURCE_REMOVE;
  }
  return connect_now (fetch);
}

static gboolean
on_cancelled (gpointer data)
{
  GError *error = NULL;
  fail (&error, INTERRUPTED, "cancelled");
  end (data, error);
  return G_SOURCE_REMOVE;
}

static void
cancel (Work *work)
{
  Fetch *fetch = (Fetch *)work;
  drop_connection (fetch);
  source_idle (&fetch->source, on_cancelled, fetch);
}

Work *
fetch_start (Op *op, OpDisk *disk, const WorkHost *host)
{
  Fetch *fetch = g_new0 (Fetch, 1);
  *fetch = (Fetch){.work = {cancel}, .op = op, .disk = disk, .host = *host, .file = -1, .pipe = -1};
  fetch->stream = json_get (disk->details, "stream");
  disk->total = (guint64)MAX (json_get_int (fetch->stream, "data"), 0);
  disk->current = 0;
  source_idle (&fetch->source, begin, fetch);
  return &fetch->work;
}
