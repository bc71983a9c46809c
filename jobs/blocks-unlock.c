/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/blocks-unlock.h"

#include <sys/stat.h>

static gboolean
is_locked (OpDisk *disk, int i)
{
  ChainLayer *layer = op_disk_layer (disk, i);
  return i > 0 && layer->file_read_only &&
         (g_strcmp0 (layer->file, disk->receiver) == 0 ||
          g_strcmp0 (layer->file, disk->header) == 0);
}

gboolean
writes_to_locked (OpDisk *disk)
{
  for (int i = 0; i < (int)disk->before->len; i++)
    if (is_locked (disk, i))
      return TRUE;
  return FALSE;
}

gboolean
op_unlocks (Op *op)
{
  return op->unlocks;
}

/* Not a failure by itself where QEMU refuses it: whether it can write, the job tells. */
static void
reopen (Op *op, OpDisk *disk, int i, gboolean read_only, GPtrArray *asks)
{
  struct stat st;
  ChainLayer *layer = op_disk_layer (disk, i);
  gboolean device = stat (layer->file, &st) == 0 && S_ISBLK (st.st_mode);
  Json *options = json_make ("driver", json_str (device ? "host_device" : "file"), "node-name",
                             json_str (layer->protocol_node), "filename", json_str (layer->file),
                             read_only ? "read-only" : "auto-read-only", json_flag (TRUE),
                             "discard", json_str ("unmap"), "cache", cache_options (disk), NULL);
  ask_reopen (op, options, asks)->tolerant = TRUE;
}

void
unlock_files (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (int i = 0; i < (int)disk->before->len; i++)
    if (is_locked (disk, i))
      reopen (op, disk, i, FALSE, asks);
}

static gboolean
streams_below (OpDisk *disk)
{
  return disk->mode == MODE_STREAM && !disk->apart && disk->to == NULL && disk->first > 1;
}

gboolean
op_streams_below (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (streams_below (op_disk (op, i)))
      return !op_is_offline (op);
  return FALSE;
}

/* Not a failure where QEMU refuses it: nothing is wrong with the chain. */
void
seal_receiver (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainDisk *now = world ? op_find_disk (op, disk, world) : NULL;
  for (guint i = 1; streams_below (disk) && now != NULL && i < now->layers->len; i++) {
    ChainLayer *layer = now->layers->pdata[i];
    if (g_strcmp0 (layer->node, disk->node) != 0 || layer->read_only)
      continue;
    ChainLayer *below = i + 1 < now->layers->len ? now->layers->pdata[i + 1] : NULL;
    Json *options =
        reopen_options (disk, layer, layer->node, layer->protocol_node, below ? below->node : NULL);
    json_set (options, "read-only", json_flag (TRUE));
    ask_reopen (op, options, asks)->tolerant = TRUE;
  }
}

void
lock_files (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (int i = 0; i < (int)disk->before->len; i++) {
    ChainLayer *layer = op_disk_layer (disk, i);
    gboolean there = world == NULL || world_has_node (world, layer->protocol_node);
    if (is_locked (disk, i) && there &&
        !(world != NULL ? disk_is_on (op, disk, world, layer->node)
                        : disk->mode == MODE_COMMIT_ACTIVE && i == disk->base))
      reopen (op, disk, i, TRUE, asks);
  }
}
