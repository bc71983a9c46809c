/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/ops.h"

static void
free_layer (gpointer layer)
{
  chain_layer_free (layer);
}

static ChainLayer *
layer (const char *dir, const char *disk, const char *what, const char *below)
{
  ChainLayer *layer = chain_layer_new ();
  layer->file = g_strdup_printf ("%s/%s-%s.qcow2", dir, disk, what);
  layer->format = g_strdup ("qcow2");
  layer->node = g_strdup_printf ("%s-%s", disk, what);
  layer->protocol_node = g_strdup_printf ("%s-%s-f", disk, what);
  layer->read_only = !g_str_equal (what, "top");
  layer->virtual_size = 1 << 20;
  if (below != NULL) {
    layer->backing = g_strdup_printf ("%s/%s-%s.qcow2", dir, disk, below);
    layer->backing_format = g_strdup ("qcow2");
  }
  return layer;
}

static void
add_disk (Op *op, const char *dir)
{
  OpDisk *disk = g_new0 (OpDisk, 1);
  disk->index = op->disks->len;
  g_ptr_array_add (op->disks, disk);
  disk->name = g_strdup_printf ("vd%c", 'a' + (char)disk->index);
  disk->qdev = g_strdup (disk->name);
  disk->old_ids = g_ptr_array_new_with_free_func (g_free);
  disk->before = g_ptr_array_new_with_free_func (free_layer);
  g_ptr_array_add (disk->before, layer (dir, disk->name, "top", "mid"));
  g_ptr_array_add (disk->before, layer (dir, disk->name, "mid", "base"));
  g_ptr_array_add (disk->before, layer (dir, disk->name, "base", NULL));
  disk->to = g_strdup_printf ("%s/%s-new.qcow2", dir, disk->name);
  disk->base = op->kind == OP_MOVE ? 2 : 0;
  disk->mode = op->kind == OP_MOVE ? MODE_STREAM : MODE_NONE;
  disk->receiver = g_strdup (disk->to);
  disk->header = g_strdup (disk->to);
  disk->backing_first = g_strdup (((ChainLayer *)disk->before->pdata[0])->file);
  disk->backing = g_strdup (((ChainLayer *)disk->before->pdata[disk->base])->file);
  disk->backing_format = g_strdup ("qcow2");
  op_name_disk (op, disk);
}

Op *
op_for_test (OpKind kind, const char *dir, guint n_disks)
{
  Op *op = op_new (kind);
  g_free (op->id);
  op->id = g_strdup (OP_ID);
  op->name = g_strdup ("before-update");
  op->vm = g_strdup_printf ("%s/qmp.sock", dir);
  op->qemu = g_strdup ("7.2.22");
  op->was_running = TRUE;
  for (guint i = 0; i < n_disks; i++)
    add_disk (op, dir);
  return op;
}

void
op_make_files (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    for (guint k = 0; k < disk->before->len; k++) {
      FileId id;
      gboolean exists;
      const char *file = ((ChainLayer *)disk->before->pdata[k])->file;
      assert_true (g_file_set_contents (file, "", 0, NULL));
      assert_true (file_identify (file, &id, &exists, NULL));
      if ((int)k >= disk->first && (int)k < disk->base)
        g_ptr_array_add (disk->old_ids, g_memdup2 (&id, sizeof id));
    }
  }
}

Journal *
journal_in (const char *dir)
{
  g_autoptr (GError) error = NULL;
  Journal *journal = journal_open (dir, &error);
  if (journal == NULL)
    fail_test ("%s", error->message);
  return journal;
}
