/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Planning: what only snapshots have. */
#include "jobs/plan.h"
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
  return odd ? fail (error, USAGE, "'%.200s' cannot be the name of a snapshot", name) : TRUE;
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

/* Forward the old layer is pulled up into the new one, backward the new one is committed into it.
 */
static void
add_merge (Request *merges, const RecordDisk *disk, MergeDirection direction)
{
  gboolean forward = (direction ? direction : disk->on_delete) == MERGE_FORWARD;
  RequestDisk *wanted = request_add_disk (merges, disk->disk);
  wanted->source = g_strdup (forward ? disk->old_file : disk->new_file);
  wanted->dest = g_strdup (forward ? disk->new_file : disk->old_file);
}

Request *
plan_deletion (const Request *request, GPtrArray *records, World *world, GError **error)
{
  Record *record = records_find (records, request->name, error);
  Request *merges = record ? request_new (OP_MERGE) : NULL;
  for (guint i = 0; merges != NULL && i < record->disks->len; i++) {
    RecordDisk *disk = record_disk (record, i);
    ChainDisk *now;
    g_autofree char *why = NULL;
    if (record_disk_match (disk, world, &now, &why) >= 0) {
      if (!record_disk_is_beside (disk))
        add_merge (merges, disk, request->direction);
      continue;
    }
    fail (error, REFUSED, "the record of snapshot '%s' does not match disk '%s': %s", record->name,
          disk->disk, why);
    hint (error, "'snapshot delete --metadata-only' drops the record and leaves the layers alone");
    g_clear_pointer (&merges, request_free);
  }
  return merges;
}
