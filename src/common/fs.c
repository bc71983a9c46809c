/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/fs.h"
#include "src/common/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

gboolean
file_create_new (const char *path, const char *like, FileId *ret_id, GError **error)
{
  struct stat st;
  g_autofree char *parent = g_path_get_dirname (path);
  int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST)
    return fail (error, REFUSED, "'%s' exists", path);
  if (fd < 0 && errno == ENOENT)
    return fail (error, NOT_FOUND, "directory '%s' does not exist", parent);
  if (fd < 0)
    return fail_errno (error, errno, "create '%s'", path);
  gboolean ok = TRUE;
  /* QEMU may run as another user: what could open the old image must be able to open the new. */
  if (like != NULL && stat (like, &st) == 0 && S_ISREG (st.st_mode)) {
    if (geteuid () == 0 && fchown (fd, st.st_uid, st.st_gid) != 0)
      ok = fail_errno (error, errno, "give '%s' the owner of '%s'", path, like);
    if (ok && fchmod (fd, st.st_mode & 07777) != 0)
      ok = fail_errno (error, errno, "give '%s' the mode of '%s'", path, like);
  }
  if (ok && !file_identify_fd (fd, path, ret_id))
    ok = fail_errno (error, errno, "look at '%s'", path);
  close (fd);
  if (!ok)
    unlink (path);
  return ok;
}

gboolean
file_length (const char *path, guint64 *ret_length, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  off_t end = fd < 0 ? -1 : lseek (fd, 0, SEEK_END);
  int errnum = errno;
  if (fd >= 0)
    close (fd);
  *ret_length = (guint64)MAX (end, 0);
  return end >= 0 || fail_errno (error, errnum, "look at '%s'", path);
}

char *
file_stamp (const char *path)
{
  struct stat st;
  if (stat (path, &st) != 0)
    return NULL;
  return g_strdup_printf ("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT " %" G_GINT64_FORMAT
                          " %" G_GINT64_FORMAT ".%09ld",
                          (guint64)st.st_dev, (guint64)st.st_ino, (gint64)st.st_size,
                          (gint64)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

gboolean
file_resize (const char *path, guint64 size, GError **error)
{
  return truncate (path, (off_t)size) == 0 ||
         fail_errno (error, errno, "set the size of '%s' to %" G_GUINT64_FORMAT, path, size);
}

gboolean
file_rename_new (const char *from, const char *to, GError **error)
{
  int rc = renameat2 (AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
  /* NFS and others know no NOREPLACE; a hard link refuses to replace just as well. */
  if (rc != 0 && (errno == EINVAL || errno == ENOSYS)) {
    rc = link (from, to);
    if (rc == 0)
      unlink (from);
  }
  if (rc != 0 && errno == EEXIST)
    return fail (error, REFUSED, "'%s' exists", to);
  if (rc != 0)
    return fail_errno (error, errno, "rename '%s' to '%s'", from, to);
  return TRUE;
}

/* An overlay filesystem gives files other device numbers than their directories. */
gboolean
file_remove (const char *path, FileId id, GError **error)
{
  FileId now;
  gboolean exists;
  if (!file_identify (path, &now, &exists, error))
    return FALSE;
  if (!exists && file_is_away (path, id)) {
    fail (error, FAILED, "'%s' cannot be removed: its filesystem is not mounted", path);
    return hint (error, "mount it where it was");
  }
  if (!exists)
    return TRUE;
  if (!file_id_equal (now, id))
    return fail (error, REFUSED, "'%s' is not the file that rechain made; it is left alone", path);
  if (unlink (path) != 0 && errno != ENOENT)
    return fail_errno (error, errno, "remove '%s'", path);
  return file_sync_dir_of (path, error);
}

static gboolean
sync_path (const char *path, int flags, GError **error)
{
  int fd = open (path, flags | O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return fail_errno (error, errno, "open '%s' to sync it", path);
  int rc = fsync (fd);
  int errnum = errno;
  close (fd);
  return rc == 0 ? TRUE : fail_errno (error, errnum, "sync '%s'", path);
}

gboolean
file_sync (const char *path, GError **error)
{
  return sync_path (path, 0, error);
}

gboolean
file_sync_dir_of (const char *path, GError **error)
{
  g_autofree char *dir = g_path_get_dirname (path);
  return sync_path (dir, O_DIRECTORY, error);
}

gboolean
file_takes_direct (const char *path)
{
  int fd = open (path, O_RDONLY | O_DIRECT | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0)
    close (fd);
  return fd >= 0;
}

gboolean
file_will_take_direct (const char *path)
{
  g_autofree char *dir = g_path_get_dirname (path);
  int fd = open (dir, O_TMPFILE | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
  if (fd >= 0)
    close (fd);
  return fd >= 0;
}

gboolean
file_free_space (const char *path, guint64 *ret_bytes, GError **error)
{
  struct statvfs vfs;
  g_autofree char *dir = g_path_get_dirname (path);
  if (statvfs (dir, &vfs) != 0)
    return fail_errno (error, errno, "ask for the free space of '%s'", dir);
  *ret_bytes = (guint64)vfs.f_bavail * vfs.f_frsize;
  return TRUE;
}

/* Has anybody locked any of these bytes? */
static gboolean
has_lock (const char *path, off_t start, off_t length)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  if (fd < 0)
    return FALSE;
  gboolean locked = fcntl (fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  close (fd);
  return locked;
}

/* QEMU: block/file-posix.c. From RAW_LOCK_PERM_BASE on there is a byte for each permission that is
 * used, from RAW_LOCK_SHARED_BASE on (200) for each that is not shared. */
gboolean
file_is_locked (const char *path)
{
  return has_lock (path, 100, 200);
}

/* The byte of BLK_PERM_WRITE. */
gboolean
file_has_writer (const char *path)
{
  return has_lock (path, 101, 1);
}

gboolean
process_has_open (pid_t pid, const char *path)
{
  struct stat wanted, st;
  g_autofree char *dir = g_strdup_printf ("/proc/%d/fd", (int)pid);
  DIR *fds = stat (path, &wanted) == 0 ? opendir (dir) : NULL;
  gboolean found = FALSE;
  for (struct dirent *entry = fds ? readdir (fds) : NULL; entry && !found; entry = readdir (fds))
    found = fstatat (dirfd (fds), entry->d_name, &st, 0) == 0 && st.st_dev == wanted.st_dev &&
            st.st_ino == wanted.st_ino;
  if (fds != NULL)
    closedir (fds);
  return found;
}

char *
path_absolute (const char *path)
{
  return g_canonicalize_filename (path, NULL);
}

static char *
resolved_parent (const char *path)
{
  g_autofree char *dir = g_path_get_dirname (path);
  char *real = realpath (dir, NULL);
  char *copy = g_strdup (real ? real : dir);
  free (real);
  return copy;
}

char *
path_relative (const char *from, const char *target)
{
  g_autofree char *from_dir = resolved_parent (from);
  g_autofree char *target_dir = resolved_parent (target);
  g_autofree char *base = g_path_get_basename (target);
  g_auto (GStrv) a = g_strsplit (from_dir, "/", -1);
  g_auto (GStrv) b = g_strsplit (target_dir, "/", -1);
  guint common = 0;
  while (a[common] && b[common] && g_str_equal (a[common], b[common]))
    common++;
  GString *out = g_string_new (NULL);
  for (guint i = common; a[i] != NULL; i++)
    if (a[i][0] != '\0')
      g_string_append (out, "../");
  for (guint i = common; b[i] != NULL; i++)
    if (b[i][0] != '\0')
      g_string_append_printf (out, "%s/", b[i]);
  g_string_append (out, base);
  const char *colon = strchr (out->str, ':');
  const char *slash = strchr (out->str, '/');
  if (colon != NULL && (slash == NULL || colon < slash))
    g_string_prepend (out, "./");
  return g_string_free (out, FALSE);
}

static gboolean
same_inode (const char *a, const char *b)
{
  struct stat sa, sb;
  return stat (a, &sa) == 0 && stat (b, &sb) == 0 && sa.st_dev == sb.st_dev &&
         sa.st_ino == sb.st_ino;
}

/* For files that do not exist yet: the same name in the same directory. */
static gboolean
same_place (const char *a, const char *b)
{
  g_autofree char *name_a = g_path_get_basename (a);
  g_autofree char *name_b = g_path_get_basename (b);
  g_autofree char *dir_a = g_path_get_dirname (a);
  g_autofree char *dir_b = g_path_get_dirname (b);
  return g_str_equal (name_a, name_b) && same_inode (dir_a, dir_b);
}

gboolean
path_is_still_plain (const char *path, GError **error)
{
  struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
  g_autofree char *dir = g_path_get_dirname (path);
  int fd = (int)syscall (SYS_openat2, AT_FDCWD, dir, &how, sizeof how);
  if (fd < 0 && errno == ELOOP)
    return fail (error, PERMISSION, "'%s' leads elsewhere now", dir);
  if (fd < 0)
    return fail_errno (error, errno, "look at '%s'", dir);
  close (fd);
  return TRUE;
}

gboolean
path_same_file (const char *a, const char *b)
{
  if (a == NULL || b == NULL)
    return a == b;
  return g_str_equal (a, b) || same_inode (a, b) || same_place (a, b);
}

/* Full, nullable: where @path is, symlinks resolved; what does not exist yet lies in its
 * directory. */
static char *
resolve (const char *path)
{
  g_autofree char *real = realpath (path, NULL);
  if (real != NULL)
    return g_strdup (real);
  g_autofree char *dir = g_path_get_dirname (path);
  g_autofree char *name = g_path_get_basename (path);
  g_autofree char *real_dir = realpath (dir, NULL);
  return real_dir ? g_build_filename (real_dir, name, NULL) : NULL;
}

static gboolean
lies_in (const char *path, const char *directory)
{
  g_autofree char *dir = realpath (directory, NULL);
  gsize length = dir ? strlen (dir) : 0;
  if (dir == NULL || strncmp (path, dir, length) != 0)
    return FALSE;
  return g_str_equal (dir, "/") || path[length] == '/';
}

char *
path_resolve_within (const char *path, const char *const *directories, GError **error)
{
  g_autofree char *absolute = path_absolute (path);
  g_autofree char *real = resolve (absolute);
  if (real == NULL) {
    fail_errno (error, errno, "the directory of '%s'", absolute);
    return NULL;
  }
  for (guint i = 0; directories[i] != NULL; i++)
    if (lies_in (real, directories[i]))
      return g_steal_pointer (&real);
  g_autofree char *allowed = g_strjoinv (", ", (char **)directories);
  fail (error, PERMISSION, "'%s' lies outside the directories that the configuration allows", path);
  because (error, "it is '%s'", real);
  hint (error, "[storage] allow names: %s", *allowed ? allowed : "none");
  return NULL;
}

char *
file_slurp (const char *path, gsize most, gsize *ret_length, GError **error)
{
  gboolean standard = g_str_equal (path, "-");
  int fd = standard ? STDIN_FILENO : open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) {
    fail_errno (error, errno, "read the document '%s'", path);
    return NULL;
  }
  g_autofree char *text = g_malloc (most + 2);
  gsize length = 0;
  gssize n;
  do {
    n = read (fd, text + length, most + 1 - length);
    length += n > 0 ? (gsize)n : 0;
  } while ((n > 0 && length <= most) || (n < 0 && errno == EINTR));
  int errnum = errno;
  if (!standard)
    close (fd);
  text[length] = '\0';
  *ret_length = length;
  if (n >= 0)
    return g_steal_pointer (&text);
  fail_errno (error, errnum, "read the document '%s'", path);
  return NULL;
}
