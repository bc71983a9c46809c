/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal alone, and the invariants at the head of jobs/journal.c, each by its number. */
#include "tests/unit/unit.h"

#include "tests/unit/bad-disk.h"
#include "tests/unit/ops.h"
#include "tests/unit/scene.h"
#include "tests/unit/temp-dir.h"

#include "qmp/client.h"
#include "src/common/error.h"
#include "src/common/process.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int
sound_dir (void **state)
{
  bad_disk_mend ();
  return make_dir (state);
}

static int
remove_sound_dir (void **state)
{
  bad_disk_mend ();
  return remove_dir (state);
}

static Op *
begun (Journal *journal)
{
  g_autoptr (GError) error = NULL;
  Op *op = op_for_test (OP_MOVE, dir, 1);
  op_set_state (op, OP_RUNNING);
  op->started_us = g_get_real_time ();
  if (!journal_begin (journal, op, &error))
    fail_test ("%s", error->message);
  return op;
}

/* ---- the file -------------------------------------------------------------------------------- */

static void
looking_makes_nothing (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *there = g_build_filename (dir, "state", NULL);
  assert_null (journal_open_to_read (there, &error));
  assert_null (error);
  assert_false (g_file_test (there, G_FILE_TEST_EXISTS));
}

static void
the_directory_is_for_its_owner_only (void **state)
{
  struct stat st;
  g_autofree char *deep = g_build_filename (dir, "a", "b", NULL);
  g_autoptr (Journal) journal = journal_open (deep, NULL);
  assert_non_null (journal);
  assert_int_equal (stat (deep, &st), 0);
  assert_int_equal (st.st_mode & 0777, 0700);
}

static void
a_journal_of_a_newer_version_is_refused (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GError) error_reading = NULL;
  g_autofree char *path = g_build_filename (dir, "journal.db", NULL);
  sqlite3 *db = NULL;
  journal_close (journal_in (dir));
  assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
  assert_int_equal (sqlite3_exec (db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close (db);
  assert_null (journal_open (dir, &error));
  assert_error (error, REFUSED, "newer rechain");
  assert_null (journal_open_to_read (dir, &error_reading));
  assert_error (error_reading, REFUSED, "newer rechain");
}

static void
what_is_no_database_is_said_so (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = g_build_filename (dir, "journal.db", NULL);
  assert_true (g_file_set_contents (path,
                                    "this is no database, and longer than a header of one would be"
                                    "                                                       ",
                                    -1, NULL));
  assert_null (journal_open (dir, &error));
  assert_error (error, FAILED, "journal");
  assert_non_null (rechain_error_get_cause (error));
}

static void
a_directory_that_cannot_be_made_is_said_so (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_null (journal_open ("/proc/nowhere", &error));
  assert_non_null (error);
  assert_non_null (strstr (rechain_error_get_hint (error), "--state-dir"));
}

/* ---- what is written is read back ------------------------------------------------------------ */

static void
lines_and_facts_are_there_after_reopening (void **state)
{
  Journal *journal = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  op->held = TRUE;
  op->decided = DECIDED_OLD;
  journal_note (journal, op, "hold", NULL, "fold", "intent", "stop");
  journal_note (journal, op, "stream", "vda", "do", "failed", "no UTF-8: \xff");
  assert_true (journal_write (journal, op, NULL));
  journal_close (journal);
  g_autoptr (Journal) again = journal_in (dir);
  g_autoptr (Op) loaded = journal_load (again, OP_ID, NULL);
  assert_true (loaded->held);
  assert_int_equal (loaded->decided, DECIDED_OLD);
  assert_int_equal (loaded->state, OP_RUNNING);
  assert_int_equal (loaded->started_us, op->started_us);
  g_autoptr (Json) steps = journal_steps (again, OP_ID, NULL);
  assert_int_equal (json_length (steps), 2);
  assert_string_equal (json_get_str (json_at (steps, 0), "step"), "hold");
  assert_null (json_get_str (json_at (steps, 0), "disk"));
  assert_string_equal (json_get_str (json_at (steps, 1), "disk"), "vda");
}

static void
an_operation_is_found_by_the_beginning_of_its_id (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GError) missing = NULL;
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  g_autoptr (Op) found = journal_load (journal, "0bad", NULL);
  assert_string_equal (found->id, OP_ID);
  assert_null (journal_load (journal, "ffff", &missing));
  assert_error (missing, NOT_FOUND, "there is no operation 'ffff'");
  assert_null (journal_load (NULL, "ffff", &error));
  assert_error (error, NOT_FOUND, "ffff");
}

static void
a_beginning_that_fits_two_is_ambiguous (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Journal) second = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  g_autoptr (Op) other = op_for_test (OP_SNAPSHOT, "/elsewhere", 1);
  other->id[7] = 'd';
  assert_true (journal_begin (second, other, NULL));
  assert_null (journal_load (journal, "0bad", &error));
  assert_error (error, REFUSED, "more than one");
  g_auto (GStrv) ids = journal_list (journal, FALSE, NULL, NULL);
  assert_int_equal (g_strv_length (ids), 2);
  g_auto (GStrv) here = journal_list (journal, TRUE, op->vm, NULL);
  assert_int_equal (g_strv_length (here), 1);
}

static void
two_operations_do_not_touch_one_disk (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Journal) second = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  g_autoptr (Op) other = op_for_test (OP_SNAPSHOT, dir, 2);
  other->id[7] = 'd';
  assert_false (journal_begin (second, other, &error));
  assert_error (error, REFUSED, "has not ended");
  g_autofree char *open = journal_find_open (journal, op->vm, "vda");
  assert_string_equal (open, OP_ID);
  assert_null (journal_find_open (journal, op->vm, "vdb"));
  op->ended_us = 1;
  op_set_state (op, OP_FINISHING);
  op_set_state (op, OP_DONE);
  assert_true (journal_release (journal, op, TRUE, NULL));
  assert_null (journal_find_open (journal, op->vm, NULL));
  assert_true (journal_begin (second, other, NULL));
}

static void
a_record_that_makes_no_sense_is_malformed_and_no_crash (void **state)
{
  static const char *const plans[] = {"", "null", "[]", "{}", "{\"id\": 1}", "{\"disks\": {}}"};
  g_autofree char *path = g_build_filename (dir, "journal.db", NULL);
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  for (guint i = 0; i < G_N_ELEMENTS (plans); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *sql =
        g_strdup_printf ("UPDATE operations SET plan = '%s', facts = 'x'", plans[i]);
    sqlite3 *db = NULL;
    assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
    assert_int_equal (sqlite3_exec (db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close (db);
    assert_null (journal_load (journal, OP_ID, &error));
    assert_error (error, FAILED, "malformed");
    assert_null (journal_find_open (journal, op->vm, "vda"));
  }
}

/* ---- the invariants -------------------------------------------------------------------------- */

/* The line of the journal that announces a command, as others see the journal at this moment. */
static void
check_intent (Model *model, const char *command, Json *arguments, gpointer data)
{
  g_autoptr (Json) asked = json_make ("execute", json_str (command), "arguments",
                                      arguments ? json_dup (arguments) : NULL, NULL);
  g_autofree char *line = json_line (asked);
  if (!scene_journal_has (data, "intent", line) && model->sorry == NULL)
    model->sorry = g_strdup_printf ("no intent is on record for %s", line);
}

static void
play (OpKind kind, const char *fail_job, ModelHook hook, OpState end)
{
  Scene scene;
  scene_begin (&scene, kind, 2);
  scene.model->fail_job = fail_job;
  scene.model->hook = hook;
  scene.model->data = &scene;
  scene_run (&scene);
  scene_check_is (&scene, end);
  scene_end (&scene);
}

static void
invariant_1_intent_is_durable_before_it_is_asked (void **state)
{
  play (OP_SNAPSHOT, NULL, check_intent, OP_DONE);
  play (OP_MOVE, NULL, check_intent, OP_DONE);
}

/* What QEMU concludes by itself (the failed stream) is dismissed before the look: its outcome is on
 * record, and the dismissal needs no intent to be undone. */
static void
check_intent_or_dismissal (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (!g_str_equal (command, "job-dismiss"))
    check_intent (model, command, arguments, data);
}

static void
invariant_1_holds_on_the_way_back_too (void **state)
{
  play (OP_MOVE, "stream", check_intent_or_dismissal, OP_UNDONE);
}

static void
invariant_1_no_image_is_made_before_its_intent_is_durable (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_SNAPSHOT, 1);
  bad_disk_mend ();
  scene_start (&scene); /* the operation is on record; the first step is not */
  bad_disk_breaks (BAD_DISK_SYNC, 1);
  scene_wait (&scene);
  assert_int_equal (scene.op->state, OP_STUCK);
  assert_false (g_file_test (op_disk (scene.op, 0)->part, G_FILE_TEST_EXISTS));
  assert_false (g_file_test (op_disk (scene.op, 0)->to, G_FILE_TEST_EXISTS));
  assert_int_equal (scene.model->changes, 0);
  bad_disk_mend ();
  scene_end (&scene);
}

static void
check_outcome (Model *model, const char *command, Json *arguments, gpointer data)
{
  const char *job = json_get_str (arguments, "id");
  g_autofree char *seen = g_strdup_printf ("job %s is concluded", job ? job : "");
  g_autofree char *found = g_strdup_printf ("job %s concluded", job ? job : "");
  if (g_str_equal (command, "job-dismiss") && !scene_journal_has (data, "note", seen) &&
      !scene_journal_has (data, "note", found) && model->sorry == NULL)
    model->sorry = g_strdup_printf ("job %s is dismissed before its outcome is on record", job);
}

static void
invariant_2_no_job_is_dismissed_before_its_outcome_is_durable (void **state)
{
  play (OP_MOVE, NULL, check_outcome, OP_DONE);
  play (OP_MOVE, "stream", check_outcome, OP_UNDONE);
}

static void
invariant_3_what_cannot_be_recorded_is_not_begun (void **state)
{
  for (guint what = 0; what < N_BAD_DISK; what++) {
    Scene scene;
    g_autoptr (GError) error = NULL;
    scene_begin (&scene, OP_MOVE, 1);
    bad_disk_mend ();
    bad_disk_breaks ((BadDisk)what, 1);
    assert_false (runner_start (scene.runner, NULL, NULL, NULL, &error));
    assert_error (error, FAILED, "cannot record a new operation");
    assert_non_null (rechain_error_get_cause (error));
    g_autofree char *lock = journal_run_path (scene.dir, scene.op->id, ".lock");
    assert_false (g_file_test (lock, G_FILE_TEST_EXISTS));
    fake_qemu_settle ();
    assert_int_equal (scene.op->state, OP_PLANNED);
    assert_int_equal (scene.model->commands, 0);
    bad_disk_mend ();
    scene_end (&scene);
  }
}

static void
invariant_3_an_fsync_error_is_an_error (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  bad_disk_mend ();
  bad_disk_breaks (BAD_DISK_SYNC, 1);
  journal_note (journal, op, "stream", "vda", "do", "intent", "x");
  assert_false (journal_write (journal, op, &error));
  assert_error (error, FAILED, "cannot record a step");
  assert_true (bad_disk_is_broken ());
}

static void
invariant_3_in_the_middle_it_stops_and_says_so (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 1);
  guint changes = scene.model->changes;
  bad_disk_breaks (BAD_DISK_WRITE, 0);
  model_let_jobs_go (scene.model);
  scene_wait (&scene);
  assert_int_equal (scene.op->state, OP_STUCK);
  assert_error (scene.op->error, STUCK, "the journal in");
  assert_non_null (strstr (rechain_error_get_hint (scene.op->error), "mend the journal"));
  assert_int_equal (scene.model->changes, changes);
  bad_disk_mend ();
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  scene_end (&scene);
}

static void
invariant_3_a_commit_record_that_is_not_durable_is_none (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene_start (&scene);
  until (model_asked (scene.model, "human-monitor-command") == 1);
  bad_disk_breaks (BAD_DISK_SYNC, 0);
  scene_wait (&scene);
  assert_int_equal (scene.op->state, OP_STUCK);
  assert_int_equal (scene.op->decided, DECIDED_NOTHING);
  assert_int_equal (model_asked (scene.model, "job-finalize"), 0);
  bad_disk_mend ();
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  scene_end (&scene);
}

static void
invariant_4_a_snapshot_on_record_that_never_happened_is_not_folded (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->cut_at = G_MAXUINT;
  scene_start (&scene);
  /* The intent of the transaction is on record; QEMU never gets it. */
  until (scene_journal_has (&scene, "intent", "transaction"));
  scene.model->dead = TRUE;
  scene_kill (&scene);
  assert_int_equal (model_asked (scene.model, "transaction"), 0);
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  assert_int_equal (model_asked (scene.model, "block-commit"), 0);
  scene_end (&scene);
}

static void
invariant_4_a_pivot_that_happened_is_seen_whatever_the_record_says (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_SNAPSHOT, 1);
  scene_start (&scene);
  until (model_asked (scene.model, "transaction") == 1);
  scene_kill (&scene); /* its reply was never read */
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (model_asked (scene.model, "transaction"), 1);
  scene_end (&scene);
}

static void
count_step (Runner *runner, gpointer data)
{
  ++*(guint *)data;
}

static void
invariant_5_recovery_after_recovery_is_harmless (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 1);
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") == 1);
  for (guint i = 0; i < 3; i++) { /* killed again and again, at different moments of the way back */
    scene_kill (&scene);
    model_cut (scene.model);
    until (!scene.model->dead);
    g_autoptr (Journal) mine = journal_open (scene.dir, NULL);
    Op *op = journal_load (mine, OP_ID, NULL);
    g_autoptr (QmpClient) client = qmp_client_new (op->vm, 0, NULL);
    scene.op = op;
    scene.runner = runner_new (op, g_steal_pointer (&mine), scene.dir, client, NULL);
    guint before = scene.model->changes, steps = 0;
    assert_true (runner_recover (scene.runner, RUN_BY_RECORD, NULL, count_step, &steps, NULL));
    /* A fold that was found is only waited for. */
    until (scene.model->changes > before + i ||
           (steps > 0 && model_asked (scene.model, "block-commit") == 1));
    scene.ended = 1; /* nobody was told */
  }
  scene_kill (&scene);
  model_let_jobs_go (scene.model);
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  assert_int_equal (model_asked (scene.model, "block-commit"), 1);
  scene_end (&scene);
}

static void
invariant_5_recovery_after_nothing_happened_is_harmless (void **state)
{
  Scene scene;
  scene_begin (&scene, OP_MOVE, 2);
  scene_start (&scene);
  scene_kill (&scene); /* begun, and not one step done */
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  assert_int_equal (scene.model->changes, 0);
  scene_end (&scene);
}

/* A process that owns the operation until it is killed. */
static pid_t
start_owner (void)
{
  int ready[2];
  char byte;
  assert_int_equal (pipe (ready), 0);
  pid_t pid = fork ();
  if (pid == 0) {
    Journal *journal = journal_open (dir, NULL);
    Op *op = op_for_test (OP_MOVE, dir, 1);
    op_set_state (op, OP_RUNNING);
    if (journal && journal_begin (journal, op, NULL) && write (ready[1], "x", 1) == 1)
      pause ();
    _exit (1);
  }
  close (ready[1]);
  assert_int_equal (read (ready[0], &byte, 1), 1);
  close (ready[0]);
  return pid;
}

static void
invariant_6_a_live_owner_keeps_its_operation_and_a_dead_one_loses_it (void **state)
{
  g_autoptr (GError) error = NULL;
  pid_t owner, pid = start_owner ();
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = journal_load (journal, OP_ID, NULL);
  assert_int_equal (journal_owner (journal, OP_ID, &owner), OWNER_ALIVE);
  assert_int_equal (owner, pid);
  assert_false (journal_take_over (journal, op, &error));
  assert_error (error, REFUSED, "is being run by process");
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  assert_int_equal (journal_owner (journal, OP_ID, NULL), OWNER_DEAD);
  assert_true (journal_take_over (journal, op, NULL));
  assert_int_equal (journal_owner (journal, OP_ID, &owner), OWNER_ALIVE);
  assert_int_equal (owner, getpid ());
}

/* Its lock outlives it for a moment: threads end one by one, and a child that has not become
 * another program yet has it, too. */
static void
invariant_6_who_takes_over_waits_for_the_lock_of_the_dead (void **state)
{
  int ready[2];
  char byte;
  assert_int_equal (pipe (ready), 0);
  pid_t pid = fork ();
  if (pid == 0) {
    Journal *own = journal_open (dir, NULL);
    Op *op = op_for_test (OP_MOVE, dir, 1);
    op_set_state (op, OP_RUNNING);
    if (!own || !journal_begin (own, op, NULL))
      _exit (1);
    if (fork () == 0) {
      g_usleep (300000);
      _exit (0);
    }
    _exit (write (ready[1], "x", 1) != 1);
  }
  assert_int_equal (read (ready[0], &byte, 1), 1);
  close (ready[0]);
  close (ready[1]);
  waitpid (pid, NULL, 0);
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = journal_load (journal, OP_ID, NULL);
  assert_true (journal_take_over (journal, op, NULL));
}

/* Nothing takes SIGKILL back: whoever was sent it is no owner, though it may not have noticed. */
static void
invariant_6_who_is_being_killed_is_dead (void **state)
{
  pid_t pid = start_owner ();
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = journal_load (journal, OP_ID, NULL);
  kill (pid, SIGKILL);
  assert_true (journal_take_over (journal, op, NULL));
  waitpid (pid, NULL, 0);
}

static void
invariant_6_two_takers_cannot_both_have_it (void **state)
{
  g_autoptr (GError) error = NULL;
  Journal *first = journal_in (dir);
  g_autoptr (Op) op = begun (first);
  journal_close (first); /* let go of without a word, as the dead do */
  g_autoptr (Journal) one = journal_in (dir);
  g_autoptr (Journal) two = journal_in (dir);
  assert_true (journal_take_over (one, op, NULL));
  assert_false (journal_take_over (two, op, &error));
  assert_error (error, REFUSED, "is being run by another process");
}

static void
invariant_6_a_process_with_the_same_number_is_not_the_owner (void **state)
{
  g_autofree char *path = g_build_filename (dir, "journal.db", NULL);
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = begun (journal);
  sqlite3 *db = NULL;
  assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
  assert_int_equal (
      sqlite3_exec (db, "UPDATE operations SET owner_start = owner_start - 1", NULL, NULL, NULL),
      SQLITE_OK);
  sqlite3_close (db);
  assert_int_equal (journal_owner (journal, OP_ID, NULL), OWNER_DEAD);
  assert_int_equal (journal_owner (journal, "ffffffff", NULL), OWNER_NONE);
  assert_true (process_start_time (getpid ()) > 0);
  assert_int_equal (process_start_time (0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown (name, sound_dir, remove_sound_dir)

int
main (int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
      TEST (looking_makes_nothing),
      TEST (the_directory_is_for_its_owner_only),
      TEST (a_journal_of_a_newer_version_is_refused),
      TEST (what_is_no_database_is_said_so),
      TEST (a_directory_that_cannot_be_made_is_said_so),
      TEST (lines_and_facts_are_there_after_reopening),
      TEST (an_operation_is_found_by_the_beginning_of_its_id),
      TEST (a_beginning_that_fits_two_is_ambiguous),
      TEST (two_operations_do_not_touch_one_disk),
      TEST (a_record_that_makes_no_sense_is_malformed_and_no_crash),
      TEST (invariant_1_intent_is_durable_before_it_is_asked),
      TEST (invariant_1_holds_on_the_way_back_too),
      TEST (invariant_1_no_image_is_made_before_its_intent_is_durable),
      TEST (invariant_2_no_job_is_dismissed_before_its_outcome_is_durable),
      TEST (invariant_3_what_cannot_be_recorded_is_not_begun),
      TEST (invariant_3_an_fsync_error_is_an_error),
      TEST (invariant_3_in_the_middle_it_stops_and_says_so),
      TEST (invariant_3_a_commit_record_that_is_not_durable_is_none),
      TEST (invariant_4_a_snapshot_on_record_that_never_happened_is_not_folded),
      TEST (invariant_4_a_pivot_that_happened_is_seen_whatever_the_record_says),
      TEST (invariant_5_recovery_after_recovery_is_harmless),
      TEST (invariant_5_recovery_after_nothing_happened_is_harmless),
      TEST (invariant_6_a_live_owner_keeps_its_operation_and_a_dead_one_loses_it),
      TEST (invariant_6_who_takes_over_waits_for_the_lock_of_the_dead),
      TEST (invariant_6_who_is_being_killed_is_dead),
      TEST (invariant_6_two_takers_cannot_both_have_it),
      TEST (invariant_6_a_process_with_the_same_number_is_not_the_owner),
  };
  if (argc > 1)
    cmocka_set_test_filter (argv[1]);
  bad_disk_install ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
