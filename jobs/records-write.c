/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/records-private.h"

static gboolean
insert_disk (Journal *journal, Record *record, RecordDisk *disk)
{
  return journal_sql (
      journal,
      "INSERT INTO snapshot_disks (snapshot, disk, method, on_delete, old_file, old_format,"
      " old_dev, old_ino, new_file, new_format, new_dev, new_ino, subvolume, uuid)"
      " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      NULL, NULL, "ssssssiissiiss", record->id, disk->disk, disk->method,
      merge_direction_name (disk->on_delete), disk->old_file, disk->old_format,
      (gint64)disk->old_id.dev, (gint64)disk->old_id.ino, disk->new_file, disk->new_format,
      (gint64)disk->new_id.dev, (gint64)disk->new_id.ino, disk->subvolume, disk->uuid);
}

gboolean
record_write_disks (Journal *journal, Record *record)
{
  gboolean ok = journal_sql (journal, "DELETE FROM snapshot_disks WHERE snapshot = ?", NULL, NULL,
                             "s", record->id);
  for (guint i = 0; ok && i < record->disks->len; i++)
    ok = insert_disk (journal, record, record_disk (record, i));
  return ok;
}

gboolean
record_write (Journal *journal, Record *record)
{
  return journal_sql (journal,
                      "INSERT INTO snapshots (id, vm, name, description, parent, created, state)"
                      " VALUES (?1, ?2, ?3, ?4,"
                      "  (SELECT id FROM snapshots WHERE vm = ?2 AND name = ?5), ?6, ?7)"
                      " ON CONFLICT (id) DO UPDATE SET name = ?3, description = ?4,"
                      "  parent = excluded.parent, created = ?6, state = ?7",
                      NULL, NULL, "sssssis", record->id, record->vm, record->name,
                      record->description, record->parent, record->created_us,
                      record->running ? "running" : "paused") &&
         record_write_disks (journal, record);
}

gboolean
record_drop (Journal *journal, const char *id)
{
  return journal_sql (journal,
                      "UPDATE snapshots SET parent = (SELECT parent FROM snapshots WHERE id = ?1)"
                      " WHERE parent = ?1",
                      NULL, NULL, "s", id) &&
         journal_sql (journal, "DELETE FROM snapshots WHERE id = ?", NULL, NULL, "s", id);
}

gboolean
records_begin (Journal *journal, GError **error)
{
  return journal_sql (journal, "BEGIN IMMEDIATE", NULL, NULL, "") ||
         journal_failed (journal, "be written", error);
}

/* Would @parent, or one of its own parents, be @name? */
static gboolean
is_ancestor (GPtrArray *records, const char *name, const char *parent)
{
  Record *record = parent ? records_named (records, parent) : NULL;
  for (guint i = 0; record != NULL && i < records->len; i++) {
    if (g_str_equal (record->name, name))
      return TRUE;
    record = record->parent ? records_named (records, record->parent) : NULL;
  }
  return FALSE;
}

gboolean
records_store (Journal *journal, Record *record, GError **error)
{
  g_autoptr (GPtrArray) records = records_list (journal, record->vm, error);
  if (records == NULL)
    return FALSE;
  Record *same = records_named (records, record->name);
  if (record->parent != NULL && records_named (records, record->parent) == NULL)
    return records_unknown (records, record->parent, error) || prefix (error, "its parent");
  if (is_ancestor (records, record->name, record->parent))
    return fail (error, REFUSED, "snapshot '%s' would be its own ancestor", record->name);
  if (same != NULL) {
    g_free (record->id);
    record->id = g_strdup (same->id);
  }
  return records_begin (journal, error) &&
         journal_commit (journal, record_write (journal, record), "record a snapshot", error);
}

gboolean
records_drop (Journal *journal, const char *vm, const char *name, GError **error)
{
  g_autoptr (Record) record = records_load (journal, vm, name, error);
  return record != NULL && records_begin (journal, error) &&
         journal_commit (journal, record_drop (journal, record->id), "drop a snapshot", error);
}

gboolean
records_edit (Journal *journal, const char *vm, const char *name, const char *disk,
              MergeDirection direction, const char *description, GError **error)
{
  g_autoptr (Record) record = records_load (journal, vm, name, error);
  if (record == NULL)
    return FALSE;
  if (disk != NULL && record_find_disk (record, disk) == NULL)
    return fail (error, NOT_FOUND, "snapshot '%s' has no disk '%s'", name, disk);
  if (!records_begin (journal, error))
    return FALSE;
  gboolean ok =
      journal_sql (journal,
                   "UPDATE snapshot_disks SET on_delete = ifnull (?1, on_delete)"
                   " WHERE snapshot = ?2 AND disk = ifnull (?3, disk)",
                   NULL, NULL, "sss", merge_direction_name (direction), record->id, disk) &&
      journal_sql (journal,
                   "UPDATE snapshots SET description = ifnull (?, description)"
                   " WHERE id = ?",
                   NULL, NULL, "ss", description, record->id);
  return journal_commit (journal, ok, "change a snapshot", error);
}
