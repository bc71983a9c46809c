/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/address.h"

#include "src/common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- parsing --------------------------------------------------------------------------------- */

static gboolean
parse_tcp (const char *host_and_port, QmpAddress *ret_address)
{
  GSocketConnectable *remote = g_network_address_parse (host_and_port, 0, NULL);
  if (remote == NULL)
    return FALSE;
  GNetworkAddress *address = G_NETWORK_ADDRESS (remote);
  const char *host = g_network_address_get_hostname (address);
  ret_address->remote = remote;
  return g_network_address_get_port (address) != 0 && host != NULL && *host != '\0';
}

gboolean
qmp_address_parse (const char *text, QmpAddress *ret_address, GError **error)
{
  *ret_address = (QmpAddress){0};
  gboolean good;
  if (g_str_has_prefix (text, "tcp:"))
    good = parse_tcp (text + 4, ret_address);
  else if (g_str_has_prefix (text, "unix:"))
    good = *(ret_address->path = g_strdup (text + 5)) != '\0';
  else
    good = strchr (ret_address->path = g_strdup (text), '/') != NULL;
  if (good)
    return TRUE;
  qmp_address_clear (ret_address);
  fail (error, USAGE, "'%s' is not the address of a monitor", text);
  return hint (error, "a path with a '/', unix:PATH or tcp:HOST:PORT");
}

void
qmp_address_clear (QmpAddress *address)
{
  g_clear_pointer (&address->path, g_free);
  g_clear_object (&address->remote);
}

/* ---- unix sockets ---------------------------------------------------------------------------- */

static gboolean
fill_sun_path (const char *path, struct sockaddr_un *ret_sun)
{
  *ret_sun = (struct sockaddr_un){.sun_family = AF_UNIX};
  return g_strlcpy (ret_sun->sun_path, path, sizeof ret_sun->sun_path) < sizeof ret_sun->sun_path;
}

/* sun_path holds 107 bytes; a longer path is opened first, and then named by its descriptor. */
static int
connect_long (int fd, const char *path)
{
  int target = open (path, O_PATH | O_CLOEXEC);
  if (target < 0)
    return errno;
  g_autofree char *proc = g_strdup_printf ("/proc/self/fd/%d", target);
  struct sockaddr_un sun;
  fill_sun_path (proc, &sun);
  int errnum = connect (fd, (struct sockaddr *)&sun, sizeof sun) < 0 ? errno : 0;
  close (target);
  return errnum;
}

/* The kernel refuses a connection to what is no socket as it does to one that nobody listens at. */
static int
connect_path (int fd, const char *path)
{
  struct sockaddr_un sun;
  struct stat st;
  int errnum = 0;
  if (!fill_sun_path (path, &sun))
    errnum = connect_long (fd, path);
  else if (connect (fd, (struct sockaddr *)&sun, sizeof sun) < 0)
    errnum = errno;
  gboolean other = errnum == ECONNREFUSED && stat (path, &st) == 0 && !S_ISSOCK (st.st_mode);
  return other ? ENOTSOCK : errnum;
}

/* Takes @fd. */
static GSocket *
socket_of_fd (int fd)
{
  GSocket *socket = g_socket_new_from_fd (fd, NULL);
  if (socket == NULL)
    close (fd);
  else
    g_socket_set_blocking (socket, FALSE);
  return socket;
}

int
qmp_unix_connect (const char *path, GSocketConnection **ret_connection)
{
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return errno;
  int errnum = connect_path (fd, path);
  if (errnum != 0) {
    close (fd);
    return errnum;
  }
  g_autoptr (GSocket) socket = socket_of_fd (fd);
  if (socket == NULL)
    return EBADF;
  *ret_connection = g_socket_connection_factory_create_connection (socket);
  return 0;
}

static int
bind_path (int fd, const char *path)
{
  g_autofree char *folder = g_path_get_dirname (path);
  g_autofree char *file = g_path_get_basename (path);
  int dir = open (folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return errno;
  g_autofree char *proc = g_strdup_printf ("/proc/self/fd/%d/%s", dir, file);
  struct sockaddr_un sun;
  int errnum = ENAMETOOLONG;
  if (fill_sun_path (proc, &sun))
    errnum = bind (fd, (struct sockaddr *)&sun, sizeof sun) < 0 ? errno : 0;
  close (dir);
  return errnum;
}

int
qmp_unix_listen (const char *path, GSocket **ret_socket)
{
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return errno;
  /* Before bind, so that there is no moment with another mode, and no umask of the
   * process changes. */
  int errnum = fchmod (fd, 0600) < 0 ? errno : bind_path (fd, path);
  if (errnum == 0 && listen (fd, 16) < 0)
    errnum = errno;
  if (errnum != 0) {
    close (fd);
    return errnum;
  }
  *ret_socket = socket_of_fd (fd);
  return *ret_socket ? 0 : EBADF;
}

gboolean
qmp_address_is_dead (const char *text)
{
  QmpAddress address = {0};
  g_autoptr (GSocketConnection) connection = NULL;
  gboolean local = qmp_address_parse (text, &address, NULL) && address.path != NULL;
  int errnum = local ? qmp_unix_connect (address.path, &connection) : 0;
  qmp_address_clear (&address);
  return errnum == ENOENT || errnum == ECONNREFUSED || errnum == ENOTDIR;
}

/* ---- words ----------------------------------------------------------------------------------- */

gboolean
qmp_address_fail_unix (const char *peer, const char *name, int errnum, GError **error)
{
  static const struct {
    int errnum;
    RechainError code;
    const char *format;
    const char *advice;
  } rows[] = {
      {ENOENT, UNREACHABLE, "%s '%s' does not exist", "is QEMU running, and is the path right?"},
      {ENOTDIR, UNREACHABLE, "%s '%s' does not exist", "is QEMU running, and is the path right?"},
      {ECONNREFUSED, UNREACHABLE, "nobody listens at %s '%s'",
       "has QEMU ended? Its socket file is left behind then"},
      {ENOTSOCK, UNREACHABLE, "%s '%s' is not a socket", "name the socket that QEMU listens at"},
      {EACCES, PERMISSION, "%s '%s' may not be opened",
       "run as root or as the user that QEMU runs as"},
      {EPERM, PERMISSION, "%s '%s' may not be opened",
       "run as root or as the user that QEMU runs as"},
      {EPROTOTYPE, UNREACHABLE, "%s '%s' is not a stream socket", NULL},
      {0, UNREACHABLE, "%s '%s' cannot be reached", NULL},
  };
  gsize i = 0;
  while (rows[i].errnum != errnum && rows[i].errnum != 0)
    i++;
  fail (error, rows[i].code, rows[i].format, peer, name);
  because (error, "%s", g_strerror (errnum));
  return rows[i].advice ? hint (error, "%s", rows[i].advice) : FALSE;
}

gboolean
qmp_address_fail_remote (const char *peer, const char *name, const GError *why, GError **error)
{
  gboolean refused = g_error_matches (why, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
  fail (error, UNREACHABLE, refused ? "nobody listens at %s '%s'" : "%s '%s' cannot be reached",
        peer, name);
  because (error, "%s", why->message);
  return hint (error, "is QEMU running, and are host and port right?");
}

gboolean
qmp_address_fail_silent (const char *name, gboolean connected, GError **error)
{
  fail (error, UNREACHABLE, "monitor '%s' is silent: somebody else holds this monitor", name);
  because (error, "%s", connected ? "no greeting came" : "the connection was not accepted");
  return hint (error, "QEMU serves one client per monitor: close the other client, or give the VM "
                      "a second -qmp");
}

void
qmp_peer_identify (GIOStream *connection, pid_t *ret_pid, uid_t *ret_uid)
{
  *ret_pid = 0;
  *ret_uid = (uid_t)-1;
  if (!G_IS_SOCKET_CONNECTION (connection))
    return;
  GSocket *socket = g_socket_connection_get_socket (G_SOCKET_CONNECTION (connection));
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (g_socket_get_family (socket) != G_SOCKET_FAMILY_UNIX ||
      getsockopt (g_socket_get_fd (socket), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
    return;
  *ret_pid = MAX (peer.pid, 0);
  *ret_uid = peer.uid;
}
