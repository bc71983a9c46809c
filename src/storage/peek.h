/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A look into an image: the beginning of what a guest sees in it, as a temporary file that libblkid and the
 * programs of filesystems can read. */
#pragma once

#include "src/storage/volume.h"

typedef struct _Peek Peek;

/* @error NULL: volume->contents are set, and peek_path() has them as a file. Never from inside peek_new(). */
typedef void (*PeekReady) (Peek *peek, const GError *error, gpointer data);

/* @volume is borrowed until then. NULL where there is nothing to look into, or, with an error, no place for it. */
Peek *peek_new (Volume *volume, PeekReady ready, gpointer data, GError **error);
/* As long as the volume, all but the beginning of it a hole; borrowed. */
const char *peek_path (Peek *peek);
/* Only after it is ready: removes the file. */
void peek_free (Peek *peek);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Peek, peek_free)
