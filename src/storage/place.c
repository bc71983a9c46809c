/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A path is resolved once, symlinks included; what comes out is opened beneath the allowed
 * directory with no symlink followed any more (openat2), so that nobody can lead us elsewhere in
 * between. */
#include "src/storage/place.h"

#include "jobs/lv.h"
#include "src/common/error.h"
#include "src/common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void
place_clear (Place *place)
{
  g_free (place->path);
  g_free (place->vg);
  g_free (place->lv);
  *place = (Place){0};
}

/* ---- logical volumes ------------------------------------------------------------------------- */

static void
find_lv (Place *place)
{
  if (!lv_of_device (place->st.st_rdev, &place->vg, &place->lv))
    return;
  g_free (place->path);
  place->path = g_strdup_printf ("/dev/%s/%s", place->vg, place->lv);
}

/* ---- what is allowed ------------------------------------------------------------------------- */

static gboolean
is_within (const char *path, const char *dir)
{
  gsize n = strlen (dir);
  while (n > 1 && dir[n - 1] == '/')
    n--;
  if (n == 1 && dir[0] == '/')
    return path[0] == '/';
  return strncmp (path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Full, nullable: the allowed directory that @path (resolved) lies in, resolved too. */
static char *
allowed_root (const Allow *allow, const char *path)
{
  if (allow == NULL || allow->dirs == NULL)
    return g_strdup ("/");
  for (char **dir = allow->dirs; *dir != NULL; dir++) {
    char *real = realpath (*dir, NULL);
    g_autofree char *copy = g_strdup (real);
    free (real);
    if (copy != NULL && is_within (path, copy))
      return g_steal_pointer (&copy);
  }
  return NULL;
}

static gboolean
has_dir (const Allow *allow, const char *path)
{
  g_autofree char *root = allowed_root (allow, path);
  return root != NULL;
}

gboolean
allow_has_vg (const Allow *allow, const char *vg)
{
  return allow == NULL || allow->vgs == NULL ||
         g_strv_contains ((const char *const *)allow->vgs, vg);
}

static gboolean
check_allowed (const Allow *allow, const Place *place, GError **error)
{
  if (place->vg != NULL && !allow_has_vg (allow, place->vg)) {
    fail (error, PERMISSION, "volume group '%s' is not one that rechain may work on", place->vg);
    return hint (error, "[storage] allow-vg in the configuration names those");
  }
  if (place->vg != NULL || has_dir (allow, place->path))
    return TRUE;
  fail (error, PERMISSION, "'%s' is outside of the directories that rechain may work in",
        place->path);
  return hint (error, "[storage] allow in the configuration names those");
}

/* ---- finding --------------------------------------------------------------------------------- */

static char *
resolve (const char *path)
{
  char *real = realpath (path, NULL);
  int errnum = errno;
  char *copy = g_strdup (real);
  free (real);
  errno = errnum;
  return copy;
}

static gboolean
check_kind (const Place *place, GError **error)
{
  mode_t mode = place->st.st_mode;
  if (S_ISREG (mode) || S_ISBLK (mode) || S_ISDIR (mode))
    return TRUE;
  return fail (error, REFUSED, "'%s' is neither a file nor a block device", place->path);
}

gboolean
place_find (const Allow *allow, const char *path, Place *ret_place, GError **error)
{
  g_auto (Place) place = {.path = resolve (path)};
  *ret_place = (Place){0};
  if (place.path == NULL && (errno == ENOENT || errno == ENOTDIR))
    return fail (error, NOT_FOUND, "there is no '%s'", path);
  if (place.path == NULL || lstat (place.path, &place.st) != 0)
    return fail_errno (error, errno, "look at '%s'", path);
  place.exists = TRUE;
  if (S_ISBLK (place.st.st_mode))
    find_lv (&place);
  if (!check_allowed (allow, &place, error) || !check_kind (&place, error))
    return FALSE;
  *ret_place = place;
  place = (Place){0};
  return TRUE;
}

static gboolean
find_new_lv (const Allow *allow, const char *path, Place *ret_place, GError **error)
{
  g_auto (Place) place = {.path = g_strdup (path)};
  if (!lv_path_split (path, &place.vg, &place.lv, error) || !check_allowed (allow, &place, error))
    return FALSE;
  *ret_place = place;
  place = (Place){0};
  return TRUE;
}

gboolean
place_find_new (const Allow *allow, const char *path, Place *ret_place, GError **error)
{
  struct stat st;
  g_autofree char *name = g_path_get_basename (path);
  g_autofree char *dir = g_path_get_dirname (path);
  *ret_place = (Place){0};
  if (lstat (path, &st) == 0) /* also a symlink: what it leads to is what is there */
    return place_find (allow, path, ret_place, error);
  if (lv_is_path (path))
    return find_new_lv (allow, path, ret_place, error);
  if (g_str_has_suffix (path, "/") || g_str_equal (name, ".") || g_str_equal (name, ".."))
    return fail (error, USAGE, "'%s' is no name for a volume", path);
  g_autofree char *real = resolve (dir);
  if (real == NULL && (errno == ENOENT || errno == ENOTDIR))
    return fail (error, NOT_FOUND, "directory '%s' does not exist", dir);
  if (real == NULL)
    return fail_errno (error, errno, "look at '%s'", dir);
  g_auto (Place) place = {.path = g_build_filename (real, name, NULL)};
  if (is_within (real, "/dev") && !lv_dir_has_files (real))
    return fail (error, USAGE, "'%s' is no name for a file, and not /dev/VG/LV", path);
  if (!check_allowed (allow, &place, error))
    return FALSE;
  *ret_place = place;
  place = (Place){0};
  return TRUE;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int
open_beneath (const char *root, const char *path, guint64 flags)
{
  struct open_how how = {.flags = flags | O_CLOEXEC,
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
  const char *rest = path + (g_str_equal (root, "/") ? 0 : strlen (root));
  while (*rest == '/')
    rest++;
  int dir = open (root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return -1;
  int fd = (int)syscall (SYS_openat2, dir, *rest ? rest : ".", &how, sizeof how);
  int errnum = errno;
  close (dir);
  errno = errnum;
  return fd;
}

static gboolean
is_same (const struct stat *a, const struct stat *b)
{
  if (S_ISBLK (a->st_mode))
    return S_ISBLK (b->st_mode) && a->st_rdev == b->st_rdev;
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int
place_open (const Allow *allow, const Place *place, int flags, GError **error)
{
  struct stat st;
  /* /dev/VG/LV is a symlink of udev's: a device is told by its number. */
  g_autofree char *root = place->vg ? NULL : allowed_root (allow, place->path);
  int fd = root ? open_beneath (root, place->path, (guint64)flags | O_NONBLOCK | O_NOCTTY)
                : open (place->path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && (errno == ELOOP || errno == EXDEV))
    fail (error, PERMISSION, "'%s' leads elsewhere now", place->path);
  else if (fd < 0)
    fail_errno (error, errno, "open '%s'", place->path);
  else if (fstat (fd, &st) != 0 || !is_same (&st, &place->st)) {
    fail (error, REFUSED, "'%s' is another file now", place->path);
    close (fd);
    fd = -1;
  }
  return fd;
}
