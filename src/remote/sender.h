/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file, device or pipe, as frames into a descriptor; from the main loop. */
#pragma once

#include <glib.h>

typedef struct _Sender Sender;

typedef struct {
  int source;       /* read from; the sender closes it */
  gboolean piped;   /* it is a pipe: everything is sent, as it comes */
  gboolean dense;   /* holes of a file are sent as zeroes */
  guint64 from;     /* begin here */
  guint64 size;     /* of a file or device */
  guint64 rate;     /* bytes per second; 0: no limit */
  GError *problem;  /* it cannot be read: that is all there is to send; taken, nullable */
  int out;          /* borrowed; made non-blocking */
  /* Before the end is said: is what was sent whole? What it says goes to the other side. Nullable. */
  gboolean (*check) (gpointer data, GError **error);
  /* Once; the sender may be freed in it. UNREACHABLE: nobody reads any more. */
  void (*done) (const GError *error, gpointer data);
  gpointer data;
} SenderSpec;

Sender *sender_start (const SenderSpec *spec);
void sender_free (Sender *sender);
