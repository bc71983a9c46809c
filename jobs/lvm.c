/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/lvm.h"

#include "jobs/image.h"
#include "src/common/error.h"

#include <string.h>

#define LV_KEYS                                                                                    \
  "vg_name,lv_name,lv_path,lv_size,lv_attr,segtype,pool_lv,origin,data_percent,metadata_percent,"  \
  "lv_uuid,lv_tags,lv_suspended,lv_device_open,zero"
#define VG_KEYS "vg_name,vg_size,vg_free,vg_extent_size,lv_count"

typedef struct {
  const char *kind; /* of the report: "lv", "vg" */
  LvmReady callback;
  gpointer data;
} Report;

gboolean
lvm_is_usable (GError **error)
{
  g_autofree char *program = g_find_program_in_path ("lvm");
  g_autofree char *drivers = NULL;
  if (program == NULL) {
    fail (error, FAILED, "volume groups cannot be used: there is no program 'lvm'");
    return hint (error, "it is in Debian's package lvm2");
  }
  if (g_file_get_contents ("/proc/misc", &drivers, NULL, NULL) &&
      strstr (drivers, "device-mapper") != NULL)
    return TRUE;
  fail (error, FAILED,
        "volume groups cannot be used: the kernel of this host has no device-mapper");
  return hint (error, "modprobe dm-mod loads it, where the kernel has it as a module");
}

gboolean
lvm_name_is_valid (const char *name)
{
  return name[0] != '\0' && name[0] != '-' && !g_str_equal (name, ".") &&
         !g_str_equal (name, "..") && strlen (name) < 128 &&
         strspn (name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "+_.-") == strlen (name);
}

/* {"report":[{"lv":[{...},...]}]} */
static void
on_report (const char *out, const GError *error, gpointer data)
{
  g_autofree Report *report = data;
  g_autoptr (GError) bad = error ? g_error_copy (error) : NULL;
  g_autoptr (Json) reply = out ? json_parse (out, -1) : NULL;
  Json *rows = json_get (json_at (json_get (reply, "report"), 0), report->kind);
  if (bad == NULL && !json_object_is_type (rows, json_type_array))
    fail (&bad, FAILED, "lvm: the answer is no report");
  report->callback (bad ? NULL : rows, bad, report->data);
}

static void
ask (const char *program, const char *keys, const char *what, Report report)
{
  const char *argv[] = {
      "lvm", program, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", keys,
      what,  NULL};
  image_run (argv, IMAGE_QUESTION, on_report, g_memdup2 (&report, sizeof report));
}

void
lvm_lvs (const char *vg, const char *lv, LvmReady callback, gpointer data)
{
  g_autofree char *what = lv ? g_strdup_printf ("%s/%s", vg, lv) : g_strdup (vg);
  ask ("lvs", LV_KEYS, what, (Report){"lv", callback, data});
}

void
lvm_vgs (const char *vg, LvmReady callback, gpointer data)
{
  ask ("vgs", VG_KEYS, vg, (Report){"vg", callback, data});
}

/* ---- values of a row ------------------------------------------------------------------------- */

Json *
lvm_row (Json *rows, const char *lv)
{
  for (gsize i = 0; lv != NULL && i < json_length (rows); i++)
    if (g_strcmp0 (json_get_str (json_at (rows, i), "lv_name"), lv) == 0)
      return json_at (rows, i);
  return NULL;
}

const char *
lvm_word (Json *row, const char *key)
{
  const char *text = json_get_str (row, key);
  return text && *text ? text : NULL;
}

guint64
lvm_bytes (Json *row, const char *key)
{
  const char *text = lvm_word (row, key);
  return text ? g_ascii_strtoull (text, NULL, 10) : 0;
}

Json *
lvm_number (Json *row, const char *key)
{
  const char *text = json_get_str (row, key);
  return text && *text ? json_int ((gint64)g_ascii_strtoull (text, NULL, 10)) : NULL;
}

Json *
lvm_percent (Json *row, const char *key)
{
  const char *text = json_get_str (row, key);
  return text && *text ? json_real (g_ascii_strtod (text, NULL), 2) : NULL;
}
