/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plan of snapshots that lie beside the chain: what there is to be taken, and where it will be.
 * All of it comes with the request; nothing of it is looked up in the VM's configuration. */
#include "jobs/plan-private.h"

#include "jobs/beside.h"
#include "jobs/lv.h"
#include "jobs/lvm.h"
#include "jobs/subvolume.h"
#include "src/common/fs.h"
#include "src/common/size.h"

#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#define MAX_LV_NAME 126u /* with its group and the hyphen, of device-mapper */

gboolean
plan_is_beside (const RequestDisk *wanted)
{
  return wanted->method != NULL && !g_str_equal (wanted->method, "qemu");
}

static const char *
active_file (OpDisk *disk)
{
  return op_disk_layer (disk, 0)->file;
}

/* What a method has no use for is refused: somebody meant something by it. */
static gboolean
check_options (const RequestDisk *wanted, GError **error)
{
  gboolean lvm = g_str_equal (wanted->method, "lvm");
  const struct {
    const char *name, *value;
  } table[] = {{"to", lvm ? wanted->to : NULL},
               {"format", wanted->format},
               {"on-delete", wanted->on_delete},
               {"size", lvm ? NULL : wanted->size},
               {"subvolume", lvm ? wanted->subvolume : NULL}};
  for (gsize i = 0; i < G_N_ELEMENTS (table); i++)
    if (table[i].value != NULL) {
      fail (error, USAGE, "disk '%s': method '%s' takes no '%s'", wanted->disk, wanted->method,
            table[i].name);
      return hint (error, lvm ? "it takes: device=/dev/VG/LV, size=SIZE"
                              : "it takes: device=FILE or subvolume=DIRECTORY");
    }
  return (wanted->subvolume == NULL || wanted->device == NULL) ||
         fail (error, USAGE, "disk '%s': either a file or a subvolume is made, not both",
               wanted->disk);
}

/* ---- logical volumes ------------------------------------------------------------------------- */

/* "LV-SNAPSHOT", as far as LVM takes it; full. */
static char *
default_lv (Op *op, const char *vg, const char *lv)
{
  g_autofree char *name = g_strdup_printf ("%s-%s", lv, op->name);
  gsize room = MAX_LV_NAME - MIN (strlen (vg), MAX_LV_NAME - 1) - 1;
  if (strlen (name) > room)
    name[room] = '\0';
  return g_strdup (g_strcanon (name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "+_.-", '_'));
}

static gboolean
choose_lv (Op *op, OpDisk *disk, const RequestDisk *wanted, const char *origin_vg,
           const char *origin, GError **error)
{
  g_autofree char *vg = NULL, *lv = NULL;
  guint64 size = 0;
  if (wanted->device == NULL) {
    vg = g_strdup (origin_vg);
    lv = default_lv (op, origin_vg, origin);
  } else if (!lv_path_split (wanted->device, &vg, &lv, error))
    return prefix (error, "disk '%s'", disk->name);
  if (!g_str_equal (vg, origin_vg)) {
    fail (error, REFUSED, "disk '%s' lies in volume group '%s', and its snapshot cannot be in '%s'",
          disk->name, origin_vg, vg);
    return hint (error, "name it /dev/%s/%s", origin_vg, lv);
  }
  if (wanted->size != NULL && !parse_size (wanted->size, &size, error))
    return prefix (error, "disk '%s'", disk->name);
  disk->to = g_strdup_printf ("/dev/%s/%s", vg, lv);
  disk->details = json_make ("vg", json_str (vg), "lv", json_str (lv), "origin", json_str (origin),
                             "size", size ? json_int ((gint64)MIN (size, G_MAXINT64)) : NULL, NULL);
  return TRUE;
}

static gboolean
plan_lv (Op *op, OpDisk *disk, const RequestDisk *wanted, const Request *request, GError **error)
{
  g_autofree char *vg = NULL, *origin = NULL;
  disk->mode = MODE_LV;
  if (!lv_of_file (active_file (disk), &vg, &origin)) {
    fail (error, REFUSED, "disk '%s': '%s' is no logical volume", disk->name, active_file (disk));
    return hint (error, "method 'qemu' (an overlay) works on every storage");
  }
  return choose_lv (op, disk, wanted, vg, origin, error) &&
         plan_check_group (request, disk->name, vg, error) && lvm_is_usable (error);
}

/* ---- btrfs ----------------------------------------------------------------------------------- */

static gboolean
is_on (const char *path, const long *magics, gsize n)
{
  struct statfs fs;
  gboolean ok = FALSE;
  for (gsize i = 0; i < n && statfs (path, &fs) == 0; i++)
    ok |= fs.f_type == magics[i];
  return ok;
}

/* The header of a copy elsewhere would name another file. */
static gboolean
check_backing_name (OpDisk *disk, GError **error)
{
  const char *backing = op_disk_layer (disk, 0)->backing;
  g_autofree char *here = g_path_get_dirname (active_file (disk));
  g_autofree char *there = g_path_get_dirname (disk->to);
  if (backing == NULL || backing[0] == '/' || path_same_file (here, there))
    return TRUE;
  fail (error, REFUSED, "disk '%s': its header names the backing file '%s' relatively", disk->name,
        backing);
  return hint (error, "a file that shares its blocks must lie in '%s' too", here);
}

/* Beside the image, named after it and the snapshot; full. */
static char *
default_file (Op *op, OpDisk *disk)
{
  const char *file = active_file (disk), *dot = strrchr (file, '.');
  gboolean ends = dot != NULL && strchr (dot, '/') == NULL && dot[1] != '\0';
  return ends ? g_strdup_printf ("%.*s.%s%s", (int)(dot - file), file, op->name, dot)
              : g_strdup_printf ("%s.%s", file, op->name);
}

static gboolean
plan_reflink (Op *op, OpDisk *disk, const RequestDisk *wanted, const Request *request,
              GError **error)
{
  static const long able[] = {BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC};
  const char *file = active_file (disk), *named = wanted->device ? wanted->device : wanted->to;
  struct stat st, dir;
  disk->mode = MODE_REFLINK;
  disk->details = json_object_new_object ();
  disk->to = named ? plan_path (request, wanted, named, error) : default_file (op, disk);
  if (disk->to == NULL)
    return FALSE;
  g_autofree char *target = g_path_get_dirname (disk->to);
  if (stat (file, &st) != 0 || !S_ISREG (st.st_mode) || !is_on (file, able, G_N_ELEMENTS (able))) {
    fail (error, REFUSED, "disk '%s': '%s' is no file on btrfs", disk->name, file);
    return hint (error, "method 'qemu' (an overlay) works on every storage");
  }
  /* Subvolumes of one btrfs have numbers of their own. */
  if (stat (target, &dir) == 0 && dir.st_dev != st.st_dev && !is_on (target, able, 1))
    return fail (error, REFUSED, "disk '%s': '%s' is not on the filesystem of '%s'", disk->name,
                 target, file);
  return check_backing_name (disk, error);
}

static gboolean
plan_subvolume (Op *op, OpDisk *disk, const RequestDisk *wanted, const Request *request,
                GError **error)
{
  char *real = realpath (active_file (disk), NULL);
  g_autofree char *file = g_strdup (real);
  g_autofree char *source = file ? subvolume_of (file) : NULL;
  g_autofree char *target = plan_path (request, wanted, wanted->subvolume, error);
  free (real);
  disk->mode = MODE_SUBVOLUME;
  if (target == NULL)
    return FALSE;
  if (source == NULL) {
    fail (error, REFUSED, "disk '%s': '%s' is no file on btrfs", disk->name, active_file (disk));
    return hint (error, "method 'qemu' (an overlay) works on every storage");
  }
  if (access (target, F_OK) == 0)
    return fail (error, REFUSED, "disk '%s': '%s' exists", disk->name, target);
  g_autofree char *dir = g_path_get_dirname (target);
  g_autofree char *part = g_strdup_printf ("%s/.rc-%s-%u.part", dir, op->id, disk->index);
  const char *inside = file + strlen (source);
  disk->to = g_strdup_printf ("%s%s%s", target, inside[0] == '/' ? "" : "/", inside);
  disk->details = json_make ("source", json_str (source), "subvolume", json_str (target), "part",
                             json_str (part), NULL);
  if (access (dir, W_OK | X_OK) != 0)
    return fail_errno (error, errno, "disk '%s': the directory '%s'", disk->name, dir);
  return g_utf8_validate (target, -1, NULL) ||
         fail (error, REFUSED, "disk '%s': '%s' is not UTF-8", disk->name, target);
}

/* ---- a disk ---------------------------------------------------------------------------------- */

gboolean
plan_beside_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, const Request *request,
                  GError **error)
{
  disk->apart = TRUE;
  if (op->flags & OP_REUSE)
    return fail (error, USAGE, "disk '%s': method '%s' cannot reuse what exists", disk->name,
                 wanted->method);
  if (!check_options (wanted, error))
    return FALSE;
  disk->to_format = g_strdup (op_disk_layer (disk, 0)->format);
  return g_str_equal (wanted->method, "lvm") ? plan_lv (op, disk, wanted, request, error)
         : wanted->subvolume                 ? plan_subvolume (op, disk, wanted, request, error)
                                             : plan_reflink (op, disk, wanted, request, error);
}

gboolean
plan_check_beside (Op *op, OpDisk *disk, GError **error)
{
  if (disk->mode == MODE_REFLINK)
    return plan_check_target (op, disk, NULL, error);
  for (guint i = 0; i < disk->index; i++)
    if (g_str_equal (op_disk (op, i)->to ? op_disk (op, i)->to : "", disk->to))
      return fail (error, REFUSED, "disks '%s' and '%s' have the same target '%s'",
                   op_disk (op, i)->name, disk->name, disk->to);
  return TRUE;
}

gboolean
plan_beside_deletion (OpDisk *disk, const Record *record, const RecordDisk *from, GError **error)
{
  g_autofree char *vg = NULL, *lv = NULL, *own_vg = NULL, *own_lv = NULL;
  FileId id;
  gboolean exists;
  disk->apart = TRUE;
  disk->to = g_strdup (from->old_file);
  if (g_str_equal (from->method, "lvm")) {
    disk->mode = MODE_LV;
    if (!lv_path_split (disk->to, &vg, &lv, error))
      return FALSE;
    lv_of_file (from->new_file, &own_vg, &own_lv);
    disk->details =
        json_make ("vg", json_str (vg), "lv", json_str (lv), "uuid", json_str (from->uuid), "of",
                   json_str (own_lv), "record", json_str (record->id), NULL);
    return lvm_is_usable (error);
  }
  if (from->subvolume != NULL) {
    disk->mode = MODE_SUBVOLUME;
    disk->details =
        json_make ("subvolume", json_str (from->subvolume), "uuid", json_str (from->uuid), NULL);
    return TRUE;
  }
  /* Its inode was compared; filesystems get new device numbers. */
  disk->mode = MODE_REFLINK;
  if (!file_identify (disk->to, &id, &exists, error))
    return FALSE;
  disk->details = file_id_to_json (id);
  return !file_is_locked (disk->to) ||
         fail (error, REFUSED, "'%s' is open in another process", disk->to);
}

/* ---- what LVM knows -------------------------------------------------------------------------- */

typedef struct {
  Op *op;
  OpDisk *disk;
  Json *origin; /* row of lvs; full */
  PlanAnswer answer;
  gpointer data;
} Question;

static void
answer (Question *question, GError *take_error)
{
  PlanAnswer callback = question->answer;
  gpointer data = question->data;
  prefix (&take_error, "disk '%s'", question->disk->name);
  g_clear_pointer (&question->origin, json_clear);
  g_free (question);
  callback (take_error, data);
}

/* A snapshot with its own space overflows when all of the origin is written anew and its tables do
 * not fit: LVM takes no more than it can ever need. */
static void
on_vgs (Json *rows, const GError *error, gpointer data)
{
  Question *question = data;
  OpDisk *disk = question->disk;
  GError *bad = error ? g_error_copy (error) : NULL;
  Json *vg = json_at (rows, 0);
  guint64 origin = lvm_bytes (question->origin, "lv_size"), free = lvm_bytes (vg, "vg_free");
  guint64 extent = lvm_bytes (vg, "vg_extent_size"), size;
  if (!json_has (disk->details, "size"))
    json_set (disk->details, "size",
              json_int ((gint64)MIN (origin + origin / 64 + 2 * extent, G_MAXINT64)));
  size = op_disk_size (disk, "size");
  if (bad == NULL && MIN (size, origin + extent) > free) {
    g_autofree char *want = format_size (size), *have = format_size (free);
    fail (&bad, REFUSED, "volume group '%s' has %s free, and the snapshot is to have %s",
          json_get_str (disk->details, "vg"), have, want);
    hint (&bad, "name a smaller size (size=...): room for what the guest writes while it exists");
  }
  answer (question, bad);
}

static GError *
check_new_lv (Question *question, Json *rows)
{
  GError *bad = NULL;
  Json *details = question->disk->details;
  Json *origin = lvm_row (rows, json_get_str (details, "origin"));
  const char *type = lvm_word (origin, "segtype"), *of = lvm_word (origin, "origin");
  if (lvm_row (rows, json_get_str (details, "lv")) != NULL) {
    fail (&bad, REFUSED, "'%s' exists", question->disk->to);
    hint (&bad, "name another volume (device=/dev/VG/LV), or another snapshot");
  } else if (origin == NULL)
    fail (&bad, REFUSED, "LVM knows no volume '%s/%s'", json_get_str (details, "vg"),
          json_get_str (details, "origin"));
  else if (of != NULL && g_strcmp0 (type, "thin") != 0)
    fail (&bad, REFUSED, "'%s' is itself a snapshot, of '%s'", json_get_str (details, "origin"),
          of);
  return bad;
}

/* Either the snapshot's own operation made it, or (the record was redefined) it is a snapshot of
 * the volume under the disk. */
static gboolean
is_its_snapshot (OpDisk *disk, Json *lv)
{
  const char *of = json_get_str (disk->details, "of"), *origin = lvm_word (lv, "origin");
  g_autofree char *tag = lv_tag_of (json_get_str (disk->details, "record"));
  return lv_has_tag (lv, tag) || (origin != NULL && g_strcmp0 (origin, of) == 0);
}

static GError *
check_old_lv (Question *question, Json *rows)
{
  GError *bad = NULL;
  Json *lv = lvm_row (rows, json_get_str (question->disk->details, "lv"));
  if (lv != NULL && !is_its_snapshot (question->disk, lv)) {
    fail (&bad, REFUSED, "'%s' is no snapshot of this disk's volume", question->disk->to);
    hint (&bad, "'snapshot delete --metadata-only' drops the record and leaves the volume alone");
    return bad;
  }
  if (lv != NULL && lvm_word (lv, "origin"))
    json_set (question->disk->details, "origin", json_str (lvm_word (lv, "origin")));
  if (lv != NULL && lvm_word (lv, "lv_device_open")) {
    fail (&bad, REFUSED, "'%s' is open", question->disk->to);
    hint (&bad, "end what uses it (a backup, a mount), then try again");
  }
  return bad;
}

static void
on_lvs (Json *rows, const GError *error, gpointer data)
{
  Question *question = data;
  gboolean new = question->op->kind == OP_SNAPSHOT;
  Json *details = question->disk->details;
  GError *bad = error ? g_error_copy (error)
                : new ? check_new_lv (question, rows)
                      : check_old_lv (question, rows);
  Json *origin = lvm_row (rows, json_get_str (details, "origin"));
  gboolean thin = g_strcmp0 (lvm_word (origin, "segtype"), "thin") == 0;
  if (bad != NULL || !new || (thin && !json_has (details, "size"))) {
    answer (question, bad);
    return;
  }
  question->origin = json_dup (origin);
  lvm_vgs (json_get_str (details, "vg"), on_vgs, question);
}

gboolean
plan_ask_lvm (Op *op, OpDisk *disk, PlanAnswer callback, gpointer data)
{
  if (disk->mode != MODE_LV)
    return FALSE;
  Question *question = g_new0 (Question, 1);
  *question = (Question){.op = op, .disk = disk, .answer = callback, .data = data};
  lvm_lvs (json_get_str (disk->details, "vg"), NULL, on_lvs, question);
  return TRUE;
}
