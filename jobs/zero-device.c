/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A piece per turn of the main loop, so that it is never held up for long. */
#include "jobs/zero-device.h"

#include "src/common/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ALIGN 4096u

/* In the order in which they are tried; the size of a piece is what one call may take. */
static const struct {
  int mode; /* of fallocate(2); -1: written */
  guint64 piece;
} ways[] = {
    /* Unmaps, and fails where the device does not promise zeroes then. */
    {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 256u << 20},
    /* The kernel writes zeroes itself where the device has no command for it. */
    {FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 16u << 20},
    {-1, 4u << 20},
};

typedef struct {
  Work work;
  OpDisk *disk;
  WorkHost host;
  int fd;
  guint64 at, end;
  guint way;
  GSource *source;
  gboolean cancelled;
} Zero;

static void
zero_ended (Zero *zero, GError *take_error)
{
  WorkHost host = zero->host;
  g_autoptr (GError) error = take_error;
  source_clear (&zero->source);
  if (zero->fd >= 0)
    close (zero->fd);
  g_free (zero);
  host.done (error, host.data);
}

static const char *
path_of (Zero *zero)
{
  return json_get_bool (zero->disk->details, "in-place") ? zero->disk->to : zero->disk->part;
}

static gboolean
open_it (Zero *zero, GError **error)
{
  zero->fd = open (path_of (zero), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  off_t end = zero->fd >= 0 ? lseek (zero->fd, 0, SEEK_END) : -1;
  if (end < 0)
    return fail_errno (error, errno, "open '%s'", path_of (zero));
  zero->end = (guint64)end;
  zero->disk->total = zero->end > zero->at ? zero->end - zero->at : 0;
  return TRUE;
}

static gboolean
write_zeroes (Zero *zero, guint64 length)
{
  g_autofree char *buffer = g_malloc0 (length);
  guint64 done = 0;
  while (done < length) {
    gssize n = pwrite (zero->fd, buffer + done, length - done, (off_t)(zero->at + done));
    if (n < 0 && errno != EINTR)
      return FALSE;
    done += n > 0 ? (guint64)n : 0;
  }
  return TRUE;
}

/* What is not aligned is written: devices zero whole blocks. */
static gboolean
zero_piece (Zero *zero, GError **error)
{
  guint64 head = zero->at % ALIGN ? ALIGN - zero->at % ALIGN : 0;
  guint way = head > 0 || zero->end - zero->at < ALIGN ? G_N_ELEMENTS (ways) - 1 : zero->way;
  guint64 length = MIN (zero->end - zero->at, head > 0 ? head : ways[way].piece);
  if (ways[way].mode >= 0)
    length -= length % ALIGN;
  gboolean ok = ways[way].mode < 0
                    ? write_zeroes (zero, length)
                    : fallocate (zero->fd, ways[way].mode, (off_t)zero->at, (off_t)length) == 0;
  if (!ok && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENODEV) && ways[way].mode >= 0) {
    zero->way++;
    return TRUE;
  }
  if (!ok && errno != EINTR)
    return fail_errno (error, errno, "zero '%s'", path_of (zero));
  if (ok) {
    zero->at += length;
    zero->disk->current += length;
    zero->host.changed (zero->host.data);
  }
  return TRUE;
}

/* FALSE: it is done, or there is an error. */
static gboolean
go_on (Zero *zero, GError **error)
{
  if (zero->cancelled)
    return fail (error, INTERRUPTED, "cancelled");
  if (zero->fd < 0)
    return open_it (zero, error);
  if (zero->at < zero->end)
    return zero_piece (zero, error);
  if (fsync (zero->fd) != 0)
    fail_errno (error, errno, "sync '%s'", path_of (zero));
  return FALSE;
}

static gboolean
turn (gpointer data)
{
  Zero *zero = data;
  GError *error = NULL;
  if (go_on (zero, &error))
    return G_SOURCE_CONTINUE;
  zero_ended (zero, error);
  return G_SOURCE_REMOVE;
}

static void
cancel (Work *work)
{
  ((Zero *)work)->cancelled = TRUE;
}

Work *
zero_device_start (Op *op, OpDisk *disk, const WorkHost *host)
{
  Zero *zero = g_new0 (Zero, 1);
  *zero = (Zero){.work.cancel = cancel,
                 .disk = disk,
                 .host = *host,
                 .fd = -1,
                 .at = op_disk_size (disk, "zero-from")};
  disk->current = 0;
  source_idle (&zero->source, turn, zero);
  return &zero->work;
}
