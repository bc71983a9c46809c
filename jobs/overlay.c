/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/overlay.h"

#include "src/common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER_BITS       16u
#define CLUSTER            (1u << CLUSTER_BITS)
#define HEADER_LENGTH      112u /* version 3 with the compression type */
#define MAGIC              0x514649fbu
#define EXT_BACKING_FORMAT 0xe2792acau
#define MAX_BACKING        1023u
#define MAX_FORMAT         64u
#define MAX_L1             (4u << 20) /* entries; QEMU's limit of 32 MiB */

/* Clusters in the file, in order: header, refcount table, one refcount block, L1 table. */
enum { AT_HEADER, AT_REFCOUNT_TABLE, AT_REFCOUNT_BLOCK, AT_L1 };

/* What of each cluster is not zero: the rest, and all of the L1 table, is a hole. */
#define HEADER_USED 2048u

typedef struct {
  guint8 header[HEADER_USED];
  guint64 refcount_table;
  guint16 *refcounts; /* one for each cluster */
  guint64 l1_entries, clusters;
} Image;

G_STATIC_ASSERT (HEADER_USED >= HEADER_LENGTH + 8 + MAX_FORMAT + 8 + MAX_BACKING);

static void
put32 (Image *image, gsize at, guint32 value)
{
  value = GUINT32_TO_BE (value);
  memcpy (image->header + at, &value, sizeof value);
}

static void
put64 (Image *image, gsize at, guint64 value)
{
  value = GUINT64_TO_BE (value);
  memcpy (image->header + at, &value, sizeof value);
}

static void
image_free (Image *image)
{
  g_free (image->refcounts);
  g_free (image);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Image, image_free)

static guint64
divide_up (guint64 value, guint64 by)
{
  return value / by + (value % by != 0);
}

/* Field by field in the order of the specification; what is not named is zero: no encryption, no
 * internal snapshot, no feature bits, zlib. */
static void
put_header (Image *image, guint64 size)
{
  put32 (image, 0, MAGIC);
  put32 (image, 4, 3); /* version */
  put32 (image, 20, CLUSTER_BITS);
  put64 (image, 24, size);
  put32 (image, 36, (guint32)image->l1_entries);
  put64 (image, 40, (guint64)AT_L1 * CLUSTER);
  put64 (image, 48, (guint64)AT_REFCOUNT_TABLE * CLUSTER);
  put32 (image, 56, 1); /* clusters of the refcount table */
  put32 (image, 96, 4); /* refcount order: 2^4 bits */
  put32 (image, 100, HEADER_LENGTH);
  /* The end of extensions is eight zeros. */
}

static void
put_backing (Image *image, const char *backing, const char *backing_format)
{
  gsize format_length = strlen (backing_format);
  gsize name_at = HEADER_LENGTH + 8 + ((format_length + 7) & ~(gsize)7) + 8;
  put64 (image, 8, name_at);
  put32 (image, 16, (guint32)strlen (backing));
  put32 (image, HEADER_LENGTH, EXT_BACKING_FORMAT);
  put32 (image, HEADER_LENGTH + 4, (guint32)format_length);
  memcpy (image->header + HEADER_LENGTH + 8, backing_format, format_length);
  memcpy (image->header + name_at, backing, strlen (backing));
}

static void
put_refcounts (Image *image)
{
  image->refcount_table = GUINT64_TO_BE ((guint64)AT_REFCOUNT_BLOCK * CLUSTER);
  image->refcounts = g_new (guint16, image->clusters);
  for (guint64 i = 0; i < image->clusters; i++)
    image->refcounts[i] = GUINT16_TO_BE (1);
}

static gboolean
write_at (int fd, guint cluster, const void *data, gsize length)
{
  for (gsize done = 0; done < length;) {
    ssize_t n = pwrite (fd, (const guint8 *)data + done, length - done,
                        (off_t)((gsize)cluster * CLUSTER + done));
    if (n < 0 && errno != EINTR)
      return FALSE;
    done += n < 0 ? 0 : (gsize)n;
  }
  return TRUE;
}

static gboolean
write_out (int fd, const Image *image, const char *path, GError **error)
{
  gboolean ok =
      ftruncate (fd, (off_t)(image->clusters * CLUSTER)) == 0 &&
      write_at (fd, AT_HEADER, image->header, sizeof image->header) &&
      write_at (fd, AT_REFCOUNT_TABLE, &image->refcount_table, sizeof image->refcount_table) &&
      write_at (fd, AT_REFCOUNT_BLOCK, image->refcounts,
                image->clusters * sizeof *image->refcounts);
  if (!ok)
    return fail_errno (error, errno, "write '%s'", path);
  /* Begins to write it out. The file is synced later, with those of other disks: each of these then
   * finds most of its work done. */
  sync_file_range (fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  return TRUE;
}

gboolean
overlay_write (const char *path, guint64 size, const char *backing, const char *backing_format,
               GError **error)
{
  g_autoptr (Image) image = g_new0 (Image, 1);
  image->l1_entries = divide_up (size, (guint64)CLUSTER * (CLUSTER / 8));
  image->clusters = AT_L1 + divide_up (image->l1_entries * 8, CLUSTER);
  if (backing != NULL && (strlen (backing) > MAX_BACKING || strlen (backing_format) > MAX_FORMAT))
    return fail (error, USAGE, "the name of the backing file '%s' does not fit into a header",
                 backing);
  if (size == 0 || size % 512 != 0 || image->l1_entries > MAX_L1)
    return fail (error, USAGE, "an image of %" G_GUINT64_FORMAT " bytes cannot be made", size);
  put_header (image, size);
  if (backing != NULL)
    put_backing (image, backing, backing_format);
  put_refcounts (image);
  int fd = open (path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return fail_errno (error, errno, "open '%s'", path);
  gboolean ok = write_out (fd, image, path, error);
  if (close (fd) != 0 && ok)
    ok = fail_errno (error, errno, "close '%s'", path);
  return ok;
}

/* QEMU: docs/interop/qcow2: l1_size at byte 36 of the header, l1_table_offset at 40. */
gboolean
overlay_is_empty (const char *path)
{
  guint32 size = 0;
  guint64 at = 0, entry = 0;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  gboolean empty = fd >= 0 && pread (fd, &size, sizeof size, 36) == sizeof size &&
                   pread (fd, &at, sizeof at, 40) == sizeof at && GUINT32_FROM_BE (size) <= MAX_L1;
  for (guint i = 0; empty && i < GUINT32_FROM_BE (size); i++)
    empty = pread (fd, &entry, sizeof entry, (off_t)(GUINT64_FROM_BE (at) + i * sizeof entry)) ==
                sizeof entry &&
            entry == 0;
  if (fd >= 0)
    close (fd);
  return empty;
}
