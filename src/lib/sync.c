/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/lib-private.h"

void
waiting_done (GObject *source, GAsyncResult *result, gpointer data)
{
  Waiting *waiting = data;
  waiting->result = g_object_ref (result);
  g_main_context_wakeup (waiting->context);
}

GAsyncResult *
waiting_result (Waiting *waiting)
{
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  while (waiting->result == NULL)
    g_main_context_iteration (context, TRUE);
  return waiting->result;
}

void
waiting_clear (Waiting *waiting)
{
  g_clear_object (&waiting->result);
}
