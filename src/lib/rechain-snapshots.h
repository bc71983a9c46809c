/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots on record. */
#pragma once

#include <rechain/rechain-values.h>
#include <rechain/rechain-vm.h>

G_BEGIN_DECLS

/**
 * rechain_vm_list_snapshots:
 * @vm: a VM; where it was looked at, each record is held against its chains
 * @error: return location: %RECHAIN_ERROR_FAILED, %RECHAIN_ERROR_PERMISSION
 *
 * Returns: (transfer full): the document rechain.snapshot-list/1, oldest first
 */
RECHAIN_API char *rechain_vm_list_snapshots (RechainVm *vm, GError **error);
/**
 * rechain_vm_show_snapshot:
 * @vm: a VM; where it was looked at, the record is held against its chains
 * @name: of the snapshot
 * @ret_matches: (out) (optional): whether all its disks still have its two layers, one over the other
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND
 *
 * Returns: (transfer full): the document rechain.snapshot/1
 */
RECHAIN_API char *rechain_vm_show_snapshot (RechainVm *vm, const char *name, gboolean *ret_matches,
                                            GError **error);
/**
 * rechain_vm_export_snapshot:
 * @vm: a VM
 * @name: of the snapshot
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND; %RECHAIN_ERROR_FAILED where a file name cannot be
 *   written as XML
 *
 * Returns: (transfer full): the record as <domainsnapshot>; its <source> is the layer that became active,
 *   its <backingStore> the read-only one to take backups from (libvirt: virDomainSnapshotGetXMLDesc)
 */
RECHAIN_API char *rechain_vm_export_snapshot (RechainVm *vm, const char *name, GError **error);
/**
 * rechain_vm_set_allowed:
 * @vm: a VM
 * @directories: (nullable) (array zero-terminated=1): absolute paths; files beside the chains that a document
 *   names (rechain_vm_import_snapshot()) must lie in them, symlinks resolved. %NULL: anywhere
 * @volume_groups: (nullable) (array zero-terminated=1): names, for logical volumes. %NULL: any
 */
RECHAIN_API void rechain_vm_set_allowed (RechainVm *vm, const char *const *directories,
                                         const char *const *volume_groups);
/**
 * rechain_vm_import_snapshot:
 * @vm: a VM that was looked at
 * @xml: (array length=length) (element-type guint8): a document <domainsnapshot>
 * @length: its length in bytes
 * @origin: what messages call it
 * @error: return location: %RECHAIN_ERROR_USAGE; %RECHAIN_ERROR_NOT_FOUND and %RECHAIN_ERROR_REFUSED where
 *   the chains are not as it says, or what it says lies beside them is none that the method makes;
 *   %RECHAIN_ERROR_PERMISSION by rechain_vm_set_allowed()
 *
 * Only records it; a record of that name is replaced (libvirt: VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE).
 *
 * Returns: (transfer full): the document rechain.snapshot/1
 */
RECHAIN_API char *rechain_vm_import_snapshot (RechainVm *vm, const char *xml, gsize length,
                                              const char *origin, GError **error);
/**
 * rechain_vm_edit_snapshot:
 * @vm: a VM
 * @name: of the snapshot
 * @disk: (nullable): which disk @direction is for; %NULL: all of them
 * @direction: (nullable): "forward" or "backward": how it is merged when the snapshot is deleted
 * @description: (nullable): a new description
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_USAGE
 *
 * Returns: %TRUE when it is recorded
 */
RECHAIN_API gboolean rechain_vm_edit_snapshot (RechainVm *vm, const char *name, const char *disk,
                                               const char *direction, const char *description,
                                               GError **error);
/**
 * rechain_vm_forget_snapshot:
 * @vm: a VM
 * @name: of the snapshot
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND
 *
 * Drops the record and leaves all layers as they are (libvirt: VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY).
 *
 * Returns: %TRUE when it is off the record
 */
RECHAIN_API gboolean rechain_vm_forget_snapshot (RechainVm *vm, const char *name, GError **error);

/**
 * rechain_vm_quiesce_async:
 * @vm: a VM
 * @agent: address of its guest agent, as in rechain_vm_new()
 * @max_freeze_ms: longest time that the agent may need, milliseconds; 0 = 10 seconds
 * @cancellable: (nullable): cancels; the guest is thawed
 * @callback: called when the guest is frozen, or could not be
 * @user_data: data of @callback
 *
 * Freezes the guest's filesystems (qemu-ga: guest-fsfreeze-freeze). They stay frozen, and the guest's
 * writes stand still, until rechain_vm_thaw(). It is an operation of the journal: where the process dies
 * before it is done, recovery thaws the guest.
 */
RECHAIN_API void rechain_vm_quiesce_async (RechainVm *vm, const char *agent, guint64 max_freeze_ms,
                                           GCancellable *cancellable, GAsyncReadyCallback callback,
                                           gpointer user_data);
/**
 * rechain_vm_quiesce_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_UNREACHABLE (monitor or agent), %RECHAIN_ERROR_REFUSED where the
 *   guest is stopped, the agent does not offer it, or an operation is open; %RECHAIN_ERROR_UNDONE with the
 *   agent's own words where it failed, %RECHAIN_ERROR_STUCK where the guest may still be frozen
 *
 * Returns: (transfer full): the document rechain.quiesce/1: {"schema","vm","agent","state":"frozen",
 *   "filesystems","changed" (false where they were frozen already),"operation"}
 */
RECHAIN_API char *rechain_vm_quiesce_finish (RechainVm *vm, GAsyncResult *result, GError **error);
/**
 * rechain_vm_quiesce:
 * @vm: a VM
 * @agent: address of its guest agent
 * @max_freeze_ms: longest time that the agent may need, milliseconds; 0 = 10 seconds
 * @cancellable: (nullable): cancels; the guest is thawed
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.quiesce/1
 */
RECHAIN_API char *rechain_vm_quiesce (RechainVm *vm, const char *agent, guint64 max_freeze_ms,
                                      GCancellable *cancellable, GError **error);
/**
 * rechain_vm_thaw_async:
 * @vm: a VM
 * @agent: address of its guest agent, as in rechain_vm_new()
 * @cancellable: (nullable): ends the waiting
 * @callback: called with the agent's answer
 * @user_data: data of @callback
 *
 * Thaws the guest's filesystems, whoever froze them (qemu-ga: guest-fsfreeze-thaw). Asks the agent only:
 * no monitor is needed. Harmless where nothing is frozen.
 */
RECHAIN_API void rechain_vm_thaw_async (RechainVm *vm, const char *agent, GCancellable *cancellable,
                                        GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_vm_thaw_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_UNREACHABLE, %RECHAIN_ERROR_FAILED with the agent's own words
 *
 * Returns: (transfer full): the document rechain.quiesce/1 with "state":"thawed"
 */
RECHAIN_API char *rechain_vm_thaw_finish (RechainVm *vm, GAsyncResult *result, GError **error);
/**
 * rechain_vm_thaw:
 * @vm: a VM
 * @agent: address of its guest agent
 * @cancellable: (nullable): ends the waiting
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.quiesce/1 with "state":"thawed"
 */
RECHAIN_API char *rechain_vm_thaw (RechainVm *vm, const char *agent, GCancellable *cancellable,
                                   GError **error);

/**
 * rechain_chain_read_offline:
 * @image: path of an image
 * @format: (nullable): its format; %NULL: only qcow2 is recognised, since guests can forge headers
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED, %RECHAIN_ERROR_FAILED
 *
 * Returns: (transfer full): the document rechain.chain/1 of an image, from the headers on disk
 */
RECHAIN_API char *rechain_chain_read_offline (const char *image, const char *format, GError **error);

G_END_DECLS
