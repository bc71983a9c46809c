/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/records.h"

#include "jobs/journal-private.h"
#include "src/common/fs.h"

#include <string.h>

static void
disk_free (gpointer data)
{
  RecordDisk *disk = data;
  char *strings[] = {disk->disk,       disk->method,   disk->old_file,
                     disk->old_format, disk->new_file, disk->new_format};
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

static FileId
id_of (const char *file)
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
  disk->old_id = id_of (lower->file);
  disk->new_file = g_strdup (upper->file);
  disk->new_format = g_strdup (upper->format);
  disk->new_id = id_of (upper->file);
  if (on_delete != MERGE_UNSAID)
    disk->on_delete = on_delete;
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
  return TRUE;
}

static gboolean
read_disks (Journal *journal, Record *record)
{
  return journal_sql (journal,
                      "SELECT disk, method, on_delete, old_file, old_format, old_dev, old_ino,"
                      " new_file, new_format, new_dev, new_ino FROM snapshot_disks"
                      " WHERE snapshot = ? ORDER BY disk",
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

static Record *
find (GPtrArray *records, const char *name)
{
  for (guint i = 0; i < records->len; i++)
    if (g_str_equal (((Record *)records->pdata[i])->name, name))
      return records->pdata[i];
  return NULL;
}

static gboolean
fail_unknown (GPtrArray *records, const char *name, GError **error)
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
  Record *found = find (records, name);
  if (found == NULL)
    fail_unknown (records, name, error);
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

Record *
records_current (GPtrArray *records)
{
  return records->len ? records->pdata[records->len - 1] : NULL;
}

static gboolean
has_layer (const OpDisk *disk, const char *file)
{
  for (guint i = 0; i < disk->before->len; i++)
    if (g_strcmp0 (((ChainLayer *)disk->before->pdata[i])->file, file) == 0)
      return TRUE;
  return FALSE;
}

/* The disk of @record that @disk of @op is, as far as can be told; nullable. */
static RecordDisk *
find_meant (const Record *record, const Op *op, const OpDisk *disk)
{
  for (guint i = 0; i < record->disks->len; i++) {
    RecordDisk *on_record = record_disk (record, i);
    if ((op_is_offline (op) || g_str_equal (on_record->disk, disk->name)) &&
        has_layer (disk, on_record->old_file) && has_layer (disk, on_record->new_file))
      return on_record;
  }
  return NULL;
}

gboolean
records_touch (GPtrArray *records, const Op *op, const OpDisk *disk)
{
  for (guint i = 0; i < records->len; i++)
    if (find_meant (records->pdata[i], op, disk) != NULL)
      return TRUE;
  return FALSE;
}

/* ---- writing --------------------------------------------------------------------------------- */

static gboolean
insert_disk (Journal *journal, Record *record, RecordDisk *disk)
{
  return journal_sql (
      journal,
      "INSERT INTO snapshot_disks (snapshot, disk, method, on_delete, old_file, old_format,"
      " old_dev, old_ino, new_file, new_format, new_dev, new_ino)"
      " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      NULL, NULL, "ssssssiissii", record->id, disk->disk, disk->method,
      merge_direction_name (disk->on_delete), disk->old_file, disk->old_format,
      (gint64)disk->old_id.dev, (gint64)disk->old_id.ino, disk->new_file, disk->new_format,
      (gint64)disk->new_id.dev, (gint64)disk->new_id.ino);
}

/* Within a transaction, as the next three. */
static gboolean
write_disks (Journal *journal, Record *record)
{
  gboolean ok = journal_sql (journal, "DELETE FROM snapshot_disks WHERE snapshot = ?", NULL, NULL,
                             "s", record->id);
  for (guint i = 0; ok && i < record->disks->len; i++)
    ok = insert_disk (journal, record, record_disk (record, i));
  return ok;
}

static gboolean
write_record (Journal *journal, Record *record)
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
         write_disks (journal, record);
}

static gboolean
drop_record (Journal *journal, const char *id)
{
  return journal_sql (journal,
                      "UPDATE snapshots SET parent = (SELECT parent FROM snapshots WHERE id = ?1)"
                      " WHERE parent = ?1",
                      NULL, NULL, "s", id) &&
         journal_sql (journal, "DELETE FROM snapshots WHERE id = ?", NULL, NULL, "s", id);
}

static gboolean
begin (Journal *journal, GError **error)
{
  return journal_sql (journal, "BEGIN IMMEDIATE", NULL, NULL, "") ||
         journal_failed (journal, "be written", error);
}

/* Would @parent, or one of its own parents, be @name? */
static gboolean
is_ancestor (GPtrArray *records, const char *name, const char *parent)
{
  Record *record = parent ? find (records, parent) : NULL;
  for (guint i = 0; record != NULL && i < records->len; i++) {
    if (g_str_equal (record->name, name))
      return TRUE;
    record = record->parent ? find (records, record->parent) : NULL;
  }
  return FALSE;
}

gboolean
records_store (Journal *journal, Record *record, GError **error)
{
  g_autoptr (GPtrArray) records = records_list (journal, record->vm, error);
  if (records == NULL)
    return FALSE;
  Record *same = find (records, record->name);
  if (record->parent != NULL && find (records, record->parent) == NULL)
    return fail_unknown (records, record->parent, error) || prefix (error, "its parent");
  if (is_ancestor (records, record->name, record->parent))
    return fail (error, REFUSED, "snapshot '%s' would be its own ancestor", record->name);
  if (same != NULL) {
    g_free (record->id);
    record->id = g_strdup (same->id);
  }
  return begin (journal, error) &&
         journal_commit (journal, write_record (journal, record), "record a snapshot", error);
}

gboolean
records_drop (Journal *journal, const char *vm, const char *name, GError **error)
{
  g_autoptr (Record) record = records_load (journal, vm, name, error);
  return record != NULL && begin (journal, error) &&
         journal_commit (journal, drop_record (journal, record->id), "drop a snapshot", error);
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
  if (!begin (journal, error))
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

/* ---- acts of steps --------------------------------------------------------------------------- */

gboolean
records_add (Journal *journal, Op *op, GError **error)
{
  g_autoptr (GPtrArray) records = records_list (journal, op->vm, error);
  if (records == NULL)
    return FALSE;
  for (guint i = 0; i < records->len; i++)
    if (g_str_equal (((Record *)records->pdata[i])->id, op->id))
      return TRUE;
  /* The plan refused names that were taken; who took it since must not keep us from ending. */
  g_autofree char *other = g_strdup_printf ("%s-%s", op->name, op->id);
  g_autoptr (Record) record = record_new (op->vm, find (records, op->name) ? other : op->name);
  Record *current = records_current (records);
  g_free (record->id);
  record->id = g_strdup (op->id);
  record->description = g_strdup (op->description);
  record->parent = current ? g_strdup (current->name) : NULL;
  record->created_us = op->started_us;
  record->running = op->was_running;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    ChainLayer overlay = {.file = disk->to, .format = (char *)"qcow2"};
    record_set_layers (record_add_disk (record, disk->name), &overlay, disk->before->pdata[0],
                       disk->on_delete);
  }
  return begin (journal, error) &&
         journal_commit (journal, write_record (journal, record), "record a snapshot", error);
}

/* A layer that @op dropped lives on in the one that took its data. */
static gboolean
follow (OpDisk *disk, const OpAbsorbed *absorbed, char **file, char **format, FileId *id)
{
  for (guint i = 0; i < absorbed->count; i++) {
    ChainLayer *layer = disk->before->pdata[absorbed->first + i];
    if (g_strcmp0 (layer->file, *file) != 0)
      continue;
    g_free (*file);
    g_free (*format);
    *file = g_strdup (absorbed->file);
    *format = g_strdup (absorbed->format);
    *id = id_of (absorbed->file);
    return TRUE;
  }
  return FALSE;
}

/* TRUE where the record changed. A disk whose two layers became one has no snapshot any more. */
static gboolean
follow_disk (Record *record, Op *op, OpDisk *disk)
{
  RecordDisk *on_record = find_meant (record, op, disk);
  OpAbsorbed absorbed = op_disk_absorbed (op, disk);
  if (on_record == NULL)
    return FALSE;
  gboolean changed =
      follow (disk, &absorbed, &on_record->old_file, &on_record->old_format, &on_record->old_id);
  changed |=
      follow (disk, &absorbed, &on_record->new_file, &on_record->new_format, &on_record->new_id);
  if (changed && g_str_equal (on_record->old_file, on_record->new_file))
    g_ptr_array_remove (record->disks, on_record);
  return changed;
}

static gboolean
follow_record (Journal *journal, Record *record, Op *op)
{
  gboolean changed = FALSE;
  for (guint i = 0; i < op->disks->len; i++)
    changed |= follow_disk (record, op, op_disk (op, i));
  if (!changed)
    return TRUE;
  return record->disks->len > 0 ? write_disks (journal, record) : drop_record (journal, record->id);
}

gboolean
records_follow (Journal *journal, Op *op, GError **error)
{
  g_autoptr (GPtrArray) records = records_list (journal, op->vm, error);
  if (records == NULL || !begin (journal, error))
    return FALSE;
  gboolean ok = TRUE;
  for (guint i = 0; ok && i < records->len; i++)
    ok = follow_record (journal, records->pdata[i], op);
  return journal_commit (journal, ok, "update the snapshots on record", error);
}

/* ---- against the world ----------------------------------------------------------------------- */

/* Another file under the same name is another layer. Devices get new numbers at every boot. */
static gboolean
is_layer (ChainLayer *layer, const char *file, FileId id)
{
  FileId now = id_of (layer->file);
  if (!path_same_file (layer->file, file))
    return FALSE;
  return id.ino == 0 || now.ino == id.ino || !g_file_test (file, G_FILE_TEST_IS_REGULAR);
}

static ChainDisk *
find_disk (World *world, const char *name)
{
  GPtrArray *disks = world_disks (world);
  for (guint i = 0; i < disks->len; i++)
    if (g_str_equal (((ChainDisk *)disks->pdata[i])->name, name))
      return disks->pdata[i];
  return NULL;
}

int
record_disk_match (const RecordDisk *disk, World *world, ChainDisk **ret_disk, char **ret_why)
{
  ChainDisk *now = find_disk (world, disk->disk);
  *ret_disk = now;
  *ret_why = NULL;
  for (guint i = 0; now != NULL && i + 1 < now->layers->len; i++)
    if (is_layer (now->layers->pdata[i], disk->new_file, disk->new_id) &&
        is_layer (now->layers->pdata[i + 1], disk->old_file, disk->old_id))
      return (int)i;
  *ret_why = now ? g_strdup_printf ("its chain has no '%s' right over '%s'", disk->new_file,
                                    disk->old_file)
                 : g_strdup ("the VM has no such disk");
  return -1;
}
