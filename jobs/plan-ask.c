/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What only others know (qemu-img, LVM, the guest agent, QEMU itself) is asked all at once; what
 * speaks against the plan first is its error. */
#include "jobs/plan-private.h"

#include "jobs/bitmaps.h"
#include "jobs/engine.h"
#include "jobs/image.h"
#include "jobs/run.h"

/* What qemu-img is asked about one disk. */
typedef struct {
  Plan *plan;
  OpDisk *disk;
  const ChainLayer *layer; /* where it is asked about one */
} Question;

/* Takes @bad, nullable. */
static void
answered_plan (Plan *plan, GError *bad)
{
  if (plan->error == NULL)
    plan->error = bad;
  else
    g_clear_error (&bad);
  if (--plan->asking == 0)
    plan_tell (plan);
}

static void
answered (Question *question, GError *bad)
{
  Plan *plan = question->plan;
  g_free (question);
  answered_plan (plan, bad);
}

static void
on_answer (GError *take_error, gpointer data)
{
  answered (data, take_error);
}

/* What a reused file holds would hide what the guest has there. */
static void
on_mapped (const char *out, const GError *error, gpointer data)
{
  Question *question = data;
  const char *to = question->disk->to;
  gboolean empty = TRUE;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL && image_map_parse (out, &empty, &bad) && !empty) {
    fail (&bad, REFUSED, "it is not empty, and what it holds would hide what the guest has there");
    hint (&bad, "make it anew (qemu-img create), or leave --reuse out and name another file");
  }
  prefix (&bad, "reuse '%s'", to);
  answered (question, bad);
}

static void
on_layer_info (const char *out, const GError *error, gpointer data)
{
  Question *question = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL)
    json_set (question->plan->bitmaps, question->layer->node, bitmaps_from_info (out));
  prefix (&bad, "read the dirty bitmaps of '%s'", question->layer->file);
  answered (question, bad);
}

static void
on_engine_version (const char *out, const GError *error, gpointer data)
{
  Question *question = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL)
    plan_check_engine (question->plan->op, question->disk, out, &bad);
  answered (question, bad);
}

static void
ask_of_layer (Plan *plan, OpDisk *disk, const ChainLayer *layer, char **take_argv, ImageDone done)
{
  g_auto (GStrv) argv = take_argv;
  Question *question = g_new0 (Question, 1);
  *question = (Question){.plan = plan, .disk = disk, .layer = layer};
  plan->asking++;
  image_run ((const char *const *)argv, IMAGE_QUESTION, done, question);
}

static void
ask (Plan *plan, OpDisk *disk, char **take_argv, ImageDone done)
{
  ask_of_layer (plan, disk, NULL, take_argv, done);
}

static void
ask_offline (Plan *plan, OpDisk *disk)
{
  if (op_disk_is_beside (disk))
    return;
  if (plan->bitmaps == NULL)
    plan->bitmaps = json_object_new_object ();
  ask (plan, disk, engine_version_args (), on_engine_version);
  for (int i = 0; plan->op->kind != OP_ALLOCATE && i < (int)disk->before->len; i++) {
    const ChainLayer *layer = disk->before->pdata[i];
    if (plan_layer_has_bitmaps (disk, i))
      ask_of_layer (plan, disk, layer, image_info_args (layer->file, layer->format), on_layer_info);
  }
}

static void
ask_space (Plan *plan, OpDisk *disk)
{
  Question *question = g_new0 (Question, 1);
  GError *error = NULL;
  *question = (Question){.plan = plan, .disk = disk};
  if (plan_ask_space (&plan->context, plan->op, disk, on_answer, question, &error)) {
    plan->asking++;
    return;
  }
  g_free (question);
  if (plan->error == NULL)
    plan->error = error;
  else
    g_clear_error (&error);
}

static void
ask_iothread (Plan *plan, OpDisk *disk)
{
  Question *question = g_new0 (Question, 1);
  *question = (Question){.plan = plan, .disk = disk};
  if (plan_ask_iothread (&plan->context, plan->op->kind, disk, on_answer, question))
    plan->asking++;
  else
    g_free (question);
}

/* The guest cannot be frozen for the reason @why, which is taken. In best effort the snapshot is
 * taken all the same, and it is told of what: NULL. */
static GError *
without_freeze (Op *op, GError *why)
{
  const char *cause = rechain_error_get_cause (why);
  if (why == NULL || !(op->flags & OP_BEST_EFFORT))
    return why;
  op->flags &= ~(guint)OP_QUIESCED;
  g_ptr_array_add (op->notes,
                   g_strdup_printf ("the guest's filesystems are not frozen: %s%s%s", why->message,
                                    cause ? ": " : "", cause ? cause : ""));
  g_error_free (why);
  return NULL;
}

static void
on_agent_checked (const GError *error, gpointer data)
{
  Plan *plan = data;
  answered_plan (plan, without_freeze (plan->op, error ? g_error_copy (error) : NULL));
}

static void
ask_agent_of (Plan *plan)
{
  Op *op = plan->op;
  GError *error = NULL;
  if (op->kind != OP_QUIESCE && !(op->flags & OP_QUIESCED))
    return;
  if (plan_check_agent (op, plan->context.world, on_agent_checked, plan, &error))
    plan->asking++;
  else
    plan->error = without_freeze (op, error);
}

typedef gboolean (*AskLvm) (Op *op, OpDisk *disk, PlanAnswer answer, gpointer data);

static void
ask_lvm_of (Plan *plan, OpDisk *disk, AskLvm ask_it)
{
  Question *question = g_new0 (Question, 1);
  *question = (Question){.plan = plan, .disk = disk};
  if (ask_it (plan->op, disk, on_answer, question))
    plan->asking++;
  else
    g_free (question);
}

/* FALSE: nothing was to be asked. */
gboolean
plan_ask_around (Plan *plan)
{
  ask_agent_of (plan);
  gboolean fits = plan->request->brief && !op_is_offline (plan->op) && plan_has_room (plan->op);
  plan->op->locks = plan->op->vm != NULL && op_layers_are_open (plan->op);
  for (guint i = 0; i < plan->op->disks->len; i++) {
    OpDisk *disk = op_disk (plan->op, i);
    ask_lvm_of (plan, disk, plan_ask_lvm);
    ask_lvm_of (plan, disk, plan_ask_grow);
    if (op_is_offline (plan->op))
      ask_offline (plan, disk);
    if (!fits)
      ask_space (plan, disk);
    if (op_has_regions (plan->op) && !op_is_offline (plan->op))
      ask_iothread (plan, disk);
    if ((plan->op->flags & OP_REUSE) && disk->mode != MODE_MIRROR)
      ask (plan, disk, image_map_args (disk->to), on_mapped);
  }
  return plan->asking > 0;
}
