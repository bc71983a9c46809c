/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/write-back.h"

#include "src/common/source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_MS 10u
#define MOST    (4u << 20) /* bytes at a time: a slow disk holds up the main loop for no longer */

struct _WriteBack {
  int fd;
  off_t begun; /* before it is on its way */
  GSource *timer;
};

/* The length of the file tells how far the program is. */
static gboolean
on_tick (gpointer data)
{
  WriteBack *back = data;
  struct stat st;
  off_t most = fstat (back->fd, &st) == 0 ? MIN (st.st_size - back->begun, (off_t)MOST) : 0;
  if (most > 0 && sync_file_range (back->fd, back->begun, most, SYNC_FILE_RANGE_WRITE) == 0)
    back->begun += most;
  return G_SOURCE_CONTINUE;
}

WriteBack *
write_back_start (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0)
    return NULL;
  WriteBack *back = g_new0 (WriteBack, 1);
  back->fd = fd;
  source_after (&back->timer, TICK_MS, on_tick, back);
  return back;
}

void
write_back_stop (WriteBack *back)
{
  if (back == NULL)
    return;
  source_clear (&back->timer);
  close (back->fd);
  g_free (back);
}
