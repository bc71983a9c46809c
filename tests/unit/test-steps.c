/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tables of steps: their order, what each asks in exact words, and that undo is harmless. */
#include "tests/unit/unit.h"

#include "tests/unit/model-qemu.h"
#include "tests/unit/ops.h"

#include "jobs/blocks.h"
#include "jobs/op-repair.h"

static const Step *const tables[] = {snapshot_steps, move_steps,   merge_steps,
                                     copy_steps,     leave_steps,  fold_steps,
                                     quiesce_steps,  beside_steps, repair_steps};

static void
undoable_steps_come_first_then_one_pivot_then_the_finish (void **state)
{
  for (guint t = 0; t < G_N_ELEMENTS (tables); t++) {
    guint pivots = 0;
    for (const Step *step = tables[t]; step->name != NULL; step++) {
      pivots += step->kind == STEP_PIVOT;
      if (step > tables[t])
        assert_true (step->kind >= step[-1].kind);
    }
    assert_int_equal (pivots, 1);
  }
}

static void
every_step_has_one_word_and_a_sentence (void **state)
{
  for (guint t = 0; t < G_N_ELEMENTS (tables); t++)
    for (const Step *step = tables[t]; step->name != NULL; step++) {
      assert_null (strchr (step->name, ' '));
      assert_non_null (strchr (step->says, ' '));
      assert_non_null (step->ask);
      for (const Step *other = tables[t]; other < step; other++)
        assert_string_not_equal (other->name, step->name);
    }
}

/* Steps that need no undo, or whose outcome cannot be seen, and why. */
static const struct {
  const char *name, *why;
  gboolean no_undo, no_probe;
} exceptions[] = {
    {"flush", "a flush changes nothing that would have to be taken back, or could be seen", TRUE,
     TRUE},
    {"thaw", "a guest that is thawed again is frozen by nobody; without asking it cannot be seen",
     TRUE, TRUE},
    {"bitmaps", "bits that were merged cannot be told apart, and merging them again is harmless",
     FALSE, TRUE},
    {"leave", "its job is gone then; the record of the next step tells that it ended well", FALSE,
     TRUE},
    {"unlock", "opening a file again as it is opened already changes nothing", FALSE, TRUE},
    {"fold-commit", "it starts jobs one by one; fold-copy sees them", FALSE, TRUE},
    {"watch", "QEMU forgets a threshold once it has told of it, and to set it again is harmless",
     FALSE, TRUE},
    {"complete", "its outcome is the same job's next status, which the pivot sees", FALSE, TRUE},
};

static gboolean
is_exempt (const Step *step, gboolean undo)
{
  for (guint i = 0; i < G_N_ELEMENTS (exceptions); i++)
    if (g_str_equal (exceptions[i].name, step->name))
      return undo ? exceptions[i].no_undo : exceptions[i].no_probe;
  return FALSE;
}

static void
every_undoable_step_can_be_seen_and_taken_back_or_has_a_reason (void **state)
{
  for (guint t = 0; t < G_N_ELEMENTS (tables); t++)
    for (const Step *step = tables[t]; step->name != NULL; step++) {
      gboolean undo = step->undo != NULL || step->undo_table != NULL;
      if (step->kind == STEP_FINISH)
        continue;
      if (step->probe == NULL && !is_exempt (step, FALSE))
        fail_test ("step '%s' cannot be seen", step->name);
      if (!undo && step->kind == STEP_UNDOABLE && !is_exempt (step, TRUE))
        fail_test ("step '%s' cannot be taken back", step->name);
      assert_true (!undo || step->undo_says != NULL);
    }
}

static void
every_pivot_looks_at_the_graph_afterwards (void **state)
{
  for (guint t = 0; t < G_N_ELEMENTS (tables); t++)
    for (const Step *step = tables[t]; step->name != NULL; step++)
      if (step->kind == STEP_PIVOT)
        assert_true (step->verify != NULL && step->probe != NULL);
}

static void
a_pivot_that_commits_says_which_layer_it_decides_for (void **state)
{
  for (guint t = 0; t < G_N_ELEMENTS (tables); t++)
    for (const Step *step = tables[t]; step->name != NULL; step++) {
      assert_int_equal (step->commits, step->decides != DECIDED_NOTHING);
      assert_true (!step->commits || step->kind == STEP_PIVOT);
    }
  assert_int_equal (steps_count (fold_steps) > 0, 1);
}

/* ---- exact words ----------------------------------------------------------------------------- */

static char *
all_asks (Op *op, const Step *steps)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (const Step *step = steps; step->name != NULL; step++) {
    if (step->applies != NULL && !step->applies (op))
      continue;
    g_string_append_printf (text, "%s\n", step->name);
    for (guint i = 0; i < (step->once ? 1 : op->disks->len); i++) {
      g_autoptr (GPtrArray) asks = step_asks (step, op, step->once ? NULL : op_disk (op, i), NULL);
      for (guint k = 0; k < asks->len; k++) {
        g_autofree char *line = ask_describe (asks->pdata[k]);
        g_string_append_printf (text, "  %s\n", line);
      }
    }
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
check_golden (const char *name, Op *op, const Step *steps)
{
  g_autofree char *asks = all_asks (op, steps);
  g_autofree char *path =
      g_strdup_printf ("%s/tests/unit/data/steps-%s.txt", g_getenv ("RECHAIN_SOURCE_DIR"), name);
  g_autofree char *golden = NULL;
  if (g_getenv ("RECHAIN_WRITE_GOLDEN") != NULL)
    assert_true (g_file_set_contents (path, asks, -1, NULL));
  assert_true (g_file_get_contents (path, &golden, NULL, NULL));
  assert_string_equal (asks, golden);
}

static void
a_snapshot_asks_in_these_words (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_SNAPSHOT, "/img", 2);
  check_golden ("snapshot", op, snapshot_steps);
}

static void
a_move_asks_in_these_words (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  op->flags |= OP_DELETE;
  op->bandwidth = 10 << 20;
  op->mask_protocol = TRUE;
  check_golden ("move", op, move_steps);
}

static void
a_quiesced_snapshot_asks_in_these_words (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_SNAPSHOT, "/img", 1);
  op->flags |= OP_QUIESCED;
  check_golden ("quiesced", op, snapshot_steps);
}

static void
a_fold_asks_in_these_words (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 2);
  check_golden ("fold", op, fold_steps);
}

/* As a plan makes it: nothing falls out of the chain, and the active layer is exported. */
static Op *
region_op (OpKind kind)
{
  Op *op = op_for_test (OP_MAP, "/img", 1);
  OpDisk *disk = op_disk (op, 0);
  Region region = {.start = 0, .length = 1 << 20};
  char **names[] = {&disk->to,     &disk->old_node, &disk->job,  &disk->fold_job,
                    &disk->export, &disk->part,     &disk->node, &disk->file_node};
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    g_clear_pointer (names[i], g_free);
  op->kind = kind;
  op_name_disk (op, disk);
  disk->socket = g_strdup ("/run/rc-" OP_ID "-0/nbd");
  disk->regions = g_array_new (FALSE, FALSE, sizeof (Region));
  disk->depths = g_array_new (FALSE, FALSE, sizeof (guint));
  g_array_append_val (disk->regions, region);
  return op;
}

static void
a_map_asks_in_these_words (void **state)
{
  g_autoptr (Op) op = region_op (OP_MAP);
  check_golden ("map", op, map_steps);
}

static void
an_allocation_asks_in_these_words (void **state)
{
  g_autoptr (Op) op = region_op (OP_ALLOCATE);
  OpDisk *disk = op_disk (op, 0);
  disk->details = json_make ("fill", json_str ("full"), NULL);
  check_golden ("allocate", op, allocate_steps);
  op->flags |= OP_DETACH_BACKING;
  disk->mode = MODE_STREAM;
  disk->first = 1;
  disk->base = 3;
  disk->node = g_strdup ("vda-top");
  check_golden ("allocate-detach", op, allocate_detach_steps);
}

static void
the_bandwidth_is_shared_between_the_disks (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 2);
  assert_int_equal (bandwidth_share (op, 2), 0);
  op->bandwidth = 1000;
  assert_int_equal (bandwidth_share (op, 2), 500);
  op->bandwidth = 1;
  assert_int_equal (bandwidth_share (op, 2), 1);
}

static void
odd_names_in_a_plan_are_quoted (void **state)
{
  g_autoptr (GPtrArray) asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
  Ask *run = ask_run (asks, g_strsplit ("qemu-img|create|/img/it's odd\n|", "|", -1));
  Ask *ask = ask_qmp (asks, "stop", json_make ("x", json_str ("it's \"odd\"\n"), NULL));
  g_autofree char *argv = ask_describe (run);
  g_autofree char *qmp = ask_describe (ask);
  assert_string_equal (argv, "qemu-img create '/img/it'\\''s odd\n' ''");
  assert_string_equal (qmp, "{\"execute\":\"stop\",\"arguments\":{\"x\":\"it's \\\"odd\\\"\\n\"}}");
}

/* ---- undo ------------------------------------------------------------------------------------ */

/* The undo of a step in the world of @model; the QMP commands in it. */
static guint
undo_step (Op *op, Model *model, const Step *step, gboolean perform)
{
  guint n = 0;
  for (guint i = 0; step->undo && i < (step->once ? 1 : op->disks->len); i++) {
    g_autoptr (Json) replies = model_replies (model);
    g_autoptr (World) world = world_parse (replies, NULL);
    g_autoptr (GPtrArray) asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
    step->undo (op, step->once ? NULL : op_disk (op, i), world, asks);
    for (guint k = 0; k < asks->len; k++) {
      Ask *ask = asks->pdata[k];
      n += ask->command != NULL;
      if (perform && ask->command != NULL && !model_do (model, ask->command, ask->arguments))
        fail_test ("undo of '%s': %s is refused", step->name, ask->command);
    }
  }
  return n;
}

/* All undos of a table, last step first. */
static guint
undo_all (Op *op, Model *model, const Step *steps, gboolean perform)
{
  guint n = 0;
  for (guint s = steps_count (steps); s-- > 0;)
    n += undo_step (op, model, &steps[s], perform);
  return n;
}

static void
an_undo_where_nothing_happened_asks_nothing_of_qemu (void **state)
{
  for (guint t = 0; t < G_N_ELEMENTS (tables); t++) {
    g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 2);
    Model *model = model_new (op);
    assert_int_equal (undo_all (op, model, tables[t], FALSE), 0);
    model_free (model);
  }
}

static void
do_asks (Op *op, Model *model, const Step *step)
{
  for (guint i = 0; i < (step->once ? 1 : op->disks->len); i++) {
    g_autoptr (GPtrArray) asks = step_asks (step, op, step->once ? NULL : op_disk (op, i), NULL);
    for (guint k = 0; k < asks->len; k++) {
      Ask *ask = asks->pdata[k];
      if (ask->command != NULL)
        assert_true (model_do (model, ask->command, ask->arguments));
    }
  }
}

static const Step *
step_named (const Step *steps, const char *name)
{
  while (!g_str_equal (steps->name, name))
    steps++;
  return steps;
}

static void
an_undo_done_twice_is_harmless (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 2);
  Model *model = model_new (op);
  do_asks (op, model, step_named (move_steps, "attach"));
  assert_int_equal (undo_all (op, model, move_steps, TRUE), 2);
  assert_int_equal (undo_all (op, model, move_steps, TRUE), 0);
  assert_int_equal (model_count (model, "rc-"), 0);
  model_free (model);
}

static void
a_job_half_way_is_cancelled_and_dismissed_once (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  Model *model = model_new (op);
  do_asks (op, model, step_named (move_steps, "attach"));
  do_asks (op, model, step_named (move_steps, "snapshot"));
  do_asks (op, model, step_named (move_steps, "stream"));
  const Step *stream = step_named (move_steps, "stream");
  for (guint i = 0; i < 2; i++) {
    g_autoptr (Json) replies = model_replies (model);
    g_autoptr (World) world = world_parse (replies, NULL);
    g_autoptr (GPtrArray) asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
    assert_int_equal (stream->probe (op, op_disk (op, 0), world), i == 0 ? SEEN_HALF : SEEN_NO);
    stream->undo (op, op_disk (op, 0), world, asks);
    for (guint k = 0; k < asks->len; k++)
      if (((Ask *)asks->pdata[k])->command != NULL)
        assert_true (
            model_do (model, ((Ask *)asks->pdata[k])->command, ((Ask *)asks->pdata[k])->arguments));
    assert_int_equal (asks->len > 0, i == 0);
  }
  assert_int_equal (model_asked (model, "job-dismiss"), 1);
  model_free (model);
}

static Seen
probe (Op *op, Model *model, const Step *step)
{
  g_autoptr (Json) replies = model_replies (model);
  g_autoptr (World) world = world_parse (replies, NULL);
  return step->probe (op, op_disk (op, 0), world);
}

static void
add_file_node (Op *op, Model *model)
{
  OpDisk *disk = op_disk (op, 0);
  g_autoptr (Json) file =
      json_make ("driver", json_str ("file"), "node-name", json_str (disk->file_node), "filename",
                 json_str (disk->to), NULL);
  assert_true (model_do (model, "blockdev-add", file));
}

static void
each_probe_tells_no_half_and_yes_apart (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  Model *model = model_new (op);
  const Step *attach = step_named (move_steps, "attach"),
             *snapshot = step_named (move_steps, "snapshot");
  assert_int_equal (probe (op, model, attach), SEEN_NO);
  add_file_node (op, model);
  assert_int_equal (probe (op, model, attach), SEEN_HALF);
  undo_step (op, model, attach, TRUE);
  assert_int_equal (probe (op, model, attach), SEEN_NO);
  do_asks (op, model, attach);
  assert_int_equal (probe (op, model, attach), SEEN_YES);
  assert_int_equal (probe (op, model, snapshot), SEEN_NO);
  do_asks (op, model, snapshot);
  assert_int_equal (probe (op, model, snapshot), SEEN_YES);
  model_free (model);
}

/* As an operation may have added it by itself. */
static void
a_file_node_beside_its_format_node_is_closed_by_the_second_try (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  Model *model = model_new (op);
  OpDisk *disk = op_disk (op, 0);
  const Step *attach = step_named (move_steps, "attach");
  add_file_node (op, model);
  g_autoptr (Json) layer = layer_options (disk, json_str (disk->file_node), NULL);
  assert_true (model_do (model, "blockdev-add", layer));
  undo_step (op, model, attach, TRUE);
  assert_int_equal (probe (op, model, attach), SEEN_HALF);
  undo_step (op, model, attach, TRUE);
  assert_int_equal (probe (op, model, attach), SEEN_NO);
  assert_int_equal (model_count (model, "rc-"), 0);
  model_free (model);
}

static void
nodes_that_somebody_else_uses_are_not_dropped (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  Model *model = model_new (op);
  g_autoptr (Json) shared =
      json_make ("driver", json_str ("qcow2"), "node-name", json_str ("theirs"), "file",
                 json_str ("vda-top-f"), "backing", json_str ("vda-top"), NULL);
  assert_true (model_do (model, "blockdev-add", shared));
  g_autoptr (Json) replies = model_replies (model);
  g_autoptr (World) world = world_parse (replies, NULL);
  g_autoptr (GPtrArray) asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
  drop_nodes (op, op_disk (op, 0), world, asks);
  assert_int_equal (asks->len, 0);
  model_free (model);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (undoable_steps_come_first_then_one_pivot_then_the_finish),
      cmocka_unit_test (every_step_has_one_word_and_a_sentence),
      cmocka_unit_test (every_undoable_step_can_be_seen_and_taken_back_or_has_a_reason),
      cmocka_unit_test (every_pivot_looks_at_the_graph_afterwards),
      cmocka_unit_test (a_pivot_that_commits_says_which_layer_it_decides_for),
      cmocka_unit_test (a_snapshot_asks_in_these_words),
      cmocka_unit_test (a_move_asks_in_these_words),
      cmocka_unit_test (a_quiesced_snapshot_asks_in_these_words),
      cmocka_unit_test (a_fold_asks_in_these_words),
      cmocka_unit_test (a_map_asks_in_these_words),
      cmocka_unit_test (an_allocation_asks_in_these_words),
      cmocka_unit_test (the_bandwidth_is_shared_between_the_disks),
      cmocka_unit_test (odd_names_in_a_plan_are_quoted),
      cmocka_unit_test (an_undo_where_nothing_happened_asks_nothing_of_qemu),
      cmocka_unit_test (an_undo_done_twice_is_harmless),
      cmocka_unit_test (a_job_half_way_is_cancelled_and_dismissed_once),
      cmocka_unit_test (each_probe_tells_no_half_and_yes_apart),
      cmocka_unit_test (a_file_node_beside_its_format_node_is_closed_by_the_second_try),
      cmocka_unit_test (nodes_that_somebody_else_uses_are_not_dropped),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
