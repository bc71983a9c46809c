/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "qmp/address.h"
#include "qmp/relay.h"
#include "src/common/error.h"
#include "tests/unit/fake-qemu.h"

#include <glib/gstdio.h>
#include <sys/stat.h>

static const char *const allowed[] = {"query-jobs", "query-block", "job-cancel", NULL};

/* QEMU <- lender <- relay <- borrowers. */
typedef struct {
  FakeQemu *qemu;
  QmpClient *lender;
  QmpRelay *relay;
  char *dir;
  char *path;
} World;

static gboolean
own_command (const char *command, Json *arguments, Json **ret_return, gpointer data, GError **error)
{
  if (!g_str_equal (command, "rechain-speed"))
    return fail (error, NOT_FOUND, "no command '%s'", command);
  *ret_return = json_make ("speed", json_int (json_get_int (arguments, "speed")), NULL);
  return TRUE;
}

static int
set_up (void **state)
{
  World *w = g_new0 (World, 1);
  w->dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  w->path = g_build_filename (w->dir, "relay", NULL);
  w->qemu = fake_qemu_new ();
  w->lender = qmp_client_new_for_connection (fake_qemu_connection (w->qemu), "fake", 0);
  w->relay = qmp_relay_new (w->path, allowed, own_command, w, NULL);
  assert_non_null (w->relay);
  qemu_greets (w->qemu);
  until (qmp_client_get_state (w->lender) == QMP_READY);
  qmp_relay_set_client (w->relay, w->lender);
  *state = w;
  return 0;
}

static int
tear_down (void **state)
{
  World *w = *state;
  qmp_relay_free (w->relay);
  qmp_client_unref (w->lender);
  fake_qemu_settle ();
  fake_qemu_free (w->qemu);
  assert_false (g_file_test (w->path, G_FILE_TEST_EXISTS));
  assert_int_equal (g_rmdir (w->dir), 0);
  g_free (w->path);
  g_free (w->dir);
  g_free (w);
  return 0;
}

typedef struct {
  int answers;
  char *ret;
  char *cause;
} Answer;

static void
on_reply (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Answer *answer = data;
  answer->answers++;
  answer->ret = ret ? json_line (ret) : NULL;
  answer->cause = g_strdup (rechain_error_get_cause (error));
}

static void
answer_clear (Answer *answer)
{
  g_free (answer->ret);
  g_free (answer->cause);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Answer, answer_clear)

static void
count_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  ++*(int *)data;
}

static QmpClient *
borrower_of (World *w)
{
  QmpClient *client = qmp_client_new (w->path, 0, NULL);
  until (qmp_client_get_state (client) >= QMP_READY);
  return client;
}

static void
a_borrower_is_greeted_as_by_qemu (void **state)
{
  World *w = *state;
  struct stat st;
  g_autoptr (QmpClient) borrower = borrower_of (w);
  assert_string_equal (qmp_client_get_version_string (borrower), FAKE_VERSION);
  assert_int_equal (json_length (json_get (qmp_client_get_greeting (borrower), "capabilities")), 0);
  assert_int_equal (g_stat (w->path, &st), 0);
  assert_int_equal (st.st_mode & 07777, 0600);
}

static void
commands_of_several_borrowers_keep_their_own_answers (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) a = borrower_of (w);
  g_autoptr (QmpClient) b = borrower_of (w);
  g_auto (Answer) jobs = {0}, block = {0};
  qmp_client_execute (a, "query-jobs", NULL, 0, on_reply, &jobs);
  qemu_expects (w->qemu, "query-jobs");
  until (qemu_is_done (w->qemu));
  qmp_client_execute (b, "query-block", json_make ("x", json_int (1), NULL), 0, on_reply, &block);
  qemu_expects_with (w->qemu, "query-block", "{'x': 1}");
  qemu_replies (w->qemu, "['block']");
  qemu_replies_to (w->qemu, "query-jobs", "['jobs']");
  until (jobs.answers && block.answers);
  assert_string_equal (jobs.ret, "[\"jobs\"]");
  assert_string_equal (block.ret, "[\"block\"]");
}

static void
refusals_of_qemu_are_passed_on_in_its_words (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) borrower = borrower_of (w);
  g_auto (Answer) answer = {0};
  qemu_expects (w->qemu, "job-cancel");
  qemu_fails (w->qemu, "GenericError", "Job not found");
  qmp_client_execute (borrower, "job-cancel", NULL, 0, on_reply, &answer);
  until (answer.answers);
  assert_string_equal (answer.cause, "Job not found");
}

static void
what_is_not_allowed_is_not_lent (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) borrower = borrower_of (w);
  g_auto (Answer) answer = {0};
  qmp_client_execute (borrower, "quit", NULL, 0, on_reply, &answer);
  until (answer.answers);
  assert_string_equal (answer.cause, "rechain operation holds this monitor: 'quit' is not lent");
  assert_int_equal (qemu_received (w->qemu), 1);
}

static void
commands_for_the_lender_are_answered_by_it (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) borrower = borrower_of (w);
  g_auto (Answer) speed = {0}, other = {0};
  qmp_client_execute (borrower, "rechain-speed", json_make ("speed", json_int (7), NULL), 0,
                      on_reply, &speed);
  qmp_client_execute (borrower, "rechain-x", NULL, 0, on_reply, &other);
  until (speed.answers && other.answers);
  assert_string_equal (speed.ret, "{\"speed\":7}");
  assert_string_equal (other.cause, "no command 'rechain-x'");
}

static void
events_go_to_every_borrower (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) a = borrower_of (w);
  g_autoptr (QmpClient) b = borrower_of (w);
  int seen_a = 0, seen_b = 0;
  qmp_client_listen (a, NULL, count_event, &seen_a);
  qmp_client_listen (b, "STOP", count_event, &seen_b);
  qemu_event (w->qemu, "STOP", NULL);
  qemu_event (w->qemu, "RESUME", NULL);
  until (seen_a == 2 && seen_b == 1);
}

static void
without_qemu_a_borrower_is_told_so (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) borrower = borrower_of (w);
  g_auto (Answer) dead = {0}, none = {0};
  qmp_client_close (w->lender);
  qmp_client_execute (borrower, "query-jobs", NULL, 0, on_reply, &dead);
  until (dead.answers);
  assert_non_null (strstr (dead.cause, "closed by us"));
  qmp_relay_set_client (w->relay, NULL);
  qmp_client_execute (borrower, "query-jobs", NULL, 0, on_reply, &none);
  until (none.answers);
  assert_string_equal (none.cause, "rechain is not connected to QEMU");
  g_autoptr (QmpClient) late = borrower_of (w);
  assert_int_equal (qmp_client_get_state (late), QMP_READY);
}

static void
a_borrower_that_left_gets_no_reply_and_harms_nobody (void **state)
{
  World *w = *state;
  QmpClient *gone = borrower_of (w);
  g_autoptr (QmpClient) stays = borrower_of (w);
  g_auto (Answer) answer = {0}, lost = {0};
  qmp_client_execute (gone, "query-jobs", NULL, 0, on_reply, &lost);
  qemu_expects (w->qemu, "query-jobs");
  until (qemu_is_done (w->qemu));
  qmp_client_unref (gone);
  fake_qemu_settle ();
  qemu_replies (w->qemu, "[]");
  qemu_expects (w->qemu, "query-block");
  qemu_replies (w->qemu, "[]");
  qmp_client_execute (stays, "query-block", NULL, 0, on_reply, &answer);
  until (answer.answers && lost.answers);
  assert_string_equal (answer.ret, "[]");
}

/* A borrower by hand. */

typedef struct {
  GSocketConnection *connection;
  GString *heard;
} Raw;

static void
raw_say (Raw *raw, const char *text)
{
  GSocket *socket = g_socket_connection_get_socket (raw->connection);
  g_socket_send (socket, text, strlen (text), NULL, NULL);
  fake_qemu_settle ();
  char buffer[4096];
  gssize n;
  while ((n = g_socket_receive (socket, buffer, sizeof buffer, NULL, NULL)) > 0)
    g_string_append_len (raw->heard, buffer, n);
  if (n == 0)
    g_string_append (raw->heard, "EOF");
}

static Raw
raw_of (World *w)
{
  Raw raw = {.heard = g_string_new (NULL)};
  assert_int_equal (qmp_unix_connect (w->path, &raw.connection), 0);
  raw_say (&raw, "");
  return raw;
}

static void
raw_clear (Raw *raw)
{
  g_object_unref (raw->connection);
  g_string_free (raw->heard, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Raw, raw_clear)

static void
malformed_requests_are_answered_or_end_that_borrower_only (void **state)
{
  static const struct {
    const char *says;
    const char *hears;
  } rows[] = {
      {"{\"execute\":\"query-jobs\",\"id\":[1]}", "Expecting capabilities"},
      {"{\"execute\":\"qmp_capabilities\",\"id\":\"a\"}", "{\"return\":{},\"id\":\"a\"}"},
      {"{\"execute\":\"qmp_capabilities\"}", "already complete"},
      {"{\"id\":3}", "lacks member 'execute'"},
      {"{\"execute\":7}", "lacks member 'execute'"},
      {"{\"execute\":\"query-jobs\",\"arguments\":[]}", "must be an object"},
      {"{\"execute\":\"query-jobs\",\"control\":{}}", "unexpected member"},
      {"{\"exec-oob\":\"query-jobs\"}", "lacks member 'execute'"},
      {"rubbish", "EOF"},
  };
  World *w = *state;
  g_auto (Raw) raw = raw_of (w);
  g_autoptr (QmpClient) other = borrower_of (w);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_string_truncate (raw.heard, 0);
    raw_say (&raw, rows[i].says);
    if (strstr (raw.heard->str, rows[i].hears) == NULL)
      fail_test ("'%s' was answered '%s'", rows[i].says, raw.heard->str);
  }
  assert_int_equal (qmp_client_get_state (other), QMP_READY);
}

static void
a_borrower_that_does_not_read_is_dismissed_and_stalls_nobody (void **state)
{
  World *w = *state;
  g_autoptr (QmpClient) reads = borrower_of (w);
  g_auto (Raw) deaf = raw_of (w);
  raw_say (&deaf, "{\"execute\":\"qmp_capabilities\"}");
  g_autofree char *text = g_strnfill (4 << 20, 'x');
  g_autofree char *data = g_strdup_printf ("{'x': '%s'}", text);
  int seen = 0;
  qmp_client_listen (reads, NULL, count_event, &seen);
  for (int i = 0; i < 8; i++)
    qemu_event (w->qemu, "BIG", data);
  until (seen == 8);
  raw_say (&deaf, "{\"execute\":\"query-jobs\"}");
  assert_true (g_str_has_suffix (deaf.heard->str, "EOF"));
}

static void
too_many_at_once_are_refused (void **state)
{
  World *w = *state;
  g_auto (Raw) raw = raw_of (w);
  raw_say (&raw, "{\"execute\":\"qmp_capabilities\"}");
  for (int i = 0; i < 64; i++)
    qemu_expects (w->qemu, "query-jobs");
  for (int i = 0; i < 65; i++)
    raw_say (&raw, "{\"execute\":\"query-jobs\"}");
  assert_non_null (strstr (raw.heard->str, "too many commands at once"));
  g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func ((GDestroyNotify)g_object_unref);
  for (int i = 0; i < 20; i++) {
    GSocketConnection *connection;
    assert_int_equal (qmp_unix_connect (w->path, &connection), 0);
    g_ptr_array_add (all, connection);
    fake_qemu_settle ();
  }
  char byte;
  GSocket *last = g_socket_connection_get_socket (all->pdata[19]);
  assert_int_equal (g_socket_receive (last, &byte, 1, NULL, NULL), 0);
}

static void
a_stale_socket_is_replaced_and_a_live_one_is_not (void **state)
{
  World *w = *state;
  g_autofree char *stale = g_build_filename (w->dir, "stale", NULL);
  g_autofree char *file = g_build_filename (w->dir, "file", NULL);
  g_autoptr (GError) error = NULL;
  GSocket *socket = NULL;
  assert_null (qmp_relay_new (w->path, allowed, NULL, NULL, &error));
  assert_error (error, REFUSED, "cannot lend the monitor at");
  g_clear_error (&error);
  assert_int_equal (qmp_unix_listen (stale, &socket), 0);
  g_object_unref (socket);
  g_autoptr (QmpRelay) relay = qmp_relay_new (stale, allowed, NULL, NULL, &error);
  assert_non_null (relay);
  assert_true (g_file_set_contents (file, "data", -1, NULL));
  assert_null (qmp_relay_new (file, allowed, NULL, NULL, &error));
  assert_error (error, REFUSED, "cannot lend the monitor at");
  g_unlink (file);
  g_clear_pointer (&relay, qmp_relay_free);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown (a_borrower_is_greeted_as_by_qemu, set_up, tear_down),
      cmocka_unit_test_setup_teardown (commands_of_several_borrowers_keep_their_own_answers, set_up,
                                       tear_down),
      cmocka_unit_test_setup_teardown (refusals_of_qemu_are_passed_on_in_its_words, set_up,
                                       tear_down),
      cmocka_unit_test_setup_teardown (what_is_not_allowed_is_not_lent, set_up, tear_down),
      cmocka_unit_test_setup_teardown (commands_for_the_lender_are_answered_by_it, set_up,
                                       tear_down),
      cmocka_unit_test_setup_teardown (events_go_to_every_borrower, set_up, tear_down),
      cmocka_unit_test_setup_teardown (without_qemu_a_borrower_is_told_so, set_up, tear_down),
      cmocka_unit_test_setup_teardown (a_borrower_that_left_gets_no_reply_and_harms_nobody, set_up,
                                       tear_down),
      cmocka_unit_test_setup_teardown (malformed_requests_are_answered_or_end_that_borrower_only,
                                       set_up, tear_down),
      cmocka_unit_test_setup_teardown (a_borrower_that_does_not_read_is_dismissed_and_stalls_nobody,
                                       set_up, tear_down),
      cmocka_unit_test_setup_teardown (too_many_at_once_are_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown (a_stale_socket_is_replaced_and_a_live_one_is_not, set_up,
                                       tear_down),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
