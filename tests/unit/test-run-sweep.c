/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every mishap at every command: whatever k is, the operation ends with the old chain or the new
 * one, all that the guest wrote, and nothing of ours left. */
#include "tests/unit/unit.h"

#include "tests/unit/bad-disk.h"
#include "tests/unit/scene.h"

#include "src/common/error.h"

typedef void (*Mishap) (Scene *scene, guint k);
typedef guint (*Length) (Scene *scene);

typedef struct {
  OpKind kind;
  guint n_disks;
  const char *fail_job;
} Course;

static const Course snapshot = {OP_SNAPSHOT, 2, NULL}, move = {OP_MOVE, 1, NULL},
                    move_two = {OP_MOVE, 2, NULL}, fold = {OP_MOVE, 1, "stream"},
                    fold_two = {OP_MOVE, 2, "stream"};

static guint
count_changes (Scene *scene)
{
  return scene->model->changes;
}

/* Questions come in bursts of eight: every third one is enough of them, and all that
 * lie between. */
static guint every = 1;

static guint
count_commands (Scene *scene)
{
  return scene->model->commands;
}

static guint
length_of (const Course *course, Length length)
{
  Scene scene;
  scene_begin (&scene, course->kind, course->n_disks);
  scene.model->fail_job = course->fail_job;
  scene_run (&scene);
  scene_check_is (&scene, course->fail_job ? OP_UNDONE : OP_DONE);
  guint n = length (&scene);
  scene_end (&scene);
  assert_true (n >= 3);
  return n;
}

/* @play runs it to its end. */
static void
at_every (const Course *course, Length length, Mishap play)
{
  guint n = length_of (course, length);
  for (guint k = 1; k <= n; k += every) {
    Scene scene;
    scene_begin (&scene, course->kind, course->n_disks);
    scene.model->fail_job = course->fail_job;
    print_message ("  %u of %u\n", k, n);
    play (&scene, k);
    if (scene.op->state == OP_STUCK)
      fail_test ("stuck: %s", scene.op->error->message);
    scene_check (&scene);
    scene_end (&scene);
  }
}

/* ---- QEMU says no ---------------------------------------------------------------------------- */

static void
refuse_change (Scene *scene, guint k)
{
  scene->model->refuse_change = k;
  scene_run (scene);
}

static void
refuse_command (Scene *scene, guint k)
{
  scene->model->refuse_command = k;
  scene_run (scene);
}

static void
a_snapshot_may_be_refused_any_change (void **state)
{
  at_every (&snapshot, count_changes, refuse_change);
}

static void
a_move_may_be_refused_any_change (void **state)
{
  at_every (&move_two, count_changes, refuse_change);
}

static void
a_fold_may_be_refused_any_change (void **state)
{
  at_every (&fold, count_changes, refuse_change);
}

static void
a_move_may_be_refused_any_question (void **state)
{
  at_every (&move, count_commands, refuse_command);
}

static void
a_fold_may_be_refused_any_question (void **state)
{
  at_every (&fold, count_commands, refuse_command);
}

/* ---- the monitor is cut ---------------------------------------------------------------------- */

static void
cut_before (Scene *scene, guint k)
{
  scene->model->cut_at = k;
  scene_run (scene);
}

static void
cut_after (Scene *scene, guint k)
{
  scene->model->cut_after = TRUE;
  cut_before (scene, k);
}

static void
the_monitor_may_be_cut_before_any_command_of_a_snapshot (void **state)
{
  at_every (&snapshot, count_commands, cut_before);
}

static void
the_monitor_may_be_cut_after_any_command_of_a_snapshot (void **state)
{
  at_every (&snapshot, count_commands, cut_after);
}

static void
the_monitor_may_be_cut_before_any_command_of_a_move (void **state)
{
  at_every (&move_two, count_commands, cut_before);
}

static void
the_monitor_may_be_cut_after_any_command_of_a_move (void **state)
{
  at_every (&move_two, count_commands, cut_after);
}

static void
the_monitor_may_be_cut_before_any_command_of_a_fold (void **state)
{
  every = 3;
  at_every (&fold_two, count_commands, cut_before);
  every = 1;
}

static void
the_monitor_may_be_cut_after_any_command_of_a_fold (void **state)
{
  every = 3;
  at_every (&fold_two, count_commands, cut_after);
  every = 1;
}

/* ---- cancel ---------------------------------------------------------------------------------- */

static guint cancel_at;

static void
cancel_then (Model *model, const char *command, Json *arguments, gpointer data)
{
  Scene *scene = data;
  if (model->changes == cancel_at)
    runner_cancel (scene->runner, "cancelled for the test");
}

static void
cancel_change (Scene *scene, guint k)
{
  cancel_at = k;
  scene->model->hook = cancel_then;
  scene->model->data = scene;
  scene_run (scene);
}

static void
a_snapshot_may_be_cancelled_at_any_change (void **state)
{
  at_every (&snapshot, count_changes, cancel_change);
}

static void
a_move_may_be_cancelled_at_any_change (void **state)
{
  at_every (&move_two, count_changes, cancel_change);
}

/* ---- the controller dies --------------------------------------------------------------------- */

static RunDirection recover_to;

static void
kill_change (Scene *scene, guint k)
{
  scene_start (scene);
  until (scene->ended > 0 || scene->model->changes >= k);
  scene_kill (scene);
  scene_recover (scene, recover_to);
  OpState settled = scene->op->state;
  if (settled == OP_STUCK)
    return;
  /* Invariant 5: again is harmless. */
  guint changes = scene->model->changes;
  g_autoptr (Journal) journal = journal_open (scene->dir, NULL);
  g_autoptr (Op) again = journal_load (journal, scene->op->id, NULL);
  assert_int_equal (again->state, settled);
  assert_int_equal (journal_owner (journal, again->id, NULL), OWNER_NONE);
  assert_int_equal (scene->model->changes, changes);
}

static void
a_snapshot_whose_controller_dies_at_any_change_is_recovered (void **state)
{
  recover_to = RUN_BY_RECORD;
  at_every (&snapshot, count_changes, kill_change);
}

static void
a_move_whose_controller_dies_at_any_change_is_recovered (void **state)
{
  recover_to = RUN_BY_RECORD;
  at_every (&move_two, count_changes, kill_change);
}

static void
a_move_whose_controller_dies_at_any_change_can_go_on (void **state)
{
  recover_to = RUN_ON;
  at_every (&move, count_changes, kill_change);
}

static void
a_fold_whose_controller_dies_at_any_change_is_recovered (void **state)
{
  recover_to = RUN_BY_RECORD;
  at_every (&fold_two, count_changes, kill_change);
}

/* ---- the journal breaks ---------------------------------------------------------------------- */

static void
is_asked_with_a_broken_journal (Model *model, const char *command, Json *arguments, gpointer data)
{
  /* Nobody is left standing: that alone may still be asked for. */
  gboolean rescue = g_str_equal (command, "cont") || g_str_equal (command, "job-cancel");
  if (bad_disk_is_broken () && !rescue && model->sorry == NULL)
    model->sorry = g_strdup_printf ("'%s' is asked with a broken journal", command);
}

static guint
journal_breaks (const Course *course, BadDisk what, guint k)
{
  Scene scene;
  g_autoptr (GError) error = NULL;
  scene_begin (&scene, course->kind, course->n_disks);
  scene.model->fail_job = course->fail_job;
  scene.model->hook = is_asked_with_a_broken_journal;
  bad_disk_mend ();
  if (k > 0)
    bad_disk_breaks (what, k);
  scene_start (&scene);
  scene_wait (&scene);
  guint n = bad_disk_count (what);
  if (bad_disk_is_broken ()) {
    assert_int_equal (scene.op->state, OP_STUCK);
    assert_error (scene.op->error, STUCK, "journal");
    assert_non_null (strstr (rechain_error_get_hint (scene.op->error), "mend the journal"));
    scene_check (&scene);
    bad_disk_mend ();
    scene_recover (&scene, RUN_BY_RECORD);
    if (scene.op->state == OP_STUCK)
      fail_test ("stuck: %s", scene.op->error->message);
  }
  bad_disk_mend ();
  scene_check (&scene);
  scene_end (&scene);
  return n;
}

static void
journal_breaks_at_every (const Course *course, BadDisk what, guint stride, guint first)
{
  guint n = journal_breaks (course, what, 0);
  assert_true (n > first);
  for (guint k = first; k <= n; k += stride) {
    print_message ("  %u of %u\n", k, n);
    journal_breaks (course, what, k);
  }
}

/* The first syncs record the operation itself: then it does not begin (test-journal.c). */
static void
the_journal_may_fail_to_sync_at_any_step_of_a_move (void **state)
{
  journal_breaks_at_every (&move, BAD_DISK_SYNC, 1, 3);
}

static void
the_journal_may_fail_to_sync_at_any_step_of_a_fold (void **state)
{
  journal_breaks_at_every (&fold, BAD_DISK_SYNC, 1, 3);
}

static void
the_journal_may_fill_up_at_any_step_of_a_fold (void **state)
{
  journal_breaks_at_every (&fold, BAD_DISK_WRITE, 5, 20);
}

int
main (int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_snapshot_may_be_refused_any_change),
      cmocka_unit_test (a_move_may_be_refused_any_change),
      cmocka_unit_test (a_fold_may_be_refused_any_change),
      cmocka_unit_test (a_move_may_be_refused_any_question),
      cmocka_unit_test (a_fold_may_be_refused_any_question),
      cmocka_unit_test (the_monitor_may_be_cut_before_any_command_of_a_snapshot),
      cmocka_unit_test (the_monitor_may_be_cut_after_any_command_of_a_snapshot),
      cmocka_unit_test (the_monitor_may_be_cut_before_any_command_of_a_move),
      cmocka_unit_test (the_monitor_may_be_cut_after_any_command_of_a_move),
      cmocka_unit_test (the_monitor_may_be_cut_before_any_command_of_a_fold),
      cmocka_unit_test (the_monitor_may_be_cut_after_any_command_of_a_fold),
      cmocka_unit_test (a_snapshot_may_be_cancelled_at_any_change),
      cmocka_unit_test (a_move_may_be_cancelled_at_any_change),
      cmocka_unit_test (a_snapshot_whose_controller_dies_at_any_change_is_recovered),
      cmocka_unit_test (a_move_whose_controller_dies_at_any_change_is_recovered),
      cmocka_unit_test (a_move_whose_controller_dies_at_any_change_can_go_on),
      cmocka_unit_test (a_fold_whose_controller_dies_at_any_change_is_recovered),
      cmocka_unit_test (the_journal_may_fail_to_sync_at_any_step_of_a_move),
      cmocka_unit_test (the_journal_may_fail_to_sync_at_any_step_of_a_fold),
      cmocka_unit_test (the_journal_may_fill_up_at_any_step_of_a_fold),
  };
  if (argc > 1)
    cmocka_set_test_filter (argv[1]);
  bad_disk_install ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
