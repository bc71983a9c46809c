/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The runner without a QEMU: a table of its own whose steps only touch files and run programs. */
#include "tests/unit/unit.h"

#include "tests/unit/fake-qemu.h"
#include "tests/unit/ops.h"

#include "jobs/run-private.h"
#include "src/common/error.h"

#include <glib/gstdio.h>
#include <unistd.h>

typedef struct {
  char *dir, *made;
  Op *op;
  Runner *runner;
  guint ended;
} Case;

/* What the steps do: a file is made, a program runs, and the last one may refuse. */
static const char *program;
static gboolean last_fails;

static gboolean
make (Op *op, OpDisk *disk, GError **error)
{
  return file_create_new (disk->name, NULL, &disk->id, error);
}

static gboolean
unmake (Op *op, OpDisk *disk, GError **error)
{
  return g_unlink (disk->name) == 0 || fail (error, FAILED, "it is gone");
}

static void
ask_make (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  assert_null (world);
  ask_local (asks, "make it", make);
}

static Seen
is_made (Op *op, OpDisk *disk, World *world)
{
  return g_file_test (disk->name, G_FILE_TEST_EXISTS) ? SEEN_YES : SEEN_NO;
}

static void
ask_unmake (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is_made (op, disk, world) == SEEN_YES)
    ask_local (asks, "remove it", unmake);
}

static void
ask_program (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *const argv[] = {"sh", "-c", program, NULL};
  ask_run (asks, g_strdupv ((char **)argv));
}

static gboolean
verify (Op *op, OpDisk *disk, World *world, GError **error)
{
  return last_fails ? fail (error, FAILED, "it is not right") : TRUE;
}

/* clang-format off */
static const Step steps[] = {
  {.name = "make", .says = "make it", .kind = STEP_UNDOABLE, .ask = ask_make, .probe = is_made, .undo = ask_unmake},
  {.name = "run", .says = "run it", .kind = STEP_UNDOABLE, .ask = ask_program, .verify = verify},
  {0},
};
/* clang-format on */

static void
on_ended (Runner *runner, gpointer data)
{
  ((Case *)data)->ended++;
}

static void
make_runner (Case *c, Op *op)
{
  c->op = op;
  c->runner = runner_new (op, journal_open (c->dir, NULL), c->dir, NULL, NULL);
  c->runner->main.steps = steps;
}

static void
begin (Case *c)
{
  *c = (Case){.dir = g_dir_make_tmp ("rechain-XXXXXX", NULL)};
  c->made = g_build_filename (c->dir, "made", NULL);
  program = "exit 0";
  last_fails = FALSE;
  Op *op = op_new (OP_MOVE);
  g_free (op->id);
  op->id = g_strdup (OP_ID);
  op_add_disk (op, c->made);
  make_runner (c, op);
}

static void
start (Case *c)
{
  g_autoptr (GError) error = NULL;
  if (!runner_start (c->runner, on_ended, NULL, c, &error))
    fail_test ("%s", error->message);
}

static void
wait_for_end (Case *c)
{
  until (c->ended > 0);
}

static void
end (Case *c)
{
  g_clear_pointer (&c->runner, runner_unref);
  g_autofree char *command = g_strdup_printf ("rm -rf %s", c->dir);
  assert_int_equal (system (command), 0);
  g_free (c->dir);
  g_free (c->made);
}

static void
an_offline_operation_is_done_without_a_world (void **state)
{
  Case c;
  begin (&c);
  start (&c);
  wait_for_end (&c);
  assert_int_equal (c.op->state, OP_DONE);
  assert_true (g_file_test (c.made, G_FILE_TEST_EXISTS));
  end (&c);
}

static void
what_fails_is_taken_back (void **state)
{
  Case c;
  begin (&c);
  program = "echo no such luck >&2; exit 1";
  start (&c);
  wait_for_end (&c);
  assert_int_equal (c.op->state, OP_UNDONE);
  assert_false (g_file_test (c.made, G_FILE_TEST_EXISTS));
  assert_string_equal (rechain_error_get_cause (c.op->error), "no such luck");
  end (&c);
}

static void
a_step_that_is_not_right_is_taken_back (void **state)
{
  Case c;
  begin (&c);
  last_fails = TRUE;
  start (&c);
  wait_for_end (&c);
  assert_int_equal (c.op->state, OP_UNDONE);
  assert_false (g_file_test (c.made, G_FILE_TEST_EXISTS));
  end (&c);
}

static void
cancelling_ends_the_program_that_runs (void **state)
{
  Case c;
  begin (&c);
  program = "exec sleep 60";
  start (&c);
  until (g_file_test (c.made, G_FILE_TEST_EXISTS));
  gint64 before = g_get_monotonic_time ();
  runner_cancel (c.runner, "the test says so");
  wait_for_end (&c);
  assert_true (g_get_monotonic_time () - before < 5 * G_TIME_SPAN_SECOND);
  assert_int_equal (c.op->state, OP_UNDONE);
  assert_false (g_file_test (c.made, G_FILE_TEST_EXISTS));
  end (&c);
}

static void
what_has_no_job_cannot_be_paused_or_slowed_down (void **state)
{
  Case c;
  begin (&c);
  program = "exec sleep 60";
  start (&c);
  until (g_file_test (c.made, G_FILE_TEST_EXISTS));
  g_autoptr (GError) error = NULL;
  assert_false (runner_pause (c.runner, TRUE, &error));
  assert_int_equal (error->code, REFUSED);
  assert_false (runner_set_bandwidth (c.runner, 1000, NULL));
  runner_cancel (c.runner, "the test says so");
  wait_for_end (&c);
  end (&c);
}

static void
two_offline_operations_do_not_share_a_file (void **state)
{
  Case c;
  begin (&c);
  program = "exec sleep 60";
  start (&c);
  until (g_file_test (c.made, G_FILE_TEST_EXISTS));
  g_autoptr (Journal) journal = journal_open (c.dir, NULL);
  g_autoptr (Op) second = op_new (OP_MOVE);
  g_autoptr (GError) error = NULL;
  op_add_disk (second, c.made);
  assert_false (journal_begin (journal, second, &error));
  assert_int_equal (error->code, REFUSED);
  assert_non_null (strstr (error->message, OP_ID));
  runner_cancel (c.runner, "the test says so");
  wait_for_end (&c);
  end (&c);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (an_offline_operation_is_done_without_a_world),
      cmocka_unit_test (what_fails_is_taken_back),
      cmocka_unit_test (a_step_that_is_not_right_is_taken_back),
      cmocka_unit_test (cancelling_ends_the_program_that_runs),
      cmocka_unit_test (what_has_no_job_cannot_be_paused_or_slowed_down),
      cmocka_unit_test (two_offline_operations_do_not_share_a_file),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
