/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/answer.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void
count_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  ++*(int *)data;
}

static QmpClient *
client_of (FakeQemu *qemu)
{
  return qmp_client_new_for_connection (fake_qemu_connection (qemu), "fake", 0);
}

static QmpClient *
ready_client_of (FakeQemu *qemu)
{
  qemu_greets (qemu);
  QmpClient *client = client_of (qemu);
  until (qmp_client_get_state (client) == QMP_READY);
  return client;
}

/* ---- greeting -------------------------------------------------------------------------------- */

static void
a_greeting_tells_version_and_peer (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = client_of (q);
  assert_int_equal (qmp_client_get_state (client), QMP_GREETING);
  assert_int_equal (qmp_client_get_version (client), 0);
  assert_null (qmp_client_get_greeting (client));
  qemu_greets (q);
  until (qmp_client_get_state (client) == QMP_READY);
  assert_int_equal (qmp_client_get_version (client), 70222);
  assert_string_equal (qmp_client_get_version_string (client), FAKE_VERSION);
  assert_int_equal (qmp_client_get_peer_pid (client), getpid ());
  assert_non_null (json_get (qmp_client_get_greeting (client), "version"));
  fake_qemu_free (q);
}

static void
a_hostile_version_is_only_wrong (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  qemu_says (q, "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 99999999999999, \"minor\": -4, "
                "\"micro\": \"x\"}, "
                "\"package\": 7}}}");
  qemu_expects (q, "qmp_capabilities");
  g_autoptr (QmpClient) client = client_of (q);
  until (qmp_client_get_state (client) == QMP_CAPABILITIES);
  assert_int_equal (qmp_client_get_version (client), 99990000);
  assert_string_equal (qmp_client_get_version_string (client), "9999.0.0");
  until (qemu_is_done (q));
  fake_qemu_free (q);
}

static void
a_silent_monitor_is_held_by_somebody_else (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_auto (Answer) answer = {0};
  g_autoptr (QmpClient) client =
      qmp_client_new_for_connection (fake_qemu_connection (q), "/run/x.qmp", 50);
  qmp_client_execute (client, "stop", NULL, 0, on_reply, &answer);
  assert_ends (client, "monitor '/run/x.qmp' is silent: somebody else holds this monitor");
  assert_non_null (strstr (rechain_error_get_hint (qmp_client_get_error (client)), "second -qmp"));
  until (answer.answers == 1);
  assert_error (answer.error, UNREACHABLE, "silent");
  fake_qemu_free (q);
}

static void
what_is_no_qmp_monitor_is_told_so (void **state)
{
  static const struct {
    const char *says;
    const char *words;
  } rows[] = {
      {"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ", "not a JSON object"},
      {"{\"return\": {}}{\"x\": 1}", "not QMP"},
      {"{\"event\": \"STOP\"}", "before its greeting"},
      {"{\"QMP\": []}", "not QMP"},
      {"{\"error\": {\"class\": \"X\", \"desc\": \"y\"}}", "did not understand us"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    FakeQemu *q = fake_qemu_new ();
    g_autoptr (QmpClient) client = client_of (q);
    qemu_says (q, rows[i].says);
    assert_ends (client, rows[i].words);
    fake_qemu_free (q);
  }
}

static void
refused_capabilities_end_the_connection (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  qemu_says (q, "{\"QMP\": {}}");
  qemu_expects (q, "qmp_capabilities");
  qemu_fails (q, "GenericError", "no");
  g_autoptr (QmpClient) client = client_of (q);
  assert_ends (client, "refused qmp_capabilities");
  assert_string_equal (rechain_error_get_cause (qmp_client_get_error (client)), "no");
  fake_qemu_free (q);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void
commands_wait_for_the_greeting_and_are_answered (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = client_of (q);
  g_auto (Answer) a = {0}, b = {0};
  qmp_client_execute (client, "query-status", NULL, 0, on_reply, &a);
  qmp_client_execute (client, "block-commit", json_make ("device", json_str ("vda"), NULL), 0,
                      on_reply, &b);
  assert_int_equal (a.answers, 0);
  qemu_greets (q);
  qemu_expects (q, "query-status");
  qemu_replies (q, "{'running': true}");
  qemu_expects_with (q, "block-commit", "{'device': 'vda'}");
  qemu_fails (q, "DeviceNotFound", "Cannot find device 'vda'");
  until (a.answers && b.answers);
  assert_string_equal (a.ret, "{\"running\":true}");
  assert_error (b.error, NOT_FOUND, "block-commit");
  assert_string_equal (rechain_error_get_cause (b.error), "Cannot find device 'vda'");
  fake_qemu_free (q);
}

static void
many_commands_are_in_flight_and_answered_in_any_order (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_autoptr (GString) order = g_string_new (NULL);
  g_auto (Answer) a = {.order = order, .name = "a"}, b = {.order = order, .name = "b"},
                  c = {.order = order, .name = "c"};
  qmp_client_execute (client, "cmd-a", NULL, 0, on_reply, &a);
  qmp_client_execute (client, "cmd-b", NULL, 0, on_reply, &b);
  qmp_client_execute (client, "cmd-c", NULL, 0, on_reply, &c);
  qmp_client_execute (client, "cmd-d", NULL, 0, NULL, NULL);
  qemu_expects (q, "cmd-a");
  qemu_expects (q, "cmd-b");
  qemu_expects (q, "cmd-c");
  qemu_expects (q, "cmd-d");
  qemu_replies_to (q, "cmd-d", "{}");
  qemu_replies_to (q, "cmd-c", "[3]");
  qemu_replies_to (q, "cmd-a", "[1]");
  qemu_replies_to (q, "cmd-b", "[2]");
  until (a.answers && b.answers && c.answers);
  assert_string_equal (order->str, "cab");
  assert_string_equal (b.ret, "[2]");
  fake_qemu_free (q);
}

static void
ten_thousand_commands_at_once_are_all_answered (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  Answer answer = {0};
  qemu_always (q, "query-jobs", "[]");
  for (int i = 0; i < 10000; i++) {
    qmp_client_execute (client, "query-jobs", NULL, 0, NULL, NULL);
  }
  qmp_client_execute (client, "query-jobs", NULL, 0, on_reply, &answer);
  until (answer.answers == 1);
  assert_int_equal (qemu_received (q), 10002);
  answer_clear (&answer);
  fake_qemu_free (q);
}

static void
a_command_has_a_deadline_and_its_late_reply_is_dropped (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) slow = {0}, next = {0};
  qemu_expects (q, "job-finalize");
  qmp_client_execute (client, "job-finalize", NULL, 50, on_reply, &slow);
  until (slow.answers == 1);
  assert_error (slow.error, UNREACHABLE, "job-finalize: monitor 'fake' does not answer");
  qemu_replies_to (q, "job-finalize", "{}");
  qemu_expects (q, "stop");
  qemu_replies (q, "{}");
  qmp_client_execute (client, "stop", NULL, 0, on_reply, &next);
  until (next.answers == 1);
  assert_null (next.error);
  assert_int_equal (slow.answers, 1);
  assert_int_equal (qmp_client_get_state (client), QMP_READY);
  fake_qemu_free (q);
}

static void
a_command_whose_deadline_passed_before_the_greeting_is_never_sent (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = client_of (q);
  g_auto (Answer) answer = {0};
  qmp_client_execute (client, "block-commit", NULL, 20, on_reply, &answer);
  until (answer.answers == 1);
  assert_error (answer.error, UNREACHABLE, "block-commit");
  qemu_greets (q);
  until (qmp_client_get_state (client) == QMP_READY);
  fake_qemu_settle ();
  assert_int_equal (qemu_received (q), 1);
  fake_qemu_free (q);
}

static void
deadlines_come_in_order_of_time (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_autoptr (GString) order = g_string_new (NULL);
  g_auto (Answer) a = {.order = order, .name = "a"}, b = {.order = order, .name = "b"};
  qemu_expects (q, "a");
  qemu_expects (q, "b");
  qmp_client_execute (client, "a", NULL, 80, on_reply, &a);
  qmp_client_execute (client, "b", NULL, 20, on_reply, &b);
  until (a.answers && b.answers);
  assert_string_equal (order->str, "ba");
  fake_qemu_free (q);
}

static void
unknown_and_repeated_replies_are_dropped (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) answer = {0}, last = {0};
  qemu_says (
      q,
      "{\"return\": {}, \"id\": 77}{\"return\": {}, \"id\": \"1\"}{\"return\": {}}{\"return\": {}, "
      "\"id\": {}}{\"return\": {}, \"id\": -1}{\"return\": {}, \"id\": 0}{\"return\": {}, \"id\": "
      "null}"
      "{\"error\": {\"desc\": \"x\"}, \"id\": 88}");
  qemu_expects (q, "stop");
  qemu_replies (q, "[1]");
  qemu_replies (q, "[2]");
  qmp_client_execute (client, "stop", NULL, 0, on_reply, &answer);
  until (answer.answers == 1 && qemu_is_done (q));
  qemu_expects (q, "cont");
  qemu_replies (q, "{}");
  qmp_client_execute (client, "cont", NULL, 0, on_reply, &last);
  until (last.answers == 1);
  assert_int_equal (answer.answers, 1);
  assert_string_equal (answer.ret, "[1]");
  fake_qemu_free (q);
}

static void
an_error_without_id_ends_the_connection (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) answer = {0};
  qemu_expects (q, "stop");
  qemu_says (q, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}");
  qmp_client_execute (client, "stop", NULL, 0, on_reply, &answer);
  assert_ends (client, "did not understand us");
  until (answer.answers == 1);
  assert_error (answer.error, UNREACHABLE, "stop: monitor 'fake' did not understand us");
  assert_string_equal (rechain_error_get_cause (answer.error), "JSON parse error");
  fake_qemu_free (q);
}

static void
malformed_or_hostile_input_ends_the_connection_and_nothing_else (void **state)
{
  static const char *const rows[] = {
      "rubbish",
      "[]",
      "{}",
      "{\"a\"",
      "{\"return\": {}, \"event\": \"X\"}",
      "{\"return\": {}, \"id\": 1, }",
      "{\"event\": 7}",
      "{\"QMP\": {}}",
      "{\"error\": 1, \"id\": 1}",
      "{\"return\": null, \"id\": 1}",
      "{\"a\": \"\xff\"}",
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    FakeQemu *q = fake_qemu_new ();
    g_autoptr (QmpClient) client = ready_client_of (q);
    g_auto (Answer) answer = {0};
    qemu_expects (q, "stop");
    qemu_says (q, rows[i]);
    qemu_closes (q);
    qmp_client_execute (client, "stop", NULL, 0, on_reply, &answer);
    assert_ends (client, "monitor 'fake'");
    until (answer.answers == 1);
    assert_error (answer.error, UNREACHABLE, "stop: ");
    fake_qemu_free (q);
  }
}

static void
a_reply_may_be_64_megabytes (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) answer = {0};
  gsize length = QMP_MAX_MESSAGE - 30;
  g_autofree char *text = g_strnfill (length, 'x');
  memcpy (text, "{\"id\":1,\"return\":\"", 18);
  memcpy (text + length - 2, "\"}", 2);
  qemu_expects (q, "query-named-block-nodes");
  qemu_says_bytes (q, text, length);
  qmp_client_execute (client, "query-named-block-nodes", NULL, 0, on_reply, &answer);
  until (answer.answers == 1);
  assert_null (answer.error);
  assert_int_equal (strlen (answer.ret), length - 18);
  fake_qemu_free (q);
}

static void
a_reply_that_comes_byte_by_byte_is_understood (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  qemu_writes_slowly (q, 1);
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) answer = {0};
  qemu_expects (q, "query-block");
  qemu_replies (q, "[{'device': '\xc3\xa4', 'x': 1.5}]");
  qmp_client_execute (client, "query-block", NULL, 0, on_reply, &answer);
  until (answer.answers == 1);
  assert_string_equal (answer.ret, "[{\"device\":\"\xc3\xa4\",\"x\":1.5}]");
  fake_qemu_free (q);
}

static void
a_qemu_that_does_not_read_is_given_up_at_the_limit (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) answer = {0};
  g_autofree char *text = g_strnfill (8 << 20, 'x');
  qemu_stops_reading (q);
  for (int i = 0; i < 12; i++)
    qmp_client_execute (client, "x", json_make ("a", json_str (text), NULL), 0, i ? NULL : on_reply,
                        &answer);
  assert_ends (client, "does not read");
  until (answer.answers == 1);
  fake_qemu_free (q);
}

/* ---- the end --------------------------------------------------------------------------------- */

typedef struct {
  GString *log;
  Answer *waits;
} Ending;

static void
on_state (QmpClient *client, QmpState state, gpointer data)
{
  Ending *ending = data;
  if (state == QMP_CLOSED)
    assert_int_equal (ending->waits->answers, 1);
  g_string_append_printf (ending->log, "%d", (int)state);
}

static void
every_waiter_is_answered_once_and_then_the_end_is_told (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = client_of (q);
  g_autoptr (GString) order = g_string_new (NULL);
  g_auto (Answer) a = {.order = order, .name = "a"}, b = {.order = order, .name = "b"};
  Ending ending = {.log = g_string_new (NULL), .waits = &b};
  qmp_client_watch_state (client, on_state, &ending);
  qemu_greets (q);
  qemu_expects (q, "a");
  qemu_expects (q, "b");
  qemu_closes (q);
  qmp_client_execute (client, "a", NULL, 0, on_reply, &a);
  qmp_client_execute (client, "b", NULL, 0, on_reply, &b);
  until (g_str_has_suffix (ending.log->str, "4"));
  fake_qemu_settle ();
  assert_string_equal (ending.log->str, "234");
  assert_string_equal (order->str, "ab");
  assert_int_equal (a.answers + b.answers, 2);
  assert_error (a.error, UNREACHABLE, "a: monitor 'fake' closed the connection");
  g_string_free (ending.log, TRUE);
  fake_qemu_free (q);
}

static void
closing_answers_from_the_main_loop_and_never_from_inside (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) before = {0}, after = {0};
  qmp_client_execute (client, "x", NULL, 0, on_reply, &before);
  qmp_client_close (client);
  qmp_client_close (client);
  qmp_client_execute (client, "y", json_make ("a", json_int (1), NULL), 0, on_reply, &after);
  assert_int_equal (before.answers + after.answers, 0);
  assert_int_equal (qmp_client_get_state (client), QMP_CLOSED);
  until (before.answers == 1 && after.answers == 1);
  assert_error (before.error, UNREACHABLE, "closed by us");
  qmp_client_execute (client, "z", NULL, 0, on_reply, &after);
  g_clear_error (&after.error);
  until (after.answers == 2);
  fake_qemu_free (q);
}

static void
who_waits_is_answered_although_the_last_reference_is_gone (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  QmpClient *client = ready_client_of (q);
  g_auto (Answer) answer = {0};
  int events = 0;
  qmp_client_listen (client, NULL, count_event, &events);
  qmp_client_execute (client, "x", NULL, 0, on_reply, &answer);
  qmp_client_unref (client);
  assert_int_equal (answer.answers, 0);
  until (answer.answers == 1);
  fake_qemu_settle ();
  assert_int_equal (answer.answers, 1);
  assert_int_equal (events, 0);
  fake_qemu_free (q);
}

static void
drop_client (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  ++*(int *)data;
  qmp_client_unref (client);
}

static void
drop_client_at_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  ++*(int *)data;
  qmp_client_unref (client);
}

static void
callbacks_may_drop_the_last_reference (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  QmpClient *client = ready_client_of (q);
  int called = 0;
  qemu_expects (q, "x");
  qemu_replies (q, "{}");
  qmp_client_execute (client, "x", NULL, 0, drop_client, &called);
  until (called == 1);
  fake_qemu_settle ();
  fake_qemu_free (q);

  q = fake_qemu_new ();
  client = ready_client_of (q);
  qmp_client_listen (client, "A", drop_client_at_event, &called);
  qemu_event (q, "A", NULL);
  qemu_event (q, "A", NULL);
  until (called == 2);
  fake_qemu_settle ();
  assert_int_equal (called, 2);
  fake_qemu_free (q);
}

static void
ask_again (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  int *left = data;
  if (--*left > 0)
    qmp_client_execute (client, "again", NULL, 0, ask_again, data);
}

static void
who_asks_again_at_the_end_is_answered_again (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  int left = 5;
  qmp_client_execute (client, "again", NULL, 0, ask_again, &left);
  qmp_client_close (client);
  until (left == 0);
  fake_qemu_free (q);
}

/* ---- events ---------------------------------------------------------------------------------- */

typedef struct {
  QmpClient *client;
  guint other; /* removed at the first event */
  int count;
  int added; /* counted by a listener added at the first event */
} Meddler;

static void
meddle (QmpClient *client, const char *name, Json *event, gpointer data)
{
  Meddler *meddler = data;
  qmp_client_unlisten (client, meddler->other);
  if (meddler->count++ == 0)
    qmp_client_listen (client, NULL, count_event, &meddler->added);
}

static void
events_go_to_any_number_of_listeners_by_name (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  int all = 0, stops = 0, none = 0;
  qmp_client_listen (client, NULL, count_event, &all);
  qmp_client_listen (client, "STOP", count_event, &stops);
  guint id = qmp_client_listen (client, NULL, count_event, &none);
  qmp_client_unlisten (client, id);
  qmp_client_unlisten (client, id);
  qmp_client_unlisten (client, 0);
  qemu_event (q, "STOP", NULL);
  qemu_event (q, "RESUME", NULL);
  qemu_event (q, "JOB_STATUS_CHANGE", "{'id': 'x', 'status': 'running'}");
  until (all == 3);
  assert_int_equal (stops, 1);
  assert_int_equal (none, 0);
  fake_qemu_free (q);
}

static void
listeners_may_come_and_go_while_an_event_is_told (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  int removed = 0;
  Meddler meddler = {.client = client};
  qmp_client_listen (client, NULL, meddle, &meddler);
  meddler.other = qmp_client_listen (client, NULL, count_event, &removed);
  qemu_event (q, "A", NULL);
  qemu_event (q, "B", NULL);
  until (meddler.count == 2);
  fake_qemu_settle ();
  assert_int_equal (removed, 0);
  assert_int_equal (meddler.added, 1);
  fake_qemu_free (q);
}

static void
a_flood_of_events_does_not_starve_a_deadline (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client = ready_client_of (q);
  g_auto (Answer) answer = {0};
  g_autoptr (GString) flood = g_string_new (NULL);
  int events = 0;
  for (int i = 0; i < 200000; i++)
    g_string_append (flood, "{\"event\":\"E\"}");
  qmp_client_listen (client, "E", count_event, &events);
  qemu_expects (q, "x");
  qemu_says (q, flood->str);
  qmp_client_execute (client, "x", NULL, 20, on_reply, &answer);
  until (answer.answers == 1);
  assert_true (events < 200000);
  until (events == 200000);
  fake_qemu_free (q);
}

static void
no_descriptor_is_left_open (void **state)
{
  guint before = 0;
  for (int i = 0; i < 10; i++) {
    every_waiter_is_answered_once_and_then_the_end_is_told (NULL);
    fake_qemu_settle ();
    before = before ? before : count_fds ();
  }
  assert_int_equal (count_fds (), before);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_greeting_tells_version_and_peer),
      cmocka_unit_test (a_hostile_version_is_only_wrong),
      cmocka_unit_test (a_silent_monitor_is_held_by_somebody_else),
      cmocka_unit_test (what_is_no_qmp_monitor_is_told_so),
      cmocka_unit_test (refused_capabilities_end_the_connection),
      cmocka_unit_test (commands_wait_for_the_greeting_and_are_answered),
      cmocka_unit_test (many_commands_are_in_flight_and_answered_in_any_order),
      cmocka_unit_test (ten_thousand_commands_at_once_are_all_answered),
      cmocka_unit_test (a_command_has_a_deadline_and_its_late_reply_is_dropped),
      cmocka_unit_test (a_command_whose_deadline_passed_before_the_greeting_is_never_sent),
      cmocka_unit_test (deadlines_come_in_order_of_time),
      cmocka_unit_test (unknown_and_repeated_replies_are_dropped),
      cmocka_unit_test (an_error_without_id_ends_the_connection),
      cmocka_unit_test (malformed_or_hostile_input_ends_the_connection_and_nothing_else),
      cmocka_unit_test (a_reply_may_be_64_megabytes),
      cmocka_unit_test (a_reply_that_comes_byte_by_byte_is_understood),
      cmocka_unit_test (a_qemu_that_does_not_read_is_given_up_at_the_limit),
      cmocka_unit_test (every_waiter_is_answered_once_and_then_the_end_is_told),
      cmocka_unit_test (closing_answers_from_the_main_loop_and_never_from_inside),
      cmocka_unit_test (who_waits_is_answered_although_the_last_reference_is_gone),
      cmocka_unit_test (callbacks_may_drop_the_last_reference),
      cmocka_unit_test (who_asks_again_at_the_end_is_answered_again),
      cmocka_unit_test (events_go_to_any_number_of_listeners_by_name),
      cmocka_unit_test (listeners_may_come_and_go_while_an_event_is_told),
      cmocka_unit_test (a_flood_of_events_does_not_starve_a_deadline),
      cmocka_unit_test (no_descriptor_is_left_open),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
