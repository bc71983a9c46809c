/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/base-size.h"

#include "jobs/image.h"
#include "jobs/op-volume.h"

static gboolean
enlarges (OpDisk *disk)
{
  gboolean commits = disk->mode == MODE_COMMIT || disk->mode == MODE_COMMIT_ACTIVE;
  for (int i = disk->first; commits && i < disk->base; i++)
    if (op_disk_layer (disk, i)->virtual_size > op_disk_layer (disk, disk->base)->virtual_size)
      return TRUE;
  return FALSE;
}

gboolean
op_enlarges_base (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (enlarges (op_disk (op, i)))
      return TRUE;
  return FALSE;
}

static gboolean
sync_base (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (op_disk_layer (disk, disk->base)->file, error);
}

/* What the commit wrote beyond the old end is in the layers above it, which stay. Nothing is wrong
 * with the chain where qemu-img refuses, since a guest runs on it again. */
void
restore_base_size (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  guint64 now;
  if (!enlarges (disk))
    return;
  ChainLayer *base = op_disk_layer (disk, disk->base);
  if (!volume_guest_size (base->file, base->format, &now, NULL) || now <= base->virtual_size)
    return;
  ask_run (asks, image_resize_args (base->file, base->format, base->virtual_size, TRUE))->tolerant =
      TRUE;
  ask_local (asks, "sync it", sync_base)->no_facts = TRUE;
}
