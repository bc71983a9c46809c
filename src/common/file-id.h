/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a file is, beyond its name: a file that is not the one we made is never removed. */
#pragma once

#include "src/common/json.h"

/* Devices may have other numbers after a boot, or once their filesystem is mounted again; an inode's number may be
 * given to the next file. When an inode was made neither changes nor repeats. */
typedef struct {
  guint64 dev;  /* 0: not known any more */
  guint64 ino;
  guint64 born; /* when the inode was made, ns; 0: the filesystem does not tell */
  guint64 home; /* the same of the directory it was in */
} FileId;

/* ENOENT is not an error: returns TRUE and *ret_exists FALSE. A symlink is not followed. */
gboolean file_identify (const char *path, FileId *ret_id, gboolean *ret_exists, GError **error);
/* Of an open file whose name was or is @path. FALSE: errno says why. */
gboolean file_identify_fd (int fd, const char *path, FileId *ret_id);
gboolean file_id_equal (FileId a, FileId b);
/* Is nothing there because another filesystem is, or none, where that of @id was mounted? */
gboolean file_is_away (const char *path, FileId id);

Json *file_id_to_json (FileId id);
FileId file_id_from_json (Json *json);
