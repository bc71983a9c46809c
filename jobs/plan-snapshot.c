/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Planning: what only snapshots have. */
#include "jobs/plan-private.h"
#include "jobs/lv.h"
#include "jobs/records.h"

#include "src/common/fs.h"

#include <string.h>

#define MAX_NAME 200 /* bytes; it becomes part of file names */

gboolean
plan_check_name (const char *name, GError **error)
{
  gboolean odd = name[0] == '\0' || strchr (name, '/') != NULL || strlen (name) > MAX_NAME;
  for (const char *c = name; *c != '\0'; c++)
    odd |= (guchar)*c < 0x20;
  if (!odd)
    return TRUE;
  fail (error, USAGE, "'%.200s' cannot be the name of a snapshot", name);
  return hint (error, "it becomes part of file names: no '/', no control character, %d bytes at most",
               MAX_NAME);
}

static gboolean
is_taken (GPtrArray *records, const char *name)
{
  for (guint i = 0; i < records->len; i++)
    if (g_str_equal (((Record *)records->pdata[i])->name, name))
      return TRUE;
  return FALSE;
}

/* Full. The time, and where that is taken a number behind it. */
static char *
made_name (GPtrArray *records)
{
  g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
  g_autofree char *time = g_date_time_format (now, "%Y%m%dT%H%M%SZ");
  char *name = g_strdup (time);
  for (guint n = 2; is_taken (records, name); n++) {
    g_free (name);
    name = g_strdup_printf ("%s-%u", time, n);
  }
  return name;
}

gboolean
plan_name_snapshot (Op *op, const Request *request, GPtrArray *records, GError **error)
{
  if (op->kind == OP_SNAPSHOT_DELETE && request->name == NULL)
    return fail (error, USAGE, "no snapshot is named");
  op->name = request->name ? g_strdup (request->name) : made_name (records);
  op->description = g_strdup (request->description);
  if (!plan_check_name (op->name, error))
    return FALSE;
  if (op->kind != OP_SNAPSHOT || !is_taken (records, op->name))
    return TRUE;
  fail (error, REFUSED, "a snapshot '%s' is on record already", op->name);
  return hint (error, "take another name; 'rechain snapshot list' shows them");
}

char *
plan_path (const Request *request, const RequestDisk *wanted, const char *path, GError **error)
{
  g_autofree char *vg = NULL, *lv = NULL;
  if (lv_of_file (path, &vg, &lv))
    return plan_check_group (request, wanted->disk, vg, error) ? path_absolute (path) : NULL;
  if (request->allow == NULL)
    return path_absolute (path);
  char *resolved = path_resolve_within (path, (const char *const *)request->allow, error);
  if (resolved == NULL)
    prefix (error, "disk '%s'", wanted->disk);
  return resolved;
}

char *
plan_target (const Request *request, const RequestDisk *wanted, GError **error)
{
  return plan_path (request, wanted, wanted->to, error);
}

gboolean
plan_find_left_out (const Request *request, World *world, GPtrArray *ret_names, GError **error)
{
  for (guint i = 0; i < request->disks->len; i++) {
    RequestDisk *wanted = request->disks->pdata[i];
    ChainDisk *found = wanted->left_out ? world_find_disk (world, wanted->disk, error) : NULL;
    if (wanted->left_out && found == NULL)
      return FALSE;
    if (found != NULL)
      g_ptr_array_add (ret_names, g_strdup (found->name));
  }
  return TRUE;
}

/* ---- deleting -------------------------------------------------------------------------------- */

/* Forward the old layer is pulled up into the new one, backward the new one is
 * committed into it. */
static RequestDisk *
add_merge (Request *merges, const RecordDisk *disk, MergeDirection direction)
{
  gboolean forward = (direction ? direction : disk->on_delete) == MERGE_FORWARD;
  RequestDisk *wanted = request_add_disk (merges, disk->disk);
  wanted->source = g_strdup (forward ? disk->old_file : disk->new_file);
  wanted->dest = g_strdup (forward ? disk->new_file : disk->old_file);
  return wanted;
}

/* Each layer that others may use must be in the chain of some disk. @chains: of the disks of
 * @merges. */
static gboolean
allow_shared (Request *merges, const Request *request, GPtrArray *chains, GError **error)
{
  for (char **layer = request->allow_shared; layer != NULL && *layer != NULL; layer++) {
    gboolean found = FALSE;
    for (guint i = 0; i < merges->disks->len; i++) {
      RequestDisk *wanted = merges->disks->pdata[i];
      if (wanted->allow_shared != NULL || chain_find_layer (chains->pdata[i], *layer, NULL) < 0)
        continue;
      wanted->allow_shared = g_strdup (*layer);
      found = TRUE;
    }
    if (!found)
      return fail (error, NOT_FOUND, "--allow-shared: no disk of the snapshot has a layer '%s'",
                   *layer);
  }
  return TRUE;
}

static gboolean
does_not_match (const Record *record, const RecordDisk *disk, const char *why, GError **error)
{
  fail (error, REFUSED, "the record of snapshot '%s' does not match disk '%s': %s", record->name,
        disk->disk, why);
  return hint (error,
               "'snapshot delete --metadata-only' drops the record and leaves the layers alone");
}

static gboolean
add_merges (Request *merges, const Record *record, const Request *request, World *world,
            GError **error)
{
  g_autoptr (GPtrArray) chains = g_ptr_array_new ();
  for (guint i = 0; i < record->disks->len; i++) {
    RecordDisk *disk = record_disk (record, i);
    ChainDisk *now;
    g_autofree char *why = NULL;
    /* What lies beside a chain is removed, even where the disk has left the VM. */
    gboolean beside = record_disk_is_beside (disk);
    if (beside ? !record_beside_is_there (disk, &why)
               : record_disk_match (disk, world, &now, &why) < 0)
      return does_not_match (record, disk, why, error);
    if (beside)
      continue;
    add_merge (merges, disk, request->direction);
    g_ptr_array_add (chains, now->layers);
  }
  return allow_shared (merges, request, chains, error);
}

Request *
plan_deletion (const Request *request, GPtrArray *records, World *world, GError **error)
{
  Record *record = records_find (records, request->name, error);
  Request *merges = record ? request_new (OP_MERGE) : NULL;
  if (merges != NULL && !add_merges (merges, record, request, world, error))
    g_clear_pointer (&merges, request_free);
  return merges;
}

/* ---- offline --------------------------------------------------------------------------------- */

/* Snapshots on record that were taken later lie above: the file that the guest would be started
 * from, as far as records tell. What else is backed by it is found by the check for others that use
 * a layer. */
static const RecordDisk *
uppermost (GPtrArray *records, const RecordDisk *disk)
{
  const RecordDisk *top = disk;
  for (guint n = 0; n < records->len; n++)
    for (guint i = 0; i < records->len; i++) {
      RecordDisk *other = record_find_disk (records->pdata[i], disk->disk);
      if (other != NULL && !record_disk_is_beside (other) &&
          path_same_file (other->old_file, top->new_file))
        top = other;
    }
  return top;
}

/* FALSE: an error, or (none is set) it lies beside the chain. */
static gboolean
add_merge_offline (Request *merges, const Record *record, const RecordDisk *disk,
                   const Request *request, GPtrArray *records, GPtrArray *chains, GError **error)
{
  const RecordDisk *top = uppermost (records, disk);
  g_autofree char *why = NULL;
  g_autoptr (GPtrArray) layers = chain_read_offline (top->new_file, top->new_format, error);
  if (layers == NULL)
    return prefix (error, "disk '%s'", disk->disk);
  if (record_layers_match (disk, layers, &why) < 0)
    return does_not_match (record, disk, why, error);
  RequestDisk *wanted = add_merge (merges, disk, request->direction);
  g_free (wanted->disk);
  wanted->disk = g_strdup (top->new_file);
  wanted->format = g_strdup (top->new_format);
  g_ptr_array_add (chains, g_steal_pointer (&layers));
  return TRUE;
}

Request *
plan_deletion_offline (const Request *request, GPtrArray *records, Record **ret_record,
                       GError **error)
{
  Record *record = records_find (records, request->name, error);
  Request *merges = record ? request_new (OP_MERGE) : NULL;
  g_autoptr (GPtrArray) chains = g_ptr_array_new_with_free_func ((GDestroyNotify)g_ptr_array_unref);
  gboolean ok = record != NULL;
  *ret_record = record;
  for (guint i = 0; ok && i < record->disks->len; i++)
    if (!record_disk_is_beside (record_disk (record, i)))
      ok = add_merge_offline (merges, record, record_disk (record, i), request, records, chains,
                              error);
  if (merges != NULL && (!ok || !allow_shared (merges, request, chains, error)))
    g_clear_pointer (&merges, request_free);
  return merges;
}
