/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Journal + the world now -> where the runner goes on, and in which direction. */
#include "jobs/beside.h"
#include "jobs/blocks-hold.h"
#include "jobs/blocks.h"
#include "jobs/grow.h"
#include "jobs/image.h"
#include "jobs/overlay.h"
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
  /* What lies beside the chains is of an instant that has passed. */
  if (op->kind == OP_SNAPSHOT && op_has_beside (op))
    return FALSE;
  for (guint i = 0; op->held && op_switches (op) && i < op->disks->len; i++)
    if (world_job (runner->world, op_disk (op, i)->job) == NULL)
      return FALSE;
  return TRUE;
}

/* The pivot happened, though no record says so: the world does. */
static gboolean
has_pivoted (Runner *runner)
{
  const Step *step = runner->main.steps + pivot_of (runner->main.steps);
  return step->kind == STEP_PIVOT && !step->commits && runner->op->decided == DECIDED_NOTHING &&
         runner_probe_all (runner, step) == SEEN_YES;
}

static gboolean
goes_on (Runner *runner)
{
  Op *op = runner->op;
  const Step *step = runner->main.steps + pivot_of (runner->main.steps);
  if (op->decided == DECIDED_NOTHING && op->state == OP_UNDOING)
    return FALSE;
  if (runner->recover == RUN_ON && op->decided == DECIDED_NOTHING)
    return has_pivoted (runner) || may_go_on (runner);
  /* Nothing but the world tells of it, and what cannot be taken back is not. */
  gboolean seen = runner->recover == RUN_BY_RECORD || !(step->undo || step->undo_table);
  if (seen && step->kind == STEP_PIVOT && !step->commits && op->decided == DECIDED_NOTHING)
    return has_pivoted (runner);
  return op->decided == DECIDED_NEW;
}

/* The jobs of a fold are all in the middle of copying, and the guest runs. */
static gboolean
is_folding (Runner *runner)
{
  Op *op = runner->op;
  guint n = 0;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if (!disk_is_on (op, disk, runner->world, disk->node))
      continue;
    ChainJob *job = world_job (runner->world, disk->fold_job);
    JobStatus status = job ? job_status_parse (job->status) : JOB_NULL;
    if (status != JOB_RUNNING && status != JOB_READY)
      return FALSE;
    n++;
  }
  return n > 0 && !op->held;
}

/* Settle first: jobs in PENDING stop the guest's I/O, and a held guest waits for us. With a
 * snapshot that is the way back through the fold, or on with one that copies. A table that holds by
 * itself is entered at its pivot: on, both layers are equal and it is finalized at once; back, its
 * own steps settle. */
static void
settle (Runner *runner, gboolean on)
{
  Op *op = runner->op;
  int snapshot = snapshot_of (runner->main.steps);
  if (snapshot < 0)
    return;
  gboolean folding = !on && op->decided == DECIDED_NOTHING && is_folding (runner);
  if (op->decided == DECIDED_OLD || folding) {
    /* At the record both layers were equal; such a fold can only go on from its pivot. */
    runner->main.at = snapshot;
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = fold_steps, .at = folding ? FOLD_COPY : pivot_of (fold_steps)};
  } else if (!on || op->held) {
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = fold_steps, .at = pivot_of (fold_steps) - 1, .back = TRUE};
  }
}

/* Neither process nor locks tell of a QEMU that was started again behind a relay. But what was
 * attached before a snapshot stays in its QEMU until the fold is on record, or until nothing was
 * written to it. */
static gboolean
is_another_qemu (Op *op, World *world)
{
  gboolean attached = op->switched && op->decided != DECIDED_OLD;
  for (guint i = 0; world && attached && i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if (op_disk_is_beside (disk))
      continue;
    gboolean used = file_has_writer (disk->to) || !overlay_is_empty (disk->to);
    if (!world_has_node (world, disk->node) && g_file_test (disk->to, G_FILE_TEST_EXISTS) && used)
      return TRUE;
  }
  return FALSE;
}

/* Where the journal and the world put us. */
static void
choose_direction (Runner *runner, World *world)
{
  Op *op = runner->op;
  if (op->dead || is_another_qemu (op, world)) {
    link_drop (runner);
    runner_settle_files (runner);
    return;
  }
  gboolean on = goes_on (runner);
  gboolean again = on && op->decided == DECIDED_NOTHING && !has_pivoted (runner);
  runner->main.at = again ? 0 : pivot_of (runner->main.steps);
  runner->main.back = !on;
  if (on && op->state == OP_STUCK)
    g_clear_error (&op->error);
  op_set_state (op, !on ? OP_UNDOING : op->decided == DECIDED_NEW ? OP_FINISHING : OP_RUNNING);
  settle (runner, on);
  if (op->held && holds_beside (op) && world_running (world))
    note_release (op, NULL, NULL); /* it was continued, and we died before that was on record */
  if (runner->in_fold || !runner_free_guest (runner, runner_begin_step))
    runner_begin_step (runner);
}

static void
look (Runner *runner)
{
  runner_look_then (runner, choose_direction);
}

/* What is written to a volume that was left suspended waits for good, and so does QEMU. */
static void
on_idle (const char *out, const GError *error, gpointer data)
{
  g_autoptr (Runner) runner = data;
  if (op_grows (runner->op))
    growth_mend_then (runner, look);
  else
    look (runner);
}

/* A program that outlived its owner may still rename or resize: what it does is looked at when it
 * has ended. */
static void
look_and_choose (Runner *runner)
{
  g_autofree char *busy = journal_run_path (runner->state_dir, runner->op->id, ".busy");
  if (!runner->op->held && g_file_test (busy, G_FILE_TEST_EXISTS))
    image_wait_idle (busy, on_idle, runner_ref (runner));
  else
    look (runner);
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
  if (direction == RUN_ON && runner->op->dead && !dead_may_finish (runner->op, error)) {
    journal_release (runner->journal, runner->op, FALSE, NULL);
    return FALSE;
  }
  runner->on_ended = ended;
  runner->on_changed = changed;
  runner->data = data;
  runner->resumed = TRUE;
  runner->recover = direction;
  link_lend (runner);
  /* The agent of a guest that is held does not answer: that is settled before. */
  if (runner->op->held || !runner_thaw_first (runner, look_and_choose))
    look_and_choose (runner);
  return TRUE;
}
