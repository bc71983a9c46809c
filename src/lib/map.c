/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/lib/lib-private.h"

#include "jobs/map-image.h"
#include "src/common/fs.h"
#include "src/common/source.h"

struct _RechainMap {
  gint refs;
  Map *map;
  char *vm, *disk; /* NULL: offline */
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
G_DEFINE_BOXED_TYPE (RechainMap, rechain_map, rechain_map_ref, rechain_map_unref)
#pragma GCC diagnostic pop

static RechainMap *
wrap (Map *map, const char *vm, const char *disk)
{
  RechainMap *wrapped = g_new0 (RechainMap, 1);
  *wrapped =
      (RechainMap){.refs = 1, .map = map_ref (map), .vm = g_strdup (vm), .disk = g_strdup (disk)};
  return wrapped;
}

RechainMap *
rechain_map_ref (RechainMap *map)
{
  g_atomic_int_inc (&map->refs);
  return map;
}

void
rechain_map_unref (RechainMap *map)
{
  if (map == NULL || !g_atomic_int_dec_and_test (&map->refs))
    return;
  map_unref (map->map);
  g_free (map->vm);
  g_free (map->disk);
  g_free (map);
}

static void
unref_map (gpointer map)
{
  rechain_map_unref (map);
}

/* ---- reading it ------------------------------------------------------------------------------ */

guint64
rechain_map_get_virtual_size (RechainMap *map)
{
  return map->map->virtual_size;
}

guint
rechain_map_get_n_extents (RechainMap *map)
{
  return map->map->extents->len;
}

void
rechain_map_get_extent (RechainMap *map, guint index, RechainExtent *ret_extent)
{
  g_return_if_fail (index < map->map->extents->len);
  const MapExtent *extent = map_extent (map->map, index);
  *ret_extent = (RechainExtent){.start = extent->start,
                                .length = extent->length,
                                .depth = extent->depth == MAP_NOBODY ? -1 : extent->depth,
                                .data = extent->data,
                                .zero = extent->zero};
}

char **
rechain_map_get_layers (RechainMap *map)
{
  g_autoptr (GStrvBuilder) files = g_strv_builder_new ();
  for (guint i = 0; i < map->map->files->len; i++)
    g_strv_builder_add (files, map->map->files->pdata[i]);
  return g_strv_builder_end (files);
}

gboolean
rechain_map_write_json (RechainMap *map, RechainMapWriter writer, gpointer user_data)
{
  return map_write_json (map->map, map->vm, map->disk, writer, user_data);
}

static gboolean
append (const char *text, gsize length, gpointer data)
{
  g_string_append_len (data, text, (gssize)length);
  return TRUE;
}

char *
rechain_map_to_json (RechainMap *map)
{
  g_autoptr (GString) text = g_string_new (NULL);
  rechain_map_write_json (map, append, text);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

/* ---- of a running disk ----------------------------------------------------------------------- */

static void
on_mapped (GObject *source, GAsyncResult *result, gpointer data)
{
  RechainOperation *operation = RECHAIN_OPERATION (source);
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  if (!rechain_operation_run_finish (operation, result, &error))
    g_task_return_error (task, error);
  else
    g_task_return_pointer (task,
                           wrap (rechain_operation_get_map (operation),
                                 rechain_vm_get_address (g_task_get_source_object (task)),
                                 g_task_get_task_data (task)),
                           unref_map);
}

static void
on_planned (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  g_autoptr (RechainOperation) operation =
      rechain_operation_plan_finish (RECHAIN_VM (source), result, &error);
  GCancellable *cancellable = g_task_get_cancellable (task);
  if (operation == NULL)
    g_task_return_error (task, error);
  else
    rechain_operation_run_async (operation, cancellable, on_mapped, g_steal_pointer (&task));
}

void
rechain_vm_map_async (RechainVm *vm, const char *disk, guint64 start, guint64 length,
                      GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_MAP);
  GTask *task = g_task_new (vm, cancellable, callback, user_data);
  GError *error = NULL;
  g_task_set_task_data (task, g_strdup (disk), g_free);
  g_task_set_check_cancellable (task, FALSE); /* the operation says itself how it ended */
  rechain_request_add_disk (request, disk);
  if (!rechain_request_add_region (request, disk, start, length, &error)) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  rechain_operation_plan_async (vm, request, cancellable, on_planned, task);
}

RechainMap *
rechain_vm_map_finish (RechainVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainMap *
rechain_vm_map (RechainVm *vm, const char *disk, guint64 start, guint64 length,
                GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_vm_map_async (vm, disk, start, length, cancellable, waiting_done, &waiting);
  return rechain_vm_map_finish (vm, waiting_result (&waiting), error);
}

/* ---- of an image ----------------------------------------------------------------------------- */

typedef struct {
  GPtrArray *layers;
  ImageRun *run; /* NULL when it has ended */
  GSource *cancel;
} Reading;

static void
reading_free (gpointer data)
{
  Reading *reading = data;
  source_clear (&reading->cancel);
  g_clear_pointer (&reading->layers, g_ptr_array_unref);
  g_free (reading);
}

/* qemu-img's own words of the lock are the cause. */
static void
explain_lock (GPtrArray *layers, GError **error)
{
  for (guint i = 0; i < layers->len; i++) {
    const char *file = ((ChainLayer *)layers->pdata[i])->file;
    if (!file_is_locked (file))
      continue;
    recode (error, REFUSED);
    prefix (error, "'%s' is open in another process", file);
    hint (error, "of a running VM: rechain map VM DISK");
    return;
  }
}

static void
on_image_map (Map *map, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  g_autoptr (Map) owned = map;
  Reading *reading = g_task_get_task_data (task);
  reading->run = NULL;
  if (map != NULL) {
    g_task_return_pointer (task, wrap (map, NULL, NULL), unref_map);
    return;
  }
  GError *copy = g_error_copy (error);
  if (!g_error_matches (copy, RECHAIN_ERROR, INTERRUPTED))
    explain_lock (reading->layers, &copy);
  g_task_return_error (task, copy);
}

static gboolean
on_cancelled (GCancellable *cancellable, gpointer data)
{
  Reading *reading = data;
  if (reading->run != NULL)
    image_cancel (reading->run);
  return G_SOURCE_REMOVE;
}

void
rechain_map_read_offline_async (const char *image, const char *format, guint64 start,
                                guint64 length, GCancellable *cancellable,
                                GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  Reading *reading = g_new0 (Reading, 1);
  Region region = {.start = start, .length = length};
  GError *error = NULL;
  g_task_set_task_data (task, reading, reading_free);
  g_task_set_check_cancellable (task, FALSE);
  reading->layers = chain_read_offline (image, format, &error);
  if (reading->layers == NULL ||
      !region_clip (&region, ((ChainLayer *)reading->layers->pdata[0])->virtual_size, &error)) {
    prefix (&error, "map '%s'", image);
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  source_on_cancel (&reading->cancel, cancellable, on_cancelled, reading);
  reading->run =
      map_image (&(MapSource){.layers = reading->layers, .region = region}, on_image_map, task);
}

RechainMap *
rechain_map_read_offline_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

RechainMap *
rechain_map_read_offline (const char *image, const char *format, guint64 start, guint64 length,
                          GCancellable *cancellable, GError **error)
{
  g_auto (Waiting) waiting = {0};
  rechain_map_read_offline_async (image, format, start, length, cancellable, waiting_done,
                                  &waiting);
  return rechain_map_read_offline_finish (waiting_result (&waiting), error);
}
