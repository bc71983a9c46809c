/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settling an operation of the journal: a frozen guest is thawed, then QEMU is connected to, then
 * the runner goes on. */
#include "src/lib/lib-private.h"

typedef struct {
  RechainDirection direction;
} Recovery;

/* TRUE: @task is taken; its end comes from the runner. */
static gboolean
start_to_recover (GTask *task, GError **error)
{
  static const RunDirection directions[] = {[RECHAIN_DIRECTION_DEFAULT] = RUN_BY_RECORD,
                                            [RECHAIN_DIRECTION_UNDO] = RUN_BACK,
                                            [RECHAIN_DIRECTION_FINISH] = RUN_ON};
  RechainOperation *operation = g_task_get_source_object (task);
  Recovery *recovery = g_task_get_task_data (task);
  return rechain_operation_start (operation, &directions[recovery->direction], task,
                                  g_task_get_cancellable (task), error);
}

static void
not_recovered (GTask *task, GError *take_error)
{
  g_task_return_error (task, take_error);
  g_object_unref (task);
}

/* The old one lives, at another address. */
static gboolean
check_same_qemu (RechainOperation *operation, GError **error)
{
  VmLink *link = rechain_vm_get_link (rechain_operation_get_vm (operation));
  Op *op = rechain_operation_get_op (operation);
  pid_t pid = qmp_client_get_peer_pid (link->client);
  if (op->dead || op->qemu_pid <= 0 || pid <= 0 || pid == op->qemu_pid)
    return TRUE;
  fail (error, STUCK, "at '%s' there is another QEMU now (process %d instead of %d)", op->vm,
        (int)pid, (int)op->qemu_pid);
  return hint (error, "is the VM's address used by another VM now?");
}

/* The same QEMU is its process, or, where that cannot be told (TCP), one that has our nodes (looked
 * at by the runner). A QEMU that is gone is not waited for, and one that was started since is no
 * help: what is left to do is done on the files. */
static void
on_connected_to_recover (GObject *source, GAsyncResult *result, gpointer data)
{
  RechainOperation *operation = g_task_get_source_object (data);
  GError *error = NULL;
  gboolean reached = rechain_vm_look_finish (RECHAIN_VM (source), result, &error);
  Op *op = rechain_operation_get_op (operation);
  if (op_qemu_is_gone (op)) {
    g_clear_error (&error);
    op_forget_qemu (op);
    reached = TRUE;
  }
  if (!reached || !check_same_qemu (operation, &error) || !start_to_recover (data, &error)) {
    if (rechain_operation_get_op (operation)->frozen)
      hint (&error, "the guest may still be frozen: 'rechain thaw' needs its agent only");
    not_recovered (data, error);
  }
}

static void
recover_thawed (gpointer data)
{
  GTask *task = data;
  RechainOperation *operation = g_task_get_source_object (task);
  RechainVm *vm = rechain_operation_get_vm (operation);
  GError *error = NULL;
  if (vm != NULL)
    rechain_vm_connect_async (vm, g_task_get_cancellable (task), on_connected_to_recover, task);
  else if (!start_to_recover (task, &error))
    not_recovered (task, error);
}

void
rechain_operation_recover_async (RechainOperation *operation, RechainDirection direction,
                                 GCancellable *cancellable, GAsyncReadyCallback callback,
                                 gpointer user_data)
{
  GTask *task = g_task_new (operation, cancellable, callback, user_data);
  Recovery *recovery = g_new0 (Recovery, 1);
  recovery->direction = direction;
  g_task_set_task_data (task, recovery, g_free);
  g_task_set_check_cancellable (task, FALSE);
  runner_thaw_op (rechain_operation_get_op (operation), recover_thawed, task);
}
