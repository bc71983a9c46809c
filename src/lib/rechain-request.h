/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is to be done, and how. */
#pragma once

#include <rechain/rechain-values.h>

G_BEGIN_DECLS

/**
 * RechainRequest:
 *
 * What is wanted: a kind, disks with their options, and how. Immutable once handed over.
 */
typedef struct _RechainRequest RechainRequest;

#define RECHAIN_TYPE_REQUEST (rechain_request_get_type ())
RECHAIN_API GType rechain_request_get_type (void);
/**
 * rechain_request_new:
 * @kind: what to do
 *
 * Returns: (transfer full): a request without disks
 */
RECHAIN_API RechainRequest *rechain_request_new (RechainKind kind);
/**
 * rechain_request_copy:
 * @request: a request
 *
 * Returns: (transfer full): a copy
 */
RECHAIN_API RechainRequest *rechain_request_copy (const RechainRequest *request);
/**
 * rechain_request_free:
 * @request: (transfer full): a request
 */
RECHAIN_API void rechain_request_free (RechainRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RechainRequest, rechain_request_free)
/**
 * rechain_request_add_disk:
 * @request: a request
 * @disk: qdev id, drive name, node name of the active layer, or absolute path of the active image
 *
 * A snapshot without disks takes all writable ones.
 */
RECHAIN_API void rechain_request_add_disk (RechainRequest *request, const char *disk);
/**
 * rechain_request_set_disk_option:
 * @request: a request
 * @disk: as it was added
 * @option: "to" (file to create), "base" (layer to keep, or "none"; of a commit: the layer that receives),
 *   "top" (of a pull: the layer that receives; of a commit: the uppermost that is committed), "source" and
 *   "dest" (of a merge), "allow-shared" (a layer that may be changed although others use it), "format" (of
 *   the new layer; an overlay is "qcow2"), "on-delete" (of a snapshot: "forward" or "backward", how it is to
 *   be merged one day)
 * @value: its value
 * @error: return location
 *
 * Returns: %FALSE with %RECHAIN_ERROR_USAGE for an option that the kind of request has not
 */
RECHAIN_API gboolean rechain_request_set_disk_option (RechainRequest *request, const char *disk,
                                                      const char *option, const char *value,
                                                      GError **error);
/**
 * rechain_request_add_region:
 * @request: a request
 * @disk: as it was added
 * @start: where the region begins, bytes
 * @length: its bytes, 0 = to the end of the disk
 * @error: return location
 *
 * Which part of the disk is meant; without one it is the whole.
 *
 * Returns: %FALSE with %RECHAIN_ERROR_USAGE for a kind of request that has no regions
 */
RECHAIN_API gboolean rechain_request_add_region (RechainRequest *request, const char *disk,
                                                 guint64 start, guint64 length, GError **error);
/**
 * rechain_request_set_name:
 * @request: a request
 * @name: (nullable): name of the snapshot; %NULL: made from the time
 */
RECHAIN_API void rechain_request_set_name (RechainRequest *request, const char *name);
/**
 * rechain_request_new_from_xml:
 * @xml: (array length=length) (element-type guint8): a document <domainsnapshot>, UTF-8
 * @length: its length in bytes, at most 1 MiB
 * @origin: what messages call it, for instance its file name
 * @error: return location: %RECHAIN_ERROR_USAGE with file and line where it does not fit the schema;
 *   %RECHAIN_ERROR_REFUSED for kinds of snapshots that rechain does not make
 *
 * A request for the snapshot that the document describes. Writable disks that it does not name are
 * taken too, unless it says snapshot='no' (libvirt: virDomainSnapshotCreateXML with
 * VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY).
 *
 * Returns: (transfer full): the request
 */
RECHAIN_API RechainRequest *rechain_request_new_from_xml (const char *xml, gsize length,
                                                          const char *origin, GError **error);
/**
 * rechain_request_set_description:
 * @request: a request
 * @description: (nullable): what the record of the snapshot says of it
 */
RECHAIN_API void rechain_request_set_description (RechainRequest *request, const char *description);
/**
 * rechain_request_set_direction:
 * @request: a request
 * @direction: (nullable): "forward" or "backward": in which a snapshot is deleted; %NULL: as it is on
 *   record, disk by disk
 * @error: return location
 *
 * Returns: %FALSE with %RECHAIN_ERROR_USAGE for another word
 */
RECHAIN_API gboolean rechain_request_set_direction (RechainRequest *request, const char *direction,
                                                    GError **error);
/**
 * rechain_request_set_allow_shared:
 * @request: a request to delete a snapshot
 * @layers: (nullable) (array zero-terminated=1): layers that it may change although others use them
 */
RECHAIN_API void rechain_request_set_allow_shared (RechainRequest *request, const char *const *layers);
/**
 * rechain_request_set_brief:
 * @request: a request
 * @brief: the plan will be performed, not shown: it says nothing of the space that a commit or a copy needs where
 *   even the whole disks fit, which saves the reading of their maps. %FALSE when new
 */
RECHAIN_API void rechain_request_set_brief (RechainRequest *request, gboolean brief);
/**
 * rechain_request_set_allowed:
 * @request: a request
 * @directories: (nullable) (array zero-terminated=1): absolute paths; files that the request names must
 *   lie in them, symlinks resolved, or the plan fails with %RECHAIN_ERROR_PERMISSION. %NULL: anywhere
 */
RECHAIN_API void rechain_request_set_allowed (RechainRequest *request, const char *const *directories);
/**
 * rechain_request_set_allowed_groups:
 * @request: a request
 * @volume_groups: (nullable) (array zero-terminated=1): names; snapshots of logical volumes must lie in them, or
 *   the plan fails with %RECHAIN_ERROR_PERMISSION. %NULL: in any
 */
RECHAIN_API void rechain_request_set_allowed_groups (RechainRequest *request,
                                                     const char *const *volume_groups);
/**
 * RECHAIN_GROW_STEP:
 *
 * What a logical volume is extended by where nothing else is said, bytes.
 */
#define RECHAIN_GROW_STEP (G_GUINT64_CONSTANT (1) << 30)
/**
 * rechain_request_set_grow_step:
 * @request: a request to change a chain of a running VM
 * @bytes: how much a qcow2 image's logical volume is extended by when it fills up while the operation writes into
 *   it, 1 MiB at least; 0: it is not (default)
 * @error: return location
 *
 * Images in logical volumes that are smaller than they may need to be, as VDSM makes them (QMP:
 * block-set-write-threshold). What was extended stays so.
 *
 * Returns: %FALSE with %RECHAIN_ERROR_USAGE for less than 1 MiB
 */
RECHAIN_API gboolean rechain_request_set_grow_step (RechainRequest *request, guint64 bytes,
                                                    GError **error);
/**
 * rechain_request_set_bandwidth:
 * @request: a request
 * @bytes_per_second: limit over all disks of the operation, 0 = unlimited (QMP: block-stream speed)
 */
RECHAIN_API void rechain_request_set_bandwidth (RechainRequest *request, guint64 bytes_per_second);
/**
 * rechain_request_set_timeout:
 * @request: a request
 * @ms: cancel and undo after so many milliseconds, 0 = never
 */
RECHAIN_API void rechain_request_set_timeout (RechainRequest *request, guint64 ms);
/**
 * rechain_request_set_max_pause:
 * @request: a request
 * @ms: longest time the guest may be stopped around a pivot, milliseconds; default 500
 */
RECHAIN_API void rechain_request_set_max_pause (RechainRequest *request, guint64 ms);
/**
 * rechain_request_set_agent:
 * @request: a request
 * @agent: (nullable): address of the VM's guest agent, as in rechain_vm_new()
 */
RECHAIN_API void rechain_request_set_agent (RechainRequest *request, const char *agent);
/**
 * rechain_request_set_max_freeze:
 * @request: a request
 * @ms: longest time from asking for a freeze to asking for the thaw, milliseconds; default 10000. After
 *   that the guest is thawed, and the operation undone
 */
RECHAIN_API void rechain_request_set_max_freeze (RechainRequest *request, guint64 ms);
/**
 * rechain_request_set_flags:
 * @request: a request
 * @flags: how it is done
 */
RECHAIN_API void rechain_request_set_flags (RechainRequest *request, RechainFlags flags);

G_END_DECLS
