/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest that is held for snapshots beside its chains waits for nobody: when the operation turns
 * back or ends, and when the hold lasts longer than --max-pause, it is continued first of all. No
 * job stands in PENDING then, so that "cont" is all there is to do. What the tables say of it is
 * the normal course, and the second try.
 *
 * The intent needs no record of its own: "held" is on record since before the guest was stopped. */
#include "jobs/run-private.h"

#include "jobs/beside.h"
#include "jobs/blocks-hold.h"
#include "src/common/source.h"

static void
note (Runner *runner, const char *phase, const char *detail)
{
  journal_note (runner->journal, runner->op, "release", NULL, "undo", phase, detail);
}

static void
on_continued (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Runner) runner = data;
  Thawed then = runner->after_release;
  runner->after_release = NULL;
  if (runner->ended || runner->detached)
    return;
  if (error == NULL) {
    note_release (runner->op, NULL, NULL);
    runner->release_tried = FALSE;
    note (runner, "done", NULL);
  } else
    note (runner, "failed", error->message);
  if (then != NULL)
    then (runner);
}

static gboolean
is_held_beside (Runner *runner)
{
  return runner->op->held && !runner->in_fold && !op_is_offline (runner->op) &&
         holds_beside (runner->op);
}

gboolean
runner_release_first (Runner *runner, Thawed then)
{
  if (!is_held_beside (runner) || runner->release_tried || runner->lost || runner->client == NULL)
    return FALSE;
  runner->release_tried = TRUE;
  runner->after_release = then;
  note (runner, "intent", "{\"execute\":\"cont\"}");
  qmp_client_execute (runner->client, "cont", NULL, 0, on_continued, runner_ref (runner));
  return TRUE;
}

gboolean
runner_free_guest (Runner *runner, Thawed then)
{
  return runner_release_first (runner, then) || runner_thaw_first (runner, then);
}

/* ---- the limit ------------------------------------------------------------------------------- */

/* What was not answered yet may be taken of a guest that writes again: it does not count. */
static gboolean
on_hold_limit (gpointer data)
{
  Runner *runner = data;
  Op *op = runner->op;
  g_clear_pointer (&runner->hold_limit, g_source_unref);
  g_autofree char *why =
      g_strdup_printf ("the guest was held for longer than --max-pause (%" G_GUINT64_FORMAT " ms)",
                       op->max_pause_ms);
  op->thawed_early = TRUE;
  note (runner, "note", why);
  if (runner->busy > 0)
    lanes_abort (runner, FAILED, why);
  runner_release_first (runner, NULL);
  return G_SOURCE_REMOVE;
}

void
runner_watch_hold (Runner *runner)
{
  Op *op = runner->op;
  const Step *step = runner_step (runner);
  gboolean counts = is_held_beside (runner) && !runner_cursor (runner)->back &&
                    step->name != NULL && step->kind != STEP_FINISH;
  if (counts == (runner->hold_limit != NULL))
    return;
  if (!counts) {
    runner_drop_hold (runner);
    return;
  }
  gint64 passed_ms = (g_get_monotonic_time () - op->held_us) / 1000;
  gint64 left_ms = (gint64)MIN (op->max_pause_ms, G_MAXINT32) - passed_ms;
  source_after (&runner->hold_limit, (guint)CLAMP (left_ms, 0, G_MAXINT32), on_hold_limit, runner);
}

void
runner_drop_hold (Runner *runner)
{
  source_clear (&runner->hold_limit);
}
