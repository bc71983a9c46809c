/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hostile guest agent can write. First byte: how many commands are asked at once; then what
 * it says, in pieces that end with a 0xfe byte (which no JSON and no sentinel is): the first one as
 * soon as we connect, another one after each line of ours. Where a piece holds "@", it answers the
 * sync in its place, so that what follows is heard as answers. Checked: every command is answered
 * exactly once. */
#include "qmp/agent.h"

#include "qmp/address.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdint.h>
#include <string.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define PIECE_ENDS 0xfe
#define SYNC_MS    3

typedef struct {
  GSocketConnection *connection; /* the last one */
  GSource *readable;
  GString *heard;
  const char *said, *end;
} Peer;

static GSocket *
socket_of (Peer *peer)
{
  return g_socket_connection_get_socket (peer->connection);
}

/* Nothing of a connection outlives it: a target that runs out of descriptors tests nothing more. */
static void
hang_up (Peer *peer)
{
  if (peer->readable != NULL)
    g_source_destroy (peer->readable);
  g_clear_pointer (&peer->readable, g_source_unref);
  g_clear_object (&peer->connection);
}

static void
send_bytes (Peer *peer, const char *bytes, gsize length)
{
  /* Small inputs fit into the socket's buffer; what does not is as if it had not been said. */
  g_socket_send (socket_of (peer), bytes, length, NULL, NULL);
}

static void
say_piece (Peer *peer)
{
  if (peer->said == peer->end) { /* silence would only cost time */
    g_socket_shutdown (socket_of (peer), TRUE, TRUE, NULL);
    return;
  }
  const char *stop = memchr (peer->said, PIECE_ENDS, (gsize)(peer->end - peer->said));
  if (stop == NULL)
    stop = peer->end;
  const char *at = memchr (peer->said, '@', (gsize)(stop - peer->said));
  const char *id = at ? g_strrstr (peer->heard->str, "\"id\":") : NULL;
  send_bytes (peer, peer->said, (gsize)((at ? at : stop) - peer->said));
  if (id != NULL) {
    g_autofree char *answer = g_strdup_printf ("\xff{\"return\":%" G_GINT64_FORMAT "}\n",
                                               g_ascii_strtoll (id + 5, NULL, 10));
    send_bytes (peer, answer, strlen (answer));
  }
  if (at != NULL)
    send_bytes (peer, at + 1, (gsize)(stop - at - 1));
  peer->said = stop == peer->end ? stop : stop + 1;
}

static gboolean
on_readable (GSocket *socket, GIOCondition condition, gpointer data)
{
  Peer *peer = data;
  char bytes[4096];
  gssize n = g_socket_receive (socket, bytes, sizeof bytes, NULL, NULL);
  if (n <= 0)
    return G_SOURCE_REMOVE;
  g_string_append_len (peer->heard, bytes, n);
  for (gssize i = 0; i < n; i++)
    if (bytes[i] == '\n')
      say_piece (peer);
  return G_SOURCE_CONTINUE;
}

static gboolean
on_incoming (GSocketService *service, GSocketConnection *connection, GObject *source, gpointer data)
{
  Peer *peer = data;
  hang_up (peer);
  peer->connection = g_object_ref (connection);
  GSocket *socket = socket_of (peer);
  g_socket_set_blocking (socket, FALSE);
  g_string_truncate (peer->heard, 0);
  peer->readable = g_socket_create_source (socket, G_IO_IN, NULL);
  g_source_set_callback (peer->readable, G_SOURCE_FUNC (on_readable), peer, NULL);
  g_source_attach (peer->readable, NULL);
  say_piece (peer);
  return TRUE;
}

static void
on_reply (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  g_assert_true ((ret == NULL) != (error == NULL));
  ++*(guint *)data;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static char *path;
  static GSocketListener *listener;
  static Peer peer;
  if (size < 1 || size > 16384)
    return 0;
  if (path == NULL) {
    g_autofree char *dir = g_dir_make_tmp ("rechain-fuzz-XXXXXX", NULL);
    GSocket *socket = NULL;
    path = g_build_filename (dir, "qga", NULL);
    g_assert_cmpint (qmp_unix_listen (path, &socket), ==, 0);
    listener = G_SOCKET_LISTENER (g_socket_service_new ());
    g_assert_true (g_socket_listener_add_socket (listener, socket, NULL, NULL));
    g_signal_connect (listener, "incoming", G_CALLBACK (on_incoming), &peer);
    peer.heard = g_string_new (NULL);
  }
  peer.said = (const char *)data + 1;
  peer.end = (const char *)data + size;
  guint answers = 0, asked = 1 + data[0] % 3;
  QmpAgent *agent = qmp_agent_new (path, SYNC_MS, NULL);
  for (guint i = 0; i < asked; i++)
    qmp_agent_execute (agent, "guest-info", NULL, SYNC_MS, on_reply, &answers);
  while (answers < asked)
    g_main_context_iteration (NULL, TRUE);
  qmp_agent_free (agent);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_assert_cmpuint (answers, ==, asked);
  return 0;
}
