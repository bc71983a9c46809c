/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/plan-private.h"

#include "jobs/migration.h"
#include "src/common/source.h"

#include <unistd.h>

/* QEMU 7.2: mirror-like jobs may start while writes are in flight (upstream da93d5c84e). */
#define FIRST_SAFE_START 70200u

static gboolean
fill_from_vm (Plan *plan, const Request *request, GError **error)
{
  Op *op = plan->op;
  QmpClient *client = plan->context.client;
  op_set_vm (op, client);
  op->mask_protocol = qmp_features_has (plan->context.features, FEATURE_STREAM_MASK_PROTOCOL);
  op->old_reopen = !qmp_features_has (plan->context.features, FEATURE_BLOCKDEV_REOPEN);
  op->migration = migration_mark (world_migration (plan->context.world));
  op->start_held = qmp_client_get_version (client) < FIRST_SAFE_START;
  op->max_freeze_ms = request->max_freeze_ms;
  op->agent = g_strdup (request->agent);
  op->was_running = world_running (plan->context.world);
  plan_add_notes (op);
  GError *unreadable = NULL;
  plan->records = records_list (plan->journal, op->vm, &unreadable);
  if (unreadable != NULL) {
    g_propagate_error (error, unreadable);
    return FALSE;
  }
  if (!plan_check_vm (&plan->context, request, error) || !plan_check_freezable (op, error) ||
      !plan_name_snapshot (op, request, plan->records, error))
    return FALSE;
  if (request->kind == OP_QUIESCE)
    return plan_check_none_open (plan->journal, op->vm, error);
  if (request->kind == OP_SNAPSHOT_DELETE)
    return plan_add_deletion (plan, error);
  if (request->disks->len == 0 && request->kind != OP_SNAPSHOT)
    return fail (error, USAGE, "no disk is named");
  for (guint i = 0; i < request->disks->len; i++) {
    RequestDisk *wanted = request->disks->pdata[i];
    if (wanted->left_out)
      continue;
    if ((request->kind == OP_MOVE || request->kind == OP_COPY) && wanted->to == NULL)
      return fail (error, USAGE, "disk '%s': no target is named (to=FILE)", wanted->disk);
    if (!plan_add_disk (plan, wanted, error))
      return FALSE;
  }
  return !(request->disks->len == 0 || request->all_others) || plan_add_all (plan, error);
}

/* ---- offline --------------------------------------------------------------------------------- */

static gboolean
add_offline (Plan *plan, const RequestDisk *wanted, const char *name, GError **error)
{
  Op *op = plan->op;
  if (!plan_add_offline (op, plan->request, wanted, name, plan->journal, error))
    return FALSE;
  OpDisk *disk = op_disk (op, op->disks->len - 1);
  op->on_record |= records_touch (plan->records, op, disk);
  return plan_finish_disk (op, disk, NULL, error);
}

static gboolean
add_drop_offline (Plan *plan, const Record *record, const RecordDisk *from, GError **error)
{
  const RequestDisk wanted = {.disk = from->new_file, .format = from->new_format};
  g_autofree char *why = NULL;
  if (!record_beside_is_there (from, &why))
    return fail (error, REFUSED, "disk '%s': %s", from->disk, why);
  OpDisk *disk = access (from->new_file, F_OK) == 0
                     ? plan_look_offline (plan->op, &wanted, from->disk, error)
                     : plan_gone_disk (plan->op, from);
  if (disk == NULL || !record_check_no_layer (from, from->disk, disk->before, error) ||
      !plan_beside_deletion (disk, record, from, error))
    return prefix (error, "disk '%s'", from->disk);
  op_name_disk (plan->op, disk);
  return TRUE;
}

/* The name of the disk that the @nth merge of @record is of. */
static const char *
name_of_merge (Record *record, guint nth)
{
  for (guint i = 0; i < record->disks->len; i++)
    if (!record_disk_is_beside (record_disk (record, i)) && nth-- == 0)
      return record_disk (record, i)->disk;
  return NULL;
}

static gboolean
add_deletion_offline (Plan *plan, GError **error)
{
  Op *op = plan->op;
  Record *record;
  if (plan->request->name == NULL)
    return fail (error, USAGE, "no snapshot is named");
  Request *merges = plan_deletion_offline (plan->request, plan->records, &record, error);
  gboolean ok = merges != NULL;
  op->name = g_strdup (plan->request->name);
  op->on_record = TRUE;
  for (guint i = 0; ok && i < merges->disks->len; i++)
    ok = add_offline (plan, merges->disks->pdata[i], name_of_merge (record, i), error);
  for (guint i = 0; ok && i < record->disks->len; i++)
    if (record_disk_is_beside (record_disk (record, i)))
      ok = add_drop_offline (plan, record, record_disk (record, i), error);
  g_ptr_array_insert (
      op->notes, 0,
      g_strdup_printf ("the VM '%s' is off: its images are worked on", plan->context.vm));
  request_free (merges);
  return ok;
}

static gboolean
fill_offline (Plan *plan, const Request *request, GError **error)
{
  gboolean deletes = request->kind == OP_SNAPSHOT_DELETE;
  plan->records = records_list (plan->journal, deletes ? plan->context.vm : NULL, error);
  if (plan->records == NULL)
    return FALSE;
  if (deletes)
    return add_deletion_offline (plan, error);
  if (request->disks->len != 1)
    return fail (error, USAGE, "an offline operation takes one image");
  return add_offline (plan, request->disks->pdata[0], NULL, error);
}

static gboolean
fill (Plan *plan, const Request *request, GError **error)
{
  Op *op = plan->op;
  op->flags = request->flags;
  op->bandwidth = request->bandwidth;
  op->timeout_ms = request->timeout_ms;
  op->max_pause_ms = request->max_pause_ms;
  op->grow_step = request->grow_step;
  GError *unreadable = NULL;
  plan->journal = journal_open_to_read (plan->context.state_dir, &unreadable);
  if (unreadable != NULL) {
    g_propagate_error (error, unreadable);
    return FALSE;
  }
  if (plan->context.client == NULL && op->grow_step > 0)
    return fail (error, USAGE, "--grow-lv goes with a running VM only");
  if (plan->context.client != NULL)
    return fill_from_vm (plan, request, error) && plan_check_grows (op, error);
  return fill_offline (plan, request, error);
}

/* ---- making ---------------------------------------------------------------------------------- */

gboolean
plan_tell (gpointer data)
{
  Plan *plan = data;
  if (plan->error == NULL)
    plan_check_space (plan->op, &plan->error);
  if (plan->error == NULL)
    plan_check_groups (plan->op, &plan->error);
  gboolean merges = op_is_offline (plan->op) && plan->op->kind != OP_ALLOCATE;
  for (guint i = 0; merges && plan->error == NULL && i < plan->op->disks->len; i++)
    if (!op_disk_is_beside (op_disk (plan->op, i)))
      plan_bitmaps_offline (plan->op, op_disk (plan->op, i), plan->bitmaps, &plan->error);
  if (plan->error != NULL)
    g_clear_pointer (&plan->op, op_free);
  plan->callback (plan->op, plan->error, plan->data);
  g_clear_error (&plan->error);
  g_clear_pointer (&plan->journal, journal_close);
  g_clear_pointer (&plan->records, g_ptr_array_unref);
  g_clear_pointer (&plan->bitmaps, json_clear);
  g_free (plan);
  return G_SOURCE_REMOVE;
}

void
plan_make (const PlanContext *context, const Request *request, PlanReady callback, gpointer data)
{
  Plan *plan = g_new0 (Plan, 1);
  *plan = (Plan){.context = *context,
                 .request = request,
                 .op = op_new (request->kind),
                 .callback = callback,
                 .data = data};
  if (!fill (plan, request, &plan->error) || !plan_ask_around (plan)) {
    source_soon (plan_tell, plan, NULL);
  }
}

/* ---- printing -------------------------------------------------------------------------------- */

/* Appends to the lists in @row. */
static void
print_asks (const Step *step, Op *op, OpDisk *disk, Json *row)
{
  g_autoptr (GPtrArray) asks = step_asks (step, op, disk, NULL);
  for (guint i = 0; i < asks->len; i++) {
    Ask *ask = asks->pdata[i];
    if (ask->command != NULL)
      json_append (json_get (row, "qmp"), ask_to_qmp (ask));
    else if (ask->agent != NULL)
      json_append (json_get (row, "agent"), ask_to_qmp (ask));
    else if (ask->argv != NULL) {
      Json *words = json_array ();
      for (char **word = ask->argv; *word != NULL; word++)
        json_append (words, json_str (*word));
      json_append (json_get (row, "argv"), words);
    } else if (ask->says != NULL)
      json_append (json_get (row, "local"), json_str (ask->says));
  }
}

Json *
plan_steps_to_json (Op *op)
{
  Json *all = json_array ();
  for (const Step *step = steps_of (op); step->name != NULL; step++) {
    if (step->applies != NULL && !step->applies (op))
      continue;
    Json *row = json_make ("step", json_str (step->name), "kind",
                           json_str (step_kind_name (step->kind)), "says", json_str (step->says),
                           "qmp", json_array (), "argv", json_array (), "local", json_array (),
                           "agent", json_array (), "undo", json_str (step->undo_says), NULL);
    for (guint i = 0; i < (step->once ? 1 : op->disks->len); i++)
      print_asks (step, op, step->once ? NULL : op_disk (op, i), row);
    json_append (all, row);
  }
  return all;
}
