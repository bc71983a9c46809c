/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/features-cache.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CACHE_FILE (64u << 10)

/* What the answer belongs to; it stands in the file, and its digest is the name of the file. */
static Json *
identify (QmpClient *client, const char *digest)
{
  g_autofree char *link = g_strdup_printf ("/proc/%ld/exe", (long)qmp_client_get_peer_pid (client));
  g_autofree char *exe = g_file_read_link (link, NULL);
  struct stat st;
  if (qmp_client_get_peer_pid (client) <= 0 || exe == NULL || stat (link, &st) < 0)
    return NULL;
  return json_make ("questions", json_str (digest), "qemu",
                    json_str (qmp_client_get_version_string (client)), "exe", json_str (exe), "dev",
                    json_int ((gint64)st.st_dev), "inode", json_int ((gint64)st.st_ino), "size",
                    json_int (st.st_size), "mtime", json_int (st.st_mtim.tv_sec), "mtime-ns",
                    json_int (st.st_mtim.tv_nsec), NULL);
}

static char *
file_name (const char *dir, const char *identity)
{
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, identity, -1);
  g_autofree char *file = g_strdup_printf ("features-%s.json", sum);
  return g_build_filename (dir, file, NULL);
}

/* A file that only we, or root, can have written. */
static gboolean
is_ours (int fd)
{
  struct stat st;
  return fstat (fd, &st) == 0 && S_ISREG (st.st_mode) && (st.st_mode & 022) == 0 &&
         (st.st_uid == geteuid () || st.st_uid == 0) && st.st_size <= MAX_CACHE_FILE;
}

static Json *
read_document (const char *path)
{
  int fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return NULL;
  g_autofree char *text = g_malloc (MAX_CACHE_FILE);
  ssize_t n = is_ours (fd) ? read (fd, text, MAX_CACHE_FILE) : -1;
  close (fd);
  return n > 0 ? json_parse (text, n) : NULL;
}

Json *
features_cache_load (const char *dir, QmpClient *client, const char *digest)
{
  g_autoptr (Json) identity = dir ? identify (client, digest) : NULL;
  if (identity == NULL)
    return NULL;
  g_autofree char *line = json_line (identity);
  g_autofree char *path = file_name (dir, line);
  g_autoptr (Json) document = read_document (path);
  Json *belongs_to = json_get (document, "belongs-to");
  if (belongs_to == NULL || !json_object_equal (belongs_to, identity))
    return NULL;
  return json_dup (json_get (document, "features"));
}

static gboolean
write_all (int fd, const char *text)
{
  gsize left = strlen (text);
  return write (fd, text, left) == (ssize_t)left;
}

void
features_cache_save (const char *dir, QmpClient *client, const char *digest, Json *features)
{
  g_autoptr (Json) identity = dir ? identify (client, digest) : NULL;
  if (identity == NULL || g_mkdir_with_parents (dir, 0700) < 0)
    return;
  g_autofree char *line = json_line (identity);
  g_autofree char *path = file_name (dir, line);
  g_autofree char *temp = g_strdup_printf ("%s.XXXXXX", path);
  g_autoptr (Json) document =
      json_make ("belongs-to", json_dup (identity), "features", json_dup (features), NULL);
  g_autofree char *text = json_line (document);
  int fd = g_mkstemp_full (temp, O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0)
    return;
  gboolean good = write_all (fd, text);
  good = close (fd) == 0 && good && g_rename (temp, path) == 0;
  if (!good)
    g_unlink (temp);
}
