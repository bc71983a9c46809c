/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by run.c (from the outside), run-step.c (one step), run-outcome.c (what it came to, and the
 * direction), run-lane.c (the asks of one step, a lane per disk), run-ask.c (one ask), and the files that are
 * named below. */
#pragma once

#include "jobs/blocks.h"
#include "jobs/engine.h"
#include "jobs/image.h"
#include "jobs/run.h"
#include "jobs/watch.h"
#include "qmp/agent.h"
#include "qmp/relay.h"

/* Where in a table, and in which direction. */
typedef struct {
  const Step *steps;
  int at;
  gboolean back;
} Cursor;

/* The asks of one step for one disk, performed in order; the lanes of a step run side by side. */
typedef struct {
  Runner *runner;
  OpDisk *disk; /* NULL: for all disks at once */
  GPtrArray *asks;
  guint at;
  gboolean running;
  gboolean asked_again; /* a patient ask, or one that insists */
  gboolean was_refused; /* one that insists */
  const char *waiting_for; /* job id */
  GSource *calm;           /* the timer of a calm ask */
  guint calm_tries;
  ImageRun *image;
  Work *work;
  gboolean for_engine;     /* waits for its start, or its end */
  GError *error;
} Lane;

typedef struct {
  gint64 us;
  guint64 bytes;
} Sample;

/* How fast a disk is copied, and how fast its guest makes that necessary again. */
typedef struct {
  gint64 begun_us, since_us; /* the copying; the present window */
  guint64 copied, total;     /* at its begin */
  guint64 first_pass;        /* bytes that were to be copied at first */
  guint64 remaining;
  double copied_rate, dirty_rate; /* bytes/s in the last window */
  guint rung;
  gboolean ready, blocking;
} Pace;

#define N_SAMPLES 8

typedef struct _Growth Growth; /* run-grow.c */

#define ENDED_BY_OTHERS "job '%s' was completed or cancelled by somebody else"

typedef void (*Looked) (Runner *runner, World *world);
typedef void (*Thawed) (Runner *runner);
typedef void (*Released) (Runner *runner);

struct _Runner {
  gint refs;
  Op *op;
  Journal *journal;
  char *state_dir;
  QmpClient *client;
  QmpFeatures *features;
  JobWatch *watch;
  QmpRelay *relay;
  QmpAgent *agent;    /* NULL until it is needed */
  Engine *engine;     /* what client leads to, offline; NULL: none runs */
  guint listeners[5]; /* on the client: state, I/O errors of the guest and of jobs, write thresholds, ends of jobs */
  GHashTable *erring; /* jobs that QEMU told to stand for an error; nullable */

  Cursor main, fold;
  gboolean in_fold;
  int turn_at;        /* going back as far as this step, then on again; -1: none */
  guint patience;     /* how often a patient step was taken back */
  gint64 patient_since_us; /* the first of them; 0: none */
  Pace *paces;        /* per disk */
  Growth *growth;     /* logical volumes that are watched; NULL: none yet */
  guint64 drain_from; /* bytes that were left when the guest was held; 0 before the first look */
  double drain_rate;  /* bytes/s while it was held; 0: not known */
  gboolean resumed;   /* steps may have happened already: probe before doing */
  RunDirection recover; /* as asked of runner_recover */
  World *world;       /* the last look; NULL where there was none for this step */
  gboolean fresh;     /* nothing was asked since that look */
  GPtrArray *lanes;
  guint busy;         /* lanes that run */
  guint tries;        /* of the current undo or finish step */
  char *refusal;      /* QEMU's words to a tolerant ask of this step; nullable */
  guint looks_failed; /* one after the other */
  Looked look_again;  /* what the look that failed was for */
  GError *failure;    /* of the fold */
  guint64 fold_least; /* the least that was left of it to copy, and when */
  gint64 fold_least_us;

  GSource *freeze_limit; /* while the guest is frozen and the snapshot is not taken */
  gboolean thaw_tried; /* outside the tables, since the guest was frozen */
  guint thaw_tries;
  gboolean thawing;    /* on its way */
  Thawed after_thaw;   /* nullable */
  GSource *hold_limit; /* while the guest is held and the snapshot is not taken */
  gboolean release_tried; /* outside the tables, since the guest was held */
  Thawed after_release; /* nullable */
  OpState last;        /* the state in which it ends */

  char *cancelled;    /* why; NULL */
  gboolean lost;      /* the connection ended */
  gboolean ended, detached;
  GSource *timer;     /* retry, reconnect */
  GSource *deadline;
  gint64 reconnect_until;
  Sample samples[N_SAMPLES];
  guint n_samples;

  RunnerEnded on_ended;
  RunnerChanged on_changed;
  gpointer data;
};

Cursor *runner_cursor (Runner *runner);
const Step *runner_step (Runner *runner);
const char *runner_job_of (Runner *runner, const OpDisk *disk); /* that is at work now; borrowed */
const char *runner_direction (Runner *runner);
void runner_changed (Runner *runner);
/* One shot, replacing what was set before. */
void runner_after (Runner *runner, guint ms, GSourceFunc func);

void runner_note (Runner *runner, OpDisk *disk, const char *phase, const char *detail);
void runner_note_error (Runner *runner, OpDisk *disk, const GError *error);

/* run-step.c */
void runner_begin_step (Runner *runner);
gboolean runner_begin_later (gpointer runner);
/* What of @step happened, over all disks. */
Seen runner_probe_all (Runner *runner, const Step *step);

/* run-outcome.c */
void runner_step_done (Runner *runner);
void runner_begin_again (Runner *runner); /* after a pause, in which it may have been cancelled */
/* Puts the kind of the operation and its disks in front. */
void runner_say_intent (Op *op, GError **error);

/* run-look.c */
void runner_look_then (Runner *runner, Looked then);

/* run-end.c */
void runner_end (Runner *runner);
void runner_is_done (Runner *runner, World *world);
void runner_is_undone (Runner *runner, World *world);
void runner_get_stuck (Runner *runner, GError *take_error);
void runner_journal_failed (Runner *runner, GError *take_error);
/* Continues a guest that we hold, then calls @then, however that went; at once where there is none. */
void runner_let_guest_go (Runner *runner, Released then);

/* run-ask.c */
void lane_perform (Lane *lane); /* the current ask */
GError *lane_job_failure (const char *job, JobStatus wanted, JobStatus status, const char *words);
/* There is no client: the engine of an offline operation has died, or was never started. */
void lane_send_to_nobody (Lane *lane);
void lane_note_refusal (Lane *lane, const GError *error); /* of a tolerant ask */

/* run-lane.c */
void lane_free (gpointer lane);
Ask *lane_ask (Lane *lane);                 /* the current one */
void lane_next (Lane *lane);
void lane_failed (Lane *lane, GError *take_error);
void lane_ended (Lane *lane);               /* with or without lane->error */
gboolean lane_is_stale (Lane *lane);        /* the runner is through with it */
void lanes_start (Runner *runner);          /* then lanes_ended() once all are through */
void lanes_abort (Runner *runner, RechainError code, const char *why);
void lanes_stop (Runner *runner);           /* nothing of them comes any more */
void lanes_on_lost (Runner *runner);
/* @job, for which a lane waits, will not get there; the other lanes are ended too. */
void lanes_fail_job (Runner *runner, const char *job, const char *words);
void lanes_ended (Runner *runner);          /* in run-outcome.c */

/* The lanes that wait for @job to catch up go on without, or fail where the guest must not be held. */
void lanes_stop_waiting (Runner *runner, const char *job);

/* run-calm.c */
void lane_ask_calm (Lane *lane);
void lane_stop_calm (Lane *lane);

/* run-pace.c */
void pace_see (Runner *runner, OpDisk *disk, JobStatus status, guint64 current, guint64 total);
guint64 pace_budget (Runner *runner);  /* bytes that a held guest has time for */
/* @remaining is left after the guest was held for @held_us. */
void pace_drained (Runner *runner, guint64 remaining, gint64 held_us);
gboolean pace_has_patience (Runner *runner);
char *pace_figures (Runner *runner);

/* run-grow.c */
void growth_watch (Runner *runner); /* at every step */
void growth_free (Growth *growth);
void growth_forget_link (Runner *runner);
void growth_on_threshold (QmpClient *client, const char *name, Json *event, gpointer data);
/* @job stands for want of space: it goes on when there is some. FALSE: there is none to be had. */
gboolean growth_takes_job (Runner *runner, const char *job);
char *growth_why (Runner *runner, const char *job); /* full: why it has no space */
/* What is to be done before it is tried again; full, NULL where no group is full. */
char *growth_advice (Runner *runner);
/* The same of the guest; @error: data of the event BLOCK_IO_ERROR. */
gboolean growth_takes_guest (Runner *runner, Json *error);
/* Recovering: mends what an lvextend left half done, then calls @then. */
void growth_mend_then (Runner *runner, Thawed then);
/* Waits for lvextend, then calls @then. FALSE: none runs, and @then does not come. */
gboolean growth_end_first (Runner *runner, Thawed then);

/* run-thaw.c */
/* Borrowed; NULL with USAGE where its address is none. */
QmpAgent *runner_agent (Runner *runner, GError **error);
/* Thaws a guest that may be frozen by us, then calls @then (nullable), however that went. FALSE: there is
 * nothing to thaw, or it was tried and the tables try again; @then does not come. */
gboolean runner_thaw_first (Runner *runner, Thawed then);
/* The same, of an operation that is let go of: a thaw that is on its way is waited for, too. */
gboolean runner_thaw_soon (Runner *runner, Thawed then);
/* At every step: the freeze has an end. */
void runner_watch_freeze (Runner *runner);
void runner_drop_agent (Runner *runner);

/* run-hold.c */
/* Continues a guest that is held for snapshots beside its chains, then calls @then (nullable), however that
 * went. FALSE: none is held so, or it was tried and the tables try again; @then does not come. */
gboolean runner_release_first (Runner *runner, Thawed then);
/* Both, in this order: the agent of a guest that stands still does not answer. FALSE: there is nothing (more)
 * to do. */
gboolean runner_free_guest (Runner *runner, Thawed then);
/* At every step: the hold has an end. */
void runner_watch_hold (Runner *runner);
void runner_drop_hold (Runner *runner);

/* run-engine.c; each goes on with lane_next() or lane_failed() */
void engine_start (Lane *lane);
void engine_quit (Lane *lane);
void engine_drop (Runner *runner);

/* run-dead.c */
gboolean dead_may_finish (Op *op, GError **error); /* --finish */
/* Goes on with the files alone. FALSE: left for inspection, as asked. */
gboolean runner_settle_files (Runner *runner);

/* run-link.c */
void link_attach (Runner *runner, QmpClient *client);
void link_drop (Runner *runner);
void link_again (Runner *runner);           /* then link_is_back() or link_is_dead() */
void link_is_back (Runner *runner);         /* in run-outcome.c */
void link_is_dead (Runner *runner, GError *take_error); /* in run-outcome.c */
void link_lend (Runner *runner);            /* the relay */
void link_set_lent (Runner *runner, gboolean lent);
