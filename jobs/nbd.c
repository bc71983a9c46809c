/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/nbd.h"

#include "src/common/error.h"
#include "src/common/source.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct _NbdLink {
  gint refs; /* the owner, and each dispatch */
  struct nbd_handle *nbd;
  GSource *source;
  gpointer fd_tag;
  GIOCondition watched;
  gint64 waiting_since; /* monotonic us; 0: nothing is owed */
  gboolean ready, closed;
  NbdTurn turn;
  gpointer data;
  GError *error; /* of the start */
};

typedef struct {
  GSource source;
  NbdLink *link;
} NbdSource;

static void
link_unref (NbdLink *link)
{
  if (--link->refs > 0)
    return;
  g_clear_pointer (&link->nbd, nbd_close);
  g_clear_error (&link->error);
  g_free (link);
}

gboolean
nbd_link_fail (GError **error, const char *what)
{
  const char *words = nbd_get_error ();
  fail (error, nbd_get_errno () == EACCES ? PERMISSION : UNREACHABLE, "%s", what);
  return because (error, "%s", words ? words : "unknown error");
}

/* ---- the source ------------------------------------------------------------------------------ */

static gboolean
owes_us (NbdLink *link)
{
  return !link->ready || nbd_aio_in_flight (link->nbd) > 0;
}

static void
tell (NbdLink *link, GError *take_error)
{
  g_autoptr (GError) error = take_error;
  if (error != NULL && link->source != NULL)
    g_source_destroy (link->source);
  link->turn (link, error, link->data);
}

static gboolean
on_prepare (GSource *source, int *timeout)
{
  NbdLink *link = ((NbdSource *)source)->link;
  *timeout = -1;
  if (link->error != NULL)
    return TRUE;
  unsigned direction = nbd_aio_get_direction (link->nbd);
  GIOCondition wanted = (direction & LIBNBD_AIO_DIRECTION_READ ? G_IO_IN : 0) |
                        (direction & LIBNBD_AIO_DIRECTION_WRITE ? G_IO_OUT : 0);
  /* Each change wakes the loop up again, so that setting it always would never let it sleep. */
  if (wanted != link->watched)
    g_source_modify_unix_fd (source, link->fd_tag, wanted);
  link->watched = wanted;
  if (!owes_us (link)) {
    link->waiting_since = 0;
    return FALSE;
  }
  gint64 now = g_source_get_time (source);
  if (link->waiting_since == 0)
    link->waiting_since = now;
  gint64 left = link->waiting_since + NBD_PATIENCE_MS * G_TIME_SPAN_MILLISECOND - now;
  *timeout = (int)MAX (left / G_TIME_SPAN_MILLISECOND + 1, 0);
  return left <= 0;
}

static gboolean
is_late (NbdLink *link)
{
  return owes_us (link) && link->waiting_since > 0 &&
         g_source_get_time (link->source) - link->waiting_since >=
             NBD_PATIENCE_MS * G_TIME_SPAN_MILLISECOND;
}

static gboolean
on_check (GSource *source)
{
  NbdLink *link = ((NbdSource *)source)->link;
  return link->error != NULL || g_source_query_unix_fd (source, link->fd_tag) != 0 ||
         is_late (link);
}

/* One step of the protocol; FALSE with libnbd's words. */
static gboolean
step (NbdLink *link, GIOCondition seen, GError **error)
{
  unsigned direction = nbd_aio_get_direction (link->nbd);
  int done = 0;
  if ((seen & (G_IO_IN | G_IO_HUP | G_IO_ERR)) && (direction & LIBNBD_AIO_DIRECTION_READ))
    done = nbd_aio_notify_read (link->nbd);
  else if ((seen & (G_IO_OUT | G_IO_HUP | G_IO_ERR)) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
    done = nbd_aio_notify_write (link->nbd);
  if (done < 0)
    return nbd_link_fail (error, "talk to QEMU's NBD server");
  if (nbd_aio_is_dead (link->nbd) || nbd_aio_is_closed (link->nbd))
    return fail (error, UNREACHABLE, "QEMU's NBD server closed the connection");
  return TRUE;
}

static gboolean
on_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  NbdLink *link = ((NbdSource *)source)->link;
  GError *error = g_steal_pointer (&link->error);
  link->refs++;
  if (error == NULL) {
    GIOCondition seen = g_source_query_unix_fd (source, link->fd_tag);
    if (seen != 0)
      link->waiting_since = 0;
    if (seen == 0 && is_late (link))
      fail (&error, UNREACHABLE, "QEMU's NBD server has not answered for %u s",
            NBD_PATIENCE_MS / 1000);
    else if (step (link, seen, &error))
      link->ready = link->ready || nbd_aio_is_ready (link->nbd);
  }
  if (error != NULL || link->ready)
    tell (link, error);
  gboolean go_on = !link->closed && !g_source_is_destroyed (source);
  link_unref (link);
  return go_on;
}

static GSourceFuncs funcs = {on_prepare, on_check, on_dispatch, NULL, NULL, NULL};

/* ---- open and close -------------------------------------------------------------------------- */

static gboolean
start (NbdLink *link, const char *path, const char *export, gboolean depth, GError **error)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen (path) >= sizeof address.sun_path)
    return fail (error, FAILED, "'%s' is too long for the name of a socket", path);
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  link->nbd = nbd_create ();
  if (link->nbd == NULL)
    return nbd_link_fail (error, "make an NBD client");
  if (nbd_set_export_name (link->nbd, export) < 0 ||
      nbd_add_meta_context (link->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
      (depth && nbd_add_meta_context (link->nbd, "qemu:allocation-depth") < 0) ||
      nbd_aio_connect (link->nbd, (struct sockaddr *)&address, sizeof address) < 0)
    return nbd_link_fail (error, "connect to QEMU's NBD server");
  return TRUE;
}

NbdLink *
nbd_link_open (const char *path, const char *export, gboolean depth, NbdTurn turn, gpointer data)
{
  NbdLink *link = g_new0 (NbdLink, 1);
  *link = (NbdLink){.refs = 1, .turn = turn, .data = data};
  link->source = g_source_new (&funcs, sizeof (NbdSource));
  ((NbdSource *)link->source)->link = link;
  if (start (link, path, export, depth, &link->error))
    link->fd_tag = g_source_add_unix_fd (link->source, nbd_aio_get_fd (link->nbd), G_IO_IN);
  g_source_attach (link->source, g_main_context_get_thread_default ());
  return link;
}

void
nbd_link_close (NbdLink *link)
{
  if (link == NULL)
    return;
  link->closed = TRUE;
  if (link->ready && nbd_aio_is_ready (link->nbd))
    nbd_aio_disconnect (link->nbd, 0); /* a courtesy: its answer is not waited for */
  source_clear (&link->source);
  link_unref (link);
}

struct nbd_handle *
nbd_link_handle (NbdLink *link)
{
  return link->nbd;
}

guint64
nbd_link_size (NbdLink *link)
{
  return (guint64)MAX (nbd_get_size (link->nbd), 0);
}

guint
nbd_link_align (NbdLink *link)
{
  gint64 least = nbd_get_block_size (link->nbd, LIBNBD_SIZE_MINIMUM);
  return (guint)CLAMP (least, 1, 65536);
}
