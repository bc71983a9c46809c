/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is wrong here, and what cures it. */
#pragma once

#include <rechain/rechain-controller.h>
#include <rechain/rechain-values.h>

G_BEGIN_DECLS

#define RECHAIN_TYPE_DOCTOR (rechain_doctor_get_type ())
/**
 * RechainDoctor:
 *
 * What is wrong or missing on this host: holds QEMU's graph, the headers of the images and the journal
 * against each other, and finds what is left of operations. It changes nothing itself; repairs are
 * operations, of what is provably rechain's own and only that.
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainDoctor, rechain_doctor, RECHAIN, DOCTOR, GObject)

/**
 * rechain_doctor_new:
 * @controller: a controller
 *
 * Returns: (transfer full): a doctor that knows no VM yet
 */
RECHAIN_API RechainDoctor *rechain_doctor_new (RechainController *controller);
/**
 * rechain_doctor_add_vm:
 * @doctor: a doctor
 * @name: what the VM is to be called
 * @address: its monitor
 * @agent: (nullable): address of its guest agent
 * @error: return location: %RECHAIN_ERROR_USAGE for an impossible address
 *
 * All VMs that are known are looked at, also where one of them is examined: what one uses is no orphan of
 * another.
 *
 * Returns: %TRUE if the address could be a monitor's
 */
RECHAIN_API gboolean rechain_doctor_add_vm (RechainDoctor *doctor, const char *name,
                                            const char *address, const char *agent, GError **error);
/**
 * rechain_doctor_set_directories:
 * @doctor: a doctor
 * @directories: (nullable) (array zero-terminated=1): absolute paths
 *
 * Directories that are looked through besides those of the disks, where all is examined.
 */
RECHAIN_API void rechain_doctor_set_directories (RechainDoctor *doctor,
                                                 const char *const *directories);
/**
 * rechain_doctor_examine_async:
 * @doctor: a doctor
 * @vm: (nullable): name of the VM to be examined; %NULL: all, the journal and this host
 * @cancellable: (nullable): a cancellable
 * @callback: called with the findings
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_doctor_examine_async (RechainDoctor *doctor, const char *vm,
                                               GCancellable *cancellable, GAsyncReadyCallback callback,
                                               gpointer user_data);
/**
 * rechain_doctor_examine_finish:
 * @doctor: a doctor
 * @result: the result
 * @ret_findings: (out) (optional): how many findings there are
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND; %RECHAIN_ERROR_UNREACHABLE for a VM that is off and of
 *   which nothing is on record
 *
 * Returns: (transfer full): the document rechain.doctor/1
 */
RECHAIN_API char *rechain_doctor_examine_finish (RechainDoctor *doctor, GAsyncResult *result,
                                                 guint *ret_findings, GError **error);
/**
 * rechain_doctor_examine:
 * @doctor: a doctor
 * @vm: (nullable): name of the VM to be examined
 * @cancellable: (nullable): a cancellable
 * @ret_findings: (out) (optional): how many findings there are
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.doctor/1
 */
RECHAIN_API char *rechain_doctor_examine (RechainDoctor *doctor, const char *vm,
                                          GCancellable *cancellable, guint *ret_findings,
                                          GError **error);
/**
 * rechain_doctor_plan_repairs:
 * @doctor: a doctor that has examined something
 *
 * What can be repaired, as operations: one for each VM that runs, one for what is left elsewhere. Findings
 * that recovery cures are not among them: rechain_controller_recover(). The doctor keeps the monitors until
 * it examines again.
 *
 * Returns: (transfer container) (element-type RechainOperation): operations in state planned; the array
 *   holds them
 */
RECHAIN_API GPtrArray *rechain_doctor_plan_repairs (RechainDoctor *doctor);

G_END_DECLS
