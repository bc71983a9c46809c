/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/grow.h"

#include "jobs/lvm.h"
#include "src/common/fs.h"

/* ---- on record ------------------------------------------------------------------------------- */

static void
image_free (gpointer data)
{
  GrowImage *image = data;
  g_free (image->file);
  g_free (image->vg);
  g_free (image->lv);
  g_free (image->pool);
  g_free (image->node);
  g_free (image);
}

GPtrArray *
grow_images_new (void)
{
  return g_ptr_array_new_with_free_func (image_free);
}

static Json *
number (guint64 value)
{
  return json_int ((gint64)MIN (value, G_MAXINT64));
}

Json *
grow_images_to_json (GPtrArray *images)
{
  Json *all = images ? json_array () : NULL;
  for (guint i = 0; images != NULL && i < images->len; i++) {
    const GrowImage *image = images->pdata[i];
    json_append (all, json_make ("file", json_str (image->file), "vg", json_str (image->vg), "lv",
                                 json_str (image->lv), "node", json_str (image->node), "pool",
                                 json_str (image->pool), "most", number (image->most), "size",
                                 number (image->size), "theirs", number (image->theirs), NULL));
  }
  return all;
}

gboolean
grow_images_from_json (Json *json, GPtrArray **ret_images)
{
  gboolean ok = TRUE;
  *ret_images = json_length (json) > 0 ? grow_images_new () : NULL;
  for (gsize i = 0; i < json_length (json); i++) {
    Json *from = json_at (json, i);
    GrowImage *image = g_new0 (GrowImage, 1);
    *image = (GrowImage){.file = g_strdup (json_get_str (from, "file")),
                         .vg = g_strdup (json_get_str (from, "vg")),
                         .lv = g_strdup (json_get_str (from, "lv")),
                         .node = g_strdup (json_get_str (from, "node")),
                         .pool = g_strdup (json_get_str (from, "pool")),
                         .most = (guint64)json_get_int (from, "most"),
                         .size = (guint64)json_get_int (from, "size"),
                         .theirs = (guint64)json_get_int (from, "theirs")};
    g_ptr_array_add (*ret_images, image);
    ok &= image->file && image->vg && image->lv && image->node;
  }
  return ok;
}

Json *
grow_facts_to_json (GPtrArray *images)
{
  Json *all = images ? json_array () : NULL;
  for (guint i = 0; images != NULL && i < images->len; i++)
    json_append (all, number (((GrowImage *)images->pdata[i])->grown));
  return all;
}

void
grow_facts_from_json (Json *facts, GPtrArray *images)
{
  for (guint i = 0; images != NULL && i < images->len; i++)
    ((GrowImage *)images->pdata[i])->grown =
        (guint64)MAX (json_object_get_int64 (json_at (facts, i)), 0);
}

/* ---- how far --------------------------------------------------------------------------------- */

gboolean
op_grows (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (op_disk (op, i)->grows != NULL)
      return TRUE;
  return FALSE;
}

gboolean
op_has_grown (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++) {
    GPtrArray *images = op_disk (op, i)->grows;
    for (guint k = 0; images != NULL && k < images->len; k++)
      if (((GrowImage *)images->pdata[k])->grown > 0)
        return TRUE;
  }
  return FALSE;
}

GrowImage *
grow_image_of (OpDisk *disk, const char *file)
{
  for (guint i = 0; disk->grows != NULL && i < disk->grows->len; i++)
    if (g_strcmp0 (((GrowImage *)disk->grows->pdata[i])->file, file) == 0)
      return disk->grows->pdata[i];
  return NULL;
}

guint64
grow_threshold (const Op *op, const GrowImage *image, guint64 size)
{
  return size < image->most ? size - MIN (op->grow_step, size) / 2 : 0;
}

guint64
grow_next (const Op *op, const GrowImage *image, guint64 size, guint64 highest)
{
  return MIN (MAX (size, highest) + op->grow_step, image->most);
}

char **
grow_args (const GrowImage *image, guint64 size)
{
  g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT "b", size);
  g_autofree char *name = g_strdup_printf ("%s/%s", image->vg, image->lv);
  const char *argv[] = {"lvm", "lvextend", "-y", "-L", bytes, name, NULL};
  return g_strdupv ((char **)argv);
}

char **
grow_refresh_args (const GrowImage *image)
{
  g_autofree char *name = g_strdup_printf ("%s/%s", image->vg, image->lv);
  const char *argv[] = {"lvm", "lvchange", "-y", "--refresh", name, NULL};
  return g_strdupv ((char **)argv);
}

gboolean
grow_is_half_done (const GrowImage *image, Json *row)
{
  guint64 size;
  return lvm_word (row, "lv_suspended") ||
         (file_length (image->file, &size, NULL) && lvm_bytes (row, "lv_size") > size);
}

/* ---- rows ------------------------------------------------------------------------------------ */

Ask *
ask_threshold (GPtrArray *asks, const GrowImage *image, guint64 threshold)
{
  return ask_qmp (
      asks, "block-set-write-threshold",
      json_make ("node-name", json_str (image->node), "write-threshold", number (threshold), NULL));
}

void
watch_volumes (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (guint i = 0; disk->grows != NULL && i < disk->grows->len; i++) {
    GrowImage *image = disk->grows->pdata[i];
    guint64 size = image->size;
    if (world != NULL && !file_length (image->file, &size, NULL))
      continue;
    image->armed = grow_threshold (op, image, size);
    if (image->armed > 0)
      ask_threshold (asks, image, image->armed);
  }
}

/* Nodes that are closed by now watch nothing. */
void
unwatch_volumes (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (guint i = 0; disk->grows != NULL && i < disk->grows->len; i++) {
    GrowImage *image = disk->grows->pdata[i];
    if (world == NULL || world_has_node (world, image->node))
      ask_threshold (asks, image, image->theirs)->tolerant = TRUE;
  }
}
