/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/volume.h"

#include "jobs/header.h"
#include "src/common/error.h"
#include "src/common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Files of a directory that are looked at for what is built on a volume. */
#define MAX_SIBLINGS 20000u

static const char *const type_names[] = {"file", "block", "lv", "thin-lv"};

void
volume_free (Volume *volume)
{
  if (volume == NULL)
    return;
  place_clear (&volume->place);
  g_free (volume->format);
  g_free (volume->broken);
  g_clear_pointer (&volume->chain, g_ptr_array_unref);
  contents_clear (&volume->contents);
  users_free (volume->users);
  g_clear_pointer (&volume->backs, g_ptr_array_unref);
  json_object_put (volume->lv);
  json_object_put (volume->vms);
  g_free (volume);
}

/* ---- looking --------------------------------------------------------------------------------- */

static gboolean
chain_is_allowed (const Allow *allow, GPtrArray *chain, GError **error)
{
  for (guint i = 1; i < chain->len; i++) {
    g_auto (Place) place = {0};
    if (!place_find (allow, ((ChainLayer *)chain->pdata[i])->file, &place, error))
      return prefix (error, "its chain");
  }
  return TRUE;
}

/* A chain that cannot be read is a property of the volume, not an error of looking at it. */
static void
read_chain (Volume *volume, const Allow *allow, const char *format)
{
  g_autoptr (GError) error = NULL;
  volume->chain = chain_read_offline (volume->place.path, format, &error);
  if (volume->chain != NULL && !chain_is_allowed (allow, volume->chain, &error))
    g_clear_pointer (&volume->chain, g_ptr_array_unref);
  if (error == NULL)
    return;
  const char *cause = rechain_error_get_cause (error);
  volume->broken =
      g_strdup_printf ("%s%s%s", error->message, cause ? ": " : "", cause ? cause : "");
}

static gboolean
starts_with_luks (const guint8 *start, gsize length)
{
  return length >= 6 && memcmp (start, "LUKS\xba\xbe", 6) == 0;
}

static gboolean
look_inside (Volume *volume, int fd, const Allow *allow, const char *format, GError **error)
{
  guint8 start[16];
  g_auto (ImageHeader) header = {0};
  gssize n = pread (fd, start, sizeof start, 0);
  off_t end = lseek (fd, 0, SEEK_END);
  if (n < 0 || end < 0)
    return fail_errno (error, errno, "read '%s'", volume->place.path);
  volume->size = (guint64)end;
  if (format == NULL && volume->type == VOLUME_FILE)
    volume->codec = codec_of_file (volume->place.path, start, (gsize)n);
  if (volume->codec != NULL)
    return TRUE;
  gboolean qcow2 =
      format ? g_str_equal (format, "qcow2") : n >= 4 && memcmp (start, "QFI\xfb", 4) == 0;
  if (qcow2 && !image_header_read_fd (fd, volume->place.path, &header, error))
    return FALSE;
  volume->format = g_strdup (format                               ? format
                             : qcow2                              ? "qcow2"
                             : starts_with_luks (start, (gsize)n) ? "luks"
                                                                  : "raw");
  volume->has_virtual_size = qcow2 || g_str_equal (volume->format, "raw");
  volume->virtual_size = qcow2 ? header.virtual_size : volume->size;
  if (qcow2)
    read_chain (volume, allow, "qcow2");
  return TRUE;
}

Volume *
volume_look (const Allow *allow, const char *path, const char *format, gboolean deep,
             GError **error)
{
  g_autoptr (Volume) volume = g_new0 (Volume, 1);
  if (!place_find (allow, path, &volume->place, error))
    return NULL;
  if (S_ISDIR (volume->place.st.st_mode)) {
    fail (error, REFUSED, "'%s' is a directory, not a volume", volume->place.path);
    return NULL;
  }
  volume->type = volume->place.lv                     ? VOLUME_LV
                 : S_ISBLK (volume->place.st.st_mode) ? VOLUME_BLOCK
                                                      : VOLUME_FILE;
  volume->has_allocated = volume->type == VOLUME_FILE;
  volume->allocated = (guint64)volume->place.st.st_blocks * 512;
  int fd = place_open (allow, &volume->place, O_RDONLY, error);
  if (fd < 0)
    return NULL;
  gboolean ok = look_inside (volume, fd, allow, format, error);
  if (ok && deep && volume->format != NULL && !g_str_equal (volume->format, "qcow2"))
    contents_probe (fd, &volume->contents);
  close (fd);
  return ok ? g_steal_pointer (&volume) : NULL;
}

/* ---- users ----------------------------------------------------------------------------------- */

/* Does the image at @path name @volume as its backing file? */
static gboolean
is_built_on (const char *path, Volume *volume)
{
  struct stat st;
  g_auto (ImageHeader) header = {0};
  if (lstat (path, &st) != 0 || !S_ISREG (st.st_mode) || !image_header_read (path, &header, NULL) ||
      header.backing == NULL)
    return FALSE;
  g_autofree char *dir = g_path_get_dirname (path);
  g_autofree char *backing = chain_file_in (dir, header.backing);
  return stat (backing, &st) == 0 && st.st_dev == volume->place.st.st_dev &&
         st.st_ino == volume->place.st.st_ino;
}

void
volume_find_users (Volume *volume, OpenFiles *files)
{
  g_autofree char *dir = g_path_get_dirname (volume->place.path);
  g_autoptr (GDir) names = volume->type == VOLUME_FILE ? g_dir_open (dir, 0, NULL) : NULL;
  const char *name;
  guint n = 0;
  volume->users = users_find (files, volume->place.path, &volume->place.st);
  volume->backs = g_ptr_array_new_with_free_func (g_free);
  while (names != NULL && (name = g_dir_read_name (names)) != NULL && n++ < MAX_SIBLINGS) {
    g_autofree char *path = g_build_filename (dir, name, NULL);
    if (is_built_on (path, volume))
      g_ptr_array_add (volume->backs, g_steal_pointer (&path));
  }
}

/* ---- the document ---------------------------------------------------------------------------- */

static Json *
number (guint64 value)
{
  return json_int ((gint64)MIN (value, G_MAXINT64));
}

static Json *
chain_to_json (GPtrArray *chain)
{
  Json *array = json_array ();
  for (guint i = 0; chain != NULL && i < chain->len; i++) {
    ChainLayer *layer = chain->pdata[i];
    json_append (array, json_make ("file", json_str (layer->file), "format",
                                   json_str (layer->format), "backing", json_str (layer->backing),
                                   "backing-format", json_str (layer->backing_format), NULL));
  }
  return array;
}

static Json *
mode_of (const struct stat *st)
{
  g_autofree char *mode = g_strdup_printf ("%04o", st->st_mode & 07777);
  return json_str (mode);
}

Json *
volume_to_json (Volume *volume)
{
  ChainLayer *own = volume->chain ? volume->chain->pdata[0] : NULL;
  const struct stat *st = &volume->place.st;
  Json *document = json_make (
      "path", json_str (volume->place.path), "type", json_str (type_names[volume->type]), "format",
      json_str (volume->format), "codec", volume->codec ? json_str (volume->codec->name) : NULL,
      "size", number (volume->size), "virtual-size",
      volume->has_virtual_size ? number (volume->virtual_size) : NULL, "allocated",
      volume->has_allocated ? number (volume->allocated) : NULL, "backing",
      own ? json_str (own->backing) : NULL, "backing-format",
      own ? json_str (own->backing_format) : NULL, "encrypted",
      own && own->encrypted ? json_flag (TRUE) : NULL, "broken", json_str (volume->broken), "mode",
      mode_of (st), "owner", json_int (st->st_uid), "group", json_int (st->st_gid), NULL);
  if (volume->chain != NULL)
    json_set (document, "chain", chain_to_json (volume->chain));
  contents_to_json (&volume->contents, document);
  if (volume->users != NULL)
    users_to_json (volume->users, document);
  for (guint i = 0; volume->backs != NULL && i < volume->backs->len; i++) {
    if (i == 0)
      json_set (document, "backs", json_array ());
    json_append (json_get (document, "backs"), json_str (volume->backs->pdata[i]));
  }
  if (volume->vms != NULL && json_length (volume->vms) > 0)
    json_set (document, "vms", json_dup (volume->vms));
  if (volume->lv != NULL)
    json_set (document, "lv", json_dup (volume->lv));
  return document;
}
