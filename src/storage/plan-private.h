/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by plan.c (the course of planning), plan-make.c (what gives new volumes), plan-copy.c (what gives
 * copies as they are) and plan-change.c (what changes a volume where it is). */
#pragma once

#include "jobs/filesystem.h"
#include "src/storage/peek.h"
#include "src/storage/plan.h"

/* What lies in a volume, and where it ends. */
typedef struct {
  const char *what;             /* "ext4", "partition table"; NULL: nothing that is known */
  const Filesystem *filesystem; /* nullable */
  guint64 bytes;                /* 0: not known */
  guint64 block;                /* the unit of the filesystem */
} VolumeEnd;

typedef struct _VolumePlan VolumePlan;
typedef gboolean (*VolumeJudge) (VolumePlan *plan, const VolumeEnd *end, GError **error);

struct _VolumePlan {
  const Allow *allow;
  const char *state_dir;
  const VolumeRequest *request;
  Json *layers;
  OpenFiles *files;
  Op *op;
  OpDisk *disk;       /* the one of @op */
  Volume *source;     /* nullable */
  Volume *volume;     /* what is changed or replaced; nullable */
  Json *lvs, *vgs;    /* what LVM says, where it was asked; nullable */
  char **measure;     /* qemu-img argv that says how much space is needed; nullable */
  gboolean full;      /* ... with all clusters allocated */
  Peek *peek;         /* into @volume; nullable */
  VolumeJudge judge;  /* of where what is inside it ends */
  GError *error;
  guint pending;
  VolumePlanReady callback;
  gpointer data;
};

/* plan.c: parts of planning */

/* Nobody may write it, nobody may have mounted it: REFUSED, with who does. @reading: others may read it too. */
gboolean plan_check_free (VolumePlan *plan, Volume *volume, gboolean reading, GError **error);
/* Which VMs have it. */
void plan_find_vms (VolumePlan *plan, Volume *volume);
/* An existing volume, free to be read or changed. */
Volume *plan_find (VolumePlan *plan, const char *path, const char *format, gboolean reading,
                   GError **error);
/* Makes the operation on @path. */
void plan_begin (VolumePlan *plan, const char *path);
/* The same for a volume that is to be made: it must not exist, or may be replaced. @like: nullable. */
gboolean plan_begin_new (VolumePlan *plan, const char *path, Volume *like, GError **error);
/* Adds a program to the details. Takes @argv. Returns its object, borrowed. */
Json *plan_add_program (VolumePlan *plan, char **take_argv);
/* How QEMU opens @volume: every layer of it with its format; full. */
Json *plan_image_spec (Volume *volume);
/* The same as "json:{...}" that names every layer of @volume and its format; at most @limit bytes of it are seen, 0: all of
 * it. Full. */
char *plan_image_name (Volume *volume, guint64 limit);
/* The same of the bytes it is made of; full. */
char *plan_raw_name (Volume *volume);
/* Full. The word of the request, else what the suffix of @path says, else @otherwise. */
char *plan_format (const char *asked, const char *path, const char *otherwise);
/* Can the blocks of @source be shared with a new file beside @path? Tried out, with a file that has no name. */
gboolean plan_can_share (Volume *source, const char *path);
void plan_use (VolumePlan *plan, const char *path);
void plan_need (VolumePlan *plan, guint64 bytes);

/* plan-copy.c: as with cp(1), a directory takes the name of the source. Full, nullable. */
char *plan_target_of (VolumePlan *plan, const char *source);
/* Is its program on this host? */
gboolean plan_check_codec (const Codec *codec, GError **error);
/* What decompresses into the new volume; full. */
char **plan_unpack_args (VolumePlan *plan, const Codec *codec);
/* Of a logical volume that an archive is unpacked into: as the request says, or as what it replaces. */
gboolean plan_set_unpacked_size (VolumePlan *plan, GError **error);
guint64 plan_lv_size_for (VolumePlan *plan, guint64 bytes);
gboolean plan_check_suffix (VolumePlan *plan, const Codec *codec, GError **error);
/* Every question counts @pending up and ends with it. Takes the error. */
void plan_answered (VolumePlan *plan, GError *take_error);
/* plan-end.c: asks where what lies in plan->volume ends. The judge may be called from inside, or later. */
gboolean plan_find_end (VolumePlan *plan, VolumeJudge judge, GError **error);
/* plan-change.c */
/* No snapshots depend on it. */
gboolean plan_check_origin (VolumePlan *plan, Volume *volume, GError **error);
void plan_set_identity (VolumePlan *plan);
/* Nothing of what lies in plan->volume is behind its new size: asked, and refused where it is. */
gboolean plan_check_end (VolumePlan *plan, GError **error);

/* plan-lv.c */

/* Does @request name a logical volume? Then LVM is asked before the kind is planned. */
gboolean plan_needs_lvm (const VolumeRequest *request);
void plan_ask_lvs (VolumePlan *plan);
/* plan.c, which goes on then */
void plan_lvm_answered (VolumePlan *plan, const GError *error);
/* What lvs(8) says of it; borrowed, NULL where it is no logical volume. */
Json *plan_lv_row (VolumePlan *plan, const Place *place);
/* The operation is on the logical volume @place as it stands. */
void plan_set_lv (VolumePlan *plan, const Place *place);
/* It makes the logical volume @place, which may exist and is replaced then. */
gboolean plan_begin_lv (VolumePlan *plan, const Place *place, GError **error);
gboolean plan_makes_lv (VolumePlan *plan);
gboolean plan_makes_thin (VolumePlan *plan);
/* Up to whole extents. */
guint64 plan_lv_round (VolumePlan *plan, guint64 bytes);
/* New blocks of the thin pool never show old data. */
gboolean plan_check_pool (VolumePlan *plan, const char *vg, const char *pool, GError **error);
gboolean plan_lv_check_space (VolumePlan *plan, guint64 bytes, GError **error);
/* At least so large; from @zero_from on nobody writes into it, so that it must be zeroed. */
gboolean plan_set_lv_size (VolumePlan *plan, guint64 bytes, guint64 zero_from, GError **error);

/* The smaller of @bytes and what the volume group of it has left, in whole extents. */
guint64 plan_lv_part (VolumePlan *plan, const char *vg, guint64 bytes);

/* plan-make.c: "qemu-img create" of the new volume; @option and @backing nullable. */
void plan_add_create (VolumePlan *plan, const char *format, const char *option, Volume *backing,
                      guint64 capacity);

/* plan-snapshot.c: the source of a copy of which a snapshot is taken first, and then that in its place */
gboolean plan_find_instant (VolumePlan *plan, GError **error);
gboolean plan_set_instant (VolumePlan *plan, GError **error);
/* Where that will lie; full. */
char *plan_instant_path (VolumePlan *plan);

/* by kind */
gboolean plan_create (VolumePlan *plan, GError **error);
gboolean plan_clone (VolumePlan *plan, GError **error);
gboolean plan_copy (VolumePlan *plan, GError **error);
/* From another host. */
gboolean plan_copy_offered (VolumePlan *plan, GError **error);
gboolean plan_copy_contents (VolumePlan *plan, GError **error);
gboolean plan_compress (VolumePlan *plan, GError **error);
gboolean plan_decompress (VolumePlan *plan, GError **error);
gboolean plan_snapshot (VolumePlan *plan, GError **error);
gboolean plan_resize (VolumePlan *plan, GError **error);
gboolean plan_delete (VolumePlan *plan, GError **error);
gboolean plan_growfs (VolumePlan *plan, GError **error);
gboolean plan_shrinkfs (VolumePlan *plan, GError **error);
gboolean plan_lend (VolumePlan *plan, GError **error);
