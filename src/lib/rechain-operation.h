/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One change over one or more disks: planned, run, undone. */
#pragma once

#include <rechain/rechain-controller.h>
#include <rechain/rechain-request.h>
#include <rechain/rechain-values.h>
#include <rechain/rechain-vm.h>

G_BEGIN_DECLS

#define RECHAIN_TYPE_OPERATION (rechain_operation_get_type ())
/**
 * RechainOperation:
 *
 * One change over one or more disks of a VM. Properties, each with notify: `id`, `kind`, `state`
 * (#RechainState), `step` (name of the step), `disk` (of the job that moved last), `bytes-done`, `bytes-total`, `rate`
 * (bytes/s).
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainOperation, rechain_operation, RECHAIN, OPERATION, GObject)

/**
 * rechain_operation_plan_async:
 * @vm: a VM
 * @request: what is wanted; copied
 * @cancellable: (nullable): a cancellable
 * @callback: called with the plan
 * @user_data: data of @callback
 *
 * Looks at the VM, checks every precondition, and makes the plan. Changes nothing at all.
 */
RECHAIN_API void rechain_operation_plan_async (RechainVm *vm, const RechainRequest *request,
                                               GCancellable *cancellable,
                                               GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_operation_plan_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED, %RECHAIN_ERROR_PERMISSION,
 *   %RECHAIN_ERROR_UNREACHABLE, %RECHAIN_ERROR_USAGE
 *
 * Returns: (transfer full): an operation in state planned
 */
RECHAIN_API RechainOperation *rechain_operation_plan_finish (RechainVm *vm, GAsyncResult *result,
                                                             GError **error);
/**
 * rechain_operation_plan:
 * @vm: a VM
 * @request: what is wanted
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): an operation in state planned
 */
RECHAIN_API RechainOperation *rechain_operation_plan (RechainVm *vm, const RechainRequest *request,
                                                      GCancellable *cancellable, GError **error);
/**
 * rechain_operation_plan_offline_async:
 * @controller: a controller
 * @request: a pull, commit or merge whose one disk is the path of an image; copied
 * @cancellable: (nullable): a cancellable
 * @callback: called with the plan
 * @user_data: data of @callback
 *
 * Makes the plan of an operation on images that no process has open (QEMU: qemu-img commit, rebase). Changes
 * nothing at all.
 */
RECHAIN_API void rechain_operation_plan_offline_async (RechainController *controller,
                                                       const RechainRequest *request,
                                                       GCancellable *cancellable,
                                                       GAsyncReadyCallback callback,
                                                       gpointer user_data);
/**
 * rechain_operation_plan_offline_finish:
 * @controller: a controller
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED, %RECHAIN_ERROR_PERMISSION,
 *   %RECHAIN_ERROR_USAGE
 *
 * Returns: (transfer full): an operation in state planned
 */
RECHAIN_API RechainOperation *rechain_operation_plan_offline_finish (RechainController *controller,
                                                                     GAsyncResult *result,
                                                                     GError **error);
/**
 * rechain_operation_plan_offline:
 * @controller: a controller
 * @request: what is wanted
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): an operation in state planned
 */
RECHAIN_API RechainOperation *rechain_operation_plan_offline (RechainController *controller,
                                                              const RechainRequest *request,
                                                              GCancellable *cancellable,
                                                              GError **error);
/**
 * rechain_operation_plan_to_json:
 * @operation: an operation
 *
 * Returns: (transfer full): the document rechain.plan/1
 */
RECHAIN_API char *rechain_operation_plan_to_json (RechainOperation *operation);
/**
 * rechain_operation_run_async:
 * @operation: a planned operation
 * @cancellable: (nullable): cancelling it cancels the operation, which is then undone
 * @callback: called when it ended: done, undone or stuck
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_operation_run_async (RechainOperation *operation, GCancellable *cancellable,
                                              GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_operation_run_finish:
 * @operation: an operation
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_FAILED and other codes before anything was changed,
 *   %RECHAIN_ERROR_UNDONE, %RECHAIN_ERROR_STUCK, %RECHAIN_ERROR_INTERRUPTED
 *
 * Returns: %TRUE if the operation is done
 */
RECHAIN_API gboolean rechain_operation_run_finish (RechainOperation *operation, GAsyncResult *result,
                                                   GError **error);
/**
 * rechain_operation_run:
 * @operation: a planned operation
 * @cancellable: (nullable): cancelling it cancels the operation, which is then undone
 * @error: return location
 *
 * Returns: %TRUE if the operation is done
 */
RECHAIN_API gboolean rechain_operation_run (RechainOperation *operation, GCancellable *cancellable,
                                            GError **error);
/**
 * rechain_operation_cancel:
 * @operation: an operation
 *
 * Asks for the operation to be cancelled and undone; after the pivot it has no effect. The end comes
 * through rechain_operation_run_finish().
 */
RECHAIN_API void rechain_operation_cancel (RechainOperation *operation);
/**
 * rechain_operation_get_offer:
 * @operation: an operation of the kind %RECHAIN_VOLUME_LEND
 * @error: return location: %RECHAIN_ERROR_FAILED where the snapshot cannot be read
 *
 * Returns: (transfer full) (nullable): the document rechain.offer/1 of the snapshot, after the signal "lent";
 *   before, the one of the volume that is to be lent, which nothing can be read by
 */
RECHAIN_API char *rechain_operation_get_offer (RechainOperation *operation, GError **error);
/**
 * rechain_operation_give_back:
 * @operation: an operation of the kind %RECHAIN_VOLUME_LEND
 *
 * What was lent is not needed any more: the snapshot goes, and the operation ends. It has no effect before the
 * signal "lent".
 */
RECHAIN_API void rechain_operation_give_back (RechainOperation *operation);
/**
 * rechain_operation_detach:
 * @operation: an operation
 *
 * Lets go of it: it stays in the journal for `recover`, and run ends with %RECHAIN_ERROR_STUCK. A guest
 * that it has frozen or holds is thawed and continued first, for which its agent has seconds; asked for
 * once more, it waits for nobody.
 */
RECHAIN_API void rechain_operation_detach (RechainOperation *operation);
/**
 * rechain_operation_pause:
 * @operation: an operation
 * @error: return location: %RECHAIN_ERROR_REFUSED where it has nothing that can be paused now
 *
 * Pauses its copying jobs.
 *
 * Returns: %TRUE if QEMU was asked to
 */
RECHAIN_API gboolean rechain_operation_pause (RechainOperation *operation, GError **error);
/**
 * rechain_operation_resume:
 * @operation: an operation
 * @error: return location: as rechain_operation_pause()
 *
 * Resumes its copying jobs.
 *
 * Returns: %TRUE if QEMU was asked to
 */
RECHAIN_API gboolean rechain_operation_resume (RechainOperation *operation, GError **error);
/**
 * rechain_operation_set_speed:
 * @operation: an operation
 * @bytes_per_second: limit over all its disks, 0 = unlimited
 * @error: return location: as rechain_operation_pause()
 *
 * Returns: %TRUE if QEMU was asked to
 */
RECHAIN_API gboolean rechain_operation_set_speed (RechainOperation *operation, guint64 bytes_per_second,
                                                  GError **error);
/**
 * rechain_operation_get_id:
 * @operation: an operation
 *
 * Returns: (transfer none): eight hexadecimal digits
 */
RECHAIN_API const char *rechain_operation_get_id (RechainOperation *operation);
/**
 * rechain_operation_get_state:
 * @operation: an operation
 *
 * Returns: its state
 */
RECHAIN_API RechainState rechain_operation_get_state (RechainOperation *operation);
/**
 * rechain_operation_to_json:
 * @operation: an operation
 *
 * Returns: (transfer full): the document rechain.operation/1
 */
RECHAIN_API char *rechain_operation_to_json (RechainOperation *operation);
/**
 * rechain_operation_progress_to_json:
 * @operation: an operation
 *
 * Returns: (transfer full): one line: {"operation","state","step","disk","current","total","rate","eta"}
 */
RECHAIN_API char *rechain_operation_progress_to_json (RechainOperation *operation);

G_END_DECLS
