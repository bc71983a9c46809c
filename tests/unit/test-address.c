/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where monitors are, and what is said of those that cannot be reached. */
#include "tests/unit/answer.h"

#include "qmp/address.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void
addresses_are_paths_unix_or_tcp (void **state)
{
  static const char *const good[] = {
      "/x", "./x", "a/b", "unix:x", "unix:/x", "tcp:localhost:1", "tcp:[::1]:4444"};
  static const char *const bad[] = {"",       "x",          "unix:",          "tcp:",   "tcp:host",
                                    "tcp::4", "tcp:host:0", "tcp:host:99999", "tcp:a:b"};
  for (gsize i = 0; i < G_N_ELEMENTS (good); i++) {
    QmpAddress address;
    if (!qmp_address_parse (good[i], &address, NULL))
      fail_test ("'%s' was refused", good[i]);
    qmp_address_clear (&address);
  }
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    if (qmp_client_new (bad[i], 0, &error) != NULL)
      fail_test ("'%s' was taken", bad[i]);
    assert_error (error, USAGE, "is not the address of a monitor");
  }
}

static void
a_monitor_that_cannot_be_reached_says_why (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *absent = g_build_filename (dir, "absent", NULL);
  g_autofree char *dead = g_build_filename (dir, "dead", NULL);
  g_autoptr (GSocket) socket = NULL;
  g_auto (Answer) answer = {0};
  assert_int_equal (qmp_unix_listen (dead, &socket), 0);
  g_socket_close (socket, NULL);

  g_autoptr (QmpClient) a = qmp_client_new (absent, 0, NULL);
  assert_int_equal (qmp_client_get_state (a), QMP_CONNECTING);
  qmp_client_execute (a, "x", NULL, 0, on_reply, &answer);
  assert_ends (a, "does not exist");
  assert_string_equal (rechain_error_get_cause (qmp_client_get_error (a)),
                       "No such file or directory");
  assert_non_null (rechain_error_get_hint (qmp_client_get_error (a)));
  until (answer.answers == 1);

  g_autoptr (QmpClient) b = qmp_client_new (dead, 0, NULL);
  assert_ends (b, "nobody listens");
  g_autoptr (QmpClient) c = qmp_client_new ("tcp:127.0.0.1:1", 0, NULL);
  assert_ends (c, "nobody listens at monitor 'tcp:127.0.0.1:1'");
  g_autoptr (QmpClient) d = qmp_client_new (dir, 0, NULL);
  assert_ends (d, "is not a socket");
  g_unlink (dead);
  g_rmdir (dir);
}

static void
a_forbidden_socket_is_a_matter_of_permission (void **state)
{
  g_autoptr (GError) error = NULL;
  qmp_address_fail_unix ("monitor", "/x", EACCES, &error);
  assert_error (error, PERMISSION, "monitor '/x' may not be opened");
}

static void
paths_may_be_longer_than_a_socket_address (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *name = g_strnfill (150, 'd');
  g_autofree char *deep = g_build_filename (dir, name, NULL);
  g_autofree char *path = g_build_filename (deep, "x.qmp", NULL);
  struct stat st;
  g_mkdir (deep, 0700);
  FakeQemu *q = fake_qemu_new_at (path);
  g_stat (path, &st);
  assert_int_equal (st.st_mode & 0777, 0600);
  qemu_greets (q);
  g_autoptr (QmpClient) client = qmp_client_new (path, 0, NULL);
  until (qmp_client_get_state (client) == QMP_READY);
  assert_string_equal (qmp_client_get_name (client), path);
  fake_qemu_free (q);
  g_rmdir (deep);
  g_rmdir (dir);
}

static void
a_full_backlog_is_a_monitor_that_somebody_holds (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "x.qmp", NULL);
  g_autoptr (GSocket) socket = NULL;
  g_autoptr (GPtrArray) held = g_ptr_array_new_with_free_func (g_object_unref);
  GSocketConnection *connection;
  assert_int_equal (qmp_unix_listen (path, &socket), 0);
  int errnum;
  while ((errnum = qmp_unix_connect (path, &connection)) == 0)
    g_ptr_array_add (held, connection);
  assert_int_equal (errnum, EAGAIN);
  g_autoptr (QmpClient) client = qmp_client_new (path, 120, NULL);
  assert_ends (client, "somebody else holds this monitor");
  g_unlink (path);
  g_rmdir (dir);
}

static gboolean
on_tcp_incoming (GSocketService *service, GSocketConnection *connection, GObject *source,
                 gpointer data)
{
  GOutputStream *out = g_io_stream_get_output_stream (G_IO_STREAM (connection));
  static const char text[] = "{\"QMP\": {}}\r\n{\"return\": {}, \"id\": 0}\r\n";
  g_output_stream_write_all (out, text, sizeof text - 1, NULL, NULL, NULL);
  g_object_set_data_full (G_OBJECT (service), "held", g_object_ref (connection), g_object_unref);
  return TRUE;
}

static void
tcp_is_as_good_as_a_unix_socket (void **state)
{
  g_autoptr (GSocketService) service = g_socket_service_new ();
  guint16 port = g_socket_listener_add_any_inet_port (G_SOCKET_LISTENER (service), NULL, NULL);
  g_autofree char *address = g_strdup_printf ("tcp:127.0.0.1:%u", port);
  g_signal_connect (service, "incoming", G_CALLBACK (on_tcp_incoming), NULL);
  g_socket_service_start (service);
  g_autoptr (QmpClient) client = qmp_client_new (address, 0, NULL);
  until (qmp_client_get_state (client) == QMP_READY);
  assert_int_equal (qmp_client_get_peer_pid (client), 0);
  qmp_client_close (client);
  g_socket_service_stop (service);
  g_socket_listener_close (G_SOCKET_LISTENER (service));
  g_object_set_data (G_OBJECT (service), "held", NULL);
  fake_qemu_settle ();
}

static void
a_client_that_is_dropped_while_connecting_leaves_nothing (void **state)
{
  QmpClient *tcp = qmp_client_new ("tcp:127.0.0.1:1", 0, NULL);
  QmpClient *local = qmp_client_new ("/nonexistent/x", 0, NULL);
  qmp_client_close (tcp);
  qmp_client_unref (tcp);
  qmp_client_unref (local);
  for (int i = 0; i < 20; i++) {
    g_usleep (1000);
    fake_qemu_settle ();
  }
}

static void
no_descriptor_is_left_open (void **state)
{
  guint before = 0;
  for (int i = 0; i < 10; i++) {
    a_monitor_that_cannot_be_reached_says_why (NULL);
    fake_qemu_settle ();
    before = before ? before : count_fds ();
  }
  assert_int_equal (count_fds (), before);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (addresses_are_paths_unix_or_tcp),
      cmocka_unit_test (a_monitor_that_cannot_be_reached_says_why),
      cmocka_unit_test (a_forbidden_socket_is_a_matter_of_permission),
      cmocka_unit_test (paths_may_be_longer_than_a_socket_address),
      cmocka_unit_test (a_full_backlog_is_a_monitor_that_somebody_holds),
      cmocka_unit_test (tcp_is_as_good_as_a_unix_socket),
      cmocka_unit_test (a_client_that_is_dropped_while_connecting_leaves_nothing),
      cmocka_unit_test (no_descriptor_is_left_open),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
