/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots on record: written with their operation, kept right by others, and held against the
 * world. */
#include "tests/unit/unit.h"

#include "tests/unit/bad-disk.h"
#include "tests/unit/ops.h"
#include "tests/unit/scene.h"

#include "jobs/journal-private.h"
#include "jobs/journal-schema.h"
#include "jobs/records.h"
#include "src/common/error.h"

#include <glib/gstdio.h>

static char *dir;

static int
make_dir (void **state)
{
  bad_disk_mend ();
  dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  return dir ? 0 : -1;
}

static int
remove_dir (void **state)
{
  const char *argv[] = {"rm", "-rf", dir, NULL};
  bad_disk_mend ();
  g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  g_clear_pointer (&dir, g_free);
  return 0;
}

static GPtrArray *
listed (Journal *journal)
{
  g_autoptr (GError) error = NULL;
  GPtrArray *records = records_list (journal, "/vm", &error);
  if (records == NULL)
    fail_test ("%s", error->message);
  return records;
}

/* "NAME<PARENT DISK:NEW|OLD ..., " for each, oldest first. */
static void
assert_records (Journal *journal, const char *expected)
{
  g_autoptr (GPtrArray) records = listed (journal);
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; i < records->len; i++) {
    Record *record = records->pdata[i];
    g_string_append_printf (text, "%s%s<%s", i ? ", " : "", record->name,
                            record->parent ? record->parent : "-");
    for (guint k = 0; k < record->disks->len; k++) {
      RecordDisk *disk = record_disk (record, k);
      g_string_append_printf (text, " %s:%s|%s", disk->disk, disk->new_file, disk->old_file);
    }
  }
  assert_string_equal (text->str, expected);
}

static void
store (Journal *journal, const char *name, const char *parent, gint64 created,
       const char *const *layers)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Record) record = record_new ("/vm", name);
  record->parent = g_strdup (parent);
  record->created_us = created;
  for (guint i = 0; layers[i] != NULL; i += 3) {
    RecordDisk *disk = record_add_disk (record, layers[i]);
    disk->new_file = g_strdup (layers[i + 1]);
    disk->old_file = g_strdup (layers[i + 2]);
  }
  if (!records_store (journal, record, &error))
    fail_test ("%s", error->message);
}

#define STORE(journal, name, parent, created, ...)                                                 \
  store (journal, name, parent, created, (const char *const[]){__VA_ARGS__, NULL})

/* ---- written and read ------------------------------------------------------------------------ */

static void
without_a_journal_there_are_no_records (void **state)
{
  g_autoptr (GPtrArray) records = records_list (NULL, "/vm", NULL);
  assert_int_equal (records->len, 0);
}

static void
a_record_is_read_as_it_was_written (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Record) record = record_new ("/vm", "a 'b' \"c\"");
  record->description = g_strdup ("two\nlines");
  record->created_us = 1234567;
  record->running = TRUE;
  RecordDisk *disk = record_add_disk (record, "vda");
  disk->new_file = g_strdup ("/img/new");
  disk->new_format = g_strdup ("qcow2");
  disk->old_file = g_strdup ("/img/old");
  disk->on_delete = MERGE_FORWARD;
  disk->old_id = (FileId){.dev = G_MAXUINT64, .ino = 5};
  assert_true (records_store (journal, record, NULL));
  g_autoptr (Record) read = records_load (journal, "/vm", record->name, NULL);
  assert_string_equal (read->id, record->id);
  assert_string_equal (read->description, "two\nlines");
  assert_int_equal (read->created_us, 1234567);
  assert_true (read->running);
  assert_null (read->parent);
  RecordDisk *again = record_find_disk (read, "vda");
  assert_string_equal (again->new_file, "/img/new");
  assert_string_equal (again->new_format, "qcow2");
  assert_null (again->old_format);
  assert_string_equal (again->method, "qemu");
  assert_int_equal (again->on_delete, MERGE_FORWARD);
  assert_true (file_id_equal (again->old_id, disk->old_id));
}

static void
vms_do_not_see_each_others_records (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  STORE (journal, "one", NULL, 1, "vda", "/n", "/o");
  g_autoptr (GPtrArray) others = records_list (journal, "/vm2", NULL);
  assert_int_equal (others->len, 0);
}

static void
what_is_not_on_record_is_not_found (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (GError) error = NULL;
  STORE (journal, "one", NULL, 1, "vda", "/n", "/o");
  STORE (journal, "two", "one", 2, "vda", "/m", "/n");
  assert_null (records_load (journal, "/vm", "three", &error));
  assert_error (error, NOT_FOUND, "there is no snapshot 'three' on record");
  assert_string_equal (rechain_error_get_hint (error), "on record for this VM: one, two");
  g_clear_error (&error);
  assert_false (records_drop (journal, "/vm", "three", &error));
  assert_error (error, NOT_FOUND, "three");
}

static void
children_of_a_dropped_record_get_its_parent (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  STORE (journal, "one", NULL, 1, "vda", "/b", "/a");
  STORE (journal, "two", "one", 2, "vda", "/c", "/b");
  STORE (journal, "three", "two", 3, "vda", "/d", "/c");
  assert_true (records_drop (journal, "/vm", "two", NULL));
  assert_records (journal, "one<- vda:/b|/a, three<one vda:/d|/c");
  assert_true (records_drop (journal, "/vm", "one", NULL));
  assert_records (journal, "three<- vda:/d|/c");
}

static void
storing_one_again_replaces_it_and_keeps_its_children (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  STORE (journal, "one", NULL, 1, "vda", "/b", "/a");
  STORE (journal, "two", "one", 2, "vda", "/c", "/b");
  STORE (journal, "one", NULL, 1, "vdb", "/y", "/x");
  assert_records (journal, "one<- vdb:/y|/x, two<one vda:/c|/b");
}

/* As after redefining from documents, whose times are whole seconds. */
static void
a_child_of_the_same_age_is_the_current_one (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  for (guint i = 0; i < 8; i++) { /* ids are random: in one of these the parent comes last */
    g_autofree char *name = g_strdup_printf ("s%u", i);
    g_autofree char *parent = i ? g_strdup_printf ("s%u", i - 1) : NULL;
    STORE (journal, name, parent, 1000000, "vda", "/n", "/o");
  }
  g_autoptr (GPtrArray) records = listed (journal);
  assert_string_equal (records_current (records)->name, "s7");
}

static void
nobody_is_its_own_ancestor (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (GError) error = NULL;
  STORE (journal, "one", NULL, 1, "vda", "/b", "/a");
  STORE (journal, "two", "one", 2, "vda", "/c", "/b");
  g_autoptr (Record) loop = record_new ("/vm", "one");
  loop->parent = g_strdup ("two");
  assert_false (records_store (journal, loop, &error));
  assert_error (error, REFUSED, "'one' would be its own ancestor");
  g_clear_error (&error);
  g_autoptr (Record) orphan = record_new ("/vm", "three");
  orphan->parent = g_strdup ("nobody");
  assert_false (records_store (journal, orphan, &error));
  assert_error (error, NOT_FOUND, "'nobody'");
}

static void
a_full_disk_leaves_the_records_as_they_were (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  STORE (journal, "one", NULL, 1, "vda", "/b", "/a");
  for (guint nth = 1; nth <= 3; nth++) {
    g_autoptr (GError) error = NULL;
    bad_disk_breaks (BAD_DISK_WRITE, nth - 1);
    gboolean ok = records_drop (journal, "/vm", "one", &error);
    bad_disk_mend ();
    if (ok)
      return;
    assert_error (error, FAILED, "the journal");
    assert_records (journal, "one<- vda:/b|/a");
  }
}

/* ---- with their operations ------------------------------------------------------------------- */

static Op *
snapshot_op (guint n_disks)
{
  Op *op = op_for_test (OP_SNAPSHOT, dir, n_disks);
  g_free (op->vm);
  op->vm = g_strdup ("/vm");
  op->started_us = 77;
  return op;
}

static void
a_snapshot_is_recorded_once_however_often_it_is_asked (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = snapshot_op (1);
  STORE (journal, "older", NULL, 1, "vda", "/b", "/a");
  op_disk (op, 0)->on_delete = MERGE_FORWARD;
  op->description = g_strdup ("why");
  assert_true (records_add (journal, op, NULL));
  assert_true (records_add (journal, op, NULL));
  g_autoptr (GPtrArray) records = listed (journal);
  assert_int_equal (records->len, 2);
  Record *record = records->pdata[1];
  assert_string_equal (record->id, op->id);
  assert_string_equal (record->parent, "older");
  assert_string_equal (record->description, "why");
  assert_int_equal (record->created_us, 77);
  assert_string_equal (record_disk (record, 0)->new_file, op_disk (op, 0)->to);
  assert_int_equal (record_disk (record, 0)->on_delete, MERGE_FORWARD);
}

static void
what_was_noted_before_goes_with_the_record (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = snapshot_op (1);
  assert_true (journal_begin (journal, op, NULL));
  journal_note (journal, op, "record", NULL, "do", "intent", "on its way");
  assert_true (records_add (journal, op, NULL));
  g_autoptr (Json) steps = journal_steps (journal, op->id, NULL);
  assert_int_equal (json_length (steps), 1);
  assert_string_equal (json_get_str (json_at (steps, 0), "detail"), "on its way");
}

static void
a_name_that_was_taken_meanwhile_gets_the_operations_id (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = snapshot_op (1);
  STORE (journal, "before-update", NULL, 1, "vda", "/b", "/a");
  assert_true (records_add (journal, op, NULL));
  g_autoptr (Record) record = records_load (journal, "/vm", "before-update-" OP_ID, NULL);
  assert_non_null (record);
}

/* A move of top over mid over base into new, which drops top and mid. */
static Op *
move_op (void)
{
  Op *op = op_for_test (OP_MOVE, "/img", 1);
  g_free (op->vm);
  op->vm = g_strdup ("/vm");
  return op;
}

static void
records_follow_a_move (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = move_op ();
  STORE (journal, "one", NULL, 1, "vda", "/img/vda-mid.qcow2", "/img/vda-base.qcow2");
  STORE (journal, "two", "one", 2, "vda", "/img/vda-top.qcow2", "/img/vda-mid.qcow2", "vdb",
         "/img/x", "/img/y");
  STORE (journal, "three", "two", 3, "vda", "/img/vda-top.qcow2", "/img/vda-mid.qcow2");
  STORE (journal, "four", "three", 4, "vdc", "/img/vda-top.qcow2", "/img/vda-mid.qcow2");
  assert_true (records_follow (journal, op, NULL));
  const char *expected =
      "one<- vda:/img/vda-new.qcow2|/img/vda-base.qcow2, two<one vdb:/img/x|/img/y, "
      "four<two vdc:/img/vda-top.qcow2|/img/vda-mid.qcow2";
  assert_records (journal, expected);
  assert_true (records_follow (journal, op, NULL));
  assert_records (journal, expected);
}

static void
the_children_of_vanished_snapshots_keep_a_parent (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = move_op ();
  STORE (journal, "root", NULL, 1, "vdb", "/x", "/y");
  STORE (journal, "gone", "root", 2, "vda", "/img/vda-top.qcow2", "/img/vda-mid.qcow2");
  STORE (journal, "moved", "gone", 3, "vda", "/img/vda-mid.qcow2", "/img/vda-base.qcow2");
  assert_true (records_follow (journal, op, NULL));
  assert_records (journal,
                  "root<- vdb:/x|/y, moved<root vda:/img/vda-new.qcow2|/img/vda-base.qcow2");
}

/* With the guest off there is no VM and no name of a disk: the layers are the same. */
static void
records_follow_an_offline_merge_by_their_files (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = move_op ();
  g_clear_pointer (&op->vm, g_free);
  STORE (journal, "mine", NULL, 1, "sda", "/img/vda-mid.qcow2", "/img/vda-base.qcow2");
  STORE (journal, "other", NULL, 2, "vda", "/img/vda-mid.qcow2", "/img/other-base.qcow2");
  g_autoptr (GPtrArray) all = records_list (journal, NULL, NULL);
  assert_true (records_touch (all, op, op_disk (op, 0)));
  assert_true (records_follow (journal, op, NULL));
  assert_records (journal, "mine<- sda:/img/vda-new.qcow2|/img/vda-base.qcow2, "
                           "other<- vda:/img/vda-mid.qcow2|/img/other-base.qcow2");
}

static void
a_plan_knows_whether_records_are_touched (void **state)
{
  g_autoptr (Journal) journal = journal_in (dir);
  g_autoptr (Op) op = move_op ();
  STORE (journal, "other", NULL, 1, "vdb", "/img/vda-top.qcow2", "/b");
  g_autoptr (GPtrArray) none = listed (journal);
  assert_false (records_touch (none, op, op_disk (op, 0)));
  STORE (journal, "mine", NULL, 2, "vda", "/img/vda-mid.qcow2", "/img/vda-base.qcow2");
  g_autoptr (GPtrArray) some = listed (journal);
  assert_true (records_touch (some, op, op_disk (op, 0)));
}

static GPtrArray *
scene_records (Scene *scene)
{
  g_autoptr (Journal) journal = journal_open_to_read (scene->dir, NULL);
  return records_list (journal, scene->op->vm, NULL);
}

static void
a_snapshot_that_is_done_is_on_record_and_one_that_is_undone_is_not (void **state)
{
  for (guint refused = 0; refused < 2; refused++) {
    Scene scene = {0};
    scene_begin (&scene, OP_SNAPSHOT, 2);
    if (refused) {
      scene.model->refuse = "transaction";
      scene.model->refuse_times = 1;
    }
    scene_run (&scene);
    scene_check_is (&scene, refused ? OP_UNDONE : OP_DONE);
    g_autoptr (GPtrArray) records = scene_records (&scene);
    assert_int_equal (records->len, refused ? 0 : 1);
    if (!refused) {
      char **after = scene.op->after->pdata[0];
      assert_int_equal (((Record *)records->pdata[0])->disks->len, 2);
      assert_non_null (after[0]); /* the record asked nothing of QEMU: the result is known still */
      assert_string_equal (after[0], op_disk (scene.op, 0)->to);
    }
    scene_end (&scene);
  }
}

/* Killed at the k-th command, whichever it is: after recovery it is on record if and only if it is
 * done. */
static void
a_killed_snapshot_is_on_record_if_and_only_if_it_is_done (void **state)
{
  guint done = 0, undone = 0;
  for (guint k = 1; k < 40; k++) {
    Scene scene = {0};
    scene_begin (&scene, OP_SNAPSHOT, 1);
    scene_start (&scene);
    while (scene.model->commands < k && scene.ended == 0)
      g_main_context_iteration (NULL, TRUE);
    gboolean over = scene.ended > 0;
    if (!over) {
      scene_kill (&scene);
      scene_recover (&scene, RUN_BY_RECORD);
    }
    scene_check (&scene);
    OpState end = scene.op->state;
    g_autoptr (GPtrArray) records = scene_records (&scene);
    assert_true (op_state_is_end (end));
    assert_int_equal (records->len, end == OP_DONE ? 1 : 0);
    done += end == OP_DONE;
    undone += end == OP_UNDONE;
    scene_end (&scene);
    if (over)
      break;
  }
  assert_true (done > 0 && undone > 0);
}

/* ---- against the world ----------------------------------------------------------------------- */

static void
assert_mismatch (RecordDisk *disk, World *world, const char *words)
{
  ChainDisk *found;
  g_autofree char *why = NULL;
  assert_int_equal (record_disk_match (disk, world, &found, &why), -1);
  assert_non_null (strstr (why, words));
}

static void
a_boundary_is_found_by_name_and_identity (void **state)
{
  g_autoptr (Op) op = op_for_test (OP_SNAPSHOT, dir, 1);
  op_make_files (op);
  Model *model = model_new (op);
  g_autoptr (Json) replies = model_replies (model);
  g_autoptr (World) world = world_parse (replies, NULL);
  g_autoptr (Record) record = record_new ("/vm", "one");
  RecordDisk *disk = record_add_disk (record, "vda");
  ChainDisk *found;
  g_autofree char *why = NULL;
  gboolean exists;
  disk->new_file = g_strdup (((ChainLayer *)op_disk (op, 0)->before->pdata[1])->file);
  disk->old_file = g_strdup (((ChainLayer *)op_disk (op, 0)->before->pdata[2])->file);
  file_identify (disk->new_file, &disk->new_id, &exists, NULL);
  file_identify (disk->old_file, &disk->old_id, &exists, NULL);
  assert_int_equal (record_disk_match (disk, world, &found, &why), 1);
  assert_string_equal (found->name, "vda");
  disk->new_id.ino++; /* another file under that name */
  assert_mismatch (disk, world, "right over");
  disk->new_id.ino--;
  disk->old_file[strlen (disk->old_file) - 1] = 'x';
  assert_mismatch (disk, world, "right over");
  disk->disk[0] = 'x';
  assert_mismatch (disk, world, "the VM has no such disk");
  model_free (model);
}

/* ---- migration ------------------------------------------------------------------------------- */

static void
write_old_journal (void)
{
  g_autofree char *path = g_build_filename (dir, "journal.db", NULL);
  sqlite3 *db = NULL;
  assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
  assert_int_equal (sqlite3_exec (db, journal_schema, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal (sqlite3_exec (db,
                                  "PRAGMA user_version = 1; INSERT INTO operations VALUES"
                                  " ('0badcafe', 'move', '/vm', 'done', 0, '{}', '{}', NULL, NULL,"
                                  "  1, 2); INSERT INTO steps VALUES (1, '0badcafe', 1, 'stream',"
                                  " NULL, 'do', 'done', 'kept')",
                                  NULL, NULL, NULL),
                    SQLITE_OK);
  sqlite3_close (db);
}

static void
an_old_journal_can_be_read_and_is_not_changed_by_that (void **state)
{
  write_old_journal ();
  g_autoptr (Journal) journal = journal_open_to_read (dir, NULL);
  g_autoptr (GPtrArray) records = listed (journal);
  assert_int_equal (records->len, 0);
  assert_int_equal (journal_version (journal), 1);
}

static void
an_old_journal_gets_the_new_tables_and_keeps_the_old_rows (void **state)
{
  write_old_journal ();
  g_autoptr (Journal) journal = journal_in (dir);
  assert_int_equal (journal_version (journal), 3);
  g_auto (GStrv) ids = journal_list (journal, FALSE, NULL, NULL);
  assert_string_equal (ids[0], "0badcafe");
  g_autoptr (Json) steps = journal_steps (journal, "0badcafe", NULL);
  assert_string_equal (json_get_str (json_at (steps, 0), "detail"), "kept");
  STORE (journal, "one", NULL, 1, "vda", "/n", "/o");
  g_autoptr (Journal) again = journal_in (dir);
  assert_records (again, "one<- vda:/n|/o");
}

static void
a_failed_migration_changes_nothing (void **state)
{
  write_old_journal ();
  for (guint nth = 1; nth < 40; nth++) {
    g_autoptr (GError) error = NULL;
    bad_disk_breaks (BAD_DISK_WRITE, nth - 1);
    g_autoptr (Journal) journal = journal_open (dir, &error);
    bad_disk_mend ();
    if (journal != NULL && journal_version (journal) == 3)
      return;
    g_autoptr (Journal) old = journal_open_to_read (dir, NULL);
    g_auto (GStrv) ids = journal_list (old, FALSE, NULL, NULL);
    assert_string_equal (ids[0], "0badcafe");
  }
  fail_test ("it never succeeded");
}

static void
a_senseless_version_is_refused (void **state)
{
  g_autofree char *path = g_build_filename (dir, "journal.db", NULL);
  g_autoptr (GError) error = NULL;
  sqlite3 *db = NULL;
  write_old_journal ();
  assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
  sqlite3_exec (db, "PRAGMA user_version = -7", NULL, NULL, NULL);
  sqlite3_close (db);
  assert_null (journal_open (dir, &error));
  assert_error (error, REFUSED, "newer rechain");
}

int
main (void)
{
#define TEST(name) cmocka_unit_test_setup_teardown (name, make_dir, remove_dir)
  const struct CMUnitTest tests[] = {
      TEST (without_a_journal_there_are_no_records),
      TEST (a_record_is_read_as_it_was_written),
      TEST (vms_do_not_see_each_others_records),
      TEST (what_is_not_on_record_is_not_found),
      TEST (children_of_a_dropped_record_get_its_parent),
      TEST (storing_one_again_replaces_it_and_keeps_its_children),
      TEST (a_child_of_the_same_age_is_the_current_one),
      TEST (nobody_is_its_own_ancestor),
      TEST (a_full_disk_leaves_the_records_as_they_were),
      TEST (a_snapshot_is_recorded_once_however_often_it_is_asked),
      TEST (what_was_noted_before_goes_with_the_record),
      TEST (a_name_that_was_taken_meanwhile_gets_the_operations_id),
      TEST (records_follow_a_move),
      TEST (the_children_of_vanished_snapshots_keep_a_parent),
      TEST (records_follow_an_offline_merge_by_their_files),
      TEST (a_plan_knows_whether_records_are_touched),
      TEST (a_snapshot_that_is_done_is_on_record_and_one_that_is_undone_is_not),
      TEST (a_killed_snapshot_is_on_record_if_and_only_if_it_is_done),
      TEST (a_boundary_is_found_by_name_and_identity),
      TEST (an_old_journal_can_be_read_and_is_not_changed_by_that),
      TEST (an_old_journal_gets_the_new_tables_and_keeps_the_old_rows),
      TEST (a_failed_migration_changes_nothing),
      TEST (a_senseless_version_is_refused),
  };
  bad_disk_install ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
