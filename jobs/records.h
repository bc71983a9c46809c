/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots on record: what was taken, and how it is to be merged one day. A record draws a boundary
 * in the chain of each of its disks: the new layer right over the old one. Operations that move
 * boundaries take the records along (records_follow), in the same journal.
 *
 * A record knows nothing of what is; records_match asks the world. */
#pragma once

#include "jobs/journal.h"

typedef struct {
  char *disk;   /* its name when it was recorded */
  char *method; /* "qemu": an overlay; "lvm", "btrfs": beside the chain, which has no boundary then */
  MergeDirection on_delete;
  char *old_file, *old_format; /* read-only since then; format is nullable */
  char *new_file, *new_format; /* the active layer since then */
  FileId old_id, new_id;       /* {0}: no local file */
  char *subvolume;             /* "btrfs": old_file lies in this snapshot of a subvolume; nullable */
  char *uuid;                  /* of the logical volume or subvolume; nullable */
} RecordDisk;

typedef struct {
  char *id;          /* of the operation, or its own */
  char *vm;          /* address of the monitor */
  char *name;
  char *description; /* nullable */
  char *parent;      /* name; nullable */
  gint64 created_us;
  gboolean running;  /* the guest ran */
  GPtrArray *disks;  /* RecordDisk* */
} Record;

Record *record_new (const char *vm, const char *name); /* with an id of its own */
void record_free (Record *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Record, record_free)
RecordDisk *record_add_disk (Record *record, const char *disk);
/* The boundary between two layers of a chain, and what the files are now. MERGE_UNSAID: backward. */
void record_set_layers (RecordDisk *disk, const ChainLayer *upper, const ChainLayer *lower,
                        MergeDirection on_delete);
/* What lies beside the chain of @active: @source, known by what it is now. */
void record_set_beside (RecordDisk *disk, const char *method, const ChainLayer *active,
                        const char *source, const char *subvolume);
gboolean record_disk_is_beside (const RecordDisk *disk);
/* Is that still there? FALSE with *ret_why (full) where not. */
gboolean record_beside_is_there (const RecordDisk *disk, char **ret_why);
RecordDisk *record_disk (const Record *record, guint i);
RecordDisk *record_find_disk (const Record *record, const char *disk); /* nullable */

/* What a document says lies beside the chain of @active: REFUSED unless the method makes such a thing. */
gboolean record_check_beside (const RecordDisk *disk, const ChainLayer *active, World *world,
                              GError **error);
/* REFUSED where what is said to lie beside is one of the layers (ChainLayer*) of the disk @name, or of
 * any disk. */
gboolean record_check_no_layer (const RecordDisk *disk, const char *name, GPtrArray *layers,
                                GError **error);
gboolean record_check_no_disks_layer (const RecordDisk *disk, World *world, GError **error);

/* ---- reading; a NULL journal has no records ------------------------------------------------------ */

/* Of one VM (NULL: of all), oldest first: Record*, full. */
GPtrArray *records_list (Journal *journal, const char *vm, GError **error);
/* NOT_FOUND, listing the names. */
Record *records_load (Journal *journal, const char *vm, const char *name, GError **error);
/* The one that the next snapshot has as its parent: the youngest. Borrowed, nullable. */
Record *records_current (GPtrArray *records);
/* Borrowed; NULL with NOT_FOUND, listing the names. */
Record *records_find (GPtrArray *records, const char *name, GError **error);
/* Does a record draw its boundary in the chain that this disk of @op has before it? Offline there are no
 * names of disks: then the files decide. */
gboolean records_touch (GPtrArray *records, const Op *op, const OpDisk *disk);

/* ---- writing: durable when it returns TRUE ------------------------------------------------------- */

/* Adds it, or replaces the one of that name, whose children stay. The parent must be on record. */
gboolean records_store (Journal *journal, Record *record, GError **error);
/* Drops it; its children get its parent. NOT_FOUND. */
gboolean records_drop (Journal *journal, const char *vm, const char *name, GError **error);

/* What may change without the chain: @direction of @disk (NULL: of all) unless it is unsaid, and the
 * description unless it is NULL. NOT_FOUND. */
gboolean records_edit (Journal *journal, const char *vm, const char *name, const char *disk,
                       MergeDirection direction, const char *description, GError **error);

/* Acts of steps (AskRecord); doing one again is harmless. */
gboolean records_add (Journal *journal, Op *op, GError **error);    /* the snapshot that @op took */
gboolean records_follow (Journal *journal, Op *op, GError **error); /* layers that @op dropped */

/* ---- against the world --------------------------------------------------------------------------- */

/* Where the chain of its disk has the boundary: index of the new layer, *ret_disk (borrowed); -1 and
 * *ret_why (full) where it has not. Of what lies beside a chain: 0 where it is still there. */
int record_disk_match (const RecordDisk *disk, World *world, ChainDisk **ret_disk, char **ret_why);
/* The same against layers (ChainLayer*, active first). */
int record_layers_match (const RecordDisk *disk, GPtrArray *layers, char **ret_why);
