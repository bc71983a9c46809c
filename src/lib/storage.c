/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The storage of this host: what is there, and operations on it. */
#include "src/lib/lib-private.h"

#include "src/storage/offer.h"
#include "src/storage/plan.h"
#include "src/storage/report.h"

typedef struct {
  char *name;
  RechainVm *vm;
} KnownVm;

struct _RechainStorage {
  GObject parent;
  RechainController *controller;
  Allow allow;
  GPtrArray *vms; /* KnownVm* */
};

G_DEFINE_FINAL_TYPE (RechainStorage, rechain_storage, G_TYPE_OBJECT)

static void
known_vm_free (gpointer data)
{
  KnownVm *known = data;
  g_free (known->name);
  g_object_unref (known->vm);
  g_free (known);
}

static void
rechain_storage_finalize (GObject *object)
{
  RechainStorage *storage = RECHAIN_STORAGE (object);
  g_strfreev (storage->allow.dirs);
  g_strfreev (storage->allow.vgs);
  g_ptr_array_unref (storage->vms);
  g_clear_object (&storage->controller);
  G_OBJECT_CLASS (rechain_storage_parent_class)->finalize (object);
}

static void
rechain_storage_class_init (RechainStorageClass *class)
{
  G_OBJECT_CLASS (class)->finalize = rechain_storage_finalize;
}

static void
rechain_storage_init (RechainStorage *storage)
{
  storage->vms = g_ptr_array_new_with_free_func (known_vm_free);
}

RechainStorage *
rechain_storage_new (RechainController *controller)
{
  RechainStorage *storage = g_object_new (RECHAIN_TYPE_STORAGE, NULL);
  storage->controller = g_object_ref (controller);
  return storage;
}

void
rechain_storage_set_allowed (RechainStorage *storage, const char *const *directories,
                             const char *const *volume_groups)
{
  g_strfreev (storage->allow.dirs);
  g_strfreev (storage->allow.vgs);
  storage->allow =
      (Allow){.dirs = g_strdupv ((char **)directories), .vgs = g_strdupv ((char **)volume_groups)};
}

gboolean
rechain_storage_add_vm (RechainStorage *storage, const char *name, const char *address,
                        GError **error)
{
  RechainVm *vm = rechain_vm_new (storage->controller, address, error);
  if (vm == NULL)
    return FALSE;
  KnownVm *known = g_new0 (KnownVm, 1);
  *known = (KnownVm){.name = g_strdup (name), .vm = vm};
  g_ptr_array_add (storage->vms, known);
  return TRUE;
}

/* ---- what the VMs have ----------------------------------------------------------------------- */

typedef struct {
  Json *layers; /* [{"vm","disk","depth","file"}] */
  guint pending;
  char *path, *format;
  VolumeRequest *request; /* NULL: only looking at @path */
  gboolean offers;        /* it is not to be done: its source is wanted elsewhere */
} Look;

static void
look_free (gpointer data)
{
  Look *look = data;
  json_object_put (look->layers);
  g_free (look->path);
  g_free (look->format);
  volume_request_free (look->request);
  g_free (look);
}

static void
on_document (Json *document, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  if (error != NULL)
    g_task_return_error (task, g_error_copy (error));
  else
    g_task_return_pointer (task, print_document (document), g_free);
}

static void
add_layers (Look *look, const char *vm, World *world)
{
  GPtrArray *disks = world_disks (world);
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *disk = disks->pdata[i];
    for (guint k = 0; k < disk->layers->len; k++) {
      ChainLayer *layer = disk->layers->pdata[k];
      json_append (look->layers,
                   json_make ("vm", json_str (vm), "disk", json_str (disk->name), "depth",
                              json_int (k), "file", json_str (layer->file), "format",
                              json_str (layer->format), "node", json_str (layer->node), "size",
                              json_int ((gint64)MIN (layer->virtual_size, G_MAXINT64)), NULL));
    }
  }
}

static const char *
name_of_vm (RechainStorage *storage, RechainVm *vm)
{
  for (guint i = 0; i < storage->vms->len; i++)
    if (((KnownVm *)storage->vms->pdata[i])->vm == vm)
      return ((KnownVm *)storage->vms->pdata[i])->name;
  return NULL;
}

/* Borrowed; NULL where @name is. */
static RechainVm *
vm_of (RechainStorage *storage, const char *name)
{
  for (guint i = 0; i < storage->vms->len; i++) {
    KnownVm *known = storage->vms->pdata[i];
    if (g_strcmp0 (known->name, name) == 0)
      return known->vm;
  }
  return NULL;
}

static void
on_planned (Op *op, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainStorage *storage = g_task_get_source_object (task);
  if (error != NULL)
    g_task_return_error (task, g_error_copy (error));
  else {
    RechainVm *vm = vm_of (storage, json_get_str (op_disk (op, 0)->details, "vm"));
    VmLink *link = vm ? rechain_vm_get_link (vm) : NULL;
    if (link != NULL && link->borrowed_from != NULL) {
      g_task_return_new_error (task, RECHAIN_ERROR, RECHAIN_ERROR_REFUSED,
                               "operation %s is changing that VM", link->borrowed_from);
      op_free (op);
      return;
    }
    if (link != NULL)
      op_set_vm (op, link->client);
    g_task_return_pointer (task, rechain_operation_wrap (storage->controller, vm, op),
                           g_object_unref);
  }
}

/* Takes @task. */
static void
offer (RechainStorage *storage, GTask *take_task)
{
  g_autoptr (GTask) task = take_task;
  Look *look = g_task_get_task_data (task);
  GError *error = NULL;
  Json *document = offer_make (&storage->allow, look->request, look->layers, &error);
  if (document != NULL)
    g_task_return_pointer (task, print_document (document), g_free);
  else
    g_task_return_error (task, error);
}

static void
one_looked (GTask *task)
{
  Look *look = g_task_get_task_data (task);
  RechainStorage *storage = g_task_get_source_object (task);
  if (--look->pending > 0)
    return;
  if (look->offers)
    offer (storage, task);
  else if (look->request != NULL)
    volume_plan_make (&storage->allow, rechain_controller_get_state_dir (storage->controller),
                      look->request, look->layers, on_planned, task);
  else
    report_volume (&storage->allow, look->path, look->format, look->layers, on_document, task);
}

/* A VM that does not run has nothing open. */
static void
on_vm_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  GTask *task = data;
  g_autoptr (GError) error = NULL;
  RechainVm *vm = RECHAIN_VM (source);
  const char *name = name_of_vm (g_task_get_source_object (task), vm);
  if (rechain_vm_look_finish (vm, result, &error))
    add_layers (g_task_get_task_data (task), name, rechain_vm_get_link (vm)->world);
  else
    g_info ("VM '%s' is not looked at: %s", name, error->message);
  one_looked (task);
}

/* ---- the calls ------------------------------------------------------------------------------- */

/* Takes @task and @look. */
static void
look_at_vms (RechainStorage *storage, GTask *task, Look *look)
{
  GCancellable *cancellable = g_task_get_cancellable (task);
  look->layers = json_array ();
  look->pending = 1;
  g_task_set_task_data (task, look, look_free);
  for (guint i = 0; i < storage->vms->len; i++) {
    look->pending++;
    rechain_vm_look_async (((KnownVm *)storage->vms->pdata[i])->vm, cancellable, on_vm_looked,
                           task);
  }
  one_looked (task);
}

void
rechain_storage_volume_info_async (RechainStorage *storage, const char *volume, const char *format,
                                   GCancellable *cancellable, GAsyncReadyCallback callback,
                                   gpointer user_data)
{
  Look *look = g_new0 (Look, 1);
  *look = (Look){.path = g_strdup (volume), .format = g_strdup (format)};
  look_at_vms (storage, g_task_new (storage, cancellable, callback, user_data), look);
}

void
rechain_storage_plan_async (RechainStorage *storage, const RechainVolumeRequest *request,
                            GCancellable *cancellable, GAsyncReadyCallback callback,
                            gpointer user_data)
{
  Look *look = g_new0 (Look, 1);
  look->request = volume_request_copy (request);
  look_at_vms (storage, g_task_new (storage, cancellable, callback, user_data), look);
}

void
rechain_storage_offer_async (RechainStorage *storage, const RechainVolumeRequest *request,
                             GCancellable *cancellable, GAsyncReadyCallback callback,
                             gpointer user_data)
{
  Look *look = g_new0 (Look, 1);
  look->request = volume_request_copy (request);
  look->offers = TRUE;
  look_at_vms (storage, g_task_new (storage, cancellable, callback, user_data), look);
}

const Allow *
rechain_storage_get_allow (RechainStorage *storage)
{
  return &storage->allow;
}

RechainOperation *
rechain_storage_plan_finish (RechainStorage *storage, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainOperation *
rechain_storage_plan (RechainStorage *storage, const RechainVolumeRequest *request,
                      GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_storage_plan_async (storage, request, cancellable, waiting_done, &waiting);
  return rechain_storage_plan_finish (storage, waiting_result (&waiting), error);
}

void
rechain_storage_list_async (RechainStorage *storage, const char *where, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data)
{
  report_list (&storage->allow, where, on_document,
               g_task_new (storage, cancellable, callback, user_data));
}

void
rechain_storage_info_async (RechainStorage *storage, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data)
{
  report_storage (&storage->allow, on_document,
                  g_task_new (storage, cancellable, callback, user_data));
}

static char *
document_of (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

char *
rechain_storage_offer_finish (RechainStorage *storage, GAsyncResult *result, GError **error)
{
  return document_of (result, error);
}

char *
rechain_storage_volume_info_finish (RechainStorage *storage, GAsyncResult *result, GError **error)
{
  return document_of (result, error);
}

char *
rechain_storage_list_finish (RechainStorage *storage, GAsyncResult *result, GError **error)
{
  return document_of (result, error);
}

char *
rechain_storage_info_finish (RechainStorage *storage, GAsyncResult *result, GError **error)
{
  return document_of (result, error);
}

char *
rechain_storage_offer (RechainStorage *storage, const RechainVolumeRequest *request,
                       GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_storage_offer_async (storage, request, cancellable, waiting_done, &waiting);
  return document_of (waiting_result (&waiting), error);
}

char *
rechain_storage_volume_info (RechainStorage *storage, const char *volume, const char *format,
                             GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_storage_volume_info_async (storage, volume, format, cancellable, waiting_done, &waiting);
  return document_of (waiting_result (&waiting), error);
}

char *
rechain_storage_list (RechainStorage *storage, const char *where, GCancellable *cancellable,
                      GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_storage_list_async (storage, where, cancellable, waiting_done, &waiting);
  return document_of (waiting_result (&waiting), error);
}

char *
rechain_storage_info (RechainStorage *storage, GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_storage_info_async (storage, cancellable, waiting_done, &waiting);
  return document_of (waiting_result (&waiting), error);
}
