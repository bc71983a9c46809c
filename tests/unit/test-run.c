/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The runner against a QEMU that behaves until the test says otherwise. Every mishap at every
 * command is in test-run-sweep.c. */
#include "tests/unit/unit.h"

#include "tests/unit/bad-disk.h"
#include "tests/unit/scene.h"

#include "src/common/error.h"

#include <glib/gstdio.h>

#define ASKED(model, ...)                                                                          \
  do {                                                                                             \
    const char *const wanted[] = {__VA_ARGS__, NULL};                                              \
    check_log (model, wanted);                                                                     \
  } while (0)

static void
check_log (Model *model, const char *const *wanted)
{
  for (guint i = 0; i < model->log->len; i++) {
    assert_non_null (wanted[i]);
    assert_string_equal (model->log->pdata[i], wanted[i]);
  }
  assert_null (wanted[model->log->len]);
}

/* ---- the normal course ----------------------------------------------------------------------- */

static void
a_snapshot_takes_all_disks_in_one_transaction (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_SNAPSHOT, 2);
  scene_run (&scene);
  scene_check_is (&scene, OP_DONE);
  ASKED (scene.model, "blockdev-add", "blockdev-add", "transaction");
  assert_true (scene.changed >= 3);
  assert_null (scene.op->error);
  scene_end (&scene);
}

static void
a_move_asks_what_its_table_says_in_that_order (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene_run (&scene);
  scene_check_is (&scene, OP_DONE);
  ASKED (scene.model, "blockdev-add", "transaction", "block-stream", "human-monitor-command",
         "job-finalize", "job-dismiss", "human-monitor-command", "blockdev-del", "blockdev-del",
         "blockdev-del", "blockdev-del");
  scene_end (&scene);
}

static void
a_move_tells_what_is_left_and_what_is_there_now (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene_run (&scene);
  char **left = scene.op->left->pdata[0], **after = scene.op->after->pdata[0];
  assert_int_equal (g_strv_length (left), 2);
  assert_true (g_str_has_suffix (left[0], "vda-top.qcow2") &&
               g_file_test (left[0], G_FILE_TEST_EXISTS));
  assert_int_equal (g_strv_length (after), 2);
  assert_true (g_str_has_suffix (after[0], "vda-new.qcow2"));
  assert_true (scene.op->bytes > 0);
  scene_end (&scene);
}

static void
a_move_that_deletes_removes_the_dropped_files_only (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.op->flags |= OP_DELETE;
  scene_run (&scene);
  scene_check_is (&scene, OP_DONE);
  GPtrArray *before = op_disk (scene.op, 0)->before;
  assert_false (g_file_test (((ChainLayer *)before->pdata[0])->file, G_FILE_TEST_EXISTS));
  assert_false (g_file_test (((ChainLayer *)before->pdata[1])->file, G_FILE_TEST_EXISTS));
  assert_true (g_file_test (((ChainLayer *)before->pdata[2])->file, G_FILE_TEST_EXISTS));
  assert_int_equal (g_strv_length (scene.op->removed->pdata[0]), 2);
  scene_end (&scene);
}

static void
a_dropped_file_that_was_replaced_meanwhile_is_left_alone (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.op->flags |= OP_DELETE;
  const char *file = ((ChainLayer *)op_disk (scene.op, 0)->before->pdata[0])->file;
  /* The new one is made before the old one goes, or it could get the same inode. */
  g_autofree char *other = g_strconcat (file, ".other", NULL);
  assert_true (g_file_set_contents (other, "somebody else's", -1, NULL));
  assert_int_equal (g_rename (other, file), 0);
  scene_run (&scene);
  scene_check_is (&scene, OP_STUCK);
  assert_true (g_file_test (file, G_FILE_TEST_EXISTS));
  assert_error (scene.op->error, STUCK, "is not the file");
  scene_end (&scene);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void
a_stream_that_fails_is_folded_back (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->fail_job = "stream";
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_error (scene.op->error, UNDONE, "stream");
  assert_string_equal (rechain_error_get_cause (scene.op->error), "No space left on device");
  assert_int_equal (model_asked (scene.model, "block-commit"), 2);
  assert_int_equal (model_asked (scene.model, "stop"), 1);
  assert_int_equal (model_asked (scene.model, "cont"), 1);
  scene_end (&scene);
}

static void
a_pivot_refused_after_the_commit_record_is_reverted (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->refuse = "job-finalize";
  scene.model->refuse_times = 1;
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_true (scene_journal_has (&scene, "note", "commit record: the new layer"));
  assert_true (scene_journal_has (&scene, "note", "revert: the old layer"));
  assert_error (scene.op->error, UNDONE, "pivot");
  scene_end (&scene);
}

static void
a_pivot_refused_for_one_disk_of_two_takes_both_back (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->refuse = "job-finalize";
  scene.model->refuse_times = 1;
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_int_equal (model_asked (scene.model, "blockdev-reopen"), 1);
  scene_end (&scene);
}

static void
revert_is_durable_before_release (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (g_str_equal (command, "cont") && !scene_journal_has (data, "note", "revert: the overlay"))
    model->sorry = g_strdup ("the guest is continued before the revert is durable");
  if (g_str_equal (command, "cont"))
    model->hook = NULL;
}

static void
a_fold_refused_after_the_commit_record_is_reverted_and_tried_again (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->fail_job = "stream";
  scene.model->refuse = "job-finalize";
  scene.model->refuse_times = 1;
  scene.model->hook = revert_is_durable_before_release;
  scene.model->data = &scene;
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_true (scene_journal_has (&scene, "note", "commit record: the old layer"));
  assert_true (scene_journal_has (&scene, "note", "revert: the overlay"));
  assert_int_equal (model_asked (scene.model, "block-commit"), 2);
  assert_int_equal (model_asked (scene.model, "cont"), 2);
  scene_end (&scene);
}

static void
the_space_is_back (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (g_str_equal (command, "job-cancel") &&
      g_str_has_suffix (json_get_str (arguments, "id"), "-fold"))
    model->fail_job = NULL;
}

static void
a_fold_whose_job_meets_an_error_is_cancelled_and_tried_again (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->refuse = "human-monitor-command";
  scene.model->refuse_times = 1;
  scene.model->fail_job = "commit";
  scene.model->hook = the_space_is_back;
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_null (scene.model->sorry);
  assert_int_equal (model_asked (scene.model, "block-commit"), 4);
  assert_int_equal (scene.op->attempt, 2);
  scene_end (&scene);
}

static void
a_job_that_takes_a_cancel_for_an_end_is_cancelled_again (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->soft_cancels = TRUE;
  scene.model->refuse = "human-monitor-command";
  scene.model->refuse_times = 1;
  scene.model->fail_job = "commit";
  scene.model->hook = the_space_is_back;
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_int_equal (model_asked (scene.model, "block-commit"), 4);
  scene_end (&scene);
}

static void
a_fold_that_is_refused_for_ever_is_stuck_with_the_guest_running (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->fail_job = "stream";
  scene.model->refuse = "job-finalize";
  scene.model->refuse_times = G_MAXUINT;
  scene_run (&scene);
  scene_check_is (&scene, OP_STUCK);
  assert_non_null (strstr (rechain_error_get_hint (scene.op->error), "rechain recover"));
  scene.model->refuse = NULL;
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  scene_end (&scene);
}

static void
an_undo_that_is_refused_for_ever_is_stuck_and_says_so (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->fail_job = "stream";
  scene.model->refuse = "blockdev-del";
  scene.model->refuse_times = G_MAXUINT;
  scene_run (&scene);
  scene_check_is (&scene, OP_STUCK);
  assert_error (scene.op->error, STUCK, "attach: blockdev-del");
  scene.model->refuse = NULL;
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  scene_end (&scene);
}

static void
a_finish_step_that_is_refused_for_ever_is_stuck_and_then_finished (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->refuse = "blockdev-del";
  scene.model->refuse_times = G_MAXUINT;
  scene_run (&scene);
  scene_check_is (&scene, OP_STUCK);
  assert_error (scene.op->error, STUCK, "detach: node ");
  assert_non_null (rechain_error_get_cause (scene.op->error)); /* QEMU's words */
  scene.model->refuse = NULL;
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_DONE);
  scene_end (&scene);
}

static void
the_second_disks_file_that_cannot_be_made_leaves_nothing_of_the_first (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_SNAPSHOT, 2);
  const char *taken = op_disk (scene.op, 1)->to;
  assert_true (g_file_set_contents (taken, "somebody else's", -1, NULL));
  scene_run (&scene);
  assert_int_equal (scene.op->state, OP_UNDONE);
  assert_int_equal (scene.model->changes, 0);
  assert_false (g_file_test (op_disk (scene.op, 0)->to, G_FILE_TEST_EXISTS));
  assert_true (g_file_test (taken, G_FILE_TEST_EXISTS));
  assert_int_equal (g_unlink (taken), 0);
  scene_check (&scene);
  scene_end (&scene);
}

static void
with_no_undo_everything_is_left_for_inspection (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.op->flags |= OP_NO_UNDO;
  scene.model->refuse = "block-stream";
  scene.model->refuse_times = 1;
  scene_run (&scene);
  scene_check_is (&scene, OP_STUCK);
  assert_int_equal (model_asked (scene.model, "block-commit"), 0);
  assert_error (scene.op->error, STUCK, "inspection");
  scene_end (&scene);
}

static void
a_look_that_fails_for_ever_does_not_leave_the_guest_standing (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->fail_job = "stream";
  scene_start (&scene);
  until (!scene.model->running);
  scene.model->refuse = "query-block";
  scene.model->refuse_times = G_MAXUINT;
  scene_wait (&scene);
  scene_check_is (&scene, OP_STUCK);
  scene.model->refuse = NULL;
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  scene_end (&scene);
}

/* ---- the guest ------------------------------------------------------------------------------- */

static void
a_guest_that_was_stopped_by_an_error_on_the_overlay_is_continued (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 1);
  fake_qemu_settle ();
  scene.model->running = FALSE;
  scene.model->run_state = "io-error";
  g_autofree char *event = g_strdup_printf ("{'node-name':'%s','device':'','operation':'write','"
                                            "action':'stop','reason':'No space left on device'}",
                                            op_disk (scene.op, 0)->node);
  qemu_event (scene.model->fake, "BLOCK_IO_ERROR", event);
  scene.model->slow_jobs = FALSE;
  scene_wait (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_error (scene.op->error, UNDONE, "the guest's write to");
  scene_end (&scene);
}

static void
a_guest_that_somebody_else_stopped_stays_stopped (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.op->was_running = FALSE;
  scene.model->running = FALSE;
  scene.model->fail_job = "stream";
  scene_run (&scene);
  assert_int_equal (scene.op->state, OP_UNDONE);
  assert_int_equal (model_asked (scene.model, "stop"), 0);
  assert_int_equal (model_asked (scene.model, "cont"), 0);
  assert_false (scene.model->running);
  scene.model->running = TRUE;
  scene_check (&scene);
  scene_end (&scene);
}

static void
an_old_qemu_starts_a_commit_only_while_the_guest_is_held (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.op->start_held = TRUE;
  scene.model->fail_job = "stream";
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_int_equal (model_asked (scene.model, "stop"), 2);
  assert_int_equal (model_asked (scene.model, "cont"), 2);
  scene_end (&scene);
}

static void
the_pause_is_measured (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->fail_job = "stream";
  scene_run (&scene);
  assert_true (scene.op->pause_us > 0);
  assert_false (scene.op->held);
  scene_end (&scene);
}

/* ---- the caller's side ----------------------------------------------------------------------- */

static void
a_cancel_during_the_copy_undoes (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 2);
  fake_qemu_settle ();
  assert_int_equal (scene.ended, 0);
  runner_cancel (scene.runner, "cancelled by the user");
  runner_cancel (scene.runner, "twice is harmless");
  assert_int_equal (scene.ended, 0);
  scene.model->slow_jobs = FALSE;
  scene_wait (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_error (scene.op->error, UNDONE, "cancelled by the user");
  scene_end (&scene);
}

static void
a_timeout_cancels_and_undoes (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->slow_jobs = TRUE;
  scene.op->timeout_ms = 1000;
  scene_start (&scene);
  until (model_asked (scene.model, "job-cancel") == 1);
  scene.model->slow_jobs = FALSE;
  scene_wait (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_error (scene.op->error, UNDONE, "not done within 1000 ms");
  scene_end (&scene);
}

static void
a_job_that_somebody_else_dismissed_is_no_success (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 1);
  fake_qemu_settle ();
  g_ptr_array_set_size (scene.model->jobs, 0);
  scene.model->slow_jobs = FALSE;
  scene_wait (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_error (scene.op->error, UNDONE, "vanished");
  scene_end (&scene);
}

static void
letting_go_keeps_it_for_recovery (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 1);
  runner_detach (scene.runner, TRUE);
  assert_int_equal (scene.ended, 0);
  scene_wait (&scene);
  assert_true (runner_was_detached (scene.runner));
  assert_error (scene.op->error, STUCK, "let go of at step 'stream'");
  scene.model->slow_jobs = FALSE;
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  scene_end (&scene);
}

static void
the_bandwidth_can_be_changed_and_the_job_paused (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 2);
  fake_qemu_settle ();
  assert_true (runner_set_bandwidth (scene.runner, 1000, NULL));
  assert_true (runner_pause (scene.runner, TRUE, NULL));
  assert_true (runner_pause (scene.runner, FALSE, NULL));
  until (model_asked (scene.model, "job-resume") == 2);
  assert_int_equal (model_asked (scene.model, "block-job-set-speed"), 2);
  assert_int_equal (model_asked (scene.model, "job-pause"), 2);
  model_let_jobs_go (scene.model);
  scene_wait (&scene);
  scene_check_is (&scene, OP_DONE);
  scene_end (&scene);
}

static void
a_runner_that_is_dropped_midway_tells_nobody_and_leaks_nothing (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 2);
  fake_qemu_settle ();
  g_clear_pointer (&scene.runner, runner_unref);
  fake_qemu_settle ();
  assert_int_equal (scene.ended, 0);
  scene_end (&scene);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_snapshot_takes_all_disks_in_one_transaction),
      cmocka_unit_test (a_move_asks_what_its_table_says_in_that_order),
      cmocka_unit_test (a_move_tells_what_is_left_and_what_is_there_now),
      cmocka_unit_test (a_move_that_deletes_removes_the_dropped_files_only),
      cmocka_unit_test (a_dropped_file_that_was_replaced_meanwhile_is_left_alone),
      cmocka_unit_test (a_stream_that_fails_is_folded_back),
      cmocka_unit_test (a_pivot_refused_after_the_commit_record_is_reverted),
      cmocka_unit_test (a_pivot_refused_for_one_disk_of_two_takes_both_back),
      cmocka_unit_test (a_fold_refused_after_the_commit_record_is_reverted_and_tried_again),
      cmocka_unit_test (a_fold_whose_job_meets_an_error_is_cancelled_and_tried_again),
      cmocka_unit_test (a_job_that_takes_a_cancel_for_an_end_is_cancelled_again),
      cmocka_unit_test (a_fold_that_is_refused_for_ever_is_stuck_with_the_guest_running),
      cmocka_unit_test (an_undo_that_is_refused_for_ever_is_stuck_and_says_so),
      cmocka_unit_test (a_finish_step_that_is_refused_for_ever_is_stuck_and_then_finished),
      cmocka_unit_test (the_second_disks_file_that_cannot_be_made_leaves_nothing_of_the_first),
      cmocka_unit_test (with_no_undo_everything_is_left_for_inspection),
      cmocka_unit_test (a_look_that_fails_for_ever_does_not_leave_the_guest_standing),
      cmocka_unit_test (a_guest_that_was_stopped_by_an_error_on_the_overlay_is_continued),
      cmocka_unit_test (a_guest_that_somebody_else_stopped_stays_stopped),
      cmocka_unit_test (an_old_qemu_starts_a_commit_only_while_the_guest_is_held),
      cmocka_unit_test (the_pause_is_measured),
      cmocka_unit_test (a_cancel_during_the_copy_undoes),
      cmocka_unit_test (a_timeout_cancels_and_undoes),
      cmocka_unit_test (a_job_that_somebody_else_dismissed_is_no_success),
      cmocka_unit_test (letting_go_keeps_it_for_recovery),
      cmocka_unit_test (the_bandwidth_can_be_changed_and_the_job_paused),
      cmocka_unit_test (a_runner_that_is_dropped_midway_tells_nobody_and_leaks_nothing),
  };
  bad_disk_install ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
