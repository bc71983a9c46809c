/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations on volumes, without a VM. What is to be done stands in the details of their one disk, whose name
 * and `to` are the path of the volume:
 *
 *   uses      [PATH]: what must not change meanwhile
 *   fill      [{"argv":[...],"from":PATH,"into":BOOL,"silent":BOOL,"watched":BOOL,"in-order":BOOL}]: what gives
 *             the new file its contents, one after the other; "from" and "into" (the new file) are stdin and stdout,
 *             "in-order": it writes the file from its beginning to its end
 *   stream    where its contents come from over the network; see fetch.h
 *   reflink   PATH: share all blocks of this file instead
 *   like      PATH: whose owner and mode the new file gets
 *   mode, owner, group: or these
 *   length    bytes of the new file in the end; absent: as it came
 *   replaces  {"dev","ino"}: the file that stands under the name now and goes
 *   removes   {"path","dev","ino"}: the source, which goes in the end
 *   is        {"dev","ino"}: the volume that is changed
 *   format    of the volume that is changed
 *   size, new-size   of it, as a guest sees it
 *   vm, node  the VM (as it is called here) and QEMU's node that has it open
 *   vg, lv    of a logical volume: its own name, or the one it has until it is whole
 *   name, old the name that it gets, and the one that what it replaces has until it is removed
 *   lv-size, pool   its bytes, and the thin pool that it is made in
 *   origin    of a logical volume that is a snapshot of it; its lv-size is what may change since, 0: thin
 *   internal  a snapshot "name" inside the image
 *   subvolume PATH: a snapshot of that subvolume of btrfs
 *   instant   {"vg","lv","origin","size"} or {"path","of"}: the snapshot that is copied, and of what
 *   offer     of a volume that is lent: what is told of it to the other host (src/storage/offer.h)
 *   zero-from, in-place   from where on it must be made to read as zeroes, and whether it has its name then
 *   image     how QEMU opens the volume: options of blockdev-add
 *   stamp     of a file: it must not have been changed when the new filesystem goes into it
 *   filesystem, fs-size, fs-block, new-fs-size   what lies in the volume, its bytes now and then, and its unit
 *   view, mount   where the volume can be seen as a file while that is resized, and where it is mounted for it;
 *             of one that is mounted already: its device and its mount */
#pragma once

#include "jobs/step.h"

extern const Step volume_resize_steps[];
/* Through the QEMU that has it open. */
extern const Step volume_resize_live_steps[];
extern const Step volume_delete_steps[];
/* Of a resize whose QEMU is gone: was it done? And the table for that. */
gboolean volume_was_resized (Op *op);
extern const Step dead_resize_steps[];
/* growfs, shrinkfs: of a filesystem that nobody has mounted, and of one that is. */
extern const Step volume_fs_steps[];
extern const Step volume_fs_mounted_steps[];

/* The same of logical volumes. */
extern const Step volume_make_lv_steps[];
extern const Step volume_resize_lv_steps[];
extern const Step volume_delete_lv_steps[];

extern const Step volume_internal_steps[];  /* a snapshot inside a qcow2 image */
extern const Step volume_subvolume_steps[]; /* of a btrfs subvolume */
extern const Step volume_lend_steps[];      /* of what another host copies, for as long as that takes */

/* A snapshot of the source, for the time that it is copied. */
gboolean volume_has_instant (Op *op);
void volume_take_instant (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void volume_drop_instant (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* clang-format off */
#define INSTANT_STEP                                                                               \
  {.name = "instant",                                                                              \
   .says = "take a snapshot of the source",                                                        \
   .kind = STEP_UNDOABLE,                                                                          \
   .ask = volume_take_instant,                                                                     \
   .undo = volume_drop_instant,                                                                    \
   .undo_says = "remove it",                                                                       \
   .applies = volume_has_instant}
#define DROP_INSTANT_STEP                                                                          \
  {.name = "forget",                                                                               \
   .says = "remove the snapshot of the source",                                                    \
   .kind = STEP_FINISH,                                                                            \
   .ask = volume_drop_instant,                                                                     \
   .applies = volume_has_instant}
/* clang-format on */

/* The table of @op, a kind of its own; NULL where it is none. */
const Step *volume_steps (Op *op);
/* The ask of the step that gives a new volume its contents. */
void volume_fill (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Under the name of the unfinished file: an empty one of our own; and it goes, which may be said twice. */
gboolean volume_create_part (Op *op, OpDisk *disk, GError **error);
gboolean volume_remove_part (Op *op, OpDisk *disk, GError **error);
/* Appends: the volume is still what it was ("is"), and nobody has it open. */
void volume_ask_free (GPtrArray *asks);
gboolean volume_replaces (const OpDisk *disk);
gboolean volume_grows (Op *op);
gboolean volume_shrinks (Op *op);
Seen volume_seen_deleted (Op *op, OpDisk *disk, World *world);
/* Bytes that a guest sees of the raw or qcow2 volume at @path. */
gboolean volume_guest_size (const char *path, const char *format, guint64 *ret_size, GError **error);
