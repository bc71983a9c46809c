/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One running QEMU. */
#pragma once

#include <rechain/rechain-controller.h>
#include <rechain/rechain-values.h>

G_BEGIN_DECLS

#define RECHAIN_TYPE_VM (rechain_vm_get_type ())
/**
 * RechainVm:
 *
 * One running QEMU, reached through a QMP monitor. Where an operation of rechain holds that monitor,
 * it is borrowed from it: looking and job control work, changing the chain does not.
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainVm, rechain_vm, RECHAIN, VM, GObject)

/**
 * rechain_vm_new:
 * @controller: a controller
 * @address: path of a unix socket (contains "/"), "unix:PATH" or "tcp:HOST:PORT"
 * @error: return location: %RECHAIN_ERROR_USAGE
 *
 * Returns: (transfer full): a VM that is not connected yet
 */
RECHAIN_API RechainVm *rechain_vm_new (RechainController *controller, const char *address,
                                       GError **error);
/**
 * rechain_vm_get_address:
 * @vm: a VM
 *
 * Returns: (transfer none): its address
 */
RECHAIN_API const char *rechain_vm_get_address (RechainVm *vm);
/**
 * rechain_vm_get_qemu_version:
 * @vm: a VM
 *
 * Returns: (transfer none) (nullable): for instance "7.2.22 (Debian ...)"; %NULL before it was seen
 */
RECHAIN_API const char *rechain_vm_get_qemu_version (RechainVm *vm);
/**
 * rechain_vm_look_async:
 * @vm: a VM
 * @cancellable: (nullable): a cancellable
 * @callback: called when it has looked
 * @user_data: data of @callback
 *
 * Connects if need be, and reads disks, chains and jobs afresh.
 */
RECHAIN_API void rechain_vm_look_async (RechainVm *vm, GCancellable *cancellable,
                                        GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_vm_look_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_UNREACHABLE, %RECHAIN_ERROR_PERMISSION
 *
 * Returns: %TRUE if it could
 */
RECHAIN_API gboolean rechain_vm_look_finish (RechainVm *vm, GAsyncResult *result, GError **error);
/**
 * rechain_vm_look:
 * @vm: a VM
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: %TRUE if it could
 */
RECHAIN_API gboolean rechain_vm_look (RechainVm *vm, GCancellable *cancellable, GError **error);
/**
 * rechain_vm_get_disks:
 * @vm: a VM that was looked at
 *
 * Returns: (transfer container) (element-type RechainDisk): its disks as they were then; the array
 *   owns them
 */
RECHAIN_API GPtrArray *rechain_vm_get_disks (RechainVm *vm);
/**
 * rechain_vm_info_to_json:
 * @vm: a VM that was looked at
 *
 * Returns: (transfer full): the document rechain.info/1: {"schema","vm","qemu","pid","run-state",
 *   "borrowed-from" (operation id, where the monitor is borrowed), "disks":[{"disk","drive","node",
 *   "file","format","read-only","virtual-size","layers","io-status","exports":[...],"jobs":[...]}],
 *   "jobs":[...],"features":{"block-stream":true,...}}
 */
RECHAIN_API char *rechain_vm_info_to_json (RechainVm *vm);
/**
 * rechain_vm_chain_to_json:
 * @vm: a VM that was looked at
 * @disk: (nullable): only this disk
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED (ambiguous)
 *
 * Returns: (transfer full): the document rechain.chain/1
 */
RECHAIN_API char *rechain_vm_chain_to_json (RechainVm *vm, const char *disk, GError **error);
/**
 * rechain_vm_jobs_to_json:
 * @vm: a VM that was looked at
 * @job: (nullable): only this job
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND
 *
 * Returns: (transfer full): the document rechain.job-list/1
 */
RECHAIN_API char *rechain_vm_jobs_to_json (RechainVm *vm, const char *job, GError **error);
/**
 * rechain_vm_job_command_async:
 * @vm: a VM
 * @verb: what to ask of the job
 * @job: its id
 * @speed: bytes/s for %RECHAIN_JOB_SPEED, 0 = unlimited
 * @foreign: also where the job is not ours
 * @cancellable: (nullable): a cancellable
 * @callback: called with QEMU's answer
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_vm_job_command_async (RechainVm *vm, RechainJobVerb verb, const char *job,
                                               guint64 speed, gboolean foreign,
                                               GCancellable *cancellable,
                                               GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_vm_job_command_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED (not ours, wrong state)
 *
 * Returns: %TRUE if QEMU did it
 */
RECHAIN_API gboolean rechain_vm_job_command_finish (RechainVm *vm, GAsyncResult *result,
                                                    GError **error);
/**
 * rechain_vm_job_command:
 * @vm: a VM
 * @verb: what to ask of the job
 * @job: its id
 * @speed: bytes/s for %RECHAIN_JOB_SPEED, 0 = unlimited
 * @foreign: also where the job is not ours
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: %TRUE if QEMU did it
 */
RECHAIN_API gboolean rechain_vm_job_command (RechainVm *vm, RechainJobVerb verb, const char *job,
                                             guint64 speed, gboolean foreign,
                                             GCancellable *cancellable, GError **error);
/**
 * rechain_vm_wait_job_async:
 * @vm: a VM
 * @job: its id
 * @cancellable: (nullable): ends the waiting
 * @callback: called when the job is gone or concluded
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_vm_wait_job_async (RechainVm *vm, const char *job, GCancellable *cancellable,
                                            GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_vm_wait_job_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND; %RECHAIN_ERROR_FAILED with QEMU's words if the job
 *   failed, or vanished without leaving a record (which is not success)
 *
 * Returns: %TRUE if the job concluded without error
 */
RECHAIN_API gboolean rechain_vm_wait_job_finish (RechainVm *vm, GAsyncResult *result, GError **error);
/**
 * rechain_vm_wait_job:
 * @vm: a VM
 * @job: its id
 * @cancellable: (nullable): ends the waiting
 * @error: return location
 *
 * Returns: %TRUE if the job concluded without error
 */
RECHAIN_API gboolean rechain_vm_wait_job (RechainVm *vm, const char *job, GCancellable *cancellable,
                                          GError **error);

G_END_DECLS
