/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes: what there is, and what is to become of them. */
#pragma once

#include <rechain/rechain-controller.h>
#include <rechain/rechain-operation.h>
#include <rechain/rechain-values.h>

G_BEGIN_DECLS

#define RECHAIN_TYPE_STORAGE (rechain_storage_get_type ())
/**
 * RechainStorage:
 *
 * The volumes of this host: image files, block devices and logical volumes. Nothing is remembered about
 * them; each call reads the world.
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainStorage, rechain_storage, RECHAIN, STORAGE, GObject)

/**
 * rechain_storage_new:
 * @controller: a controller
 *
 * Returns: (transfer full): the storage of this host, without limits
 */
RECHAIN_API RechainStorage *rechain_storage_new (RechainController *controller);
/**
 * rechain_storage_set_allowed:
 * @storage: a storage
 * @directories: (nullable) (array zero-terminated=1): absolute paths; %NULL: all
 * @volume_groups: (nullable) (array zero-terminated=1): names; %NULL: all
 *
 * Limits everything to what lies in these, also where symlinks lead (openat2: RESOLVE_BENEATH). What
 * lies elsewhere is %RECHAIN_ERROR_PERMISSION.
 */
RECHAIN_API void rechain_storage_set_allowed (RechainStorage *storage, const char *const *directories,
                                              const char *const *volume_groups);
/**
 * rechain_storage_add_vm:
 * @storage: a storage
 * @name: what the VM is to be called
 * @address: its monitor
 * @error: return location: %RECHAIN_ERROR_USAGE for an impossible address
 *
 * A VM that is asked, where it runs, whether a volume is part of its chains.
 *
 * Returns: %TRUE if the address could be a monitor's
 */
RECHAIN_API gboolean rechain_storage_add_vm (RechainStorage *storage, const char *name,
                                             const char *address, GError **error);
/**
 * rechain_storage_list_async:
 * @storage: a storage
 * @where: (nullable): a directory or a volume group; %NULL: all that is allowed
 * @cancellable: (nullable): a cancellable
 * @callback: called with the list
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_storage_list_async (RechainStorage *storage, const char *where,
                                             GCancellable *cancellable, GAsyncReadyCallback callback,
                                             gpointer user_data);
/**
 * rechain_storage_list_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_PERMISSION, %RECHAIN_ERROR_FAILED
 *
 * Returns: (transfer full): the document rechain.volume-list/1
 */
RECHAIN_API char *rechain_storage_list_finish (RechainStorage *storage, GAsyncResult *result,
                                               GError **error);
/**
 * rechain_storage_list:
 * @storage: a storage
 * @where: (nullable): a directory or a volume group
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.volume-list/1
 */
RECHAIN_API char *rechain_storage_list (RechainStorage *storage, const char *where,
                                        GCancellable *cancellable, GError **error);
/**
 * rechain_storage_volume_info_async:
 * @storage: a storage
 * @volume: path of a file or device
 * @format: (nullable): its format; %NULL: qcow2 where it has such a header, else raw
 * @cancellable: (nullable): a cancellable
 * @callback: called with what is known of it
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_storage_volume_info_async (RechainStorage *storage, const char *volume,
                                                    const char *format, GCancellable *cancellable,
                                                    GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_storage_volume_info_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_PERMISSION, %RECHAIN_ERROR_REFUSED,
 *   %RECHAIN_ERROR_FAILED for a header that lies
 *
 * Returns: (transfer full): the document rechain.volume/1
 */
RECHAIN_API char *rechain_storage_volume_info_finish (RechainStorage *storage, GAsyncResult *result,
                                                      GError **error);
/**
 * rechain_storage_volume_info:
 * @storage: a storage
 * @volume: path of a file or device
 * @format: (nullable): its format
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.volume/1
 */
RECHAIN_API char *rechain_storage_volume_info (RechainStorage *storage, const char *volume,
                                               const char *format, GCancellable *cancellable,
                                               GError **error);
/**
 * rechain_storage_info_async:
 * @storage: a storage
 * @cancellable: (nullable): a cancellable
 * @callback: called with what there is
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_storage_info_async (RechainStorage *storage, GCancellable *cancellable,
                                             GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_storage_info_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_FAILED
 *
 * Returns: (transfer full): the document rechain.storage/1: pools with their space, formats, filesystems
 *   and codecs that this host can handle
 */
RECHAIN_API char *rechain_storage_info_finish (RechainStorage *storage, GAsyncResult *result,
                                               GError **error);
/**
 * rechain_storage_info:
 * @storage: a storage
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.storage/1
 */
RECHAIN_API char *rechain_storage_info (RechainStorage *storage, GCancellable *cancellable,
                                        GError **error);

/**
 * RechainVolumeKind:
 * @RECHAIN_VOLUME_CREATE: a new volume (libvirt: virStorageVolCreateXML)
 * @RECHAIN_VOLUME_CLONE: a new volume with the contents of another, in any format (libvirt:
 *   virStorageVolCreateXMLFrom)
 * @RECHAIN_VOLUME_COPY: a copy as it is, byte for byte, also into or out of an archive
 * @RECHAIN_VOLUME_COPY_CONTENTS: contents of one volume into another that exists
 * @RECHAIN_VOLUME_COMPRESS: an archive beside the volume
 * @RECHAIN_VOLUME_DECOMPRESS: the volume beside its archive
 * @RECHAIN_VOLUME_SNAPSHOT: a second file that shares all blocks (FICLONE)
 * @RECHAIN_VOLUME_RESIZE: another size (libvirt: virStorageVolResize)
 * @RECHAIN_VOLUME_DELETE: it goes (libvirt: virStorageVolDelete)
 * @RECHAIN_VOLUME_GROWFS: the filesystem in it becomes larger (libguestfs: resize2fs, xfs_growfs, btrfs)
 * @RECHAIN_VOLUME_SHRINKFS: the filesystem in it becomes smaller
 * @RECHAIN_VOLUME_LEND: a snapshot of it, for as long as another host copies that: see
 *   rechain_operation_get_offer()
 *
 * The kinds of operations on volumes.
 */
typedef enum {
  RECHAIN_VOLUME_CREATE,
  RECHAIN_VOLUME_CLONE,
  RECHAIN_VOLUME_COPY,
  RECHAIN_VOLUME_COPY_CONTENTS,
  RECHAIN_VOLUME_COMPRESS,
  RECHAIN_VOLUME_DECOMPRESS,
  RECHAIN_VOLUME_SNAPSHOT,
  RECHAIN_VOLUME_RESIZE,
  RECHAIN_VOLUME_DELETE,
  RECHAIN_VOLUME_GROWFS,
  RECHAIN_VOLUME_SHRINKFS,
  RECHAIN_VOLUME_LEND,
} RechainVolumeKind;

/**
 * RechainVolumeRequest:
 *
 * What is wanted of a volume. Immutable once handed over.
 */
typedef struct _RechainVolumeRequest RechainVolumeRequest;

#define RECHAIN_TYPE_VOLUME_REQUEST (rechain_volume_request_get_type ())
RECHAIN_API GType rechain_volume_request_get_type (void);
/**
 * rechain_volume_request_new:
 * @kind: what to do
 *
 * Returns: (transfer full): a request that names nothing yet
 */
RECHAIN_API RechainVolumeRequest *rechain_volume_request_new (RechainVolumeKind kind);
/**
 * rechain_volume_request_copy:
 * @request: a request
 *
 * Returns: (transfer full): a copy
 */
RECHAIN_API RechainVolumeRequest *rechain_volume_request_copy (const RechainVolumeRequest *request);
/**
 * rechain_volume_request_free:
 * @request: (transfer full): a request
 */
RECHAIN_API void rechain_volume_request_free (RechainVolumeRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RechainVolumeRequest, rechain_volume_request_free)
/**
 * rechain_volume_request_set:
 * @request: a request
 * @option: "volume" (path of what is made or changed), "source", "name" (of a snapshot), "format",
 *   "source-format", "capacity" (a size; "+SIZE" for resize), "allocation" (sparse, metadata, falloc,
 *   full), "backing", "backing-format", "mode" (octal), "owner", "group" (numbers), "archive" (codec),
 *   "pool" (thin pool of a new logical volume), "method" (of a snapshot:
 *   reflink, external, internal, lvm, btrfs), "force" (open, mounted, backing; joined by commas), "bandwidth", "timeout"; or one that needs no value:
 *   "shrink", "overwrite", "snapshot", "relative", "delete"
 * @value: (nullable): its value, as on the command line
 * @error: return location
 *
 * Returns: %FALSE with %RECHAIN_ERROR_USAGE for an option or a value that cannot be
 */
RECHAIN_API gboolean rechain_volume_request_set (RechainVolumeRequest *request, const char *option,
                                                 const char *value, GError **error);
/**
 * rechain_volume_request_set_xml:
 * @request: a request
 * @xml: (array length=length) (element-type guint8): a <volume> document (libvirt: storage volume XML), UTF-8
 * @length: its length in bytes, at most 1 MiB
 * @origin: what messages call it, for instance its file name
 * @error: return location
 *
 * What was set before stays.
 *
 * Returns: %FALSE with %RECHAIN_ERROR_USAGE, file and line for a document that is not valid
 */
RECHAIN_API gboolean rechain_volume_request_set_xml (RechainVolumeRequest *request, const char *xml,
                                                     gsize length, const char *origin,
                                                     GError **error);
/**
 * rechain_storage_plan_async:
 * @storage: a storage
 * @request: what is wanted
 * @cancellable: (nullable): a cancellable
 * @callback: called when the plan is made
 * @user_data: data of @callback
 *
 * Checks every precondition; changes nothing.
 */
RECHAIN_API void rechain_storage_plan_async (RechainStorage *storage,
                                             const RechainVolumeRequest *request,
                                             GCancellable *cancellable, GAsyncReadyCallback callback,
                                             gpointer user_data);
/**
 * rechain_storage_plan_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_USAGE, %RECHAIN_ERROR_NOT_FOUND, %RECHAIN_ERROR_REFUSED,
 *   %RECHAIN_ERROR_PERMISSION, %RECHAIN_ERROR_FAILED
 *
 * Returns: (transfer full): an operation in state planned; rechain_operation_run() performs it
 */
RECHAIN_API RechainOperation *rechain_storage_plan_finish (RechainStorage *storage,
                                                           GAsyncResult *result, GError **error);
/**
 * rechain_storage_plan:
 * @storage: a storage
 * @request: what is wanted
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): an operation in state planned
 */
RECHAIN_API RechainOperation *rechain_storage_plan (RechainStorage *storage,
                                                    const RechainVolumeRequest *request,
                                                    GCancellable *cancellable, GError **error);

G_END_DECLS
