/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Maps: extents that merge, what qemu-img prints, regions of a disk. */
#include "tests/unit/unit.h"

#include "jobs/forecast.h"
#include "jobs/map-image.h"
#include "src/common/error.h"

#define SIZE 1000000u

static GPtrArray *
make_layers (guint n)
{
  GPtrArray *layers = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_layer_free);
  for (guint i = 0; i < n; i++) {
    ChainLayer *layer = chain_layer_new ();
    layer->file = g_strdup_printf ("/img/\"%u\".qcow2", i);
    g_ptr_array_add (layers, layer);
  }
  return layers;
}

static gboolean
append (const char *text, gsize length, gpointer data)
{
  g_string_append_len (data, text, (gssize)length);
  return TRUE;
}

/* ---- extents --------------------------------------------------------------------------------- */

static void
neighbours_that_say_the_same_are_one_extent (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) map = map_new (layers, SIZE, 0);
  assert_true (map_add (map, 10, 0, TRUE, FALSE, NULL));
  assert_true (map_add (map, 20, 0, TRUE, FALSE, NULL));
  assert_true (map_add (map, 0, 1, TRUE, FALSE, NULL));
  assert_true (map_add (map, 5, 0, TRUE, TRUE, NULL));
  assert_true (map_add (map, 5, MAP_NOBODY, FALSE, TRUE, NULL));
  assert_true (map_add (map, 5, 1, TRUE, FALSE, NULL));
  assert_int_equal (map->extents->len, 4);
  assert_int_equal (map_extent (map, 0)->length, 30);
  assert_int_equal (map_extent (map, 3)->start, 40);
  assert_int_equal (map_end (map), 45);
  assert_int_equal (map_total (map, 0).allocated, 35);
  assert_int_equal (map_total (map, 0).zero, 5);
  assert_int_equal (map_total (map, MAP_NOBODY).allocated, 0);
}

static void
what_no_disk_can_have_is_an_error (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) map = map_new (layers, SIZE, 0);
  g_autoptr (GError) error = NULL;
  assert_false (map_add (map, 1, 2, TRUE, FALSE, &error));
  g_clear_error (&error);
  assert_false (map_add (map, G_MAXUINT64, 0, TRUE, FALSE, &error));
  assert_int_equal (map->extents->len, 0);
}

static void
the_number_of_extents_is_bounded (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) map = map_new (layers, SIZE, 0);
  g_autoptr (GError) error = NULL;
  for (guint i = 0; i < MAP_MAX_EXTENTS; i++)
    assert_true (map_add (map, 1, i % 2, TRUE, FALSE, NULL));
  assert_false (map_add (map, 1, 0, TRUE, FALSE, &error));
  assert_true (g_error_matches (error, RECHAIN_ERROR, REFUSED));
}

static void
the_document_has_totals_and_names_as_they_are (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) map = map_new (layers, SIZE, 100);
  g_autoptr (GString) text = g_string_new (NULL);
  map_add (map, 10, 1, TRUE, FALSE, NULL);
  map_add (map, 20, MAP_NOBODY, FALSE, TRUE, NULL);
  assert_true (map_write_json (map, NULL, "vda", append, text));
  g_autoptr (Json) json = json_parse (text->str, -1);
  Json *first = json_at (json_get (json, "extents"), 0);
  assert_int_equal (json_get_int (first, "start"), 100);
  assert_string_equal (json_get_str (first, "file"), "/img/\"1\".qcow2");
  assert_false (json_has (json_at (json_get (json, "extents"), 1), "depth"));
  assert_int_equal (json_get_int (json_get (json, "totals"), "unallocated"), 20);
  assert_int_equal (json_get_int (json, "virtual-size"), SIZE);
}

static void
a_region_lies_in_the_disk (void **state)
{
  Region whole = {0}, tail = {.start = 90}, beyond = {.start = 50, .length = 51},
         behind = {.start = 100}, huge = {.start = 50, .length = G_MAXUINT64};
  assert_true (region_clip (&whole, 100, NULL));
  assert_int_equal (whole.length, 100);
  assert_true (region_clip (&tail, 100, NULL));
  assert_int_equal (tail.length, 10);
  assert_false (region_clip (&beyond, 100, NULL));
  assert_false (region_clip (&behind, 100, NULL));
  assert_false (region_clip (&huge, 100, NULL));
}

/* ---- forecasts ------------------------------------------------------------------------------- */

static void
an_allocation_takes_what_the_active_layer_does_not_have (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) map = map_new (layers, SIZE, 0);
  g_autoptr (GArray) regions = g_array_new (FALSE, FALSE, sizeof (Region));
  Region two[] = {{.start = 5, .length = 10}, {.start = 25, .length = 20}};
  Receiver raw = {.cluster = 1, .most = G_MAXUINT64}; /* pieces of a byte */
  Writing writing = {.from = map, .regions = regions, .first = 1, .pieces_of = MAP_NOBODY};
  map_add (map, 10, 1, TRUE, FALSE, NULL);          /* 0: data below */
  map_add (map, 10, 0, TRUE, FALSE, NULL);          /* 10: its own */
  map_add (map, 10, MAP_NOBODY, FALSE, TRUE, NULL); /* 20: nothing */
  map_add (map, 10, 1, FALSE, TRUE, NULL);          /* 30: zeros below */
  map_add (map, 10, 1, TRUE, FALSE, NULL);          /* 40: data below */
  g_array_append_vals (regions, two, G_N_ELEMENTS (two));
  assert_int_equal (forecast (&writing, &raw), 5 + 5);
  writing.full = TRUE;
  assert_int_equal (forecast (&writing, &raw), 5 + 5 + 10 + 5);
  raw.most = 7; /* it has the rest already */
  assert_int_equal (forecast (&writing, &raw), 7);
}

static void
a_commit_takes_what_the_base_does_not_have (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) top = map_new (layers, SIZE, 0), base = map_new (layers, SIZE, 0);
  Receiver raw = {.cluster = 1, .most = G_MAXUINT64}; /* pieces of a byte */
  Writing writing = {.from = top, .has = base, .pieces_of = MAP_NOBODY};
  map_add (top, 30, 0, TRUE, FALSE, NULL);
  map_add (top, 30, MAP_NOBODY, FALSE, TRUE, NULL);
  map_add (top, 40, 1, TRUE, FALSE, NULL);
  map_add (top, 10, 0, FALSE, TRUE, NULL);
  map_add (base, 10, 0, TRUE, FALSE, NULL);
  map_add (base, 10, MAP_NOBODY, FALSE, TRUE, NULL);
  map_add (base, 45, 0, TRUE, FALSE, NULL);
  map_add (base, 15, 0, FALSE, TRUE, NULL); /* its end is at 80 */
  assert_int_equal (forecast (&writing, &raw), 10 + 15 + 20);
  writing.layers_zeros = TRUE;
  assert_int_equal (forecast (&writing, &raw), 10 + 15 + 20 + 10);
}

static void
a_stream_copies_whole_pieces_of_a_raw_layer (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  g_autoptr (Map) map = map_new (layers, SIZE, 0);
  Receiver raw = {.cluster = 1, .most = G_MAXUINT64};
  Writing writing = {.from = map, .first = 1, .pieces_of = 1, .slice = G_MAXINT64};
  map_add (map, 100, 0, TRUE, FALSE, NULL);
  map_add (map, WRITING_PIECE, 1, FALSE, TRUE, NULL); /* a piece without data */
  map_add (map, 10, 1, FALSE, TRUE, NULL);
  map_add (map, 10, 1, TRUE, FALSE, NULL); /* its piece, and once only */
  map_add (map, 10, 1, FALSE, TRUE, NULL);
  map_add (map, 10, 1, TRUE, FALSE, NULL);
  map_add (map, WRITING_PIECE, 1, FALSE, TRUE, NULL);
  map_add (map, 10, 1, TRUE, FALSE, NULL); /* a piece that ends with the layer: 50 bytes */
  map_add (map, 10, 0, FALSE, TRUE, NULL);
  assert_int_equal (forecast (&writing, &raw), WRITING_PIECE + 50);
}

static void
clusters_count_as_a_whole_and_once_with_their_tables (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (1);
  g_autoptr (Map) map = map_new (layers, G_MAXINT64, 0);
  Receiver receiver = receiver_new ("qcow2", 1 << 20);
  Writing writing = {.from = map, .pieces_of = MAP_NOBODY};
  assert_int_equal (forecast (&writing, &receiver),
                    (3 + 1) * 65536); /* header, tables, refcounts */
  receiver.fresh = FALSE;
  assert_int_equal (forecast (&writing, &receiver), 0);
  for (guint i = 0; i < 8; i++) { /* 8 pieces in one cluster */
    map_add (map, 4096, 0, TRUE, FALSE, NULL);
    map_add (map, 4096, MAP_NOBODY, FALSE, TRUE, NULL);
  }
  assert_int_equal (forecast (&writing, &receiver), (1 + 1 + 1) * 65536);
  map_add (map, 513ull << 20, MAP_NOBODY, FALSE, TRUE, NULL); /* beyond the reach of a table */
  map_add (map, 512, 0, TRUE, FALSE, NULL);
  assert_int_equal (forecast (&writing, &receiver), (2 + 2 + 1) * 65536);
}

/* ---- what qemu-img prints -------------------------------------------------------------------- */

static const char printed[] =
    "[{ \"start\": 0, \"length\": 400, \"depth\": 1, \"present\": true, \"zero\": false, "
    "\"data\": true, \"offset\": 327680},\n"
    "{ \"start\": 400, \"length\": 100, \"depth\": 0, \"present\": true, \"zero\": true, "
    "\"data\": false, \"filename\": \"/a}b\\\"]\"},\n"
    "{ \"start\": 500, \"length\": 500, \"depth\": 1, \"present\": false, \"zero\": true, "
    "\"data\": false}]\n";

static Map *
parse (const char *text, gsize piece, GError **error)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  Region all = {.start = 0, .length = 1000};
  g_autoptr (MapParser) parser = map_parser_new (layers, 1000, all, FALSE);
  gsize length = strlen (text);
  for (gsize i = 0; i < length; i += piece)
    if (!map_parser_feed (parser, text + i, MIN (piece, length - i), error))
      return NULL;
  return map_parser_end (parser, error);
}

static void
a_list_is_read_in_pieces_of_any_size (void **state)
{
  for (gsize piece = 1; piece <= sizeof printed; piece++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (Map) map = parse (printed, piece, &error);
    assert_null (error);
    assert_int_equal (map->extents->len, 3);
    assert_int_equal (map_extent (map, 0)->depth, 1);
    assert_true (map_extent (map, 1)->zero);
    assert_int_equal (map_extent (map, 2)->depth, MAP_NOBODY);
  }
}

static void
a_list_that_is_wrong_is_an_error (void **state)
{
  static const char *const wrong[] = {
      "",
      "[",
      "{}",
      "[]",
      "[1]",
      "]",
      "[{\"start\":0,\"length\":1000,\"depth\":0,\"data\":true,\"present\":true}",
      "[{\"start\":0,\"length\":999,\"depth\":0,\"data\":true,\"present\":true}]",
      "[{\"start\":0,\"length\":1001,\"depth\":9,\"data\":true,\"present\":true}]",
      "[{\"start\":0,\"length\":-1,\"depth\":0,\"data\":true,\"present\":true}]",
      "[{\"start\":1,\"length\":999,\"depth\":0,\"data\":true,\"present\":true}]",
      "[{\"start\":0,\"depth\":0,\"data\":true,\"present\":true}]",
      "[{\"start\":0,\"length\":1000,\"depth\":0,\"data\":true}] x",
      "[{\"start\":0,\"length\":99999999999999999999999,\"depth\":0,\"data\":true}]",
      "[{\"start\":0,\"length\":1000,\"depth\":0,\"data\":maybe}]",
      "[{\"start\":0,\"length\":\"1000\",\"depth\":0,\"data\":true}]",
      "[{\"a\":[[[[[[[[]]]]]]]]}]",
  };
  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (Map) map = parse (wrong[i], 7, &error);
    if (map != NULL || error == NULL)
      fail_test ("'%s' was taken", wrong[i]);
  }
}

/* What a map promises, whoever told it. */
static void
assert_sound (const Map *map, guint64 start, guint64 end)
{
  guint64 at = start;
  for (guint i = 0; i < map->extents->len; i++) {
    const MapExtent *extent = map_extent (map, i), *last = i ? map_extent (map, i - 1) : NULL;
    assert_true (extent->length > 0 && extent->start == at);
    assert_true (extent->depth == MAP_NOBODY || extent->depth < map->files->len);
    assert_true (last == NULL || last->depth != extent->depth || last->data != extent->data ||
                 last->zero != extent->zero);
    at += extent->length;
  }
  assert_true (at == end);
}

/* Extents that go back, overlap, leave gaps, have no length or no end, and text that is no text:
 * refused, or taken for a map that is one. */
static void
whatever_is_printed_is_refused_or_a_sound_map (void **state)
{
  static const char *const values[] = {"0",
                                       "1",
                                       "400",
                                       "500",
                                       "-1",
                                       "1000",
                                       "9223372036854775807",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "true",
                                       "false",
                                       "\"x\"",
                                       "null",
                                       "1e3",
                                       "",
                                       "{}",
                                       "[",
                                       "65535"};
  static const char *const keys[] = {"start", "length", "depth", "present",
                                     "zero",  "data",   "offset"};
  g_autoptr (GRand) rand = g_rand_new_with_seed (7);
  guint taken = 0;
  for (guint n = 0; n < 20000; n++) {
    g_autoptr (GString) text = g_string_new (printed);
    for (gint i = g_rand_int_range (rand, 0, 3); i > 0; i--) {
      g_autofree char *key =
          g_strdup_printf ("\"%s\": ", keys[g_rand_int_range (rand, 0, G_N_ELEMENTS (keys))]);
      char *found = strstr (text->str + g_rand_int_range (rand, 0, (gint)text->len), key);
      if (found != NULL) {
        gsize at = (gsize)(found - text->str) + strlen (key);
        g_string_erase (text, (gssize)at, (gssize)strcspn (text->str + at, ",}"));
        g_string_insert (text, (gssize)at,
                         values[g_rand_int_range (rand, 0, G_N_ELEMENTS (values))]);
      }
    }
    if (g_rand_int_range (rand, 0, 4) == 0)
      text->str[g_rand_int_range (rand, 0, (gint)text->len)] =
          (char)g_rand_int_range (rand, 1, 256);
    if (g_rand_int_range (rand, 0, 8) == 0)
      g_string_truncate (text, (gsize)g_rand_int_range (rand, 0, (gint)text->len));
    g_autoptr (GError) error = NULL;
    g_autoptr (Map) map = parse (text->str, (gsize)g_rand_int_range (rand, 1, 400), &error);
    assert_true ((map == NULL) == (error != NULL));
    if (map != NULL)
      assert_sound (map, 0, 1000);
    taken += map != NULL;
  }
  assert_true (taken > 1000 && taken < 19000);
}

/* A list that never ends ends at the limit, whatever it tells of. */
static void
an_endless_list_is_refused (void **state)
{
  g_autoptr (GPtrArray) layers = make_layers (2);
  Region all = {.start = 0, .length = G_MAXINT64};
  g_autoptr (MapParser) parser = map_parser_new (layers, G_MAXINT64, all, FALSE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) text = g_string_new ("[");
  guint64 at = 0;
  gboolean ok = TRUE;
  for (; ok && at <= MAP_MAX_EXTENTS; at++) {
    g_string_append_printf (text,
                            "{\"start\":%" G_GUINT64_FORMAT
                            ",\"length\":1,\"depth\":%u,\"zero\":false,\"data\":true},",
                            at, (guint)(at % 2));
    if (text->len > 65536) {
      ok = map_parser_feed (parser, text->str, text->len, &error);
      g_string_truncate (text, 0);
    }
  }
  assert_true (!ok || !map_parser_feed (parser, text->str, text->len, &error));
  assert_true (g_error_matches (error, RECHAIN_ERROR, REFUSED));
}

/* Longer than any name of a file; what is kept of the text is bounded. */
static void
a_long_name_passes_by_and_an_endless_one_does_not (void **state)
{
  for (guint escapes = 10000; escapes <= 100000; escapes *= 10) {
    g_autoptr (GString) text = g_string_new ("[{\"start\":0,\"filename\":\"");
    g_autoptr (GError) error = NULL;
    for (guint i = 0; i < escapes; i++)
      g_string_append (text, "\\\"");
    g_string_append (text, "\",\"length\":1000,\"depth\":1,\"data\":true}]");
    g_autoptr (Map) map = parse (text->str, 999, &error);
    assert_int_equal (map != NULL, escapes == 10000);
    assert_int_equal (error == NULL, escapes == 10000);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (neighbours_that_say_the_same_are_one_extent),
      cmocka_unit_test (what_no_disk_can_have_is_an_error),
      cmocka_unit_test (the_number_of_extents_is_bounded),
      cmocka_unit_test (the_document_has_totals_and_names_as_they_are),
      cmocka_unit_test (a_region_lies_in_the_disk),
      cmocka_unit_test (an_allocation_takes_what_the_active_layer_does_not_have),
      cmocka_unit_test (a_commit_takes_what_the_base_does_not_have),
      cmocka_unit_test (a_stream_copies_whole_pieces_of_a_raw_layer),
      cmocka_unit_test (clusters_count_as_a_whole_and_once_with_their_tables),
      cmocka_unit_test (a_list_is_read_in_pieces_of_any_size),
      cmocka_unit_test (a_list_that_is_wrong_is_an_error),
      cmocka_unit_test (whatever_is_printed_is_refused_or_a_sound_map),
      cmocka_unit_test (an_endless_list_is_refused),
      cmocka_unit_test (a_long_name_passes_by_and_an_endless_one_does_not),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
