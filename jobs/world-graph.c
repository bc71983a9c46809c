/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads the nodes of one QEMU, the files they are in, and what refers to them. */
#include "jobs/world-private.h"

#include <string.h>

#define MAX_NODES    65536u
#define MAX_EDGES    262144u
#define MAX_CHILDREN 64u /* of one node; quorum has the most */

/* Protocols whose file name is a path on this host. */
static const char *const local[] = {"file", "host_device", "host_cdrom", NULL};

/* ---- file names ------------------------------------------------------------------------------ */

/* The innermost description in a "json:{...}" name. */
static Json *
innermost (Json *options)
{
  for (guint i = 0; i < MAX_NESTING; i++) {
    Json *below = json_get (options, "file");
    if (below == NULL)
      below = json_get (options, "image");
    if (below == NULL)
      return options;
    options = below;
  }
  return NULL;
}

char *
world_json_file (const char *name)
{
  if (!g_str_has_prefix (name, "json:"))
    return NULL;
  g_autoptr (Json) options = json_parse (name + strlen ("json:"), -1);
  Json *inner = innermost (options);
  if (is_one_of (json_get_str (inner, "driver"), local))
    return g_strdup (get_name (inner, "filename"));
  return g_strdup (get_name (inner, "file.filename")); /* as people write it */
}

static char *
local_name (World *world, const char *name)
{
  if (name[0] == '/')
    return chain_file_in ("/", name);
  return world->files.resolve ? world->files.resolve (name, world->files.data) : NULL;
}

static char *
node_file (World *world, const Node *node)
{
  const char *name = get_name (json_get (node->info, "image"), "filename");
  if (name == NULL)
    name = get_name (node->info, "file");
  if (name == NULL)
    return NULL;
  if (!g_str_has_prefix (name, "json:"))
    return is_one_of (node->driver, local) ? local_name (world, name) : g_strdup (name);
  g_autofree char *plain = world_json_file (name);
  return plain ? local_name (world, plain) : g_strdup (name);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void
read_nodes (World *world)
{
  Json *rows = world_reply (world, "query-named-block-nodes");
  for (gsize i = 0; i < MIN (json_length (rows), MAX_NODES); i++) {
    Json *info = json_at (rows, i);
    const char *name = get_name (info, "node-name"), *driver = get_name (info, "drv");
    if (name == NULL || driver == NULL || world_find_node (world, name) != NULL)
      continue;
    g_hash_table_insert (world->nodes, (gpointer)name, node_new (name, driver, info));
  }
}

static void
read_files (World *world)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, world->nodes);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    Node *node = value;
    if (node_storage (node) == NULL)
      node->file = node_file (world, node);
  }
}

/* ---- edges ----------------------------------------------------------------------------------- */

void
parent_free (Parent *parent)
{
  g_ptr_array_unref (parent->nodes);
  g_free (parent);
}

static ParentType
parent_type (const char *word)
{
  static const char *const words[N_PARENTS] = {[PARENT_NODE] = "block-driver",
                                               [PARENT_BACKEND] = "block-backend",
                                               [PARENT_JOB] = "block-job"};
  ParentType type = 0;
  while (type < N_PARENTS && g_strcmp0 (word, words[type]) != 0)
    type++;
  return type;
}

static void
read_parents (World *world)
{
  Json *rows = json_get (world_reply (world, "x-debug-query-block-graph"), "nodes");
  for (gsize i = 0; i < MIN (json_length (rows), MAX_NODES); i++) {
    Json *row = json_at (rows, i);
    gint64 id = json_get_int (row, "id");
    const char *name = json_get_str (row, "name");
    ParentType type = parent_type (json_get_str (row, "type"));
    if (type == N_PARENTS || name == NULL || g_hash_table_contains (world->parents, &id))
      continue;
    Parent *parent = g_new0 (Parent, 1);
    *parent = (Parent){.type = type, .name = name, .nodes = g_ptr_array_new ()};
    parent->node = type == PARENT_NODE ? world_find_node (world, name) : NULL;
    g_hash_table_insert (world->parents, g_memdup2 (&id, sizeof id), parent);
    if (type == PARENT_BACKEND && name[0] != '\0')
      g_hash_table_insert (world->backends, (gpointer)name, parent);
  }
}

static void
add_child (Node *node, const char *role, Node *child)
{
  Child entry = {role, child};
  if (node->children->len < MAX_CHILDREN)
    g_array_append_val (node->children, entry);
}

static gboolean
may_write (Json *edge)
{
  Json *perm = json_get (edge, "perm");
  for (gsize i = 0; i < MIN (json_length (perm), MAX_CHILDREN); i++) {
    Json *word = json_at (perm, i);
    if (json_object_is_type (word, json_type_string) &&
        g_str_equal (json_object_get_string (word), "write"))
      return TRUE;
  }
  return FALSE;
}

static void
read_edge (World *world, Json *edge)
{
  gint64 from = json_get_int (edge, "parent"), to = json_get_int (edge, "child");
  const char *role = json_get_str (edge, "name");
  Parent *parent = g_hash_table_lookup (world->parents, &from);
  Parent *child = g_hash_table_lookup (world->parents, &to);
  if (role == NULL || parent == NULL || child == NULL || child->node == NULL)
    return;
  child->node->parents++;
  if (parent->type == PARENT_JOB) {
    g_ptr_array_add (parent->nodes, child->node);
    child->node->job_filter |= g_str_equal (role, "main node");
  } else if (parent->type == PARENT_BACKEND) {
    parent->root = child->node;
    child->node->written |= parent->name[0] == '\0' && may_write (edge);
  } else if (parent->node != NULL) {
    add_child (parent->node, role, child->node);
  }
}

/* QEMU 10.1 and later: children as a stable interface, though without devices and jobs. */
static void
read_children (World *world)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, world->nodes);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    Node *node = value;
    Json *rows = json_get (node->info, "children");
    for (gsize i = 0; i < MIN (json_length (rows), MAX_CHILDREN); i++) {
      Node *child = world_find_node (world, json_get_str (json_at (rows, i), "node-name"));
      const char *role = json_get_str (json_at (rows, i), "child");
      if (child == NULL || role == NULL)
        continue;
      child->parents++;
      add_child (node, role, child);
    }
  }
}

static void
read_edges (World *world)
{
  Json *edges = json_get (world_reply (world, "x-debug-query-block-graph"), "edges");
  world->has_graph = json_object_is_type (edges, json_type_array);
  if (!world->has_graph) {
    read_children (world);
    return;
  }
  read_parents (world);
  for (gsize i = 0; i < MIN (json_length (edges), MAX_EDGES); i++)
    read_edge (world, json_at (edges, i));
}

void
world_read_graph (World *world)
{
  read_nodes (world);
  read_edges (world);
  read_files (world);
}
