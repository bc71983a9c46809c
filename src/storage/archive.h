/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compressed volumes: which codecs there are, and the programs that do them. */
#pragma once

#include <glib.h>

typedef struct {
  const char *name;
  const char *suffix;
  const char *magic;
  gsize magic_length;
  const char *compress[6], *decompress[6]; /* argv, from stdin to stdout */
  gboolean sparse; /* decompressing leaves holes where there are zeroes */
} Codec;

extern const Codec codecs[]; /* ends with a row without name */

const Codec *codec_named (const char *name);
/* A compressed file is known by its name and its first bytes, both: what a guest wrote at the start of a raw
 * disk must not make an archive of it. NULL: none. */
const Codec *codec_of_file (const char *path, const void *start, gsize length);
/* Is its program here? */
gboolean codec_is_usable (const Codec *codec);
