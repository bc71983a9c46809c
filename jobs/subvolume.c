/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/subvolume.h"

#include <btrfsutil.h>
#include <string.h>

char *
subvolume_of (const char *path)
{
  g_autofree char *at = g_strdup (path);
  for (;;) {
    if (btrfs_util_is_subvolume (at) == BTRFS_UTIL_OK)
      return g_steal_pointer (&at);
    if (g_str_equal (at, "/") || g_str_equal (at, "."))
      return NULL;
    char *up = g_path_get_dirname (at);
    g_free (at);
    at = up;
  }
}

static gboolean
look (const char *path, struct btrfs_util_subvolume_info *ret_info)
{
  return btrfs_util_is_subvolume (path) == BTRFS_UTIL_OK &&
         btrfs_util_subvolume_info (path, 0, ret_info) == BTRFS_UTIL_OK;
}

gboolean
subvolume_is_snapshot (const char *path, const char *source)
{
  struct btrfs_util_subvolume_info info, of;
  bool read_only = false;
  return look (path, &info) && look (source, &of) &&
         memcmp (info.parent_uuid, of.uuid, sizeof of.uuid) == 0 &&
         btrfs_util_get_subvolume_read_only (path, &read_only) == BTRFS_UTIL_OK && read_only;
}

char *
subvolume_uuid (const char *path)
{
  struct btrfs_util_subvolume_info info;
  if (!look (path, &info))
    return NULL;
  GString *text = g_string_new (NULL);
  for (gsize i = 0; i < sizeof info.uuid; i++)
    g_string_append_printf (text, "%02x", info.uuid[i]);
  return g_string_free (text, FALSE);
}

char **
subvolume_snapshot_args (const char *source, const char *target)
{
  const char *const argv[] = {"btrfs", "subvolume", "snapshot", "-r", source, target, NULL};
  return g_strdupv ((char **)argv);
}

/* -c: it is gone for good when the program ends. */
char **
subvolume_delete_args (const char *path)
{
  const char *const argv[] = {"btrfs", "subvolume", "delete", "-c", path, NULL};
  return g_strdupv ((char **)argv);
}
