/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One operation, its runner, its journal and its model QEMU, in a directory of its own. */
#pragma once

#include "jobs/run.h"
#include "tests/unit/model-qemu.h"

typedef struct {
  char *dir;
  Model *model;
  Runner *runner;
  Op *op;         /* the runner's */
  guint ended, changed;
  guint fds;      /* before */
} Scene;

/* The operation is there, and not started: what goes wrong can still be arranged. */
void scene_begin (Scene *scene, OpKind kind, guint n_disks);
void scene_start (Scene *scene);
void scene_wait (Scene *scene); /* until it ended; fails the test if it ends twice */
void scene_run (Scene *scene);  /* both */
/* The controller dies: nothing more is asked, and nothing more is written to the journal. */
void scene_kill (Scene *scene);
/* Another controller takes it from the journal. */
void scene_recover (Scene *scene, RunDirection direction);
/* Fails the test where descriptors were left open. */
void scene_end (Scene *scene);

/* Whatever happened: the guest runs and reads what it wrote, and where the operation is done or undone
 * the chain is the new or the old one, with nothing of ours left. */
void scene_check (Scene *scene);
/* The same, in this state. */
void scene_check_is (Scene *scene, OpState state);
/* Does a line of the journal (as others see it now) contain @phase and @words? */
gboolean scene_journal_has (Scene *scene, const char *phase, const char *words);
