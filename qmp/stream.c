/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/stream.h"

#include "qmp/parser.h"
#include "qmp/wakeup.h"
#include "src/common/error.h"
#include "src/common/source.h"

#include <string.h>

#define INPUT_SIZE  (64u << 10)
#define NO_SENTINEL -1
#define KEEP_OUTPUT (1u << 20) /* an output buffer above this is given back when it is empty */

struct _QmpStream {
  guint refs;
  GIOStream *connection; /* NULL: closed */
  GMainContext *context;
  const QmpStreamOwner *owner;
  gpointer data;

  QmpParser *parser;
  gsize max_message;
  int sentinel;      /* while out of step; else NO_SENTINEL */
  gboolean skipping; /* input is dropped up to the sentinel */
  char *input;       /* INPUT_SIZE bytes, of which [start, end) are not parsed yet */
  gsize input_start;
  gsize input_end;
  GString *output; /* from output_start on not written yet */
  gsize output_start;
  gsize max_queued;

  GSource *readable; /* only while the input is used up */
  GSource *writable; /* only while something is queued */
  GSource *turn;     /* runs pump() */
  GError *broken;    /* writing failed; what the peer said before is still read */
  GError *ending;    /* nothing more can be read */
};

static gboolean
pump (gpointer data);
static gboolean
on_readable (GObject *pollable, gpointer data);
static gboolean
on_writable (GObject *pollable, gpointer data);

QmpStream *
qmp_stream_new (GIOStream *connection, GMainContext *context, gsize max_message, gsize max_queued,
                const QmpStreamOwner *owner, gpointer data)
{
  QmpStream *stream = g_new0 (QmpStream, 1);
  stream->refs = 1;
  stream->connection = g_object_ref (connection);
  stream->context = g_main_context_ref (context);
  stream->owner = owner;
  stream->data = data;
  stream->parser = qmp_parser_new (max_message);
  stream->max_message = max_message;
  stream->sentinel = NO_SENTINEL;
  stream->input = g_malloc (INPUT_SIZE);
  stream->output = g_string_new (NULL);
  stream->max_queued = max_queued;
  stream->turn = wakeup_new (context, pump, stream);
  wakeup_at (stream->turn, WAKEUP_NOW);
  return stream;
}

static void
stream_unref (QmpStream *stream)
{
  if (--stream->refs > 0)
    return;
  qmp_parser_free (stream->parser);
  g_string_free (stream->output, TRUE);
  g_clear_error (&stream->broken);
  g_clear_error (&stream->ending);
  g_main_context_unref (stream->context);
  g_free (stream->input);
  g_free (stream);
}

void
qmp_stream_close (QmpStream *stream)
{
  source_clear (&stream->readable);
  source_clear (&stream->writable);
  source_clear (&stream->turn);
  stream->input_start = stream->input_end = 0;
  if (stream->connection != NULL)
    g_io_stream_close (stream->connection, NULL, NULL);
  g_clear_object (&stream->connection);
}

void
qmp_stream_free (QmpStream *stream)
{
  if (stream == NULL)
    return;
  qmp_stream_close (stream);
  stream_unref (stream);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void
wait_readable (QmpStream *stream)
{
  if (stream->readable != NULL)
    return;
  GInputStream *in = g_io_stream_get_input_stream (stream->connection);
  stream->readable = g_pollable_input_stream_create_source (G_POLLABLE_INPUT_STREAM (in), NULL);
  g_source_set_callback (stream->readable, G_SOURCE_FUNC (on_readable), stream, NULL);
  g_source_attach (stream->readable, stream->context);
}

static void
wait_writable (QmpStream *stream)
{
  if (stream->writable != NULL)
    return;
  GOutputStream *out = g_io_stream_get_output_stream (stream->connection);
  stream->writable = g_pollable_output_stream_create_source (G_POLLABLE_OUTPUT_STREAM (out), NULL);
  g_source_set_callback (stream->writable, G_SOURCE_FUNC (on_writable), stream, NULL);
  g_source_attach (stream->writable, stream->context);
}

/* ---- reading --------------------------------------------------------------------------------- */

static gboolean
lost (GError **error, const GError *why)
{
  fail (error, UNREACHABLE, "broke the connection");
  return because (error, "%s", why->message);
}

/* Reads once into the empty input buffer; at the end of the input says why in ->ending. */
static void
fill (QmpStream *stream)
{
  g_autoptr (GError) error = NULL;
  GInputStream *in = g_io_stream_get_input_stream (stream->connection);
  gssize n = g_pollable_input_stream_read_nonblocking (G_POLLABLE_INPUT_STREAM (in), stream->input,
                                                       INPUT_SIZE, NULL, &error);
  stream->input_start = 0;
  stream->input_end = n > 0 ? (gsize)n : 0;
  if (n > 0)
    return;
  if (n == 0)
    fail (&stream->ending, UNREACHABLE, "closed the connection%s",
          qmp_parser_is_inside (stream->parser) ? " in the middle of a message" : "");
  else if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
    lost (&stream->ending, error);
  else if (stream->broken != NULL)
    stream->ending = g_steal_pointer (&stream->broken);
}

static gboolean
on_readable (GObject *pollable, gpointer data)
{
  QmpStream *stream = data;
  source_clear (&stream->readable);
  fill (stream);
  wakeup_at (stream->turn, WAKEUP_NOW);
  return G_SOURCE_REMOVE;
}

static void
skip_to_sentinel (QmpStream *stream)
{
  const char *start = stream->input + stream->input_start;
  const char *found = memchr (start, stream->sentinel, stream->input_end - stream->input_start);
  stream->input_start = found ? (gsize)(found + 1 - stream->input) : stream->input_end;
  stream->skipping = found == NULL;
}

/* The next message out of the input buffer (full), or NULL. */
static Json *
parse (QmpStream *stream)
{
  for (;;) {
    g_autoptr (GError) error = NULL;
    Json *message = NULL;
    gsize used = 0;
    if (stream->skipping)
      skip_to_sentinel (stream);
    gsize length = stream->input_end - stream->input_start;
    if (length == 0)
      return NULL;
    if (qmp_parser_feed (stream->parser, stream->input + stream->input_start, length, &used,
                         &message, &error)) {
      stream->input_start += used;
      return message;
    }
    if (stream->sentinel != NO_SENTINEL) {
      qmp_stream_resync_again (stream);
      continue;
    }
    stream->input_start = stream->input_end;
    if (stream->ending == NULL)
      stream->ending = g_steal_pointer (&error);
    return NULL;
  }
}

static void
end (QmpStream *stream)
{
  g_autoptr (GError) why = g_steal_pointer (&stream->ending);
  qmp_stream_close (stream);
  stream->owner->ended (stream, why, stream->data);
}

/* One turn: parse -> hand out -> end -> wait. */
static gboolean
pump (gpointer data)
{
  QmpStream *stream = data;
  g_autoptr (Json) message = parse (stream);
  stream->refs++; /* the owner may free it in its callback */
  if (message != NULL) {
    wakeup_at (stream->turn, WAKEUP_NOW);
    stream->owner->message (stream, message, stream->data);
  } else if (stream->ending != NULL) {
    end (stream);
  } else if (stream->broken != NULL) {
    fill (stream);
    wakeup_at (stream->turn, WAKEUP_NOW);
  } else {
    wait_readable (stream);
  }
  stream_unref (stream);
  return G_SOURCE_CONTINUE;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void
output_empty (QmpStream *stream)
{
  source_clear (&stream->writable);
  stream->output_start = 0;
  if (stream->output->allocated_len > KEEP_OUTPUT) {
    g_string_free (stream->output, TRUE);
    stream->output = g_string_new (NULL);
  }
  g_string_truncate (stream->output, 0);
}

static gboolean
on_writable (GObject *pollable, gpointer data)
{
  QmpStream *stream = data;
  g_autoptr (GError) error = NULL;
  gsize left = stream->output->len - stream->output_start;
  gssize n = g_pollable_output_stream_write_nonblocking (G_POLLABLE_OUTPUT_STREAM (pollable),
                                                         stream->output->str + stream->output_start,
                                                         left, NULL, &error);
  if (n > 0)
    stream->output_start += (gsize)n;
  if (n > 0 && (gsize)n == left)
    output_empty (stream);
  if (n >= 0 || g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
    return G_SOURCE_CONTINUE;
  output_empty (stream);
  lost (&stream->broken, error);
  source_clear (&stream->readable);
  wakeup_at (stream->turn, WAKEUP_NOW);
  return G_SOURCE_CONTINUE;
}

/* Written bytes are dropped when they are the larger half, so each byte moves once on average. */
static void
compact (QmpStream *stream)
{
  if (stream->output_start < stream->output->len / 2)
    return;
  g_string_erase (stream->output, 0, (gssize)stream->output_start);
  stream->output_start = 0;
}

gsize
qmp_stream_get_queued (QmpStream *stream)
{
  return stream->output->len - stream->output_start;
}

gboolean
qmp_stream_send (QmpStream *stream, Json *message, GError **error)
{
  size_t length;
  if (stream->connection == NULL)
    return fail (error, UNREACHABLE, "is not connected any more");
  if (stream->broken != NULL || stream->ending != NULL)
    return TRUE; /* as if written to a peer that is gone; ended() comes */
  const char *text = json_object_to_json_string_length (
      message, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
  gsize queued = qmp_stream_get_queued (stream);
  if (length + 1 > stream->max_queued - MIN (queued, stream->max_queued))
    return fail (error, UNREACHABLE, "does not read what is sent to it");
  compact (stream);
  g_string_append_len (stream->output, text, (gssize)length);
  g_string_append_c (stream->output, '\n');
  wait_writable (stream);
  return TRUE;
}

/* Being in the middle of something */

void
qmp_stream_resync_again (QmpStream *stream)
{
  qmp_parser_free (stream->parser);
  stream->parser = qmp_parser_new (stream->max_message);
  stream->skipping = TRUE;
}

void
qmp_stream_resync (QmpStream *stream, guchar sentinel)
{
  stream->sentinel = sentinel;
  qmp_stream_resync_again (stream);
  if (stream->connection == NULL || stream->broken != NULL || stream->ending != NULL)
    return;
  compact (stream);
  g_string_append_c (stream->output, (char)sentinel);
  wait_writable (stream);
}

void
qmp_stream_in_step (QmpStream *stream)
{
  stream->sentinel = NO_SENTINEL;
}
