/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Subvolumes of btrfs: found through libbtrfsutil, made and removed by the program btrfs, which may take its
 * time. A subvolume is known by its uuid: another one under the same name is never removed. */
#pragma once

#include <glib.h>

/* The root of the subvolume that @path lies in; full, NULL where that is not on btrfs. */
char *subvolume_of (const char *path);
/* Full; NULL where @path is not the root of a subvolume. */
char *subvolume_uuid (const char *path);
/* Is @path the root of a read-only snapshot of the subvolume @source? */
gboolean subvolume_is_snapshot (const char *path, const char *source);
/* A read-only snapshot of @source, which must not exist yet: btrfs would put it inside. */
char **subvolume_snapshot_args (const char *source, const char *target);
char **subvolume_delete_args (const char *path);
