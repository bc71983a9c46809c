/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations that have not ended, and snapshots on record that match no chain. */
#include "src/lib/doctor-private.h"

#include "jobs/header.h"

/* ---- operations ------------------------------------------------------------------------------ */

/* Offline there is no VM: the files tell. */
static gboolean
is_wanted (Exam *exam, Op *op, ExamVm *vm)
{
  if (exam->all || vm != NULL)
    return exam->all || vm->wanted;
  for (guint i = 0; op->vm == NULL && i < op->disks->len; i++)
    if (op_disk (op, i)->name[0] == '/' && exam_find_layer (exam, op_disk (op, i)->name, &vm))
      return TRUE;
  return FALSE;
}

/* What it did last. */
static void
show_last_step (Exam *exam, Op *op, Json *finding)
{
  g_autoptr (Json) lines = journal_steps (exam->journal, op->id, NULL);
  gsize n = json_length (lines);
  Json *last = n > 0 ? json_at (lines, n - 1) : NULL;
  const char *detail = json_get_str (last, "detail"), *disk = json_get_str (last, "disk");
  if (last == NULL)
    finding_shows (finding, "it had done nothing");
  else
    finding_shows (finding, "last in its journal: step '%s'%s%s (%s), %s%s%s",
                   json_get_str (last, "step"), disk ? " of " : "", disk ? disk : "",
                   json_get_str (last, "direction"), json_get_str (last, "phase"),
                   detail ? ": " : "", detail ? detail : "");
}

static void
show_error (Op *op, Json *finding)
{
  const char *cause = op->error ? rechain_error_get_cause (op->error) : NULL;
  if (op->error != NULL)
    finding_shows (finding, "%s%s%s", op->error->message, cause ? ": " : "", cause ? cause : "");
}

static void
show_authoritative (Op *op, Json *finding)
{
  g_autoptr (Json) files = authoritative_files (op);
  if (files == NULL)
    return;
  finding_shows (finding, "its QEMU is gone");
  json_object_object_foreach (files, disk, file)
      finding_shows (finding, "until then the guest would have to be started with '%s' from '%s'",
                     disk, json_object_get_string (file));
}

static char *
recover_command (Op *op)
{
  return shell_words ("rechain", "recover", "--op", op->id, NULL);
}

static void
guest_left (Exam *exam, ExamVm *vm, Op *op, const char *kind, const char *how)
{
  g_autofree char *command = recover_command (op);
  Json *finding = exam_find (exam, FOUND_ERROR, kind, vm, NULL,
                             "the guest was left %s by operation %s", how, op->id);
  if (vm != NULL && vm->world != NULL)
    finding_shows (finding, "run state of QEMU: %s", world_run_state (vm->world));
  finding_cure (finding, command, "settle the operation, which does that first of all");
  json_set (finding, "operation", json_str (op->id));
  json_set (finding, "repairable", json_flag (TRUE));
}

static void
exam_operation (Exam *exam, Op *op)
{
  g_autoptr (GString) disks = g_string_new (NULL);
  g_autofree char *command = recover_command (op);
  ExamVm *vm = exam_vm_at (exam, op->vm);
  if (exam_is_alive (exam, op->id) || !is_wanted (exam, op, vm))
    return;
  for (guint i = 0; i < op->disks->len; i++)
    g_string_append_printf (disks, "%s%s", i ? ", " : " of ", op_disk (op, i)->name);
  Json *finding = exam_find (exam, FOUND_ERROR, "operation", vm, NULL, "operation %s (%s%s) %s",
                             op->id, op_kind_name (op->kind), disks->str,
                             op->state == OP_STUCK ? "is stuck" : "was interrupted");
  finding_shows (finding, "state: %s; nobody runs it", op_state_name (op->state));
  show_last_step (exam, op, finding);
  show_error (op, finding);
  show_authoritative (op, finding);
  finding_cure (finding, command, "settle it; 'rechain op show %s' tells all of it", op->id);
  json_set (finding, "operation", json_str (op->id));
  json_set (finding, "repairable", json_flag (TRUE));
  gboolean gone = op_qemu_is_gone (op);
  if (op->held && !gone)
    guest_left (exam, vm, op, "guest-stopped", "stopped");
  if (op->frozen && !gone)
    guest_left (exam, vm, op, "guest-frozen", "frozen");
}

static void
use_op (Exam *exam, Op *op)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    const char *files[] = {disk->to, disk->part, disk->receiver, disk->header, disk->name};
    for (guint k = 0; k < G_N_ELEMENTS (files); k++)
      exam_use (exam, files[k]);
    for (guint k = 0; k < disk->before->len; k++)
      exam_use (exam, op_disk_layer (disk, (int)k)->file);
    Json *uses = json_get (disk->details, "uses");
    for (gsize k = 0; k < json_length (uses); k++)
      exam_use (exam, json_object_get_string (json_at (uses, k)));
  }
}

void
exam_operations (Exam *exam)
{
  for (guint i = 0; i < exam->open->len; i++) {
    use_op (exam, exam->open->pdata[i]);
    exam_operation (exam, exam->open->pdata[i]);
  }
}

/* ---- snapshots on record --------------------------------------------------------------------- */

/* With the VM off: does the header of the new layer still name the old one? */
static char *
mismatch_on_disk (const RecordDisk *disk)
{
  g_auto (ImageHeader) header = {0};
  g_autoptr (GError) error = NULL;
  char *why = NULL;
  if (record_disk_is_beside (disk)) /* no layer: the chain does not matter */
    return record_layers_match (disk, NULL, &why) < 0 ? why : NULL;
  if (!g_file_test (disk->new_file, G_FILE_TEST_EXISTS))
    return g_strdup_printf ("'%s' is gone", disk->new_file);
  if (!g_file_test (disk->old_file, G_FILE_TEST_EXISTS))
    return g_strdup_printf ("'%s' is gone", disk->old_file);
  if (!image_header_read (disk->new_file, &header, &error))
    return g_strdup (error->message);
  g_autofree char *dir = g_path_get_dirname (disk->new_file);
  g_autofree char *named = header.backing ? chain_file_in (dir, header.backing) : NULL;
  if (named != NULL && path_same_file (named, disk->old_file))
    return NULL;
  return g_strdup_printf ("'%s' is not right over '%s' any more", disk->new_file, disk->old_file);
}

static char *
mismatch (ExamVm *vm, const RecordDisk *disk)
{
  ChainDisk *now;
  char *why = NULL;
  if (vm == NULL || vm->world == NULL)
    return mismatch_on_disk (disk);
  record_disk_match (disk, vm->world, &now, &why);
  return why;
}

/* Not only moved away: nothing of it is left, on any disk. */
static gboolean
is_gone (const Record *record)
{
  for (guint i = 0; i < record->disks->len; i++)
    if (g_file_test (record_disk (record, i)->new_file, G_FILE_TEST_EXISTS) ||
        g_file_test (record_disk (record, i)->old_file, G_FILE_TEST_EXISTS))
      return FALSE;
  return TRUE;
}

static gboolean
vm_is_busy (Exam *exam, const char *address)
{
  for (guint i = 0; i < exam->open->len; i++)
    if (g_strcmp0 (((Op *)exam->open->pdata[i])->vm, address) == 0)
      return TRUE;
  return FALSE;
}

/* Its disk has left the VM, and what was made beside it can be removed all the same. */
static gboolean
can_be_removed (const RecordDisk *disk)
{
  g_autofree char *why = NULL;
  return record_disk_is_beside (disk) && record_beside_is_there (disk, &why);
}

static void
exam_record (Exam *exam, ExamVm *vm, const Record *record)
{
  Json *finding = NULL;
  gboolean removable = TRUE;
  for (guint i = 0; i < record->disks->len; i++) {
    RecordDisk *disk = record_disk (record, i);
    g_autofree char *why = mismatch (vm, disk);
    if (why == NULL)
      continue;
    removable &= can_be_removed (disk);
    if (finding == NULL)
      finding =
          exam_find (exam, FOUND_WARNING, "snapshot-record", vm, NULL,
                     "snapshot '%s' on record does not match the chain any more", record->name);
    finding_shows (finding, "disk '%s': %s", disk->disk, why);
  }
  if (finding == NULL)
    return;
  g_autofree char *command =
      shell_words ("rechain", "snapshot", "delete", vm ? vm->name : record->vm, record->name,
                   removable ? NULL : "--metadata-only", NULL);
  finding_cure (finding, command,
                removable ? "remove it, unless its disk comes back"
                          : "drop the record, unless its layers come back");
  if (is_gone (record))
    finding_repair (exam, finding, NULL, record->name, "record",
                    json_make ("vm", json_str (record->vm), "name", json_str (record->name), NULL));
}

void
exam_records (Exam *exam)
{
  for (guint i = 0; exam->records != NULL && i < exam->records->len; i++) {
    Record *record = exam->records->pdata[i];
    ExamVm *vm = exam_vm_at (exam, record->vm);
    for (guint k = 0; k < record->disks->len; k++) {
      exam_use (exam, record_disk (record, k)->old_file);
      exam_use (exam, record_disk (record, k)->new_file);
    }
    if (exam_wants (exam, record->vm) && !vm_is_busy (exam, record->vm))
      exam_record (exam, vm, record);
  }
}
