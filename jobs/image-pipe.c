/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/image-pipe.h"

#include "src/common/source.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <unistd.h>

#define CHUNK     65536u
#define FLOWS     4096u /* bytes read at once that tell of more to come */
#define PACE_MS   1u
#define PIPE_SIZE (256 << 10) /* holds what is printed meanwhile */

struct _ImagePipe {
  int fd;
  GSource *source;
  ImagePipeText text;
  ImagePipeEnd end;
  gpointer data;
  char chunk[CHUNK];
};

typedef enum { EMPTY, FLOWING, FULL, ENDED } State;

void
image_pipe_stop (ImagePipe *pipe)
{
  source_clear (&pipe->source);
  g_free (pipe);
}

static State
read_some (ImagePipe *pipe)
{
  gssize n = read (pipe->fd, pipe->chunk, sizeof pipe->chunk);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return EMPTY;
  if (n <= 0)
    return ENDED;
  pipe->text (pipe->chunk, (gsize)n, pipe->data);
  return n == (gssize)CHUNK ? FULL : n >= (gssize)FLOWS ? FLOWING : EMPTY;
}

static gboolean
on_readable (gint fd, GIOCondition condition, gpointer data);
static gboolean
on_time (gpointer data);

static void
wait_for (ImagePipe *pipe, State state)
{
  gboolean paced = state != EMPTY;
  source_clear (&pipe->source);
  pipe->source = paced ? g_timeout_source_new (PACE_MS)
                       : g_unix_fd_source_new (pipe->fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
  g_source_set_callback (pipe->source, paced ? on_time : G_SOURCE_FUNC (on_readable), pipe, NULL);
  g_source_attach (pipe->source, g_main_context_get_thread_default ());
}

/* Of a source that looks again in @state. */
static gboolean
look (ImagePipe *pipe, State state)
{
  State now = read_some (pipe);
  for (guint more = 0; now == FULL && more < 16; more++) /* then others have their turn */
    now = read_some (pipe);
  if (now == FULL)
    now = FLOWING;
  if (now == state)
    return G_SOURCE_CONTINUE;
  if (now != ENDED) {
    wait_for (pipe, now);
    return G_SOURCE_REMOVE;
  }
  ImagePipeEnd end = pipe->end;
  gpointer data = pipe->data;
  image_pipe_stop (pipe);
  end (data);
  return G_SOURCE_REMOVE;
}

static gboolean
on_readable (gint fd, GIOCondition condition, gpointer data)
{
  return look (data, EMPTY);
}

static gboolean
on_time (gpointer data)
{
  return look (data, FLOWING);
}

ImagePipe *
image_pipe_read (int fd, ImagePipeText text, ImagePipeEnd end, gpointer data)
{
  ImagePipe *pipe = g_new0 (ImagePipe, 1);
  pipe->fd = fd;
  pipe->text = text;
  pipe->end = end;
  pipe->data = data;
  g_unix_set_fd_nonblocking (fd, TRUE, NULL);
  fcntl (fd, F_SETPIPE_SZ, PIPE_SIZE); /* refused: the writer waits more often */
  wait_for (pipe, EMPTY);
  return pipe;
}
