/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pipe from a program, read to its end in the main loop.
 *
 * A program that prints much prints 4 KiB at a time (its stdio's buffer on a pipe). Waking up for each
 * would cost more than all that is done with it, so what flows is read every millisecond; only a pipe
 * with nothing in it is waited for. */
#pragma once

#include <glib.h>

typedef struct _ImagePipe ImagePipe;
typedef void (*ImagePipeText) (const char *text, gsize length, gpointer data);
typedef void (*ImagePipeEnd) (gpointer data);

/* @fd, borrowed, becomes non-blocking. @end comes once, never from inside this call, and then the pipe
 * is no more. */
ImagePipe *image_pipe_read (int fd, ImagePipeText text, ImagePipeEnd end, gpointer data);
/* No callback comes any more. Not from inside one. */
void image_pipe_stop (ImagePipe *pipe);
