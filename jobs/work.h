/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A long act of our own that lives in the main loop, as a step asks for it (jobs/step.h): reading a map,
 * allocating regions. It changes nothing that its step could not take back. */
#pragma once

#include "jobs/op.h"

typedef struct _Work Work;

/* Who waits for it. Calls come from the main loop, never from inside the call that started it. */
typedef struct {
  void (*done) (const GError *error, gpointer data); /* exactly once; @error NULL: done */
  void (*changed) (gpointer data);                   /* disk->current, disk->total changed */
  gpointer data;
  QmpClient *client;                                 /* borrowed; NULL: offline */
  const char *busy; /* what programs that live on keep locked; borrowed for the start only */
} WorkHost;

typedef Work *(*WorkStart) (Op *op, OpDisk *disk, const WorkHost *host);

/* The head of each kind of work. */
struct _Work {
  void (*cancel) (Work *work); /* done() still comes (INTERRUPTED) */
};

static inline void
work_cancel (Work *work)
{
  work->cancel (work);
}
