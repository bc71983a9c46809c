/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/filesystem.h"

#include <string.h>

/* clang-format off */
#define EXT(name)                                                                        \
    {.type = name, .shrinks = TRUE,                                                      \
     .end = {"dumpe2fs", "-h", "@DEVICE"}, .end_keys = {"Block count:", "Block size:"},  \
     .check = {"e2fsck", "-f", "-p", "@DEVICE"},                                         \
     .minimum = {"resize2fs", "-P", "@DEVICE"}, .minimum_key = "filesystem:", .minimum_in_blocks = TRUE, \
     .resize = {"resize2fs", "@DEVICE", "@SECTORS"},                                     \
     .verify = {"e2fsck", "-f", "-n", "@DEVICE"}}

const Filesystem filesystems[] = {
    EXT ("ext2"), EXT ("ext3"), EXT ("ext4"),
    {.type = "xfs", .by_mount = TRUE, .options = "nouuid",
     .end = {"xfs_db", "-r", "-c", "sb 0", "-c", "print dblocks blocksize", "@DEVICE"},
     .end_keys = {"dblocks =", "blocksize ="},
     .resize = {"xfs_growfs", "-D", "@BLOCKS", "@MOUNT"},
     .verify = {"xfs_repair", "-n", "@DEVICE"}},
    {.type = "btrfs", .by_mount = TRUE, .shrinks = TRUE, .shrinks_mounted = TRUE,
     .end = {"btrfs", "inspect-internal", "dump-super", "@DEVICE"}, .end_keys = {"total_bytes"},
     .minimum = {"btrfs", "inspect-internal", "min-dev-size", "@MOUNT"},
     .resize = {"btrfs", "filesystem", "resize", "@BYTES", "@MOUNT"},
     .verify = {"btrfs", "check", "--readonly", "@DEVICE"}},
    {0},
};
/* clang-format on */

const Filesystem *
filesystem_named (const char *type)
{
  for (const Filesystem *one = filesystems; one->type != NULL; one++)
    if (g_strcmp0 (one->type, type) == 0)
      return one;
  return NULL;
}

static char *
word_for (const char *word, const FilesystemPlace *place)
{
  if (g_str_equal (word, "@DEVICE"))
    return g_strdup (place->device);
  if (g_str_equal (word, "@MOUNT"))
    return g_strdup (place->mount);
  if (g_str_equal (word, "@BYTES"))
    return g_strdup_printf ("%" G_GUINT64_FORMAT, place->bytes);
  if (g_str_equal (word, "@SECTORS"))
    return g_strdup_printf ("%" G_GUINT64_FORMAT "s", place->bytes / 512);
  if (g_str_equal (word, "@BLOCKS"))
    return g_strdup_printf ("%" G_GUINT64_FORMAT, place->bytes / MAX (place->block, 1));
  return g_strdup (word);
}

char **
filesystem_args (const char *const *words, const FilesystemPlace *place)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  for (gsize i = 0; i < FILESYSTEM_WORDS && words[i] != NULL; i++)
    g_ptr_array_add (argv, word_for (words[i], place));
  if (argv->len == 0)
    return NULL;
  g_ptr_array_add (argv, NULL);
  return (char **)g_ptr_array_free (g_steal_pointer (&argv), FALSE);
}

char **
filesystem_mount_args (const Filesystem *filesystem, const FilesystemPlace *place)
{
  g_autofree char *options =
      g_strdup_printf ("loop,nosuid,nodev,noexec%s%s", filesystem->options ? "," : "",
                       filesystem->options ? filesystem->options : "");
  const char *argv[] = {"mount", "-t",          filesystem->type, "-o",
                        options, place->device, place->mount,     NULL};
  return g_strdupv ((char **)argv);
}

static guint64
number_after (const char *out, const char *key)
{
  const char *at = key ? strstr (out, key) : out;
  return at ? g_ascii_strtoull (at + (key ? strlen (key) : 0), NULL, 10) : 0;
}

static gboolean
multiply (guint64 count, guint64 unit, guint64 *ret_bytes)
{
  *ret_bytes = unit > 0 && count <= G_MAXINT64 / unit ? count * unit : 0;
  return *ret_bytes > 0;
}

gboolean
filesystem_read_end (const Filesystem *filesystem, const char *out, guint64 *ret_bytes,
                     guint64 *ret_block)
{
  const char *unit = filesystem->end_keys[1];
  *ret_block = unit ? number_after (out, unit) : 4096;
  return multiply (number_after (out, filesystem->end_keys[0]), unit ? *ret_block : 1, ret_bytes);
}

gboolean
filesystem_read_minimum (const Filesystem *filesystem, const char *out, guint64 block,
                         guint64 *ret_bytes)
{
  return multiply (number_after (out, filesystem->minimum_key),
                   filesystem->minimum_in_blocks ? block : 1, ret_bytes);
}
