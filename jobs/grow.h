/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images on logical volumes that are smaller than what the image may need one day (VDSM's block storage). When
 * QEMU tells that such a volume was written far into its last part (QMP: block-set-write-threshold),
 * lvextend makes it larger by one step: half a step is room for what is written meanwhile.
 *
 * Here is which images grow and how far, and the two rows between which they are watched; run-grow.c is what
 * happens then. QEMU needs not be told of the new size: a qcow2 image writes on, and what is written behind
 * the old end is what it reads there (docs/qemu-findings.md). */
#pragma once

#include "jobs/step.h"

#define GROW_STEP_MIN (1ull << 20) /* bytes */

typedef struct {
  /* -- fixed at planning time -- */
  char *file;     /* as the chain names it */
  char *vg, *lv;
  char *node;     /* its protocol node */
  char *pool;     /* the thin pool whose space it has; NULL: its group's */
  guint64 most;   /* bytes; the image never needs more */
  guint64 size;   /* of the volume, before */
  guint64 theirs; /* threshold that somebody else had set; 0: none */
  /* -- fact -- */
  guint64 grown;  /* the size that we gave it; 0: none */
  /* -- not recorded -- */
  guint64 armed;  /* threshold that QEMU has from us; 0: none */
  guint64 free;   /* in its group, or its pool */
  guint64 mapped; /* what it has of that already */
} GrowImage;

GPtrArray *grow_images_new (void); /* of GrowImage */
Json *grow_images_to_json (GPtrArray *images); /* full; NULL where there are none */
/* FALSE where it is malformed. @ret_images: NULL where there are none. */
gboolean grow_images_from_json (Json *json, GPtrArray **ret_images);
/* What became of them; full, nullable. */
Json *grow_facts_to_json (GPtrArray *images);
void grow_facts_from_json (Json *facts, GPtrArray *images);

/* Does an image of any disk grow? */
gboolean op_grows (Op *op);
gboolean op_has_grown (Op *op); /* was any of them extended? */
/* The image of @file; borrowed, nullable. */
GrowImage *grow_image_of (OpDisk *disk, const char *file);

/* From this byte on a volume of @size is to be made larger; 0: it has all that its image can need. */
guint64 grow_threshold (const Op *op, const GrowImage *image, guint64 size);
/* The size that it gets next, where it was written to @highest. Not larger than @size: it cannot grow. */
guint64 grow_next (const Op *op, const GrowImage *image, guint64 size, guint64 highest);
/* lvm lvextend; full. */
char **grow_args (const GrowImage *image, guint64 size);
/* @row: of lvs, nullable. Was it left by an lvextend that did not come to its end? */
gboolean grow_is_half_done (const GrowImage *image, Json *row);
/* lvm lvchange --refresh, which mends that; full. */
char **grow_refresh_args (const GrowImage *image);
/* Appends: QEMU tells once @image is written beyond @threshold; 0: it does not. */
Ask *ask_threshold (GPtrArray *asks, const GrowImage *image, guint64 threshold);

void watch_volumes (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void unwatch_volumes (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

#define WATCH_STEP                                                                                 \
  {.name = "watch",                                                                                \
   .says = "have QEMU tell when a logical volume is to be extended",                               \
   .kind = STEP_UNDOABLE,                                                                          \
   .applies = op_grows,                                                                            \
   .ask = watch_volumes,                                                                           \
   .undo = unwatch_volumes,                                                                        \
   .undo_says = "have it not told any more; a volume that was extended stays so"}
#define UNWATCH_STEP                                                                               \
  {.name = "unwatch",                                                                              \
   .says = "have QEMU not tell any more",                                                          \
   .kind = STEP_FINISH,                                                                            \
   .looks = TRUE,                                                                                  \
   .applies = op_grows,                                                                            \
   .ask = unwatch_volumes}
