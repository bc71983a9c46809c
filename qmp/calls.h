/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands that wait for an answer: by id, by deadline, and in the order in which they were
 * given. Each is taken out exactly once; whoever takes it answers it. */
#pragma once

#include "qmp/client.h"

typedef struct {
  gint64 id;
  char *command;
  Json *arguments; /* until it is sent */
  gboolean sent;
  gint64 deadline; /* monotonic, us */
  QmpReply callback;
  gpointer data;
} Call;

typedef struct _Calls Calls;

Calls *calls_new (void);
void calls_free (Calls *calls); /* has to be empty, or nobody hears */
/* Takes @arguments. The result is borrowed. */
Call *calls_add (Calls *calls, const char *command, Json *arguments, guint timeout_ms,
                 QmpReply callback, gpointer data);
void call_free (Call *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Call, call_free)

/* Full; NULL where there is none. */
Call *calls_take (Calls *calls, gint64 id);
Call *calls_take_expired (Calls *calls, gint64 now);
Call *calls_take_oldest (Calls *calls);

/* The next one that was not sent yet, marked as sent; borrowed. */
Call *calls_next_unsent (Calls *calls);
/* -1 where nothing waits. */
gint64 calls_nearest_deadline (Calls *calls);
guint calls_waiting (Calls *calls);
/* Was @id ever given out? */
gboolean calls_knew (Calls *calls, gint64 id);
