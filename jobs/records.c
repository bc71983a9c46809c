/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/records-private.h"

#include "jobs/lv.h"
#include "jobs/subvolume.h"
#include "src/common/fs.h"

static void
disk_free (gpointer data)
{
  RecordDisk *disk = data;
  char *strings[] = {disk->disk,     disk->method,     disk->old_file,  disk->old_format,
                     disk->new_file, disk->new_format, disk->subvolume, disk->uuid};
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_free (disk);
}

static Record *
record_bare (void)
{
  Record *record = g_new0 (Record, 1);
  record->disks = g_ptr_array_new_with_free_func (disk_free);
  return record;
}

Record *
record_new (const char *vm, const char *name)
{
  Record *record = record_bare ();
  record->id = g_uuid_string_random ();
  record->vm = g_strdup (vm);
  record->name = g_strdup (name);
  return record;
}

void
record_free (Record *record)
{
  if (record == NULL)
    return;
  g_free (record->id);
  g_free (record->vm);
  g_free (record->name);
  g_free (record->description);
  g_free (record->parent);
  g_ptr_array_unref (record->disks);
  g_free (record);
}

RecordDisk *
record_add_disk (Record *record, const char *disk)
{
  RecordDisk *added = g_new0 (RecordDisk, 1);
  added->disk = g_strdup (disk);
  added->method = g_strdup ("qemu");
  added->on_delete = MERGE_BACKWARD;
  g_ptr_array_add (record->disks, added);
  return added;
}

FileId
layer_id (const char *file)
{
  FileId id = {0};
  gboolean exists;
  if (file != NULL && file[0] == '/')
    file_identify (file, &id, &exists, NULL);
  return id;
}

void
record_set_layers (RecordDisk *disk, const ChainLayer *upper, const ChainLayer *lower,
                   MergeDirection on_delete)
{
  disk->old_file = g_strdup (lower->file);
  disk->old_format = g_strdup (lower->format);
  disk->old_id = layer_id (lower->file);
  disk->new_file = g_strdup (upper->file);
  disk->new_format = g_strdup (upper->format);
  disk->new_id = layer_id (upper->file);
  if (on_delete != MERGE_UNSAID)
    disk->on_delete = on_delete;
}

gboolean
record_disk_is_beside (const RecordDisk *disk)
{
  return !g_str_equal (disk->method, "qemu");
}

/* Full, nullable. */
static char *
uuid_of (const RecordDisk *disk)
{
  return disk->subvolume ? subvolume_uuid (disk->subvolume) : lv_uuid (disk->old_file);
}

void
record_set_beside (RecordDisk *disk, const char *method, const ChainLayer *active,
                   const char *source, const char *subvolume)
{
  const ChainLayer lower = {.file = (char *)source, .format = active->format};
  record_set_layers (disk, active, &lower, MERGE_UNSAID);
  g_free (disk->method);
  disk->method = g_strdup (method);
  disk->subvolume = g_strdup (subvolume);
  disk->uuid = uuid_of (disk);
}

gboolean
record_beside_is_there (const RecordDisk *disk, char **ret_why)
{
  const char *what = disk->subvolume ? disk->subvolume : disk->old_file;
  g_autofree char *uuid = uuid_of (disk);
  FileId now = layer_id (disk->old_file);
  gboolean same = disk->uuid ? g_strcmp0 (uuid, disk->uuid) == 0 : now.ino == disk->old_id.ino;
  *ret_why = now.ino == 0 ? g_strdup_printf ("'%s' is gone", disk->old_file)
             : !same      ? g_strdup_printf ("'%s' is another one now", what)
                          : NULL;
  return *ret_why == NULL;
}

RecordDisk *
record_disk (const Record *record, guint i)
{
  return record->disks->pdata[i];
}

RecordDisk *
record_find_disk (const Record *record, const char *disk)
{
  for (guint i = 0; i < record->disks->len; i++)
    if (g_str_equal (record_disk (record, i)->disk, disk))
      return record_disk (record, i);
  return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

static gboolean
read_record (sqlite3_stmt *row, gpointer data)
{
  Record *record = record_bare ();
  record->id = g_strdup (row_text (row, 0));
  record->vm = g_strdup (row_text (row, 1));
  record->name = g_strdup (row_text (row, 2));
  record->description = g_strdup (row_text (row, 3));
  record->parent = g_strdup (row_text (row, 4));
  record->created_us = sqlite3_column_int64 (row, 5);
  record->running = g_strcmp0 (row_text (row, 6), "running") == 0;
  g_ptr_array_add (data, record);
  return TRUE;
}

static FileId
read_id (sqlite3_stmt *row, int column)
{
  return (FileId){.dev = (guint64)sqlite3_column_int64 (row, column),
                  .ino = (guint64)sqlite3_column_int64 (row, column + 1)};
}

static gboolean
read_disk (sqlite3_stmt *row, gpointer data)
{
  RecordDisk *disk = record_add_disk (data, row_text (row, 0));
  g_free (disk->method);
  disk->method = g_strdup (row_text (row, 1));
  disk->on_delete = merge_direction_parse (row_text (row, 2));
  disk->old_file = g_strdup (row_text (row, 3));
  disk->old_format = g_strdup (row_text (row, 4));
  disk->old_id = read_id (row, 5);
  disk->new_file = g_strdup (row_text (row, 7));
  disk->new_format = g_strdup (row_text (row, 8));
  disk->new_id = read_id (row, 9);
  disk->subvolume = g_strdup (row_text (row, 11));
  disk->uuid = g_strdup (row_text (row, 12));
  return TRUE;
}

#define READ_DISKS(more)                                                                           \
  "SELECT disk, method, on_delete, old_file, old_format, old_dev, old_ino, new_file, new_format,"  \
  " new_dev, new_ino, " more " FROM snapshot_disks WHERE snapshot = ? ORDER BY disk"

static gboolean
read_disks (Journal *journal, Record *record)
{
  return journal_sql (journal,
                      journal_version (journal) < 3 ? READ_DISKS ("NULL, NULL")
                                                    : READ_DISKS ("subvolume, uuid"),
                      read_disk, record, "s", record->id);
}

static void
free_record (gpointer record)
{
  record_free (record);
}

GPtrArray *
records_list (Journal *journal, const char *vm, GError **error)
{
  g_autoptr (GPtrArray) records = g_ptr_array_new_with_free_func (free_record);
  /* One that an older rechain wrote, and that nothing was changed with since. */
  if (journal == NULL || journal_version (journal) < 2)
    return g_steal_pointer (&records);
  gboolean ok = journal_sql (journal,
                             "SELECT s.id, s.vm, s.name, s.description, p.name, s.created, s.state"
                             " FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"
                             " WHERE ?1 IS NULL OR s.vm = ?1 ORDER BY s.created, s.id",
                             read_record, records, "s", vm);
  for (guint i = 0; ok && i < records->len; i++)
    ok = read_disks (journal, records->pdata[i]);
  if (ok)
    return g_steal_pointer (&records);
  journal_failed (journal, "be read", error);
  return NULL;
}

Record *
records_named (GPtrArray *records, const char *name)
{
  for (guint i = 0; i < records->len; i++)
    if (g_str_equal (((Record *)records->pdata[i])->name, name))
      return records->pdata[i];
  return NULL;
}

gboolean
records_unknown (GPtrArray *records, const char *name, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (guint i = 0; i < records->len; i++)
    g_string_append_printf (names, "%s%s", i ? ", " : "", ((Record *)records->pdata[i])->name);
  fail (error, NOT_FOUND, "there is no snapshot '%s' on record", name);
  return hint (error, "on record for this VM: %s", names->len ? names->str : "none");
}

Record *
records_find (GPtrArray *records, const char *name, GError **error)
{
  Record *found = records_named (records, name);
  if (found == NULL)
    records_unknown (records, name, error);
  return found;
}

Record *
records_load (Journal *journal, const char *vm, const char *name, GError **error)
{
  g_autoptr (GPtrArray) records = records_list (journal, vm, error);
  Record *found = records ? records_find (records, name, error) : NULL;
  guint at;
  return found && g_ptr_array_find (records, found, &at) ? g_ptr_array_steal_index (records, at)
                                                         : NULL;
}

static Record *
youngest_child (GPtrArray *records, const char *parent)
{
  for (guint i = records->len; i-- > 0;)
    if (g_strcmp0 (((Record *)records->pdata[i])->parent, parent) == 0)
      return records->pdata[i];
  return NULL;
}

/* Those of a document have whole seconds, so that parent and child can be of the same age. */
Record *
records_current (GPtrArray *records)
{
  Record *current = records->len ? records->pdata[records->len - 1] : NULL;
  Record *child = current;
  for (guint i = 0; child != NULL && i < records->len; i++) {
    current = child;
    child = youngest_child (records, current->name);
  }
  return current;
}
