/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which step comes next, and all that precedes its asks. Read from the bottom: runner_begin_step
 * and what it calls, in order: table_ended, look, prepare (lanes, intent), lanes_start. What came
 * of it is in run-outcome.c. */
#include "jobs/run-private.h"

#define FOLD_TRIES 3

/* ---- tables that ended ----------------------------------------------------------------------- */

static gboolean
fold_again (gpointer data)
{
  Runner *runner = data;
  runner->fold = (Cursor){.steps = fold_steps};
  runner_begin_step (runner);
  return G_SOURCE_REMOVE;
}

/* The fold was taken back itself: the guest runs on the overlay. Try again, or stop here. */
static void
fold_taken_back (Runner *runner)
{
  if (runner->failure == NULL) { /* only settling: an earlier fold, or a hold, was interrupted */
    runner->in_fold = FALSE;
    if (!runner_free_guest (runner, runner_begin_step))
      runner_begin_step (runner);
  } else if (runner->op->attempt < FOLD_TRIES) {
    g_clear_error (&runner->failure);
    runner->op->attempt++;
    runner_after (runner, 1000, fold_again);
  } else {
    runner->in_fold = FALSE;
    prefix (&runner->failure, "fold back into the old layer");
    runner_get_stuck (runner, g_steal_pointer (&runner->failure));
  }
}

static gboolean
table_ended (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  if (cursor->back ? cursor->at >= 0 : cursor->steps[cursor->at].name != NULL)
    return FALSE;
  if (runner->in_fold && cursor->back)
    fold_taken_back (runner);
  else if (runner->in_fold) { /* on the old layer: go on undoing what came before the snapshot */
    runner->in_fold = FALSE;
    runner_begin_step (runner);
  } else if (cursor->back)
    runner_look_then (runner, runner_is_undone);
  else
    runner_look_then (runner, runner_is_done);
  return TRUE;
}

/* ---- one step -------------------------------------------------------------------------------- */

static Lane *
add_lane (Runner *runner, OpDisk *disk, GPtrArray *take_asks)
{
  Lane *lane = g_new0 (Lane, 1);
  *lane = (Lane){.runner = runner, .disk = disk, .asks = take_asks};
  g_ptr_array_add (runner->lanes, lane);
  return lane;
}

/* What of @step happened, over all disks. */
Seen
runner_probe_all (Runner *runner, const Step *step)
{
  guint yes = 0, no = 0, n = runner->op->disks->len;
  if (n == 0)
    return step->probe (runner->op, NULL, runner->world);
  for (guint i = 0; i < n; i++) {
    Seen seen = step->probe (runner->op, op_disk (runner->op, i), runner->world);
    yes += seen == SEEN_YES;
    no += seen == SEEN_NO;
  }
  return yes == n ? SEEN_YES : no == n ? SEEN_NO : SEEN_HALF;
}

static void
ask_undo (Runner *runner, const Step *step, OpDisk *disk)
{
  GPtrArray *asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
  step->undo (runner->op, disk, runner->world, asks);
  add_lane (runner, disk, asks);
}

static void
make_lanes (Runner *runner, const Step *step)
{
  Op *op = runner->op;
  gboolean back = runner_cursor (runner)->back;
  gboolean seen = runner->world != NULL || op_is_offline (op);
  gboolean may_skip = !back && seen && (runner->resumed || runner->in_fold);
  for (guint i = 0; i < (step->once ? 1 : op->disks->len); i++) {
    OpDisk *disk = step->once ? NULL : op_disk (op, i);
    if (back && step->undo != NULL)
      ask_undo (runner, step, disk);
    if (back)
      continue;
    Seen done = !may_skip || step->probe == NULL ? SEEN_NO
                : step->once                     ? runner_probe_all (runner, step)
                                                 : step->probe (op, disk, runner->world);
    if (done != SEEN_YES)
      add_lane (runner, disk, step_asks (step, op, disk, runner->world));
  }
}

/* The commit record goes with the intent: before it the old layer is authoritative, after it the
 * new. */
static gboolean
record_intent (Runner *runner, const Step *step, GError **error)
{
  Cursor *cursor = runner_cursor (runner);
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    for (guint k = 0; k < lane->asks->len; k++) {
      g_autofree char *text = ask_describe (lane->asks->pdata[k]);
      runner_note (runner, lane->disk, "intent", text);
    }
  }
  if (step->undo_table != NULL && !cursor->back)
    runner->op->switched = TRUE;
  if (step->commits && !cursor->back) {
    runner->op->decided = step->decides;
    runner_note (runner, NULL, "note",
                 step->decides == DECIDED_NEW ? "commit record: the new layer"
                                              : "commit record: the old layer");
  }
  /* What is only recorded needs no record of its intent; the lines go with it. */
  if ((step->foretold || step->aside) && !cursor->back)
    return TRUE;
  if (journal_write (runner->journal, runner->op, error))
    return TRUE;
  if (step->commits && !cursor->back)
    runner->op->decided = DECIDED_NOTHING; /* not on record, not decided */
  return FALSE;
}

static guint
count_asks (Runner *runner)
{
  guint n = 0;
  for (guint i = 0; i < runner->lanes->len; i++)
    n += ((Lane *)runner->lanes->pdata[i])->asks->len;
  return n;
}

/* The monitor is lent while a job copies, which is long; not around the ends of jobs, where 7.2
 * must not be asked for its nodes, nor in the steps between, which take milliseconds. */
static gboolean
step_copies (Runner *runner)
{
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    Ask *last = lane->asks->len ? lane->asks->pdata[lane->asks->len - 1] : NULL;
    if (last != NULL && last->job != NULL && last->wanted != JOB_CONCLUDED)
      return TRUE;
  }
  return FALSE;
}

/* A disk that was unplugged meanwhile cannot be folded, and nothing tells that its new layer holds no writes: it must
 * not be removed. */
static gboolean
can_be_folded (Runner *runner, World *world, GError **error)
{
  for (guint i = 0; i < runner->op->disks->len; i++) {
    OpDisk *disk = op_disk (runner->op, i);
    if (world == NULL || !runner->op->switched || op_disk_is_beside (disk) ||
        op_find_disk (runner->op, disk, world) != NULL)
      continue;
    return fail (error, FAILED,
                 "disk '%s' is not in this QEMU any more: what the guest wrote is in '%s'",
                 disk->name, disk->to);
  }
  return TRUE;
}

static void
prepare (Runner *runner, World *world)
{
  const Step *step = runner_step (runner);
  Cursor *cursor = runner_cursor (runner);
  GError *error = NULL;
  if (cursor->back && step->undo_table != NULL && !can_be_folded (runner, world, &error)) {
    runner_get_stuck (runner, error);
    return;
  }
  if (cursor->back && step->undo_table != NULL && runner_probe_all (runner, step) != SEEN_NO) {
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = step->undo_table};
    runner->op->attempt++;
    runner_begin_step (runner);
    return;
  }
  g_clear_pointer (&runner->refusal, g_free);
  g_clear_pointer (&runner->lanes, g_ptr_array_unref);
  runner->lanes = g_ptr_array_new_with_free_func (lane_free);
  make_lanes (runner, step);
  if (count_asks (runner) == 0 && (cursor->back || (step->verify == NULL && !step->commits)))
    runner_step_done (runner);
  else if (!record_intent (runner, step, &error))
    runner_journal_failed (runner, error);
  else {
    link_set_lent (runner, step_copies (runner));
    lanes_start (runner);
  }
}

void
runner_begin_step (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  if (table_ended (runner))
    return;
  const Step *step = runner_step (runner);
  runner_watch_freeze (runner);
  runner_watch_hold (runner);
  growth_watch (runner);
  if (step->applies != NULL && !step->applies (runner->op)) {
    cursor->at += cursor->back ? -1 : 1;
    runner_begin_step (runner);
    return;
  }
  runner_changed (runner);
  /* In the normal course a step asks exactly what the plan has printed. */
  if (cursor->back || step->looks || runner->resumed)
    runner_look_then (runner, prepare);
  else {
    if (!step->aside)
      g_clear_pointer (&runner->world, world_free);
    prepare (runner, NULL);
  }
}
