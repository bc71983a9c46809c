/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Planning an operation: on a running VM, on the images of one that is off, or without any. */
#include "src/lib/lib-private.h"

#include "qmp/address.h"

static void
on_plan (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = g_task_get_source_object (task);
  if (op == NULL) {
    g_task_return_error (task, g_error_copy (error));
    return;
  }
  RechainOperation *operation =
      rechain_operation_wrap (rechain_vm_get_link (vm)->controller, vm, op);
  if (g_task_return_error_if_cancelled (task))
    g_object_unref (operation);
  else
    g_task_return_pointer (task, operation, g_object_unref);
}

/* A VM that is off: its snapshot is deleted on the files, which must not be open. */
static void
on_plan_of_vm_that_is_off (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = g_task_get_source_object (task);
  if (op == NULL)
    g_task_return_error (task, g_error_copy (error));
  else
    g_task_return_pointer (task,
                           rechain_operation_wrap (rechain_vm_get_link (vm)->controller, NULL, op),
                           g_object_unref);
}

static void
plan_without_qemu (GTask *task)
{
  RechainVm *vm = g_task_get_source_object (task);
  PlanContext context = {
      .state_dir = rechain_controller_get_state_dir (rechain_vm_get_link (vm)->controller),
      .vm = rechain_vm_get_address (vm)};
  plan_make (&context, g_task_get_task_data (task), on_plan_of_vm_that_is_off, task);
}

static void
on_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  GTask *task = data;
  RechainVm *vm = RECHAIN_VM (source);
  VmLink *link = rechain_vm_get_link (vm);
  GError *error = NULL;
  if (rechain_vm_look_finish (vm, result, &error) && link->borrowed_from != NULL) {
    fail (&error, REFUSED, "operation %s is running on this VM and holds its monitor",
          link->borrowed_from);
    hint (&error, "wait for it (rechain op wait %s), or give the VM a second monitor (-qmp)",
          link->borrowed_from);
  }
  const Request *request = g_task_get_task_data (task);
  if (request->kind == OP_SNAPSHOT_DELETE && g_error_matches (error, RECHAIN_ERROR, UNREACHABLE) &&
      qmp_address_is_dead (rechain_vm_get_address (vm))) {
    g_clear_error (&error);
    plan_without_qemu (task);
    return;
  }
  if (error != NULL) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  PlanContext context = {.client = link->client,
                         .features = link->features,
                         .world = link->world,
                         .state_dir = rechain_controller_get_state_dir (link->controller)};
  plan_make (&context, g_task_get_task_data (task), on_plan, task);
}

void
rechain_operation_plan_async (RechainVm *vm, const RechainRequest *request,
                              GCancellable *cancellable, GAsyncReadyCallback callback,
                              gpointer user_data)
{
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  g_task_set_task_data (task, request_copy (request), (GDestroyNotify)request_free);
  rechain_vm_look_async (vm, cancellable, on_looked, task);
}

RechainOperation *
rechain_operation_plan_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainOperation *
rechain_operation_plan (RechainVm *vm, const RechainRequest *request, GCancellable *cancellable,
                        GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_operation_plan_async (vm, request, cancellable, waiting_done, &waiting);
  return rechain_operation_plan_finish (vm, waiting_result (&waiting), error);
}

static void
on_offline_plan (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainController *controller = g_task_get_source_object (task);
  if (op == NULL)
    g_task_return_error (task, g_error_copy (error));
  else
    g_task_return_pointer (task, rechain_operation_wrap (controller, NULL, op), g_object_unref);
}

void
rechain_operation_plan_offline_async (RechainController *controller, const RechainRequest *request,
                                      GCancellable *cancellable, GAsyncReadyCallback callback,
                                      gpointer user_data)
{
  GTask *task = g_task_new (controller, cancellable, callback, user_data);
  RechainRequest *copy = request_copy (request);
  g_task_set_task_data (task, copy, (GDestroyNotify)request_free);
  PlanContext context = {.state_dir = rechain_controller_get_state_dir (controller)};
  plan_make (&context, copy, on_offline_plan, task);
}

RechainOperation *
rechain_operation_plan_offline_finish (RechainController *controller, GAsyncResult *result,
                                       GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainOperation *
rechain_operation_plan_offline (RechainController *controller, const RechainRequest *request,
                                GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_operation_plan_offline_async (controller, request, cancellable, waiting_done, &waiting);
  return rechain_operation_plan_offline_finish (controller, waiting_result (&waiting), error);
}
