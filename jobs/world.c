/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Builds a world from QEMU's replies, and answers what is asked of it. */
#include "jobs/world-private.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_NAME 4096u /* bytes of a name; longer ones read as absent */

gboolean
is_one_of (const char *word, const char *const *words)
{
  return word != NULL && g_strv_contains (words, word);
}

const char *
get_name (Json *object, const char *key)
{
  const char *name = json_get_str (object, key);
  return name && name[0] != '\0' && strlen (name) <= MAX_NAME ? name : NULL;
}

Json *
world_reply (World *world, const char *command)
{
  return json_get (world->replies, command);
}

Node *
world_find_node (World *world, const char *name)
{
  return name ? g_hash_table_lookup (world->nodes, name) : NULL;
}

/* ---- building -------------------------------------------------------------------------------- */

static gboolean
require_array (Json *replies, const char *command, GError **error)
{
  if (json_object_is_type (json_get (replies, command), json_type_array))
    return TRUE;
  return fail (error, FAILED, "%s: QEMU's answer is not a list", command);
}

World *
world_build (Json *replies, WorldFiles files, GError **error)
{
  g_autoptr (World) world = NULL;
  if (!require_array (replies, "query-block", error) ||
      !require_array (replies, "query-named-block-nodes", error))
    return NULL;
  world = g_new0 (World, 1);
  world->replies = json_dup (replies);
  world->files = files;
  world->nodes = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)node_free);
  world->parents =
      g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, (GDestroyNotify)parent_free);
  world->backends = g_hash_table_new (g_str_hash, g_str_equal);
  world->disks = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_disk_free);
  world->jobs = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_job_free);
  world->job_ids = g_hash_table_new (g_str_hash, g_str_equal);
  world_read_graph (world);
  if (!world_read_disks (world, error))
    return NULL;
  world_read_jobs (world);
  world_read_exports (world);
  return g_steal_pointer (&world);
}

static char *
resolve_in (const char *name, gpointer cwd)
{
  return cwd && g_path_is_absolute (cwd) ? chain_file_in (cwd, name) : NULL;
}

World *
world_parse (Json *replies, GError **error)
{
  WorldFiles files = {resolve_in, (gpointer)json_get_str (replies, "cwd")};
  return world_build (replies, files, error);
}

void
world_free (World *world)
{
  if (world == NULL)
    return;
  g_ptr_array_unref (world->disks);
  g_hash_table_unref (world->job_ids);
  g_ptr_array_unref (world->jobs);
  g_hash_table_unref (world->backends);
  g_hash_table_unref (world->parents);
  g_hash_table_unref (world->nodes);
  json_clear (world->replies);
  g_free (world);
}

/* ---- questions ------------------------------------------------------------------------------- */

gboolean
world_is_torn (World *world)
{
  GHashTableIter iter;
  gpointer value;
  for (guint i = 0; i < world->disks->len; i++)
    if (((ChainDisk *)world->disks->pdata[i])->broken != NULL)
      return TRUE;
  g_hash_table_iter_init (&iter, world->parents);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    Parent *parent = value;
    if ((parent->type == PARENT_NODE && parent->node == NULL) ||
        (parent->type == PARENT_JOB && world_job (world, parent->name) == NULL))
      return TRUE;
  }
  return FALSE;
}

GPtrArray *
world_disks (World *world)
{
  return world->disks;
}

GPtrArray *
world_jobs (World *world)
{
  return world->jobs;
}

ChainJob *
world_job (World *world, const char *id)
{
  return id ? g_hash_table_lookup (world->job_ids, id) : NULL;
}

const char *
world_run_state (World *world)
{
  const char *state = json_get_str (world_reply (world, "query-status"), "status");
  return state ? state : "unknown";
}

gboolean
world_running (World *world)
{
  return json_get_bool (world_reply (world, "query-status"), "running");
}

gboolean
world_migrating (World *world)
{
  static const char *const over[] = {"none", "completed", "failed", "cancelled", NULL};
  static const char *const run_states[] = {"inmigrate", "finish-migrate", "postmigrate", NULL};
  const char *status = json_get_str (world_migration (world), "status");
  return (status != NULL && !is_one_of (status, over)) ||
         is_one_of (world_run_state (world), run_states);
}

Json *
world_migration (World *world)
{
  return world_reply (world, "query-migrate");
}

gboolean
world_has_node (World *world, const char *node)
{
  return world_find_node (world, node) != NULL;
}

const char *
world_node_driver (World *world, const char *node)
{
  Node *found = world_find_node (world, node);
  return found ? found->driver : NULL;
}

const char *
world_node_file (World *world, const char *node)
{
  Node *found = world_find_node (world, node);
  Node *protocol = found ? node_protocol (found) : NULL;
  return protocol ? protocol->file : NULL;
}

const char *
world_node_child (World *world, const char *node, const char *role)
{
  Node *found = world_find_node (world, node);
  Node *child = found ? node_child (found, role) : NULL;
  return child ? child->name : NULL;
}

Json *
world_node_cache (World *world, const char *name)
{
  Node *node = world_find_node (world, name);
  Json *cache = node ? json_get (node->info, "cache") : NULL;
  const char *zeroes = node ? json_get_str (node->info, "detect_zeroes") : NULL;
  /* "unmap" would need the discard option of that node, which QEMU does not tell. */
  gboolean on = zeroes != NULL && !g_str_equal (zeroes, "off");
  gboolean direct = json_get_bool (cache, "direct"), no_flush = json_get_bool (cache, "no-flush");
  Json *modes = NULL;
  if (direct || no_flush)
    modes = json_make ("direct", direct ? json_flag (TRUE) : NULL, "no-flush",
                       no_flush ? json_flag (TRUE) : NULL, NULL);
  return json_make ("cache", modes, "detect-zeroes", on ? json_str ("on") : NULL, NULL);
}

guint
world_node_parents (World *world, const char *node)
{
  Node *found = world_find_node (world, node);
  return found ? found->parents : 0;
}

GArray *
world_depths (World *world, ChainDisk *disk)
{
  g_autoptr (GArray) depths = g_array_new (FALSE, FALSE, sizeof (guint));
  ChainLayer *active = disk->layers->len > 0 ? disk->layers->pdata[0] : NULL;
  Node *node = active ? world_find_node (world, active->node) : NULL;
  guint layer = 0;
  while (node != NULL && layer < disk->layers->len && depths->len < 2 * CHAIN_MAX_LAYERS) {
    Node *below;
    gboolean is_layer =
        g_strcmp0 (node->name, ((ChainLayer *)disk->layers->pdata[layer])->node) == 0;
    /* QEMU does not count through a "raw" node that shows a format. */
    if (!is_layer && (node_kind (node, &below) != IS_FILTER || node->filter == NULL))
      return NULL;
    g_array_append_val (depths, layer);
    layer += is_layer;
    node = is_layer ? node_child (node, "backing") : below;
  }
  return layer == disk->layers->len ? g_steal_pointer (&depths) : NULL;
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

Json *
world_node_bitmaps (World *world, const char *name)
{
  Node *node = world_find_node (world, name);
  return node ? json_get (node->info, "dirty-bitmaps") : NULL;
}

guint64
world_node_write_threshold (World *world, const char *name)
{
  Node *node = world_find_node (world, name);
  return node ? (guint64)MAX (json_get_int (node->info, "write_threshold"), 0) : 0;
}

GPtrArray *
world_nodes_with_prefix (World *world, const char *prefix)
{
  GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
  GHashTableIter iter;
  gpointer name;
  g_hash_table_iter_init (&iter, world->nodes);
  while (g_hash_table_iter_next (&iter, &name, NULL))
    if (g_str_has_prefix (name, prefix))
      g_ptr_array_add (names, g_strdup (name));
  g_ptr_array_sort (names, compare_names);
  return names;
}

GPtrArray *
world_users_of_node (World *world, const char *node, const char *except)
{
  GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
  Node *found = world_find_node (world, node);
  for (guint i = 0; found != NULL && i < found->disks->len; i++) {
    ChainDisk *disk = found->disks->pdata[i];
    if (g_strcmp0 (disk->name, except) != 0)
      g_ptr_array_add (names, g_strdup (disk->name));
  }
  return names;
}
