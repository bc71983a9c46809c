/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation: one change over one or more disks of one VM, or, offline, over files that no process has
 * open. One disk is a list of one.
 *
 * What was asked and found at planning time is fixed; what happened since is under "facts" and goes to
 * the journal. The whole of it can be written as JSON and read back, which is how recovery gets it. */
#pragma once

#include "jobs/map.h"
#include "src/common/error.h"
#include "src/common/fs.h"

typedef enum {
  OP_SNAPSHOT,
  OP_MOVE,
  OP_PULL,
  OP_COMMIT,
  OP_MERGE,
  OP_COPY,
  OP_MAP,
  OP_ALLOCATE,
  OP_QUIESCE, /* freeze the guest's filesystems, and leave them frozen; has no disks */
  OP_SNAPSHOT_DELETE, /* merge each disk of a snapshot on record, in its direction */
  OP_VOL_CREATE,
  OP_VOL_CLONE,
  OP_VOL_COPY,
  OP_VOL_COPY_CONTENTS,
  OP_VOL_COMPRESS,
  OP_VOL_DECOMPRESS,
  OP_VOL_SNAPSHOT,
  OP_VOL_RESIZE,
  OP_VOL_DELETE,
  OP_VOL_GROWFS,
  OP_VOL_SHRINKFS,
  OP_VOL_LEND, /* a snapshot of it stands while another host copies that */
  OP_REPAIR, /* what the doctor found; on a VM, or on what is left elsewhere */
  N_OP_KINDS,
} OpKind;

const char *op_kind_name (OpKind kind);

/* How one disk gets its new chain. In one operation each disk may have its own. */
typedef enum {
  MODE_NONE,          /* an overlay and no more */
  MODE_STREAM,        /* block-stream: data is pulled up */
  MODE_COMMIT,        /* block-commit of inner layers: data is pushed down, the guest stays where it is */
  MODE_COMMIT_ACTIVE, /* block-commit of the active layer, and a pivot to the layer that received it */
  MODE_MIRROR,        /* blockdev-mirror into a new file, and a pivot to it */
  /* The chain stays as it is, and the snapshot lies beside it (jobs/beside.h): */
  MODE_LV,            /* of the logical volume under the active layer */
  MODE_REFLINK,       /* a file that shares the blocks of the active layer */
  MODE_SUBVOLUME,     /* of the btrfs subvolume that the active layer lies in */
  N_OP_MODES,
} OpMode;

/* The life of an operation. Law, not observation: op_set_state() is the only way. */
#define OP_STATES(X)                                                                               \
  X (OP_PLANNED, "planned")                                                                        \
  X (OP_RUNNING, "running")                                                                        \
  X (OP_FINISHING, "finishing")                                                                    \
  X (OP_DONE, "done")                                                                              \
  X (OP_UNDOING, "undoing")                                                                        \
  X (OP_UNDONE, "undone")                                                                          \
  X (OP_STUCK, "stuck")

typedef enum {
#define X(id, word) id,
  OP_STATES (X)
#undef X
    N_OP_STATES
} OpState;

const char *op_state_name (OpState state);
OpState op_state_parse (const char *word); /* N_OP_STATES where unknown */
gboolean op_state_is_end (OpState state);
gboolean op_state_allows (OpState from, OpState to);

#define MAX_FREEZE_MS 10000u /* default */

typedef enum {
  OP_DELETE = 1 << 0,     /* remove layers that fall out of the chain */
  OP_RELATIVE = 1 << 1,   /* relative backing names */
  OP_REUSE = 1 << 2,      /* the target exists already */
  OP_NO_UNDO = 1 << 3,    /* on failure leave things for inspection */
  OP_PIVOT_LIVE = 1 << 4, /* no hold around a pivot */
  OP_SHALLOW = 1 << 5,    /* copy: only the active layer */
  OP_NO_PIVOT = 1 << 6,   /* copy: leave a point-in-time copy, the guest stays where it is */
  OP_DETACH_BACKING = 1 << 7, /* allocate: then drop the link to what lies below */
  OP_QUIESCED = 1 << 8,   /* the snapshot is taken of frozen filesystems */
  OP_BEST_EFFORT = 1 << 9, /* ... and where the agent cannot freeze them, of others */
} OpFlags;

/* Which layer is authoritative after a pivot that was decided: the commit record. */
typedef enum {
  DECIDED_NOTHING = 0,
  DECIDED_NEW, /* the operation's own pivot */
  DECIDED_OLD, /* the pivot of a fold: back to the old layer */
} OpDecision;

/* How a snapshot is merged when it is deleted: the old layer is pulled up into the new one, or the new
 * one is committed down into the old. */
typedef enum { MERGE_UNSAID, MERGE_FORWARD, MERGE_BACKWARD } MergeDirection;

const char *merge_direction_name (MergeDirection direction);       /* NULL for MERGE_UNSAID */
MergeDirection merge_direction_parse (const char *word);           /* MERGE_UNSAID where unknown */

typedef struct {
  /* -- fixed at planning time -- */
  guint index;
  char *name;            /* of the disk */
  char *qdev, *drive;    /* how to find it again; nullable */
  GPtrArray *before;     /* ChainLayer*, active first */
  OpMode mode;
  int first, base;       /* before[first..base) falls out of the chain; base is before->len where
                            nothing is kept below (flatten) */
  char *receiver;        /* file that the data goes into */
  char *header;          /* file whose header gets the name of another backing file; nullable */
  char *to;              /* the new active layer, absolute; nullable where none is made */
  gboolean apart;        /* @to does not become part of the chain */
  char *to_format;       /* its format; NULL: qcow2 */
  char *part;            /* its name while it is made; carries the operation's id; nullable */
  char *backing_first;   /* backing name written when it is made: the old active layer */
  char *backing_old;     /* backing name that @header has now; nullable */
  char *backing;         /* backing name that @header has in the end; nullable (flattened) */
  char *backing_format;  /* nullable */
  char *node;            /* node that the data goes into: of @to, or one of the old chain */
  char *file_node;       /* node of the file of @to; nullable */
  char *old_node;        /* for the old active layer, should QEMU have to open it again */
  char *job, *fold_job;  /* job ids */
  char *attach_to;       /* root node of the disk when it is a filter; else NULL */
  Json *bitmaps;         /* dirty bitmaps that the node gets; see jobs/bitmaps.c */
  Json *cache;           /* cache and detect-zeroes options taken over from the old active layer */
  guint64 needed, free;  /* bytes at the target, measured */
  gboolean has_needed;
  GArray *regions;       /* Region: of a map or an allocation; empty: the whole disk */
  char *export, *socket; /* of its NBD export, where there is to be one; nullable */
  GPtrArray *old_ids;    /* FileId*: the layers of before that fall out, recorded at planning time */
  Json *details;         /* what only its kind knows of; nullable */
  GPtrArray *grows;      /* GrowImage*: logical volumes that are extended while they fill; nullable */
  MergeDirection on_delete; /* of the snapshot that is recorded */
  /* -- facts -- */
  gboolean made;         /* the file was made by us, and is: */
  FileId id;
  Json *found;           /* of the kind itself; nullable */
  guint64 current, total; /* progress of its job, bytes; not recorded */
  /* -- not recorded -- */
  GArray *depths;        /* guint: world_depths() at planning time; nullable */
  Map *map;              /* what was read; nullable */
} OpDisk;

typedef struct {
  char *id; /* eight hexadecimal digits */
  OpKind kind;
  char *name; /* of the snapshot; nullable */
  char *description; /* of the snapshot; nullable */
  gboolean on_record; /* snapshots on record name layers of its disks: they must follow */
  char *vm;   /* address of the monitor, absolute; NULL: offline, there is no VM */
  char *agent; /* address of the guest agent; nullable */
  char *qemu; /* version string */
  pid_t qemu_pid;
  gboolean locks;     /* image locks told that it had active layers open */
  guint64 qemu_start; /* start time of that process in clock ticks after boot; 0 unknown */
  gboolean rebooted;    /* the host has booted since it was recorded; not recorded */
  gboolean mask_protocol; /* this QEMU takes backing-mask-protocol */
  gboolean start_held;    /* this QEMU wants the guest stopped while a commit job starts */
  char *migration; /* what it knew of migrations (jobs/migration.h); nullable */
  gboolean old_reopen;    /* this QEMU, before 6.1, calls blockdev-reopen x-blockdev-reopen */
  gboolean unlocks;       /* files that are read-only=on must be opened again, and can be */
  OpFlags flags;
  guint64 bandwidth;    /* bytes/s over all disks, 0 = unlimited */
  guint64 timeout_ms, max_pause_ms;
  guint64 grow_step;     /* by which logical volumes are extended, bytes; 0: they are not */
  guint64 max_freeze_ms; /* from asking for the freeze to asking for the thaw */
  GPtrArray *disks;     /* OpDisk* */
  GPtrArray *notes;     /* char*: what the user should know before it runs; not recorded */
  gboolean was_frozen;  /* when it was planned; not recorded */
  /* -- facts -- */
  OpState state;
  OpDecision decided;
  gboolean dead;        /* its QEMU is gone: what is left to do is done on the files */
  gboolean was_running; /* the guest ran when the operation began */
  gboolean switched;    /* the snapshot was asked for: the new layers may hold writes */
  gboolean held;        /* the guest is stopped by us (recorded before we stop it) */
  gboolean frozen;      /* the filesystems may be frozen by us (recorded before we ask for it) */
  gint64 frozen_at_us;  /* since when, real time */
  gint64 frozen_us;     /* the same, monotonic; not recorded */
  gint64 filesystems;   /* that the agent says it froze; -1: it did not, or did not answer */
  gboolean thawed_early; /* thawed, or continued, before the snapshot was known to be taken */
  guint64 freeze_us;    /* from asking for the freeze to the end of the thaw */
  gboolean stalled;     /* the copying does not catch up with the guest: it is held; not recorded */
  guint fed;            /* how often its data was asked for, of who wants it copied; not recorded */
  guint64 fed_from;     /* from this byte on */
  gboolean lends;       /* somebody wants the snapshot of its volume (jobs/lend.h); not recorded */
  struct _Work *lent;   /* it stands, until he gives it back; nullable, not recorded */
  guint attempt;        /* of the fold */
  gint64 started_us, ended_us;
  gint64 held_us;       /* monotonic; not recorded */
  guint64 pause_us;     /* longest hold */
  guint64 bytes;        /* in the new layers at the end */
  GError *error;        /* why it failed; nullable */
  GPtrArray *left;      /* per disk: GStrv of files kept */
  GPtrArray *removed;   /* per disk: GStrv of files removed */
  GPtrArray *after;     /* per disk: GStrv, the chain that QEMU shows at the end */
} Op;

Op *op_new (OpKind kind);
void op_free (Op *op);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Op, op_free)

/* It is done on the VM behind @client. */
void op_set_vm (Op *op, QmpClient *client);
/* Of the QEMU (or qemu-storage-daemon) that does it: 50200 is 5.2; 0 where it is not known. */
guint op_qemu_version (const Op *op);
OpDisk *op_disk (Op *op, guint i);
/* A new one at the end, with its name and nothing else. Borrowed. */
OpDisk *op_add_disk (Op *op, const char *name);
/* Its steps find no world: they look at files, in ask and probe as well as in local acts. */
gboolean op_is_offline (const Op *op);
/* Is everything there that the steps of this kind take for granted? For what comes from the journal. */
gboolean op_disk_is_whole (Op *op, OpDisk *disk);
/* Names everything of ours on @disk after the operation: node names and job ids of at most 31
 * characters, "rc-<id>-<disk>-<what>". */
void op_name_disk (Op *op, OpDisk *disk);
/* Does it end with another chain than it began with? */
gboolean op_changes_chain (const Op *op);
/* Is it about regions of a disk? */
gboolean op_has_regions (const Op *op);
/* The one setter: checks the table, logs "old -> new"; returns FALSE and changes nothing where the
 * table forbids it. */
gboolean op_set_state (Op *op, OpState state);

/* The disk of @op in the world; NULL where it is gone. */
ChainDisk *op_find_disk (Op *op, OpDisk *disk, World *world);
/* The guest's disk goes to another active layer by a job that must be held while it does. */
gboolean op_disk_switches (OpDisk *disk);
gboolean op_switches (Op *op);
/* Its snapshot lies beside the chain, which stays. */
gboolean op_disk_is_beside (const OpDisk *disk);
const char *op_method_name (const OpDisk *disk); /* "qemu", "lvm", "btrfs" */
gboolean op_has_beside (Op *op);
gboolean op_has_overlays (Op *op); /* a disk of which the snapshot is a new active layer */
/* Layer of the chain before, active first; borrowed, NULL beyond its ends. */
ChainLayer *op_disk_layer (OpDisk *disk, int i);
/* What only its kind knows of: a word of its details (nullable), and a number of bytes. */
const char *op_disk_detail (const OpDisk *disk, const char *key);
guint64 op_disk_size (const OpDisk *disk, const char *key);
gboolean op_deletes (Op *op); /* --delete */
/* Chain that the disk is to have in the end, full. */
char **op_disk_planned_chain (OpDisk *disk);
/* Which file is its active layer. Settled, that of the chain it ended with. Until then, also of images that no
 * QEMU has: before the snapshot the old layer, after it the new one, which is backed by it until the pivot;
 * after the commit record of a fold the old one again (design, "Journal and recovery"). Full; NULL: it has no
 * chain that changes. */
char *op_disk_active_file (Op *op, OpDisk *disk);
/* Which layers of the old chain are no more in the end, and which layer has their data then. */
typedef struct {
  guint first, count;       /* into before */
  const char *file, *format; /* borrowed */
} OpAbsorbed;
OpAbsorbed op_disk_absorbed (Op *op, OpDisk *disk);

/* The parts that are fixed, and the facts. op_from_json: NULL with FAILED where it is malformed. */
Json *op_to_json (Op *op);
Json *op_facts_to_json (Op *op);
Op *op_from_json (Json *plan, Json *facts, GError **error);
