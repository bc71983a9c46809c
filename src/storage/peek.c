/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/peek.h"

#include "jobs/image.h"
#include "src/common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

/* Superblocks and tables at the start; what has them only at the end stays unknown. */
#define PEEK_MIB 2

struct _Peek {
  Volume *volume;
  char *path;
  PeekReady ready;
  gpointer data;
};

static gboolean
has_data_file (Volume *volume)
{
  for (guint i = 0; volume->chain != NULL && i < volume->chain->len; i++)
    if (((ChainLayer *)volume->chain->pdata[i])->data_file)
      return TRUE;
  return FALSE;
}

static void
look_inside (Peek *peek)
{
  Volume *volume = peek->volume;
  int fd = open (peek->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return;
  if (ftruncate (fd, (off_t)MIN (volume->virtual_size, (guint64)G_MAXINT64)) == 0)
    contents_probe (fd, &volume->contents);
  close (fd);
}

static void
on_copied (const char *out, const GError *error, gpointer data)
{
  Peek *peek = data;
  if (error == NULL)
    look_inside (peek);
  peek->ready (peek, error, peek->data);
}

static void
copy_beginning (Peek *peek)
{
  g_autofree char *in = g_strdup_printf ("if=%s", peek->volume->place.path);
  g_autofree char *out = g_strdup_printf ("of=%s", peek->path);
  g_autofree char *count = g_strdup_printf ("count=%d", PEEK_MIB);
  const char *argv[] = {"qemu-img", "dd",    "-U",  "-f", "qcow2", "-O",
                        "raw",      "bs=1M", count, in,   out,     NULL};
  image_run (argv, IMAGE_QUESTION, on_copied, peek);
}

Peek *
peek_new (Volume *volume, PeekReady ready, gpointer data, GError **error)
{
  if (g_strcmp0 (volume->format, "qcow2") != 0 || volume->broken != NULL ||
      volume->virtual_size == 0 || has_data_file (volume))
    return NULL;
  g_autofree char *path = g_build_filename (g_get_tmp_dir (), "rechain-peek-XXXXXX", NULL);
  int fd = g_mkstemp (path);
  if (fd < 0) {
    fail_errno (error, errno, "make a temporary file in '%s'", g_get_tmp_dir ());
    return NULL;
  }
  close (fd);
  Peek *peek = g_new0 (Peek, 1);
  *peek = (Peek){.volume = volume, .path = g_steal_pointer (&path), .ready = ready, .data = data};
  copy_beginning (peek);
  return peek;
}

const char *
peek_path (Peek *peek)
{
  return peek->path;
}

void
peek_free (Peek *peek)
{
  if (peek == NULL)
    return;
  g_unlink (peek->path);
  g_free (peek->path);
  g_free (peek);
}
