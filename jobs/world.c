/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The block graph of one QEMU as a table of nodes, and the chains of its disks read from it.
 *
 * Everything here comes from a peer that may be hostile:
 * 1. Each array is read up to a limit, so one reply cannot cost more than its size allows.
 * 2. Each walk has a limit of steps; a graph that loops ends it.
 * 3. Edges to nodes that nobody described are dropped; where that cuts a chain, the disk is
 * *broken* and says so. A chain is never silently shorter than QEMU's. */
#include "jobs/world.h"

#include "src/common/error.h"
#include "src/common/fs.h"

#include <string.h>

#define MAX_DISKS    1024u
#define MAX_JOBS     1024u
#define MAX_EXPORTS  4096u
#define MAX_NODES    65536u
#define MAX_EDGES    262144u
#define MAX_CHILDREN 64u /* of one node; quorum has the most */
#define MAX_NESTING  64u /* of a json: name; of filters between a layer and its protocol node */
#define MAX_LAYERS   (100u * CHAIN_MAX_LAYERS) /* of all disks together */
#define MAX_STEPS    (4u * CHAIN_MAX_LAYERS)   /* nodes of a chain, filters included */
#define MAX_NAME     4096u                     /* bytes of a name; longer ones read as absent */

typedef struct _Node Node;

/* A driver that shows what lies under it, and the child that it shows. */
typedef struct {
  const char *driver;
  const char *roles[2];
} Filter;

typedef struct {
  const char *role; /* in the replies */
  Node *node;
} Child;

struct _Node {
  const char *name; /* strings are borrowed from the replies, as they live with the world */
  const char *driver;
  const Filter *filter; /* nullable */
  Json *info;           /* its row of query-named-block-nodes */
  char *file;           /* where its bytes are; nullable */
  GArray *children;     /* Child */
  GPtrArray *disks;     /* ChainDisk* whose chain holds it */
  guint parents;
  gboolean job_filter; /* a job calls it its main node */
  gboolean written;    /* by an unnamed block backend: an export or a job */
};

typedef enum { PARENT_NODE, PARENT_BACKEND, PARENT_JOB, N_PARENTS } ParentType;

typedef struct {
  ParentType type;
  const char *name;
  Node *node;       /* of PARENT_NODE */
  Node *root;       /* of PARENT_BACKEND */
  GPtrArray *nodes; /* Node*, of PARENT_JOB */
} Parent;

struct _World {
  Json *replies;
  WorldFiles files;
  GHashTable *nodes;    /* name -> Node */
  GHashTable *parents;  /* id in the graph -> Parent */
  GHashTable *backends; /* name -> Parent */
  GPtrArray *disks;     /* ChainDisk */
  GPtrArray *jobs;      /* ChainJob */
  GHashTable *job_ids;  /* id -> ChainJob */
  gboolean has_graph;   /* with devices and jobs, not only the children of nodes */
  guint n_layers;
};

static const Filter filters[] = {
    {"throttle", {"file"}},
    {"copy-on-read", {"file"}},
    {"copy-before-write", {"file"}},
    {"compress", {"file"}},
    {"preallocate", {"file"}},
    {"blkdebug", {"image", "file"}},
    {"blklogwrites", {"file"}},
    {"blkreplay", {"image", "file"}},
    {"blkverify", {"test", "file"}},
    {"commit_top", {"backing", "file"}},
    {"mirror_top", {"backing", "file"}},
    {"backup-top", {"backing", "file"}},
};

/* Several children, or a view of its own: no chain can be read through these. */
static const char *const opaque[] = {"quorum", "replication", "snapshot-access", NULL};

/* Formats keep their bytes in another node. */
static const char *const formats[] = {"raw", "qcow2", "qcow", "qed",   "vmdk",  "vdi",       "vhdx",
                                      "vpc", "luks",  "dmg",  "bochs", "cloop", "parallels", NULL};

/* Protocols whose file name is a path on this host. */
static const char *const local[] = {"file", "host_device", "host_cdrom", NULL};

static gboolean
is_one_of (const char *word, const char *const *words)
{
  return word != NULL && g_strv_contains (words, word);
}

static const char *
get_name (Json *object, const char *key)
{
  const char *name = json_get_str (object, key);
  return name && name[0] != '\0' && strlen (name) <= MAX_NAME ? name : NULL;
}

/* -- nodes ------------------------------------------------------------------------------------- */

static void
node_free (Node *node)
{
  g_free (node->file);
  g_array_unref (node->children);
  g_ptr_array_unref (node->disks);
  g_free (node);
}

static void
parent_free (Parent *parent)
{
  g_ptr_array_unref (parent->nodes);
  g_free (parent);
}

static Node *
find_node (World *world, const char *name)
{
  return name ? g_hash_table_lookup (world->nodes, name) : NULL;
}

static Node *
node_child (const Node *node, const char *role)
{
  for (guint i = 0; role != NULL && i < node->children->len; i++) {
    Child *child = &g_array_index (node->children, Child, i);
    if (g_str_equal (child->role, role))
      return child->node;
  }
  return NULL;
}

static Node *
node_storage (const Node *node)
{
  Node *file = node_child (node, "file");
  return file ? file : node_child (node, "image");
}

static const Filter *
find_filter (const char *driver)
{
  for (guint i = 0; i < G_N_ELEMENTS (filters); i++)
    if (g_str_equal (driver, filters[i].driver))
      return &filters[i];
  return NULL;
}

/* What @node shows, if it is a filter; else where it stores; nullable. */
static Node *
filter_child (const Node *node, gboolean *ret_is_filter)
{
  const Filter *filter = node->filter;
  *ret_is_filter = filter != NULL;
  if (filter == NULL)
    return node_storage (node);
  Node *shown = node_child (node, filter->roles[0]);
  return shown ? shown : node_child (node, filter->roles[1]);
}

/* Follows storage children, and what lies behind filters, down to the node that has none. */
static Node *
protocol_of (Node *node)
{
  gboolean is_filter;
  for (guint i = 0; i < MAX_NESTING; i++) {
    Node *below = filter_child (node, &is_filter);
    if (below == NULL)
      return node;
    node = below;
  }
  return NULL;
}

/* Is there a format under @node, behind filters only? */
static gboolean
shows_format (Node *node)
{
  gboolean is_filter;
  for (guint i = 0; node != NULL && i < MAX_NESTING; i++) {
    Node *below = filter_child (node, &is_filter);
    if (!is_filter)
      return below != NULL;
    node = below;
  }
  return FALSE;
}

static guint64
size_of (const Node *node)
{
  return (guint64)MAX (json_get_int (json_get (node->info, "image"), "virtual-size"), 0);
}

/* What a walk down a chain does at @node; *ret_below is what a filter shows. */
typedef enum { IS_LAYER, IS_FILTER, IS_OPAQUE } NodeKind;

static NodeKind
node_kind (Node *node, Node **ret_below)
{
  gboolean is_filter;
  *ret_below = filter_child (node, &is_filter);
  if (is_filter)
    return IS_FILTER;
  if (is_one_of (node->driver, opaque))
    return IS_OPAQUE;
  if (!g_str_equal (node->driver, "raw") || *ret_below == NULL || !shows_format (*ret_below))
    return IS_LAYER;
  /* "raw" over a format shows it, unless "offset" or "size" make it a window. */
  return size_of (node) == size_of (*ret_below) ? IS_FILTER : IS_OPAQUE;
}

/* QEMU's own filters of jobs, made without filter-node-name: it hides them too. */
static gboolean
is_implicit (const Node *node)
{
  return node->name[0] == '#' && (node->job_filter || g_str_has_suffix (node->driver, "_top") ||
                                  g_str_equal (node->driver, "backup-top"));
}

/* -- file names -------------------------------------------------------------------------------- */

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
  g_autoptr (Json) options = json_parse (name + strlen ("json:"), -1);
  Json *inner = innermost (options);
  const char *plain = get_name (inner, "filename");
  if (plain != NULL && is_one_of (json_get_str (inner, "driver"), local))
    return local_name (world, plain);
  return g_strdup (name);
}

/* -- reading the graph ------------------------------------------------------------------------- */

static Json *
reply (World *world, const char *command)
{
  return json_get (world->replies, command);
}

static void
read_nodes (World *world)
{
  Json *rows = reply (world, "query-named-block-nodes");
  for (gsize i = 0; i < MIN (json_length (rows), MAX_NODES); i++) {
    Json *info = json_at (rows, i);
    const char *name = get_name (info, "node-name"), *driver = get_name (info, "drv");
    if (name == NULL || driver == NULL || find_node (world, name) != NULL)
      continue;
    Node *node = g_new0 (Node, 1);
    *node = (Node){.name = name, .driver = driver, .info = info};
    node->filter = find_filter (driver);
    node->children = g_array_new (FALSE, FALSE, sizeof (Child));
    node->disks = g_ptr_array_new ();
    g_hash_table_insert (world->nodes, (gpointer)name, node);
  }
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
  Json *rows = json_get (reply (world, "x-debug-query-block-graph"), "nodes");
  for (gsize i = 0; i < MIN (json_length (rows), MAX_NODES); i++) {
    Json *row = json_at (rows, i);
    gint64 id = json_get_int (row, "id");
    const char *name = json_get_str (row, "name");
    ParentType type = parent_type (json_get_str (row, "type"));
    if (type == N_PARENTS || name == NULL || g_hash_table_contains (world->parents, &id))
      continue;
    Parent *parent = g_new0 (Parent, 1);
    *parent = (Parent){.type = type, .name = name, .nodes = g_ptr_array_new ()};
    parent->node = type == PARENT_NODE ? find_node (world, name) : NULL;
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
      Node *child = find_node (world, json_get_str (json_at (rows, i), "node-name"));
      const char *role = json_get_str (json_at (rows, i), "child");
      if (child == NULL || role == NULL)
        continue;
      child->parents++;
      add_child (node, role, child);
    }
  }
}

static void
read_graph (World *world)
{
  Json *edges = json_get (reply (world, "x-debug-query-block-graph"), "edges");
  world->has_graph = json_object_is_type (edges, json_type_array);
  if (!world->has_graph) {
    read_children (world);
    return;
  }
  read_parents (world);
  for (gsize i = 0; i < MIN (json_length (edges), MAX_EDGES); i++)
    read_edge (world, json_at (edges, i));
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

/* -- chains ------------------------------------------------------------------------------------ */

static gboolean
break_chain (ChainDisk *disk, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* The first reason stays; always FALSE. */
static gboolean
break_chain (ChainDisk *disk, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  if (disk->broken == NULL)
    disk->broken = g_strdup_vprintf (format, args);
  va_end (args);
  return FALSE;
}

static void
belongs (Node *node, ChainDisk *disk)
{
  gboolean known = node->disks->len > 0 && node->disks->pdata[node->disks->len - 1] == disk;
  if (!known)
    g_ptr_array_add (node->disks, disk);
}

/* The storage side of a layer: everything between it and its protocol node is the disk's, too. */
static void
storage_belongs (Node *node, ChainDisk *disk)
{
  gboolean is_filter;
  node = node_storage (node);
  for (guint i = 0; node != NULL && i < MAX_NESTING; i++) {
    belongs (node, disk);
    node = filter_child (node, &is_filter);
  }
}

static void
read_sizes (ChainLayer *layer, const Node *node, const Node *protocol)
{
  Json *image = json_get (node->info, "image");
  if (!json_has (image, "actual-size") && protocol != NULL)
    image = json_get (protocol->info, "image");
  layer->virtual_size = size_of (node);
  layer->has_allocated = json_has (image, "actual-size");
  layer->allocated = (guint64)MAX (json_get_int (image, "actual-size"), 0);
}

static ChainLayer *
read_layer (Node *node, ChainDisk *disk)
{
  ChainLayer *layer = chain_layer_new ();
  Json *image = json_get (node->info, "image");
  Json *specific = json_get (json_get (image, "format-specific"), "data");
  Node *protocol = protocol_of (node);
  gboolean bare = node_storage (node) == NULL && !is_one_of (node->driver, formats);
  layer->node = g_strdup (node->name);
  layer->format = g_strdup (bare ? "raw" : node->driver);
  layer->protocol_node = protocol && protocol != node ? g_strdup (protocol->name) : NULL;
  layer->file = protocol ? g_strdup (protocol->file) : NULL;
  layer->read_only = json_get_bool (node->info, "ro");
  layer->encrypted = json_get_bool (node->info, "encrypted");
  layer->data_file = json_has (specific, "data-file") || node_child (node, "data-file") != NULL;
  layer->backing = g_strdup (get_name (image, "backing-filename"));
  layer->backing_format = g_strdup (get_name (image, "backing-filename-format"));
  read_sizes (layer, node, protocol);
  if (protocol == NULL)
    break_chain (disk, "the storage under node '%s' has no end", node->name);
  else if (protocol == node && !bare)
    break_chain (disk, "QEMU hides what is under node '%s'", node->name);
  else if (protocol->file == NULL)
    break_chain (disk, "the file of node '%s' cannot be told from the name that QEMU shows",
                 node->name);
  return layer;
}

/* Puts @node into the chain of @disk; FALSE where nothing below it can be read. */
static gboolean
take_layer (World *world, ChainDisk *disk, Node *node, GPtrArray **above)
{
  if (disk->layers->len == CHAIN_MAX_LAYERS)
    return break_chain (disk, "the chain has more than %u layers", CHAIN_MAX_LAYERS);
  if (++world->n_layers > MAX_LAYERS)
    return break_chain (disk, "the disks of this QEMU have more than %u layers", MAX_LAYERS);
  ChainLayer *layer = read_layer (node, disk);
  g_ptr_array_unref (layer->filters);
  layer->filters = *above;
  *above = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (disk->layers, layer);
  storage_belongs (node, disk);
  if (node_child (node, "backing") == NULL && json_get_str (node->info, "backing_file") != NULL)
    return break_chain (disk, "QEMU hides the layer under node '%s'", node->name);
  return TRUE;
}

/* One node down; NULL at the end, or where the chain is broken. */
static Node *
walk_node (World *world, ChainDisk *disk, Node *node, GPtrArray **above)
{
  Node *below;
  NodeKind kind = node_kind (node, &below);
  belongs (node, disk);
  if (kind == IS_LAYER)
    return take_layer (world, disk, node, above) ? node_child (node, "backing") : NULL;
  if (kind == IS_OPAQUE)
    break_chain (disk, "node '%s' (%s) is no layer of a chain", node->name, node->driver);
  else if (below == NULL)
    break_chain (disk, "QEMU hides what is under filter '%s'", node->name);
  if (kind == IS_OPAQUE || below == NULL)
    return NULL;
  if (!is_implicit (node))
    g_ptr_array_add (*above, g_strdup (node->name));
  return below;
}

static void
walk_chain (World *world, ChainDisk *disk, Node *root)
{
  g_autoptr (GPtrArray) above = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);
  for (Node *node = root; node != NULL;) {
    if (!g_hash_table_add (seen, node)) {
      break_chain (disk, "the chain loops at node '%s'", node->name);
      return;
    }
    if (g_hash_table_size (seen) > MAX_STEPS) {
      break_chain (disk, "the chain has more than %u nodes", MAX_STEPS);
      return;
    }
    node = walk_node (world, disk, node, &above);
  }
}

/* -- disks ------------------------------------------------------------------------------------- */

/* "/machine/peripheral/vda/virtio-backend" -> "vda"; SCSI and IDE disks show their id as it is. */
static char *
qdev_id (const char *qdev)
{
  static const char folder[] = "/machine/peripheral/";
  if (qdev == NULL || qdev[0] == '\0')
    return NULL;
  if (!g_str_has_prefix (qdev, folder))
    return g_strdup (qdev);
  const char *id = qdev + strlen (folder);
  gsize length = strcspn (id, "/");
  return length > 0 ? g_strndup (id, length) : g_strdup (qdev);
}

static gboolean
name_is_free (World *world, const char *name)
{
  for (guint i = 0; name != NULL && i < world->disks->len; i++)
    if (g_strcmp0 (((ChainDisk *)world->disks->pdata[i])->name, name) == 0)
      return FALSE;
  return name != NULL && name[0] != '\0';
}

static char *
disk_name (World *world, ChainDisk *disk)
{
  gboolean has_id = disk->qdev != NULL && disk->qdev[0] != '/';
  const char *candidates[] = {has_id ? disk->qdev : NULL, disk->drive, disk->root_node, disk->qdev};
  for (guint i = 0; i < G_N_ELEMENTS (candidates); i++)
    if (name_is_free (world, candidates[i]))
      return g_strdup (candidates[i]);
  return g_strdup_printf ("disk%u", world->disks->len);
}

/* Where the device really sits: above unnamed job filters, if QEMU tells. */
static Node *
disk_root (World *world, const char *drive, const char *qdev, const char *inserted)
{
  const char *backend = drive ? drive : qdev;
  Parent *parent = backend ? g_hash_table_lookup (world->backends, backend) : NULL;
  Node *shown = find_node (world, inserted);
  return parent != NULL && parent->root != NULL ? parent->root : shown;
}

static char *
shown_root (World *world, Node *root, const char *inserted)
{
  gboolean is_filter;
  if (find_node (world, inserted) != NULL)
    return g_strdup (inserted);
  for (guint i = 0; root != NULL && is_implicit (root) && i < MAX_NESTING; i++)
    root = filter_child (root, &is_filter);
  return root ? g_strdup (root->name) : NULL;
}

static void
read_disk (World *world, Json *row)
{
  const char *drive = get_name (row, "device"), *qdev = get_name (row, "qdev");
  Json *medium = json_get (row, "inserted");
  const char *node = get_name (medium, "node-name");
  if (drive == NULL && qdev == NULL && medium == NULL)
    return;
  ChainDisk *disk = chain_disk_new ();
  Node *root = medium ? disk_root (world, drive, qdev, node) : NULL;
  disk->qdev = qdev_id (qdev);
  disk->drive = g_strdup (drive);
  disk->inserted = medium != NULL;
  disk->removable = json_get_bool (row, "removable");
  disk->read_only = json_get_bool (medium, "ro");
  disk->io_status = g_strdup (json_get_str (row, "io-status"));
  disk->root_node = shown_root (world, root, node);
  disk->name = disk_name (world, disk);
  g_ptr_array_add (world->disks, disk);
  if (root != NULL) {
    walk_chain (world, disk, root);
    root->parents += world->has_graph ? 0 : 1;
  } else if (disk->inserted) {
    break_chain (disk, "QEMU does not show the nodes of this disk");
  }
}

static gboolean
read_disks (World *world, GError **error)
{
  Json *rows = reply (world, "query-block");
  if (json_length (rows) > MAX_DISKS)
    return fail (error, FAILED, "QEMU shows more than %u disks", MAX_DISKS);
  for (gsize i = 0; i < json_length (rows); i++)
    read_disk (world, json_at (rows, i));
  return TRUE;
}

/* -- jobs and exports -------------------------------------------------------------------------- */

static void
read_block_job (World *world, Json *row)
{
  const char *id = json_get_str (row, "device");
  ChainJob *job = id ? g_hash_table_lookup (world->job_ids, id) : NULL;
  if (job == NULL)
    return;
  job->paused = json_get_bool (row, "paused");
  job->has_speed = json_has (row, "speed");
  job->speed = (guint64)MAX (json_get_int (row, "speed"), 0);
  if (job->error == NULL)
    job->error = g_strdup (json_get_str (row, "error"));
}

/* @names: the members that hold id, current and total. */
static void
read_job (World *world, Json *row, const char *const names[3])
{
  const char *id = json_get_str (row, names[0]);
  const char *type = json_get_str (row, "type"), *status = json_get_str (row, "status");
  if (id == NULL || g_hash_table_contains (world->job_ids, id))
    return;
  ChainJob *job = g_new0 (ChainJob, 1);
  *job = (ChainJob){.id = g_strdup (id),
                    .type = g_strdup (type ? type : "unknown"),
                    .status = g_strdup (status ? status : "undefined"),
                    .error = g_strdup (json_get_str (row, "error")),
                    .ours = g_str_has_prefix (id, "rc-"),
                    .current = (guint64)MAX (json_get_int (row, names[1]), 0),
                    .total = (guint64)MAX (json_get_int (row, names[2]), 0)};
  job->paused = g_str_equal (job->status, "paused") || g_str_equal (job->status, "standby");
  g_ptr_array_add (world->jobs, job);
  g_hash_table_insert (world->job_ids, job->id, job);
}

static void
job_belongs (World *world, Parent *parent)
{
  ChainJob *job = g_hash_table_lookup (world->job_ids, parent->name);
  g_autoptr (GHashTable) done = g_hash_table_new (NULL, NULL);
  for (guint i = 0; job != NULL && i < parent->nodes->len; i++) {
    Node *node = parent->nodes->pdata[i];
    for (guint k = 0; k < node->disks->len; k++) {
      ChainDisk *disk = node->disks->pdata[k];
      if (g_hash_table_add (done, disk))
        g_ptr_array_add (disk->jobs, chain_job_copy (job));
    }
  }
}

static void
read_jobs (World *world)
{
  static const char *const job[] = {"id", "current-progress", "total-progress"};
  static const char *const block_job[] = {"device", "offset", "len"};
  Json *jobs = reply (world, "query-jobs"), *block_jobs = reply (world, "query-block-jobs");
  for (gsize i = 0; i < MIN (json_length (jobs), MAX_JOBS); i++)
    read_job (world, json_at (jobs, i), job);
  for (gsize i = 0; i < MIN (json_length (block_jobs), MAX_JOBS); i++) {
    read_job (world, json_at (block_jobs, i), block_job);
    read_block_job (world, json_at (block_jobs, i));
  }
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, world->parents);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (((Parent *)value)->type == PARENT_JOB)
      job_belongs (world, value);
}

/* An export may sit on a filter of its own over a disk's node: what it shows is that node. */
static Node *
exported_node (Node *node)
{
  gboolean is_filter;
  for (guint i = 0; node != NULL && node->disks->len == 0 && i < MAX_NESTING; i++) {
    Node *below = filter_child (node, &is_filter);
    node = is_filter || g_str_equal (node->driver, "raw") ? below : NULL;
  }
  return node;
}

static void
read_exports (World *world)
{
  Json *rows = reply (world, "query-block-exports");
  for (gsize i = 0; i < MIN (json_length (rows), MAX_EXPORTS); i++) {
    const char *id = json_get_str (json_at (rows, i), "id");
    Node *node = find_node (world, json_get_str (json_at (rows, i), "node-name"));
    Node *shown = exported_node (node);
    if (node != NULL && !world->has_graph)
      node->parents++;
    for (guint k = 0; id != NULL && shown != NULL && k < shown->disks->len; k++) {
      ChainDisk *disk = shown->disks->pdata[k];
      g_ptr_array_add (disk->exports, g_strdup (id));
      if (node->written || !world->has_graph)
        g_ptr_array_add (disk->writable_exports, g_strdup (id));
    }
  }
}

/* -- the world --------------------------------------------------------------------------------- */

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
  read_nodes (world);
  read_graph (world);
  read_files (world);
  if (!read_disks (world, error))
    return NULL;
  read_jobs (world);
  read_exports (world);
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
  const char *state = json_get_str (reply (world, "query-status"), "status");
  return state ? state : "unknown";
}

gboolean
world_running (World *world)
{
  return json_get_bool (reply (world, "query-status"), "running");
}

gboolean
world_migrating (World *world)
{
  static const char *const over[] = {"none", "completed", "failed", "cancelled", NULL};
  static const char *const run_states[] = {"inmigrate", "finish-migrate", "postmigrate", NULL};
  const char *status = json_get_str (reply (world, "query-migrate"), "status");
  return (status != NULL && !is_one_of (status, over)) ||
         is_one_of (world_run_state (world), run_states);
}

gboolean
world_has_node (World *world, const char *node)
{
  return find_node (world, node) != NULL;
}

const char *
world_node_driver (World *world, const char *node)
{
  Node *found = find_node (world, node);
  return found ? found->driver : NULL;
}

const char *
world_node_file (World *world, const char *node)
{
  Node *found = find_node (world, node);
  Node *protocol = found ? protocol_of (found) : NULL;
  return protocol ? protocol->file : NULL;
}

const char *
world_node_child (World *world, const char *node, const char *role)
{
  Node *found = find_node (world, node);
  Node *child = found ? node_child (found, role) : NULL;
  return child ? child->name : NULL;
}

Json *
world_node_cache (World *world, const char *name)
{
  Node *node = find_node (world, name);
  Json *cache = node ? json_get (node->info, "cache") : NULL;
  const char *zeroes = node ? json_get_str (node->info, "detect_zeroes") : NULL;
  /* "unmap" would need the discard option of that node, which QEMU does not tell. */
  gboolean on = zeroes != NULL && !g_str_equal (zeroes, "off");
  return json_make ("cache",
                    json_make ("direct", json_flag (json_get_bool (cache, "direct")), "no-flush",
                               json_flag (json_get_bool (cache, "no-flush")), NULL),
                    "detect-zeroes", json_str (on ? "on" : "off"), NULL);
}

guint
world_node_parents (World *world, const char *node)
{
  Node *found = find_node (world, node);
  return found ? found->parents : 0;
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
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
  Node *found = find_node (world, node);
  for (guint i = 0; found != NULL && i < found->disks->len; i++) {
    ChainDisk *disk = found->disks->pdata[i];
    if (g_strcmp0 (disk->name, except) != 0)
      g_ptr_array_add (names, g_strdup (disk->name));
  }
  return names;
}
