/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The filesystems that can be made larger or smaller, and the command lines of their own programs, as data. */
#pragma once

#include <glib.h>

#define FILESYSTEM_WORDS 9

typedef struct {
  const char *type;             /* as libblkid calls it */
  gboolean by_mount;            /* its program works on a mounted filesystem, and on no other */
  gboolean shrinks;
  gboolean shrinks_mounted;
  const char *options;          /* of mount(8), beside those that every mount gets; nullable */
  /* Command lines: @DEVICE, @MOUNT, @BYTES, @SECTORS and @BLOCKS stand for what they say. Empty: none. */
  const char *end[FILESYSTEM_WORDS];     /* says how large it is */
  const char *check[FILESYSTEM_WORDS];   /* must pass before it is changed; mends what is safe to mend */
  const char *minimum[FILESYSTEM_WORDS]; /* says how small it can be */
  const char *resize[FILESYSTEM_WORDS];
  const char *verify[FILESYSTEM_WORDS];  /* must find nothing afterwards; changes nothing */
  const char *end_keys[2];      /* words before its size, and before the unit of that; the second is nullable */
  const char *minimum_key;      /* nullable: the number comes first */
  gboolean minimum_in_blocks;
} Filesystem;

/* Where it lies, and how large it is to be; each as far as it is known. */
typedef struct {
  const char *device, *mount;
  guint64 bytes, block;
} FilesystemPlace;

extern const Filesystem filesystems[]; /* ends with a row without type */

/* NULL: not one of them. */
const Filesystem *filesystem_named (const char *type);
/* One of the command lines with @place in it; full. NULL where it is empty. */
char **filesystem_args (const char *const *words, const FilesystemPlace *place);
/* mount(8) of the file @place->device on @place->mount, as harmless as the kernel can make it; full. */
char **filesystem_mount_args (const Filesystem *filesystem, const FilesystemPlace *place);
/* What the program said: bytes, and the unit it counts in. FALSE where it did not. */
gboolean filesystem_read_end (const Filesystem *filesystem, const char *out, guint64 *ret_bytes,
                              guint64 *ret_block);
gboolean filesystem_read_minimum (const Filesystem *filesystem, const char *out, guint64 block,
                                  guint64 *ret_bytes);
