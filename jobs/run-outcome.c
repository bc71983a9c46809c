/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a step came to: on to the next one, the same again at a better moment, or back.
 * step_failed() is the only place that turns round. */
#include "jobs/run-private.h"

#define UNDO_TRIES 4

/* ---- turning round --------------------------------------------------------------------------- */

/* From intent to cause: what the user asked for comes first. */
void
runner_say_intent (Op *op, GError **error)
{
  g_autoptr (GString) disks = g_string_new (NULL);
  for (guint i = 0; i < op->disks->len; i++)
    g_string_append_printf (disks, "%s%s", i ? "," : "", op_disk (op, i)->name);
  prefix (error, "%s%s%s", op_kind_name (op->kind), disks->len ? " " : "", disks->str);
}

static void
remember (Runner *runner, GError *take_error)
{
  if (runner->op->error == NULL) {
    runner->op->error = take_error;
    runner_say_intent (runner->op, &runner->op->error);
  } else
    g_error_free (take_error);
}

static void
turn_back (Runner *runner)
{
  if (runner_free_guest (runner, turn_back))
    return;
  if (runner->op->flags & OP_NO_UNDO) {
    GError *error = NULL;
    fail (&error, STUCK, "left for inspection, as asked");
    runner_get_stuck (runner, error);
    return;
  }
  runner->tries = 0;
  runner->main.back = TRUE;
  op_set_state (runner->op, OP_UNDOING);
  runner_begin_step (runner);
}

/* A pivot that reported failure may have happened, on all disks or on some. */
static void
judge_failed_pivot (Runner *runner, World *world)
{
  const Step *step = runner_step (runner);
  if (runner_probe_all (runner, step) == SEEN_YES && !runner->op->thawed_early) {
    g_clear_error (&runner->op->error);
    runner_step_done (runner);
    return;
  }
  if (runner->op->decided != DECIDED_NOTHING) {
    runner->op->decided = DECIDED_NOTHING;
    runner_note (runner, NULL, "note", "revert: the old layer");
  }
  turn_back (runner);
}

static gboolean
retry (Runner *runner)
{
  if (++runner->tries >= UNDO_TRIES)
    return FALSE;
  runner->resumed = TRUE;
  runner_after (runner, 100u << runner->tries, runner_begin_later);
  return TRUE;
}

static void
fold_failed (Runner *runner, GError *take_error)
{
  const Step *step = runner_step (runner);
  if (runner->fold.back || step->kind == STEP_FINISH) {
    if (retry (runner))
      g_error_free (take_error);
    else
      runner_get_stuck (runner, take_error);
    return;
  }
  /* Not decided, or decided and refused by QEMU with the guest still held: the overlay stays. */
  if (runner->op->decided == DECIDED_OLD) {
    runner->op->decided = DECIDED_NOTHING;
    runner_note (runner, NULL, "note", "revert: the overlay");
  }
  g_clear_error (&runner->failure);
  runner->failure = take_error;
  runner->tries = 0;
  runner->fold.back = TRUE;
  runner_begin_step (runner);
}

/* Not a failure yet: the step is taken back and done again at a better moment. */
static gboolean
wait_for_better_moment (Runner *runner, const GError *error)
{
  const Step *step = runner_step (runner);
  Cursor *cursor = runner_cursor (runner);
  gboolean may = step->patient && !cursor->back && runner->cancelled == NULL &&
                 g_error_matches (error, RECHAIN_ERROR, TIMED_OUT);
  if (!may || !pace_has_patience (runner))
    return FALSE;
  cursor->back = TRUE;
  runner->turn_at = cursor->at;
  runner_begin_step (runner);
  return TRUE;
}

static void
step_failed (Runner *runner, GError *take_error)
{
  const Step *step = runner_step (runner);
  if (!runner->lost && wait_for_better_moment (runner, take_error)) {
    g_error_free (take_error);
    return;
  }
  prefix (&take_error, "%s", step->name);
  if (runner->lost) {
    if (!runner->in_fold && !runner->main.back && step->kind != STEP_FINISH)
      remember (runner, take_error);
    else
      g_error_free (take_error);
    link_again (runner);
  } else if (runner->in_fold)
    fold_failed (runner, take_error);
  else if (runner->main.back || step->kind == STEP_FINISH) {
    if (retry (runner))
      g_error_free (take_error);
    else
      runner_get_stuck (runner, take_error);
  } else {
    remember (runner, take_error);
    if (step->kind == STEP_PIVOT)
      runner_look_then (runner, judge_failed_pivot);
    else
      turn_back (runner);
  }
}

void
runner_begin_again (Runner *runner)
{
  GError *error = NULL;
  if (runner->cancelled == NULL || runner->in_fold || runner->main.back ||
      runner->op->state != OP_RUNNING) {
    runner_begin_step (runner);
    return;
  }
  fail (&error, INTERRUPTED, "%s", runner->cancelled);
  step_failed (runner, error);
}

/* ---- the outcome of a step ------------------------------------------------------------------- */

/* @step was taken back only to be done again. */
static void
turn_forward (Runner *runner, const Step *step)
{
  Cursor *cursor = runner_cursor (runner);
  int at = runner->turn_at;
  runner->turn_at = -1;
  if (runner->cancelled != NULL && !runner->in_fold) {
    GError *error = NULL;
    fail (&error, INTERRUPTED, "%s: %s", step->name, runner->cancelled);
    remember (runner, error);
    turn_back (runner);
    return;
  }
  *cursor = (Cursor){.steps = cursor->steps, .at = at};
  runner_after (runner, step->patient ? 100u << MIN (runner->patience, 6) : 0, runner_begin_later);
}

void
runner_step_done (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  const Step *step = runner_step (runner);
  if (runner->lanes->len > 0)
    runner_note (runner, NULL, "done", NULL);
  if (!runner->in_fold && !cursor->back && step->kind == STEP_PIVOT)
    op_set_state (runner->op, OP_FINISHING);
  runner->tries = 0;
  cursor->at += cursor->back ? -1 : 1;
  if (cursor->back && cursor->at < runner->turn_at) {
    turn_forward (runner, step);
    return;
  }
  /* A cancellation that came while nothing could be aborted. */
  if (runner->cancelled != NULL && !runner->in_fold && !cursor->back &&
      runner->op->state == OP_RUNNING) {
    GError *error = NULL;
    fail (&error, INTERRUPTED, "%s", runner->cancelled);
    cursor->at--;
    step_failed (runner, error);
    return;
  }
  runner_begin_step (runner);
}

/* Job record and events said yes; now the graph. */
static void
judge (Runner *runner, World *world)
{
  const Step *step = runner_step (runner);
  gboolean back = runner_cursor (runner)->back;
  GError *error = NULL;
  gboolean ok = TRUE;
  for (guint i = 0; ok && !back && i < runner->op->disks->len; i++)
    ok = step->verify (runner->op, op_disk (runner->op, i), world, &error);
  if (ok && back && step->probe != NULL && step->undo != NULL && step->kind == STEP_UNDOABLE)
    ok = runner_probe_all (runner, step) == SEEN_NO || fail (&error, FAILED, "it is still there");
  if (!ok && runner->refusal != NULL)
    because (&error, "%s", runner->refusal);
  /* The next step may use this look, up to where something is asked. */
  runner->fresh = ok;
  if (ok)
    runner_step_done (runner);
  else
    step_failed (runner, error);
  runner->fresh = FALSE;
}

/* A guest that is frozen or held waits for no look where what frees it comes next, and verifies the
 * same. */
static gboolean
look_can_wait (Runner *runner)
{
  const Step *step = runner_step (runner), *next = step + 1;
  while (next->name != NULL && next->applies != NULL && !next->applies (runner->op))
    next++;
  return (runner->op->frozen || runner->op->held) && next->name != NULL && next->foretold &&
         next->verify == step->verify;
}

void
lanes_ended (Runner *runner)
{
  const Step *step = runner_step (runner);
  gboolean back = runner_cursor (runner)->back;
  GError *first = NULL;
  if (runner->detached)
    return;
  link_set_lent (runner, FALSE);
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (lane->error == NULL)
      continue;
    runner_note_error (runner, lane->disk, lane->error);
    /* What was aborted because of another disk's failure explains nothing. */
    if (first != NULL && !g_error_matches (first, RECHAIN_ERROR, INTERRUPTED))
      continue;
    g_clear_error (&first);
    first = g_steal_pointer (&lane->error);
    if (lane->disk != NULL && runner->op->disks->len > 1)
      prefix (&first, "disk '%s'", lane->disk->name);
  }
  if (first == NULL && !runner->in_fold && !back && runner->op->thawed_early)
    fail (&first, FAILED, "the guest ran again before the snapshot was taken");
  if (first != NULL)
    step_failed (runner, first);
  else if (back ? step->probe != NULL : step->verify != NULL && !look_can_wait (runner))
    runner_look_then (runner, judge);
  else
    runner_step_done (runner);
}

/* ---- the connection -------------------------------------------------------------------------- */

/* Everything that was on its way is unknown now, so every step is looked at before it is done. In
 * the fold, whose jobs may stand anywhere, the first act is to settle. */
void
link_is_back (Runner *runner)
{
  const Step *step = runner_step (runner);
  runner->resumed = TRUE;
  runner->tries = 0;
  if (runner->in_fold && runner->op->decided != DECIDED_OLD && step->kind != STEP_FINISH) {
    if (!runner->fold.back && runner->failure == NULL)
      fail (&runner->failure, UNREACHABLE, "the connection to QEMU ended");
    runner->fold.back = TRUE;
    runner_begin_step (runner);
  } else if (!runner->in_fold && !runner->main.back && step->kind == STEP_PIVOT)
    runner_look_then (runner, judge_failed_pivot);
  else if (!runner->in_fold && !runner->main.back && step->kind == STEP_UNDOABLE &&
           runner->op->state == OP_RUNNING) {
    GError *error = NULL;
    fail (&error, UNREACHABLE, "%s: the connection to QEMU ended", step->name);
    remember (runner, error);
    turn_back (runner);
  } else
    runner_begin_step (runner);
}

void
link_is_dead (Runner *runner, GError *take_error)
{
  if (op_qemu_is_gone (runner->op)) {
    if (runner->op->error == NULL)
      remember (runner, g_error_copy (take_error));
    if (runner_settle_files (runner)) {
      g_error_free (take_error);
      return;
    }
  }
  g_clear_pointer (&runner->world, world_free);
  if (runner->in_fold)
    runner->in_fold = FALSE;
  runner_get_stuck (runner, take_error);
}
