/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QEMU of an operation is gone, under a running one or before it is recovered: the runner goes
 * on with the tables of op-dead.c, which work on the files. A process that is gone stays gone,
 * whoever listens at its address now. */
#include "jobs/op-repair.h"
#include "jobs/op-volume.h"
#include "jobs/overlay.h"
#include "jobs/run-private.h"
#include "src/common/process.h"

/* Of a volume that has no chain on record, itself; of a repair, one of the VM's. Nullable. */
static const char *
active_file (OpDisk *disk)
{
  ChainLayer *active = op_disk_layer (disk, 0);
  return active ? active->file : disk->to ? disk->to : json_get_str (disk->details, "witness");
}

gboolean
op_layers_are_open (const Op *op)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op->disks->pdata[i];
    g_auto (GStrv) planned = op_disk_planned_chain (disk);
    const char *files[] = {active_file (disk), planned[0]};
    for (guint k = 0; k < G_N_ELEMENTS (files); k++)
      if (files[k] != NULL && file_has_writer (files[k]))
        return TRUE;
  }
  return FALSE;
}

/* A layer that was removed, or put in another one's place, under a QEMU has no locks to ask for: only the process
 * can tell then. */
static gboolean
locks_cannot_tell (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    FileId id;
    gboolean exists = TRUE;
    g_autofree char *active = op_disk_is_beside (disk) ? NULL : op_disk_active_file (op, disk);
    if (active == NULL || active[0] != '/' || !file_identify (active, &id, &exists, NULL))
      continue;
    gboolean ours = disk->made && g_strcmp0 (active, disk->to) == 0;
    if (!exists || (ours && !file_id_equal (id, disk->id)))
      return TRUE;
  }
  return FALSE;
}

/* Whoever listens at its monitor may be no more than a relay, and its process not of this host. */
gboolean
op_qemu_is_gone (Op *op)
{
  gboolean other = op->rebooted || process_start_time (op->qemu_pid) != op->qemu_start;
  return op->dead || (op->qemu_pid > 0 && other) || (op->locks && !op_layers_are_open (op) && !locks_cannot_tell (op));
}

void
op_forget_qemu (Op *op)
{
  op->dead = TRUE;
  op->held = op->frozen = FALSE; /* with the guest */
  op->frozen_us = 0;
}

/* The snapshot was asked for, and the guest does not run without it: every new layer is a good
 * active layer, whether QEMU got to it or not. Not where nothing was written since to any of them
 * and a guest was started from the old files, as if nothing had been. */
static gboolean
snapshot_stands (Op *op)
{
  gboolean used = FALSE, empty = TRUE;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if (op_disk_is_beside (disk))
      continue;
    used = used || file_has_writer (active_file (disk));
    empty = empty && overlay_is_empty (disk->to);
  }
  return op->switched && !op->thawed_early && !(used && empty);
}

/* Copying cannot go on without QEMU; what is decided can be brought to its end. */
static gboolean
goes_on (Runner *runner)
{
  Op *op = runner->op;
  if (op->decided != DECIDED_NOTHING)
    return op->decided == DECIDED_NEW;
  if (op->kind == OP_VOL_RESIZE || op->kind == OP_REPAIR)
    return op->state != OP_UNDOING && (op->kind == OP_REPAIR || volume_was_resized (op));
  return op->state != OP_UNDOING && runner->recover != RUN_BACK && op->kind == OP_SNAPSHOT &&
         snapshot_stands (op);
}

gboolean
dead_may_finish (Op *op, GError **error)
{
  if (op->decided == DECIDED_NEW || op->state == OP_UNDOING ||
      (op->kind == OP_SNAPSHOT && op->switched) ||
      (op->kind == OP_VOL_RESIZE && volume_was_resized (op)) || op->kind == OP_REPAIR)
    return TRUE;
  fail (error, REFUSED, "operation %s cannot be finished, since its QEMU is gone", op->id);
  return hint (error, "rechain recover --op %s takes it back", op->id);
}

static const Step *
table_of (Op *op, gboolean on)
{
  if (op->kind == OP_VOL_RESIZE)
    return dead_resize_steps;
  if (op->kind == OP_REPAIR)
    return dead_repair_steps;
  return on ? dead_on_steps : dead_back_steps;
}

gboolean
runner_settle_files (Runner *runner)
{
  Op *op = runner->op;
  op_forget_qemu (op);
  gboolean on = goes_on (runner);
  if (!on && (op->flags & OP_NO_UNDO) && !runner->resumed)
    return FALSE;
  runner->main = (Cursor){.steps = table_of (op, on), .back = !on};
  if (!on)
    runner->main.at = (int)steps_count (runner->main.steps) - 1;
  runner->in_fold = runner->lost = FALSE;
  runner->turn_at = -1;
  runner->tries = 0;
  runner->resumed = TRUE;
  g_clear_error (&runner->failure);
  g_clear_pointer (&runner->world, world_free);
  if (on)
    g_clear_error (&op->error);
  runner_note (runner, NULL, "note", "its QEMU is gone: what is left to do is done on the files");
  op_set_state (op, on ? OP_FINISHING : OP_UNDOING);
  runner_begin_step (runner);
  return TRUE;
}
