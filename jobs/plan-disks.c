/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The disks of an operation on a running VM: what was asked for, against what QEMU shows. */
#include "jobs/plan-private.h"

#include "jobs/bitmaps.h"
#include "jobs/blocks-unlock.h"
#include "jobs/forecast.h"
#include "src/common/fs.h"

#include <string.h>

/* ---- one disk -------------------------------------------------------------------------------- */

static char *
stem_of (const char *file)
{
  static const char *const endings[] = {".qcow2", ".img", ".raw", ".qcow"};
  for (gsize i = 0; i < G_N_ELEMENTS (endings); i++)
    if (g_str_has_suffix (file, endings[i]))
      return g_strndup (file, strlen (file) - strlen (endings[i]));
  return g_strdup (file);
}

/* Beside the active image, named after it and the snapshot. */
static char *
default_target (Op *op, ChainLayer *active)
{
  g_autofree char *stem = stem_of (active->file);
  return g_strdup_printf ("%s.%s.qcow2", stem, op->name);
}

static gboolean
choose_base (OpDisk *disk, const RequestDisk *wanted, OpKind kind, GError **error)
{
  int none = (int)disk->before->len;
  if (kind == OP_SNAPSHOT)
    disk->base = 0;
  else if (wanted->base == NULL)
    disk->base = MIN (1, none);
  else if (g_str_equal (wanted->base, "none"))
    disk->base = none;
  else
    disk->base = chain_find_layer (disk->before, wanted->base, error);
  if (disk->base < 0)
    return prefix (error, "base of disk '%s'", disk->name);
  if (kind == OP_MOVE && disk->base == 0) {
    fail (error, REFUSED, "base of disk '%s': '%s' is its active layer", disk->name, wanted->base);
    return hint (error, "the base must lie under the active layer; 'none' copies everything");
  }
  return TRUE;
}

char *
plan_backing_name (Op *op, const char *overlay, const char *file)
{
  if (file[0] != '/')
    return g_strdup (file);
  return (op->flags & OP_RELATIVE) ? path_relative (overlay, file) : g_strdup (file);
}

/* A new active layer that is backed by the old one, at first. */
static gboolean
plan_overlay_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  ChainLayer *active = disk->before->pdata[0];
  if (wanted->format != NULL && !g_str_equal (wanted->format, "qcow2")) {
    fail (error, REFUSED, "disk '%s': the new layer cannot be '%s'", disk->name, wanted->format);
    return hint (error, "an overlay is qcow2; 'copy' is the operation that changes formats");
  }
  if (!choose_base (disk, wanted, op->kind, error))
    return FALSE;
  disk->mode = op->kind == OP_MOVE ? MODE_STREAM : MODE_NONE;
  disk->receiver = g_strdup (disk->to);
  disk->header = g_strdup (disk->to);
  disk->backing_first = plan_backing_name (op, disk->to, active->file);
  if ((guint)disk->base >= disk->before->len)
    return TRUE;
  ChainLayer *base = disk->before->pdata[disk->base];
  disk->backing = plan_backing_name (op, disk->to, base->file);
  disk->backing_format = g_strdup (base->format);
  return TRUE;
}

static gboolean
remember_dropped (OpDisk *disk, GError **error)
{
  for (int i = disk->first; i < disk->base; i++) {
    FileId id = {0};
    gboolean exists;
    const char *file = ((ChainLayer *)disk->before->pdata[i])->file;
    if (file[0] == '/' && !file_identify (file, &id, &exists, error))
      return FALSE;
    g_ptr_array_add (disk->old_ids, g_memdup2 (&id, sizeof id));
  }
  return TRUE;
}

static gboolean
find_free_space (OpDisk *disk, GError **error)
{
  const char *format = disk->to_format ? disk->to_format : "qcow2";
  for (guint i = 0; disk->to == NULL && i < disk->before->len; i++)
    if (g_strcmp0 (op_disk_layer (disk, (int)i)->file, disk->receiver) == 0)
      format = op_disk_layer (disk, (int)i)->format;
  return receiver_free_space (disk->receiver, format, disk->to != NULL, &disk->free, error);
}

gboolean
plan_finish_disk (Op *op, OpDisk *disk, World *world, GError **error)
{
  return remember_dropped (disk, error) && plan_check_dropped (op, disk, world, error) &&
         find_free_space (disk, error);
}

static OpDisk *
new_disk (Op *op, ChainDisk *found, World *world)
{
  OpDisk *disk = op_add_disk (op, found->name);
  ChainLayer *active = found->layers->pdata[0];
  disk->qdev = g_strdup (found->qdev);
  disk->drive = g_strdup (found->drive);
  for (guint i = 0; i < found->layers->len; i++)
    g_ptr_array_add (disk->before, chain_layer_copy (found->layers->pdata[i]));
  if (g_strcmp0 (found->root_node, active->node) != 0)
    disk->attach_to = g_strdup (found->root_node);
  disk->cache = world_node_cache (world, active->node);
  return disk;
}

/* Map and the like: the chain stays, so that what is said of a new layer does not matter. */
static gboolean
add_region_disk (Plan *plan, ChainDisk *found, const RequestDisk *wanted, GError **error)
{
  if (!plan_check_region_disk (&plan->context, plan->op->kind, plan->journal, found, error))
    return FALSE;
  OpDisk *disk = new_disk (plan->op, found, plan->context.world);
  if (plan->op->flags & OP_DETACH_BACKING) {
    plan->op->on_record |= records_touch (plan->records, plan->op, disk);
    if (!plan_detach (plan->op, disk, wanted, plan->context.world, error) ||
        !remember_dropped (disk, error))
      return FALSE;
  }
  op_name_disk (plan->op, disk);
  return plan_add_regions (plan->op, disk, &plan->context, found, wanted, error);
}

/* What is made lies beside the chain. */
static gboolean
add_beside (Plan *plan, ChainDisk *found, const RequestDisk *wanted, GError **error)
{
  Op *op = plan->op;
  OpDisk *disk = new_disk (op, found, plan->context.world);
  if (!plan_beside_disk (op, disk, wanted, plan->request, error))
    return FALSE;
  op_name_disk (op, disk);
  return plan_check_beside (op, disk, error);
}

static gboolean
is_in (Op *op, const char *disk)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (g_str_equal (op_disk (op, i)->name, disk))
      return TRUE;
  return FALSE;
}

/* The file that is to be made, if any. */
static gboolean
choose_target (Plan *plan, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  if (wanted->to != NULL)
    disk->to = plan_target (plan->request, wanted, error);
  else if (plan->op->kind == OP_SNAPSHOT)
    disk->to = default_target (plan->op, disk->before->pdata[0]);
  return wanted->to == NULL || disk->to != NULL;
}

/* Its chain gets or loses layers. */
static gboolean
add_layers_disk (Plan *plan, ChainDisk *found, const RequestDisk *wanted, GError **error)
{
  Op *op = plan->op;
  World *world = plan->context.world;
  if (wanted->device != NULL || wanted->size != NULL || wanted->subvolume != NULL) {
    fail (error, USAGE, "disk '%s': device, size and subvolume go with a method", wanted->disk);
    return hint (error, "add method=lvm or method=btrfs");
  }
  OpDisk *disk = new_disk (op, found, world);
  disk->on_delete = merge_direction_parse (wanted->on_delete);
  if (!choose_target (plan, disk, wanted, error))
    return FALSE;
  op->on_record |= op->kind != OP_SNAPSHOT && records_touch (plan->records, op, disk);
  gboolean planned = disk->to == NULL      ? plan_merge_disk (op, disk, wanted, world, error)
                     : op->kind == OP_COPY ? plan_copy_disk (op, disk, wanted, error)
                                           : plan_overlay_disk (op, disk, wanted, error);
  if (!planned)
    return FALSE;
  op_name_disk (op, disk);
  plan_bitmaps (op, disk, &(BitmapSource){.world = world});
  if (disk->mode == MODE_STREAM && disk->to == NULL &&
      !plan_check_subclusters (&plan->context, disk, disk->receiver, error))
    return FALSE;
  if (disk->to == NULL && writes_to_locked (disk))
    op->unlocks = TRUE;
  return (disk->to == NULL || plan_check_target (op, disk, world, error)) &&
         plan_finish_disk (op, disk, world, error) &&
         plan_grow_disk (op, disk, plan->request, world, error);
}

gboolean
plan_add_disk (Plan *plan, const RequestDisk *wanted, GError **error)
{
  Op *op = plan->op;
  ChainDisk *found = world_find_disk (plan->context.world, wanted->disk, error);
  if (found == NULL)
    return FALSE;
  if (is_in (op, found->name))
    return fail (error, USAGE, "disk '%s' is named twice", found->name);
  if (op_has_regions (op))
    return add_region_disk (plan, found, wanted, error);
  if (!plan_check_disk (found, plan->journal, op->vm, error))
    return FALSE;
  if (plan_is_beside (wanted))
    return add_beside (plan, found, wanted, error);
  return add_layers_disk (plan, found, wanted, error);
}

/* ---- several --------------------------------------------------------------------------------- */

gboolean
plan_add_all (Plan *plan, GError **error)
{
  GPtrArray *disks = world_disks (plan->context.world);
  g_autoptr (GPtrArray) left_out = g_ptr_array_new_with_free_func (g_free);
  if (!plan_find_left_out (plan->request, plan->context.world, left_out, error))
    return FALSE;
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *found = disks->pdata[i];
    RequestDisk all = {.disk = found->name};
    if (is_in (plan->op, found->name) ||
        g_ptr_array_find_with_equal_func (left_out, found->name, g_str_equal, NULL))
      continue;
    if (found->inserted && !found->read_only && found->qdev != NULL &&
        !plan_add_disk (plan, &all, error))
      return FALSE;
  }
  if (plan->op->disks->len > 0)
    return TRUE;
  fail (error, NOT_FOUND, "the VM has no writable disk");
  return hint (error, "rechain chain shows what it has");
}

OpDisk *
plan_gone_disk (Op *op, const RecordDisk *from)
{
  const ChainLayer layer = {.file = from->new_file, .format = from->new_format};
  OpDisk *disk = op_add_disk (op, from->disk);
  g_ptr_array_add (disk->before, chain_layer_copy (&layer));
  return disk;
}

/* It lies beside a chain, which does not change. */
static gboolean
add_drop (Plan *plan, const Record *record, const RecordDisk *from, GError **error)
{
  Op *op = plan->op;
  ChainDisk *found = world_find_disk (plan->context.world, from->disk, NULL);
  if (!plan_check_not_taken (plan->journal, op->vm, from->disk, error))
    return FALSE;
  OpDisk *disk = found ? new_disk (op, found, plan->context.world) : plan_gone_disk (op, from);
  op->on_record = TRUE;
  if (!record_check_no_disks_layer (from, plan->context.world, error) ||
      !plan_beside_deletion (disk, record, from, error))
    return prefix (error, "disk '%s'", from->disk);
  op_name_disk (op, disk);
  return TRUE;
}

gboolean
plan_add_deletion (Plan *plan, GError **error)
{
  Request *merges = plan_deletion (plan->request, plan->records, plan->context.world, error);
  Record *record = merges ? records_find (plan->records, plan->request->name, error) : NULL;
  gboolean ok = record != NULL;
  for (guint i = 0; ok && i < merges->disks->len; i++)
    ok = plan_add_disk (plan, merges->disks->pdata[i], error);
  for (guint i = 0; ok && i < record->disks->len; i++)
    if (record_disk_is_beside (record_disk (record, i)))
      ok = add_drop (plan, record, record_disk (record, i), error);
  request_free (merges);
  return ok;
}
