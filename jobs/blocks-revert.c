/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The old chain comes back after a pivot: of several disks one was refused, so all go back. */
#include "jobs/blocks-job.h"

static ChainLayer *
layer_at (OpDisk *disk, int i)
{
  return disk->before->pdata[i];
}

/* blockdev-add options of the old layers from @i on, as one nested tree that ends at the node which
 * is still there: for a QEMU that has let go of them by itself. Full. */
static Json *
dropped_tree (OpDisk *disk, int i, const char *node)
{
  ChainLayer *layer = layer_at (disk, i);
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
  const char *node = layer_at (disk, disk->first)->node;
  if (world_has_node (world, node))
    return node;
  if (!world_has_node (world, disk->old_node))
    ask_qmp (asks, "blockdev-add", dropped_tree (disk, disk->first, disk->old_node));
  return disk->old_node;
}

/* As far as QEMU tells how a node of the guest's was opened. */
static Json *
reopen_options (OpDisk *disk, ChainLayer *layer, const char *node, const char *backing)
{
  Json *cache = json_get (disk->cache, "cache");
  return json_make ("driver", json_str (layer->format), "node-name", json_str (node), "file",
                    json_str (layer->protocol_node), "backing",
                    backing ? json_str (backing) : json_null (), "discard", json_str ("unmap"),
                    "detect-zeroes", json_str (json_get_str (disk->cache, "detect-zeroes")),
                    "cache", cache ? json_dup (cache) : NULL, "read-only",
                    layer->read_only ? json_flag (TRUE) : NULL, NULL);
}

static void
reopen (Json *options, GPtrArray *asks)
{
  ask_qmp (asks, "blockdev-reopen", json_make ("options", json_list (options, NULL), NULL));
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
put_under_new (OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *node = old_node (disk, world, asks);
  reopen (layer_options (disk, json_str (disk->file_node), node), asks);
}

/* Streams and inner commits: the layer above the dropped ones gets them back. */
static void
put_under_old (OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *overlay = layer_at (disk, disk->first - 1);
  const char *node = old_node (disk, world, asks);
  reopen (reopen_options (disk, overlay, overlay->node, node), asks);
  rewrite_header (disk, overlay->node, node, asks);
}

/* Active commit: the old active layer becomes an overlay of the one that received its data, which
 * has the same contents as long as the guest is held. */
static void
put_on_top (OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *active = layer_at (disk, 0), *base = kept_base (disk);
  const char *node = active->node;
  if (world_has_node (world, node))
    reopen (reopen_options (disk, active, node, NULL), asks);
  else {
    node = disk->old_node;
    Json *file = json_make ("driver", json_str ("file"), "filename", json_str (active->file),
                            "auto-read-only", json_flag (TRUE), NULL);
    ask_qmp (asks, "blockdev-add",
             json_make ("driver", json_str (active->format), "node-name", json_str (node), "file",
                        file, "backing", json_null (), "discard", json_str ("unmap"), NULL));
  }
  ask_qmp (asks, "blockdev-snapshot",
           json_make ("node", json_str (base->node), "overlay", json_str (node), NULL));
  if (disk->base > 1 && world_has_node (world, active->node) &&
      world_has_node (world, layer_at (disk, 1)->node))
    reopen (reopen_options (disk, active, node, layer_at (disk, 1)->node), asks);
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

void
put_chain_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  end_job (world, disk->fold_job, asks); /* of an earlier try */
  if (disk->apart || !shows_planned_chain (op, disk, world, NULL))
    return;
  if (disk->mode == MODE_MIRROR)
    mirror_back (op, disk, world, asks);
  else if (disk->mode == MODE_COMMIT_ACTIVE)
    put_on_top (disk, world, asks);
  else if (disk->to != NULL)
    put_under_new (disk, world, asks);
  else
    put_under_old (disk, world, asks);
}
