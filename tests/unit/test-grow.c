/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logical volumes that are extended while an operation writes into them: files in their place, and
 * a program "lvm" that makes them longer, or does not. */
#include "tests/unit/unit.h"

#include "tests/unit/ops.h"
#include "tests/unit/scene.h"

#include "jobs/grow.h"
#include "src/common/error.h"

#include <glib/gstdio.h>

#define STEP (256u << 10)

static void
set_lvm (Scene *scene, const char *extend, guint64 vg_free)
{
  g_autofree char *path = g_build_filename (scene->dir, "lvm", NULL);
  g_autofree char *script = g_strdup_printf (
      "#!/bin/sh\n"
      "cd %s\n"
      "case $1 in\n"
      "vgs) echo '{\"report\":[{\"vg\":[{\"vg_free\":\"'$(cat free 2>/dev/null || echo "
      "%" G_GUINT64_FORMAT ")'\"}]}]}';;\n"
      "lvs) echo '{\"report\":[{\"lv\":[{\"lv_name\":\"vda-new.qcow2\",\"lv_size\":\"'$(cat size "
      "2>/dev/null || echo 0)'\",\"lv_suspended\":\"'$(cat suspended 2>/dev/null)'\"}]}]}';;\n"
      "lvchange) echo $* > refreshed; rm -f suspended; [ ! -e size ] || truncate -s $(cat size) "
      "${4#vg0/};;\n"
      "lvextend) size=${4%%b}; file=${5#vg0/}\n%s\n;;\n"
      "esac\n",
      scene->dir, vg_free, extend);
  assert_true (g_file_set_contents (path, script, -1, NULL));
  assert_int_equal (g_chmod (path, 0700), 0);
}

static const char works[] = "truncate -s $size $file";
static const char full[] = "echo Insufficient free space >&2; exit 5";

/* The volume "vda-new.qcow2" of the group "vg0". */
static void
add_image (Scene *scene)
{
  OpDisk *disk = op_disk (scene->op, 0);
  GrowImage *image = g_new0 (GrowImage, 1);
  *image = (GrowImage){.file = g_strdup (disk->to),
                       .vg = g_strdup ("vg0"),
                       .lv = g_path_get_basename (disk->to),
                       .node = g_strdup (disk->file_node),
                       .most = 8u << 20,
                       .size = 1u << 18};
  disk->grows = grow_images_new ();
  g_ptr_array_add (disk->grows, image);
  scene->op->grow_step = STEP;
}

static GrowImage *
image_of (Scene *scene)
{
  return op_disk (scene->op, 0)->grows->pdata[0];
}

static void
begin (Scene *scene)
{
  scene_begin (scene, OP_MOVE, 1);
  add_image (scene);
  g_autofree char *path = g_strdup_printf ("%s:/usr/sbin:/usr/bin:/sbin:/bin", scene->dir);
  g_setenv ("PATH", path, TRUE);
  set_lvm (scene, works, 0);
}

static ModelNode *
file_node (Scene *scene)
{
  return model_node (scene->model, image_of (scene)->node);
}

static guint64
threshold (Scene *scene)
{
  return file_node (scene) ? file_node (scene)->threshold : 0;
}

static guint64
length (Scene *scene)
{
  GStatBuf st;
  assert_int_equal (g_stat (image_of (scene)->file, &st), 0);
  return (guint64)st.st_size;
}

/* Until the stream copies and QEMU is to tell. */
static void
begin_copying (Scene *scene)
{
  begin (scene);
  scene->model->slow_jobs = TRUE;
  scene_start (scene);
  until (model_asked (scene->model, "block-stream") > 0 && threshold (scene) > 0);
}

static void
let_go (Scene *scene)
{
  model_let_jobs_go (scene->model);
  scene_wait (scene);
}

static void
a_volume_is_extended_each_time_it_fills (void **state)
{
  Scene scene;
  begin_copying (&scene);
  for (guint i = 0; i < 4; i++) {
    guint64 before = threshold (&scene), size = length (&scene);
    model_write (scene.model, image_of (&scene)->node, before + 1);
    until (threshold (&scene) > before);
    assert_int_equal (length (&scene), size + STEP);
    assert_int_equal (threshold (&scene), size + STEP - STEP / 2);
  }
  guint64 size = length (&scene);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (image_of (&scene)->grown, size);
  assert_int_equal (threshold (&scene), 0);
  assert_true (scene_journal_has (&scene, "intent", "lvm lvextend -y -L "));
  scene_end (&scene);
}

static void
what_was_written_before_the_threshold_was_armed_is_seen (void **state)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene);
  file_node (&scene)->threshold = 0; /* as if the write had come just before */
  file_node (&scene)->highest = size;
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (length (&scene), size + STEP);
  scene_end (&scene);
}

static void
a_volume_gets_no_more_than_its_image_can_need (void **state)
{
  Scene scene;
  begin_copying (&scene);
  image_of (&scene)->most = length (&scene) + STEP / 4;
  model_write (scene.model, image_of (&scene)->node, threshold (&scene) + 1);
  until (image_of (&scene)->grown > 0);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (length (&scene), image_of (&scene)->most);
  scene_end (&scene);
}

static void
stop_failing (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (g_str_equal (command, "job-resume"))
    model->fail_job = NULL;
}

static void
a_job_that_stands_for_want_of_space_goes_on (void **state)
{
  Scene scene;
  begin (&scene);
  scene.model->fail_job = "stream";
  scene.model->hook = stop_failing;
  scene.model->slow_jobs = TRUE;
  scene_start (&scene);
  until (model_asked (scene.model, "block-stream") > 0);
  guint64 size = length (&scene);
  file_node (&scene)->highest = size + 1; /* a write that failed counts */
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (model_asked (scene.model, "job-resume"), 1);
  assert_int_equal (length (&scene), size + 1 + STEP);
  scene_end (&scene);
}

static void
a_guest_that_stands_for_want_of_space_is_continued (void **state)
{
  Scene scene;
  begin_copying (&scene);
  file_node (&scene)->highest = length (&scene) + 1;
  model_stand (scene.model, op_disk (scene.op, 0)->node);
  until (scene.model->running);
  assert_true (image_of (&scene)->grown > 0);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (model_asked (scene.model, "cont"), 1);
  scene_end (&scene);
}

static void
a_full_group_undoes_it_in_the_words_of_lvm (void **state)
{
  Scene scene;
  begin (&scene);
  set_lvm (&scene, full, 0);
  scene.model->fail_job = "stream";
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  const char *cause = rechain_error_get_cause (scene.op->error);
  assert_non_null (strstr (cause, "No space left on device"));
  assert_non_null (strstr (cause,
                           "'vg0/vda-new.qcow2' could not be extended: 262144 bytes more are "
                           "needed, 0 are free in volume group 'vg0': Insufficient"));
  assert_non_null (strstr (rechain_error_get_hint (scene.op->error),
                           "give volume group 'vg0' more space (vgextend)"));
  assert_int_equal (model_asked (scene.model, "job-resume"), 1);
  scene_end (&scene);
}

static void
let_fold_go (Model *model, const char *command, Json *arguments, gpointer data)
{
  if (g_str_equal (command, "job-cancel"))
    model->slow_jobs = FALSE;
}

static void
a_full_group_lets_nobody_stand (void **state)
{
  Scene scene;
  begin_copying (&scene);
  set_lvm (&scene, full, 0);
  file_node (&scene)->highest = length (&scene) + 1;
  scene.model->hook = let_fold_go;
  model_stand (scene.model, op_disk (scene.op, 0)->node);
  scene_wait (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_error (scene.op->error, UNDONE, "the guest's write to");
  scene_end (&scene);
}

static void
the_rest_of_a_group_is_taken_where_it_has_less_than_a_step (void **state)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene), rest = STEP / 2;
  g_autofree char *extend = g_strdup_printf ("[ $size -le %" G_GUINT64_FORMAT " ] || { %s; }\n%s",
                                             size + rest, full, works);
  set_lvm (&scene, extend, rest);
  model_write (scene.model, image_of (&scene)->node, threshold (&scene) + 1);
  until (image_of (&scene)->grown > 0);
  assert_int_equal (length (&scene), size + rest);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  scene_end (&scene);
}

/* Written beyond the threshold, extended by @extend, which fails; what it did counts. */
static void
check_is_extended_although_it_fails (const char *extend, gboolean refreshed)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene);
  set_lvm (&scene, extend, 1u << 30);
  model_write (scene.model, image_of (&scene)->node, threshold (&scene) + 1);
  until (threshold (&scene) > size - STEP / 2);
  assert_int_equal (length (&scene), size + STEP);
  assert_int_equal (image_of (&scene)->grown, size + STEP);
  assert_int_equal (scene_journal_has (&scene, "intent", "lvm lvchange -y --refresh vg0/"),
                    refreshed);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  scene_end (&scene);
}

static void
an_lvextend_that_was_killed_when_it_was_done_has_extended (void **state)
{
  check_is_extended_although_it_fails ("truncate -s $size $file; kill -9 $$", FALSE);
}

static void
a_volume_that_was_left_suspended_is_resumed (void **state)
{
  check_is_extended_although_it_fails ("echo $size > size; echo suspended > suspended; kill -9 $$",
                                       TRUE);
}

static void
a_volume_that_was_left_suspended_when_it_was_larger_is_resumed (void **state)
{
  check_is_extended_although_it_fails (
      "truncate -s $size $file; echo suspended > suspended; kill -9 $$", TRUE);
}

static void
a_device_that_is_smaller_than_lvm_has_on_record_is_brought_in_line (void **state)
{
  check_is_extended_although_it_fails ("echo $size > size; echo matches >&2; exit 5", TRUE);
}

static void
an_lvextend_that_does_nothing_is_not_run_for_ever (void **state)
{
  Scene scene;
  begin (&scene);
  set_lvm (&scene, "echo x >> tried", 1u << 30);
  scene.model->fail_job = "stream";
  scene_run (&scene);
  scene_check_is (&scene, OP_UNDONE);
  assert_non_null (strstr (rechain_error_get_cause (scene.op->error), "lvextend changed nothing"));
  g_autofree char *path = g_build_filename (scene.dir, "tried", NULL), *tried = NULL;
  assert_true (g_file_get_contents (path, &tried, NULL, NULL));
  assert_in_range (strlen (tried), 2, 8);
  scene_end (&scene);
}

/* What is free is not what it was when the first try failed. */
static void
what_others_leave_of_a_group_is_taken (void **state)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene);
  g_autofree char *extend =
      g_strdup_printf ("[ $size -le %" G_GUINT64_FORMAT " ] || { [ ! -e free ] && echo %u > free "
                       "|| echo %u > free; %s; }\n%s",
                       size + STEP / 4, STEP / 2, STEP / 4, full, works);
  set_lvm (&scene, extend, 0);
  model_write (scene.model, image_of (&scene)->node, threshold (&scene) + 1);
  until (image_of (&scene)->grown > 0);
  assert_int_equal (length (&scene), size + STEP / 4);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  scene_end (&scene);
}

static void
an_operation_ends_after_the_lvextend_that_runs (void **state)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene);
  set_lvm (&scene, "sleep 0.5; truncate -s $size $file", 0);
  model_write (scene.model, image_of (&scene)->node, threshold (&scene) + 1);
  until (threshold (&scene) == 0 && model_asked (scene.model, "block-set-write-threshold") > 0);
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (image_of (&scene)->grown, size + STEP);
  scene_end (&scene);
}

static void
the_threshold_of_somebody_else_is_put_back (void **state)
{
  Scene scene;
  begin_copying (&scene);
  image_of (&scene)->theirs = 12345;
  let_go (&scene);
  scene_check_is (&scene, OP_DONE);
  assert_int_equal (threshold (&scene), 12345);
  scene_end (&scene);
}

static void
who_recovers_goes_on_with_extending (void **state)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene);
  scene_kill (&scene);
  model_node (scene.model, "rc-" OP_ID "-vda-ovf")->highest = size + 1; /* nobody heard of it */
  scene.model->running = FALSE;
  scene.model->run_state = "io-error";
  model_let_jobs_go (scene.model);
  scene_recover (&scene, RUN_ON);
  scene_check_is (&scene, OP_DONE);
  assert_true (image_of (&scene)->grown > size);
  assert_int_equal (length (&scene), image_of (&scene)->grown);
  scene_end (&scene);
}

/* Killed, and lvextend too: what QEMU writes there waits for good. */
static void
who_recovers_resumes_what_was_left_suspended (void **state)
{
  Scene scene;
  begin_copying (&scene);
  guint64 size = length (&scene);
  set_lvm (&scene, "echo $size > size; echo suspended > suspended; sleep 0.3; kill -9 $$", 0);
  model_write (scene.model, image_of (&scene)->node, threshold (&scene) + 1);
  g_autofree char *path = g_build_filename (scene.dir, "suspended", NULL);
  until (g_file_test (path, G_FILE_TEST_EXISTS));
  scene_kill (&scene);
  model_let_jobs_go (scene.model);
  scene_recover (&scene, RUN_BY_RECORD);
  scene_check_is (&scene, OP_UNDONE);
  assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
  assert_true (image_of (&scene)->grown > size);
  assert_non_null (strstr (rechain_error_get_hint (scene.op->error), "stay as large"));
  scene_end (&scene);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_volume_is_extended_each_time_it_fills),
      cmocka_unit_test (what_was_written_before_the_threshold_was_armed_is_seen),
      cmocka_unit_test (a_volume_gets_no_more_than_its_image_can_need),
      cmocka_unit_test (a_job_that_stands_for_want_of_space_goes_on),
      cmocka_unit_test (a_guest_that_stands_for_want_of_space_is_continued),
      cmocka_unit_test (a_full_group_undoes_it_in_the_words_of_lvm),
      cmocka_unit_test (a_full_group_lets_nobody_stand),
      cmocka_unit_test (the_rest_of_a_group_is_taken_where_it_has_less_than_a_step),
      cmocka_unit_test (an_lvextend_that_was_killed_when_it_was_done_has_extended),
      cmocka_unit_test (a_volume_that_was_left_suspended_is_resumed),
      cmocka_unit_test (a_volume_that_was_left_suspended_when_it_was_larger_is_resumed),
      cmocka_unit_test (a_device_that_is_smaller_than_lvm_has_on_record_is_brought_in_line),
      cmocka_unit_test (an_lvextend_that_does_nothing_is_not_run_for_ever),
      cmocka_unit_test (what_others_leave_of_a_group_is_taken),
      cmocka_unit_test (an_operation_ends_after_the_lvextend_that_runs),
      cmocka_unit_test (the_threshold_of_somebody_else_is_put_back),
      cmocka_unit_test (who_recovers_goes_on_with_extending),
      cmocka_unit_test (who_recovers_resumes_what_was_left_suspended),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
