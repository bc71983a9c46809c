/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting for jobs: events wake, query-jobs tells. */
#include "tests/unit/unit.h"

#include "tests/unit/fake-qemu.h"

#include "jobs/watch.h"

typedef struct {
  FakeQemu *qemu;
  QmpClient *client;
  JobWatch *watch;
  const char *jobs; /* what query-jobs shows */
  guint asked, calls, looks;
  JobStatus status;
  char *words;
  guint64 current, total;
} Scene;

static Json *
show_jobs (FakeQemu *qemu, const char *command, Json *arguments, gpointer data)
{
  Scene *scene = data;
  g_autofree char *text = g_strdup (scene->jobs);
  scene->asked++;
  return json_make ("return", json_parse (g_strdelimit (text, "'", '"'), -1), NULL);
}

static void
on_reached (const char *job, JobStatus status, const char *words, gpointer data)
{
  Scene *scene = data;
  scene->calls++;
  scene->status = status;
  g_free (scene->words);
  scene->words = g_strdup (words);
}

static void
on_progress (const char *job, JobStatus status, guint64 current, guint64 total, gpointer data)
{
  Scene *scene = data;
  scene->looks++;
  scene->current = current;
  scene->total = total;
}

static void
begin (Scene *scene, const char *jobs)
{
  *scene = (Scene){.qemu = fake_qemu_new (), .jobs = jobs};
  qemu_greets (scene->qemu);
  qemu_handles (scene->qemu, "query-jobs", show_jobs, scene);
  scene->client = qmp_client_new_for_connection (fake_qemu_connection (scene->qemu), "fake", 0);
  scene->watch = job_watch_new (scene->client);
}

static void
end (Scene *scene)
{
  job_watch_free (scene->watch);
  qmp_client_close (scene->client);
  fake_qemu_settle ();
  qmp_client_unref (scene->client);
  fake_qemu_free (scene->qemu);
  g_free (scene->words);
}

static void
changes_to (Scene *scene, const char *jobs)
{
  scene->jobs = jobs;
  qemu_event (scene->qemu, "JOB_STATUS_CHANGE", "{'id':'j','status':'whatever'}");
}

static void
a_job_that_is_there_already_is_told_but_not_from_inside_the_call (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'ready'}]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  assert_int_equal (scene.calls, 0);
  until (scene.calls == 1);
  assert_int_equal (scene.status, JOB_READY);
  end (&scene);
  assert_int_equal (scene.calls, 1);
}

static void
an_event_wakes_and_the_list_of_jobs_decides (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'running'}]");
  job_watch_wait (scene.watch, "j", JOB_PENDING, on_reached, &scene);
  fake_qemu_settle ();
  changes_to (&scene, "[{'id':'j','status':'waiting'}]");
  fake_qemu_settle ();
  assert_int_equal (scene.calls, 0);
  changes_to (&scene, "[{'id':'j','status':'pending'}]");
  until (scene.calls == 1);
  assert_int_equal (scene.status, JOB_PENDING);
  changes_to (&scene, "[{'id':'j','status':'pending'}]");
  end (&scene);
  assert_int_equal (scene.calls, 1);
}

static void
a_job_that_failed_brings_its_words (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'concluded','error':'No space left on device'}]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  until (scene.calls == 1);
  assert_int_equal (scene.status, JOB_CONCLUDED);
  assert_string_equal (scene.words, "No space left on device");
  end (&scene);
}

static void
a_job_that_is_not_shown_is_gone (void **state)
{
  Scene scene;
  begin (&scene, "[]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  until (scene.calls == 1);
  assert_int_equal (scene.status, JOB_NULL);
  assert_null (scene.words);
  end (&scene);
}

static void
a_job_paused_when_ready_counts_as_ready_and_an_odd_status_as_nothing (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'levitating'}]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  fake_qemu_settle ();
  assert_int_equal (scene.calls, 0);
  changes_to (&scene, "[{'id':'j','status':'standby'}]");
  until (scene.calls == 1);
  assert_int_equal (scene.status, JOB_STANDBY);
  end (&scene);
}

static void
a_burst_of_events_is_few_questions (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'running'}]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  fake_qemu_settle ();
  guint before = scene.asked;
  for (guint i = 0; i < 50; i++)
    changes_to (&scene, scene.jobs);
  fake_qemu_settle ();
  assert_in_range (scene.asked - before, 1, 10);
  end (&scene);
}

static void
events_without_anybody_waiting_ask_nothing (void **state)
{
  Scene scene;
  begin (&scene, "[]");
  until (qmp_client_get_state (scene.client) == QMP_READY);
  changes_to (&scene, "[]");
  fake_qemu_settle ();
  assert_int_equal (scene.asked, 0);
  end (&scene);
}

static void
a_wait_that_was_cancelled_is_not_told (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'ready'}]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  job_watch_cancel (scene.watch, "j");
  job_watch_cancel (scene.watch, "another");
  fake_qemu_settle ();
  end (&scene);
  assert_int_equal (scene.calls, 0);
}

static void
a_watch_that_was_freed_with_a_question_on_its_way_is_quiet (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'ready'}]");
  until (qmp_client_get_state (scene.client) == QMP_READY);
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  g_clear_pointer (&scene.watch, job_watch_free);
  fake_qemu_settle ();
  end (&scene);
  assert_int_equal (scene.calls, 0);
}

static void
progress_comes_while_something_is_waited_for (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'running','current-progress':5,'total-progress':9}]");
  job_watch_set_progress (scene.watch, 5, on_progress, &scene);
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  until (scene.looks >= 3);
  assert_int_equal (scene.current, 5);
  assert_int_equal (scene.total, 9);
  job_watch_set_progress (scene.watch, 0, NULL, NULL);
  end (&scene);
}

static void
two_waits_are_answered_each_once (void **state)
{
  Scene scene;
  begin (&scene, "[{'id':'j','status':'ready'},{'id':'k','status':'running'}]");
  job_watch_wait (scene.watch, "j", JOB_READY, on_reached, &scene);
  job_watch_wait (scene.watch, "k", JOB_READY, on_reached, &scene);
  until (scene.calls == 1);
  changes_to (&scene, "[{'id':'k','status':'ready'}]");
  until (scene.calls == 2);
  fake_qemu_settle ();
  end (&scene);
  assert_int_equal (scene.calls, 2);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_job_that_is_there_already_is_told_but_not_from_inside_the_call),
      cmocka_unit_test (an_event_wakes_and_the_list_of_jobs_decides),
      cmocka_unit_test (a_job_that_failed_brings_its_words),
      cmocka_unit_test (a_job_that_is_not_shown_is_gone),
      cmocka_unit_test (a_job_paused_when_ready_counts_as_ready_and_an_odd_status_as_nothing),
      cmocka_unit_test (a_burst_of_events_is_few_questions),
      cmocka_unit_test (events_without_anybody_waiting_ask_nothing),
      cmocka_unit_test (a_wait_that_was_cancelled_is_not_told),
      cmocka_unit_test (a_watch_that_was_freed_with_a_question_on_its_way_is_quiet),
      cmocka_unit_test (progress_comes_while_something_is_waited_for),
      cmocka_unit_test (two_waits_are_answered_each_once),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
