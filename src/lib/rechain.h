/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* librechain: change the backing chain of a running QEMU disk, and take it back when it fails.
 *
 * Three objects: a #RechainController owns the state directory with its journal, a #RechainVm is one
 * running QEMU, a #RechainOperation is one change over one or more disks of it: planned, run, undone.
 * All of them live in the thread-default main context in which they were made, and start no threads.
 * Each call that waits exists as x_async / x_finish and as a blocking x, which is the first two plus
 * iterating the context.
 *
 * Documents (`..._to_json`) are the ones of the interface contract; their JSON schemas are installed
 * with the library. Bytes are bytes and rates bytes per second everywhere. */
#pragma once

#include <gio/gio.h>
#include <rechain/rechain-error.h>

G_BEGIN_DECLS

#define RECHAIN_API __attribute__ ((visibility ("default")))

/* ---- values ------------------------------------------------------------------------------- */

/**
 * RechainLayer:
 * @file: (nullable): absolute path of the image, or %NULL where QEMU hides it
 * @format: image format, for instance "qcow2"
 * @node: (nullable): QEMU's node name; %NULL for a chain that was read offline
 * @read_only: whether QEMU has it open read-only
 * @virtual_size: bytes the guest sees
 * @allocated: bytes on disk, or -1 where unknown
 * @backing: (nullable): the backing file as the header names it, verbatim
 * @backing_format: (nullable): its format as the header names it
 *
 * One image of a backing chain (QEMU: docs/interop/live-block-operations, "Disk image backing chain
 * notation").
 */
typedef struct {
  char *file;
  char *format;
  char *node;
  gboolean read_only;
  guint64 virtual_size;
  gint64 allocated;
  char *backing;
  char *backing_format;
} RechainLayer;

#define RECHAIN_TYPE_LAYER (rechain_layer_get_type ())
RECHAIN_API GType rechain_layer_get_type (void);
/**
 * rechain_layer_copy:
 * @layer: a layer
 *
 * Returns: (transfer full): a copy
 */
RECHAIN_API RechainLayer *rechain_layer_copy (const RechainLayer *layer);
/**
 * rechain_layer_free:
 * @layer: (transfer full): a layer
 */
RECHAIN_API void rechain_layer_free (RechainLayer *layer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RechainLayer, rechain_layer_free)

/**
 * RechainDisk:
 * @name: what rechain calls the disk: its qdev id, else its drive name, else its node name
 * @node: node name at the root of the disk
 * @read_only: whether the guest may only read
 * @layers: (element-type RechainLayer): its chain, active layer first
 *
 * One disk of a VM (QEMU QMP: query-block).
 */
typedef struct {
  char *name;
  char *node;
  gboolean read_only;
  GPtrArray *layers;
} RechainDisk;

#define RECHAIN_TYPE_DISK (rechain_disk_get_type ())
RECHAIN_API GType rechain_disk_get_type (void);
/**
 * rechain_disk_copy:
 * @disk: a disk
 *
 * Returns: (transfer full): a copy
 */
RECHAIN_API RechainDisk *rechain_disk_copy (const RechainDisk *disk);
/**
 * rechain_disk_free:
 * @disk: (transfer full): a disk
 */
RECHAIN_API void rechain_disk_free (RechainDisk *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RechainDisk, rechain_disk_free)

/**
 * RechainJobVerb:
 * @RECHAIN_JOB_CANCEL: cancel at once; the job changes nothing (QMP: job-cancel)
 * @RECHAIN_JOB_PAUSE: pause (QMP: job-pause)
 * @RECHAIN_JOB_RESUME: resume (QMP: job-resume)
 * @RECHAIN_JOB_SPEED: change the rate limit (QMP: block-job-set-speed)
 *
 * What can be asked of a job of QEMU.
 */
typedef enum {
  RECHAIN_JOB_CANCEL,
  RECHAIN_JOB_PAUSE,
  RECHAIN_JOB_RESUME,
  RECHAIN_JOB_SPEED,
} RechainJobVerb;

/**
 * RechainState:
 * @RECHAIN_STATE_PLANNED: nothing was asked of anybody yet
 * @RECHAIN_STATE_RUNNING: steps that can be undone are being done
 * @RECHAIN_STATE_FINISHING: the pivot took effect; only forward from here
 * @RECHAIN_STATE_DONE: the new chain stands, and nothing else of ours is left
 * @RECHAIN_STATE_UNDOING: steps are being taken back
 * @RECHAIN_STATE_UNDONE: everything is as before
 * @RECHAIN_STATE_STUCK: a finish or undo step failed; `recover` can be run again
 *
 * The life of an operation.
 */
typedef enum {
  RECHAIN_STATE_PLANNED,
  RECHAIN_STATE_RUNNING,
  RECHAIN_STATE_FINISHING,
  RECHAIN_STATE_DONE,
  RECHAIN_STATE_UNDOING,
  RECHAIN_STATE_UNDONE,
  RECHAIN_STATE_STUCK,
} RechainState;

/**
 * RechainKind:
 * @RECHAIN_KIND_SNAPSHOT: take a disk-only snapshot (libvirt: virDomainSnapshotCreateXML DISK_ONLY)
 * @RECHAIN_KIND_MOVE: live block move: snapshot into a new file and stream everything above base into it
 * @RECHAIN_KIND_PULL: data of the layers above base is pulled up into top (libvirt: virDomainBlockPull,
 *   virDomainBlockRebase; QEMU: block-stream)
 * @RECHAIN_KIND_COMMIT: top is committed down into base (libvirt: virDomainBlockCommit; QEMU: block-commit)
 * @RECHAIN_KIND_MERGE: source is merged into dest, whichever lies above
 * @RECHAIN_KIND_COPY: mirror to a new file, then pivot to it or leave a copy (libvirt: virDomainBlockCopy;
 *   QEMU: blockdev-mirror)
 * @RECHAIN_KIND_MAP: read an allocation map; rechain_vm_map() does it
 * @RECHAIN_KIND_ALLOCATE: give regions of the active layer their own data (QEMU: copy-on-read)
 * @RECHAIN_KIND_QUIESCE: freeze the guest's filesystems and leave them frozen; rechain_vm_quiesce() does it
 * @RECHAIN_KIND_SNAPSHOT_DELETE: merge each disk of a snapshot on record in its direction, and drop the
 *   record (libvirt: virDomainSnapshotDelete)
 *
 * The kinds of operations.
 */
typedef enum {
  RECHAIN_KIND_SNAPSHOT,
  RECHAIN_KIND_MOVE,
  RECHAIN_KIND_PULL,
  RECHAIN_KIND_COMMIT,
  RECHAIN_KIND_MERGE,
  RECHAIN_KIND_COPY,
  RECHAIN_KIND_MAP,
  RECHAIN_KIND_ALLOCATE,
  RECHAIN_KIND_QUIESCE,
  RECHAIN_KIND_SNAPSHOT_DELETE,
} RechainKind;

/**
 * RechainDirection:
 * @RECHAIN_DIRECTION_DEFAULT: back before the pivot, on after it
 * @RECHAIN_DIRECTION_UNDO: back; refused where the pivot took effect
 * @RECHAIN_DIRECTION_FINISH: on
 *
 * Where recovery takes an interrupted operation.
 */
typedef enum {
  RECHAIN_DIRECTION_DEFAULT,
  RECHAIN_DIRECTION_UNDO,
  RECHAIN_DIRECTION_FINISH,
} RechainDirection;

/**
 * RechainFlags:
 * @RECHAIN_FLAG_NONE: none
 * @RECHAIN_FLAG_DELETE: remove layers that fall out of the chain (default: kept and listed)
 * @RECHAIN_FLAG_RELATIVE: write relative backing names
 * @RECHAIN_FLAG_REUSE: the target file exists already
 * @RECHAIN_FLAG_NO_UNDO: on failure leave things for inspection
 * @RECHAIN_FLAG_PIVOT_LIVE: do not stop the guest around a pivot: if QEMU or the host dies in that
 *   instant nobody can tell which layer is newer
 * @RECHAIN_FLAG_DETACH_BACKING: allocate the whole disk, then drop the link to what lies below
 * @RECHAIN_FLAG_SHALLOW: copy only the active layer, and keep what backs it
 * @RECHAIN_FLAG_NO_PIVOT: leave a copy of one moment; the guest stays where it is
 * @RECHAIN_FLAG_QUIESCED: freeze the guest's filesystems around the snapshot (libvirt:
 *   VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE); refused where the guest agent cannot
 * @RECHAIN_FLAG_BEST_EFFORT: with #RECHAIN_FLAG_QUIESCED: where the agent cannot, go on without a freeze
 *
 * How an operation is done.
 */
typedef enum { /*< flags >*/
  RECHAIN_FLAG_NONE = 0,
  RECHAIN_FLAG_DELETE = 1 << 0,
  RECHAIN_FLAG_RELATIVE = 1 << 1,
  RECHAIN_FLAG_REUSE = 1 << 2,
  RECHAIN_FLAG_NO_UNDO = 1 << 3,
  RECHAIN_FLAG_PIVOT_LIVE = 1 << 4,
  RECHAIN_FLAG_SHALLOW = 1 << 5,
  RECHAIN_FLAG_NO_PIVOT = 1 << 6,
  RECHAIN_FLAG_DETACH_BACKING = 1 << 7,
  RECHAIN_FLAG_QUIESCED = 1 << 8,
  RECHAIN_FLAG_BEST_EFFORT = 1 << 9,
} RechainFlags;

/* ---- request ------------------------------------------------------------------------------- */

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

/* ---- controller ---------------------------------------------------------------------------- */

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

/* ---- one running QEMU ---------------------------------------------------------------------- */

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

/* ---- snapshots on record ------------------------------------------------------------------- */

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
 * rechain_vm_import_snapshot:
 * @vm: a VM that was looked at
 * @xml: (array length=length) (element-type guint8): a document <domainsnapshot>
 * @length: its length in bytes
 * @origin: what messages call it
 * @error: return location: %RECHAIN_ERROR_USAGE; %RECHAIN_ERROR_NOT_FOUND and %RECHAIN_ERROR_REFUSED where
 *   the chains are not as it says
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

/* ---- map ----------------------------------------------------------------------------------- */

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

/* ---- operation ----------------------------------------------------------------------------- */

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

/* ---- storage ------------------------------------------------------------------------------- */

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

/* ---- doctor -------------------------------------------------------------------------------- */

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
 * Returns: (transfer full) (element-type RechainOperation): operations in state planned
 */
RECHAIN_API GPtrArray *rechain_doctor_plan_repairs (RechainDoctor *doctor);

/* ---- other hosts --------------------------------------------------------------------------- */

#define RECHAIN_TYPE_HOST (rechain_host_get_type ())
/**
 * RechainHost:
 *
 * Another host, on which commands of rechain are run through `ssh HOST rechain --stdio`: one session, begun
 * with the first command. What the command line there would do is done there, with the configuration and the
 * journal of that host.
 *
 * Signals: "note" and "say" (a line for people), "progress" (an object as rechain_operation_progress_to_json()
 * makes it).
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainHost, rechain_host, RECHAIN, HOST, GObject)

/**
 * rechain_host_new:
 * @name: what it is called in messages
 * @address: (nullable): [USER@]HOST for ssh; %NULL: @name
 * @ssh_config: (nullable): configuration file for ssh (ssh -F)
 * @error: return location: %RECHAIN_ERROR_USAGE for what is no name of a host
 *
 * Returns: (transfer full): the host, not connected yet
 */
RECHAIN_API RechainHost *rechain_host_new (const char *name, const char *address,
                                           const char *ssh_config, GError **error);
/**
 * rechain_host_get_name:
 * @host: a host
 *
 * Returns: (transfer none): what it is called
 */
RECHAIN_API const char *rechain_host_get_name (RechainHost *host);
/**
 * rechain_host_set_document:
 * @host: a host
 * @option: "--xml" or "--regions"
 * @text: (nullable): UTF-8 contents of the file that the option names in the next command; %NULL: none
 */
RECHAIN_API void rechain_host_set_document (RechainHost *host, const char *option, const char *text);
/**
 * rechain_host_run_async:
 * @host: a host
 * @argv: (array zero-terminated=1): command, options and arguments, as on the command line
 * @cancellable: (nullable): cancelling it abandons the session; what runs there is cancelled and undone there
 * @callback: called when the command ended
 * @user_data: data of @callback
 *
 * Runs one command; one at a time.
 */
RECHAIN_API void rechain_host_run_async (RechainHost *host, const char *const *argv,
                                         GCancellable *cancellable, GAsyncReadyCallback callback,
                                         gpointer user_data);
/**
 * rechain_host_run_finish:
 * @host: a host
 * @result: the result
 * @error: return location: what the command failed with there; %RECHAIN_ERROR_UNREACHABLE where the host
 *   cannot be reached or the connection was lost before anything began, %RECHAIN_ERROR_STUCK where it was lost
 *   in the middle of an operation
 *
 * Returns: the exit code of the command, -1 with @error
 */
RECHAIN_API int rechain_host_run_finish (RechainHost *host, GAsyncResult *result, GError **error);
/**
 * rechain_host_run:
 * @host: a host
 * @argv: (array zero-terminated=1): command, options and arguments, as on the command line
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: the exit code of the command, -1 with @error
 */
RECHAIN_API int rechain_host_run (RechainHost *host, const char *const *argv,
                                  GCancellable *cancellable, GError **error);
/**
 * rechain_host_get_output:
 * @host: a host
 *
 * Returns: (transfer none): what the last command printed; with "-o", "json" that is one document
 */
RECHAIN_API const char *rechain_host_get_output (RechainHost *host);
/**
 * rechain_host_interrupt:
 * @host: a host
 *
 * What Ctrl-C does to the command: the first time it is cancelled and undone, the second time the operation
 * is left to `recover`.
 */
RECHAIN_API void rechain_host_interrupt (RechainHost *host);
/**
 * rechain_host_ask_status:
 * @host: a host
 *
 * Asks for one line of progress, which comes through the signal "say".
 */
RECHAIN_API void rechain_host_ask_status (RechainHost *host);

#define RECHAIN_TYPE_SERVER (rechain_server_get_type ())
/**
 * RechainServer:
 *
 * The other end of a #RechainHost: takes commands from a pair of descriptors and answers on it, one at a
 * time. The peer may be hostile: everything is bounded. It knows no commands itself.
 *
 * Signals: "interrupted" (the peer asks for the command to be cancelled, or is gone), "status-wanted".
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainServer, rechain_server, RECHAIN, SERVER, GObject)

/**
 * rechain_server_new:
 * @input: descriptor of a pipe or socket to read from; it is not closed
 * @output: descriptor to write to, may be the same
 * @error: return location: %RECHAIN_ERROR_USAGE for something else
 *
 * Returns: (transfer full): a server that has sent its greeting
 */
RECHAIN_API RechainServer *rechain_server_new (int input, int output, GError **error);
/**
 * rechain_server_next:
 * @server: a server
 * @error: return location: %RECHAIN_ERROR_UNREACHABLE where the peer breaks the rules
 *
 * Waits for the next command.
 *
 * Returns: (transfer full) (nullable) (array zero-terminated=1): its words; %NULL without an error: the peer
 *   has hung up
 */
RECHAIN_API char **rechain_server_next (RechainServer *server, GError **error);
/**
 * rechain_server_get_document:
 * @server: a server
 * @option: for instance "--xml"
 *
 * Returns: (transfer none) (nullable): the contents of the file that the option names on the peer's side
 */
RECHAIN_API const char *rechain_server_get_document (RechainServer *server, const char *option);
/**
 * rechain_server_tell:
 * @server: a server
 * @event: "print", "note" or "say"
 * @text: what
 *
 * Tells the peer; waits while it does not read.
 */
RECHAIN_API void rechain_server_tell (RechainServer *server, const char *event, const char *text);
/**
 * rechain_server_tell_progress:
 * @server: a server
 * @object: as rechain_operation_progress_to_json() makes it
 *
 * Tells the peer, unless it is slow in reading.
 */
RECHAIN_API void rechain_server_tell_progress (RechainServer *server, const char *object);
/**
 * rechain_server_reply:
 * @server: a server
 * @exit_code: of the command
 * @error: (nullable): what it failed with
 *
 * Ends the command.
 */
RECHAIN_API void rechain_server_reply (RechainServer *server, int exit_code, const GError *error);

/**
 * rechain_server_want_feed:
 * @server: a server
 * @operation: id of the operation that the command runs
 * @from: from this byte of the stream on
 *
 * Asks the peer for the data that it has offered, through another session and the command "vol feed".
 */
RECHAIN_API void rechain_server_want_feed (RechainServer *server, const char *operation, guint64 from);
/**
 * rechain_server_hand_over:
 * @server: a server whose command has succeeded
 * @ret_input: (out): the descriptor it has read from
 * @ret_output: (out): the descriptor it has written to
 *
 * Ends the session, so that its descriptors can be used for something else.
 *
 * Returns: %FALSE where the peer is gone
 */
RECHAIN_API gboolean rechain_server_hand_over (RechainServer *server, int *ret_input, int *ret_output);

/* ---- volumes on their way ------------------------------------------------------------------- */

/**
 * rechain_storage_offer_async:
 * @storage: a storage
 * @request: of the kind copy, with its "source", and if wanted "source-format" and "archive"
 * @cancellable: (nullable): a cancellable
 * @callback: called with the offer
 * @user_data: data of @callback
 *
 * What another host must know of a volume to copy it. The volume must be free to be read, as for a copy here.
 */
RECHAIN_API void rechain_storage_offer_async (RechainStorage *storage,
                                              const RechainVolumeRequest *request,
                                              GCancellable *cancellable, GAsyncReadyCallback callback,
                                              gpointer user_data);
/**
 * rechain_storage_offer_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location: as rechain_storage_plan_finish()
 *
 * Returns: (transfer full): the document rechain.offer/1
 */
RECHAIN_API char *rechain_storage_offer_finish (RechainStorage *storage, GAsyncResult *result,
                                                GError **error);
/**
 * rechain_storage_offer:
 * @storage: a storage
 * @request: what is wanted
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.offer/1
 */
RECHAIN_API char *rechain_storage_offer (RechainStorage *storage, const RechainVolumeRequest *request,
                                         GCancellable *cancellable, GError **error);
/**
 * rechain_storage_check_offer:
 * @storage: a storage
 * @offer: the document that it made
 * @error: return location: %RECHAIN_ERROR_REFUSED where the volume was changed since
 *
 * Returns: %TRUE if it can be sent
 */
RECHAIN_API gboolean rechain_storage_check_offer (RechainStorage *storage, const char *offer,
                                                  GError **error);
/**
 * rechain_storage_send_async:
 * @storage: a storage
 * @offer: the document that it made
 * @from: begin at this byte of what is sent
 * @bytes_per_second: limit, 0 = unlimited
 * @output: descriptor of a pipe or socket
 * @cancellable: (nullable): unused
 * @callback: called when everything is sent, or can no longer be
 * @user_data: data of @callback
 *
 * Sends the contents as checked frames, without holes.
 */
RECHAIN_API void rechain_storage_send_async (RechainStorage *storage, const char *offer, guint64 from,
                                             guint64 bytes_per_second, int output,
                                             GCancellable *cancellable, GAsyncReadyCallback callback,
                                             gpointer user_data);
/**
 * rechain_storage_send_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location
 *
 * Returns: %TRUE if everything was sent
 */
RECHAIN_API gboolean rechain_storage_send_finish (RechainStorage *storage, GAsyncResult *result,
                                                  GError **error);
/**
 * rechain_volume_request_set_offer:
 * @request: a request of the kind copy
 * @offer: the document that another host made
 * @from: (nullable): that host, of which the data is asked for; %NULL: the operation's signal "feed-wanted"
 *   (with the byte to begin at) says when somebody must bring it, with rechain_controller_feed_async()
 * @error: return location: %RECHAIN_ERROR_USAGE
 *
 * The source is what another host offers.
 *
 * Returns: %TRUE if it is an offer
 */
RECHAIN_API gboolean rechain_volume_request_set_offer (RechainVolumeRequest *request, const char *offer,
                                                       RechainHost *from, GError **error);
/**
 * rechain_controller_feed_async:
 * @controller: a controller
 * @operation: id of an operation of another process that waits for data
 * @input: descriptor that the data can be read from
 * @cancellable: (nullable): unused
 * @callback: called when the descriptor is no longer needed
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_controller_feed_async (RechainController *controller, const char *operation,
                                                int input, GCancellable *cancellable,
                                                GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_controller_feed_finish:
 * @controller: a controller
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND where it does not wait
 *
 * Returns: %TRUE if the operation has taken it
 */
RECHAIN_API gboolean rechain_controller_feed_finish (RechainController *controller,
                                                     GAsyncResult *result, GError **error);
/**
 * rechain_host_offer_volume:
 * @host: a host
 * @offer: the document of a volume of this host
 * @storage: the storage that made it
 * @bytes_per_second: limit, 0 = unlimited
 *
 * The next command, a "vol copy --offer", may ask for that volume, and for no other.
 */
RECHAIN_API void rechain_host_offer_volume (RechainHost *host, const char *offer,
                                            RechainStorage *storage, guint64 bytes_per_second);
/**
 * rechain_host_offer_from_host:
 * @host: a host
 * @offer: the document of a volume of another host
 * @from: that host
 *
 * The same for a volume of a third host; its data passes through here.
 */
RECHAIN_API void rechain_host_offer_from_host (RechainHost *host, const char *offer, RechainHost *from);

/**
 * rechain_state_name:
 * @state: a state
 *
 * Returns: (transfer none): its word, for instance "running"
 */
RECHAIN_API const char *rechain_state_name (RechainState state);
/**
 * rechain_version:
 *
 * Returns: (transfer none): the version of the library, for instance "0.1.0"
 */
RECHAIN_API const char *rechain_version (void);

G_END_DECLS
