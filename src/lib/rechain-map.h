/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which layer holds what. */
#pragma once

#include <rechain/rechain-values.h>
#include <rechain/rechain-vm.h>

G_BEGIN_DECLS

/**
 * RechainExtent:
 * @start: where it begins, bytes
 * @length: bytes
 * @depth: of the layer that answers, 0 = active; -1 where no layer has it
 * @data: there is data on the storage
 * @zero: it reads as zeros
 *
 * A stretch of a disk of which one layer of the chain answers (NBD: base:allocation and
 * qemu:allocation-depth; qemu-img: map).
 */
typedef struct {
  guint64 start;
  guint64 length;
  int depth;
  gboolean data;
  gboolean zero;
} RechainExtent;

/**
 * RechainMap:
 *
 * An allocation map: extents sorted, without gaps, neighbours merged. Immutable.
 */
typedef struct _RechainMap RechainMap;

#define RECHAIN_TYPE_MAP (rechain_map_get_type ())
RECHAIN_API GType rechain_map_get_type (void);
/**
 * rechain_map_ref:
 * @map: a map
 *
 * Returns: (transfer full): the same
 */
RECHAIN_API RechainMap *rechain_map_ref (RechainMap *map);
/**
 * rechain_map_unref:
 * @map: (transfer full): a map
 */
RECHAIN_API void rechain_map_unref (RechainMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RechainMap, rechain_map_unref)
/**
 * rechain_map_get_virtual_size:
 * @map: a map
 *
 * Returns: bytes of the whole disk, also where only a part of it was asked for
 */
RECHAIN_API guint64 rechain_map_get_virtual_size (RechainMap *map);
/**
 * rechain_map_get_n_extents:
 * @map: a map
 *
 * Returns: how many extents there are
 */
RECHAIN_API guint rechain_map_get_n_extents (RechainMap *map);
/**
 * rechain_map_get_extent:
 * @map: a map
 * @index: which, from 0
 * @ret_extent: (out caller-allocates): the extent
 */
RECHAIN_API void rechain_map_get_extent (RechainMap *map, guint index, RechainExtent *ret_extent);
/**
 * rechain_map_get_layers:
 * @map: a map
 *
 * Returns: (transfer full): the files of the chain, active layer first; an extent's depth is the index
 */
RECHAIN_API char **rechain_map_get_layers (RechainMap *map);
/**
 * RechainMapWriter:
 * @text: a piece of the document
 * @length: its bytes
 * @user_data: data
 *
 * Returns: %FALSE to end it
 */
typedef gboolean (*RechainMapWriter) (const char *text, gsize length, gpointer user_data);
/**
 * rechain_map_write_json:
 * @map: a map
 * @writer: (scope call): gets the document rechain.map/1 piece by piece
 * @user_data: data of @writer
 *
 * A map can have millions of extents: nothing holds the text of all of them.
 *
 * Returns: %FALSE where @writer ended it
 */
RECHAIN_API gboolean rechain_map_write_json (RechainMap *map, RechainMapWriter writer,
                                             gpointer user_data);
/**
 * rechain_map_to_json:
 * @map: a map
 *
 * Returns: (transfer full): the document rechain.map/1
 */
RECHAIN_API char *rechain_map_to_json (RechainMap *map);

/**
 * rechain_vm_map_async:
 * @vm: a VM
 * @disk: as in rechain_request_add_disk()
 * @start: where to begin, bytes
 * @length: how many bytes, 0 = to the end of the disk
 * @cancellable: (nullable): cancels; what was put into QEMU is removed
 * @callback: called when the map was read, or could not be
 * @user_data: data of @callback
 *
 * Reads the map of a running disk through a read-only NBD export on a private socket, which is removed
 * afterwards (QEMU QMP: nbd-server-start, block-export-add). It is an operation of the journal, so that
 * recovery removes the export after a crash.
 */
RECHAIN_API void rechain_vm_map_async (RechainVm *vm, const char *disk, guint64 start, guint64 length,
                                       GCancellable *cancellable, GAsyncReadyCallback callback,
                                       gpointer user_data);
/**
 * rechain_vm_map_finish:
 * @vm: a VM
 * @result: the result
 * @error: return location: also %RECHAIN_ERROR_REFUSED where QEMU has another NBD server already, where
 *   the disk runs in an IOThread of a QEMU before 9.0, or where an operation runs on it
 *
 * Returns: (transfer full): the map
 */
RECHAIN_API RechainMap *rechain_vm_map_finish (RechainVm *vm, GAsyncResult *result, GError **error);
/**
 * rechain_vm_map:
 * @vm: a VM
 * @disk: as in rechain_request_add_disk()
 * @start: where to begin, bytes
 * @length: how many bytes, 0 = to the end of the disk
 * @cancellable: (nullable): cancels
 * @error: return location
 *
 * Returns: (transfer full): the map
 */
RECHAIN_API RechainMap *rechain_vm_map (RechainVm *vm, const char *disk, guint64 start, guint64 length,
                                        GCancellable *cancellable, GError **error);
/**
 * rechain_map_read_offline_async:
 * @image: an image that no process has open for writing
 * @format: (nullable): its format; %NULL: only qcow2 is recognised
 * @start: where to begin, bytes
 * @length: how many bytes, 0 = to the end of the disk
 * @cancellable: (nullable): cancels
 * @callback: called when the map was read, or could not be
 * @user_data: data of @callback
 *
 * Reads the map of an image and its chain (qemu-img map).
 */
RECHAIN_API void rechain_map_read_offline_async (const char *image, const char *format, guint64 start,
                                                 guint64 length, GCancellable *cancellable,
                                                 GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_map_read_offline_finish:
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_REFUSED where a process writes to the image
 *
 * Returns: (transfer full): the map
 */
RECHAIN_API RechainMap *rechain_map_read_offline_finish (GAsyncResult *result, GError **error);
/**
 * rechain_map_read_offline:
 * @image: an image that no process has open for writing
 * @format: (nullable): its format
 * @start: where to begin, bytes
 * @length: how many bytes, 0 = to the end of the disk
 * @cancellable: (nullable): cancels
 * @error: return location
 *
 * Returns: (transfer full): the map
 */
RECHAIN_API RechainMap *rechain_map_read_offline (const char *image, const char *format, guint64 start,
                                                  guint64 length, GCancellable *cancellable,
                                                  GError **error);

G_END_DECLS
