/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Repairs (jobs/op-repair.c): which cures are whole, in what words they are asked for, and that
 * what is not as it was found any more is left alone. */
#include "tests/unit/unit.h"

#include "tests/unit/model-qemu.h"
#include "tests/unit/ops.h"
#include "tests/unit/temp-dir.h"

#include "jobs/op-repair.h"
#include "jobs/overlay.h"

#include <unistd.h>

#define OVERLAY_SIZE (1 << 20)

static OpDisk *
header_cure (Op *op, const char *file)
{
  return repair_add (op, "vda", "header",
                     json_make ("device", json_str ("vda-top"), "node", json_str ("vda-mid"),
                                "file", json_str (file), "format", json_str ("raw"), "to",
                                json_str ("/img/base.raw"), "was", json_str ("/img/wrong"), NULL));
}

static OpDisk *
bitmap_cure (Op *op, const char *node, const char *name)
{
  return repair_add (op, name, "bitmap",
                     json_make ("node", json_str (node), "name", json_str (name), NULL));
}

static OpDisk *
file_cure (Op *op, const char *path, FileId id, gboolean empty)
{
  Json *known = file_id_to_json (id);
  return repair_add (
      op, path, "file",
      json_make ("path", json_str (path), "id", known, "empty", json_flag (empty), NULL));
}

static const Step *
find_step (const Step *steps, const char *name)
{
  while (steps->name != NULL && !g_str_equal (steps->name, name))
    steps++;
  assert_non_null (steps->name);
  return steps;
}

/* All that a step asks for, a line each; full. */
static char *
asked (const Step *steps, const char *name, Op *op, World *world)
{
  const Step *step = find_step (steps, name);
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; i < op->disks->len; i++) {
    g_autoptr (GPtrArray) asks = step_asks (step, op, op_disk (op, i), world);
    for (guint k = 0; k < asks->len; k++) {
      g_autofree char *line = ask_describe (asks->pdata[k]);
      g_string_append_printf (text, "%s\n", line);
    }
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
assert_asks (const Step *steps, const char *name, Op *op, World *world, const char *words)
{
  g_autofree char *text = asked (steps, name, op, world);
  if (*words == '\0')
    assert_string_equal (text, "");
  else if (strstr (text, words) == NULL)
    fail_test ("'%s' asks '%s', not '%s'", name, text, words);
}

/* ---- whole ----------------------------------------------------------------------------------- */

static void
a_cure_without_what_it_needs_is_not_taken_from_the_journal (void **state)
{
  g_autoptr (Op) op = op_new (OP_REPAIR);
  static const char *const needs[][4] = {
      {"header", "node", "file", "device"},
      {"node", "node"},
      {"bitmap", "node", "name"},
      {"record", "name", "vm"},
      {"file", "path"},
      {"volume", "vg", "lv", "uuid"},
  };
  for (guint i = 0; i < G_N_ELEMENTS (needs); i++)
    for (guint left_out = 0; left_out < 4; left_out++) {
      Json *details = json_make (NULL, NULL);
      gboolean whole = left_out == 0 || needs[i][left_out] == NULL;
      for (guint k = 1; k < 4 && needs[i][k] != NULL; k++)
        if (k != left_out)
          json_set (details, needs[i][k], json_str ("x"));
      assert_int_equal (disk_is_cure (repair_add (op, "x", needs[i][0], details)), whole);
    }
  static const char *const by_name[] = {"job", "export", "server", "socket"};
  for (guint i = 0; i < G_N_ELEMENTS (by_name); i++) {
    OpDisk *disk = repair_add (op, "x", by_name[i], NULL);
    assert_false (disk_is_cure (disk));
    disk->job = g_strdup ("j");
    disk->export = g_strdup ("e");
    disk->socket = g_strdup ("s");
    assert_true (disk_is_cure (disk));
  }
  assert_false (disk_is_cure (repair_add (op, "x", "unheard-of", NULL)));
}

/* ---- in QEMU --------------------------------------------------------------------------------- */

static void
a_plan_shows_each_cure_in_its_own_step (void **state)
{
  g_autoptr (Op) op = op_new (OP_REPAIR);
  header_cure (op, "/img/mid.qcow2");
  repair_add (op, "job", "job", NULL)->job = g_strdup ("rc-01234567-vda-stream");
  repair_add (op, "export", "export", NULL)->export = g_strdup ("rc-01234567-vda-nbd");
  repair_add (op, "node", "node", json_make ("node", json_str ("rc-01234567-vda-ov"), NULL));
  bitmap_cure (op, "vda-top", "since-backup");
  assert_asks (
      repair_steps, "header", op, NULL,
      "change-backing-file\",\"arguments\":{\"device\":\"vda-top\",\"image-node-name\":\"vda-mid\","
      "\"backing-file\":\"/img/base.raw\"}");
  assert_asks (repair_steps, "jobs", op, NULL,
               "job-cancel\",\"arguments\":{\"id\":\"rc-01234567-vda-stream\"}");
  assert_asks (
      repair_steps, "exports", op, NULL,
      "block-export-del\",\"arguments\":{\"id\":\"rc-01234567-vda-nbd\",\"mode\":\"hard\"}");
  assert_asks (repair_steps, "nodes", op, NULL,
               "blockdev-del\",\"arguments\":{\"node-name\":\"rc-01234567-vda-ov\"}");
  assert_asks (
      repair_steps, "bitmaps", op, NULL,
      "block-dirty-bitmap-remove\",\"arguments\":{\"node\":\"vda-top\",\"name\":\"since-backup\"}");
}

static void
steps_that_no_cure_needs_do_not_apply (void **state)
{
  g_autoptr (Op) op = op_new (OP_REPAIR);
  bitmap_cure (op, "vda-top", "since-backup");
  for (const Step *step = repair_steps; step->name != NULL; step++)
    assert_int_equal (step->applies == NULL || step->applies (op),
                      g_str_equal (step->name, "bitmaps") || step->kind == STEP_PIVOT);
}

/* "dirty-bitmaps" of a node, as QEMU tells them. */
static void
add_bitmap (Json *replies, const char *node, const char *name, gboolean inconsistent)
{
  Json *nodes = json_get (replies, "query-named-block-nodes");
  for (gsize i = 0; i < json_length (nodes); i++) {
    Json *one = json_at (nodes, i);
    if (g_strcmp0 (json_get_str (one, "node-name"), node) != 0)
      continue;
    Json *bitmap = json_make ("name", json_str (name), "inconsistent",
                              inconsistent ? json_flag (TRUE) : NULL, NULL);
    json_set (one, "dirty-bitmaps", json_list (bitmap, NULL));
    return;
  }
  fail_test ("there is no node '%s'", node);
}

static void
only_a_bitmap_that_is_inconsistent_still_is_removed (void **state)
{
  for (int inconsistent = 0; inconsistent < 2; inconsistent++) {
    g_autoptr (Op) move = op_for_test (OP_MOVE, dir, 1);
    op_make_files (move);
    Model *model = model_new (move);
    g_autoptr (Json) replies = model_replies (model);
    add_bitmap (replies, "vda-top", "lost", inconsistent);
    g_autoptr (World) world = world_parse (replies, NULL);
    g_autoptr (Op) op = op_new (OP_REPAIR);
    bitmap_cure (op, "vda-top", "lost");
    bitmap_cure (op, "vda-top", "gone");
    assert_asks (repair_steps, "bitmaps", op, world, inconsistent ? "\"lost\"" : "");
    g_autofree char *text = asked (repair_steps, "bitmaps", op, world);
    assert_null (strstr (text, "gone"));
    model_free (model);
  }
}

static void
a_node_that_is_used_or_gone_and_a_job_that_is_gone_are_left_alone (void **state)
{
  g_autoptr (Op) move = op_for_test (OP_MOVE, dir, 1);
  op_make_files (move);
  Model *model = model_new (move);
  g_autoptr (Json) replies = model_replies (model);
  g_autoptr (World) world = world_parse (replies, NULL);
  g_autoptr (Op) op = op_new (OP_REPAIR);
  repair_add (op, "used", "node", json_make ("node", json_str ("vda-top"), NULL));
  repair_add (op, "gone", "node", json_make ("node", json_str ("rc-01234567-vda-ov"), NULL));
  OpDisk *job = repair_add (op, "job", "job", NULL);
  job->job = g_strdup ("rc-01234567-vda-stream");
  assert_asks (repair_steps, "nodes", op, world, "");
  assert_asks (repair_steps, "jobs", op, world, "");
  assert_int_equal (find_step (repair_steps, "jobs")->probe (op, job, world), SEEN_YES);
  model_free (model);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Performs what the step does for @disk itself. */
static gboolean
perform (Op *op, OpDisk *disk, GError **error)
{
  g_autoptr (GPtrArray) asks = step_asks (find_step (repair_files_steps, "files"), op, disk, NULL);
  assert_int_equal (asks->len, 1);
  return ((Ask *)asks->pdata[0])->local (op, disk, error);
}

static FileId
make_file (const char *path, const char *text)
{
  FileId id;
  gboolean exists;
  assert_true (g_file_set_contents (path, text, -1, NULL));
  assert_true (file_identify (path, &id, &exists, NULL) && exists);
  return id;
}

static void
a_file_is_removed_only_as_long_as_it_is_the_one_that_was_found (void **state)
{
  g_autofree char *path = g_build_filename (dir, ".rc-01234567-0.part", NULL);
  g_autoptr (Op) op = op_new (OP_REPAIR);
  FileId id = make_file (path, "x");
  id.ino++;
  assert_true (perform (op, file_cure (op, path, id, FALSE), NULL));
  assert_int_equal (access (path, F_OK), 0);
  id.ino--;
  OpDisk *disk = file_cure (op, path, id, FALSE);
  for (int times = 0; times < 2; times++) { /* again, after a crash */
    assert_true (perform (op, disk, NULL));
    assert_int_equal (access (path, F_OK), -1);
  }
}

static void
an_overlay_that_was_written_to_meanwhile_stays (void **state)
{
  g_autofree char *path = g_build_filename (dir, "overlay.qcow2", NULL);
  g_autoptr (Op) op = op_new (OP_REPAIR);
  OpDisk *disk = file_cure (op, path, make_file (path, "not an empty overlay"), TRUE);
  assert_true (perform (op, disk, NULL));
  assert_int_equal (access (path, F_OK), 0);
}

/* QEMU died between the intent and the change: the header is written with nobody's help. */
static void
a_header_is_put_right_without_qemu_unless_it_is_right (void **state)
{
  g_autofree char *path = g_build_filename (dir, "mid.qcow2", NULL);
  g_autofree char *command = g_strdup_printf (
      "qemu-img create -q -f qcow2 -u -b /img/wrong -F raw '%s' %d", path, OVERLAY_SIZE);
  g_autoptr (Op) op = op_new (OP_REPAIR);
  header_cure (op, path);
  assert_int_equal (system (command), 0);
  assert_asks (dead_repair_steps, "header", op, NULL, "-b /img/base.raw");
  g_autofree char *right =
      g_strdup_printf ("qemu-img rebase -u -f qcow2 -b /img/base.raw -F raw '%s'", path);
  assert_int_equal (system (right), 0);
  assert_asks (dead_repair_steps, "header", op, NULL, "");
}

/* ---- volumes --------------------------------------------------------------------------------- */

static void
a_volume_is_removed_in_a_step_of_its_own (void **state)
{
  g_autoptr (Op) op = op_new (OP_REPAIR);
  assert_false (find_step (repair_files_steps, "volumes")->applies (op));
  repair_add (
      op, "/dev/vg0/x", "volume",
      json_make ("vg", json_str ("vg0"), "lv", json_str ("x"), "uuid", json_str ("u"), NULL));
  assert_true (find_step (repair_files_steps, "volumes")->applies (op));
  assert_asks (repair_files_steps, "volumes", op, NULL, "lvremove -f -y vg0/x, if it is ours");
  assert_asks (repair_files_steps, "files", op, NULL, "");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_cure_without_what_it_needs_is_not_taken_from_the_journal),
      cmocka_unit_test (a_plan_shows_each_cure_in_its_own_step),
      cmocka_unit_test (steps_that_no_cure_needs_do_not_apply),
      cmocka_unit_test (only_a_bitmap_that_is_inconsistent_still_is_removed),
      cmocka_unit_test (a_node_that_is_used_or_gone_and_a_job_that_is_gone_are_left_alone),
      cmocka_unit_test (a_file_is_removed_only_as_long_as_it_is_the_one_that_was_found),
      cmocka_unit_test (an_overlay_that_was_written_to_meanwhile_stays),
      cmocka_unit_test (a_header_is_put_right_without_qemu_unless_it_is_right),
      cmocka_unit_test (a_volume_is_removed_in_a_step_of_its_own),
  };
  return cmocka_run_group_tests (tests, make_dir, remove_dir);
}
