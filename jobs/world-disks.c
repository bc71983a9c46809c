/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads the disks, and the chain of each from the graph. */
#include "jobs/world-private.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_DISKS  1024u
#define MAX_LAYERS (100u * CHAIN_MAX_LAYERS) /* of all disks together */
#define MAX_STEPS  (4u * CHAIN_MAX_LAYERS)   /* nodes of a chain, filters included */

/* Formats keep their bytes in another node. */
static const char *const formats[] = {"raw", "qcow2", "qcow", "qed",   "vmdk",  "vdi",       "vhdx",
                                      "vpc", "luks",  "dmg",  "bochs", "cloop", "parallels", NULL};

/* ---- chains ---------------------------------------------------------------------------------- */

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
    node = node_below (node, &is_filter);
  }
}

static void
read_sizes (ChainLayer *layer, const Node *node, const Node *protocol)
{
  Json *image = json_get (node->info, "image");
  if (!json_has (image, "actual-size") && protocol != NULL)
    image = json_get (protocol->info, "image");
  layer->virtual_size = node_size (node);
  layer->has_allocated = json_has (image, "actual-size");
  layer->allocated = (guint64)MAX (json_get_int (image, "actual-size"), 0);
}

static ChainLayer *
read_layer (Node *node, ChainDisk *disk)
{
  ChainLayer *layer = chain_layer_new ();
  Json *image = json_get (node->info, "image");
  Json *specific = json_get (json_get (image, "format-specific"), "data");
  Node *protocol = node_protocol (node);
  gboolean bare = node_storage (node) == NULL && !is_one_of (node->driver, formats);
  layer->node = g_strdup (node->name);
  layer->format = g_strdup (bare ? "raw" : node->driver);
  layer->protocol_node = protocol && protocol != node ? g_strdup (protocol->name) : NULL;
  layer->file = protocol ? g_strdup (protocol->file) : NULL;
  layer->read_only = json_get_bool (node->info, "ro");
  layer->file_read_only = layer->protocol_node != NULL && layer->protocol_node[0] != '#' &&
                          json_get_bool (protocol->info, "ro");
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
  if (!node_is_implicit (node))
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

/* ---- disks ----------------------------------------------------------------------------------- */

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
  Node *shown = world_find_node (world, inserted);
  return parent != NULL && parent->root != NULL ? parent->root : shown;
}

static char *
shown_root (World *world, Node *root, const char *inserted)
{
  gboolean is_filter;
  if (world_find_node (world, inserted) != NULL)
    return g_strdup (inserted);
  for (guint i = 0; root != NULL && node_is_implicit (root) && i < MAX_NESTING; i++)
    root = node_below (root, &is_filter);
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

gboolean
world_read_disks (World *world, GError **error)
{
  Json *rows = world_reply (world, "query-block");
  if (json_length (rows) > MAX_DISKS)
    return fail (error, FAILED, "QEMU shows more than %u disks", MAX_DISKS);
  for (gsize i = 0; i < json_length (rows); i++)
    read_disk (world, json_at (rows, i));
  return TRUE;
}
