/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/map.h"

#include "src/common/error.h"
#include "src/common/size.h"

#define PIECE (64u << 10) /* bytes of a document written at once */

Map *
map_new (GPtrArray *layers, guint64 virtual_size, guint64 start)
{
  Map *map = g_new0 (Map, 1);
  map->refs = 1;
  map->virtual_size = virtual_size;
  map->start = start;
  map->files = g_ptr_array_new_with_free_func (g_free);
  map->extents = g_array_new (FALSE, FALSE, sizeof (MapExtent));
  for (guint i = 0; i < layers->len; i++)
    g_ptr_array_add (map->files, g_strdup (((ChainLayer *)layers->pdata[i])->file));
  return map;
}

Map *
map_ref (Map *map)
{
  g_atomic_int_inc (&map->refs);
  return map;
}

void
map_unref (Map *map)
{
  if (map == NULL || !g_atomic_int_dec_and_test (&map->refs))
    return;
  g_ptr_array_unref (map->files);
  g_array_unref (map->extents);
  g_free (map);
}

const MapExtent *
map_extent (const Map *map, guint i)
{
  return &g_array_index (map->extents, MapExtent, i);
}

guint64
map_end (const Map *map)
{
  if (map->extents->len == 0)
    return map->start;
  const MapExtent *last = map_extent (map, map->extents->len - 1);
  return last->start + last->length;
}

gboolean
map_add (Map *map, guint64 length, guint depth, gboolean data, gboolean zero, GError **error)
{
  MapExtent extent = {.start = map_end (map),
                      .length = length,
                      .depth = (guint16)depth,
                      .data = data != 0,
                      .zero = zero != 0};
  MapExtent *last = map->extents->len > 0
                        ? &g_array_index (map->extents, MapExtent, map->extents->len - 1)
                        : NULL;
  if (depth != MAP_NOBODY && depth >= map->files->len)
    return fail (error, FAILED, "the map tells of layer %u of a chain that has %u", depth,
                 map->files->len);
  if (length == 0)
    return TRUE;
  if (length > G_MAXINT64 - extent.start)
    return fail (error, FAILED, "the map tells of more bytes than a disk can have");
  if (last != NULL && last->depth == extent.depth && last->data == extent.data &&
      last->zero == extent.zero) {
    last->length += length;
    return TRUE;
  }
  if (map->extents->len >= MAP_MAX_EXTENTS) {
    fail (error, REFUSED, "the map has more than %u extents", MAP_MAX_EXTENTS);
    return hint (error, "ask for a part of the disk: --start, --length");
  }
  g_array_append_val (map->extents, extent);
  return TRUE;
}

MapTotal
map_total (const Map *map, guint depth)
{
  MapTotal total = {0};
  for (guint i = 0; i < map->extents->len; i++) {
    const MapExtent *extent = map_extent (map, i);
    if (extent->depth != depth)
      continue;
    total.allocated += depth != MAP_NOBODY ? extent->length : 0;
    total.data += extent->data ? extent->length : 0;
    total.zero += extent->zero ? extent->length : 0;
  }
  return total;
}

gboolean
region_clip (Region *region, guint64 size, GError **error)
{
  if (region->start > size || (region->start == size && size > 0))
    return fail (error, REFUSED,
                 "it begins at %" G_GUINT64_FORMAT ", and the disk has %" G_GUINT64_FORMAT " bytes",
                 region->start, size);
  if (region->length == 0)
    region->length = size - region->start;
  if (region->length > size - region->start)
    return fail (error, REFUSED,
                 "%" G_GUINT64_FORMAT " bytes from %" G_GUINT64_FORMAT
                 " on reach beyond the end of the disk, which has %" G_GUINT64_FORMAT " bytes",
                 region->length, region->start, size);
  return TRUE;
}

/* ---- the document ---------------------------------------------------------------------------- */

/* A string of JSON with its quotes, full. */
static char *
quoted (const char *text)
{
  g_autoptr (Json) json = json_str (text);
  return json ? json_line (json) : g_strdup ("null");
}

typedef struct {
  GString *text;
  MapWrite write;
  gpointer data;
} Out;

static gboolean
flush (Out *out, gsize above)
{
  if (out->text->len <= above)
    return TRUE;
  gboolean ok = out->write (out->text->str, out->text->len, out->data);
  g_string_truncate (out->text, 0);
  return ok;
}

static void
put_extent (Out *out, const MapExtent *extent, char **files)
{
  gboolean somebody = extent->depth != MAP_NOBODY;
  char text[160], *at = g_stpcpy (text, "{\"start\":");
  at = put_number (at, extent->start, 0);
  at = put_number (g_stpcpy (at, ",\"length\":"), extent->length, 0);
  if (somebody) {
    at = put_number (g_stpcpy (at, ",\"depth\":"), extent->depth, 0);
    at = g_stpcpy (at, ",\"file\":");
    g_string_append_len (out->text, text, at - text);
    g_string_append (out->text, files[extent->depth]);
    at = text;
  }
  at = g_stpcpy (at, extent->data ? ",\"data\":true" : ",\"data\":false");
  at = g_stpcpy (at, extent->zero ? ",\"zero\":true" : ",\"zero\":false");
  at = g_stpcpy (at, somebody ? ",\"allocated\":true}" : ",\"allocated\":false}");
  g_string_append_len (out->text, text, at - text);
}

static void
put_totals (Out *out, const Map *map, char **files)
{
  MapTotal all = {0}, nobody = map_total (map, MAP_NOBODY);
  g_autoptr (GString) layers = g_string_new (NULL);
  for (guint i = 0; i < map->files->len; i++) {
    MapTotal total = map_total (map, i);
    all.allocated += total.allocated;
    all.data += total.data;
    all.zero += total.zero;
    g_string_append_printf (layers,
                            "%s{\"depth\":%u,\"file\":%s,\"allocated\":%" G_GUINT64_FORMAT
                            ",\"data\":%" G_GUINT64_FORMAT ",\"zero\":%" G_GUINT64_FORMAT "}",
                            i ? "," : "", i, files[i], total.allocated, total.data, total.zero);
  }
  g_string_append_printf (out->text,
                          "{\"allocated\":%" G_GUINT64_FORMAT ",\"unallocated\":%" G_GUINT64_FORMAT
                          ",\"data\":%" G_GUINT64_FORMAT ",\"zero\":%" G_GUINT64_FORMAT
                          ",\"layers\":[%s]}",
                          all.allocated, map_end (map) - map->start - all.allocated, all.data,
                          all.zero + nobody.zero, layers->str);
}

gboolean
map_write_json (const Map *map, const char *vm, const char *disk, MapWrite write, gpointer data)
{
  g_autoptr (GString) text = g_string_sized_new (PIECE + 4096);
  g_auto (GStrv) files = g_new0 (char *, map->files->len + 1);
  Out out = {text, write, data};
  for (guint i = 0; i < map->files->len; i++)
    files[i] = quoted (map->files->pdata[i]);
  g_autofree char *vm_text = vm ? quoted (vm) : NULL;
  g_autofree char *disk_text = disk ? quoted (disk) : NULL;
  g_string_append (text, "{\"schema\":\"rechain.map/1\"");
  if (vm_text != NULL)
    g_string_append_printf (text, ",\"vm\":%s", vm_text);
  if (disk_text != NULL)
    g_string_append_printf (text, ",\"disk\":%s", disk_text);
  g_string_append_printf (text, ",\"virtual-size\":%" G_GUINT64_FORMAT ",\"extents\":[",
                          map->virtual_size);
  for (guint i = 0; i < map->extents->len; i++) {
    if (i > 0)
      g_string_append_c (text, ',');
    put_extent (&out, map_extent (map, i), files);
    if (!flush (&out, PIECE))
      return FALSE;
  }
  g_string_append (text, "],\"totals\":");
  put_totals (&out, map, files);
  g_string_append (text, "}\n");
  return flush (&out, 0);
}
