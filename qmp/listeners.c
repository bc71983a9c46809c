/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/listeners.h"

struct _Listeners {
  GPtrArray *all;
  guint last_id;
  guint telling; /* depth; removed ones stay in place until it is 0 */
  gboolean freed;
};

static void
listener_free (gpointer data)
{
  Listener *listener = data;
  g_free (listener->name);
  g_free (listener);
}

Listeners *
listeners_new (void)
{
  Listeners *listeners = g_new0 (Listeners, 1);
  listeners->all = g_ptr_array_new_with_free_func (listener_free);
  return listeners;
}

guint
listeners_add (Listeners *listeners, guint kind, const char *name, GCallback callback,
               gpointer data)
{
  Listener *listener = g_new0 (Listener, 1);
  *listener = (Listener){.id = ++listeners->last_id,
                         .name = g_strdup (name),
                         .kind = kind,
                         .callback = callback,
                         .data = data};
  g_ptr_array_add (listeners->all, listener);
  return listener->id;
}

/* Sweeps out what was removed. */
static void
sweep (Listeners *listeners)
{
  if (listeners->telling > 0)
    return;
  for (guint i = listeners->all->len; i > 0; i--)
    if (((Listener *)listeners->all->pdata[i - 1])->id == 0)
      g_ptr_array_remove_index (listeners->all, i - 1);
  if (!listeners->freed)
    return;
  g_ptr_array_unref (listeners->all);
  g_free (listeners);
}

void
listeners_remove (Listeners *listeners, guint id)
{
  for (guint i = 0; i < listeners->all->len; i++) {
    Listener *listener = listeners->all->pdata[i];
    if (id != 0 && listener->id == id)
      listener->id = 0;
  }
  sweep (listeners);
}

void
listeners_free (Listeners *listeners)
{
  for (guint i = 0; i < listeners->all->len; i++)
    ((Listener *)listeners->all->pdata[i])->id = 0;
  listeners->freed = TRUE;
  sweep (listeners);
}

static gboolean
wants (const Listener *listener, guint kind, const char *name)
{
  return listener->id != 0 && listener->kind == kind &&
         (listener->name == NULL || g_str_equal (listener->name, name));
}

void
listeners_tell (Listeners *listeners, guint kind, const char *name, ListenerTell tell,
                gpointer what)
{
  guint n = listeners->all->len;
  listeners->telling++;
  for (guint i = 0; i < n; i++) {
    Listener *listener = listeners->all->pdata[i];
    if (wants (listener, kind, name))
      tell (listener, what);
  }
  listeners->telling--;
  sweep (listeners);
}
