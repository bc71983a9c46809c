/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where records and chains meet: what operations do to records, and what the world says of them. */
#include "jobs/records-private.h"

#include "src/common/fs.h"

static gboolean
has_layer (const OpDisk *disk, const char *file)
{
  for (guint i = 0; i < disk->before->len; i++)
    if (path_same_file (((ChainLayer *)disk->before->pdata[i])->file, file))
      return TRUE;
  return FALSE;
}

/* The disk of @record that @disk of @op is, as far as can be told; nullable. */
static RecordDisk *
find_meant (const Record *record, const Op *op, const OpDisk *disk)
{
  for (guint i = 0; i < record->disks->len; i++) {
    RecordDisk *on_record = record_disk (record, i);
    gboolean named = op_is_offline (op) || g_str_equal (on_record->disk, disk->name);
    gboolean below = record_disk_is_beside (on_record) || has_layer (disk, on_record->old_file);
    if (named && below && has_layer (disk, on_record->new_file))
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
  g_autoptr (Record) record =
      record_new (op->vm, records_named (records, op->name) ? other : op->name);
  Record *current = records_current (records);
  g_free (record->id);
  record->id = g_strdup (op->id);
  record->description = g_strdup (op->description);
  record->parent = current ? g_strdup (current->name) : NULL;
  record->created_us = op->started_us;
  record->running = op->was_running;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if (op_disk_is_beside (disk)) {
      record_set_beside (record_add_disk (record, disk->name), op_method_name (disk),
                         disk->before->pdata[0], disk->to,
                         json_get_str (disk->details, "subvolume"));
      continue;
    }
    ChainLayer overlay = {.file = disk->to, .format = (char *)"qcow2"};
    record_set_layers (record_add_disk (record, disk->name), &overlay, disk->before->pdata[0],
                       disk->on_delete);
  }
  return records_begin (journal, error) &&
         journal_commit (journal, record_write (journal, record), "record a snapshot", error);
}

/* A layer that @op dropped lives on in the one that took its data. */
static gboolean
follow (OpDisk *disk, const OpAbsorbed *absorbed, char **file, char **format, FileId *id)
{
  for (guint i = 0; i < absorbed->count; i++) {
    ChainLayer *layer = disk->before->pdata[absorbed->first + i];
    if (!path_same_file (layer->file, *file))
      continue;
    g_free (*file);
    g_free (*format);
    *file = g_strdup (absorbed->file);
    *format = g_strdup (absorbed->format);
    *id = layer_id (absorbed->file);
    return TRUE;
  }
  return FALSE;
}

/* What lay beside a chain was removed. */
static gboolean
forget_beside (Record *record, OpDisk *disk)
{
  for (guint i = 0; i < record->disks->len; i++) {
    RecordDisk *on_record = record_disk (record, i);
    if (record_disk_is_beside (on_record) && g_str_equal (on_record->old_file, disk->to))
      return g_ptr_array_remove_index (record->disks, i) != NULL;
  }
  return FALSE;
}

/* TRUE where the record changed. A disk whose two layers became one has no snapshot any more. */
static gboolean
follow_disk (Record *record, Op *op, OpDisk *disk)
{
  if (op_disk_is_beside (disk))
    return forget_beside (record, disk);
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
  return record->disks->len > 0 ? record_write_disks (journal, record)
                                : record_drop (journal, record->id);
}

gboolean
records_follow (Journal *journal, Op *op, GError **error)
{
  if (!records_begin (journal, error))
    return FALSE;
  g_autoptr (GPtrArray) records = records_list (journal, op->vm, NULL);
  gboolean ok = records != NULL;
  for (guint i = 0; ok && i < records->len; i++)
    ok = follow_record (journal, records->pdata[i], op);
  return journal_commit (journal, ok, "update the snapshots on record", error);
}

/* ---- against the world ----------------------------------------------------------------------- */

/* Another file under the same name is another layer. Devices get new numbers at every boot. */
static gboolean
is_layer (ChainLayer *layer, const char *file, FileId id)
{
  FileId now = layer_id (layer->file);
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
record_layers_match (const RecordDisk *disk, GPtrArray *layers, char **ret_why)
{
  *ret_why = NULL;
  if (record_disk_is_beside (disk))
    return record_beside_is_there (disk, ret_why) ? 0 : -1;
  for (guint i = 0; i + 1 < layers->len; i++)
    if (is_layer (layers->pdata[i], disk->new_file, disk->new_id) &&
        is_layer (layers->pdata[i + 1], disk->old_file, disk->old_id))
      return (int)i;
  *ret_why =
      g_strdup_printf ("its chain has no '%s' right over '%s'", disk->new_file, disk->old_file);
  return -1;
}

int
record_disk_match (const RecordDisk *disk, World *world, ChainDisk **ret_disk, char **ret_why)
{
  ChainDisk *now = find_disk (world, disk->disk);
  *ret_disk = now;
  if (now != NULL)
    return record_layers_match (disk, now->layers, ret_why);
  *ret_why = g_strdup ("the VM has no such disk");
  return -1;
}
