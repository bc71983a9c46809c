/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/bad-disk.h"
#include "tests/unit/ops.h"
#include "tests/unit/scene.h"
#include "tests/unit/temp-dir.h"

#include "qmp/client.h"

static void
on_ended (Runner *runner, gpointer data)
{
  ((Scene *)data)->ended++;
}

static void
on_changed (Runner *runner, gpointer data)
{
  Scene *scene = data;
  assert_int_equal (scene->ended, 0);
  scene->changed++;
}

/* Takes @op. */
static void
make_runner (Scene *scene, Op *op)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (QmpClient) client = qmp_client_new (op->vm, 0, &error);
  Journal *journal = journal_open (scene->dir, &error);
  if (error != NULL)
    fail_test ("%s", error->message);
  until (qmp_client_get_state (client) == QMP_READY);
  scene->op = op;
  scene->runner = runner_new (op, journal, scene->dir, client, NULL);
  scene->ended = 0;
}

/* What GLib opens once, at the first child process, and keeps. */
static void
warm_up (void)
{
  static gboolean warm;
  if (warm)
    return;
  warm = TRUE;
  GSubprocess *child = g_subprocess_new (G_SUBPROCESS_FLAGS_STDOUT_PIPE, NULL, "true", NULL);
  assert_non_null (child);
  assert_true (g_subprocess_communicate_utf8 (child, NULL, NULL, NULL, NULL, NULL));
  g_object_unref (child);
  g_usleep (50 * 1000); /* GLib's own thread closes, too */
  fake_qemu_settle ();
}

void
scene_begin (Scene *scene, OpKind kind, guint n_disks)
{
  warm_up ();
  bad_disk_mend ();
  *scene = (Scene){.fds = count_fds (), .dir = g_dir_make_tmp ("rechain-XXXXXX", NULL)};
  Op *op = op_for_test (kind, scene->dir, n_disks);
  op_make_files (op);
  scene->model = model_new (op);
  make_runner (scene, op);
}

void
scene_start (Scene *scene)
{
  g_autoptr (GError) error = NULL;
  if (!runner_start (scene->runner, on_ended, on_changed, scene, &error))
    fail_test ("%s", error->message);
  assert_int_equal (scene->ended, 0);
}

void
scene_wait (Scene *scene)
{
  until (scene->ended > 0);
  fake_qemu_settle ();
  assert_int_equal (scene->ended, 1);
}

void
scene_run (Scene *scene)
{
  scene_start (scene);
  scene_wait (scene);
}

static void
drop_runner (Scene *scene)
{
  g_clear_pointer (&scene->runner, runner_unref);
  scene->op = NULL;
  fake_qemu_settle ();
}

void
scene_kill (Scene *scene)
{
  bad_disk_breaks (BAD_DISK_WRITE, 0);
  runner_detach (scene->runner, TRUE);
  if (scene->ended == 0)
    scene_wait (scene);
  drop_runner (scene);
  bad_disk_mend ();
}

void
scene_recover (Scene *scene, RunDirection direction)
{
  g_autoptr (GError) error = NULL;
  if (scene->runner != NULL)
    drop_runner (scene);
  model_cut (scene->model);
  until (!scene->model->dead);
  g_autoptr (Journal) journal = journal_open (scene->dir, NULL);
  Op *op = journal_load (journal, OP_ID, &error);
  if (op == NULL)
    fail_test ("%s", error->message);
  make_runner (scene, op);
  if (!runner_recover (scene->runner, direction, on_ended, on_changed, scene, &error))
    fail_test ("%s", error->message);
  scene_wait (scene);
}

void
scene_end (Scene *scene)
{
  if (scene->runner != NULL)
    drop_runner (scene);
  model_free (scene->model);
  assert_true (remove_tree (scene->dir));
  g_free (scene->dir);
  fake_qemu_settle ();
  until (count_fds () == scene->fds);
}

static gboolean
shows (Model *model, OpDisk *disk, char **files)
{
  g_auto (GStrv) now = model_chain (model, disk->qdev);
  return g_strv_equal ((const char *const *)now, (const char *const *)files);
}

static void
check_disk (Scene *scene, OpDisk *disk)
{
  g_auto (GStrv) before = chain_files (disk->before);
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  Model *model = scene->model;
  assert_int_equal (model_read (model, disk->qdev), model->written);
  if (scene->op->state != OP_STUCK)
    assert_false (g_file_test (disk->part, G_FILE_TEST_EXISTS));
  if (scene->op->state == OP_DONE) {
    assert_true (shows (model, disk, planned));
    assert_true (g_file_test (disk->to, G_FILE_TEST_EXISTS));
  }
  if (scene->op->state == OP_UNDONE) {
    assert_true (shows (model, disk, before));
    assert_false (g_file_test (disk->to, G_FILE_TEST_EXISTS));
  }
}

void
scene_check (Scene *scene)
{
  Model *model = scene->model;
  gboolean done = scene->op->state == OP_DONE;
  if (model->sorry != NULL)
    fail_test ("%s", model->sorry);
  assert_true (model->running);
  for (guint i = 0; i < scene->op->disks->len; i++)
    check_disk (scene, op_disk (scene->op, i));
  if (scene->op->state != OP_STUCK)
    assert_int_equal (model_count (model, "rc-"), done ? 2 * scene->op->disks->len : 0);
}

void
scene_check_is (Scene *scene, OpState state)
{
  if (scene->op->state != state)
    fail_test ("the operation is %s and not %s: %s (%s)", op_state_name (scene->op->state),
               op_state_name (state), scene->op->error ? scene->op->error->message : "no error",
               rechain_error_get_cause (scene->op->error)
                   ? rechain_error_get_cause (scene->op->error)
                   : "no cause");
  scene_check (scene);
}

gboolean
scene_journal_has (Scene *scene, const char *phase, const char *words)
{
  g_autoptr (Journal) journal = journal_open_to_read (scene->dir, NULL);
  g_autoptr (Json) steps = journal ? journal_steps (journal, OP_ID, NULL) : NULL;
  for (gsize i = 0; i < json_length (steps); i++) {
    const char *detail = json_get_str (json_at (steps, i), "detail");
    if (g_str_equal (json_get_str (json_at (steps, i), "phase"), phase) && detail &&
        strstr (detail, words) != NULL)
      return TRUE;
  }
  return FALSE;
}
