/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layers, jobs and disks as values, and finding them by the names that users give. */
#include "jobs/chain.h"

#include "src/common/error.h"
#include "src/common/fs.h"

#include <string.h>

static gpointer
copy_string (gconstpointer text, gpointer data)
{
  return g_strdup (text);
}

static gpointer
copy_layer (gconstpointer layer, gpointer data)
{
  return chain_layer_copy (layer);
}

static gpointer
copy_job (gconstpointer job, gpointer data)
{
  return chain_job_copy (job);
}

static GPtrArray *
copy_all (GPtrArray *from, GCopyFunc copy, GDestroyNotify release)
{
  GPtrArray *to = g_ptr_array_new_full (from ? from->len : 0, release);
  for (guint i = 0; from != NULL && i < from->len; i++)
    g_ptr_array_add (to, copy (from->pdata[i], NULL));
  return to;
}

ChainLayer *
chain_layer_new (void)
{
  ChainLayer *layer = g_new0 (ChainLayer, 1);
  layer->filters = g_ptr_array_new_with_free_func (g_free);
  return layer;
}

ChainLayer *
chain_layer_copy (const ChainLayer *layer)
{
  ChainLayer *copy = g_memdup2 (layer, sizeof *layer);
  copy->file = g_strdup (layer->file);
  copy->format = g_strdup (layer->format);
  copy->node = g_strdup (layer->node);
  copy->protocol_node = g_strdup (layer->protocol_node);
  copy->backing = g_strdup (layer->backing);
  copy->backing_format = g_strdup (layer->backing_format);
  copy->filters = copy_all (layer->filters, copy_string, g_free);
  return copy;
}

void
chain_layer_free (ChainLayer *layer)
{
  if (layer == NULL)
    return;
  g_free (layer->file);
  g_free (layer->format);
  g_free (layer->node);
  g_free (layer->protocol_node);
  g_free (layer->backing);
  g_free (layer->backing_format);
  g_clear_pointer (&layer->filters, g_ptr_array_unref);
  g_free (layer);
}

ChainJob *
chain_job_copy (const ChainJob *job)
{
  ChainJob *copy = g_memdup2 (job, sizeof *job);
  copy->id = g_strdup (job->id);
  copy->type = g_strdup (job->type);
  copy->status = g_strdup (job->status);
  copy->error = g_strdup (job->error);
  return copy;
}

void
chain_job_free (ChainJob *job)
{
  if (job == NULL)
    return;
  g_free (job->id);
  g_free (job->type);
  g_free (job->status);
  g_free (job->error);
  g_free (job);
}

ChainDisk *
chain_disk_new (void)
{
  ChainDisk *disk = g_new0 (ChainDisk, 1);
  disk->layers = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_layer_free);
  disk->jobs = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_job_free);
  disk->writable_exports = g_ptr_array_new_with_free_func (g_free);
  disk->exports = g_ptr_array_new_with_free_func (g_free);
  return disk;
}

ChainDisk *
chain_disk_copy (const ChainDisk *disk)
{
  ChainDisk *copy = g_memdup2 (disk, sizeof *disk);
  copy->name = g_strdup (disk->name);
  copy->qdev = g_strdup (disk->qdev);
  copy->drive = g_strdup (disk->drive);
  copy->root_node = g_strdup (disk->root_node);
  copy->io_status = g_strdup (disk->io_status);
  copy->broken = g_strdup (disk->broken);
  copy->layers = copy_all (disk->layers, copy_layer, (GDestroyNotify)chain_layer_free);
  copy->jobs = copy_all (disk->jobs, copy_job, (GDestroyNotify)chain_job_free);
  copy->writable_exports = copy_all (disk->writable_exports, copy_string, g_free);
  copy->exports = copy_all (disk->exports, copy_string, g_free);
  return copy;
}

void
chain_disk_free (ChainDisk *disk)
{
  if (disk == NULL)
    return;
  g_free (disk->name);
  g_free (disk->qdev);
  g_free (disk->drive);
  g_free (disk->root_node);
  g_free (disk->io_status);
  g_free (disk->broken);
  g_clear_pointer (&disk->layers, g_ptr_array_unref);
  g_clear_pointer (&disk->jobs, g_ptr_array_unref);
  g_clear_pointer (&disk->writable_exports, g_ptr_array_unref);
  g_clear_pointer (&disk->exports, g_ptr_array_unref);
  g_free (disk);
}

char *
chain_file_in (const char *dir, const char *name)
{
  g_autofree char *joined = name[0] == '/' ? g_strdup (name) : g_build_filename (dir, name, NULL);
  g_autofree char *clean = g_canonicalize_filename (joined, dir);
  /* "link/.." is not always "."; a plain name is worth less than the right file. */
  gboolean same = g_str_equal (joined, clean) || path_same_file (joined, clean);
  return same || strstr (joined, "/../") == NULL ? g_steal_pointer (&clean)
                                                 : g_steal_pointer (&joined);
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Names for a hint; a chain may have 200 layers, a line has not. */
#define MAX_LISTED 16u

static void
list_name (GString *list, guint i, const char *name)
{
  if (i < MAX_LISTED)
    g_string_append_printf (list, "%s%s", i > 0 ? ", " : "", name ? name : "?");
  else if (i == MAX_LISTED)
    g_string_append (list, ", ...");
}

static gboolean
is_same_path (const char *file, const char *name)
{
  return file != NULL && name[0] == '/' && path_same_file (file, name);
}

static gboolean
disk_is_called (const ChainDisk *disk, const char *name)
{
  const ChainLayer *active = disk->layers->len > 0 ? disk->layers->pdata[0] : NULL;
  return g_strcmp0 (disk->name, name) == 0 || g_strcmp0 (disk->qdev, name) == 0 ||
         g_strcmp0 (disk->drive, name) == 0 || g_strcmp0 (disk->root_node, name) == 0 ||
         (active != NULL && g_strcmp0 (active->node, name) == 0) ||
         (active != NULL && is_same_path (active->file, name));
}

static gboolean
hint_disks (GPtrArray *disks, GError **error)
{
  g_autoptr (GString) list = g_string_new (NULL);
  for (guint i = 0; i < disks->len; i++)
    list_name (list, i, ((ChainDisk *)disks->pdata[i])->name);
  return hint (error, disks->len > 0 ? "disks: %s" : "this VM has no disks%s", list->str);
}

ChainDisk *
world_find_disk (World *world, const char *name, GError **error)
{
  GPtrArray *disks = world_disks (world);
  ChainDisk *found = NULL;
  guint n = 0;
  for (guint i = 0; name[0] != '\0' && i < disks->len; i++) {
    if (!disk_is_called (disks->pdata[i], name))
      continue;
    found = disks->pdata[i];
    n++;
  }
  if (n == 1)
    return found;
  if (n == 0)
    fail (error, NOT_FOUND, "no disk is called '%s'", name);
  else
    fail (error, REFUSED, "'%s' means %u disks", name, n);
  hint_disks (disks, error);
  return NULL;
}

static gboolean
layer_is_called (const ChainLayer *layer, const char *name)
{
  if (g_strcmp0 (layer->file, name) == 0 || g_strcmp0 (layer->node, name) == 0)
    return TRUE;
  if (layer->file == NULL || strchr (name, '/') != NULL)
    return is_same_path (layer->file, name);
  const char *slash = strrchr (layer->file, '/');
  return slash != NULL && g_str_equal (slash + 1, name);
}

static gboolean
hint_layers (GPtrArray *layers, GError **error)
{
  g_autoptr (GString) list = g_string_new (NULL);
  for (guint i = 0; i < layers->len; i++) {
    const ChainLayer *layer = layers->pdata[i];
    list_name (list, i, layer->file ? layer->file : layer->node);
  }
  return hint (error, layers->len > 0 ? "layers: %s" : "the chain is empty%s", list->str);
}

int
chain_find_layer (GPtrArray *layers, const char *name, GError **error)
{
  int found = -1;
  guint n = 0;
  for (guint i = 0; name[0] != '\0' && i < layers->len; i++) {
    if (!layer_is_called (layers->pdata[i], name))
      continue;
    found = (int)i;
    n++;
  }
  if (n == 1)
    return found;
  if (n == 0)
    fail (error, NOT_FOUND, "no layer of the chain is called '%s'", name);
  else
    fail (error, REFUSED, "'%s' means %u layers of the chain", name, n);
  hint_layers (layers, error);
  return -1;
}

char **
chain_files (GPtrArray *layers)
{
  char **files = g_new0 (char *, layers->len + 1);
  for (guint i = 0; i < layers->len; i++) {
    const ChainLayer *layer = layers->pdata[i];
    files[i] = g_strdup (layer->file ? layer->file : layer->node ? layer->node : "?");
  }
  return files;
}
