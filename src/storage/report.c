/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each report begins with what can be read at once; programs that have to be asked (lvm, qemu-img)
 * count `pending` up, and the last answer tells the caller. */
#include "src/storage/report-private.h"

#include "jobs/lvm.h"
#include "src/common/error.h"
#include "src/common/fs.h"
#include "src/common/source.h"
#include "src/storage/peek.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

static gboolean
tell (gpointer data)
{
  Report *report = data;
  if (report->error != NULL)
    g_clear_pointer (&report->document, json_object_put);
  report->callback (report->document, report->error, report->data);
  g_clear_error (&report->error);
  volume_free (report->volume);
  g_free (report);
  return G_SOURCE_REMOVE;
}

Report *
report_begin (const Allow *allow, const char *schema, ReportReady callback, gpointer data)
{
  Report *report = g_new0 (Report, 1);
  *report = (Report){.allow = allow,
                     .document = json_make ("schema", json_str (schema), NULL),
                     .pending = 1,
                     .callback = callback,
                     .data = data};
  return report;
}

/* Every question ends with it, and so does the function that asked them. */
void
report_one_ended (Report *report)
{
  if (--report->pending > 0)
    return;
  source_soon (tell, report, NULL);
}

void
report_keep_error (Report *report, const GError *error)
{
  if (report->error == NULL && error != NULL)
    report->error = g_error_copy (error);
}

/* ---- one volume ------------------------------------------------------------------------------ */

Json *
layers_of_volume (Json *layers, Volume *volume)
{
  Json *found = json_array ();
  for (gsize i = 0; i < json_length (layers); i++) {
    Json *layer = json_at (layers, i);
    const char *file = json_get_str (layer, "file");
    if (file != NULL && path_same_file (file, volume->place.path))
      json_append (found, json_make ("vm", json_dup (json_get (layer, "vm")), "disk",
                                     json_dup (json_get (layer, "disk")), "depth",
                                     json_dup (json_get (layer, "depth")), NULL));
  }
  return found;
}

static void
finish_volume (Report *report)
{
  if (report->pending == 1 && report->error == NULL && report->volume != NULL) {
    Json *all = volume_to_json (report->volume);
    json_object_object_foreach (all, key, value) json_set (report->document, key, json_dup (value));
    json_object_put (all);
  }
  report_one_ended (report);
}

static void
on_peeked (Peek *peek, const GError *error, gpointer data)
{
  peek_free (peek);
  finish_volume (data);
}

/* What cannot be looked into is not told of. */
static void
peek_inside (Report *report)
{
  if (peek_new (report->volume, on_peeked, report, NULL) != NULL)
    report->pending++;
}

static Json *
lv_to_json (Json *row)
{
  return json_make ("segments", json_str (lvm_word (row, "segtype")), "pool",
                    json_str (lvm_word (row, "pool_lv")), "snapshot-of",
                    json_str (lvm_word (row, "origin")), "data-percent",
                    lvm_percent (row, "data_percent"), NULL);
}

static void
on_lv (Json *rows, const GError *error, gpointer data)
{
  Report *report = data;
  report_keep_error (report, error);
  if (json_length (rows) > 0) {
    report->volume->lv = lv_to_json (json_at (rows, 0));
    if (json_has (report->volume->lv, "pool"))
      report->volume->type = VOLUME_THIN_LV;
  }
  finish_volume (report);
}

void
report_volume (const Allow *allow, const char *path, const char *format, Json *layers,
               ReportReady callback, gpointer data)
{
  Report *report = report_begin (allow, "rechain.volume/1", callback, data);
  report->volume = volume_look (allow, path, format, TRUE, &report->error);
  if (report->volume != NULL) {
    g_autoptr (OpenFiles) files = open_files_scan ();
    volume_find_users (report->volume, files);
    report->volume->vms = layers_of_volume (layers, report->volume);
    peek_inside (report);
  }
  if (report->volume != NULL && report->volume->place.lv != NULL) {
    report->pending++;
    lvm_lvs (report->volume->place.vg, report->volume->place.lv, on_lv, report);
  }
  finish_volume (report);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void
add_file (Report *report, OpenFiles *files, const char *path)
{
  g_autoptr (GError) error = NULL;
  Json *volumes = json_get (report->document, "volumes");
  g_autoptr (Volume) volume = volume_look (report->allow, path, NULL, FALSE, &error);
  g_autofree char *cause = NULL;
  if (volume != NULL) {
    volume->users = users_find (files, volume->place.path, &volume->place.st);
    json_append (volumes, volume_to_json (volume));
    return;
  }
  if (error->code != (int)NOT_FOUND) /* else it went away meanwhile */
    json_append (volumes, json_make ("path", json_str (path), "type", json_str ("file"), "broken",
                                     json_str (error->message), NULL));
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

static gboolean
list_directory (Report *report, const char *path, GError **error)
{
  GStatBuf st;
  const char *name;
  g_auto (Place) place = {0};
  g_autoptr (GError) cause = NULL;
  g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
  if (!place_find (report->allow, path, &place, error))
    return FALSE;
  if (!S_ISDIR (place.st.st_mode))
    return fail (error, USAGE, "'%s' is no directory", path) ||
           hint (error, "rechain vol info tells of one volume");
  g_autoptr (GDir) dir = g_dir_open (place.path, 0, &cause);
  if (dir == NULL) {
    fail (error, errno == EACCES ? PERMISSION : FAILED, "read directory '%s'", place.path);
    return because (error, "%s", cause->message);
  }
  while ((name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *file = g_build_filename (place.path, name, NULL);
    if (g_lstat (file, &st) == 0 && S_ISREG (st.st_mode))
      g_ptr_array_add (paths, g_steal_pointer (&file));
  }
  g_ptr_array_sort (paths, by_name);
  g_autoptr (OpenFiles) files = open_files_scan ();
  for (guint i = 0; i < paths->len; i++)
    add_file (report, files, paths->pdata[i]);
  return TRUE;
}

static void
add_lv (Report *report, OpenFiles *files, Json *row)
{
  const char *path = lvm_word (row, "lv_path"), *vg = lvm_word (row, "vg_name");
  if (path == NULL || vg == NULL ||
      !allow_has_vg (report->allow, vg)) /* no path: a pool, not a volume */
    return;
  g_autoptr (Volume) volume = volume_look (report->allow, path, NULL, FALSE, NULL);
  Json *volumes = json_get (report->document, "volumes");
  if (volume == NULL) { /* not active: there is no device */
    json_append (volumes,
                 json_make ("path", json_str (path), "type",
                            json_str (lvm_word (row, "pool_lv") ? "thin-lv" : "lv"), "size",
                            lvm_number (row, "lv_size"), "lv", lv_to_json (row), NULL));
    return;
  }
  volume->users = users_find (files, volume->place.path, &volume->place.st);
  volume->lv = lv_to_json (row);
  volume->type = json_has (volume->lv, "pool") ? VOLUME_THIN_LV : VOLUME_LV;
  json_append (volumes, volume_to_json (volume));
}

static void
on_lvs (Json *rows, const GError *error, gpointer data)
{
  Report *report = data;
  g_autoptr (OpenFiles) files = open_files_scan ();
  report_keep_error (report, error);
  for (gsize i = 0; i < json_length (rows); i++)
    add_lv (report, files, json_at (rows, i));
  report_one_ended (report);
}

static gboolean
list_vg (Report *report, const char *vg, GError **error)
{
  if (vg != NULL && !lvm_name_is_valid (vg))
    return fail (error, USAGE, "'%s' is neither a directory nor a name for a volume group", vg);
  if (vg != NULL && !allow_has_vg (report->allow, vg)) {
    fail (error, PERMISSION, "volume group '%s' is not one that rechain may work on", vg);
    return hint (error, "[storage] allow-vg in the configuration names those");
  }
  if (!lvm_is_usable (error))
    return vg ? prefix (error, "there is no directory '%s', and it cannot be a volume group", vg)
              : FALSE;
  report->pending++;
  lvm_lvs (vg, NULL, on_lvs, report);
  return TRUE;
}

/* All that is allowed; where nothing is said to be, there is no directory to begin with. */
static gboolean
list_all (Report *report, GError **error)
{
  char **dirs = report->allow ? report->allow->dirs : NULL;
  gboolean any = lvm_is_usable (NULL) && list_vg (report, NULL, NULL);
  for (; dirs != NULL && *dirs != NULL; dirs++) {
    any = TRUE;
    if (!list_directory (report, *dirs, error))
      return FALSE;
  }
  if (any)
    return TRUE;
  fail (error, USAGE, "no directory and no volume group is named, here or in the configuration");
  return hint (error, "rechain vol list DIR; or [storage] allow=DIR in the configuration");
}

void
report_list (const Allow *allow, const char *where, ReportReady callback, gpointer data)
{
  Report *report = report_begin (allow, "rechain.volume-list/1", callback, data);
  json_set (report->document, "volumes", json_array ());
  if (where == NULL)
    list_all (report, &report->error);
  else if (strchr (where, '/') != NULL || g_file_test (where, G_FILE_TEST_IS_DIR))
    list_directory (report, where, &report->error);
  else
    list_vg (report, where, &report->error);
  report_one_ended (report);
}
