/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/lib-private.h"

#include "jobs/journal.h"
#include "jobs/lend.h"
#include "src/common/source.h"
#include "src/storage/offer.h"

struct _RechainOperation {
  GObject parent;
  RechainController *controller;
  RechainVm *vm; /* NULL: offline */
  Op *op;        /* before it runs; then the runner has it */
  Runner *runner;
  GTask *task; /* of run */
  guint64 bytes_done, bytes_total;
  double rate;
  RechainState seen_state;
  char *seen_step;
  guint seen_fed;
  gboolean seen_lent;
  GSource *cancel_source;
};

G_DEFINE_FINAL_TYPE (RechainOperation, rechain_operation, G_TYPE_OBJECT)

enum {
  PROP_ID = 1,
  PROP_KIND,
  PROP_STATE,
  PROP_STEP,
  PROP_DISK,
  PROP_DONE,
  PROP_TOTAL,
  PROP_RATE,
  N_PROPS
};
static GParamSpec *props[N_PROPS];
static guint feed_wanted, lent;

static Op *
op_of (RechainOperation *operation)
{
  return operation->runner ? runner_op (operation->runner) : operation->op;
}

static const char *
step_of (RechainOperation *operation)
{
  return operation->runner ? runner_step_name (operation->runner) : "";
}

/* The disk whose job moved last; with one disk, that one. */
static const char *
disk_of (RechainOperation *operation)
{
  Op *op = op_of (operation);
  for (guint i = 0; i < op->disks->len; i++)
    if (op_disk (op, i)->current < op_disk (op, i)->total)
      return op_disk (op, i)->name;
  return op->disks->len ? op_disk (op, 0)->name : "";
}

static void
rechain_operation_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  RechainOperation *operation = RECHAIN_OPERATION (object);
  Op *op = op_of (operation);
  switch (id) {
  case PROP_ID:
    g_value_set_string (value, op->id);
    break;
  case PROP_KIND:
    g_value_set_string (value, op_kind_name (op->kind));
    break;
  case PROP_STATE:
    g_value_set_int (value, (int)op->state);
    break;
  case PROP_STEP:
    g_value_set_string (value, step_of (operation));
    break;
  case PROP_DISK:
    g_value_set_string (value, disk_of (operation));
    break;
  case PROP_DONE:
    g_value_set_uint64 (value, operation->bytes_done);
    break;
  case PROP_TOTAL:
    g_value_set_uint64 (value, operation->bytes_total);
    break;
  case PROP_RATE:
    g_value_set_double (value, operation->rate);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
}

static void
rechain_operation_finalize (GObject *object)
{
  RechainOperation *operation = RECHAIN_OPERATION (object);
  source_clear (&operation->cancel_source);
  g_clear_pointer (&operation->runner, runner_unref);
  g_clear_pointer (&operation->op, op_free);
  g_clear_object (&operation->vm);
  g_clear_object (&operation->controller);
  g_free (operation->seen_step);
  G_OBJECT_CLASS (rechain_operation_parent_class)->finalize (object);
}

static void
rechain_operation_class_init (RechainOperationClass *class)
{
  GObjectClass *object = G_OBJECT_CLASS (class);
  GParamFlags flags = G_PARAM_READABLE | G_PARAM_STATIC_STRINGS;
  object->finalize = rechain_operation_finalize;
  object->get_property = rechain_operation_get_property;
  props[PROP_ID] = g_param_spec_string ("id", NULL, NULL, NULL, flags);
  props[PROP_KIND] = g_param_spec_string ("kind", NULL, NULL, NULL, flags);
  props[PROP_STATE] = g_param_spec_int ("state", NULL, NULL, 0, RECHAIN_STATE_STUCK, 0, flags);
  props[PROP_STEP] = g_param_spec_string ("step", NULL, NULL, NULL, flags);
  props[PROP_DISK] = g_param_spec_string ("disk", NULL, NULL, NULL, flags);
  props[PROP_DONE] = g_param_spec_uint64 ("bytes-done", NULL, NULL, 0, G_MAXUINT64, 0, flags);
  props[PROP_TOTAL] = g_param_spec_uint64 ("bytes-total", NULL, NULL, 0, G_MAXUINT64, 0, flags);
  props[PROP_RATE] = g_param_spec_double ("rate", NULL, NULL, 0, G_MAXDOUBLE, 0, flags);
  g_object_class_install_properties (object, N_PROPS, props);
  feed_wanted = g_signal_new ("feed-wanted", RECHAIN_TYPE_OPERATION, G_SIGNAL_RUN_LAST, 0, NULL,
                              NULL, NULL, G_TYPE_NONE, 1, G_TYPE_UINT64);
  lent = g_signal_new ("lent", RECHAIN_TYPE_OPERATION, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                       G_TYPE_NONE, 0);
}

static void
rechain_operation_init (RechainOperation *operation)
{
}

RechainOperation *
rechain_operation_wrap (RechainController *controller, RechainVm *vm, Op *op)
{
  RechainOperation *operation = g_object_new (RECHAIN_TYPE_OPERATION, NULL);
  operation->controller = g_object_ref (controller);
  operation->vm = vm ? g_object_ref (vm) : NULL;
  operation->op = op;
  return operation;
}

/* ---- running --------------------------------------------------------------------------------- */

static void
on_changed (Runner *runner, gpointer data)
{
  RechainOperation *operation = data;
  g_object_freeze_notify (G_OBJECT (operation));
  RechainState state = (RechainState)runner_op (runner)->state;
  if (state != operation->seen_state)
    g_object_notify_by_pspec (G_OBJECT (operation), props[PROP_STATE]);
  operation->seen_state = state;
  if (g_strcmp0 (operation->seen_step, runner_step_name (runner)) != 0) {
    g_free (operation->seen_step);
    operation->seen_step = g_strdup (runner_step_name (runner));
    g_object_notify_by_pspec (G_OBJECT (operation), props[PROP_STEP]);
  }
  guint64 done = operation->bytes_done;
  runner_progress (runner, &operation->bytes_done, &operation->bytes_total, &operation->rate);
  if (done != operation->bytes_done) {
    g_object_notify_by_pspec (G_OBJECT (operation), props[PROP_DONE]);
    g_object_notify_by_pspec (G_OBJECT (operation), props[PROP_RATE]);
  }
  g_object_thaw_notify (G_OBJECT (operation));
  guint fed = runner_op (runner)->fed;
  if (fed != operation->seen_fed)
    g_signal_emit (operation, feed_wanted, 0, runner_op (runner)->fed_from);
  operation->seen_fed = fed;
  gboolean lends = runner_op (runner)->lent != NULL;
  if (lends && !operation->seen_lent)
    g_signal_emit (operation, lent, 0);
  operation->seen_lent = lends;
}

static void
on_ended (Runner *runner, gpointer data)
{
  RechainOperation *operation = data;
  g_autoptr (GTask) task = g_steal_pointer (&operation->task);
  Op *op = runner_op (runner);
  source_clear (&operation->cancel_source);
  if (op->state == OP_DONE && !runner_was_detached (runner)) {
    g_task_return_boolean (task, TRUE);
    return;
  }
  GError *error = op->error ? g_error_copy (op->error) : NULL;
  if (error == NULL)
    fail (&error, STUCK, "operation %s has not ended", op->id);
  of_operation (&error, op->id);
  g_task_return_error (task, error);
}

static gboolean
on_cancellable (GCancellable *cancellable, gpointer data)
{
  rechain_operation_cancel (data);
  return G_SOURCE_REMOVE;
}

/* From here on the runner has the operation. NULL where the journal cannot be opened. */
static Runner *
make_runner (RechainOperation *operation, GError **error)
{
  gboolean live = operation->vm != NULL && !operation->op->dead;
  VmLink *link = live ? rechain_vm_get_link (operation->vm) : NULL;
  const char *state_dir = rechain_controller_get_state_dir (operation->controller);
  g_autofree char *cache = g_build_filename (state_dir, "cache", NULL);
  Journal *journal = journal_open (state_dir, error);
  if (journal == NULL)
    return NULL;
  if (link != NULL)
    qmp_features_save (link->features, link->client, cache);
  operation->runner = runner_new (g_steal_pointer (&operation->op), journal, state_dir,
                                  link ? link->client : NULL, link ? link->features : NULL);
  return operation->runner;
}

gboolean
rechain_operation_start (RechainOperation *operation, const RunDirection *recover, GTask *task,
                         GCancellable *cancellable, GError **error)
{
  Runner *runner = make_runner (operation, error);
  if (runner == NULL)
    return FALSE;
  operation->task = task;
  gboolean started = recover
                         ? runner_recover (runner, *recover, on_ended, on_changed, operation, error)
                         : runner_start (runner, on_ended, on_changed, operation, error);
  if (started)
    source_on_cancel (&operation->cancel_source, cancellable, on_cancellable, operation);
  else
    operation->task = NULL;
  return started;
}

void
rechain_operation_run_async (RechainOperation *operation, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (operation, NULL, callback, user_data);
  GError *error = NULL;
  if (operation->runner != NULL)
    fail (&error, USAGE, "operation %s was started already", op_of (operation)->id);
  else if (cancellable != NULL && g_cancellable_is_cancelled (cancellable))
    fail (&error, INTERRUPTED, "interrupted before anything was changed");
  else if (rechain_operation_start (operation, NULL, task, cancellable, &error))
    return;
  g_task_return_error (task, error);
  g_object_unref (task);
}

gboolean
rechain_operation_run_finish (RechainOperation *operation, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
rechain_operation_run (RechainOperation *operation, GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_operation_run_async (operation, cancellable, waiting_done, &waiting);
  return rechain_operation_run_finish (operation, waiting_result (&waiting), error);
}

/* ---- control and reading --------------------------------------------------------------------- */

void
rechain_operation_cancel (RechainOperation *operation)
{
  if (operation->runner != NULL)
    runner_cancel (operation->runner, "cancelled by the user");
}

char *
rechain_operation_get_offer (RechainOperation *operation, GError **error)
{
  g_autoptr (Json) offer = offer_lent (op_of (operation), error);
  return offer ? print_document (json_dup (offer)) : NULL;
}

void
rechain_operation_give_back (RechainOperation *operation)
{
  if (operation->runner != NULL)
    lend_give_back (op_of (operation));
}

void
rechain_operation_detach (RechainOperation *operation)
{
  if (operation->runner != NULL)
    runner_detach (operation->runner, runner_was_detached (operation->runner));
}

static gboolean
is_running (RechainOperation *operation, GError **error)
{
  return operation->runner != NULL ||
         fail (error, REFUSED, "operation %s was not started", op_of (operation)->id);
}

gboolean
rechain_operation_pause (RechainOperation *operation, GError **error)
{
  return is_running (operation, error) && runner_pause (operation->runner, TRUE, error);
}

gboolean
rechain_operation_resume (RechainOperation *operation, GError **error)
{
  return is_running (operation, error) && runner_pause (operation->runner, FALSE, error);
}

gboolean
rechain_operation_set_speed (RechainOperation *operation, guint64 bytes_per_second, GError **error)
{
  return is_running (operation, error) &&
         runner_set_bandwidth (operation->runner, bytes_per_second, error);
}

const char *
rechain_operation_get_id (RechainOperation *operation)
{
  return op_of (operation)->id;
}

RechainState
rechain_operation_get_state (RechainOperation *operation)
{
  return (RechainState)op_of (operation)->state;
}

char *
rechain_operation_plan_to_json (RechainOperation *operation)
{
  return print_document (document_plan (op_of (operation)));
}

char *
rechain_operation_to_json (RechainOperation *operation)
{
  return print_document (document_operation (op_of (operation)));
}

Op *
rechain_operation_get_op (RechainOperation *operation)
{
  return op_of (operation);
}

RechainVm *
rechain_operation_get_vm (RechainOperation *operation)
{
  return operation->vm;
}

Map *
rechain_operation_get_map (RechainOperation *operation)
{
  return op_disk (op_of (operation), 0)->map;
}

char *
rechain_operation_progress_to_json (RechainOperation *operation)
{
  guint64 left = operation->bytes_total - MIN (operation->bytes_done, operation->bytes_total);
  gboolean known = operation->rate > 0;
  g_autoptr (Json) json = json_make (
      "operation", json_str (op_of (operation)->id), "state",
      json_str (op_state_name (op_of (operation)->state)), "step", json_str (step_of (operation)),
      "disk", json_str (disk_of (operation)), "current", json_int ((gint64)operation->bytes_done),
      "total", json_int ((gint64)operation->bytes_total), "rate",
      json_int ((gint64)operation->rate), "eta",
      known ? json_real ((double)left / operation->rate, 1) : NULL, NULL);
  return json_line (json);
}
