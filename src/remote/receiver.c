/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/receiver.h"

#include "src/common/error.h"
#include "src/remote/frames.h"
#include "src/remote/pace.h"
#include "src/remote/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <unistd.h>

#define WRITE_BACK (8u << 20)

/* Of one write into a file. The kernel makes as large a piece of page cache of each as it can get,
 * and large ones are memory that nobody used for long: not in any processor's cache, in a guest
 * perhaps not even the guest's. What rsync and cp write at once comes out of what was just freed,
 * at a fifth of the CPU time. */
#define PIECE (64u << 10)

struct _Receiver {
  ReceiverSpec spec;
  FrameReader *reader;
  Pace pace;
  const guint8 *rest; /* of a payload that the pipe has not taken yet */
  gsize rest_length;
  guint64 at;
  guint64 written_back; /* the disk was told of what lies before */
  Wait wait;
};

static void
finish (Receiver *receiver, GError *take_error)
{
  g_autoptr (GError) error = take_error;
  wait_stop (&receiver->wait);
  receiver->spec.done (error, receiver->spec.data);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* The disk works while the network brings more, so that the sync in the end finds little to do. */
static void
write_back (Receiver *receiver)
{
  guint64 from = receiver->written_back, length = receiver->at - from;
  if (length < WRITE_BACK)
    return;
  sync_file_range (receiver->spec.out, (off_t)from, (off_t)length, SYNC_FILE_RANGE_WRITE);
  receiver->written_back = receiver->at;
}

static gboolean
write_file (Receiver *receiver, const Frame *frame, const guint8 *payload, GError **error)
{
  gsize done = 0;
  while (done < frame->length) {
    gssize n = pwrite (receiver->spec.out, payload + done, MIN (frame->length - done, PIECE),
                       (off_t)(frame->offset + done));
    if (n < 0 && errno != EINTR)
      return fail_errno (error, errno, "write at byte %" G_GUINT64_FORMAT, frame->offset + done);
    done += n > 0 ? (gsize)n : 0;
  }
  receiver->at = frame_reader_at (receiver->reader);
  write_back (receiver);
  return TRUE;
}

/* Pushes on what the pipe has not taken. A hole in what goes through a program cannot be. */
static gboolean
write_pipe (Receiver *receiver, GError **error)
{
  gssize n = write (receiver->spec.out, receiver->rest, receiver->rest_length);
  if (n < 0 && errno != EAGAIN && errno != EINTR)
    return fail_errno (error, errno, "give the data to the program");
  n = MAX (n, 0);
  receiver->rest += n;
  receiver->rest_length -= (gsize)n;
  receiver->at += (guint64)n;
  return TRUE;
}

static gboolean
take_data (Receiver *receiver, const Frame *frame, const guint8 *payload, GError **error)
{
  pace_pay (&receiver->pace, frame->length);
  receiver->spec.moved (frame->length, receiver->spec.data);
  if (!receiver->spec.piped)
    return write_file (receiver, frame, payload, error);
  if (frame->offset != receiver->at)
    return fail (error, FAILED, "a compressed volume came with a hole in it");
  receiver->rest = payload;
  receiver->rest_length = frame->length;
  return write_pipe (receiver, error);
}

typedef enum { GO_ON, WAIT, END } Next;

static Next
read_on (Receiver *receiver, GError **error)
{
  gsize wanted;
  guint8 *room = frame_reader_room (receiver->reader, &wanted);
  gssize n = read (receiver->spec.in, room, wanted);
  gboolean whole = FALSE;
  Frame frame;
  const guint8 *payload;
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    wait_for_fd (&receiver->wait, receiver->spec.in, G_IO_IN);
    return WAIT;
  }
  if (n <= 0)
    fail (error, UNREACHABLE, "the connection was lost");
  else if (frame_reader_take (receiver->reader, (gsize)n, &whole, &frame, &payload, error) &&
           whole) {
    if (frame.kind == FRAME_END)
      return END;
    take_data (receiver, &frame, payload, error);
  }
  return *error ? END : GO_ON;
}

static Next
step (Receiver *receiver, GError **error)
{
  gint64 later = pace_wait (&receiver->pace);
  if (later > 0) {
    wait_for_ms (&receiver->wait, (guint)(later / 1000 + 1));
    return WAIT;
  }
  if (receiver->rest_length == 0)
    return read_on (receiver, error);
  gsize before = receiver->rest_length;
  if (!write_pipe (receiver, error))
    return END;
  if (receiver->rest_length < before)
    return GO_ON;
  wait_for_fd (&receiver->wait, receiver->spec.out, G_IO_OUT);
  return WAIT;
}

static gboolean
on_turn (gpointer data)
{
  Receiver *receiver = data;
  GError *error = NULL;
  guint64 until = receiver->at + WAIT_TURN;
  Next next = GO_ON;
  while (next == GO_ON && receiver->at < until)
    next = step (receiver, &error);
  if (next == END)
    finish (receiver, error);
  else if (next == GO_ON)
    wait_for_turn (&receiver->wait);
  return G_SOURCE_REMOVE;
}

Receiver *
receiver_start (const ReceiverSpec *spec)
{
  Receiver *receiver = g_new0 (Receiver, 1);
  receiver->spec = *spec;
  receiver->reader = frame_reader_new (spec->from, spec->size);
  receiver->pace.rate = spec->rate;
  receiver->at = receiver->written_back = spec->from;
  g_unix_set_fd_nonblocking (spec->in, TRUE, NULL);
  if (spec->piped)
    g_unix_set_fd_nonblocking (spec->out, TRUE, NULL);
  receiver->wait = (Wait){.turn = on_turn, .data = receiver};
  wait_for_turn (&receiver->wait);
  return receiver;
}

guint64
receiver_at (Receiver *receiver)
{
  return receiver->at;
}

void
receiver_free (Receiver *receiver)
{
  if (receiver == NULL)
    return;
  wait_stop (&receiver->wait);
  close (receiver->spec.in);
  frame_reader_free (receiver->reader);
  g_free (receiver);
}
