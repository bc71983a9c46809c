/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/source.h"

void
source_clear (GSource **slot)
{
  if (*slot != NULL)
    g_source_destroy (*slot);
  g_clear_pointer (slot, g_source_unref);
}

static void
set (GSource **slot, GSource *take_source, GSourceFunc callback, gpointer data)
{
  source_clear (slot);
  *slot = take_source;
  g_source_set_callback (take_source, callback, data, NULL);
  g_source_attach (take_source, g_main_context_get_thread_default ());
}

void
source_after (GSource **slot, guint ms, GSourceFunc callback, gpointer data)
{
  set (slot, g_timeout_source_new (ms), callback, data);
}

void
source_idle (GSource **slot, GSourceFunc callback, gpointer data)
{
  set (slot, g_idle_source_new (), callback, data);
}

void
source_on_cancel (GSource **slot, GCancellable *cancellable, GCancellableSourceFunc callback,
                  gpointer data)
{
  if (cancellable != NULL)
    set (slot, g_cancellable_source_new (cancellable), G_SOURCE_FUNC (callback), data);
}

void
source_soon (GSourceFunc callback, gpointer data, GDestroyNotify free)
{
  g_autoptr (GSource) source = g_idle_source_new ();
  g_source_set_priority (source, G_PRIORITY_DEFAULT);
  g_source_set_callback (source, callback, data, free);
  g_source_attach (source, g_main_context_get_thread_default ());
}
