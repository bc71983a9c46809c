/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/lib-private.h"

#include "jobs/journal.h"
#include "jobs/lend.h"
#include "qmp/address.h"
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
drop_cancel_source (RechainOperation *operation)
{
  if (operation->cancel_source != NULL)
    g_source_destroy (operation->cancel_source);
  g_clear_pointer (&operation->cancel_source, g_source_unref);
}

static void
rechain_operation_finalize (GObject *object)
{
  RechainOperation *operation = RECHAIN_OPERATION (object);
  drop_cancel_source (operation);
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

/* ---- planning -------------------------------------------------------------------------------- */

static void
on_plan (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = g_task_get_source_object (task);
  if (op == NULL) {
    g_task_return_error (task, g_error_copy (error));
    return;
  }
  RechainOperation *operation =
      rechain_operation_wrap (rechain_vm_get_link (vm)->controller, vm, op);
  if (g_task_return_error_if_cancelled (task))
    g_object_unref (operation);
  else
    g_task_return_pointer (task, operation, g_object_unref);
}

/* A VM that is off: its snapshot is deleted on the files, which must not be open. */
static void
on_plan_of_vm_that_is_off (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = g_task_get_source_object (task);
  if (op == NULL)
    g_task_return_error (task, g_error_copy (error));
  else
    g_task_return_pointer (task,
                           rechain_operation_wrap (rechain_vm_get_link (vm)->controller, NULL, op),
                           g_object_unref);
}

static void
plan_without_qemu (GTask *task)
{
  RechainVm *vm = g_task_get_source_object (task);
  PlanContext context = {
      .state_dir = rechain_controller_get_state_dir (rechain_vm_get_link (vm)->controller),
      .vm = rechain_vm_get_address (vm)};
  plan_make (&context, g_task_get_task_data (task), on_plan_of_vm_that_is_off, task);
}

static void
on_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  GTask *task = data;
  RechainVm *vm = RECHAIN_VM (source);
  VmLink *link = rechain_vm_get_link (vm);
  GError *error = NULL;
  if (rechain_vm_look_finish (vm, result, &error) && link->borrowed_from != NULL) {
    fail (&error, REFUSED, "operation %s is running on this VM and holds its monitor",
          link->borrowed_from);
    hint (&error, "wait for it (rechain op wait %s), or give the VM a second monitor (-qmp)",
          link->borrowed_from);
  }
  const Request *request = g_task_get_task_data (task);
  if (request->kind == OP_SNAPSHOT_DELETE && g_error_matches (error, RECHAIN_ERROR, UNREACHABLE) &&
      qmp_address_is_dead (rechain_vm_get_address (vm))) {
    g_clear_error (&error);
    plan_without_qemu (task);
    return;
  }
  if (error != NULL) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  PlanContext context = {.client = link->client,
                         .features = link->features,
                         .world = link->world,
                         .state_dir = rechain_controller_get_state_dir (link->controller)};
  plan_make (&context, g_task_get_task_data (task), on_plan, task);
}

void
rechain_operation_plan_async (RechainVm *vm, const RechainRequest *request,
                              GCancellable *cancellable, GAsyncReadyCallback callback,
                              gpointer user_data)
{
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  g_task_set_task_data (task, request_copy (request), (GDestroyNotify)request_free);
  rechain_vm_look_async (vm, cancellable, on_looked, task);
}

RechainOperation *
rechain_operation_plan_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainOperation *
rechain_operation_plan (RechainVm *vm, const RechainRequest *request, GCancellable *cancellable,
                        GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_operation_plan_async (vm, request, cancellable, waiting_done, &waiting);
  return rechain_operation_plan_finish (vm, waiting_result (&waiting), error);
}

static void
on_offline_plan (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainController *controller = g_task_get_source_object (task);
  if (op == NULL)
    g_task_return_error (task, g_error_copy (error));
  else
    g_task_return_pointer (task, rechain_operation_wrap (controller, NULL, op), g_object_unref);
}

void
rechain_operation_plan_offline_async (RechainController *controller, const RechainRequest *request,
                                      GCancellable *cancellable, GAsyncReadyCallback callback,
                                      gpointer user_data)
{
  GTask *task = g_task_new (controller, cancellable, callback, user_data);
  RechainRequest *copy = request_copy (request);
  g_task_set_task_data (task, copy, (GDestroyNotify)request_free);
  PlanContext context = {.state_dir = rechain_controller_get_state_dir (controller)};
  plan_make (&context, copy, on_offline_plan, task);
}

RechainOperation *
rechain_operation_plan_offline_finish (RechainController *controller, GAsyncResult *result,
                                       GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainOperation *
rechain_operation_plan_offline (RechainController *controller, const RechainRequest *request,
                                GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_operation_plan_offline_async (controller, request, cancellable, waiting_done, &waiting);
  return rechain_operation_plan_offline_finish (controller, waiting_result (&waiting), error);
}

char *
rechain_operation_plan_to_json (RechainOperation *operation)
{
  return print_document (document_plan (op_of (operation)));
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
  drop_cancel_source (operation);
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

static void
watch_cancellable (RechainOperation *operation, GCancellable *cancellable)
{
  if (cancellable == NULL)
    return;
  operation->cancel_source = g_cancellable_source_new (cancellable);
  g_source_set_callback (operation->cancel_source, G_SOURCE_FUNC (on_cancellable), operation, NULL);
  g_source_attach (operation->cancel_source, g_main_context_get_thread_default ());
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
  else if (make_runner (operation, &error) != NULL) {
    operation->task = task;
    if (runner_start (operation->runner, on_ended, on_changed, operation, &error)) {
      watch_cancellable (operation, cancellable);
      return;
    }
    operation->task = NULL;
  }
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

/* ---- recovering ------------------------------------------------------------------------------ */

typedef struct {
  RechainDirection direction;
} Recovery;

/* TRUE: @task is taken; its end comes from the runner. */
static gboolean
start_to_recover (GTask *task, GError **error)
{
  static const RunDirection directions[] = {[RECHAIN_DIRECTION_DEFAULT] = RUN_BY_RECORD,
                                            [RECHAIN_DIRECTION_UNDO] = RUN_BACK,
                                            [RECHAIN_DIRECTION_FINISH] = RUN_ON};
  RechainOperation *operation = g_task_get_source_object (task);
  Recovery *recovery = g_task_get_task_data (task);
  if (make_runner (operation, error) == NULL)
    return FALSE;
  operation->task = task;
  if (runner_recover (operation->runner, directions[recovery->direction], on_ended, on_changed,
                      operation, error)) {
    watch_cancellable (operation, g_task_get_cancellable (task));
    return TRUE;
  }
  operation->task = NULL;
  return FALSE;
}

static void
not_recovered (GTask *task, GError *take_error)
{
  g_task_return_error (task, take_error);
  g_object_unref (task);
}

/* The old one lives, at another address. */
static gboolean
check_same_qemu (RechainOperation *operation, GError **error)
{
  VmLink *link = rechain_vm_get_link (operation->vm);
  Op *op = op_of (operation);
  pid_t pid = qmp_client_get_peer_pid (link->client);
  if (op->dead || op->qemu_pid <= 0 || pid <= 0 || pid == op->qemu_pid)
    return TRUE;
  fail (error, STUCK, "at '%s' there is another QEMU now (process %d instead of %d)", op->vm,
        (int)pid, (int)op->qemu_pid);
  return hint (error, "is the VM's address used by another VM now?");
}

/* The same QEMU is its process, or, where that cannot be told (TCP), one that has our nodes (looked
 * at by the runner). A QEMU that is gone is not waited for, and one that was started since is no
 * help: what is left to do is done on the files. */
static void
on_connected_to_recover (GObject *source, GAsyncResult *result, gpointer data)
{
  RechainOperation *operation = g_task_get_source_object (data);
  GError *error = NULL;
  gboolean reached = rechain_vm_look_finish (RECHAIN_VM (source), result, &error);
  Op *op = op_of (operation);
  if (op_qemu_is_gone (op)) {
    g_clear_error (&error);
    op_forget_qemu (op);
    reached = TRUE;
  }
  if (!reached || !check_same_qemu (operation, &error) || !start_to_recover (data, &error)) {
    if (op_of (operation)->frozen)
      hint (&error, "the guest may still be frozen: 'rechain thaw' needs its agent only");
    not_recovered (data, error);
  }
}

static void
recover_thawed (gpointer data)
{
  GTask *task = data;
  RechainOperation *operation = g_task_get_source_object (task);
  GError *error = NULL;
  if (operation->vm != NULL)
    rechain_vm_connect_async (operation->vm, g_task_get_cancellable (task), on_connected_to_recover,
                              task);
  else if (!start_to_recover (task, &error))
    not_recovered (task, error);
}

void
rechain_operation_recover_async (RechainOperation *operation, RechainDirection direction,
                                 GCancellable *cancellable, GAsyncReadyCallback callback,
                                 gpointer user_data)
{
  GTask *task = g_task_new (operation, cancellable, callback, user_data);
  Recovery *recovery = g_new0 (Recovery, 1);
  recovery->direction = direction;
  g_task_set_task_data (task, recovery, g_free);
  g_task_set_check_cancellable (task, FALSE);
  runner_thaw_op (operation->op, recover_thawed, task);
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
rechain_operation_to_json (RechainOperation *operation)
{
  return print_document (document_operation (op_of (operation)));
}

Op *
rechain_operation_get_op (RechainOperation *operation)
{
  return op_of (operation);
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
