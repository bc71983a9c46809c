/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* storage info: pools with their space, and what the programs of this host can do. */
#include "jobs/filesystem.h"
#include "jobs/image.h"
#include "src/common/error.h"
#include "jobs/lvm.h"
#include "src/storage/report-private.h"

#include <libmount/libmount.h>
#include <string.h>
#include <sys/statvfs.h>

static void
add_directory (Json *pools, const char *path, const char *type)
{
  struct statvfs vfs;
  if (statvfs (path, &vfs) != 0 || vfs.f_blocks == 0)
    return;
  gboolean reflink = g_strcmp0 (type, "xfs") == 0 || g_strcmp0 (type, "btrfs") == 0;
  json_append (pools, json_make ("type", json_str ("directory"), "path", json_str (path),
                                 "filesystem", json_str (type), "total",
                                 json_int ((gint64)(vfs.f_blocks * vfs.f_frsize)), "free",
                                 json_int ((gint64)(vfs.f_bavail * vfs.f_frsize)), "may-reflink",
                                 json_flag (reflink), NULL));
}

/* The filesystem that @path lies in. */
static const char *
fs_type_of (struct libmnt_table *table, const char *path)
{
  struct libmnt_fs *fs = table ? mnt_table_find_mountpoint (table, path, MNT_ITER_BACKWARD) : NULL;
  return fs ? mnt_fs_get_fstype (fs) : NULL;
}

static void
add_mounts (struct libmnt_table *table, Json *pools)
{
  struct libmnt_fs *fs;
  struct libmnt_iter *iter = mnt_new_iter (MNT_ITER_FORWARD);
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  while (iter != NULL && mnt_table_next_fs (table, iter, &fs) == 0) {
    const char *target = mnt_fs_get_target (fs), *source = mnt_fs_get_source (fs);
    gboolean whole = g_strcmp0 (mnt_fs_get_root (fs), "/") == 0 && !mnt_fs_is_pseudofs (fs);
    if (whole && target != NULL && g_hash_table_add (seen, g_strdup (source ? source : target)))
      add_directory (pools, target, mnt_fs_get_fstype (fs));
  }
  mnt_free_iter (iter);
}

static void
add_directories (Report *report, Json *pools)
{
  char **dirs = report->allow ? report->allow->dirs : NULL;
  struct libmnt_table *table = mnt_new_table_from_file ("/proc/self/mountinfo");
  for (; dirs != NULL && *dirs != NULL; dirs++)
    add_directory (pools, *dirs, fs_type_of (table, *dirs));
  if (table != NULL && (report->allow == NULL || report->allow->dirs == NULL))
    add_mounts (table, pools);
  mnt_unref_table (table);
}

static void
on_vgs (Json *rows, const GError *error, gpointer data)
{
  Report *report = data;
  report_keep_error (report, error);
  for (gsize i = 0; i < json_length (rows); i++) {
    Json *row = json_at (rows, i);
    const char *vg = lvm_word (row, "vg_name");
    if (vg != NULL && allow_has_vg (report->allow, vg))
      json_append (json_get (report->document, "pools"),
                   json_make ("type", json_str ("vg"), "name", json_str (vg), "total",
                              lvm_number (row, "vg_size"), "free", lvm_number (row, "vg_free"),
                              "extent", lvm_number (row, "vg_extent_size"), NULL));
  }
  report_one_ended (report);
}

static void
on_thin_pools (Json *rows, const GError *error, gpointer data)
{
  Report *report = data;
  report_keep_error (report, error);
  for (gsize i = 0; i < json_length (rows); i++) {
    Json *row = json_at (rows, i);
    const char *vg = lvm_word (row, "vg_name");
    if (g_strcmp0 (lvm_word (row, "segtype"), "thin-pool") == 0 && vg != NULL &&
        allow_has_vg (report->allow, vg))
      json_append (json_get (report->document, "pools"),
                   json_make ("type", json_str ("thin-pool"), "name",
                              json_str (lvm_word (row, "lv_name")), "vg", json_str (vg), "total",
                              lvm_number (row, "lv_size"), "data-percent",
                              lvm_percent (row, "data_percent"), "metadata-percent",
                              lvm_percent (row, "metadata_percent"), NULL));
  }
  report_one_ended (report);
}

/* "Supported formats: blkdebug ... qcow2 ... raw" */
static void
on_formats (const char *out, const GError *error, gpointer data)
{
  static const char *const images[] = {"raw", "qcow2", "qcow", "qed",       "vmdk", "vdi",
                                       "vpc", "vhdx",  "luks", "parallels", NULL};
  Report *report = data;
  const char *line = out ? strstr (out, "Supported formats:") : NULL;
  Json *formats = json_array ();
  report_keep_error (report, error);
  if (line != NULL) {
    g_auto (GStrv) words = g_strsplit_set (line, " \n", -1);
    for (const char *const *format = images; *format != NULL; format++)
      if (g_strv_contains ((const char *const *)words, *format))
        json_append (formats, json_str (*format));
  }
  json_set (report->document, "formats", formats);
  report_one_ended (report);
}

static gboolean
has_program (const char *program)
{
  g_autofree char *path = g_find_program_in_path (program);
  return path != NULL;
}

static Json *
usable_filesystems (void)
{
  Json *array = json_array ();
  for (const Filesystem *one = filesystems; one->type != NULL; one++) {
    gboolean here = has_program (one->resize[0]);
    json_append (array, json_make ("type", json_str (one->type), "grows", json_flag (here),
                                   "shrinks", json_flag (here && one->shrinks), "program",
                                   json_str (one->resize[0]), NULL));
  }
  return array;
}

static Json *
usable_codecs (void)
{
  Json *array = json_array ();
  for (const Codec *codec = codecs; codec->name != NULL; codec++)
    json_append (array,
                 json_make ("codec", json_str (codec->name), "suffix", json_str (codec->suffix),
                            "usable", json_flag (codec_is_usable (codec)), NULL));
  return array;
}

void
report_storage (const Allow *allow, ReportReady callback, gpointer data)
{
  static const char *const help[] = {"qemu-img", "--help", NULL};
  g_autoptr (GError) no_lvm = NULL;
  Report *report = report_begin (allow, "rechain.storage/1", callback, data);
  json_set (report->document, "pools", json_array ());
  add_directories (report, json_get (report->document, "pools"));
  json_set (report->document, "filesystems", usable_filesystems ());
  json_set (report->document, "codecs", usable_codecs ());
  gboolean lvm = lvm_is_usable (&no_lvm);
  json_set (report->document, "lvm",
            json_make ("usable", json_flag (lvm), "reason",
                       no_lvm ? json_str (no_lvm->message) : NULL, NULL));
  if (lvm) {
    report->pending += 2;
    lvm_vgs (NULL, on_vgs, report);
    lvm_lvs (NULL, NULL, on_thin_pools, report);
  }
  report->pending++;
  image_run (help, IMAGE_QUESTION, on_formats, report);
  report_one_ended (report);
}
