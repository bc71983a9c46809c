/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/file-id.h"

#include "src/common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A file of a lower layer of overlayfs is born again when it is first written to. */
static gboolean
is_born_once (int fd)
{
  struct statfs fs;
  return fstatfs (fd, &fs) == 0 && fs.f_type != OVERLAYFS_SUPER_MAGIC;
}

static gboolean
identify (int fd, FileId *ret_id)
{
  struct statx stx;
  if (statx (fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &stx) != 0)
    return FALSE;
  *ret_id = (FileId){.dev = makedev (stx.stx_dev_major, stx.stx_dev_minor), .ino = stx.stx_ino};
  if ((stx.stx_mask & STATX_BTIME) && is_born_once (fd))
    ret_id->born =
        (guint64)stx.stx_btime.tv_sec * G_GUINT64_CONSTANT (1000000000) + stx.stx_btime.tv_nsec;
  return TRUE;
}

static FileId
directory_of (const char *path)
{
  FileId id = {0};
  g_autofree char *dir = g_path_get_dirname (path);
  int fd = open (dir, O_PATH | O_CLOEXEC);
  if (fd >= 0) {
    identify (fd, &id);
    close (fd);
  }
  return id;
}

gboolean
file_identify_fd (int fd, const char *path, FileId *ret_id)
{
  if (!identify (fd, ret_id))
    return FALSE;
  ret_id->home = directory_of (path).born;
  return TRUE;
}

gboolean
file_identify (const char *path, FileId *ret_id, gboolean *ret_exists, GError **error)
{
  int fd = open (path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  gboolean known = fd >= 0 && file_identify_fd (fd, path, ret_id);
  int errnum = errno;
  if (fd >= 0)
    close (fd);
  *ret_exists = known;
  return known || errnum == ENOENT || errnum == ENOTDIR ||
         fail_errno (error, errnum, "look at '%s'", path);
}

gboolean
file_id_equal (FileId a, FileId b)
{
  if (a.born != 0 && b.born != 0)
    return a.ino == b.ino && a.born == b.born;
  return a.ino == b.ino && (a.dev == b.dev || a.dev == 0 || b.dev == 0);
}

gboolean
file_is_away (const char *path, FileId id)
{
  struct stat st;
  struct statfs fs;
  FileId dir = directory_of (path);
  g_autofree char *name = g_path_get_dirname (path);
  if (id.dev == 0 || lstat (path, &st) == 0 || dir.ino == 0 || dir.dev == id.dev)
    return FALSE;
  return (id.home == 0 || dir.born != id.home) && statfs (name, &fs) == 0 &&
         fs.f_type != OVERLAYFS_SUPER_MAGIC;
}

Json *
file_id_to_json (FileId id)
{
  return json_make ("dev", json_int ((gint64)id.dev), "ino", json_int ((gint64)id.ino), "born",
                    json_int ((gint64)id.born), "home", json_int ((gint64)id.home), NULL);
}

FileId
file_id_from_json (Json *json)
{
  return (FileId){.dev = (guint64)json_get_int (json, "dev"),
                  .ino = (guint64)json_get_int (json, "ino"),
                  .born = (guint64)json_get_int (json, "born"),
                  .home = (guint64)json_get_int (json, "home")};
}
