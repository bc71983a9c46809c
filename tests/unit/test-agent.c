/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "qmp/agent.h"
#include "src/common/error.h"
#include "tests/unit/fake-agent.h"
#include "tests/unit/fake-qemu.h"

#include <glib/gstdio.h>

#define SYNC_MS 300

typedef struct {
  char *dir;
  FakeAgent *fake;
  QmpAgent *agent;
  guint answers;
  gint64 ret; /* of the last one */
  GError *error;
} Scene;

static void
scene_begin (Scene *scene)
{
  *scene = (Scene){.dir = g_dir_make_tmp ("rechain-XXXXXX", NULL)};
  g_autofree char *path = g_build_filename (scene->dir, "qga", NULL);
  scene->fake = fake_agent_new (path);
  scene->agent = qmp_agent_new (path, SYNC_MS, NULL);
  assert_string_equal (qmp_agent_get_name (scene->agent), path);
}

static void
scene_end (Scene *scene)
{
  qmp_agent_free (scene->agent);
  fake_agent_free (scene->fake);
  fake_qemu_settle ();
  assert_int_equal (g_rmdir (scene->dir), 0);
  g_clear_error (&scene->error);
  g_free (scene->dir);
}

static void
on_reply (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  Scene *scene = data;
  assert_true ((ret == NULL) != (error == NULL));
  scene->answers++;
  scene->ret = json_object_is_type (ret, json_type_int) ? json_object_get_int64 (ret) : -1;
  g_clear_error (&scene->error);
  scene->error = error ? g_error_copy (error) : NULL;
}

/* Asks, and waits for the one answer. */
static void
ask_within (Scene *scene, const char *command, guint ms)
{
  guint before = scene->answers;
  qmp_agent_execute (scene->agent, command, NULL, ms, on_reply, scene);
  assert_int_equal (scene->answers, before);
  until (scene->answers > before);
  fake_qemu_settle ();
  assert_int_equal (scene->answers, before + 1);
}

static void
ask (Scene *scene, const char *command)
{
  ask_within (scene, command, SYNC_MS);
}

/* ---- the normal course ----------------------------------------------------------------------- */

static void
a_command_is_answered_over_one_connection (void **state)
{
  Scene scene;
  scene_begin (&scene);
  ask (&scene, "guest-fsfreeze-freeze");
  assert_int_equal (scene.ret, 3);
  assert_true (scene.fake->frozen);
  ask (&scene, "guest-fsfreeze-thaw");
  assert_int_equal (scene.ret, 3);
  assert_int_equal (scene.fake->connections, 1);
  assert_int_equal (scene.fake->log->len, 2);
  scene_end (&scene);
}

static void
nobody_connects_before_something_is_asked (void **state)
{
  Scene scene;
  scene_begin (&scene);
  fake_qemu_settle ();
  assert_int_equal (scene.fake->connections, 0);
  scene_end (&scene);
}

static void
commands_go_one_at_a_time_in_their_order (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->silent = "guest-fsfreeze-freeze";
  static const char *const commands[] = {"guest-info", "guest-fsfreeze-freeze",
                                         "guest-fsfreeze-thaw"};
  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    qmp_agent_execute (scene.agent, commands[i], NULL, SYNC_MS, on_reply, &scene);
  until (scene.fake->log->len == 2);
  fake_qemu_settle ();
  assert_int_equal (scene.answers, 1); /* thaw is not sent while freeze has no answer */
  assert_int_equal (scene.fake->log->len, 2);
  until (scene.answers == 3);
  assert_null (scene.error);
  assert_string_equal (scene.fake->log->pdata[2], "guest-fsfreeze-thaw");
  scene_end (&scene);
}

static void
the_agent_s_own_words_are_the_cause (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->refuse = "guest-fsfreeze-freeze";
  ask (&scene, "guest-fsfreeze-freeze");
  assert_error (scene.error, FAILED, "guest-fsfreeze-freeze");
  assert_string_equal (rechain_error_get_cause (scene.error), "the agent's own words");
  ask (&scene, "guest-no-such-command");
  assert_error (scene.error, REFUSED, "guest-no-such-command");
  assert_int_equal (scene.fake->connections, 1);
  scene_end (&scene);
}

static void
the_time_of_sending_is_that_of_the_command_and_not_of_the_sync (void **state)
{
  Scene scene;
  scene_begin (&scene);
  gint64 before = g_get_monotonic_time ();
  ask (&scene, "guest-info");
  gint64 first = qmp_agent_get_sent_us (scene.agent);
  assert_true (first > before);
  ask (&scene, "guest-info");
  assert_true (qmp_agent_get_sent_us (scene.agent) > first);
  scene_end (&scene);
}

/* ---- being in step --------------------------------------------------------------------------- */

static void
what_an_earlier_client_left_behind_is_dropped (void **state)
{
  static const char *const stale[] = {
      "{\"return\":7}\n",
      "{\"return\": {\"half a mess",
      "\xff{\"return\":12345}\n\xff{\"return\":12346}\n",
      "}}]]garbage\x01\x02{\"return\":",
      "\xff\xff",
      "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Invalid JSON syntax\"}}\n",
  };
  for (guint i = 0; i < G_N_ELEMENTS (stale); i++) {
    Scene scene;
    scene_begin (&scene);
    scene.fake->stale = stale[i];
    ask (&scene, "guest-fsfreeze-freeze");
    assert_null (scene.error);
    assert_int_equal (scene.ret, 3);
    scene_end (&scene);
  }
}

static void
a_late_answer_is_not_taken_for_the_next_one_s (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->silent = "guest-fsfreeze-freeze";
  scene.fake->times = 1;
  scene.fake->after = TRUE;
  ask_within (&scene, "guest-fsfreeze-freeze", 50);
  assert_error (scene.error, UNREACHABLE, "does not answer");
  assert_non_null (strstr (rechain_error_get_cause (scene.error), "deadline"));
  scene.fake->stale = "{\"return\":99}\n"; /* what it says once it comes to it */
  ask (&scene, "guest-fsfreeze-thaw");
  assert_int_equal (scene.ret, 3);
  assert_int_equal (scene.fake->connections, 2);
  scene_end (&scene);
}

static void
what_comes_unasked_between_two_commands_does_not_count (void **state)
{
  Scene scene;
  scene_begin (&scene);
  ask (&scene, "guest-info");
  fake_agent_says (scene.fake, "{\"return\":77}\n", -1);
  until (scene.fake->connection == NULL);
  ask (&scene, "guest-fsfreeze-freeze");
  assert_int_equal (scene.ret, 3);
  assert_int_equal (scene.fake->connections, 2);
  scene_end (&scene);
}

/* ---- nobody there ---------------------------------------------------------------------------- */

static void
a_silent_agent_is_given_up_at_the_deadline (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->silent = "*";
  gint64 start = g_get_monotonic_time ();
  ask (&scene, "guest-info");
  assert_error (scene.error, UNREACHABLE, "does not answer");
  assert_non_null (rechain_error_get_hint (scene.error));
  assert_true (g_get_monotonic_time () - start < 5 * G_USEC_PER_SEC);
  scene.fake->silent = NULL;
  ask (&scene, "guest-info");
  assert_null (scene.error);
  scene_end (&scene);
}

static void
a_socket_that_is_not_there_or_that_nobody_listens_at_is_told (void **state)
{
  Scene scene;
  scene_begin (&scene);
  g_autofree char *path = g_strdup (scene.fake->path);
  fake_agent_stops_listening (scene.fake);
  ask (&scene, "guest-info");
  assert_error (scene.error, UNREACHABLE, "nobody listens at guest agent");
  assert_int_equal (g_unlink (path), 0);
  ask (&scene, "guest-info");
  assert_error (scene.error, UNREACHABLE, "does not exist");
  scene_end (&scene);
}

static void
a_word_that_is_no_address_is_refused (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_null (qmp_agent_new ("web1", 0, &error));
  assert_error (error, USAGE, "web1");
}

static void
an_agent_that_hangs_up_is_told_and_asked_again_over_a_new_connection (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->hang_up = "guest-fsfreeze-freeze";
  scene.fake->times = 1;
  ask (&scene, "guest-fsfreeze-freeze");
  assert_error (scene.error, UNREACHABLE, "closed the connection");
  ask (&scene, "guest-fsfreeze-freeze");
  assert_int_equal (scene.ret, 3);
  scene_end (&scene);
}

/* ---- hostile --------------------------------------------------------------------------------- */

static void
answers_that_are_none_end_the_connection_and_not_the_process (void **state)
{
  g_autofree char *deep = g_strnfill (3000, '[');
  g_autofree char *huge = g_strnfill (AGENT_MAX_MESSAGE, 'x');
  g_autofree char *deep_answer = g_strconcat ("{\"return\":", deep, NULL);
  g_autofree char *huge_answer = g_strconcat ("{\"return\":\"", huge, "\"}\n", NULL);
  const struct {
    const char *answer, *words;
  } rows[] = {
      {deep_answer, "nested too deep"},
      {huge_answer, "too long"},
      {"hello\n", "not a JSON object"},
      {"{\"return\":\"\xff\"}\n", "UTF-8"},
      {"{\"QMP\":{}}\n", "no answer"},
      {"{\"event\":\"RESET\"}\n", "no answer"},
      {"{\"return\":1,\"error\":{\"desc\":\"x\"}}\n", "no answer"},
      {"{\"return\":null}\n", "no answer"},
      {"{\"error\":{}}\n", "no answer"},
      {"{}\n", "no answer"},
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    Scene scene;
    scene_begin (&scene);
    scene.fake->garble = "guest-fsfreeze-freeze";
    scene.fake->answer = rows[i].answer;
    ask (&scene, "guest-fsfreeze-freeze");
    assert_error (scene.error, UNREACHABLE, rows[i].words);
    ask (&scene, "guest-fsfreeze-thaw");
    assert_null (scene.error);
    scene_end (&scene);
  }
}

static void
an_endless_stream_costs_no_more_than_the_deadline (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->garble = "*";
  g_autofree char *flood = g_strnfill (8 << 20, 'x');
  scene.fake->answer = flood;
  ask (&scene, "guest-info");
  assert_error (scene.error, UNREACHABLE, "does not answer");
  scene_end (&scene);
}

static void
blanks_without_end_are_no_answer (void **state)
{
  Scene scene;
  scene_begin (&scene);
  g_autofree char *blanks = g_strnfill (4 << 20, ' ');
  scene.fake->garble = "guest-info";
  scene.fake->answer = blanks;
  ask (&scene, "guest-info");
  assert_error (scene.error, UNREACHABLE, "does not answer");
  scene_end (&scene);
}

static void
an_answer_that_comes_byte_by_byte_is_one_and_a_half_one_is_none (void **state)
{
  Scene scene;
  scene_begin (&scene);
  scene.fake->silent = "guest-info";
  qmp_agent_execute (scene.agent, "guest-info", NULL, 2000, on_reply, &scene);
  until (scene.fake->log->len == 1);
  for (const char *c = "{\"return\": 5}"; *c != '\0'; c++) {
    assert_int_equal (scene.answers, 0);
    fake_agent_says (scene.fake, c, 1);
    fake_qemu_settle ();
  }
  until (scene.answers == 1);
  assert_int_equal (scene.ret, 5);
  scene.fake->garble = "guest-ping";
  scene.fake->answer = "{\"return\": ";
  ask_within (&scene, "guest-ping", 100);
  assert_error (scene.error, UNREACHABLE, "does not answer");
  scene_end (&scene);
}

/* ---- its end --------------------------------------------------------------------------------- */

static void
after_its_end_no_callback_comes (void **state)
{
  Scene scene;
  scene_begin (&scene);
  for (guint i = 0; i < 3; i++)
    qmp_agent_execute (scene.agent, "guest-info", NULL, 0, on_reply, &scene);
  until (scene.answers == 1);
  g_clear_pointer (&scene.agent, qmp_agent_free);
  fake_qemu_settle ();
  assert_int_equal (scene.answers, 1);
  scene_end (&scene);
}

static void
free_it (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  Scene *scene = data;
  on_reply (agent, ret, error, data);
  g_clear_pointer (&scene->agent, qmp_agent_free);
}

static void
a_callback_may_free_the_agent (void **state)
{
  static const char *const mishaps[] = {NULL, "guest-info"};
  for (guint i = 0; i < G_N_ELEMENTS (mishaps); i++) {
    Scene scene;
    scene_begin (&scene);
    scene.fake->hang_up = mishaps[i];
    qmp_agent_execute (scene.agent, "guest-info", NULL, 0, free_it, &scene);
    qmp_agent_execute (scene.agent, "guest-info", NULL, 0, free_it, &scene);
    until (scene.answers == 1);
    fake_qemu_settle ();
    assert_int_equal (scene.answers, 1);
    scene_end (&scene);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_command_is_answered_over_one_connection),
      cmocka_unit_test (nobody_connects_before_something_is_asked),
      cmocka_unit_test (commands_go_one_at_a_time_in_their_order),
      cmocka_unit_test (the_agent_s_own_words_are_the_cause),
      cmocka_unit_test (the_time_of_sending_is_that_of_the_command_and_not_of_the_sync),
      cmocka_unit_test (what_an_earlier_client_left_behind_is_dropped),
      cmocka_unit_test (a_late_answer_is_not_taken_for_the_next_one_s),
      cmocka_unit_test (what_comes_unasked_between_two_commands_does_not_count),
      cmocka_unit_test (a_silent_agent_is_given_up_at_the_deadline),
      cmocka_unit_test (a_socket_that_is_not_there_or_that_nobody_listens_at_is_told),
      cmocka_unit_test (a_word_that_is_no_address_is_refused),
      cmocka_unit_test (an_agent_that_hangs_up_is_told_and_asked_again_over_a_new_connection),
      cmocka_unit_test (answers_that_are_none_end_the_connection_and_not_the_process),
      cmocka_unit_test (an_endless_stream_costs_no_more_than_the_deadline),
      cmocka_unit_test (blanks_without_end_are_no_answer),
      cmocka_unit_test (an_answer_that_comes_byte_by_byte_is_one_and_a_half_one_is_none),
      cmocka_unit_test (after_its_end_no_callback_comes),
      cmocka_unit_test (a_callback_may_free_the_agent),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
