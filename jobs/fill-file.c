/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Space for a raw image: fallocate, which changes nothing of what is in the file, whoever writes to
 * it at the same time; the kernel sees to that. A piece per turn of the main loop, so that it is
 * never held up for long. */
#include "jobs/fill.h"

#include "src/common/fs.h"
#include "src/common/source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (64u << 20)

typedef struct {
  Work work;
  Op *op;
  OpDisk *disk;
  WorkHost host;
  int fd;
  guint region;
  guint64 at; /* bytes of it that are done */
  gint64 began;
  GSource *timer;
  gboolean cancelled;
} FillFile;

static void
end (FillFile *fill, GError *take_error)
{
  WorkHost host = fill->host;
  g_autoptr (GError) error = take_error;
  source_clear (&fill->timer);
  if (fill->fd >= 0)
    close (fill->fd);
  g_free (fill);
  host.done (error, host.data);
}

static const char *
file_of (FillFile *fill)
{
  return ((ChainLayer *)fill->disk->before->pdata[0])->file;
}

static gboolean
open_file (FillFile *fill, GError **error)
{
  FileId id = {0};
  FileId planned = fill->disk->old_ids->len > 0 ? *(FileId *)fill->disk->old_ids->pdata[0] : id;
  fill->fd = open (file_of (fill), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fill->fd < 0 || !file_identify_fd (fill->fd, file_of (fill), &id))
    return fail_errno (error, errno, "open '%s'", file_of (fill));
  return file_id_equal (id, planned) ||
         fail (error, REFUSED, "'%s' is another file now", file_of (fill));
}

/* How long the present bandwidth makes this much last, us. */
static gint64
due (FillFile *fill)
{
  guint64 rate = fill->op->bandwidth;
  return rate ? (gint64)((double)fill->disk->current * G_USEC_PER_SEC / (double)rate) : 0;
}

static gboolean
allocate_piece (FillFile *fill, const Region *region, GError **error)
{
  guint64 rate = fill->op->bandwidth;
  guint64 most = rate ? CLAMP (rate / 10, 65536, PIECE) : PIECE;
  guint64 length = MIN (region->length - fill->at, most);
  int done;
  do
    done = fallocate (fill->fd, 0, (off_t)(region->start + fill->at), (off_t)length);
  while (done != 0 && errno == EINTR);
  if (done != 0 && errno == EOPNOTSUPP) {
    fail_errno (error, errno, "allocate space for '%s'", file_of (fill));
    return hint (error, "its filesystem cannot; copy the image with full allocation instead");
  }
  if (done != 0)
    return fail_errno (error, errno, "allocate space for '%s'", file_of (fill));
  fill->at += length;
  fill->disk->current += length;
  if (fill->host.changed != NULL)
    fill->host.changed (fill->host.data);
  return TRUE;
}

static gboolean
turn (gpointer data);

static void
later (FillFile *fill, gint64 us)
{
  if (us > 0)
    source_after (&fill->timer, (guint)(us / 1000 + 1), turn, fill);
  else
    source_idle (&fill->timer, turn, fill);
}

static gboolean
turn (gpointer data)
{
  FillFile *fill = data;
  GError *error = NULL;
  gboolean last = fill->region >= fill->disk->regions->len;
  Region *region = last ? NULL : &g_array_index (fill->disk->regions, Region, fill->region);
  if (fill->cancelled)
    fail (&error, INTERRUPTED, "cancelled");
  else if (fill->fd < 0)
    open_file (fill, &error);
  else if (last && fsync (fill->fd) != 0)
    fail_errno (&error, errno, "sync '%s'", file_of (fill));
  else if (!last && allocate_piece (fill, region, &error) && fill->at == region->length) {
    fill->region++;
    fill->at = 0;
  }
  if (error != NULL || last)
    end (fill, error);
  else
    later (fill, due (fill) - (g_get_monotonic_time () - fill->began));
  return G_SOURCE_REMOVE;
}

static void
cancel (Work *work)
{
  FillFile *fill = (FillFile *)work;
  fill->cancelled = TRUE;
  later (fill, 0);
}

Work *
fill_file_start (Op *op, OpDisk *disk, const WorkHost *host)
{
  FillFile *fill = g_new0 (FillFile, 1);
  *fill = (FillFile){.work.cancel = cancel,
                     .op = op,
                     .disk = disk,
                     .host = *host,
                     .fd = -1,
                     .began = g_get_monotonic_time ()};
  disk->current = disk->total = 0;
  for (guint i = 0; i < disk->regions->len; i++)
    disk->total += g_array_index (disk->regions, Region, i).length;
  later (fill, 0);
  return &fill->work;
}
