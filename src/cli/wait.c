/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/wait.h"
#include "src/common/error.h"

#include <glib-unix.h>
#include <signal.h>
#include <unistd.h>

struct _Wait {
  Wait *outer; /* that was the innermost before */
  WaitSpec spec;
  GMainLoop *loop;
  GCancellable *cancellable;
  GAsyncResult *result;
  GArray *sources; /* guint */
  guint interrupts;
  gboolean timed_out;
};

/* Signals are of the process; so is whom they mean. */
static Wait *innermost;
static gboolean missed; /* an interrupt that came between two waits */

static gboolean
on_interrupt (gpointer data)
{
  Wait *wait = data;
  wait->interrupts++;
  if (wait->spec.on_interrupt != NULL)
    wait->spec.on_interrupt (wait->interrupts, wait->spec.data);
  else if (wait->interrupts == 1)
    g_cancellable_cancel (wait->cancellable);
  else
    _exit (130); /* nothing but looking and waiting goes on in these waits */
  return G_SOURCE_CONTINUE;
}

static gboolean
on_status (gpointer data)
{
  Wait *wait = data;
  if (wait->spec.on_status != NULL)
    wait->spec.on_status (wait->spec.data);
  return G_SOURCE_CONTINUE;
}

static gboolean
on_tick (gpointer data)
{
  Wait *wait = data;
  wait->spec.on_tick (wait->spec.data);
  return G_SOURCE_CONTINUE;
}

/* The source stays, so that all are removed alike in wait_free(). */
static gboolean
on_timeout (gpointer data)
{
  Wait *wait = data;
  wait->timed_out = TRUE;
  g_cancellable_cancel (wait->cancellable);
  return G_SOURCE_CONTINUE;
}

static void
add_source (Wait *wait, guint id)
{
  g_array_append_val (wait->sources, id);
}

void
wait_interrupt (void)
{
  if (innermost != NULL)
    on_interrupt (innermost);
  else
    missed = TRUE;
}

void
wait_forget (void)
{
  missed = FALSE;
}

void
wait_status (void)
{
  if (innermost != NULL)
    on_status (innermost);
}

/* Who started us with nohup wants to be left alone. */
static gboolean
is_ignored (int signum)
{
  struct sigaction action;
  return sigaction (signum, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

Wait *
wait_new (const WaitSpec *spec)
{
  Wait *wait = g_new0 (Wait, 1);
  wait->spec = *spec;
  wait->loop = g_main_loop_new (NULL, FALSE);
  wait->cancellable = g_cancellable_new ();
  wait->sources = g_array_new (FALSE, FALSE, sizeof (guint));
  add_source (wait, g_unix_signal_add (SIGINT, on_interrupt, wait));
  add_source (wait, g_unix_signal_add (SIGTERM, on_interrupt, wait));
  if (!is_ignored (SIGHUP))
    add_source (wait, g_unix_signal_add (SIGHUP, on_interrupt, wait));
  add_source (wait, g_unix_signal_add (SIGUSR1, on_status, wait));
  wait->outer = innermost;
  innermost = wait;
  if (spec->on_tick != NULL)
    add_source (wait, g_timeout_add (200, on_tick, wait));
  if (spec->timeout_ms > 0)
    add_source (wait, g_timeout_add ((guint)MIN (spec->timeout_ms, G_MAXUINT), on_timeout, wait));
  return wait;
}

void
wait_free (Wait *wait)
{
  innermost = wait->outer;
  for (guint i = 0; i < wait->sources->len; i++)
    g_source_remove (g_array_index (wait->sources, guint, i));
  g_array_unref (wait->sources);
  g_clear_object (&wait->result);
  g_object_unref (wait->cancellable);
  g_main_loop_unref (wait->loop);
  g_free (wait);
}

GCancellable *
wait_cancellable (Wait *wait)
{
  return wait->cancellable;
}

void
wait_done (GObject *source, GAsyncResult *result, gpointer data)
{
  Wait *wait = data;
  g_set_object (&wait->result, result);
  g_main_loop_quit (wait->loop);
}

GAsyncResult *
wait_run (Wait *wait)
{
  if (missed) {
    missed = FALSE;
    on_interrupt (wait);
  }
  while (wait->result == NULL)
    g_main_loop_run (wait->loop);
  return wait->result;
}

gboolean
wait_timed_out (Wait *wait)
{
  return wait->timed_out;
}

gboolean
wait_explain (Wait *wait, const char *what, GError **error)
{
  if (error == NULL || !g_cancellable_is_cancelled (wait->cancellable))
    return FALSE;
  gboolean cancelled = g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                       g_error_matches (*error, RECHAIN_ERROR, INTERRUPTED);
  if (!cancelled)
    return FALSE;
  g_clear_error (error);
  if (wait->timed_out)
    return fail (error, TIMED_OUT, "%s: timed out", what);
  return fail (error, INTERRUPTED, "%s: interrupted", what);
}
