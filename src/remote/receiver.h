/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames out of a descriptor into a file, or through a pipe into a program; from the main loop. */
#pragma once

#include <glib.h>

typedef struct _Receiver Receiver;

typedef struct {
  int in;           /* made non-blocking; the receiver closes it */
  int out;          /* borrowed; of a pipe: made non-blocking */
  gboolean piped;   /* @out is a pipe, which takes everything in order */
  guint64 from;     /* the stream begins here */
  guint64 size;     /* of the volume; G_MAXUINT64: not known */
  guint64 rate;     /* bytes per second; 0: no limit */
  void (*moved) (guint64 bytes, gpointer data); /* of data, more than before */
  /* Once; the receiver may be freed in it. @error NULL: all of it has come. UNREACHABLE: it can be gone on with
   * from receiver_at(). */
  void (*done) (const GError *error, gpointer data);
  gpointer data;
} ReceiverSpec;

Receiver *receiver_start (const ReceiverSpec *spec);
/* Everything before this is written. */
guint64 receiver_at (Receiver *receiver);
void receiver_free (Receiver *receiver);
