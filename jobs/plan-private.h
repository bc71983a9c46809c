/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by plan.c (the course of a plan) and the files in which it is made: plan-disks.c (which layers),
 * plan-ask.c (what others are asked), and those that are named below. */
#pragma once

#include "jobs/plan.h"

typedef struct {
  PlanContext context;
  const Request *request;
  Journal *journal;   /* to see other operations; NULL where there is none yet */
  GPtrArray *records; /* Record* of the VM */
  Op *op;
  guint asking;  /* of qemu-img, and of the guest agent */
  Json *bitmaps; /* offline: of each layer, by node name */
  GError *error;
  PlanReady callback;
  gpointer data;
} Plan;

/* plan.c: the end of a plan, once all questions are answered; frees @plan. */
gboolean plan_tell (gpointer plan);

/* plan-disks.c */
gboolean plan_add_disk (Plan *plan, const RequestDisk *wanted, GError **error);
/* All that the guest can write to, besides those that were named. */
gboolean plan_add_all (Plan *plan, GError **error);
/* The disks of the snapshot that is deleted. */
gboolean plan_add_deletion (Plan *plan, GError **error);
/* A disk that is gone: all that is known of its chain is what is on record. */
OpDisk *plan_gone_disk (Op *op, const RecordDisk *from);
/* What is the same for all, once the layers are chosen. @world: NULL offline. */
gboolean plan_finish_disk (Op *op, OpDisk *disk, World *world, GError **error);

/* plan-ask.c. FALSE: nothing was to be asked; else plan_tell() comes after the last answer. */
gboolean plan_ask_around (Plan *plan);

/* What was asked of another program is answered; @take_error NULL: nothing speaks against it. */
typedef void (*PlanAnswer) (GError *take_error, gpointer data);

/* plan-snapshot.c: what only snapshots have. @records: those on record for the VM. */
gboolean plan_name_snapshot (Op *op, const Request *request, GPtrArray *records, GError **error);
/* @path as the request names it, full; resolved where the request is bound to directories. */
char *plan_path (const Request *request, const RequestDisk *wanted, const char *path, GError **error);
/* The merges that deleting the snapshot is, as a request, full: REFUSED where its record does not match
 * the chains, NOT_FOUND where there is none. */
Request *plan_deletion (const Request *request, GPtrArray *records, World *world, GError **error);
/* The target that was asked for, full; resolved where the request is bound to directories. */
char *plan_target (const Request *request, const RequestDisk *wanted, GError **error);
/* Appends the names (full) of the disks that the request leaves out. */
gboolean plan_find_left_out (const Request *request, World *world, GPtrArray *ret_names, GError **error);
/* The name that the header of @overlay gets for @file: the file's own, or relative to @overlay. Full. */
char *plan_backing_name (Op *op, const char *overlay, const char *file);

/* plan-beside.c: snapshots that lie beside the chain. */
gboolean plan_is_beside (const RequestDisk *wanted);
/* Mode, target and details of a disk that has its chain; and the same for what is to be deleted. */
gboolean plan_beside_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, const Request *request,
                           GError **error);
gboolean plan_check_beside (Op *op, OpDisk *disk, GError **error);
gboolean plan_beside_deletion (OpDisk *disk, const Record *record, const RecordDisk *from,
                               GError **error);
/* Asks what only LVM knows. FALSE: there is nothing to be asked, and @answer never comes. */
gboolean plan_ask_lvm (Op *op, OpDisk *disk, PlanAnswer answer, gpointer data);

/* plan-merge.c: mode, layers and names of one disk; the disk has its chain (and target) already. */
gboolean plan_merge_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, World *world,
                          GError **error);
gboolean plan_copy_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error);

/* plan-region.c: operations on regions of a disk, which leave its chain as it is. */
gboolean plan_check_region_disk (const PlanContext *context, OpKind kind, Journal *journal,
                                 ChainDisk *found, GError **error);
/* The chain without what lies under the active layer, as a pull of everything has it. */
gboolean plan_detach (Op *op, OpDisk *disk, const RequestDisk *wanted, World *world, GError **error);
gboolean plan_add_regions (Op *op, OpDisk *disk, const PlanContext *context, ChainDisk *found,
                           const RequestDisk *wanted, GError **error);
/* The same of an image that no process has open. */
gboolean plan_allocate_image (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error);
/* May @disk's node be exported by this QEMU? FALSE: that is known already, and @answer never comes. */
gboolean plan_ask_iothread (const PlanContext *context, OpKind kind, OpDisk *disk, PlanAnswer answer,
                            gpointer data);

/* Offline: the disks of the record, uppermost layers first as far as records tell; wanted->disk is the file. */
Request *plan_deletion_offline (const Request *request, GPtrArray *records, Record **ret_record,
                                GError **error);

/* plan-offline.c: the images of an offline operation, their layers and their checks. @name: of the disk. */
gboolean plan_add_offline (Op *op, const Request *request, const RequestDisk *wanted, const char *name,
                           Journal *journal, GError **error);
/* A disk whose chain stays as it is; NULL where it cannot be read. */
OpDisk *plan_look_offline (Op *op, const RequestDisk *wanted, const char *name, GError **error);
/* Dirty bitmaps: which layers are worth asking, and what becomes of @found (node name -> bitmaps). */
gboolean plan_layer_has_bitmaps (OpDisk *disk, int i);
gboolean plan_bitmaps_offline (Op *op, OpDisk *disk, Json *found, GError **error);
/* @out: what qemu-storage-daemon --version says. */
gboolean plan_check_engine (Op *op, OpDisk *disk, const char *out, GError **error);

/* plan-region.c. Some QEMUs abort when they copy backing data into @file: REFUSED. */
gboolean plan_check_subclusters (const PlanContext *context, OpDisk *disk, const char *file,
                                 GError **error);

/* plan-checks.c: each is a refusal with reason and cure. */
gboolean plan_check_vm (const PlanContext *context, const Request *request, GError **error);
void plan_add_notes (Op *op);
gboolean plan_check_not_taken (Journal *journal, const char *vm, const char *disk, GError **error);
gboolean plan_check_has_chain (ChainDisk *disk, GError **error); /* one that can be read */
/* @journal is nullable: there is none yet. */
gboolean plan_check_disk (ChainDisk *disk, Journal *journal, const char *vm, GError **error);
/* No operation at all is open on @vm. */
gboolean plan_check_none_open (Journal *journal, const char *vm, GError **error);
/* PERMISSION where the request is bound to other volume groups. */
gboolean plan_check_group (const Request *request, const char *disk, const char *vg, GError **error);
/* Which layer of @before, from @from to before @to, is no file any more; -1: none. */
int plan_removed_layer (OpDisk *disk, int from, int to);
gboolean plan_check_target (Op *op, OpDisk *disk, World *world, GError **error);
/* @file: nullable. @by_us: it is we who write it, not a QEMU that may be another user. */
gboolean plan_check_writable (const char *file, gboolean by_us, GError **error);
gboolean plan_check_dropped (Op *op, OpDisk *disk, World *world, GError **error);
/* No other disk of this VM, other process, or image in the same directory uses @layer. */
gboolean plan_check_not_shared (OpDisk *disk, ChainLayer *layer, pid_t qemu, World *world,
                                GError **error);

/* plan-space.c: forecasts what @disk will need. FALSE: there is nothing to be asked (or *error is set), and
 * @answer never comes. Where it cannot be told, the operation gets a note. */
gboolean plan_ask_space (const PlanContext *context, Op *op, OpDisk *disk, PlanAnswer answer,
                         gpointer data, GError **error);
gboolean plan_check_space (Op *op, GError **error);
/* Would all that @op can ever write fit where it goes? FALSE also where that cannot be said without the maps. */
gboolean plan_has_room (Op *op);

/* plan-grow.c: which images of @disk are extended (--grow-lv); then LVM is asked about them, as above; then
 * whether their groups have the space that is forecast. */
gboolean plan_grow_disk (Op *op, OpDisk *disk, const Request *request, World *world, GError **error);
gboolean plan_check_grows (Op *op, GError **error);
gboolean plan_ask_grow (Op *op, OpDisk *disk, PlanAnswer answer, gpointer data);
gboolean plan_check_groups (Op *op, GError **error);

/* plan-agent.c: USAGE where a freeze is wanted and the table has none. */
gboolean plan_check_freezable (Op *op, GError **error);
/* Asks the guest agent whether it can freeze. FALSE: it could not be asked, and @callback
 * does not come. Sets op->was_frozen. */
typedef void (*PlanChecked) (const GError *error, gpointer data);
gboolean plan_check_agent (Op *op, World *world, PlanChecked callback, gpointer data, GError **error);
