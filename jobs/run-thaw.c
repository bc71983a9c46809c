/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest that we froze waits for nobody: when an operation turns back, loses its QEMU, ends or is
 * recovered, and when the freeze lasts too long, it is thawed first of all, before any look at the
 * world. What the tables say of thawing is the normal course, and the second try.
 *
 * The intent needs no record of its own: "frozen" is on record since before it was asked for. */
#include "jobs/run-private.h"

#include "jobs/freeze.h"
#include "src/common/source.h"

#define TRIES 2

QmpAgent *
runner_agent (Runner *runner, GError **error)
{
  if (runner->agent == NULL)
    runner->agent = qmp_agent_new (runner->op->agent ? runner->op->agent : "", 0, error);
  return runner->agent;
}

void
runner_drop_agent (Runner *runner)
{
  source_clear (&runner->freeze_limit);
  g_clear_pointer (&runner->agent, qmp_agent_free);
}

static void
note (Runner *runner, const char *phase, const char *detail)
{
  journal_note (runner->journal, runner->op, "thaw", NULL, "undo", phase, detail);
}

static void
note_error (Runner *runner, const GError *error)
{
  const char *cause = rechain_error_get_cause (error);
  g_autofree char *text =
      g_strdup_printf ("%s%s%s", error->message, cause ? ": " : "", cause ? cause : "");
  note (runner, "failed", text);
}

static void
thaw (Runner *runner);

static void
thaw_ended (Runner *runner)
{
  Thawed then = runner->after_thaw;
  runner->after_thaw = NULL;
  runner->thawing = FALSE;
  if (then != NULL)
    then (runner);
}

static void
on_thawed (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  Runner *runner = data;
  if (error == NULL) {
    heard_thaw (runner->op, ret, qmp_agent_get_sent_us (agent));
    runner->op->frozen = FALSE;
    runner->thaw_tried = FALSE;
    note (runner, "done", NULL);
  } else {
    note_error (runner, error);
    if (g_error_matches (error, RECHAIN_ERROR, UNREACHABLE) && ++runner->thaw_tries < TRIES) {
      thaw (runner);
      return;
    }
  }
  thaw_ended (runner);
}

static void
thaw (Runner *runner)
{
  g_autoptr (GError) error = NULL;
  QmpAgent *agent = runner_agent (runner, &error);
  note (runner, "intent", "guest agent: {\"execute\":\"" THAW_COMMAND "\"}");
  if (agent != NULL) {
    qmp_agent_execute (agent, THAW_COMMAND, NULL, THAW_MS, on_thawed, runner);
    return;
  }
  note_error (runner, error);
  thaw_ended (runner);
}

gboolean
runner_thaw_first (Runner *runner, Thawed then)
{
  if (!runner->op->frozen || runner->thaw_tried)
    return FALSE;
  runner->thaw_tried = TRUE;
  runner->thaw_tries = 0;
  runner->after_thaw = then;
  runner->thawing = TRUE;
  thaw (runner);
  return TRUE;
}

gboolean
runner_thaw_soon (Runner *runner, Thawed then)
{
  if (!runner->thawing)
    return runner_thaw_first (runner, then);
  runner->after_thaw = then;
  return TRUE;
}

/* ---- without a runner ------------------------------------------------------------------------ */

typedef struct {
  Op *op;
  void (*done) (gpointer data);
  gpointer data;
} OpThaw;

static void
on_op_thawed (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  g_autofree OpThaw *waiting = data;
  if (error == NULL) {
    heard_thaw (waiting->op, ret, qmp_agent_get_sent_us (agent));
    waiting->op->frozen = FALSE;
  } else
    g_info ("operation %s: %s", waiting->op->id, error->message);
  qmp_agent_free (agent);
  waiting->done (waiting->data);
}

void
runner_thaw_op (Op *op, void (*done) (gpointer data), gpointer data)
{
  QmpAgent *agent = op->frozen && op->agent ? qmp_agent_new (op->agent, 0, NULL) : NULL;
  if (agent == NULL) {
    done (data);
    return;
  }
  OpThaw *waiting = g_new0 (OpThaw, 1);
  *waiting = (OpThaw){.op = op, .done = done, .data = data};
  qmp_agent_execute (agent, THAW_COMMAND, NULL, THAW_MS, on_op_thawed, waiting);
}

static void
thaw_alone (Runner *runner)
{
  runner_thaw_first (runner, NULL);
}

/* ---- the limit ------------------------------------------------------------------------------- */

/* What was not asked for yet, or not answered, may be taken of a guest that writes again: it
 * does not count, and the operation is taken back. What was answered is good, whenever the
 * thaw comes. */
static gboolean
on_freeze_limit (gpointer data)
{
  Runner *runner = data;
  Op *op = runner->op;
  g_clear_pointer (&runner->freeze_limit, g_source_unref);
  g_autofree char *why = g_strdup_printf (
      "the guest was frozen for longer than %" G_GUINT64_FORMAT " ms", op->max_freeze_ms);
  op->thawed_early = runner->busy > 0 || !op->switched;
  note (runner, "note", why);
  if (runner->busy > 0)
    lanes_abort (runner, FAILED, why);
  if (!runner_release_first (runner, thaw_alone))
    thaw_alone (runner);
  return G_SOURCE_REMOVE;
}

void
runner_watch_freeze (Runner *runner)
{
  Op *op = runner->op;
  const Step *step = runner_step (runner);
  gboolean counts = op->frozen_us > 0 && !runner_cursor (runner)->back && !runner->in_fold &&
                    step->name != NULL && step->ask != thaw_guest && op->kind != OP_QUIESCE;
  if (counts == (runner->freeze_limit != NULL))
    return;
  if (!counts) {
    source_clear (&runner->freeze_limit);
    return;
  }
  gint64 passed_ms = (g_get_monotonic_time () - op->frozen_us) / 1000;
  gint64 left_ms = (gint64)MIN (op->max_freeze_ms, G_MAXINT32) - passed_ms;
  source_after (&runner->freeze_limit, (guint)CLAMP (left_ms, 0, G_MAXINT32), on_freeze_limit,
                runner);
}
