/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/bitmaps.h"

/* ---- planning -------------------------------------------------------------------------------- */

/* The bitmaps of a layer: as QEMU shows them, or as the images hold them. Borrowed, nullable. */
static Json *
bitmaps_of (const BitmapSource *source, const ChainLayer *layer)
{
  if (layer == NULL)
    return NULL;
  return source->world ? world_node_bitmaps (source->world, layer->node)
                       : json_get (source->on_disk, layer->node);
}

/* Borrowed, nullable. */
static Json *
find_bitmap (const BitmapSource *source, ChainLayer *layer, const char *name)
{
  Json *all = bitmaps_of (source, layer);
  for (gsize i = 0; i < json_length (all); i++)
    if (g_strcmp0 (json_get_str (json_at (all, i), "name"), name) == 0)
      return json_at (all, i);
  return NULL;
}

static gboolean
is_usable (Json *bitmap)
{
  return bitmap != NULL && json_get_str (bitmap, "name") != NULL &&
         !json_get_bool (bitmap, "inconsistent");
}

/* The layers from which the bits come: from the first dropped one down, as far as each has the
 * bitmap. Below a layer without it the bitmap says nothing about what was written above. */
static Json *
sources (OpDisk *disk, const BitmapSource *source, const char *name)
{
  Json *from = json_array ();
  for (int i = disk->first; i < disk->base; i++) {
    if (!is_usable (find_bitmap (source, op_disk_layer (disk, i), name)))
      break;
    json_append (from, json_str (op_disk_layer (disk, i)->node));
  }
  return from;
}

static void
add_bitmap (OpDisk *disk, const BitmapSource *source, Json *bitmap, ChainLayer *receiver)
{
  const char *name = json_get_str (bitmap, "name");
  Json *there = find_bitmap (source, receiver, name);
  gboolean recording = json_get_bool (bitmap, "recording");
  gboolean raw = g_strcmp0 (disk->to_format, "raw") == 0;
  json_append (disk->bitmaps,
               json_make ("name", json_str (name), "granularity",
                          json_int (json_get_int (bitmap, "granularity")), "persistent",
                          json_flag (json_get_bool (bitmap, "persistent") && !raw), "recording",
                          json_flag (recording), "add", json_flag (there == NULL), "enable",
                          json_flag (there && recording && !json_get_bool (there, "recording")),
                          "from", sources (disk, source, name), NULL));
}

static void
note_lost (Op *op, OpDisk *disk, ChainLayer *layer, const char *name, const char *why)
{
  g_ptr_array_add (op->notes, g_strdup_printf ("disk '%s': the dirty bitmap '%s' of '%s' %s",
                                               disk->name, name, layer->file, why));
}

/* Of all layers that fall out, or are covered by an overlay. */
static void
tell_lost (Op *op, OpDisk *disk, const BitmapSource *source, ChainLayer *above)
{
  int last = MAX (disk->base, 1);
  for (int i = disk->first; i < last; i++) {
    Json *all = bitmaps_of (source, op_disk_layer (disk, i));
    for (gsize k = 0; k < json_length (all); k++) {
      const char *name = json_get_str (json_at (all, k), "name");
      if (name == NULL)
        continue;
      if (!is_usable (json_at (all, k)))
        note_lost (op, disk, op_disk_layer (disk, i), name,
                   "is inconsistent (QEMU was not ended in order): it is not taken along, and a "
                   "backup that relies on it must begin anew");
      else if (!is_usable (find_bitmap (source, above, name)) && above != op_disk_layer (disk, i))
        note_lost (op, disk, op_disk_layer (disk, i), name,
                   "is not in the layer above it, so it did not record what was written there: it "
                   "is not taken along");
      else if (g_strcmp0 (disk->to_format, "raw") == 0 &&
               json_get_bool (json_at (all, k), "persistent"))
        note_lost (op, disk, op_disk_layer (disk, i), name,
                   "cannot be stored in a raw image: it lives until QEMU ends");
    }
  }
}

void
plan_bitmaps (Op *op, OpDisk *disk, const BitmapSource *source)
{
  gboolean up = disk->mode == MODE_STREAM && disk->to == NULL; /* into a layer that is there */
  gboolean down = disk->mode == MODE_COMMIT || disk->mode == MODE_COMMIT_ACTIVE;
  ChainLayer *named = op_disk_layer (disk, up ? disk->first - 1 : disk->first);
  ChainLayer *receiver = up ? named : down ? op_disk_layer (disk, disk->base) : NULL;
  Json *all = disk->apart ? NULL : bitmaps_of (source, named);
  disk->bitmaps = json_array ();
  for (gsize i = 0; i < json_length (all); i++)
    if (is_usable (json_at (all, i)))
      add_bitmap (disk, source, json_at (all, i), receiver);
  if (!disk->apart)
    tell_lost (op, disk, source, named);
}

Json *
bitmaps_from_info (const char *out)
{
  g_autoptr (Json) info = json_parse (out, -1);
  Json *held = json_get (json_get (json_get (info, "format-specific"), "data"), "bitmaps");
  Json *bitmaps = json_array ();
  for (gsize i = 0; i < json_length (held); i++) {
    Json *one = json_at (held, i), *flags = json_get (one, "flags");
    gboolean in_use = FALSE, recording = FALSE;
    for (gsize k = 0; k < json_length (flags); k++) {
      const char *flag = json_object_get_string (json_at (flags, k));
      in_use |= g_strcmp0 (flag, "in-use") == 0;
      recording |= g_strcmp0 (flag, "auto") == 0;
    }
    json_append (bitmaps, json_make ("name", json_str (json_get_str (one, "name")), "granularity",
                                     json_int (json_get_int (one, "granularity")), "persistent",
                                     json_flag (TRUE), "recording", json_flag (recording),
                                     "inconsistent", json_flag (in_use), NULL));
  }
  return bitmaps;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static Json *
new_bitmap (OpDisk *disk, Json *bitmap)
{
  return json_make ("node", json_str (disk->node), "name", json_str (json_get_str (bitmap, "name")),
                    "granularity", json_int (json_get_int (bitmap, "granularity")), "persistent",
                    json_flag (json_get_bool (bitmap, "persistent")), "disabled",
                    json_flag (!json_get_bool (bitmap, "recording")), NULL);
}

static gboolean
is_overlay (OpDisk *disk)
{
  return disk->to != NULL && disk->mode != MODE_MIRROR && !op_disk_is_beside (disk);
}

void
add_overlay_bitmaps (OpDisk *disk, Json *actions)
{
  for (gsize i = 0; i < json_length (disk->bitmaps); i++)
    json_append (actions, json_make ("type", json_str ("block-dirty-bitmap-add"), "data",
                                     new_bitmap (disk, json_at (disk->bitmaps, i)), NULL));
}

gboolean
op_merges_bitmaps (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    for (gsize k = 0; k < json_length (op_disk (op, i)->bitmaps); k++)
      if (json_length (json_get (json_at (op_disk (op, i)->bitmaps, k), "from")) > 0)
        return TRUE;
  return FALSE;
}

static Json *
named_on (const char *node, const char *name)
{
  return json_make ("node", json_str (node), "name", json_str (name), NULL);
}

static gboolean
is_there (OpDisk *disk, World *world, const char *name)
{
  Json *all = world ? world_node_bitmaps (world, disk->node) : NULL;
  for (gsize i = 0; i < json_length (all); i++)
    if (g_strcmp0 (json_get_str (json_at (all, i), "name"), name) == 0)
      return TRUE;
  return FALSE;
}

static void
merge_bitmap (OpDisk *disk, Json *bitmap, World *world, GPtrArray *asks)
{
  const char *name = json_get_str (bitmap, "name");
  Json *from = json_get (bitmap, "from"), *list = json_array ();
  if (json_get_bool (bitmap, "add") && !is_overlay (disk) && !is_there (disk, world, name))
    ask_qmp (asks, "block-dirty-bitmap-add", new_bitmap (disk, bitmap));
  else if (json_get_bool (bitmap, "enable"))
    ask_qmp (asks, "block-dirty-bitmap-enable", named_on (disk->node, name));
  for (gsize i = 0; i < json_length (from); i++)
    json_append (list, named_on (json_object_get_string (json_at (from, i)), name));
  ask_qmp (
      asks, "block-dirty-bitmap-merge",
      json_make ("node", json_str (disk->node), "target", json_str (name), "bitmaps", list, NULL));
}

void
merge_bitmaps (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (gsize i = 0; i < json_length (disk->bitmaps); i++)
    if (json_length (json_get (json_at (disk->bitmaps, i), "from")) > 0)
      merge_bitmap (disk, json_at (disk->bitmaps, i), world, asks);
}

/* Bits that were merged stay: more is marked than was written, which is harmless. Where the job is
 * gone the receiver may be read-only again, and the bitmap stays too. */
void
unmerge_bitmaps (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  for (gsize i = 0; i < json_length (disk->bitmaps); i++) {
    Json *bitmap = json_at (disk->bitmaps, i);
    const char *name = json_get_str (bitmap, "name");
    gboolean there = op_is_offline (op) || is_there (disk, world, name);
    if (json_get_bool (bitmap, "add") && !is_overlay (disk) && there)
      ask_qmp (asks, "block-dirty-bitmap-remove", named_on (disk->node, name))->tolerant = TRUE;
  }
}
