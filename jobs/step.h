/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vocabulary of operations. Read this, one jobs/op-*.c, then jobs/run-step.c.
 *
 * An operation is a table of steps. A step says what to ask for (data: a plan prints it, the runner
 * sends it), how to find out whether it happened (probe: looks at the world, changes nothing), and how
 * to take it back (undo: again data, made from the world as it is, so that undoing twice, or after
 * nothing happened, is harmless).
 *
 *   undoable steps   the runner can go back
 *   pivot            the guest's disk moves to another active layer
 *   finish steps     the runner can only go forward
 */
#pragma once

#include "jobs/op.h"
#include "jobs/status.h"
#include "jobs/work.h"

typedef enum { STEP_UNDOABLE, STEP_PIVOT, STEP_FINISH } StepKind;

const char *step_kind_name (StepKind kind);

typedef enum {
  SEEN_NO,   /* it did not happen, or was taken back */
  SEEN_YES,  /* it happened in full */
  SEEN_HALF, /* it began; what is there must be taken back or completed */
} Seen;

/* One thing to ask for, of QEMU, of the guest agent, of qemu-img, of ourselves or of the snapshots on
 * record. Exactly one of command, agent, argv, local, work and record is set, or none where it only
 * waits. */
typedef struct Ask Ask;
typedef gboolean (*AskLocal) (Op *op, OpDisk *disk, GError **error);
/* Durable when it returns TRUE; twice is harmless. */
struct _Journal;
typedef gboolean (*AskRecord) (struct _Journal *journal, Op *op, GError **error);
/* Puts among the facts what the agent answered; @ret is NULL where a tolerant ask was refused. @sent_us:
 * when it was asked, monotonic. */
typedef void (*AskHeard) (Op *op, Json *ret, gint64 sent_us);

/* Puts among the facts what a program printed; FALSE ends the operation. */
typedef gboolean (*AskTold) (Op *op, OpDisk *disk, const char *out, GError **error);

/* What QEMU answered; FALSE ends the step. */
typedef gboolean (*AskAnswered) (Op *op, Json *ret, GError **error);

struct Ask {
  char *says;        /* for the journal and the plan; nullable where the command speaks for itself */
  char *command;     /* QMP */
  Json *arguments;
  AskAnswered answered; /* with command; nullable */
  char *agent;       /* a command of the guest agent */
  guint agent_ms;    /* its deadline */
  AskHeard heard;    /* nullable */
  gboolean patient;  /* asked once more, over a new connection, where the agent does not answer */
  char **argv;       /* qemu-img, or another program */
  char *from, *into; /* files for its stdin and stdout; nullable */
  char *fills;       /* a file that it writes from its beginning to its end; nullable */
  gboolean lives_on; /* the program is never killed: neither by a cancel nor by our own death */
  gboolean watched;  /* it says how far it is (qemu-img -p), or reads @from */
  int most_exit;     /* of the program: exit codes up to it are no failure */
  AskTold told;      /* what the program says is heard; nullable */
  AskLocal local;    /* a short, synchronous act on the file system or on the operation's facts */
  AskRecord record;  /* in the journal, beside the operation itself */
  WorkStart work;    /* a long act of ours in the main loop */
  gboolean starts_engine; /* with argv: the qemu-storage-daemon that takes the commands from now on */
  gboolean ends_engine;   /* with command: then wait until that process has ended well */
  const char *job;   /* then wait until this job ... */
  JobStatus wanted;  /* ... is at this status (borrowed from the operation's names) */
  gboolean no_facts; /* a local act that finds out nothing which must be recorded */
  gboolean tolerant; /* a refusal is no failure: the probe decides afterwards */
  gboolean silent_program; /* any word of the program on stderr is a failure, whatever its exit code */
  gboolean silent_reply; /* any text in the reply is a failure (human-monitor-command) */
  gboolean insists;  /* asked once more where it is refused, or the job gets to PENDING instead */
  gboolean calm;     /* wait until what remains of the jobs fits into the pause budget */
  gboolean drained;  /* with calm: until nothing remains, no longer than the pause budget */
};

typedef struct Step Step;
struct Step {
  const char *name; /* one word; also in the journal */
  const char *says; /* a sentence for people */
  StepKind kind;
  gboolean once;    /* asked once for all disks; @disk is NULL */
  gboolean looks;   /* its asks are made from a fresh look at the world, also in the normal course */
  gboolean aside;   /* it asks nothing of QEMU or the files: what was seen before it stays true */
  gboolean patient; /* when it fails for want of time, it is taken back and done again later */
  gboolean foretold; /* its intent is on record already, as a fact: it waits for no write */
  gboolean commits; /* the commit record is written with the intent of this step */
  OpDecision decides;
  /* Appends to @asks what is to be done. @world is fresh, or NULL when a plan is printed: then the
   * normal course is shown. Offline it is NULL everywhere: an ask is then made so that it can be done again,
   * and probe and verify look at the files. */
  void (*ask) (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
  Seen (*probe) (Op *op, OpDisk *disk, World *world); /* NULL: cannot be seen, is simply done again */
  void (*undo) (Op *op, OpDisk *disk, World *world, GPtrArray *asks); /* NULL: nothing to take back */
  const char *undo_says;                                              /* nullable */
  const Step *undo_table; /* taking back is a table of its own; ends with a NULL name */
  gboolean (*applies) (Op *op); /* NULL: always */
  /* After the asks: is the outcome right? Truth is job record, events and graph together. */
  gboolean (*verify) (Op *op, OpDisk *disk, World *world, GError **error);
};

/* The tables. Each ends with a row without a name. */
extern const Step snapshot_steps[];
extern const Step beside_steps[]; /* a snapshot in which no disk gets a new layer */
extern const Step move_steps[];
extern const Step merge_steps[]; /* pull, commit, merge */
extern const Step copy_steps[];
extern const Step offline_steps[]; /* pull, commit, merge of image files */
extern const Step leave_steps[]; /* copy --no-pivot */
extern const Step fold_steps[];  /* the undo of a snapshot */
#define FOLD_COPY 1              /* its step that waits for jobs which have begun */
extern const Step map_steps[];
extern const Step quiesce_steps[];
extern const Step allocate_steps[];
extern const Step allocate_detach_steps[];
extern const Step allocate_offline_steps[];
extern const Step allocate_offline_detach_steps[];
extern const Step dead_back_steps[]; /* of any kind, when its QEMU is gone: performed backward */
extern const Step dead_on_steps[];   /* and forward */

/* NULL where there is no such operation offline, or none on a VM. */
const Step *steps_of (Op *op);
guint steps_count (const Step *steps);
/* Calls @step->ask for all disks (or once), appending. For plans. */
GPtrArray *step_asks (const Step *step, Op *op, OpDisk *disk, World *world);

void ask_free (Ask *ask);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Ask, ask_free)
/* Each appends one and returns it, so that a flag can be set on it. */
Ask *ask_qmp (GPtrArray *asks, const char *command, Json *take_arguments);
Ask *ask_agent (GPtrArray *asks, const char *command, guint ms, AskHeard heard);
Ask *ask_run (GPtrArray *asks, char **take_argv);
Ask *ask_local (GPtrArray *asks, const char *says, AskLocal local);
Ask *ask_record (GPtrArray *asks, const char *says, AskRecord record);
Ask *ask_work (GPtrArray *asks, const char *says, WorkStart work);
Ask *ask_wait (GPtrArray *asks, const char *job, JobStatus wanted);
/* Starting and ending what performs the jobs of an offline operation. One that is not there, or does not end
 * well, is no failure for a tolerant ask. */
Ask *ask_engine (GPtrArray *asks);
Ask *ask_quit (GPtrArray *asks);
/* {"execute":...,"arguments":...}, full; NULL where @ask is neither for QEMU nor for the agent. */
Json *ask_to_qmp (const Ask *ask);
/* Full: one line for people and for the journal. */
char *ask_describe (const Ask *ask);
