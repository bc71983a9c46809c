/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where an operation stands that has not ended: at which step, what recovery would do with it, and
 * how its guest is meanwhile. */
#include "src/lib/lib-private.h"

#include "jobs/op-repair.h"
#include "jobs/op-volume.h"

static const char *
says_of (const Step *steps, const char *name)
{
  for (; steps != NULL && steps->name != NULL; steps++)
    if (g_strcmp0 (steps->name, name) == 0)
      return steps->says;
  return NULL;
}

/* Of the tables that an operation may be in. */
static const char *
find_says (Op *op, const char *name)
{
  const Step *tables[] = {steps_of (op), fold_steps,        dead_back_steps,
                          dead_on_steps, dead_resize_steps, dead_repair_steps};
  const char *says = NULL;
  for (guint i = 0; i < G_N_ELEMENTS (tables) && says == NULL; i++)
    says = says_of (tables[i], name);
  return says;
}

static gboolean
pivots_by_record (Op *op)
{
  for (const Step *step = steps_of (op); step->name != NULL; step++)
    if (step->kind == STEP_PIVOT)
      return step->commits;
  return FALSE;
}

/* What recovery does where no direction is given (jobs/run-recover.c, run-dead.c). */
static const char *
direction_of (Op *op)
{
  if (op->decided == DECIDED_NEW)
    return "finish";
  if (op->decided == DECIDED_OLD || op->state == OP_UNDOING || pivots_by_record (op))
    return "undo";
  return op->kind == OP_SNAPSHOT && op->switched ? "finish" : "look";
}

/* The last line that says something of a step. */
static Json *
last_step (Json *lines)
{
  for (gsize i = json_length (lines); i-- > 0;)
    if (g_strcmp0 (json_get_str (json_at (lines, i), "phase"), "note") != 0)
      return json_at (lines, i);
  return NULL;
}

static const char *
outcome_of (const char *phase)
{
  gboolean told = g_strcmp0 (phase, "done") == 0 || g_strcmp0 (phase, "failed") == 0;
  return told ? phase : "unknown";
}

Json *
document_standing (Op *op, Json *lines)
{
  gboolean gone = op_qemu_is_gone (op);
  Json *last = last_step (lines);
  const char *step = json_get_str (last, "step");
  const char *guest = gone ? NULL : op->frozen ? "frozen" : op->held ? "stopped" : NULL;
  return json_make ("step", json_str (step), "says", json_str (find_says (op, step)), "direction",
                    json_str (json_get_str (last, "direction")), "outcome",
                    step ? json_str (outcome_of (json_get_str (last, "phase"))) : NULL, "recover",
                    json_str (direction_of (op)), "qemu",
                    op->vm ? json_str (gone ? "gone" : "alive") : NULL, "guest", json_str (guest),
                    NULL);
}
