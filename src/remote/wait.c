/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/wait.h"

#include "src/common/source.h"

#include <glib-unix.h>

void
wait_stop (Wait *wait)
{
  source_clear (&wait->source);
}

/* The wait is over before the turn begins, which may free it. */
static gboolean
on_turn (gpointer data)
{
  Wait *wait = data;
  wait_stop (wait);
  wait->turn (wait->data);
  return G_SOURCE_REMOVE;
}

static gboolean
on_ready (int fd, GIOCondition condition, gpointer data)
{
  return on_turn (data);
}

static void
start (Wait *wait, GSource *take_source, GSourceFunc callback)
{
  wait_stop (wait);
  wait->source = take_source;
  g_source_set_callback (take_source, callback, wait, NULL);
  g_source_attach (take_source, g_main_context_get_thread_default ());
}

void
wait_for_fd (Wait *wait, int fd, GIOCondition condition)
{
  start (wait, g_unix_fd_source_new (fd, condition | G_IO_ERR | G_IO_HUP),
         G_SOURCE_FUNC (on_ready));
}

void
wait_for_ms (Wait *wait, guint ms)
{
  start (wait, g_timeout_source_new (ms), on_turn);
}

void
wait_for_turn (Wait *wait)
{
  GSource *soon = g_idle_source_new ();
  g_source_set_priority (soon, G_PRIORITY_DEFAULT);
  start (wait, soon, on_turn);
}
