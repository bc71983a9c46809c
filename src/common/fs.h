/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files as a journal needs them: created without clobbering, made durable. */
#pragma once

#include "src/common/file-id.h"

#include <sys/types.h>

/* Creates an empty file that did not exist, with the owner, group and mode of @like (nullable), and
 * says what it is. */
gboolean file_create_new (const char *path, const char *like, FileId *ret_id, GError **error);
/* Sets the length of @path; what is new reads as zeros and takes no space. */
gboolean file_resize (const char *path, guint64 size, GError **error);
/* Bytes of a file or a block device. */
gboolean file_length (const char *path, guint64 *ret_length, GError **error);
/* Full, nullable: a text that differs once the contents may have been changed. */
char *file_stamp (const char *path);
/* Renames without ever replacing: REFUSED where @to exists. The caller syncs the directory. */
gboolean file_rename_new (const char *from, const char *to, GError **error);
/* Removes @path if it is @id; absent is fine, unless it is away; something else is REFUSED. Syncs the
 * directory. */
gboolean file_remove (const char *path, FileId id, GError **error);
gboolean file_sync (const char *path, GError **error);
#define DIRECT_ALIGNMENT 4096 /* bytes: the largest that a device asks for */
/* Can it be read and written past the page cache (O_DIRECT)? */
gboolean file_takes_direct (const char *path);
/* The same of a file that is to be made in the directory of @path; FALSE where that cannot be told. */
gboolean file_will_take_direct (const char *path);
gboolean file_sync_dir_of (const char *path, GError **error);

/* Full, with a NUL behind it: what @path holds, "-" is stdin; of more than @most bytes so many and one
 * more, whose length tells. */
char *file_slurp (const char *path, gsize most, gsize *ret_length, GError **error);

/* Bytes that an unprivileged process may still write into the filesystem of the directory of
 * @path. */
gboolean file_free_space (const char *path, guint64 *ret_bytes, GError **error);
/* Does a process hold one of QEMU's image locks on @path (QEMU: block/file-posix, bytes 100 to 300)? */
gboolean file_is_locked (const char *path);
/* Does one of them write to it? Not so for a backing file, however many use it. */
gboolean file_has_writer (const char *path);
/* Is @path a file that process @pid has open? */
gboolean process_has_open (pid_t pid, const char *path);
/* Full. Absolute, with "." and ".." removed, symlinks untouched. */
char *path_absolute (const char *path);
/* Full. @target as seen from the directory of @from (both absolute), with symlinks in the directory
 * parts resolved; protected against being read as a protocol ("./a:b"). */
char *path_relative (const char *from, const char *target);
/* The directory of @path is reached without a symlink, as when it was resolved: PERMISSION where somebody put one
 * in between meanwhile. */
gboolean path_is_still_plain (const char *path, GError **error);
/* Two names of one file? Falls back to comparing names where a file is missing. */
gboolean path_same_file (const char *a, const char *b);
/* Full: @path with the symlinks in it resolved, where that lies in one of @directories (themselves
 * resolved); the file itself need not exist. PERMISSION where it lies elsewhere. */
char *path_resolve_within (const char *path, const char *const *directories, GError **error);
