/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is left of operations in a running QEMU, and in which state its guest is. */
#include "src/lib/doctor-private.h"

#include "jobs/status.h"

#include <string.h>
#include <sys/stat.h>

/* What the journal says of the operation that a name carries. */
typedef enum { OP_IS_UNKNOWN, OP_IS_OPEN, OP_IS_OVER } OpIs;

static OpIs
look_up (Exam *exam, Json *finding, const char *id, Op **ret_op)
{
  *ret_op = exam_op (exam, id);
  if (*ret_op == NULL) {
    finding_shows (finding, "operation %s is not in this journal", id);
    return OP_IS_UNKNOWN;
  }
  finding_shows (finding, "operation %s (%s) is %s", id, op_kind_name ((*ret_op)->kind),
                 op_state_name ((*ret_op)->state));
  return op_has_ended (*ret_op) ? OP_IS_OVER : OP_IS_OPEN;
}

/* Of one that is open its own finding tells, and recovery takes it away. Full: its id. */
static char *
left_by (Exam *exam, const char *name)
{
  g_autofree char *id = id_of_name (name);
  g_autoptr (Op) op = exam_op (exam, id);
  return id != NULL && (op == NULL || op_has_ended (op)) ? g_steal_pointer (&id) : NULL;
}

static gboolean
may_repair (ExamVm *vm)
{
  return rechain_vm_get_link (vm->vm)->borrowed_from == NULL;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void
exam_jobs (Exam *exam, ExamVm *vm)
{
  GPtrArray *jobs = world_jobs (vm->world);
  for (guint i = 0; i < jobs->len; i++) {
    ChainJob *job = jobs->pdata[i];
    g_autofree char *id = left_by (exam, job->id);
    g_autoptr (Op) op = NULL;
    if (id == NULL)
      continue;
    Json *finding = exam_find (exam, FOUND_ERROR, "job", vm, NULL, "job '%s' (%s, %s) is left over",
                               job->id, job->type, job->status);
    OpIs is = look_up (exam, finding, id, &op);
    g_autofree char *command = shell_words ("rechain", "job", "cancel", vm->name, job->id, NULL);
    finding_cure (finding, command, "cancel it%s",
                  is == OP_IS_UNKNOWN ? ", unless another rechain is at work there" : "");
    if (is == OP_IS_OVER && may_repair (vm))
      finding_repair (exam, finding, vm, job->id, "job", NULL)->job = g_strdup (job->id);
  }
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* The disk's own active layer, whose device was unplugged: somebody may plug it in again. */
static gboolean
is_result (Op *op, const char *node)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if ((op->state == OP_DONE && !disk->apart && g_strcmp0 (disk->node, node) == 0) ||
        (disk->old_node && g_str_has_prefix (node, disk->old_node)))
      return TRUE;
  }
  return FALSE;
}

static void
exam_node (Exam *exam, ExamVm *vm, const char *node)
{
  g_autoptr (GPtrArray) users = world_users_of_node (vm->world, node, NULL);
  g_autofree char *id = left_by (exam, node);
  g_autoptr (Op) op = NULL;
  if (id == NULL || users->len > 0 || world_node_parents (vm->world, node) > 0)
    return;
  const char *file = world_node_file (vm->world, node);
  Json *finding = exam_find (exam, FOUND_WARNING, "node", vm, NULL,
                             "node '%s' is left over: no device, job or export uses it", node);
  if (file != NULL)
    finding_shows (finding, "it has '%s' open", file);
  OpIs is = look_up (exam, finding, id, &op);
  finding_cure (finding, NULL, "close it (QMP: blockdev-del {\"node-name\":\"%s\"})", node);
  if (is == OP_IS_OVER && is_result (op, node))
    finding_shows (finding, "it was the active layer of a disk; the device may come back");
  else if (is == OP_IS_OVER && may_repair (vm)) {
    g_autofree char *command = repair_command (vm);
    finding_cure (finding, command, "close it");
    finding_repair (exam, finding, vm, node, "node", json_make ("node", json_str (node), NULL));
  }
}

static void
exam_nodes (Exam *exam, ExamVm *vm)
{
  g_autoptr (GPtrArray) nodes = world_nodes_with_prefix (vm->world, "rc-");
  for (guint i = 0; i < nodes->len; i++)
    exam_node (exam, vm, nodes->pdata[i]);
}

/* ---- exports and their server ---------------------------------------------------------------- */

static void
exam_export (Exam *exam, ExamVm *vm, ChainDisk *disk, const char *export)
{
  g_autofree char *id = left_by (exam, export);
  g_autoptr (Op) op = NULL;
  if (id == NULL)
    return;
  Json *finding = exam_find (exam, FOUND_ERROR, "export", vm, disk->name,
                             "block export '%s' of disk '%s' is left over", export, disk->name);
  OpIs is = look_up (exam, finding, id, &op);
  g_autofree char *command = repair_command (vm);
  finding_cure (finding, is == OP_IS_OVER ? command : NULL,
                "remove it (QMP: block-export-del {\"id\":\"%s\",\"mode\":\"hard\"})", export);
  if (is == OP_IS_OVER && may_repair (vm))
    finding_repair (exam, finding, vm, export, "export", NULL)->export = g_strdup (export);
}

static void
exam_exports (Exam *exam, ExamVm *vm)
{
  GPtrArray *disks = world_disks (vm->world);
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *disk = disks->pdata[i];
    for (guint k = 0; k < disk->exports->len; k++)
      exam_export (exam, vm, disk, disk->exports->pdata[k]);
  }
}

/* ---- bitmaps --------------------------------------------------------------------------------- */

static gboolean
has_bitmap (ExamVm *vm, OpDisk *disk, const char *name)
{
  Json *all = world_node_bitmaps (vm->world, disk->node);
  for (gsize i = 0; i < json_length (all); i++)
    if (g_strcmp0 (json_get_str (json_at (all, i), "name"), name) == 0)
      return TRUE;
  return FALSE;
}

/* Added to a layer for an operation that was then taken back. Nobody can tell ours from one that
 * was made since under the same name, so it is only named. */
static void
exam_bitmaps_of (Exam *exam, ExamVm *vm, Op *op)
{
  for (guint i = 0; op->state == OP_UNDONE && i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    for (gsize k = 0; k < json_length (disk->bitmaps); k++) {
      Json *bitmap = json_at (disk->bitmaps, k);
      const char *name = json_get_str (bitmap, "name");
      if (!json_get_bool (bitmap, "add") || !has_bitmap (vm, disk, name))
        continue;
      Json *finding =
          exam_find (exam, FOUND_NOTE, "bitmap", vm, disk->name,
                     "dirty bitmap '%s' of node '%s' may be left over", name, disk->node);
      finding_shows (finding, "operation %s (%s), which was undone, had added one of that name",
                     op->id, op_kind_name (op->kind));
      finding_cure (finding, NULL,
                    "if no backup uses it (QMP: block-dirty-bitmap-remove "
                    "{\"node\":\"%s\",\"name\":\"%s\"})",
                    disk->node, name);
    }
  }
}

/* In use when QEMU died: it cannot tell what was written since, so no backup can build on it. QEMU
 * neither enables, nor merges, nor exports one again. */
static void
inconsistent_bitmap (Exam *exam, ExamVm *vm, ChainDisk *disk, const ChainLayer *layer,
                     const char *name)
{
  Json *finding = exam_find (exam, FOUND_WARNING, "bitmap", vm, disk->name,
                             "dirty bitmap '%s' of '%s' is inconsistent", name,
                             layer->file ? layer->file : "?");
  finding_shows (finding,
                 "QEMU was not ended in order while it recorded in it; the next backup has to be "
                 "a full one");
  if (layer->read_only) {
    g_autofree char *command =
        layer->file && layer->file[0] == '/'
            ? shell_words ("qemu-img", "bitmap", "--remove", "-f", "qcow2", layer->file, name, NULL)
            : NULL;
    finding_shows (finding, "node '%s' is read-only, so QEMU cannot remove it", layer->node);
    finding_cure (finding, command, "end the VM, then remove it");
    return;
  }
  g_autofree char *command = repair_command (vm);
  finding_cure (finding, command,
                "remove it (QMP: block-dirty-bitmap-remove {\"node\":\"%s\",\"name\":\"%s\"})",
                layer->node, name);
  if (may_repair (vm))
    finding_repair (exam, finding, vm, name, "bitmap",
                    json_make ("node", json_str (layer->node), "name", json_str (name), NULL));
}

static void
exam_inconsistent_bitmaps (Exam *exam, ExamVm *vm)
{
  GPtrArray *disks = world_disks (vm->world);
  for (guint d = 0; d < disks->len; d++) {
    ChainDisk *disk = disks->pdata[d];
    for (guint i = 0; i < disk->layers->len; i++) {
      const ChainLayer *layer = disk->layers->pdata[i];
      Json *all = layer->node ? world_node_bitmaps (vm->world, layer->node) : NULL;
      for (gsize k = 0; k < json_length (all); k++)
        if (json_get_bool (json_at (all, k), "inconsistent") &&
            json_get_str (json_at (all, k), "name") != NULL)
          inconsistent_bitmap (exam, vm, disk, layer, json_get_str (json_at (all, k), "name"));
    }
  }
}

static void
exam_bitmaps (Exam *exam, ExamVm *vm)
{
  g_auto (GStrv) ids =
      exam->journal ? journal_list (exam->journal, FALSE, vm->address, NULL) : NULL;
  for (guint i = 0; ids != NULL && ids[i] != NULL; i++) {
    g_autoptr (Op) op = exam_op (exam, ids[i]);
    if (op != NULL && op_ran_on (op, vm))
      exam_bitmaps_of (exam, vm, op);
  }
}

/* ---- the guest ------------------------------------------------------------------------------- */

static void
exam_io_error (Exam *exam, ExamVm *vm)
{
  GPtrArray *disks = world_disks (vm->world);
  gboolean nospace = FALSE;
  if (!g_str_equal (world_run_state (vm->world), "io-error"))
    return;
  Json *finding = exam_find (exam, FOUND_ERROR, "guest-stopped", vm, NULL,
                             "QEMU stopped the guest after an I/O error");
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *disk = disks->pdata[i];
    if (disk->io_status == NULL || g_str_equal (disk->io_status, "ok"))
      continue;
    nospace |= g_str_equal (disk->io_status, "nospace");
    finding_shows (finding, "disk '%s': %s, active layer '%s'", disk->name, disk->io_status,
                   disk->layers->len ? ((ChainLayer *)disk->layers->pdata[0])->file : "?");
  }
  finding_cure (finding, NULL, "%s, then continue the guest (QMP: cont)",
                nospace ? "make room" : "mend the storage");
}

/* Frozen by an operation that is open: that one's finding says so. */
static void
exam_frozen (Exam *exam, ExamVm *vm)
{
  if (!vm->frozen)
    return;
  for (guint i = 0; i < exam->open->len; i++)
    if (g_strcmp0 (((Op *)exam->open->pdata[i])->vm, vm->address) == 0)
      return;
  g_auto (GStrv) ids =
      exam->journal ? journal_list (exam->journal, FALSE, vm->address, NULL) : NULL;
  g_autofree char *command = shell_words ("rechain", "thaw", vm->name, NULL);
  Json *finding = exam_find (exam, FOUND_WARNING, "guest-frozen", vm, NULL,
                             "the guest's filesystems are frozen");
  finding_shows (finding, "its agent says so, and its writes stand still");
  for (guint i = 0; ids != NULL && ids[i] != NULL; i++) {
    g_autoptr (Op) op = exam_op (exam, ids[i]);
    if (op == NULL || op->kind != OP_QUIESCE || op->state != OP_DONE || !op_ran_on (op, vm))
      continue;
    finding_shows (finding, "operation %s (quiesce) froze them, as asked", op->id);
    break;
  }
  finding_cure (finding, command, "thaw them, unless somebody is taking a backup");
}

static void
exam_unreachable (Exam *exam, ExamVm *vm)
{
  const char *cause = rechain_error_get_cause (vm->error);
  const char *advice = rechain_error_get_hint (vm->error);
  Json *finding =
      exam_find (exam, FOUND_ERROR, "monitor", vm, NULL, "VM '%s' cannot be looked at", vm->name);
  finding_shows (finding, "%s", vm->error->message);
  if (cause != NULL)
    finding_shows (finding, "%s", cause);
  finding_cure (finding, NULL, "%s", advice ? advice : "is its monitor held by another program?");
}

void
exam_vm (Exam *exam, ExamVm *vm)
{
  if (vm->world == NULL) {
    if (!vm->off)
      exam_unreachable (exam, vm);
    return;
  }
  exam_io_error (exam, vm);
  exam_frozen (exam, vm);
  exam_jobs (exam, vm);
  exam_exports (exam, vm);
  exam_nodes (exam, vm);
  exam_inconsistent_bitmaps (exam, vm);
  exam_bitmaps (exam, vm);
}
