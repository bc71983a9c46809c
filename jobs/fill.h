/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The work of "allocate": map the regions, copy what backing layers hold into the active one by reading
 * it through a copy-on-read filter, and, if all is to be allocated, write zeros where nobody has data.
 *
 * Nothing of it changes what the guest reads, so it can end anywhere, and nothing is to be taken back.
 * fill.c is the order of things, fill-copy.c moves bytes through the export, fill-hold.c writes zeros into
 * the active layer of a guest that is held for so long, fill-file.c allocates space of a raw file. */
#pragma once

#include "jobs/map-nbd.h"
#include "jobs/work.h"

#define FILL_SLOTS 4u
#define FILL_PIECE (1u << 20) /* bytes of one request */

typedef struct _Fill Fill;

typedef enum { FILL_MAPPING, FILL_COPYING, FILL_MAPPING_AGAIN, FILL_ZEROING, FILL_FLUSHING, FILL_ENDING } FillPhase;

/* A request in flight. */
typedef struct {
  gint64 cookie; /* 0: free */
  char *buffer;
  guint64 length;
} FillSlot;

struct _Fill {
  Work work;
  Op *op;
  OpDisk *disk;
  WorkHost host;
  NbdLink *link;
  MapReader *reader;
  FillPhase phase;
  GArray *todo;     /* Region, sorted: what this phase still has to do, from todo_at on */
  guint todo_at;
  FillSlot slots[FILL_SLOTS];
  gint64 flush;     /* cookie */
  gint64 paid_until; /* monotonic us: what was asked for so far is paid with the bandwidth until then */
  GSource *timer;
  struct _Hold *hold; /* fill-hold.c; nullable */
  GError *error;    /* then nothing new is begun */
};

/* -- fill.c: a work without a flaw ends through fill_go_on() -- */
Work *fill_start (Op *op, OpDisk *disk, const WorkHost *host);
gboolean fill_is_full (OpDisk *disk); /* zeros too */
/* One step further, from the main loop. */
void fill_go_on (Fill *fill);
/* The first error counts. Takes it. */
void fill_fail (Fill *fill, GError *take_error);
/* fill_go_on() after so many microseconds. */
void fill_later (Fill *fill, gint64 us);
/* The next piece of what is to do, at most @most bytes; FALSE: nothing is left. */
gboolean fill_next (Fill *fill, guint64 most, Region *ret_piece);
void fill_account (Fill *fill, guint64 bytes);
/* Microseconds until the bandwidth allows more; 0: now. */
gint64 fill_wait (Fill *fill);
guint fill_in_flight (Fill *fill);

/* -- fill-copy.c: TRUE when all of this phase is done and nothing is in flight -- */
gboolean fill_copy (Fill *fill, gboolean write);
gboolean fill_flush (Fill *fill);
void fill_copy_free (Fill *fill);

/* -- fill-hold.c -- */
gboolean fill_hold (Fill *fill); /* TRUE when done */
void fill_hold_free (Fill *fill);
/* The guest is held, or on its way there: it has to be let go first. */
gboolean fill_hold_is_busy (Fill *fill);

/* -- fill-file.c -- */
Work *fill_file_start (Op *op, OpDisk *disk, const WorkHost *host);
