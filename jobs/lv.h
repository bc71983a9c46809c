/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logical volumes as steps make and remove them; lvm.h reads them.
 *
 * Two things make it safe to die at any moment. What is made carries a tag with the operation's id from its
 * first moment on, so that it is known afterwards what is ours. And a program that changes a volume group is
 * never killed, neither by a cancel nor by our own death: between suspending a device and resuming it, that
 * would leave the guest's disk standing still. It ends by itself, and whoever looks waits until it has: it
 * keeps a lock of the operation (ImageMore.busy). */
#pragma once

#include "jobs/step.h"

#include <sys/types.h>

/* ---- names --------------------------------------------------------------------------------------- */

/* "vg0-my--lv" as device-mapper names it -> "vg0", "my-lv"; FALSE for names of another kind. */
gboolean dm_name_split (const char *name, char **ret_vg, char **ret_lv);
/* Is that block device a logical volume? */
gboolean lv_of_device (dev_t device, char **ret_vg, char **ret_lv);
gboolean lv_of_file (const char *path, char **ret_vg, char **ret_lv);
/* "/dev/VG/LV", which need not exist; USAGE where it is none. */
gboolean lv_path_split (const char *path, char **ret_vg, char **ret_lv, GError **error);
/* Is @path, which need not exist, the name of a logical volume? */
gboolean lv_is_path (const char *path);
/* Filesystems of their own in /dev, such as /dev/shm, have files. */
gboolean lv_dir_has_files (const char *dir);
/* As device-mapper knows it ("LVM-..."); full, NULL where @path is no active logical volume. */
char *lv_uuid (const char *path);
/* The tag of what @op makes; full. */
char *lv_tag (const Op *op);
/* The same, by the id of the operation (and of the record of its snapshot). */
char *lv_tag_of (const char *id);
/* @row: of lvm_lvs(). */
gboolean lv_has_tag (Json *row, const char *tag);

/* ---- programs ------------------------------------------------------------------------------------ */

/* lvcreate -s: @lv is a read-only image of @origin at this moment. @size: bytes for what changes since; 0: a
 * thin snapshot, of a thin volume, which takes its space from the pool. */
char **lv_snapshot_args (const char *vg, const char *origin, const char *lv, guint64 size,
                         const char *tag);
/* Appends the run of a program that changes a volume group, as said above. */
Ask *ask_lvm (GPtrArray *asks, char **take_argv);

/* ---- steps ---------------------------------------------------------------------------------------
 *
 * details of the disk: "vg", "lv", and where it has one, "origin"; "uuid" (lv_uuid) where the volume was not
 * made by this operation. found: "lv", whether it is there, as far as was seen. */

/* Appends: lvremove, if it is ours (by its tag, or by the uuid), and if it is there at all; then an origin that
 * somebody's death left suspended is resumed. Doing it again is harmless. */
void lv_remove_ours (Op *op, OpDisk *disk, GPtrArray *asks);
/* The same of the volume that stands under "instant" in the details, with keys of the same names. */
void lv_remove_instant (Op *op, OpDisk *disk, GPtrArray *asks);
/* Appends: it is there now. After the ask that made it. */
void lv_note_made (GPtrArray *asks);
Seen lv_is_there (const OpDisk *disk);
