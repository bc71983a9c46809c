/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of an operation, the names of what is ours, and the way to the journal and back. */
#include "tests/unit/unit.h"

#include "tests/unit/ops.h"

#include "src/common/error.h"

static void
every_state_has_a_word_that_reads_back (void **state)
{
  for (guint i = 0; i < N_OP_STATES; i++)
    assert_int_equal (op_state_parse (op_state_name ((OpState)i)), i);
  assert_int_equal (op_state_parse ("asleep"), N_OP_STATES);
  assert_int_equal (op_state_parse (NULL), N_OP_STATES);
  assert_string_equal (op_state_name (N_OP_STATES), "unknown");
}

static void
done_and_undone_are_ends_and_stuck_is_none (void **state)
{
  for (guint i = 0; i < N_OP_STATES; i++)
    assert_int_equal (op_state_is_end ((OpState)i), i == OP_DONE || i == OP_UNDONE);
}

static void
nothing_follows_an_end (void **state)
{
  for (guint to = 0; to < N_OP_STATES; to++) {
    assert_false (op_state_allows (OP_DONE, (OpState)to));
    assert_false (op_state_allows (OP_UNDONE, (OpState)to));
  }
}

static void
every_state_but_the_first_is_reached_from_somewhere (void **state)
{
  for (guint to = OP_PLANNED + 1; to < N_OP_STATES; to++) {
    guint ways = 0;
    for (guint from = 0; from < N_OP_STATES; from++)
      ways += op_state_allows ((OpState)from, (OpState)to);
    assert_true (ways > 0);
  }
}

static void
undoing_does_not_turn_round_again (void **state)
{
  assert_true (op_state_allows (OP_RUNNING, OP_UNDOING));
  assert_false (op_state_allows (OP_UNDOING, OP_RUNNING));
  assert_false (op_state_allows (OP_UNDOING, OP_DONE));
  assert_false (op_state_allows (OP_FINISHING, OP_UNDONE));
  assert_false (op_state_allows (N_OP_STATES, OP_DONE));
}

static void
the_setter_refuses_what_the_table_forbids (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  assert_true (op_set_state (op, OP_PLANNED));
  assert_true (op_set_state (op, OP_RUNNING));
  GLogLevelFlags fatal = g_log_set_always_fatal (G_LOG_FATAL_MASK);
  g_test_expect_message ("rechain", G_LOG_LEVEL_CRITICAL, "*running -> planned is not allowed*");
  assert_false (op_set_state (op, OP_PLANNED));
  g_test_assert_expected_messages ();
  g_log_set_always_fatal (fatal);
  assert_int_equal (op->state, OP_RUNNING);
}

static void
each_operation_has_an_id_of_eight_digits (void **state)
{
  g_autoptr (Op) a = op_new (OP_MOVE);
  g_autoptr (Op) b = op_new (OP_MOVE);
  assert_int_equal (strlen (a->id), 8);
  assert_int_equal (strspn (a->id, "0123456789abcdef"), 8);
  assert_string_not_equal (a->id, b->id);
}

static void
take_names (GHashTable *seen, OpDisk *disk)
{
  const char *names[] = {disk->node, disk->file_node, disk->old_node, disk->job, disk->fold_job};
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    assert_true (strlen (names[i]) <= 31);
    assert_true (g_str_has_prefix (names[i], "rc-" OP_ID "-"));
    for (const char *c = names[i]; *c != '\0'; c++)
      assert_true (g_ascii_isalnum (*c) || strchr ("-._", *c));
    assert_true (g_hash_table_add (seen, g_strdup (names[i])));
  }
  assert_true (g_hash_table_add (seen, g_strdup (disk->part)));
}

static void
the_names_of_all_disks_fit_and_differ (void **state)
{
  static const char *const names[] = {
      "vda",
      "vdb",
      "a-very-long-name-of-a-disk-1",
      "a-very-long-name-of-a-disk-2",
      "virtio/disk,0",
      "virtio:disk,0",
      "",
      "\xc3\xa4\xc3\xb6",
      "#block123",
      "/machine/peripheral/x",
      "%s",
      "a\nb",
      "vda.1",
      "-",
  };
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", G_N_ELEMENTS (names));
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    OpDisk *disk = op_disk (op, i);
    char **old[] = {&disk->name,     &disk->part, &disk->node,     &disk->file_node,
                    &disk->old_node, &disk->job,  &disk->fold_job, &disk->export};
    for (guint k = 0; k < G_N_ELEMENTS (old); k++)
      g_clear_pointer (old[k], g_free);
    disk->name = g_strdup (names[i]);
    op_name_disk (op, disk);
    take_names (seen, disk);
  }
}

static void
a_file_in_the_making_lies_beside_the_target_and_carries_the_id (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  assert_string_equal (op_disk (op, 0)->part, "/img/.rc-" OP_ID "-0.part");
  g_autoptr (Op) root = op_for_test (OP_MOVE, "", 1);
  assert_string_equal (op_disk (root, 0)->part, "/.rc-" OP_ID "-0.part");
}

static void
the_planned_chain_is_the_new_layer_over_what_is_kept (void **state)
{
  g_autoptr (Op) move = op_for_test (OP_MOVE, "/img", 1);
  g_autoptr (Op) snapshot = op_for_test (OP_SNAPSHOT, "/img", 1);
  g_auto (GStrv) moved = op_disk_planned_chain (op_disk (move, 0));
  g_autofree char *m = g_strjoinv (" ", moved);
  assert_string_equal (m, "/img/vda-new.qcow2 /img/vda-base.qcow2");
  g_auto (GStrv) taken = op_disk_planned_chain (op_disk (snapshot, 0));
  g_autofree char *s = g_strjoinv (" ", taken);
  assert_string_equal (
      s, "/img/vda-new.qcow2 /img/vda-top.qcow2 /img/vda-mid.qcow2 /img/vda-base.qcow2");
  op_disk (move, 0)->base = 3;
  g_auto (GStrv) flat = op_disk_planned_chain (op_disk (move, 0));
  assert_int_equal (g_strv_length (flat), 1);
}

/* ---- to the journal and back ----------------------------------------------------------------- */

static Op *
round_trip (Op *op)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Json) plan = op_to_json (op);
  g_autoptr (Json) facts = op_facts_to_json (op);
  g_autofree char *plan_text = json_line (plan);
  g_autofree char *facts_text = json_line (facts);
  g_autoptr (Json) plan_again = json_parse (plan_text, -1);
  g_autoptr (Json) facts_again = json_parse (facts_text, -1);
  Op *again = op_from_json (plan_again, facts_again, &error);
  if (again == NULL)
    fail_test ("%s", error->message);
  return again;
}

static void
assert_same (Op *a, Op *b)
{
  g_autoptr (Json) plan_a = op_to_json (a);
  g_autoptr (Json) plan_b = op_to_json (b);
  g_autoptr (Json) facts_a = op_facts_to_json (a);
  g_autoptr (Json) facts_b = op_facts_to_json (b);
  assert_true (json_object_equal (plan_a, plan_b));
  assert_true (json_object_equal (facts_a, facts_b));
}

static Op *
full_op (void)
{
  Op *op = op_for_test (OP_MOVE, "/img", 2);
  OpDisk *disk = op_disk (op, 1);
  FileId id = {G_MAXUINT32, (guint64)G_MAXINT64, 3, 4};
  op->qemu_pid = 4711;
  op->qemu_start = (guint64)G_MAXINT64;
  op->flags = OP_DELETE | OP_RELATIVE | OP_PIVOT_LIVE;
  op->bandwidth = 10 << 20;
  op->timeout_ms = 60000;
  op->max_pause_ms = 12;
  op->mask_protocol = op->start_held = TRUE;
  op->held = op->switched = TRUE;
  op->attempt = 2;
  op->pause_us = 3456;
  op->bytes = 1 << 20;
  disk->made = TRUE;
  disk->id = id;
  disk->needed = 123;
  disk->has_needed = TRUE;
  disk->drive = g_strdup ("drive-virtio0");
  disk->attach_to = g_strdup ("throttle0");
  disk->cache = json_make ("cache", json_make ("direct", json_flag (TRUE), NULL), NULL);
  g_ptr_array_add (disk->old_ids, g_memdup2 (&id, sizeof id));
  g_ptr_array_add (disk->old_ids, g_memdup2 (&id, sizeof id)); /* of both dropped layers */
  g_ptr_array_add (op->left, g_strsplit ("/img/a,/img/b", ",", -1));
  g_ptr_array_add (op->left, g_strsplit ("", ",", -1));
  g_ptr_array_add (op->after, g_strsplit ("/img/n", ",", -1));
  fail (&op->error, UNDONE, "move vda: stream");
  because (&op->error, "No space left on device");
  hint (&op->error, "make room");
  return op;
}

static void
an_operation_reads_back_as_it_was_written (void **state)
{
  g_autoptr (Op) op = full_op ();
  g_autoptr (Op) again = round_trip (op);
  assert_same (op, again);
  OpDisk *disk = op_disk (again, 1);
  assert_int_equal (again->kind, OP_MOVE);
  assert_int_equal (again->flags, op->flags);
  assert_int_equal (again->qemu_start, op->qemu_start);
  assert_true (again->held && again->switched && again->was_running && again->start_held);
  assert_true (disk->made && file_id_equal (disk->id, op_disk (op, 1)->id));
  assert_true (file_id_equal (*(FileId *)disk->old_ids->pdata[0], disk->id));
  assert_string_equal (disk->attach_to, "throttle0");
  assert_int_equal (disk->index, 1);
  assert_int_equal (disk->before->len, 3);
  assert_string_equal (((ChainLayer *)disk->before->pdata[1])->backing, "/img/vdb-base.qcow2");
}

static void
the_error_keeps_cause_and_hint (void **state)
{
  g_autoptr (Op) op = full_op ();
  g_autoptr (Op) again = round_trip (op);
  assert_error (again->error, UNDONE, "move vda: stream");
  assert_string_equal (rechain_error_get_cause (again->error), "No space left on device");
  assert_string_equal (rechain_error_get_hint (again->error), "make room");
}

static void
odd_file_names_survive (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_SNAPSHOT, "/img/a \"b\", c%\n: d", 1);
  g_autoptr (Op) again = round_trip (op);
  assert_same (op, again);
  assert_string_equal (op_disk (again, 0)->to, op_disk (op, 0)->to);
}

static void
each_missing_piece_makes_a_record_malformed (void **state)
{
  static const char *const of_op[] = {"kind", "id", "vm", "disks"};
  static const char *const of_disk[] = {"name", "to",       "part",     "node",  "file_node",
                                        "job",  "fold_job", "old_node", "before"};
  g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
  g_autoptr (Json) facts = op_facts_to_json (op);
  for (guint i = 0; i < G_N_ELEMENTS (of_op) + G_N_ELEMENTS (of_disk); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (Json) plan = op_to_json (op);
    if (i < G_N_ELEMENTS (of_op))
      json_object_object_del (plan, of_op[i]);
    else
      json_object_object_del (json_at (json_get (plan, "disks"), 0),
                              of_disk[i - G_N_ELEMENTS (of_op)]);
    if (op_from_json (plan, facts, &error) != NULL)
      fail_test ("accepted without '%s'",
                 i < G_N_ELEMENTS (of_op) ? of_op[i] : of_disk[i - G_N_ELEMENTS (of_op)]);
    assert_error (error, FAILED, "malformed");
  }
}

static void
a_base_outside_of_the_chain_is_malformed (void **state)
{
  static const int bases[] = {-1, 4, G_MAXINT};
  for (guint i = 0; i < G_N_ELEMENTS (bases); i++) {
    g_autoptr (Op) op = op_for_test (OP_MOVE, "/img", 1);
    op_disk (op, 0)->base = bases[i];
    g_autoptr (Json) plan = op_to_json (op);
    assert_null (op_from_json (plan, NULL, NULL));
  }
  assert_null (op_from_json (NULL, NULL, NULL));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (every_state_has_a_word_that_reads_back),
      cmocka_unit_test (done_and_undone_are_ends_and_stuck_is_none),
      cmocka_unit_test (nothing_follows_an_end),
      cmocka_unit_test (every_state_but_the_first_is_reached_from_somewhere),
      cmocka_unit_test (undoing_does_not_turn_round_again),
      cmocka_unit_test (the_setter_refuses_what_the_table_forbids),
      cmocka_unit_test (each_operation_has_an_id_of_eight_digits),
      cmocka_unit_test (the_names_of_all_disks_fit_and_differ),
      cmocka_unit_test (a_file_in_the_making_lies_beside_the_target_and_carries_the_id),
      cmocka_unit_test (the_planned_chain_is_the_new_layer_over_what_is_kept),
      cmocka_unit_test (an_operation_reads_back_as_it_was_written),
      cmocka_unit_test (the_error_keeps_cause_and_hint),
      cmocka_unit_test (odd_file_names_survive),
      cmocka_unit_test (each_missing_piece_makes_a_record_malformed),
      cmocka_unit_test (a_base_outside_of_the_chain_is_malformed),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
