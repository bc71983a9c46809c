/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/sender.h"

#include "src/common/error.h"
#include "src/remote/frames.h"
#include "src/remote/pace.h"
#include "src/remote/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum { SENDING, ENDED_WELL, ENDED_BADLY } Phase;

struct _Sender {
  SenderSpec spec;
  FrameSums *sums;
  Pace pace;
  guint8 *buffer;   /* head and payload of the frame that goes out */
  gsize start, end; /* of what is not written yet */
  guint64 at;
  guint64 data_end; /* there is data up to here */
  gboolean device;  /* nobody says where its holes are: zeroes are looked for */
  Phase phase;
  GError *error;
  Wait wait;
};

/* ---- the next frame -------------------------------------------------------------------------- */

static void
seal (Sender *sender, const Frame *frame)
{
  frame_write (sender->sums, frame, sender->buffer + FRAME_HEAD, sender->buffer);
  sender->start = 0;
  sender->end = FRAME_HEAD + frame->length;
}

static void
say_end (Sender *sender)
{
  GError *problem = NULL;
  if (sender->spec.check == NULL || sender->spec.check (sender->spec.data, &problem)) {
    sender->start = 0;
    sender->end = frame_write_end (sender->sums, sender->at, sender->buffer);
    sender->phase = ENDED_WELL;
    return;
  }
  sender->error = problem;
}

/* The other side hears why. */
static void
say_abort (Sender *sender)
{
  const char *cause = rechain_error_get_cause (sender->error);
  g_autofree char *text =
      g_strdup_printf ("%s%s%s", sender->error->message, cause ? ": " : "", cause ? cause : "");
  Frame frame = {.kind = FRAME_ABORT, .length = (guint32)MIN (strlen (text), FRAME_WORDS_MAX)};
  memcpy (sender->buffer + FRAME_HEAD, text, frame.length);
  seal (sender, &frame);
  sender->phase = ENDED_BADLY;
}

static gboolean
is_zero (const guint8 *bytes, gsize length)
{
  return length == 0 || (bytes[0] == 0 && memcmp (bytes, bytes + 1, length - 1) == 0);
}

/* On to where there is data. A filesystem without holes says that there is data everywhere. */
static gboolean
find_data (Sender *sender)
{
  off_t data = lseek (sender->spec.source, (off_t)sender->at, SEEK_DATA);
  if (data < 0 && errno != ENXIO)
    return fail_errno (&sender->error, errno, "look for data");
  off_t hole = data < 0 ? -1 : lseek (sender->spec.source, data, SEEK_HOLE);
  sender->at = data < 0 ? sender->spec.size : MIN ((guint64)data, sender->spec.size);
  sender->data_end = hole < 0 ? sender->spec.size : MIN ((guint64)hole, sender->spec.size);
  return TRUE;
}

/* Reads the next frame of a file; none where zeroes were skipped. */
static void
read_file (Sender *sender)
{
  gboolean all = sender->at >= sender->spec.size; /* a device has no data to look for there */
  if (!all && sender->at >= sender->data_end && !find_data (sender))
    return;
  if (sender->at >= sender->spec.size) {
    say_end (sender);
    return;
  }
  gsize wanted = (gsize)MIN (sender->data_end - sender->at, FRAME_DATA_MAX);
  gssize n;
  do
    n = pread (sender->spec.source, sender->buffer + FRAME_HEAD, wanted, (off_t)sender->at);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    fail_errno (&sender->error, errno, "read at byte %" G_GUINT64_FORMAT, sender->at);
  else if (n == 0)
    fail (&sender->error, FAILED, "it became shorter while it was read");
  else if (sender->device && is_zero (sender->buffer + FRAME_HEAD, (gsize)n))
    sender->at += (guint64)n;
  else {
    Frame frame = {.kind = FRAME_DATA, .length = (guint32)n, .offset = sender->at};
    sender->at += (guint64)n;
    seal (sender, &frame);
  }
}

/* FALSE: nothing has come yet. */
static gboolean
read_pipe (Sender *sender)
{
  gssize n = read (sender->spec.source, sender->buffer + FRAME_HEAD, FRAME_DATA_MAX);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return FALSE;
  if (n < 0)
    fail_errno (&sender->error, errno, "read what the program writes");
  else if (n == 0)
    say_end (sender);
  else {
    Frame frame = {.kind = FRAME_DATA, .length = (guint32)n, .offset = sender->at};
    sender->at += (guint64)n;
    seal (sender, &frame);
  }
  return TRUE;
}

/* ---- out ------------------------------------------------------------------------------------- */

static void
finish (Sender *sender, GError *take_error)
{
  SenderSpec spec = sender->spec;
  g_autoptr (GError) error = take_error;
  wait_stop (&sender->wait);
  sender->phase = ENDED_BADLY;
  spec.done (error, spec.data);
}

/* FALSE: the descriptor is full, or nobody reads. */
static gboolean
write_out (Sender *sender, GError **error)
{
  gssize n = write (sender->spec.out, sender->buffer + sender->start, sender->end - sender->start);
  if (n < 0 && errno != EAGAIN && errno != EINTR) {
    fail (error, UNREACHABLE, "the other side does not read any more");
    return because (error, "%s", g_strerror (errno));
  }
  sender->start += n > 0 ? (gsize)n : 0;
  pace_pay (&sender->pace, n > 0 ? (guint64)n : 0);
  return n > 0;
}

/* FALSE: it waits. */
static gboolean
step (Sender *sender, GError **error)
{
  gint64 later = pace_wait (&sender->pace);
  if (later > 0) {
    wait_for_ms (&sender->wait, (guint)(later / 1000 + 1));
    return FALSE;
  }
  if (sender->start < sender->end) {
    if (!write_out (sender, error) && *error == NULL)
      wait_for_fd (&sender->wait, sender->spec.out, G_IO_OUT);
    return *error == NULL && sender->wait.source == NULL;
  }
  if (sender->error != NULL)
    say_abort (sender);
  else if (!sender->spec.piped)
    read_file (sender);
  else if (!read_pipe (sender)) {
    wait_for_fd (&sender->wait, sender->spec.source, G_IO_IN);
    return FALSE;
  }
  return TRUE;
}

static gboolean
on_turn (gpointer data)
{
  Sender *sender = data;
  GError *error = NULL;
  guint64 until = sender->at + WAIT_TURN;
  while (sender->start < sender->end || sender->phase == SENDING) {
    if (!step (sender, &error))
      break;
    if (sender->at >= until && sender->start == sender->end && sender->phase == SENDING) {
      wait_for_turn (&sender->wait);
      return G_SOURCE_REMOVE;
    }
  }
  if (error != NULL)
    finish (sender, error);
  else if (sender->start == sender->end && sender->phase != SENDING && sender->wait.source == NULL)
    finish (sender, g_steal_pointer (&sender->error));
  return G_SOURCE_REMOVE;
}

Sender *
sender_start (const SenderSpec *spec)
{
  struct stat st;
  Sender *sender = g_new0 (Sender, 1);
  sender->spec = *spec;
  sender->sums = frame_sums_new ();
  sender->pace.rate = spec->rate;
  sender->buffer = g_malloc (FRAME_HEAD + FRAME_DATA_MAX);
  sender->at = sender->data_end = spec->from;
  sender->error = spec->problem;
  sender->device = fstat (spec->source, &st) == 0 && S_ISBLK (st.st_mode);
  if (sender->device || spec->dense)
    sender->data_end = spec->size;
  else if (!spec->piped)
    posix_fadvise (spec->source, 0, 0, POSIX_FADV_SEQUENTIAL);
  else
    g_unix_set_fd_nonblocking (spec->source, TRUE, NULL);
  g_unix_set_fd_nonblocking (spec->out, TRUE, NULL);
  sender->wait = (Wait){.turn = on_turn, .data = sender};
  wait_for_turn (&sender->wait);
  return sender;
}

void
sender_free (Sender *sender)
{
  if (sender == NULL)
    return;
  wait_stop (&sender->wait);
  if (sender->spec.source >= 0)
    close (sender->spec.source);
  frame_sums_free (sender->sums);
  g_free (sender->buffer);
  g_clear_error (&sender->error);
  g_free (sender);
}
