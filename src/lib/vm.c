/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/lib-private.h"

#include "jobs/journal.h"
#include "src/common/fs.h"

#include <string.h>

struct _RechainVm {
  GObject parent;
  char *address;
  VmLink link;
};

G_DEFINE_FINAL_TYPE (RechainVm, rechain_vm, G_TYPE_OBJECT)

static void
rechain_vm_finalize (GObject *object)
{
  RechainVm *vm = RECHAIN_VM (object);
  g_clear_pointer (&vm->link.world, world_free);
  g_clear_pointer (&vm->link.features, qmp_features_free);
  if (vm->link.client != NULL)
    qmp_client_close (vm->link.client);
  g_clear_pointer (&vm->link.client, qmp_client_unref);
  g_free (vm->link.borrowed_from);
  g_clear_object (&vm->link.controller);
  g_strfreev (vm->link.allowed);
  g_strfreev (vm->link.allowed_groups);
  g_free (vm->address);
  G_OBJECT_CLASS (rechain_vm_parent_class)->finalize (object);
}

static void
rechain_vm_class_init (RechainVmClass *class)
{
  G_OBJECT_CLASS (class)->finalize = rechain_vm_finalize;
}

static void
rechain_vm_init (RechainVm *vm)
{
}

VmLink *
rechain_vm_get_link (RechainVm *vm)
{
  return &vm->link;
}

/* One VM has one name in the journal: an absolute path, or tcp:HOST:PORT. */
char *
rechain_vm_normalize_address (const char *address)
{
  const char *path = g_str_has_prefix (address, "unix:") ? address + strlen ("unix:") : address;
  return strchr (path, '/') && !g_str_has_prefix (address, "tcp:") ? path_absolute (path)
                                                                   : g_strdup (address);
}

RechainVm *
rechain_vm_new (RechainController *controller, const char *address, GError **error)
{
  gboolean known = address && (strchr (address, '/') || g_str_has_prefix (address, "unix:") ||
                               g_str_has_prefix (address, "tcp:"));
  if (!known) {
    fail (error, USAGE, "'%s' is not the address of a monitor", address ? address : "");
    hint (error, "write the path of a QMP socket (with a '/'), unix:PATH or tcp:HOST:PORT");
    return NULL;
  }
  RechainVm *vm = g_object_new (RECHAIN_TYPE_VM, NULL);
  vm->link.controller = g_object_ref (controller);
  vm->address = rechain_vm_normalize_address (address);
  return vm;
}

const char *
rechain_vm_get_address (RechainVm *vm)
{
  return vm->address;
}

const char *
rechain_vm_get_qemu_version (RechainVm *vm)
{
  return vm->link.client ? qmp_client_get_version_string (vm->link.client) : NULL;
}

/* ---- looking --------------------------------------------------------------------------------- */

static void
on_world (World *world, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  RechainVm *vm = g_task_get_source_object (task);
  if (world == NULL) {
    g_task_return_error (task, g_error_copy (error));
    return;
  }
  g_clear_pointer (&vm->link.world, world_free);
  vm->link.world = world;
  if (!g_task_return_error_if_cancelled (task))
    g_task_return_boolean (task, TRUE);
}

/* Connecting without looking: the task's data says so. */
static char connect_only;

static void
on_features (QmpFeatures *features, const GError *error, gpointer data)
{
  GTask *task = data;
  RechainVm *vm = g_task_get_source_object (task);
  if (features == NULL) {
    g_task_return_error (task, g_error_copy (error));
    g_object_unref (task);
    return;
  }
  g_clear_pointer (&vm->link.features, qmp_features_free);
  vm->link.features = features;
  if (g_task_get_source_tag (task) == &connect_only) {
    g_task_return_boolean (task, TRUE);
    g_object_unref (task);
  } else
    world_query (vm->link.client, features, on_world, task);
}

/* While an operation of ours holds the monitor, it lends it. */
static char *
address_to_use (RechainVm *vm)
{
  const char *state_dir = rechain_controller_get_state_dir (vm->link.controller);
  g_autoptr (Journal) journal = journal_open_to_read (state_dir, NULL);
  g_autofree char *holder = journal ? journal_find_open (journal, vm->address, NULL) : NULL;
  g_clear_pointer (&vm->link.borrowed_from, g_free);
  if (holder == NULL || journal_owner (journal, holder, NULL) != OWNER_ALIVE)
    return g_strdup (vm->address);
  char *relay = journal_run_path (state_dir, holder, ".sock");
  if (!g_file_test (relay, G_FILE_TEST_EXISTS)) {
    g_free (relay);
    return g_strdup (vm->address);
  }
  vm->link.borrowed_from = g_steal_pointer (&holder);
  return relay;
}

static gboolean
connect_link (RechainVm *vm, GError **error)
{
  if (vm->link.client != NULL && qmp_client_get_state (vm->link.client) != QMP_CLOSED)
    return TRUE;
  g_clear_pointer (&vm->link.client, qmp_client_unref);
  g_clear_pointer (&vm->link.features, qmp_features_free);
  g_autofree char *address = address_to_use (vm);
  vm->link.client = qmp_client_new (address, QMP_GREETING_MS, error);
  return vm->link.client != NULL;
}

static void
reach (RechainVm *vm, GTask *task)
{
  g_autofree char *cache =
      g_build_filename (rechain_controller_get_state_dir (vm->link.controller), "cache", NULL);
  GError *error = NULL;
  if (!connect_link (vm, &error)) {
    g_task_return_error (task, error);
    g_object_unref (task);
  } else if (vm->link.features != NULL)
    world_query (vm->link.client, vm->link.features, on_world, task);
  else
    qmp_features_query (vm->link.client, cache, FALSE, on_features, task);
}

void
rechain_vm_look_async (RechainVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                       gpointer user_data)
{
  reach (vm, g_task_new (vm, cancellable, callback, user_data));
}

void
rechain_vm_connect_async (RechainVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                          gpointer user_data)
{
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  g_task_set_source_tag (task, &connect_only);
  reach (vm, task);
}

gboolean
rechain_vm_look_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
rechain_vm_look (RechainVm *vm, GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_vm_look_async (vm, cancellable, waiting_done, &waiting);
  return rechain_vm_look_finish (vm, waiting_result (&waiting), error);
}

static void
free_public_layer (gpointer layer)
{
  rechain_layer_free (layer);
}

static void
free_public_disk (gpointer disk)
{
  rechain_disk_free (disk);
}

GPtrArray *
rechain_vm_get_disks (RechainVm *vm)
{
  GPtrArray *disks = g_ptr_array_new_with_free_func (free_public_disk);
  for (guint i = 0; vm->link.world && i < world_disks (vm->link.world)->len; i++) {
    ChainDisk *from = world_disks (vm->link.world)->pdata[i];
    RechainDisk *disk = g_new0 (RechainDisk, 1);
    *disk = (RechainDisk){.name = g_strdup (from->name),
                          .node = g_strdup (from->root_node),
                          .read_only = from->read_only,
                          .layers = g_ptr_array_new_with_free_func (free_public_layer)};
    for (guint k = 0; k < from->layers->len; k++) {
      ChainLayer *l = from->layers->pdata[k];
      RechainLayer layer = {.file = l->file,
                            .format = l->format,
                            .node = l->node,
                            .read_only = l->read_only,
                            .virtual_size = l->virtual_size,
                            .allocated = l->has_allocated ? (gint64)l->allocated : -1,
                            .backing = l->backing,
                            .backing_format = l->backing_format};
      g_ptr_array_add (disk->layers, rechain_layer_copy (&layer));
    }
    g_ptr_array_add (disks, disk);
  }
  return disks;
}

char *
rechain_vm_info_to_json (RechainVm *vm)
{
  g_return_val_if_fail (vm->link.world != NULL, NULL);
  return print_document (document_info (&vm->link, vm->address));
}

char *
rechain_vm_chain_to_json (RechainVm *vm, const char *disk, GError **error)
{
  g_return_val_if_fail (vm->link.world != NULL, NULL);
  ChainDisk *only = disk ? world_find_disk (vm->link.world, disk, error) : NULL;
  if (disk != NULL && only == NULL)
    return NULL;
  return print_document (document_chain (vm->link.world, vm->address, only));
}
