/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/lib-private.h"

#include "jobs/undo.h"

#include "jobs/journal.h"
#include "src/common/fs.h"
#include "src/common/source.h"

#include <unistd.h>

#define WAIT_EVERY_MS 100

struct _RechainController {
  GObject parent;
  char *state_dir;
};

G_DEFINE_FINAL_TYPE (RechainController, rechain_controller, G_TYPE_OBJECT)

static void
rechain_controller_finalize (GObject *object)
{
  g_free (RECHAIN_CONTROLLER (object)->state_dir);
  G_OBJECT_CLASS (rechain_controller_parent_class)->finalize (object);
}

static void
rechain_controller_class_init (RechainControllerClass *class)
{
  G_OBJECT_CLASS (class)->finalize = rechain_controller_finalize;
}

static void
rechain_controller_init (RechainController *controller)
{
}

static char *
default_state_dir (void)
{
  const char *named = g_getenv ("RECHAIN_STATE_DIR");
  if (named != NULL && named[0] != '\0')
    return g_strdup (named);
  return geteuid () == 0 ? g_strdup ("/var/lib/rechain")
                         : g_build_filename (g_get_user_state_dir (), "rechain", NULL);
}

RechainController *
rechain_controller_new (const char *state_dir)
{
  RechainController *controller = g_object_new (RECHAIN_TYPE_CONTROLLER, NULL);
  g_autofree char *chosen = state_dir ? g_strdup (state_dir) : default_state_dir ();
  controller->state_dir = path_absolute (chosen);
  return controller;
}

const char *
rechain_controller_get_state_dir (RechainController *controller)
{
  return controller->state_dir;
}

/* ---- reading --------------------------------------------------------------------------------- */

static Json *
operation_with_owner (Journal *journal, Op *op)
{
  Json *document = document_operation (op);
  Owner owner = journal_owner (journal, op->id, NULL);
  if (owner != OWNER_NONE)
    json_set (document, "owner", json_str (owner == OWNER_ALIVE ? "alive" : "dead"));
  return document;
}

char *
rechain_controller_list_operations (RechainController *controller, GError **error)
{
  GError *bad = NULL;
  g_autoptr (Journal) journal = journal_open_to_read (controller->state_dir, &bad);
  Json *operations = json_array ();
  g_auto (GStrv) ids = journal ? journal_list (journal, FALSE, NULL, &bad) : NULL;
  for (char **id = ids; id != NULL && *id != NULL; id++) {
    g_autoptr (GError) unreadable = NULL;
    g_autoptr (Op) op = journal_load (journal, *id, &unreadable);
    if (op != NULL)
      json_append (operations, operation_with_owner (journal, op));
    else
      g_warning ("%s", unreadable->message);
  }
  if (bad != NULL) {
    json_object_put (operations);
    g_propagate_error (error, bad);
    return NULL;
  }
  return print_document (
      json_make ("schema", json_str ("rechain.operation-list/1"), "operations", operations, NULL));
}

char *
rechain_controller_show_operation (RechainController *controller, const char *id, GError **error)
{
  GError *bad = NULL;
  g_autoptr (Journal) journal = journal_open_to_read (controller->state_dir, &bad);
  g_autoptr (Op) op = bad == NULL ? journal_load (journal, id, &bad) : NULL;
  Json *steps = op ? journal_steps (journal, op->id, &bad) : NULL;
  if (steps == NULL) {
    g_propagate_error (error, bad);
    return NULL;
  }
  Json *document = operation_with_owner (journal, op);
  if (!op_state_is_end (op->state))
    json_set (document, "standing", document_standing (op, steps));
  json_set (document, "journal", steps);
  return print_document (document);
}

RechainRequest *
rechain_controller_undo_request (RechainController *controller, const char *id, char **vm,
                                 GError **error)
{
  GError *bad = NULL;
  g_autoptr (Journal) journal = journal_open_to_read (controller->state_dir, &bad);
  g_autoptr (Op) op = bad == NULL ? journal_load (journal, id, &bad) : NULL;
  Request *request = op ? request_to_undo (op, &bad) : NULL;
  if (request != NULL)
    *vm = g_strdup (op->vm);
  else
    g_propagate_error (error, bad);
  return request;
}

/* ---- waiting for, and cancelling, an operation of another process ---------------------------- */

typedef struct {
  char *id;
  GSource *timer;
  QmpClient *client; /* to its relay, while cancelling */
} OpWait;

static void
op_wait_free (gpointer data)
{
  OpWait *wait = data;
  source_clear (&wait->timer);
  g_clear_pointer (&wait->client, qmp_client_unref);
  g_free (wait->id);
  g_free (wait);
}

/* The journal is looked at: the owner is another process, and its end is to be seen too. */
static gboolean
on_wait_timer (gpointer data)
{
  GTask *task = data;
  RechainController *controller = g_task_get_source_object (task);
  OpWait *wait = g_task_get_task_data (task);
  GError *error = NULL;
  gboolean over = g_task_return_error_if_cancelled (task);
  if (!over) {
    g_autoptr (Journal) journal = journal_open_to_read (controller->state_dir, &error);
    over =
        error != NULL || journal == NULL || journal_owner (journal, wait->id, NULL) != OWNER_ALIVE;
    char *document =
        over && !error ? rechain_controller_show_operation (controller, wait->id, &error) : NULL;
    if (error != NULL)
      g_task_return_error (task, error);
    else if (over)
      g_task_return_pointer (task, document, g_free);
  }
  if (over)
    g_object_unref (task);
  return over ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void
wait_on (GTask *task)
{
  OpWait *wait = g_task_get_task_data (task);
  source_after (&wait->timer, WAIT_EVERY_MS, on_wait_timer, task);
}

/* Its id in full; and how its owner is. */
static GTask *
op_task (RechainController *controller, const char *id, GCancellable *cancellable,
         GAsyncReadyCallback callback, gpointer user_data, Owner *ret_owner)
{
  GTask *task = g_task_new (controller, cancellable, callback, user_data);
  GError *error = NULL;
  g_autoptr (Journal) journal = journal_open_to_read (controller->state_dir, &error);
  g_autoptr (Op) op = error == NULL ? journal_load (journal, id, &error) : NULL;
  if (op == NULL) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return NULL;
  }
  OpWait *wait = g_new0 (OpWait, 1);
  wait->id = g_strdup (op->id);
  *ret_owner = journal_owner (journal, op->id, NULL);
  g_task_set_task_data (task, wait, op_wait_free);
  return task;
}

void
rechain_controller_wait_operation_async (RechainController *controller, const char *id,
                                         GCancellable *cancellable, GAsyncReadyCallback callback,
                                         gpointer user_data)
{
  Owner owner;
  GTask *task = op_task (controller, id, cancellable, callback, user_data, &owner);
  if (task != NULL)
    wait_on (task);
}

char *
rechain_controller_wait_operation_finish (RechainController *controller, GAsyncResult *result,
                                          GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

char *
rechain_controller_wait_operation (RechainController *controller, const char *id,
                                   GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_controller_wait_operation_async (controller, id, cancellable, waiting_done, &waiting);
  return rechain_controller_wait_operation_finish (controller, waiting_result (&waiting), error);
}

static void
on_cancel_answer (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  GTask *task = data;
  /* It may have ended at this very moment; the journal tells. */
  if (error != NULL && error->code != (int)UNREACHABLE) {
    g_task_return_error (task, g_error_copy (error));
    g_object_unref (task);
  } else
    wait_on (task);
}

void
rechain_controller_cancel_operation_async (RechainController *controller, const char *id,
                                           GCancellable *cancellable, GAsyncReadyCallback callback,
                                           gpointer user_data)
{
  Owner owner;
  GError *error = NULL;
  GTask *task = op_task (controller, id, cancellable, callback, user_data, &owner);
  if (task == NULL)
    return;
  OpWait *wait = g_task_get_task_data (task);
  if (owner == OWNER_NONE)
    fail (&error, REFUSED, "operation %s has ended", wait->id);
  else if (owner == OWNER_DEAD) {
    fail (&error, REFUSED, "operation %s was interrupted: nobody is running it", wait->id);
    hint (&error, "rechain recover --op %s --undo", wait->id);
  } else {
    g_autofree char *path = journal_run_path (controller->state_dir, wait->id, ".sock");
    wait->client = qmp_client_new (path, QMP_GREETING_MS, &error);
  }
  if (error != NULL) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  qmp_client_execute (wait->client, "rechain-cancel", NULL, 0, on_cancel_answer, task);
}

char *
rechain_controller_cancel_operation_finish (RechainController *controller, GAsyncResult *result,
                                            GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

char *
rechain_controller_cancel_operation (RechainController *controller, const char *id,
                                     GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_controller_cancel_operation_async (controller, id, cancellable, waiting_done, &waiting);
  return rechain_controller_cancel_operation_finish (controller, waiting_result (&waiting), error);
}

/* ---- recovery -------------------------------------------------------------------------------- */

typedef struct {
  Journal *journal; /* for reading */
  RechainDirection direction;
  char **ids;
  guint at;
  gboolean named; /* one operation was asked for by id */
  Json *results;
  guint unsettled;
  RechainOperation *current;
} Recovering;

static void
recovering_free (gpointer data)
{
  Recovering *recovering = data;
  g_clear_pointer (&recovering->journal, journal_close);
  g_strfreev (recovering->ids);
  g_clear_pointer (&recovering->results, json_clear);
  g_clear_object (&recovering->current);
  g_free (recovering);
}

static void
recover_next (GTask *task);

/* Takes @document. An operation that could not be settled keeps the state of its record. */
static void
recovered (GTask *task, Json *take_document, const GError *error)
{
  Recovering *recovering = g_task_get_task_data (task);
  const char *state = json_get_str (take_document, "state");
  gboolean settled = g_strcmp0 (state, "done") == 0 || g_strcmp0 (state, "undone") == 0;
  if (!settled) {
    recovering->unsettled++;
    json_set (take_document, "owner", json_str ("dead"));
  }
  if (!settled && error != NULL)
    json_set (take_document, "error",
              json_make ("code", json_str (rechain_error_code_name ((RechainError)error->code)),
                         "message", json_str (error->message), "cause",
                         json_str (rechain_error_get_cause (error)), "hint",
                         json_str (rechain_error_get_hint (error)), NULL));
  json_append (recovering->results, take_document);
  g_clear_object (&recovering->current);
  recovering->at++;
  recover_next (task);
}

static void
on_recovered (GObject *source, GAsyncResult *result, gpointer data)
{
  GTask *task = data;
  g_autoptr (GError) error = NULL;
  RechainOperation *operation = RECHAIN_OPERATION (source);
  g_task_propagate_boolean (G_TASK (result), &error);
  g_autofree char *text = rechain_operation_to_json (operation);
  recovered (task, json_parse (text, -1), error);
}

static void
recover_op (GTask *task, Op *take_op)
{
  RechainController *controller = g_task_get_source_object (task);
  Recovering *recovering = g_task_get_task_data (task);
  GError *error = NULL;
  g_autoptr (RechainVm) vm =
      op_is_offline (take_op) ? NULL : rechain_vm_new (controller, take_op->vm, &error);
  if (error != NULL) {
    Json *document = document_operation (take_op);
    op_free (take_op);
    recovered (task, document, error);
    g_clear_error (&error);
    return;
  }
  recovering->current = rechain_operation_wrap (controller, vm, take_op);
  rechain_operation_recover_async (recovering->current, recovering->direction,
                                   g_task_get_cancellable (task), on_recovered, task);
}

/* One after the other: they may share a monitor. Those that a live process runs are not ours to
 * touch. */
static void
recover_next (GTask *task)
{
  Recovering *recovering = g_task_get_task_data (task);
  const char *id = recovering->ids ? recovering->ids[recovering->at] : NULL;
  if (id == NULL || g_cancellable_is_cancelled (g_task_get_cancellable (task))) {
    if (id != NULL)
      recovering->unsettled++;
    g_task_return_boolean (task, TRUE);
    g_object_unref (task);
    return;
  }
  GError *error = NULL;
  g_autoptr (Op) op = journal_load (recovering->journal, id, &error);
  Owner owner = op ? journal_owner (recovering->journal, id, NULL) : OWNER_DEAD;
  if (op == NULL) {
    recovered (task, json_make ("operation", json_str (id), NULL), error);
    g_clear_error (&error);
  } else if (owner == OWNER_NONE) {
    recovered (task, document_operation (op), NULL);
  } else if (owner == OWNER_ALIVE && !recovering->named) {
    recovering->at++;
    recover_next (task);
  } else if (owner == OWNER_ALIVE) {
    fail (&error, REFUSED, "operation %s is being run by another process", id);
    hint (&error, "rechain op cancel %s cancels and undoes it", id);
    g_task_return_error (task, error);
    g_object_unref (task);
  } else
    recover_op (task, g_steal_pointer (&op));
}

static char **
ids_to_recover (Recovering *recovering, const char *vm, const char *id, GError **error)
{
  g_autofree char *address = vm ? rechain_vm_normalize_address (vm) : NULL;
  if (recovering->journal != NULL)
    journal_sweep (recovering->journal);
  if (id == NULL)
    return recovering->journal ? journal_list (recovering->journal, TRUE, address, error) : NULL;
  g_autoptr (Op) op = journal_load (recovering->journal, id, error);
  if (op == NULL)
    return NULL;
  const char *const one[] = {op->id, NULL};
  return g_strdupv ((char **)one);
}

void
rechain_controller_recover_async (RechainController *controller, const char *vm, const char *id,
                                  RechainDirection direction, GCancellable *cancellable,
                                  GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (controller, cancellable, callback, user_data);
  Recovering *recovering = g_new0 (Recovering, 1);
  GError *error = NULL;
  g_task_set_task_data (task, recovering, recovering_free);
  g_task_set_check_cancellable (task, FALSE);
  recovering->direction = direction;
  recovering->named = id != NULL;
  recovering->results = json_array ();
  recovering->journal = journal_open_to_read (controller->state_dir, &error);
  if (error == NULL)
    recovering->ids = ids_to_recover (recovering, vm, id, &error);
  if (error != NULL) {
    g_task_return_error (task, error);
    g_object_unref (task);
  } else
    recover_next (task);
}

char *
rechain_controller_recover_finish (RechainController *controller, GAsyncResult *result,
                                   guint *ret_unsettled, GError **error)
{
  Recovering *recovering = g_task_get_task_data (G_TASK (result));
  if (!g_task_propagate_boolean (G_TASK (result), error))
    return NULL;
  if (ret_unsettled != NULL)
    *ret_unsettled = recovering->unsettled;
  return print_document (json_make ("schema", json_str ("rechain.operation-list/1"), "operations",
                                    json_dup (recovering->results), NULL));
}

char *
rechain_controller_recover (RechainController *controller, const char *vm, const char *id,
                            RechainDirection direction, GCancellable *cancellable,
                            guint *ret_unsettled, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_controller_recover_async (controller, vm, id, direction, cancellable, waiting_done,
                                    &waiting);
  return rechain_controller_recover_finish (controller, waiting_result (&waiting), ret_unsettled,
                                            error);
}
