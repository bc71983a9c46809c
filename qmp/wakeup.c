/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/wakeup.h"

static gboolean
wakeup_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  g_source_set_ready_time (source, WAKEUP_NEVER);
  return callback (data);
}

static GSourceFuncs wakeup_funcs = {.dispatch = wakeup_dispatch};

GSource *
wakeup_new (GMainContext *context, GSourceFunc callback, gpointer data)
{
  GSource *source = g_source_new (&wakeup_funcs, sizeof (GSource));
  g_source_set_static_name (source, "qmp");
  g_source_set_can_recurse (source, TRUE);
  g_source_set_callback (source, callback, data, NULL);
  g_source_attach (source, context);
  return source;
}

void
wakeup_at (GSource *wakeup, gint64 when)
{
  g_source_set_ready_time (wakeup, when);
}
