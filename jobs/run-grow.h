/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What run-grow.c (who stands, how far is it written) and run-extend.c (making it larger) share. */
#pragma once

#include "jobs/run-private.h"

#include "jobs/grow.h"

/* One volume. */
typedef struct {
  OpDisk *disk;
  GrowImage *image;
  guint64 wanted;     /* the size that it is being given; 0: nothing runs */
  guint64 had;        /* its size before that */
  guint64 tried;      /* the size that lvextend was asked for last: less, where its group has less */
  gboolean retried;   /* lvextend failed for no reason that is known, and was run once more */
  gboolean refreshed; /* its device was brought in line with what LVM has on record */
  gboolean job_waits; /* the job of this disk stands until there is space here */
  gboolean guest_waits;
  gboolean unsure;    /* ... if it is this disk that it waits for */
  gboolean letting;   /* the job is just being let go on */
  gboolean gave_up;   /* there is none, and who waits is to be told */
  guint64 went_on_at; /* size at which who stood was let go on; 0: nobody was */
  char *why;          /* what lvm said last; nullable */
  gboolean is_full;   /* ... since its group, or its pool, is full */
} Grower;

struct _Growth {
  GPtrArray *growers;
  gboolean looking, again;
  guint pending; /* errands on their way */
  Thawed after;  /* once there are none; nullable */
};

/* What is on its way for one volume; holds the runner. */
typedef struct {
  Runner *runner;
  Grower *grower;
  guint64 threshold;
} Errand;

Errand *errand_new (Runner *runner, Grower *grower);
void errand_free (Errand *errand);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Errand, errand_free)

gboolean growth_is_over (Runner *runner); /* nothing is asked of QEMU any more */
void growth_note (Runner *runner, Grower *grower, const char *phase, const char *detail);

/* Makes it larger, where it was written to @highest. FALSE: it has all that its image can need. */
gboolean growth_extend (Runner *runner, Grower *grower, guint64 highest);
/* run-extend.c tells: it has @size bytes now, or it is as large as it can be made. */
void growth_extended (Runner *runner, Grower *grower, guint64 size);
void growth_refused (Runner *runner, Grower *grower);
