/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting for one asynchronous call of the library, with signals looked after: SIGINT, SIGTERM and
 * SIGHUP interrupt, SIGUSR1 asks for a line of progress. One main loop, no threads. */
#pragma once

#include <gio/gio.h>

typedef struct {
  /* How often it was interrupted by now: 1, 2, ... NULL: the first time cancels the cancellable. */
  void (*on_interrupt) (guint nth, gpointer data);
  void (*on_status) (gpointer data); /* nullable */
  void (*on_tick) (gpointer data);   /* five times a second, nullable */
  gpointer data;
  guint64 timeout_ms; /* cancels the cancellable; 0 = never */
} WaitSpec;

typedef struct _Wait Wait;

Wait *
wait_new (const WaitSpec *spec);
void
wait_free (Wait *wait);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Wait, wait_free)
GCancellable *
wait_cancellable (Wait *wait); /* borrowed */
/* The callback of the asynchronous call; @data is the Wait. */
void
wait_done (GObject *source, GAsyncResult *result, gpointer data);
/* Until wait_done was called; borrowed. */
GAsyncResult *
wait_run (Wait *wait);
/* As the signals do, for whoever has none: SIGINT and SIGUSR1. One that comes between two waits counts for the
 * next, until it is forgotten. */
void
wait_interrupt (void);
void
wait_status (void);
void
wait_forget (void);
gboolean
wait_timed_out (Wait *wait);
/* What the library's error means here: TIMEOUT after the timeout, INTERRUPTED after a signal;
 * always returns FALSE. @what: for instance "job j0". */
gboolean
wait_explain (Wait *wait, const char *what, GError **error);
