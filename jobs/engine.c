/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/engine.h"

#include "jobs/image.h"
#include "src/common/error.h"
#include "src/common/source.h"

#include <errno.h>
#include <sys/socket.h>

#define GREETING_MS 10000u
#define GRACE_MS    5000u /* from the end of the monitor to the end of the process */

struct _Engine {
  EngineHost host;
  ImageRun *process; /* NULL: ended */
  QmpClient *client;
  guint watcher;
  GSource *grace;
  gboolean freed;
};

char **
engine_args (void)
{
  /* Descriptor 3 is our end's other one. */
  const char *argv[] = {"qemu-storage-daemon", "--chardev",       "socket,id=rechain,fd=3",
                        "--monitor",           "chardev=rechain", NULL};
  return g_strdupv ((char **)argv);
}

char **
engine_version_args (void)
{
  const char *argv[] = {"qemu-storage-daemon", "--version", NULL};
  return g_strdupv ((char **)argv);
}

static void
on_ended (const char *out, const GError *error, gpointer data)
{
  Engine *engine = data;
  engine->process = NULL;
  if (engine->freed)
    g_free (engine);
  else
    engine->host.ended (engine, error, engine->host.data);
}

static gboolean
on_grace (gpointer data)
{
  Engine *engine = data;
  g_clear_pointer (&engine->grace, g_source_unref);
  if (engine->process != NULL)
    image_cancel (engine->process);
  return G_SOURCE_REMOVE;
}

/* Without its monitor it is of no use. Usually it was asked to quit, and has closed its images
 * already. */
static void
set_grace (Engine *engine)
{
  source_after (&engine->grace, GRACE_MS, on_grace, engine);
}

static void
on_state (QmpClient *client, QmpState state, gpointer data)
{
  Engine *engine = data;
  if (state == QMP_READY)
    engine->host.ready (engine, engine->host.data);
  else if (state == QMP_CLOSED && engine->process != NULL)
    set_grace (engine);
}

static QmpClient *
connect_to (int fd)
{
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, NULL);
  g_autoptr (GSocketConnection) connection = g_socket_connection_factory_create_connection (socket);
  return qmp_client_new_for_connection (G_IO_STREAM (connection), "qemu-storage-daemon",
                                        GREETING_MS);
}

Engine *
engine_new (const EngineHost *host, GError **error)
{
  int fds[2];
  g_auto (GStrv) argv = engine_args ();
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    fail_errno (error, errno, "make a pair of sockets for %s", argv[0]);
    return NULL;
  }
  Engine *engine = g_new0 (Engine, 1);
  engine->host = *host;
  engine->client = connect_to (fds[0]);
  engine->watcher = qmp_client_watch_state (engine->client, on_state, engine);
  engine->process = image_run_more ((const char *const *)argv, IMAGE_STDERR_FAILS,
                                    &(ImageMore){.fd = &fds[1]}, on_ended, engine);
  return engine;
}

QmpClient *
engine_get_client (Engine *engine)
{
  return engine->client;
}

void
engine_free (Engine *engine)
{
  if (engine == NULL)
    return;
  source_clear (&engine->grace);
  qmp_client_unlisten (engine->client, engine->watcher);
  g_clear_pointer (&engine->client, qmp_client_unref);
  engine->freed = TRUE;
  if (engine->process != NULL)
    image_cancel (engine->process); /* on_ended() frees it */
  else
    g_free (engine);
}
