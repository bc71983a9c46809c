/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hostile QEMU can write: the parser in pieces of any size, then a client with commands in
 * flight, listeners and features. First byte: size of the pieces. Checked: every command is
 * answered exactly once, and whole or in pieces the parser says the same. */
#include "qmp/client.h"
#include "qmp/features.h"
#include "qmp/message.h"
#include "qmp/parser.h"

#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define COMMANDS 3

/* Number of messages, plus a million where it ended with an error. */
static guint
parse (const char *text, gsize size, gsize piece)
{
  g_autoptr (QmpParser) parser = qmp_parser_new (QMP_MAX_MESSAGE);
  guint messages = 0;
  for (gsize at = 0; at < size;) {
    g_autoptr (GError) error = NULL;
    g_autoptr (Json) message = NULL;
    gsize used;
    if (!qmp_parser_feed (parser, text + at, MIN (piece, size - at), &used, &message, &error))
      return messages + 1000000;
    g_assert_true (used > 0);
    at += used;
    if (message == NULL)
      continue;
    messages++;
    qmp_message_read (message);
    g_free (qmp_message_for_log (message));
  }
  return messages;
}

static void
on_reply (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_assert_true ((ret == NULL) != (error == NULL));
  ++*(guint *)data;
}

static void
on_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  g_assert_nonnull (name);
}

static void
on_features (QmpFeatures *features, const GError *error, gpointer data)
{
  g_assert_true ((features == NULL) != (error == NULL));
  qmp_features_free (features);
  ++*(guint *)data;
}

static GIOStream *
connection_of_fd (int fd)
{
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, NULL);
  return G_IO_STREAM (g_socket_connection_factory_create_connection (socket));
}

static void
run_client (const char *text, gsize size)
{
  int fds[2];
  guint answers = 0;
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
  g_autoptr (GIOStream) connection = connection_of_fd (fds[0]);
  QmpClient *client = qmp_client_new_for_connection (connection, "fuzz", 0);
  qmp_client_listen (client, NULL, on_event, NULL);
  for (guint i = 1; i < COMMANDS; i++)
    qmp_client_execute (client, "x", NULL, 0, on_reply, &answers);
  qmp_features_query (client, NULL, FALSE, on_features, &answers);
  /* Small inputs fit into the socket's buffer. */
  g_assert_cmpint (write (fds[1], text, size), ==, (gssize)size);
  shutdown (fds[1], SHUT_WR);
  while (answers < COMMANDS)
    g_main_context_iteration (NULL, TRUE);
  qmp_client_unref (client);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_assert_cmpuint (answers, ==, COMMANDS);
  close (fds[1]);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const char greeting[] = "{\"QMP\":{}}{\"return\":{},\"id\":0}";
  if (size < 1 || size > 65536)
    return 0;
  const char *text = (const char *)data + 1;
  size--;
  guint whole = parse (text, size, size + 1);
  g_assert_cmpuint (whole, ==, parse (text, size, 1u + data[0]));
  run_client (text, size);
  g_autoptr (GString) greeted = g_string_new (greeting);
  g_string_append_len (greeted, text, (gssize)size);
  run_client (greeted->str, greeted->len);
  return 0;
}
