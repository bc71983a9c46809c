/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "jobs/chain.h"
#include "src/common/error.h"

#include <glib/gstdio.h>

#define DIR "/tmp/rc-record"

/* ---- recorded replies (tests/unit/data/record.py) -------------------------------------------- */

static Json *
recorded (const char *name)
{
  g_autofree char *file = g_strdup_printf ("%s.json", name);
  g_autofree char *path =
      g_build_filename (g_getenv ("RECHAIN_SOURCE_DIR"), "tests", "unit", "data", file, NULL);
  g_autofree char *text = NULL;
  assert_true (g_file_get_contents (path, &text, NULL, NULL));
  Json *replies = json_parse (text, -1);
  assert_non_null (replies);
  return replies;
}

static World *
recorded_world (const char *name)
{
  g_autoptr (Json) replies = recorded (name);
  World *world = world_parse (replies, NULL);
  assert_non_null (world);
  return world;
}

static ChainDisk *
disk_of (World *world, const char *name)
{
  g_autoptr (GError) error = NULL;
  ChainDisk *disk = world_find_disk (world, name, &error);
  if (disk == NULL)
    fail_test ("%s", error->message);
  return disk;
}

static ChainLayer *
layer_of (ChainDisk *disk, guint i)
{
  assert_true (i < disk->layers->len);
  return disk->layers->pdata[i];
}

/* The chain as base names, "top.qcow2 mid.qcow2". */
static void
assert_chain (ChainDisk *disk, const char *expected)
{
  g_auto (GStrv) files = chain_files (disk->layers);
  for (guint i = 0; files[i] != NULL; i++) {
    char *base = g_path_get_basename (files[i]);
    g_free (files[i]);
    files[i] = base;
  }
  g_autofree char *line = g_strjoinv (" ", files);
  assert_string_equal (line, expected);
}

static void
assert_names (GPtrArray *names, const char *expected)
{
  g_autoptr (GString) line = g_string_new (NULL);
  for (guint i = 0; i < names->len; i++)
    g_string_append_printf (line, "%s%s", i ? " " : "", (char *)names->pdata[i]);
  assert_string_equal (line->str, expected);
}

static void
disks_of_a_blockdev_guest_are_called_by_their_qdev_id (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  assert_int_equal (world_disks (world)->len, 5);
  ChainDisk *vda = disk_of (world, "vda");
  assert_string_equal (vda->name, "vda");
  assert_string_equal (vda->root_node, "top");
  assert_null (vda->drive);
  assert_null (vda->broken);
  assert_chain (vda, "top.qcow2 mid.qcow2 template.qcow2");
  assert_ptr_equal (disk_of (world, "top"), vda);
  assert_ptr_equal (disk_of (world, DIR "/top.qcow2"), vda);
  assert_string_equal (world_run_state (world), "prelaunch");
  assert_false (world_running (world));
  assert_false (world_migrating (world));
}

static void
a_layer_tells_nodes_sizes_and_the_header_as_it_is (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  ChainDisk *vda = disk_of (world, "vda");
  ChainLayer *top = layer_of (vda, 0), *mid = layer_of (vda, 1), *base = layer_of (vda, 2);
  assert_string_equal (top->file, DIR "/top.qcow2");
  assert_string_equal (top->format, "qcow2");
  assert_string_equal (top->node, "top");
  assert_string_equal (top->protocol_node, "top-f");
  assert_string_equal (top->backing, "mid.qcow2");
  assert_string_equal (top->backing_format, "qcow2");
  assert_false (top->read_only);
  assert_true (mid->read_only);
  assert_string_equal (mid->backing, DIR "/template.qcow2");
  assert_null (base->backing);
  assert_int_equal (base->virtual_size, 16 << 20);
  assert_true (base->has_allocated && base->allocated >= 1 << 20 && base->allocated < 2 << 20);
}

static void
raw_with_and_without_a_format_node_is_one_layer (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  ChainDisk *vdc = disk_of (world, "vdc"), *bare = disk_of (world, "bare");
  assert_chain (vdc, "plain.raw");
  assert_string_equal (layer_of (vdc, 0)->protocol_node, "raw-f");
  assert_string_equal (bare->name, "bare");
  assert_string_equal (bare->qdev, "/machine/peripheral-anon/device[0]/virtio-backend");
  assert_chain (bare, "bare.raw");
  assert_string_equal (layer_of (bare, 0)->format, "raw");
  assert_null (layer_of (bare, 0)->protocol_node);
}

static void
an_empty_tray_is_a_disk_without_layers (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  ChainDisk *cd = disk_of (world, "cd");
  assert_false (cd->inserted);
  assert_true (cd->removable);
  assert_int_equal (cd->layers->len, 0);
  assert_null (cd->root_node);
  assert_null (cd->broken);
}

static void
a_shared_template_names_its_other_users (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  g_autoptr (GPtrArray) others = world_users_of_node (world, "t", "vda");
  g_autoptr (GPtrArray) all = world_users_of_node (world, "t-f", NULL);
  g_autoptr (GPtrArray) none = world_users_of_node (world, "mid", "vda");
  assert_names (others, "vdb");
  assert_names (all, "vda vdb");
  assert_names (none, "");
  assert_int_equal (world_node_parents (world, "t"), 2);
  assert_int_equal (world_node_parents (world, "top"), 1);
  assert_int_equal (world_node_parents (world, "nothing"), 0);
}

static void
nodes_are_found_by_name_prefix_and_role (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  g_autoptr (GPtrArray) names = world_nodes_with_prefix (world, "top");
  assert_names (names, "top top-f");
  assert_true (world_has_node (world, "mid"));
  assert_false (world_has_node (world, "Mid"));
  assert_string_equal (world_node_child (world, "mid", "backing"), "t");
  assert_null (world_node_child (world, "t", "backing"));
  assert_string_equal (world_node_driver (world, "mid"), "qcow2");
  assert_string_equal (world_node_file (world, "mid"), DIR "/mid.qcow2");
  assert_null (world_node_file (world, "none"));
}

static void
drive_guests_have_generated_nodes_and_relative_names (void **state)
{
  g_autoptr (World) world = recorded_world ("drive");
  ChainDisk *vda = disk_of (world, "vda");
  assert_ptr_equal (disk_of (world, "drive0"), vda);
  assert_ptr_equal (disk_of (world, DIR "/c.qcow2"), vda);
  assert_string_equal (vda->drive, "drive0");
  assert_true (g_str_has_prefix (vda->root_node, "#block"));
  assert_null (vda->broken);
  assert_chain (vda, "c.qcow2 b.qcow2 a.qcow2");
  assert_string_equal (layer_of (vda, 0)->file, DIR "/c.qcow2");
  assert_string_equal (layer_of (vda, 0)->backing, "b.qcow2");
  assert_string_equal (disk_of (world, "loose")->name, "loose");
  assert_null (disk_of (world, "loose")->qdev);
}

static void
a_relative_name_without_its_directory_is_not_guessed (void **state)
{
  g_autoptr (Json) replies = recorded ("drive");
  json_object_object_del (replies, "cwd");
  g_autoptr (World) world = world_parse (replies, NULL);
  ChainDisk *vda = disk_of (world, "vda");
  assert_null (layer_of (vda, 0)->file);
  assert_non_null (strstr (vda->broken, "cannot be told"));
}

static void
filters_are_looked_through_and_named (void **state)
{
  g_autoptr (World) world = recorded_world ("filters");
  ChainDisk *vda = disk_of (world, "vda");
  assert_null (vda->broken);
  assert_string_equal (vda->root_node, "thr");
  assert_chain (vda, "over.qcow2 base.qcow2");
  assert_names (layer_of (vda, 0)->filters, "thr cor");
  assert_names (layer_of (vda, 1)->filters, "inner");
  assert_string_equal (layer_of (vda, 0)->protocol_node, "over-f");
  assert_true (layer_of (vda, 0)->has_allocated);
  assert_ptr_equal (disk_of (world, "over"), vda);
  ChainDisk *vdb = disk_of (world, "vdb");
  assert_chain (vdb, "slice.qcow2");
  assert_names (layer_of (vdb, 0)->filters, "slice");
  assert_string_equal (layer_of (vdb, 0)->format, "qcow2");
}

static void
raw_that_shows_only_a_part_is_not_looked_through (void **state)
{
  g_autoptr (Json) replies = recorded ("filters");
  Json *rows = json_get (replies, "query-named-block-nodes");
  for (gsize i = 0; i < json_length (rows); i++)
    if (g_strcmp0 (json_get_str (json_at (rows, i), "node-name"), "slice") == 0)
      json_set (json_get (json_at (rows, i), "image"), "virtual-size", json_int (65536));
  g_autoptr (World) world = world_parse (replies, NULL);
  assert_non_null (strstr (disk_of (world, "vdb")->broken, "slice"));
}

static void
unnamed_job_filters_are_passed_over (void **state)
{
  g_autoptr (World) world = recorded_world ("jobs");
  static const char *const names[] = {"vda", "vdb", "vdc", "vdd"};
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    ChainDisk *disk = disk_of (world, names[i]);
    g_autofree char *chain =
        g_strdup_printf ("%c2.qcow2 %c1.qcow2 %c0.qcow2", 'a' + i, 'a' + i, 'a' + i);
    g_autofree char *root = g_strdup_printf ("%c2", 'a' + i);
    assert_null (disk->broken);
    assert_chain (disk, chain);
    assert_string_equal (disk->root_node, root);
    assert_int_equal (layer_of (disk, 0)->filters->len + layer_of (disk, 1)->filters->len, 0);
    assert_int_equal (disk->jobs->len, 1);
  }
}

static void
jobs_belong_to_the_disks_they_work_on (void **state)
{
  g_autoptr (World) world = recorded_world ("jobs");
  ChainJob *stream = disk_of (world, "vda")->jobs->pdata[0];
  ChainJob *mirror = disk_of (world, "vdd")->jobs->pdata[0];
  assert_string_equal (stream->id, "rc-12345678-vda-stream");
  assert_true (stream->ours);
  assert_string_equal (stream->type, "stream");
  assert_string_equal (stream->status, "running");
  assert_true (stream->has_speed && stream->speed == 1);
  assert_int_equal (stream->current, 524288);
  assert_int_equal (stream->total, 16 << 20);
  assert_string_equal (mirror->type, "mirror");
  assert_false (mirror->ours);
  assert_string_equal (((ChainJob *)disk_of (world, "vdc")->jobs->pdata[0])->status, "ready");
  assert_int_equal (world_jobs (world)->len, 4);
  assert_string_equal (world_job (world, "inner")->type, "commit");
  assert_null (world_job (world, "outer"));
  assert_true (world_node_parents (world, "target") > 0);
}

static void
exports_and_those_that_may_write_are_told_apart (void **state)
{
  g_autoptr (World) world = recorded_world ("exports");
  ChainDisk *vda = disk_of (world, "vda"), *vdb = disk_of (world, "vdb");
  assert_names (vda->exports, "ro");
  assert_names (vda->writable_exports, "");
  assert_names (vdb->exports, "rw");
  assert_names (vdb->writable_exports, "rw");
}

static void
without_the_graph_every_export_counts_as_writable (void **state)
{
  g_autoptr (Json) replies = recorded ("exports");
  json_object_object_del (replies, "x-debug-query-block-graph");
  Json *rows = json_get (replies, "query-named-block-nodes");
  for (gsize i = 0; i < json_length (rows); i++) {
    const char *name = json_get_str (json_at (rows, i), "node-name");
    if (g_strcmp0 (name, "odd") == 0)
      json_set (
          json_at (rows, i), "children",
          json_list (json_make ("child", json_str ("file"), "node-name", json_str ("odd-f"), NULL),
                     json_make ("child", json_str ("backing"), "node-name", json_str ("r"), NULL),
                     NULL));
    if (g_strcmp0 (name, "r") == 0)
      json_set (
          json_at (rows, i), "children",
          json_list (json_make ("child", json_str ("file"), "node-name", json_str ("r-f"), NULL),
                     NULL));
  }
  g_autoptr (World) world = world_parse (replies, NULL);
  ChainDisk *vda = disk_of (world, "vda");
  assert_null (vda->broken);
  assert_chain (vda, "odd,name: \".qcow2 r.qcow2");
  assert_names (vda->writable_exports, "ro");
  assert_int_equal (world_node_parents (world, "r"), 2);
  assert_non_null (disk_of (world, "vdc")->broken);
}

static void
odd_and_blkdebug_names_are_read_from_the_protocol_node (void **state)
{
  g_autoptr (World) world = recorded_world ("exports");
  assert_string_equal (layer_of (disk_of (world, "vda"), 0)->file, DIR "/odd,name: \".qcow2");
  assert_string_equal (layer_of (disk_of (world, "vdc"), 0)->file, DIR "/deb.qcow2");
  assert_null (layer_of (disk_of (world, "vda"), 0)->backing);
}

static void
a_disk_is_copied_with_all_it_has (void **state)
{
  ChainDisk *copy;
  {
    g_autoptr (World) world = recorded_world ("jobs");
    copy = chain_disk_copy (disk_of (world, "vda"));
  }
  assert_chain (copy, "a2.qcow2 a1.qcow2 a0.qcow2");
  assert_int_equal (copy->jobs->len, 1);
  chain_disk_free (copy);
  chain_disk_free (NULL);
  chain_layer_free (NULL);
  chain_job_free (NULL);
}

/* ---- finding --------------------------------------------------------------------------------- */

static void
an_unknown_disk_lists_the_disks (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  static const char *const names[] = {"vdz", "", "mid", DIR "/mid.qcow2", "top-f"};
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autoptr (GError) error = NULL;
    assert_null (world_find_disk (world, names[i], &error));
    assert_error (error, NOT_FOUND, "no disk");
    assert_string_equal (rechain_error_get_hint (error), "disks: vda, vdb, vdc, bare, cd");
  }
}

static void
a_name_of_two_disks_is_refused (void **state)
{
  g_autoptr (Json) replies = recorded ("blockdev");
  json_set (json_at (json_get (replies, "query-block"), 1), "device", json_str ("top"));
  g_autoptr (World) world = world_parse (replies, NULL);
  g_autoptr (GError) error = NULL;
  assert_null (world_find_disk (world, "top", &error));
  assert_error (error, REFUSED, "2 disks");
  assert_non_null (rechain_error_get_hint (error));
}

static void
layers_are_found_by_file_base_name_or_node (void **state)
{
  g_autoptr (World) world = recorded_world ("blockdev");
  GPtrArray *layers = disk_of (world, "vda")->layers;
  assert_int_equal (chain_find_layer (layers, DIR "/mid.qcow2", NULL), 1);
  assert_int_equal (chain_find_layer (layers, "mid.qcow2", NULL), 1);
  assert_int_equal (chain_find_layer (layers, "mid", NULL), 1);
  assert_int_equal (chain_find_layer (layers, "t", NULL), 2);
  g_autoptr (GError) error = NULL;
  assert_int_equal (chain_find_layer (layers, "rc-record/mid.qcow2", &error), -1);
  assert_error (error, NOT_FOUND, "rc-record/mid.qcow2");
  assert_string_equal (rechain_error_get_hint (error),
                       "layers: " DIR "/top.qcow2, " DIR "/mid.qcow2, " DIR "/template.qcow2");
}

static void
a_base_name_in_two_folders_is_refused (void **state)
{
  g_autoptr (GPtrArray) layers = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_layer_free);
  for (guint i = 0; i < 2; i++) {
    ChainLayer *layer = chain_layer_new ();
    layer->file = g_strdup_printf ("/rc-none/%u/a.qcow2", i);
    layer->node = g_strdup_printf ("n%u", i);
    g_ptr_array_add (layers, layer);
  }
  g_autoptr (GError) error = NULL;
  assert_int_equal (chain_find_layer (layers, "a.qcow2", &error), -1);
  assert_error (error, REFUSED, "2 layers");
  assert_int_equal (chain_find_layer (layers, "/rc-none/1/a.qcow2", NULL), 1);
  assert_int_equal (chain_find_layer (layers, "n0", NULL), 0);
}

/* ---- generated graphs ------------------------------------------------------------------------ */

typedef struct {
  Json *disks, *nodes, *names, *edges;
  int id;
} Graph;

static Json *
array_of (Json *value)
{
  Json *array = json_list (NULL, NULL);
  if (value != NULL)
    json_object_array_add (array, value);
  return array;
}

static int
add_node (Graph *graph, const char *name, const char *driver, const char *file)
{
  Json *image = json_make ("filename", json_str (file), "virtual-size", json_int (1 << 20), NULL);
  json_object_array_add (graph->nodes,
                         json_make ("node-name", json_str (name), "drv", json_str (driver), "ro",
                                    json_flag (FALSE), "image", image, NULL));
  json_object_array_add (graph->names,
                         json_make ("id", json_int (++graph->id), "type", json_str ("block-driver"),
                                    "name", json_str (name), NULL));
  return graph->id;
}

static void
add_edge (Graph *graph, int parent, int child, const char *role)
{
  json_object_array_add (graph->edges, json_make ("parent", json_int (parent), "child",
                                                  json_int (child), "name", json_str (role), NULL));
}

/* A disk over @n layers; returns the id of the last layer's node. */
static int
add_disk (Graph *graph, const char *name, guint n)
{
  int above = 0;
  for (guint i = 0; i < n; i++) {
    g_autofree char *node = g_strdup_printf ("%s-%u", name, i);
    g_autofree char *storage = g_strdup_printf ("%s-%u-f", name, i);
    g_autofree char *file = g_strdup_printf ("/rc-none/%s-%u", name, i);
    int format = add_node (graph, node, "qcow2", file);
    add_edge (graph, format, add_node (graph, storage, "file", file), "file");
    if (above != 0)
      add_edge (graph, above, format, "backing");
    above = format;
  }
  g_autofree char *top = g_strdup_printf ("%s-0", name);
  Json *inserted = json_make ("node-name", json_str (top), NULL);
  json_object_array_add (graph->disks, json_make ("device", json_str (""), "qdev", json_str (name),
                                                  "inserted", inserted, NULL));
  return above;
}

static Graph
graph_new (void)
{
  return (Graph){array_of (NULL), array_of (NULL), array_of (NULL), array_of (NULL), 0};
}

static World *
graph_world (Graph *graph)
{
  g_autoptr (Json) replies =
      json_make ("query-block", graph->disks, "query-named-block-nodes", graph->nodes,
                 "x-debug-query-block-graph",
                 json_make ("nodes", graph->names, "edges", graph->edges, NULL), NULL);
  World *world = world_parse (replies, NULL);
  assert_non_null (world);
  return world;
}

static void
two_hundred_layers_on_each_of_eight_disks_are_read_fast (void **state)
{
  Graph graph = graph_new ();
  for (guint i = 0; i < 8; i++) {
    g_autofree char *name = g_strdup_printf ("d%u", i);
    add_disk (&graph, name, CHAIN_MAX_LAYERS);
  }
  gint64 start = g_get_monotonic_time ();
  g_autoptr (World) world = graph_world (&graph);
  gint64 took = g_get_monotonic_time () - start;
  ChainDisk *disk = disk_of (world, "d7");
  assert_null (disk->broken);
  assert_int_equal (disk->layers->len, CHAIN_MAX_LAYERS);
  assert_string_equal (layer_of (disk, 199)->file, "/rc-none/d7-199");
  print_message ("8 disks x 200 layers: %" G_GINT64_FORMAT " us\n", took);
  assert_true (took < 500000); /* generous: sanitizers, loaded machines */
}

static void
a_chain_of_201_layers_is_broken_and_says_so (void **state)
{
  Graph graph = graph_new ();
  add_disk (&graph, "a", CHAIN_MAX_LAYERS + 1);
  g_autoptr (World) world = graph_world (&graph);
  assert_string_equal (disk_of (world, "a")->broken, "the chain has more than 200 layers");
}

static void
loops_end (void **state)
{
  Graph graph = graph_new ();
  add_edge (&graph, add_disk (&graph, "a", 3), 1, "backing"); /* the base backs on the top */
  int self = add_disk (&graph, "b", 1);
  add_edge (&graph, self, self, "backing");
  int filter = add_disk (&graph, "c", 1);
  int over = add_node (&graph, "thr", "throttle", "");
  add_edge (&graph, over, over, "file");
  add_edge (&graph, filter, over, "backing");
  int storage = add_node (&graph, "x", "blkdebug", "");
  int format = add_node (&graph, "d-0", "qcow2", "");
  add_edge (&graph, format, storage, "file");
  add_edge (&graph, storage, storage, "image");
  json_object_array_add (graph.disks,
                         json_make ("qdev", json_str ("d"), "inserted",
                                    json_make ("node-name", json_str ("d-0"), NULL), NULL));
  g_autoptr (World) world = graph_world (&graph);
  assert_string_equal (disk_of (world, "a")->broken, "the chain loops at node 'a-0'");
  assert_non_null (strstr (disk_of (world, "b")->broken, "loops"));
  assert_non_null (strstr (disk_of (world, "c")->broken, "loops"));
  assert_non_null (strstr (disk_of (world, "d")->broken, "no end"));
}

static void
a_hidden_layer_does_not_make_the_chain_shorter_in_silence (void **state)
{
  g_autoptr (Json) replies = recorded ("blockdev");
  Json *edges = json_get (json_get (replies, "x-debug-query-block-graph"), "edges");
  for (gsize i = 0; i < json_length (edges); i++)
    if (g_strcmp0 (json_get_str (json_at (edges, i), "name"), "backing") == 0)
      json_set (json_at (edges, i), "child", json_int (4711));
  g_autoptr (World) world = world_parse (replies, NULL);
  assert_non_null (strstr (disk_of (world, "vda")->broken, "hides the layer under node 'top'"));
}

static void
quorum_is_no_chain (void **state)
{
  Graph graph = graph_new ();
  int base = add_disk (&graph, "a", 1);
  add_edge (&graph, base, add_node (&graph, "q", "quorum", NULL), "backing");
  g_autoptr (World) world = graph_world (&graph);
  assert_non_null (strstr (disk_of (world, "a")->broken, "quorum"));
}

static void
an_export_on_a_filter_of_its_own_belongs_to_the_disk_under_it (void **state)
{
  Graph graph = graph_new ();
  add_disk (&graph, "a", 1);
  add_edge (&graph, add_node (&graph, "cor", "copy-on-read", NULL), 1, "file");
  g_autoptr (Json) replies = json_make (
      "query-block", graph.disks, "query-named-block-nodes", graph.nodes,
      "x-debug-query-block-graph", json_make ("nodes", graph.names, "edges", graph.edges, NULL),
      "query-block-exports",
      json_list (json_make ("id", json_str ("e"), "node-name", json_str ("cor"), NULL), NULL),
      NULL);
  g_autoptr (World) world = world_parse (replies, NULL);
  assert_names (disk_of (world, "a")->exports, "e");
}

static void
two_devices_never_share_a_name (void **state)
{
  Graph graph = graph_new ();
  add_disk (&graph, "a", 1);
  json_object_array_add (graph.disks, json_make ("qdev", json_str ("/machine/peripheral/a/lun[1]"),
                                                 "device", json_str (""), NULL));
  g_autoptr (World) world = graph_world (&graph);
  GPtrArray *disks = world_disks (world);
  assert_string_not_equal (((ChainDisk *)disks->pdata[0])->name,
                           ((ChainDisk *)disks->pdata[1])->name);
}

/* ---- hostile replies ------------------------------------------------------------------------- */

static void
replies_of_wrong_types_are_refused (void **state)
{
  static const char *const texts[] = {"{}",
                                      "[]",
                                      "7",
                                      "null",
                                      "{\"query-block\":[]}",
                                      "{\"query-block\":{},\"query-named-block-nodes\":[]}"};
  for (guint i = 0; i < G_N_ELEMENTS (texts); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (Json) replies = json_parse (texts[i], -1);
    assert_null (world_parse (replies, &error));
    assert_error (error, FAILED, "not a list");
  }
}

/* Walks over every value of @json, replacing the @target-th; returns whether there was one. */
static gboolean
replace_nth (Json *json, int *countdown, Json *with)
{
  if (json_object_is_type (json, json_type_array)) {
    for (gsize i = 0; i < json_length (json); i++) {
      if ((*countdown)-- == 0)
        return json_object_array_put_idx (json, i, json_dup (with)) == 0;
      if (replace_nth (json_at (json, i), countdown, with))
        return TRUE;
    }
  } else if (json_object_is_type (json, json_type_object)) {
    json_object_object_foreach (json, key, value)
    {
      if ((*countdown)-- == 0)
        return json_object_object_add (json, key, json_dup (with)) == 0;
      if (replace_nth (value, countdown, with))
        return TRUE;
    }
  }
  return FALSE;
}

static void
any_value_of_any_other_type_is_survived (void **state)
{
  static const char *const names[] = {"blockdev", "filters", "exports"};
  g_autoptr (Json) text = json_str ("vda");
  g_autoptr (Json) number = json_int (-1);
  Json *values[] = {text, number};
  for (guint n = 0; n < G_N_ELEMENTS (names); n++) {
    for (guint v = 0; v < G_N_ELEMENTS (values); v++) {
      for (int i = (int)v;; i += 3) {
        g_autoptr (Json) replies = recorded (names[n]);
        int countdown = i;
        if (!replace_nth (replies, &countdown, values[v]))
          break;
        g_autoptr (World) world = world_parse (replies, NULL);
        if (world != NULL)
          world_node_file (world, "top");
      }
    }
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (disks_of_a_blockdev_guest_are_called_by_their_qdev_id),
      cmocka_unit_test (a_layer_tells_nodes_sizes_and_the_header_as_it_is),
      cmocka_unit_test (raw_with_and_without_a_format_node_is_one_layer),
      cmocka_unit_test (an_empty_tray_is_a_disk_without_layers),
      cmocka_unit_test (a_shared_template_names_its_other_users),
      cmocka_unit_test (nodes_are_found_by_name_prefix_and_role),
      cmocka_unit_test (drive_guests_have_generated_nodes_and_relative_names),
      cmocka_unit_test (a_relative_name_without_its_directory_is_not_guessed),
      cmocka_unit_test (filters_are_looked_through_and_named),
      cmocka_unit_test (raw_that_shows_only_a_part_is_not_looked_through),
      cmocka_unit_test (unnamed_job_filters_are_passed_over),
      cmocka_unit_test (jobs_belong_to_the_disks_they_work_on),
      cmocka_unit_test (exports_and_those_that_may_write_are_told_apart),
      cmocka_unit_test (without_the_graph_every_export_counts_as_writable),
      cmocka_unit_test (odd_and_blkdebug_names_are_read_from_the_protocol_node),
      cmocka_unit_test (a_disk_is_copied_with_all_it_has),
      cmocka_unit_test (an_unknown_disk_lists_the_disks),
      cmocka_unit_test (a_name_of_two_disks_is_refused),
      cmocka_unit_test (layers_are_found_by_file_base_name_or_node),
      cmocka_unit_test (a_base_name_in_two_folders_is_refused),
      cmocka_unit_test (two_hundred_layers_on_each_of_eight_disks_are_read_fast),
      cmocka_unit_test (a_chain_of_201_layers_is_broken_and_says_so),
      cmocka_unit_test (loops_end),
      cmocka_unit_test (a_hidden_layer_does_not_make_the_chain_shorter_in_silence),
      cmocka_unit_test (quorum_is_no_chain),
      cmocka_unit_test (an_export_on_a_filter_of_its_own_belongs_to_the_disk_under_it),
      cmocka_unit_test (two_devices_never_share_a_name),
      cmocka_unit_test (replies_of_wrong_types_are_refused),
      cmocka_unit_test (any_value_of_any_other_type_is_survived),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
