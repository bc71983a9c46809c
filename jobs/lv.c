/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/lv.h"

#include "jobs/image.h"
#include "jobs/lvm.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* ---- names ----------------------------------------------------------------------------------- */

gboolean
dm_name_split (const char *name, char **ret_vg, char **ret_lv)
{
  g_autoptr (GString) vg = g_string_new (NULL);
  g_autoptr (GString) lv = g_string_new (NULL);
  GString *part = vg;
  for (const char *c = name; *c != '\0'; c++) {
    if (c[0] == '-' && c[1] == '-')
      g_string_append_c (part, *c++);
    else if (c[0] != '-')
      g_string_append_c (part, *c);
    else if (part == vg)
      part = lv;
    else
      return FALSE; /* a layer of LVM's own, such as "vg-lv-real" */
  }
  if (vg->len == 0 || lv->len == 0)
    return FALSE;
  *ret_vg = g_string_free (g_steal_pointer (&vg), FALSE);
  *ret_lv = g_string_free (g_steal_pointer (&lv), FALSE);
  return TRUE;
}

static char *
dm_attribute (dev_t device, const char *attribute)
{
  g_autofree char *path =
      g_strdup_printf ("/sys/dev/block/%u:%u/dm/%s", major (device), minor (device), attribute);
  char *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) ? g_strstrip (text) : NULL;
}

static char *
uuid_of_device (dev_t device)
{
  g_autofree char *uuid = dm_attribute (device, "uuid");
  return uuid && g_str_has_prefix (uuid, "LVM-") ? g_steal_pointer (&uuid) : NULL;
}

gboolean
lv_of_device (dev_t device, char **ret_vg, char **ret_lv)
{
  g_autofree char *uuid = uuid_of_device (device);
  g_autofree char *name = dm_attribute (device, "name");
  return uuid != NULL && name != NULL && dm_name_split (name, ret_vg, ret_lv);
}

gboolean
lv_of_file (const char *path, char **ret_vg, char **ret_lv)
{
  struct stat st;
  return stat (path, &st) == 0 && S_ISBLK (st.st_mode) && lv_of_device (st.st_rdev, ret_vg, ret_lv);
}

gboolean
lv_path_split (const char *path, char **ret_vg, char **ret_lv, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", 5);
  gboolean ok = g_strv_length (parts) == 4 && parts[0][0] == '\0' &&
                g_str_equal (parts[1], "dev") && lvm_name_is_valid (parts[2]) &&
                lvm_name_is_valid (parts[3]) && !g_str_equal (parts[2], "mapper");
  if (!ok)
    return fail (error, USAGE, "'%.200s' is not /dev/VG/LV", path);
  *ret_vg = g_strdup (parts[2]);
  *ret_lv = g_strdup (parts[3]);
  return TRUE;
}

gboolean
lv_dir_has_files (const char *dir)
{
  struct stat st, dev;
  return stat (dir, &st) == 0 && S_ISDIR (st.st_mode) && stat ("/dev", &dev) == 0 &&
         st.st_dev != dev.st_dev;
}

gboolean
lv_is_path (const char *path)
{
  g_autofree char *vg = NULL, *lv = NULL, *dir = g_path_get_dirname (path);
  return lv_path_split (path, &vg, &lv, NULL) && !lv_dir_has_files (dir);
}

char *
lv_uuid (const char *path)
{
  struct stat st;
  return stat (path, &st) == 0 && S_ISBLK (st.st_mode) ? uuid_of_device (st.st_rdev) : NULL;
}

char *
lv_tag (const Op *op)
{
  return lv_tag_of (op->id);
}

char *
lv_tag_of (const char *id)
{
  return g_strdup_printf ("rechain-%s", id);
}

gboolean
lv_has_tag (Json *row, const char *tag)
{
  const char *tags = lvm_word (row, "lv_tags");
  g_auto (GStrv) all = g_strsplit (tags ? tags : "", ",", -1);
  return g_strv_contains ((const char *const *)all, tag);
}

/* ---- programs -------------------------------------------------------------------------------- */

/* Names without a hyphen in front were checked when it was planned (lvm_name_is_valid). */
char **
lv_snapshot_args (const char *vg, const char *origin, const char *lv, guint64 size, const char *tag)
{
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();
  g_strv_builder_add_many (words, "lvm", "lvcreate", "-y", "-s", "-p", "r", "--addtag", tag, "-n",
                           lv, NULL);
  if (size > 0) {
    g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT "b", size);
    g_strv_builder_add_many (words, "-L", bytes, NULL);
  } else
    g_strv_builder_add_many (words, "-k", "n", "-a", "y", NULL); /* else it is not active */
  g_autofree char *of = g_strdup_printf ("%s/%s", vg, origin);
  g_strv_builder_add (words, of);
  return g_strv_builder_end (words);
}

Ask *
ask_lvm (GPtrArray *asks, char **take_argv)
{
  Ask *ask = ask_run (asks, take_argv);
  ask->lives_on = TRUE;
  return ask;
}

/* ---- removing: look, remove, look again, resume ---------------------------------------------- */

#define TRIES 2

typedef struct {
  Work work;
  WorkHost host;
  OpDisk *disk;
  Json *what; /* its "vg", "lv", "origin", "uuid": of the details */
  char *tag, *busy;
  guint tries;
  gboolean refreshed;
  GError *refusal; /* of lvremove */
  gboolean cancelled;
} Removal;

static void
look (Removal *removal);

static void
removal_ended (Removal *removal, const GError *error)
{
  WorkHost host = removal->host;
  g_autoptr (GError) owned = error ? g_error_copy (error) : NULL;
  g_clear_error (&removal->refusal);
  g_free (removal->tag);
  g_free (removal->busy);
  g_free (removal);
  host.done (owned, host.data);
}

/* A volume group that is being changed is left to the end of that command. */
static void
cancel (Work *work)
{
  ((Removal *)work)->cancelled = TRUE;
}

static void
found_lv (OpDisk *disk, gboolean there)
{
  if (disk->found == NULL)
    disk->found = json_object_new_object ();
  json_set (disk->found, "lv", json_flag (there));
}

/* lvs writes a uuid with hyphens, device-mapper without. */
static gboolean
same_uuid (const char *known, const char *shown)
{
  g_auto (GStrv) parts = g_strsplit (shown, "-", -1);
  g_autofree char *bare = g_strjoinv ("", parts);
  return known != NULL && bare[0] != '\0' && g_str_has_suffix (known, bare);
}

static gboolean
is_ours (Removal *removal, Json *row)
{
  const char *uuid = lvm_word (row, "lv_uuid");
  return lv_has_tag (row, removal->tag) ||
         (uuid && same_uuid (json_get_str (removal->what, "uuid"), uuid));
}

static void
on_changed (const char *out, const GError *error, gpointer data)
{
  Removal *removal = data;
  g_clear_error (&removal->refusal);
  removal->refusal = error ? g_error_copy (error) : NULL;
  look (removal);
}

static void
change (Removal *removal, const char *verb, const char *how, const char *lv)
{
  g_autofree char *name = g_strdup_printf ("%s/%s", json_get_str (removal->what, "vg"), lv);
  const char *argv[] = {"lvm", verb, how, "-y", name, NULL};
  image_run_more (argv, IMAGE_LIVES_ON, &(ImageMore){.busy = removal->busy}, on_changed, removal);
}

static void
on_lvs (Json *rows, const GError *error, gpointer data)
{
  Removal *removal = data;
  Json *details = removal->what;
  g_autoptr (GError) bad = error ? g_error_copy (error) : NULL;
  Json *lv = lvm_row (rows, json_get_str (details, "lv"));
  Json *origin = lvm_row (rows, json_get_str (details, "origin"));
  gboolean ours = lv != NULL && is_ours (removal, lv);
  if (bad == NULL && removal->cancelled)
    fail (&bad, INTERRUPTED, "it was interrupted");
  else if (bad == NULL && ours && removal->tries++ < TRIES) {
    change (removal, "lvremove", "-f", json_get_str (details, "lv"));
    return;
  } else if (bad == NULL && ours) {
    bad = g_steal_pointer (&removal->refusal);
    if (bad == NULL)
      fail (&bad, FAILED, "'%s' is still there", json_get_str (details, "lv"));
  } else if (bad == NULL && origin && lvm_word (origin, "lv_suspended") && !removal->refreshed) {
    removal->refreshed = TRUE;
    change (removal, "lvchange", "--refresh", json_get_str (details, "origin"));
    return;
  }
  if (bad == NULL && details == removal->disk->details)
    found_lv (removal->disk, FALSE);
  removal_ended (removal, bad);
}

static void
look (Removal *removal)
{
  lvm_lvs (json_get_str (removal->what, "vg"), NULL, on_lvs, removal);
}

static void
on_idle (const char *out, const GError *error, gpointer data)
{
  Removal *removal = data;
  if (error != NULL)
    removal_ended (removal, error);
  else
    look (removal);
}

/* First of all, whatever outlived its owner must have ended. */
static Work *
start_removal_of (Op *op, OpDisk *disk, Json *what, const WorkHost *host)
{
  Removal *removal = g_new0 (Removal, 1);
  *removal = (Removal){.work.cancel = cancel,
                       .host = *host,
                       .disk = disk,
                       .what = what,
                       .tag = lv_tag (op),
                       .busy = g_strdup (host->busy)};
  image_wait_idle (removal->busy, on_idle, removal);
  return &removal->work;
}

static Work *
start_removal (Op *op, OpDisk *disk, const WorkHost *host)
{
  return start_removal_of (op, disk, disk->details, host);
}

static Work *
start_removal_of_instant (Op *op, OpDisk *disk, const WorkHost *host)
{
  return start_removal_of (op, disk, json_get (disk->details, "instant"), host);
}

static void
ask_removal (Json *what, WorkStart start, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("lvm lvremove -f -y %s/%s, if it is ours",
                                           json_get_str (what, "vg"), json_get_str (what, "lv"));
  ask_work (asks, says, start);
}

void
lv_remove_ours (Op *op, OpDisk *disk, GPtrArray *asks)
{
  ask_removal (disk->details, start_removal, asks);
}

void
lv_remove_instant (Op *op, OpDisk *disk, GPtrArray *asks)
{
  ask_removal (json_get (disk->details, "instant"), start_removal_of_instant, asks);
}

static gboolean
note_made (Op *op, OpDisk *disk, GError **error)
{
  found_lv (disk, TRUE);
  return TRUE;
}

void
lv_note_made (GPtrArray *asks)
{
  ask_local (asks, "note that it is there", note_made);
}

Seen
lv_is_there (const OpDisk *disk)
{
  return json_get_bool (disk->found, "lv") ? SEEN_YES : SEEN_NO;
}
