/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions that carry frames: they begin with a command like any other, and after its reply the connection
 * (session_take) is the stream. */
#pragma once

#include "src/remote/session.h"

/* Asks for the contents of what was offered, from this byte on. They come once a byte was written to the
 * connection: until then this side still reads messages. */
void bulk_ask_to_send (Session *session, Json *offer, guint64 from);
/* Asks to bring data to an operation there. */
void bulk_ask_to_feed (Session *session, const char *operation);

/* Bytes from one descriptor into another, as they come; from the main loop. */
typedef struct _Pump Pump;
/* Both are borrowed, and made non-blocking. @done comes once, when @in has ended or @out takes no more. */
Pump *pump_start (int in, int out, void (*done) (gpointer data), gpointer data);
void pump_free (Pump *pump);
