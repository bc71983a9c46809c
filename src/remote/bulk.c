/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/bulk.h"

#include "src/remote/wait.h"

#include <errno.h>
#include <glib-unix.h>
#include <unistd.h>

#define BUFFER (256u << 10)

static void
ask (Session *session, Json *take_words)
{
  session_ask (session, "run", json_make ("argv", take_words, NULL));
}

void
bulk_ask_to_send (Session *session, Json *offer, guint64 from)
{
  g_autofree char *text = json_line (offer);
  g_autofree char *option = g_strdup_printf ("--from=%" G_GUINT64_FORMAT, from);
  session_tell (session, "document",
                json_make ("option", json_str ("--offer"), "text", json_str (text), NULL));
  ask (session, json_list (json_str ("vol"), json_str ("send"), json_str ("--offer"),
                           json_str (option), NULL));
}

void
bulk_ask_to_feed (Session *session, const char *operation)
{
  ask (session, json_list (json_str ("vol"), json_str ("feed"), json_str (operation), NULL));
}

/* ---- pump ------------------------------------------------------------------------------------ */

struct _Pump {
  int in, out;
  void (*done) (gpointer data);
  gpointer data;
  char *buffer;
  gsize start, end;
  Wait wait;
};

/* FALSE: it has ended. */
static gboolean
move (Pump *pump)
{
  gssize n;
  if (pump->start == pump->end) {
    n = read (pump->in, pump->buffer, BUFFER);
    pump->start = 0;
    pump->end = n > 0 ? (gsize)n : 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      return FALSE;
  }
  n = write (pump->out, pump->buffer + pump->start, pump->end - pump->start);
  if (n < 0 && errno != EAGAIN && errno != EINTR)
    return FALSE;
  pump->start += n > 0 ? (gsize)n : 0;
  return TRUE;
}

static gboolean
on_turn (gpointer data)
{
  Pump *pump = data;
  if (!move (pump))
    pump->done (pump->data);
  else if (pump->start < pump->end)
    wait_for_fd (&pump->wait, pump->out, G_IO_OUT);
  else
    wait_for_fd (&pump->wait, pump->in, G_IO_IN);
  return G_SOURCE_REMOVE;
}

Pump *
pump_start (int in, int out, void (*done) (gpointer data), gpointer data)
{
  Pump *pump = g_new0 (Pump, 1);
  *pump = (Pump){.in = in,
                 .out = out,
                 .done = done,
                 .data = data,
                 .buffer = g_malloc (BUFFER),
                 .wait = {.turn = on_turn, .data = pump}};
  g_unix_set_fd_nonblocking (in, TRUE, NULL);
  g_unix_set_fd_nonblocking (out, TRUE, NULL);
  wait_for_fd (&pump->wait, in, G_IO_IN);
  return pump;
}

void
pump_free (Pump *pump)
{
  if (pump == NULL)
    return;
  wait_stop (&pump->wait);
  g_free (pump->buffer);
  g_free (pump);
}
