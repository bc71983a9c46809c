/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where storage commands may work: the directories and volume groups that the configuration allows, held
 * against the path as the kernel resolves it, not as it is written. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

typedef struct _Allow {
  char **dirs; /* absolute; NULL: all */
  char **vgs;  /* NULL: all */
} Allow;

/* A place that was found to be allowed. */
typedef struct {
  char *path;     /* absolute, no symlink in it */
  char *vg, *lv;  /* of a logical volume; else NULL */
  gboolean exists;
  struct stat st; /* where it exists */
} Place;

void place_clear (Place *place);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Place, place_clear)

/* What @path names now; NOT_FOUND where nothing is there, PERMISSION where it is not allowed, REFUSED where
 * it is neither a file nor a block device nor a directory. */
gboolean place_find (const Allow *allow, const char *path, Place *ret_place, GError **error);
/* The same for what may be made: only the directory must exist; ret_place->exists tells. */
gboolean place_find_new (const Allow *allow, const char *path, Place *ret_place, GError **error);
/* Opens what place_find() found, and makes sure that it is still that. -1 with an error. */
int place_open (const Allow *allow, const Place *place, int flags, GError **error);

gboolean allow_has_vg (const Allow *allow, const char *vg);
