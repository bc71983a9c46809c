/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The owner of the state directory and its journal. */
#pragma once

#include <rechain/rechain-request.h>
#include <rechain/rechain-values.h>

G_BEGIN_DECLS

#define RECHAIN_TYPE_CONTROLLER (rechain_controller_get_type ())
/**
 * RechainController:
 *
 * The state directory with its journal: starts operations, knows the old ones, settles the
 * interrupted ones.
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainController, rechain_controller, RECHAIN, CONTROLLER, GObject)

/**
 * rechain_controller_new:
 * @state_dir: (nullable): where the journal is; %NULL: RECHAIN_STATE_DIR, else /var/lib/rechain for
 *   root and $XDG_STATE_HOME/rechain for others
 *
 * Touches nothing: the directory is made when the first operation starts.
 *
 * Returns: (transfer full): a controller
 */
RECHAIN_API RechainController *rechain_controller_new (const char *state_dir);
/**
 * rechain_controller_get_state_dir:
 * @controller: a controller
 *
 * Returns: (transfer none): absolute path
 */
RECHAIN_API const char *rechain_controller_get_state_dir (RechainController *controller);
/**
 * rechain_controller_list_operations:
 * @controller: a controller
 * @error: return location: %RECHAIN_ERROR_FAILED, %RECHAIN_ERROR_PERMISSION
 *
 * Returns: (transfer full): the document rechain.operation-list/1 with every operation in the journal,
 *   newest first
 */
RECHAIN_API char *rechain_controller_list_operations (RechainController *controller, GError **error);
/**
 * rechain_controller_show_operation:
 * @controller: a controller
 * @id: operation id, or an unambiguous beginning of one
 * @error: return location: also %RECHAIN_ERROR_NOT_FOUND
 *
 * Returns: (transfer full): the document rechain.operation/1, with "journal": what was intended and
 *   seen, step by step; and "owner": "alive", "dead" or absent when it ended
 */
RECHAIN_API char *rechain_controller_show_operation (RechainController *controller, const char *id,
                                                     GError **error);
/**
 * rechain_controller_undo_request:
 * @controller: a controller
 * @id: operation id, or an unambiguous beginning of one
 * @vm: (out) (transfer full): address of the VM that the request is for
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED where nothing leads back
 *
 * What takes back an operation that is done, to be planned like any other request: for a snapshot, the
 * commit of its overlays into the layers under them, and their removal.
 *
 * Returns: (transfer full): the request
 */
RECHAIN_API RechainRequest *rechain_controller_undo_request (RechainController *controller, const char *id,
                                                             char **vm, GError **error);
/**
 * rechain_controller_cancel_operation_async:
 * @controller: a controller
 * @id: operation id, or an unambiguous beginning of one
 * @cancellable: (nullable): ends the waiting, not the operation
 * @callback: called when the operation ended, however
 * @user_data: data of @callback
 *
 * Cancels an operation that another process (or this one) is running; it is undone there.
 */
RECHAIN_API void rechain_controller_cancel_operation_async (RechainController *controller,
                                                            const char *id, GCancellable *cancellable,
                                                            GAsyncReadyCallback callback,
                                                            gpointer user_data);
/**
 * rechain_controller_cancel_operation_finish:
 * @controller: a controller
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND; %RECHAIN_ERROR_REFUSED where it ended already, or
 *   where its owner is dead (then `recover` settles it)
 *
 * Returns: (transfer full): the document rechain.operation/1 as it ended
 */
RECHAIN_API char *rechain_controller_cancel_operation_finish (RechainController *controller,
                                                              GAsyncResult *result, GError **error);
/**
 * rechain_controller_cancel_operation:
 * @controller: a controller
 * @id: operation id
 * @cancellable: (nullable): ends the waiting
 * @error: return location
 *
 * Returns: (transfer full): as rechain_controller_cancel_operation_finish()
 */
RECHAIN_API char *rechain_controller_cancel_operation (RechainController *controller, const char *id,
                                                       GCancellable *cancellable, GError **error);
/**
 * rechain_controller_wait_operation_async:
 * @controller: a controller
 * @id: operation id
 * @cancellable: (nullable): ends the waiting
 * @callback: called when the operation ended, or its owner died
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_controller_wait_operation_async (RechainController *controller,
                                                          const char *id, GCancellable *cancellable,
                                                          GAsyncReadyCallback callback,
                                                          gpointer user_data);
/**
 * rechain_controller_wait_operation_finish:
 * @controller: a controller
 * @result: the result
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.operation/1
 */
RECHAIN_API char *rechain_controller_wait_operation_finish (RechainController *controller,
                                                            GAsyncResult *result, GError **error);
/**
 * rechain_controller_wait_operation:
 * @controller: a controller
 * @id: operation id
 * @cancellable: (nullable): ends the waiting
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.operation/1
 */
RECHAIN_API char *rechain_controller_wait_operation (RechainController *controller, const char *id,
                                                     GCancellable *cancellable, GError **error);
/**
 * rechain_controller_recover_async:
 * @controller: a controller
 * @vm: (nullable): only operations of the VM at this address
 * @id: (nullable): only this operation
 * @direction: where to
 * @cancellable: (nullable): ends the work between two steps
 * @callback: called when every such operation is settled or stuck
 * @user_data: data of @callback
 *
 * Settles every interrupted operation whose owner is dead.
 */
RECHAIN_API void rechain_controller_recover_async (RechainController *controller, const char *vm,
                                                   const char *id, RechainDirection direction,
                                                   GCancellable *cancellable,
                                                   GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_controller_recover_finish:
 * @controller: a controller
 * @result: the result
 * @ret_unsettled: (out) (optional): how many are still not settled
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.operation-list/1 with every operation it looked at
 */
RECHAIN_API char *rechain_controller_recover_finish (RechainController *controller,
                                                     GAsyncResult *result, guint *ret_unsettled,
                                                     GError **error);
/**
 * rechain_controller_recover:
 * @controller: a controller
 * @vm: (nullable): only operations of the VM at this address
 * @id: (nullable): only this operation
 * @direction: where to
 * @cancellable: (nullable): ends the work between two steps
 * @ret_unsettled: (out) (optional): how many are still not settled
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.operation-list/1
 */
RECHAIN_API char *rechain_controller_recover (RechainController *controller, const char *vm,
                                              const char *id, RechainDirection direction,
                                              GCancellable *cancellable, guint *ret_unsettled,
                                              GError **error);

G_END_DECLS
