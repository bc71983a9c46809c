/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The old chain comes back after a pivot: of several disks one was refused, so all go back. */
#include "jobs/blocks-job.h"

#include "jobs/header.h"

/* blockdev-add options of the old layers from @i on, as one nested tree that ends at the node which
 * is still there: for a QEMU that has let go of them by itself. Full. */
static Json *
dropped_tree (OpDisk *disk, int i, const char *node)
{
  ChainLayer *layer = op_disk_layer (disk, i);
  ChainLayer *base = kept_base (disk);
  Json *file = json_make ("driver", json_str ("file"), "filename", json_str (layer->file),
                          "auto-read-only", json_flag (TRUE), NULL);
  Json *backing = i + 1 < disk->base ? dropped_tree (disk, i + 1, NULL)
                  : base             ? json_str (base->node)
                                     : NULL;
  gboolean can_back = g_strcmp0 (layer->format, "raw") != 0;
  return json_make ("driver", json_str (layer->format), "node-name", json_str (node), "file", file,
                    "backing",
                    backing    ? backing
                    : can_back ? json_null ()
                               : NULL,
                    NULL);
}

/* The node of the first dropped layer, opened again where QEMU has let go of it. */
static const char *
old_node (OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *node = op_disk_layer (disk, disk->first)->node;
  if (world_has_node (world, node))
    return node;
  if (!world_has_node (world, disk->old_node))
    ask_qmp (asks, "blockdev-add", dropped_tree (disk, disk->first, disk->old_node));
  return disk->old_node;
}

/* A layer that comes back as the guest's, with all that QEMU tells of how it was opened. */
static Json *
old_options (OpDisk *disk, ChainLayer *layer, const char *node, const char *file,
             const char *backing)
{
  Json *options = reopen_options (disk, layer, node, file, backing);
  json_set (options, "detect-zeroes", json_str (json_get_str (disk->cache, "detect-zeroes")));
  json_set (options, "read-only", layer->read_only ? json_flag (TRUE) : NULL);
  return options;
}

/* The header again: a stream of nothing writes name and format; change-backing-file would write a
 * wrong format. */
static void
rewrite_header (OpDisk *disk, const char *overlay, const char *backing, GPtrArray *asks)
{
  ask_qmp (asks, "block-stream",
           json_make ("job-id", json_str (disk->fold_job), "device", json_str (overlay),
                      "base-node", json_str (backing), "backing-file", json_str (disk->backing_old),
                      "auto-dismiss", json_flag (FALSE), NULL));
  ask_wait (asks, disk->fold_job, JOB_CONCLUDED);
  record_and_dismiss (disk->fold_job, asks);
}

/* A new layer of ours is folded afterwards, which is why its header may stay. */
static void
put_under_new (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *node = old_node (disk, world, asks);
  /* x-blockdev-reopen cannot change it, whatever somebody put over it. */
  const char *file = op->old_reopen ? world_node_child (world, disk->node, "file") : NULL;
  ask_reopen (op, layer_options (disk, json_str (file ? file : disk->file_node), node), asks);
}

/* Streams and inner commits: the layer above the dropped ones gets them back. */
static void
put_under_old (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *overlay = op_disk_layer (disk, disk->first - 1);
  const char *node = old_node (disk, world, asks);
  ask_reopen (op, old_options (disk, overlay, overlay->node, overlay->protocol_node, node), asks);
  rewrite_header (disk, overlay->node, node, asks);
}

/* The old active layer, opened again without its backing layers. Its file has a name too, since the
 * node is reopened. */
static void
open_active (OpDisk *disk, const char *file_node, GPtrArray *asks)
{
  ChainLayer *active = op_disk_layer (disk, 0);
  Json *file =
      json_make ("driver", json_str ("file"), "node-name", json_str (file_node), "filename",
                 json_str (active->file), "auto-read-only", json_flag (TRUE), NULL);
  ask_qmp (asks, "blockdev-add",
           json_make ("driver", json_str (active->format), "node-name", json_str (disk->old_node),
                      "file", file, "backing", json_null (), "discard", json_str ("unmap"), NULL));
}

/* Active commit: the old active layer becomes an overlay of the one that received its data, which
 * has the same contents as long as the guest is held. No layer may be backed by the receiver at
 * that moment: the inner ones are put between the two afterwards. */
static void
put_on_top (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *active = op_disk_layer (disk, 0), *base = kept_base (disk);
  ChainLayer *lowest = op_disk_layer (disk, disk->base - 1);
  gboolean inner = disk->base > 1, kept = world_has_node (world, active->node);
  gboolean lowest_kept = inner && world_has_node (world, lowest->node);
  const char *node = kept ? active->node : disk->old_node;
  gboolean is_top = disk_is_on (op, disk, world, node); /* an earlier try got as far as that */
  g_autofree char *own_file = g_strconcat (disk->old_node, "f", NULL);
  g_autofree char *tree = g_strconcat (disk->old_node, "i", NULL);
  const char *file = kept ? active->protocol_node : own_file;
  if (lowest_kept && !is_top)
    ask_reopen (op, old_options (disk, lowest, lowest->node, lowest->protocol_node, NULL), asks);
  if (kept && !is_top)
    ask_reopen (op, old_options (disk, active, node, file, NULL), asks);
  else if (!world_has_node (world, node))
    open_active (disk, file, asks);
  if (!is_top)
    ask_qmp (asks, "blockdev-snapshot",
             json_make ("node", json_str (base->node), "overlay", json_str (node), NULL));
  if (!inner)
    return;
  if (lowest_kept)
    ask_reopen (op, old_options (disk, lowest, lowest->node, lowest->protocol_node, base->node),
                asks);
  else if (!world_has_node (world, tree))
    ask_qmp (asks, "blockdev-add", dropped_tree (disk, 1, tree));
  const char *below = lowest_kept ? op_disk_layer (disk, 1)->node : tree;
  ask_reopen (op, old_options (disk, active, node, file, below), asks);
}

/* Mirror: the same the other way round, of nothing, since both have the same contents while the
 * guest is held. */
static void
mirror_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *root = disk->attach_to ? disk->attach_to : disk->node;
  ask_qmp (asks, "blockdev-mirror",
           json_make ("job-id", json_str (disk->fold_job), "device", json_str (root), "replaces",
                      json_str (disk->attach_to ? disk->node : NULL), "target",
                      json_str (old_node (disk, world, asks)), "sync", json_str ("none"),
                      "auto-dismiss", json_flag (FALSE), NULL));
  ask_wait (asks, disk->fold_job, JOB_READY);
  Ask *complete = ask_qmp (asks, "job-complete", json_make ("id", json_str (disk->fold_job), NULL));
  complete->job = disk->fold_job;
  complete->wanted = JOB_CONCLUDED;
  record_and_dismiss (disk->fold_job, asks);
}

/* In the file: QEMU shows the name that it was to write, also where that failed. */
static gboolean
header_names (const ChainLayer *overlay, const char *backing)
{
  g_auto (ImageHeader) header = {0};
  gboolean read = image_header_read (overlay->file, &header, NULL);
  return g_strcmp0 (read ? header.backing : overlay->backing, backing) == 0;
}

/* QEMU shows the old chain, and so did it when the header could not be rewritten. */
static void
put_header_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  GPtrArray *layers = op_find_disk (op, disk, world)->layers;
  ChainLayer *overlay = g_ptr_array_index (layers, disk->first - 1);
  ChainLayer *below = g_ptr_array_index (layers, disk->first);
  if (!header_names (overlay, disk->backing_old))
    rewrite_header (disk, overlay->node, below->node, asks);
}

void
put_chain_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_auto (GStrv) before = chain_files (disk->before);
  gboolean on_top = disk->mode == MODE_COMMIT_ACTIVE, mirrored = disk->mode == MODE_MIRROR;
  gboolean is_back = disk_shows (op, disk, world, before, NULL);
  end_job (op, world, disk->fold_job, asks); /* of an earlier try */
  if (disk->apart)
    return;
  if (is_back && disk->to == NULL && !on_top && !mirrored)
    put_header_back (op, disk, world, asks);
  if (is_back || (!on_top && !shows_planned_chain (op, disk, world, NULL)))
    return;
  if (on_top)
    put_on_top (op, disk, world, asks);
  else if (mirrored)
    mirror_back (op, disk, world, asks);
  else if (disk->to != NULL)
    put_under_new (op, disk, world, asks);
  else
    put_under_old (op, disk, world, asks);
}

/* A node that QEMU named itself cannot be reopened, so nothing can be put back under it. */
gboolean
can_come_back (OpDisk *disk)
{
  gboolean inner = disk->to == NULL && disk->first > 0 &&
                   (disk->mode == MODE_STREAM || disk->mode == MODE_COMMIT);
  return !inner || op_disk_layer (disk, disk->first - 1)->node[0] != '#';
}
