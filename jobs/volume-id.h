/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a volume is, beyond its name: a file by device and inode, a device by its number and, where it
 * is a logical volume, its UUID, which LVM gives once and for all. As JSON, for the details of
 * an operation. */
#pragma once

#include "src/common/json.h"

/* Full; NULL where there is nothing. Symlinks are followed: /dev/VG/LV is one. */
Json *volume_id_of (const char *path);
/* Is it still what @id says? */
gboolean volume_id_is (const char *path, Json *id);
/* It is, and nobody has it open, mounted or locked as far as one look can tell; REFUSED where not. */
gboolean volume_is_free (const char *path, Json *id, GError **error);
