/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A source that sleeps until it is told when to run; it may run again inside itself (a callback that
 * iterates the main context does not stop the rest of the world). */
#pragma once

#include <glib.h>

#define WAKEUP_NEVER -1
#define WAKEUP_NOW   0

/* Attached to @context, asleep. @callback returns G_SOURCE_CONTINUE. */
GSource *wakeup_new (GMainContext *context, GSourceFunc callback, gpointer data);
/* @when: monotonic time in microseconds, or one of the above. */
void wakeup_at (GSource *wakeup, gint64 when);
