/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Journal + the world now -> where the runner goes on, and in which direction. */
#include "jobs/run-private.h"

/* Of a table without one: the last step, from which everything can be taken back. */
static int
pivot_of (const Step *steps)
{
  int i = 0;
  while (steps[i].kind != STEP_PIVOT && steps[i + 1].name != NULL)
    i++;
  return i;
}

/* The step whose undo is a table of its own; -1: none. */
static int
snapshot_of (const Step *steps)
{
  for (int i = 0; steps[i].name != NULL; i++)
    if (steps[i].undo_table != NULL)
      return i;
  return -1;
}

/* A guest that is held waits for nothing but the last few bytes. */
static gboolean
may_go_on (Runner *runner)
{
  Op *op = runner->op;
  for (guint i = 0; op->held && op_switches (op) && i < op->disks->len; i++)
    if (world_job (runner->world, op_disk (op, i)->job) == NULL)
      return FALSE;
  return TRUE;
}

static gboolean
goes_on (Runner *runner)
{
  Op *op = runner->op;
  const Step *step = runner->main.steps + pivot_of (runner->main.steps);
  if (op->decided == DECIDED_NOTHING && op->state == OP_UNDOING)
    return FALSE;
  if (runner->recover == RUN_ON && op->decided == DECIDED_NOTHING)
    return may_go_on (runner);
  if (runner->recover == RUN_BY_RECORD && step->kind == STEP_PIVOT && !step->commits &&
      op->decided == DECIDED_NOTHING)
    return runner_probe_all (runner, step) == SEEN_YES;
  return op->decided == DECIDED_NEW;
}

/* Settle first: jobs in PENDING stop the guest's I/O, and a held guest waits for us. With a
 * snapshot that is the way back through the fold. A table that holds by itself is entered at its
 * pivot: on, both layers are equal and it is finalized at once; back, its own steps settle. */
static void
settle (Runner *runner, gboolean on)
{
  Op *op = runner->op;
  int snapshot = snapshot_of (runner->main.steps);
  if (snapshot < 0)
    return;
  if (op->decided == DECIDED_OLD) {
    /* Both layers were equal at the record; the fold can only go on from its pivot. */
    runner->main.at = snapshot;
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = fold_steps, .at = pivot_of (fold_steps)};
  } else if (!on || op->held) {
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = fold_steps, .at = pivot_of (fold_steps) - 1, .back = TRUE};
  }
}

/* Where the journal and the world put us. */
static void
choose_direction (Runner *runner, World *world)
{
  Op *op = runner->op;
  gboolean on = goes_on (runner);
  runner->main.at = on && op->decided == DECIDED_NOTHING ? 0 : pivot_of (runner->main.steps);
  runner->main.back = !on;
  if (on && op->state == OP_STUCK)
    g_clear_error (&op->error);
  op_set_state (op, !on ? OP_UNDOING : op->decided == DECIDED_NEW ? OP_FINISHING : OP_RUNNING);
  settle (runner, on);
  runner_begin_step (runner);
}

static void
look_and_choose (Runner *runner)
{
  runner_look_then (runner, choose_direction);
}

gboolean
runner_recover (Runner *runner, RunDirection direction, RunnerEnded ended, RunnerChanged changed,
                gpointer data, GError **error)
{
  if (!journal_take_over (runner->journal, runner->op, error))
    return FALSE;
  if (direction == RUN_BACK && runner->op->decided == DECIDED_NEW) {
    fail (error, REFUSED, "operation %s took effect; it can only be finished", runner->op->id);
    journal_release (runner->journal, runner->op, FALSE, NULL);
    return FALSE;
  }
  runner->on_ended = ended;
  runner->on_changed = changed;
  runner->data = data;
  runner->resumed = TRUE;
  runner->recover = direction;
  link_lend (runner);
  if (!runner_thaw_first (runner, look_and_choose))
    look_and_choose (runner);
  return TRUE;
}

/* A freeze ends with the guest that it stopped. */
gboolean
runner_settle_gone (Op *op, Journal *journal, GError **error)
{
  gboolean gone = op->qemu_pid > 0 && process_start_time (op->qemu_pid) != op->qemu_start;
  if (op->kind != OP_QUIESCE || !gone)
    return FALSE;
  if (!journal_take_over (journal, op, error))
    return FALSE;
  journal_note (journal, op, "quiesce", NULL, "undo", "note",
                "QEMU is gone, and the freeze with it");
  op->frozen = FALSE;
  op_set_state (op, OP_UNDOING);
  op_set_state (op, OP_UNDONE);
  op->ended_us = g_get_real_time ();
  return journal_release (journal, op, TRUE, error);
}
