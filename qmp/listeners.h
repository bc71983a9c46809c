/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is told what: a list that may change while it is being gone through. Nothing is queued for
 * anybody, so a flood costs no memory. A listener that was removed is not called again; one that is
 * added while something is told hears the next thing. */
#pragma once

#include <glib-object.h>

typedef struct _Listeners Listeners;

typedef struct {
  guint id;      /* 0: removed */
  char *name;    /* filter, NULL: everything */
  guint kind;    /* of the owner's choosing */
  GCallback callback;
  gpointer data;
} Listener;

typedef void (*ListenerTell) (const Listener *listener, gpointer what);

Listeners *listeners_new (void);
/* After it nobody is called; freed when nothing is being told. */
void listeners_free (Listeners *listeners);
guint listeners_add (Listeners *listeners, guint kind, const char *name, GCallback callback,
                     gpointer data);
void listeners_remove (Listeners *listeners, guint id);
void listeners_tell (Listeners *listeners, guint kind, const char *name, ListenerTell tell,
                     gpointer what);
