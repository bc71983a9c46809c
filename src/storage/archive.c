/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/archive.h"

#include <string.h>

/* clang-format off */
#define MAGIC(text) text, sizeof text - 1
const Codec codecs[] = {
    {"zstd", ".zst", MAGIC ("\x28\xb5\x2f\xfd"),
     {"zstd", "-q", "-T0", "--check", "-c", NULL}, {"zstd", "-q", "-d", "--sparse", "-c", NULL}, TRUE},
    {"gzip", ".gz", MAGIC ("\x1f\x8b"),
     {"gzip", "-n", "-c", NULL}, {"gzip", "-d", "-c", NULL}, FALSE},
    {"xz", ".xz", MAGIC ("\xfd" "7zXZ\0"),
     {"xz", "-q", "-T2", "-c", NULL}, {"xz", "-q", "-d", "-c", NULL}, TRUE},
    {"lz4", ".lz4", MAGIC ("\x04\x22\x4d\x18"),
     {"lz4", "-q", "-c", NULL}, {"lz4", "-q", "-d", "--sparse", "-c", NULL}, TRUE},
    {"lzop", ".lzo", MAGIC ("\x89LZO\0\r\n\x1a\n"),
     {"lzop", "-q", "-c", NULL}, {"lzop", "-q", "-d", "-c", NULL}, FALSE},
    {NULL},
};
/* clang-format on */

const Codec *
codec_named (const char *name)
{
  for (const Codec *codec = codecs; codec->name != NULL; codec++)
    if (g_strcmp0 (codec->name, name) == 0)
      return codec;
  return NULL;
}

const Codec *
codec_of_file (const char *path, const void *start, gsize length)
{
  for (const Codec *codec = codecs; codec->name != NULL; codec++)
    if (g_str_has_suffix (path, codec->suffix) && length >= codec->magic_length &&
        memcmp (start, codec->magic, codec->magic_length) == 0)
      return codec;
  return NULL;
}

gboolean
codec_is_usable (const Codec *codec)
{
  g_autofree char *program = g_find_program_in_path (codec->compress[0]);
  return program != NULL;
}
