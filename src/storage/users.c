/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/users.h"

#include "src/common/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct _OpenFiles {
  GHashTable *by_file; /* char* -> GPtrArray of OpenBy* */
};

static void
open_by_free (gpointer data)
{
  OpenBy *by = data;
  g_free (by->name);
  g_free (by);
}

static char *
key_of (const struct stat *st)
{
  gboolean device = S_ISBLK (st->st_mode);
  return g_strdup_printf ("%c:%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, device ? 'b' : 'f',
                          (guint64)(device ? st->st_rdev : st->st_dev),
                          (guint64)(device ? 0 : st->st_ino));
}

/* ---- /proc ----------------------------------------------------------------------------------- */

static char *
name_of_process (int pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/comm", pid);
  char *name = NULL;
  return g_file_get_contents (path, &name, NULL, NULL) ? g_strchomp (name) : g_strdup ("?");
}

static gboolean
fd_writes (int pid, const char *fd)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/fdinfo/%s", pid, fd);
  g_autofree char *text = NULL;
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return TRUE; /* in doubt */
  const char *flags = strstr (text, "flags:");
  return flags == NULL || (strtoul (flags + strlen ("flags:"), NULL, 8) & O_ACCMODE) != O_RDONLY;
}

static void
add_open (OpenFiles *files, int pid, const char *fd, const struct stat *st)
{
  g_autofree char *key = key_of (st);
  GPtrArray *list = g_hash_table_lookup (files->by_file, key);
  if (list == NULL) {
    list = g_ptr_array_new_with_free_func (open_by_free);
    g_hash_table_insert (files->by_file, g_steal_pointer (&key), list);
  }
  OpenBy *last = list->len ? list->pdata[list->len - 1] : NULL;
  if (last == NULL || last->pid != pid) {
    last = g_new0 (OpenBy, 1);
    *last = (OpenBy){.pid = pid, .name = name_of_process (pid)};
    g_ptr_array_add (list, last);
  }
  last->writes |= fd_writes (pid, fd);
}

static void
scan_process (OpenFiles *files, int pid)
{
  struct stat st;
  g_autofree char *path = g_strdup_printf ("/proc/%d/fd", pid);
  DIR *dir = opendir (path);
  for (struct dirent *entry; dir != NULL && (entry = readdir (dir)) != NULL;)
    if (g_ascii_isdigit (entry->d_name[0]) && fstatat (dirfd (dir), entry->d_name, &st, 0) == 0 &&
        (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode)))
      add_open (files, pid, entry->d_name, &st);
  if (dir != NULL)
    closedir (dir);
}

OpenFiles *
open_files_scan (void)
{
  OpenFiles *files = g_new0 (OpenFiles, 1);
  files->by_file =
      g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
  DIR *proc = opendir ("/proc");
  for (struct dirent *entry; proc != NULL && (entry = readdir (proc)) != NULL;) {
    int pid = atoi (entry->d_name);
    if (pid > 0 && pid != getpid ())
      scan_process (files, pid);
  }
  if (proc != NULL)
    closedir (proc);
  return files;
}

void
open_files_free (OpenFiles *files)
{
  g_hash_table_unref (files->by_file);
  g_free (files);
}

/* ---- devices made of it ---------------------------------------------------------------------- */

static char *
read_sys (const char *device, const char *attribute)
{
  g_autofree char *path = g_strdup_printf ("/sys/class/block/%s/%s", device, attribute);
  char *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) ? g_strchomp (text) : NULL;
}

static dev_t
device_number (const char *device)
{
  unsigned major_number = 0, minor_number = 0;
  g_autofree char *text = read_sys (device, "dev");
  if (text == NULL || sscanf (text, "%u:%u", &major_number, &minor_number) != 2)
    return 0;
  return makedev (major_number, minor_number);
}

static gboolean
is_loop_of (const char *device, const struct stat *st)
{
  struct loop_info64 info;
  struct stat back;
  g_autofree char *path = g_strdup_printf ("/dev/%s", device);
  g_autofree char *file = read_sys (device, "loop/backing_file");
  if (file == NULL)
    return FALSE;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  gboolean known = fd >= 0 && ioctl (fd, LOOP_GET_STATUS64, &info) == 0;
  if (fd >= 0)
    close (fd);
  if (!known)
    return stat (file, &back) == 0 && back.st_dev == st->st_dev && back.st_ino == st->st_ino;
  return S_ISBLK (st->st_mode) ? info.lo_rdevice == st->st_rdev
                               : info.lo_device == st->st_dev && info.lo_inode == st->st_ino;
}

static void
add_device (GPtrArray *names, const char *name);

static void
add_children (GPtrArray *names, const char *name)
{
  g_autofree char *holders = g_strdup_printf ("/sys/class/block/%s/holders", name);
  g_autofree char *itself = g_strdup_printf ("/sys/class/block/%s", name);
  const char *const dirs[] = {holders, itself};
  for (gsize i = 0; i < G_N_ELEMENTS (dirs); i++) {
    g_autoptr (GDir) dir = g_dir_open (dirs[i], 0, NULL);
    for (const char *child; dir != NULL && (child = g_dir_read_name (dir)) != NULL;)
      if (dirs[i] == holders || g_str_has_prefix (child, name)) /* a partition */
        add_device (names, child);
  }
}

static void
add_device (GPtrArray *names, const char *name)
{
  if (g_ptr_array_find_with_equal_func (names, name, g_str_equal, NULL))
    return;
  g_ptr_array_add (names, g_strdup (name));
  add_children (names, name);
}

/* Kernel names, such as "loop0" and "dm-3"; full. */
static GPtrArray *
devices_of (const struct stat *st)
{
  GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GDir) all = g_dir_open ("/sys/class/block", 0, NULL);
  for (const char *name; all != NULL && (name = g_dir_read_name (all)) != NULL;)
    if (g_str_has_prefix (name, "loop") && is_loop_of (name, st))
      add_device (names, name);
  if (S_ISBLK (st->st_mode)) {
    g_autofree char *link =
        g_strdup_printf ("/sys/dev/block/%u:%u", major (st->st_rdev), minor (st->st_rdev));
    char *real = realpath (link, NULL);
    g_autofree char *own = real ? g_path_get_basename (real) : NULL;
    free (real);
    if (own != NULL)
      add_children (names, own);
  }
  return names;
}

/* ---- mounts and swap ------------------------------------------------------------------------- */

static gboolean
is_one_of (dev_t device, const struct stat *st, GPtrArray *names)
{
  if (S_ISBLK (st->st_mode) && device == st->st_rdev)
    return TRUE;
  for (guint i = 0; i < names->len; i++)
    if (device != 0 && device == device_number (names->pdata[i]))
      return TRUE;
  return FALSE;
}

/* btrfs has device numbers of its own, so the source is looked at too. */
static gboolean
fs_is_on (struct libmnt_fs *fs, const struct stat *st, GPtrArray *names)
{
  struct stat source;
  const char *path = mnt_fs_get_srcpath (fs);
  if (is_one_of (mnt_fs_get_devno (fs), st, names))
    return TRUE;
  return path != NULL && stat (path, &source) == 0 && S_ISBLK (source.st_mode) &&
         is_one_of (source.st_rdev, st, names);
}

static GPtrArray *
mounts_of (const struct stat *st, GPtrArray *names)
{
  GPtrArray *mounts = g_ptr_array_new_with_free_func (g_free);
  struct libmnt_table *table = mnt_new_table_from_file ("/proc/self/mountinfo");
  struct libmnt_iter *iter = mnt_new_iter (MNT_ITER_FORWARD);
  struct libmnt_fs *fs;
  while (table != NULL && iter != NULL && mnt_table_next_fs (table, iter, &fs) == 0)
    if (fs_is_on (fs, st, names) && mnt_fs_get_target (fs) != NULL)
      g_ptr_array_add (mounts, g_strdup (mnt_fs_get_target (fs)));
  mnt_free_iter (iter);
  mnt_unref_table (table);
  return mounts;
}

static gboolean
is_swap (const struct stat *st, GPtrArray *names)
{
  struct stat other;
  gboolean found = FALSE;
  struct libmnt_fs *fs;
  struct libmnt_table *table = mnt_new_table ();
  struct libmnt_iter *iter = mnt_new_iter (MNT_ITER_FORWARD);
  if (table != NULL && iter != NULL && mnt_table_parse_swaps (table, NULL) == 0)
    while (!found && mnt_table_next_fs (table, iter, &fs) == 0) {
      const char *path = mnt_fs_get_source (fs);
      found = path != NULL && stat (path, &other) == 0 &&
              (S_ISBLK (other.st_mode) ? is_one_of (other.st_rdev, st, names)
                                       : other.st_dev == st->st_dev && other.st_ino == st->st_ino);
    }
  mnt_free_iter (iter);
  mnt_unref_table (table);
  return found;
}

/* ---- all of it ------------------------------------------------------------------------------- */

Users *
users_find (OpenFiles *files, const char *path, const struct stat *st)
{
  Users *users = g_new0 (Users, 1);
  g_autofree char *key = key_of (st);
  GPtrArray *open = g_hash_table_lookup (files->by_file, key);
  users->open = open ? g_ptr_array_ref (open) : g_ptr_array_new ();
  users->devices = devices_of (st);
  users->mounts = mounts_of (st, users->devices);
  users->locked = file_is_locked (path);
  users->swap = is_swap (st, users->devices);
  return users;
}

void
users_free (Users *users)
{
  if (users == NULL)
    return;
  g_ptr_array_unref (users->open);
  g_ptr_array_unref (users->devices);
  g_ptr_array_unref (users->mounts);
  g_free (users);
}

gboolean
users_none (const Users *users)
{
  return users->open->len + users->devices->len + users->mounts->len == 0 && !users->locked &&
         !users->swap;
}

char *
users_say (const Users *users)
{
  if (users->mounts->len > 0)
    return g_strdup_printf ("it is mounted at '%s'", (char *)users->mounts->pdata[0]);
  if (users->swap)
    return g_strdup ("it is swap space of this host");
  if (users->devices->len > 0)
    return g_strdup_printf ("the device '%s' is made of it", (char *)users->devices->pdata[0]);
  if (users->open->len > 0) {
    OpenBy *by = users->open->pdata[0];
    return g_strdup_printf ("process %d (%s) has it open", by->pid, by->name);
  }
  return users->locked ? g_strdup ("a process has its image lock") : NULL;
}

static Json *
strings (GPtrArray *list)
{
  Json *array = json_array ();
  for (guint i = 0; i < list->len; i++)
    json_append (array, json_str (list->pdata[i]));
  return array;
}

void
users_to_json (const Users *users, Json *document)
{
  Json *open = json_array ();
  for (guint i = 0; i < users->open->len; i++) {
    OpenBy *by = users->open->pdata[i];
    g_autofree char *name = g_utf8_make_valid (by->name, -1);
    json_append (open, json_make ("pid", json_int (by->pid), "name", json_str (name), "writes",
                                  json_flag (by->writes), NULL));
  }
  json_set (document, "open", open);
  json_set (document, "devices", strings (users->devices));
  json_set (document, "mounted", strings (users->mounts));
  json_set (document, "locked", json_flag (users->locked));
  if (users->swap)
    json_set (document, "swap", json_flag (TRUE));
}
