/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder for a test or a group of tests: make_dir() and remove_dir() are setup and teardown. */
#pragma once

#include <glib.h>

static char *dir;

static inline gboolean
remove_tree (const char *path)
{
  const char *argv[] = {"rm", "-rf", "--", path, NULL};
  int status;
  return g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                       &status, NULL) &&
         status == 0;
}

static inline int
make_dir (void **state)
{
  dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  return dir ? 0 : -1;
}

static inline int
remove_dir (void **state)
{
  gboolean gone = remove_tree (dir);
  g_clear_pointer (&dir, g_free);
  return gone ? 0 : -1;
}
