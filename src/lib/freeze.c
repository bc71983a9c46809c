/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Freezing and thawing by themselves. A freeze is an operation of the journal, so that recovery
 * thaws where we die in the middle of it; a thaw can be asked for at any time, needs no record and
 * no monitor. */
#include "src/lib/lib-private.h"

#include "jobs/freeze.h"
#include "qmp/agent.h"

static Json *
document (const char *vm, const char *agent, gboolean frozen, gint64 filesystems, gboolean changed)
{
  return json_make ("schema", json_str ("rechain.quiesce/1"), "vm", json_str (vm), "agent",
                    json_str (agent), "state", json_str (frozen ? "frozen" : "thawed"),
                    "filesystems", filesystems >= 0 ? json_int (filesystems) : NULL, "changed",
                    json_flag (changed), NULL);
}

/* ---- quiesce --------------------------------------------------------------------------------- */

static void
on_quiesced (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainOperation *operation = RECHAIN_OPERATION (source);
  GError *error = NULL;
  if (!rechain_operation_run_finish (operation, result, &error)) {
    g_task_return_error (task, error);
    return;
  }
  Op *op = rechain_operation_get_op (operation);
  Json *told = document (op->vm, op->agent, TRUE, op->filesystems, TRUE);
  json_set (told, "operation", json_str (op->id));
  g_task_return_pointer (task, print_document (told), g_free);
}

static void
on_planned (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  g_autoptr (RechainOperation) operation =
      rechain_operation_plan_finish (RECHAIN_VM (source), result, &error);
  Op *op = operation ? rechain_operation_get_op (operation) : NULL;
  GCancellable *cancellable = g_task_get_cancellable (task);
  if (op == NULL)
    g_task_return_error (task, error);
  else if (op->was_frozen)
    g_task_return_pointer (task, print_document (document (op->vm, op->agent, TRUE, -1, FALSE)),
                           g_free);
  else
    rechain_operation_run_async (operation, cancellable, on_quiesced, g_steal_pointer (&task));
}

void
rechain_vm_quiesce_async (RechainVm *vm, const char *agent, guint64 max_freeze_ms,
                          GCancellable *cancellable, GAsyncReadyCallback callback,
                          gpointer user_data)
{
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_QUIESCE);
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  g_task_set_check_cancellable (task, FALSE); /* the operation says itself how it ended */
  rechain_request_set_agent (request, agent);
  if (max_freeze_ms > 0)
    rechain_request_set_max_freeze (request, max_freeze_ms);
  rechain_operation_plan_async (vm, request, cancellable, on_planned, task);
}

char *
rechain_vm_quiesce_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

char *
rechain_vm_quiesce (RechainVm *vm, const char *agent, guint64 max_freeze_ms,
                    GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_vm_quiesce_async (vm, agent, max_freeze_ms, cancellable, waiting_done, &waiting);
  return rechain_vm_quiesce_finish (vm, waiting_result (&waiting), error);
}

/* ---- thaw ------------------------------------------------------------------------------------ */

static void
on_thawed (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = g_task_get_source_object (task);
  gint64 n = json_object_is_type (ret, json_type_int) ? json_object_get_int64 (ret) : 0;
  if (error != NULL) {
    GError *copy = g_error_copy (error);
    prefix (&copy, "thaw the guest's filesystems");
    g_task_return_error (task, copy);
  } else if (!g_task_return_error_if_cancelled (task))
    g_task_return_pointer (
        task,
        print_document (document (rechain_vm_get_address (vm), qmp_agent_get_name (agent), FALSE,
                                  MAX (n, 0), n > 0)),
        g_free);
  qmp_agent_free (agent);
}

void
rechain_vm_thaw_async (RechainVm *vm, const char *agent, GCancellable *cancellable,
                       GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  GError *error = NULL;
  g_autofree char *address = rechain_vm_normalize_address (agent);
  QmpAgent *thawer = qmp_agent_new (address, 0, &error);
  if (thawer == NULL) {
    g_task_return_error (task, error);
    g_object_unref (task);
  } else
    qmp_agent_execute (thawer, THAW_COMMAND, NULL, THAW_MS, on_thawed, task);
}

char *
rechain_vm_thaw_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

char *
rechain_vm_thaw (RechainVm *vm, const char *agent, GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_vm_thaw_async (vm, agent, cancellable, waiting_done, &waiting);
  return rechain_vm_thaw_finish (vm, waiting_result (&waiting), error);
}
