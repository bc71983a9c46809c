/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plain values: layers, disks, and what an operation may be. */
#pragma once

#include <gio/gio.h>
#include <rechain/rechain-error.h>

G_BEGIN_DECLS

#define RECHAIN_API __attribute__ ((visibility ("default")))

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

G_END_DECLS
