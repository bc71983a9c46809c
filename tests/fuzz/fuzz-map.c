/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What qemu-img prints as the map of a hostile image: the first byte says in pieces of which size
 * it comes. */
#include "jobs/map-image.h"

#include <stdint.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static GPtrArray *
make_layers (void)
{
  GPtrArray *layers = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_layer_free);
  for (guint i = 0; i < 3; i++)
    g_ptr_array_add (layers, chain_layer_new ());
  return layers;
}

static Map *
parse (const char *text, size_t size, size_t piece, GError **error)
{
  g_autoptr (GPtrArray) layers = make_layers ();
  Region region = {.start = 0, .length = 1000};
  g_autoptr (MapParser) parser = map_parser_new (layers, 1000, region, piece % 2);
  for (size_t at = 0; at < size; at += piece)
    if (!map_parser_feed (parser, text + at, MIN (piece, size - at), error))
      return NULL;
  return map_parser_end (parser, error);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  g_autoptr (GError) error = NULL;
  g_autoptr (Map) map = parse ((const char *)data + 1, size - 1, (size_t)data[0] + 1, &error);
  g_assert_true ((map == NULL) == (error != NULL));
  guint64 at = 0;
  for (guint i = 0; map != NULL && i < map->extents->len; i++) {
    g_assert_true (map_extent (map, i)->start == at && map_extent (map, i)->length > 0);
    at += map_extent (map, i)->length;
  }
  g_assert_true (map == NULL || at == 1000);
  return 0;
}
