/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A QEMU that behaves: a model of its block graph, its jobs and its guest behind a fake_qemu.
 *
 * Where the fake QEMU follows a script, the model answers whatever it is asked, as QEMU 7.2 would, so
 * that a test can say "and now the third command is refused" and look at where everything ends up.
 * Its guest writes a new number to every disk before each command while it runs: whoever loses one of
 * these numbers has lost data. */
#pragma once

#include "jobs/op.h"
#include "qmp/client.h"
#include "tests/unit/fake-qemu.h"

typedef struct {
  char *name, *driver;
  char *file, *backing; /* child nodes, nullable */
  char *filename;       /* of a protocol node */
  guint64 threshold, highest; /* bytes: QEMU tells from here on; behind the last write */
  gboolean inside;      /* given inside the options of the node above it: lives and dies with that */
  int value;            /* what the guest wrote last, as far as it is in this layer; 0: nothing */
} ModelNode;

typedef struct {
  char *name, *root;
} ModelDevice;

typedef struct {
  char *id, *type, *status, *error;
  char *top, *base, *backing_file;
  gboolean stops; /* on-error: stop */
} ModelJob;

typedef struct Model Model;
/* Before each command that changes something is performed. */
typedef void (*ModelHook) (Model *model, const char *command, Json *arguments, gpointer data);

struct Model {
  GPtrArray *nodes, *devices, *jobs;
  gboolean running;
  const char *run_state;
  int written;
  char *sorry;     /* something that a real QEMU or guest would not have survived; nullable */

  guint commands;  /* all, over all connections */
  guint changes;   /* those that are no queries */
  GPtrArray *log;  /* names of the latter, as they were performed */

  /* Mishaps. 0 and NULL: none. Counted from 1. */
  guint refuse_change; /* refuses this change ... */
  guint refuse_command; /* ... or this command, a query too */
  const char *refuse;  /* refuses commands of this name, */
  guint refuse_times;  /* so often */
  guint cut_at;        /* this command finds the monitor cut ... */
  gboolean cut_after;  /* ... after it was performed */
  const char *fail_job; /* jobs of this type fail with ENOSPC */
  gboolean soft_cancels; /* as before QEMU 6.2: a commit that is cancelled while it runs ends in PENDING */
  gboolean slow_jobs;  /* jobs stay at "running" */
  ModelHook hook;
  gpointer data;

  char *path;
  FakeQemu *fake;
  gboolean dead; /* cut, and not yet listening again */
  GPtrArray *timers;
};

/* The world in which @op begins, listening at @op->vm where that is a temporary file. */
Model *model_new (Op *op);
void model_free (Model *model);
/* Answers to all queries, as world_parse() takes them; full. */
Json *model_replies (Model *model);
/* Jobs that were kept at "running" go on. */
void model_let_jobs_go (Model *model);
void model_cut (Model *model);
/* The (protocol) node is written up to @highest, of which QEMU tells. */
void model_write (Model *model, const char *node, guint64 highest);
/* The guest stands since its write to @node found no space. */
void model_stand (Model *model, const char *node);
/* One command without a connection; FALSE where it was refused. */
gboolean model_do (Model *model, const char *command, Json *arguments);
/* What the guest reads from a disk. */
int model_read (Model *model, const char *device);
ModelNode *model_node (Model *model, const char *name);
ModelJob *model_job (Model *model, const char *id);
/* File names of a disk's chain, full. */
char **model_chain (Model *model, const char *device);
guint model_count (Model *model, const char *prefix); /* nodes and jobs of that name */
guint model_asked (Model *model, const char *command); /* how often it was performed */
