/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/header.h"

#include "src/common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QCOW2_MAGIC        0x514649fbu /* "QFI\xfb" */
#define V2_LENGTH          72u
#define V3_LENGTH          104u
#define MIN_CLUSTER_BITS   9u
#define MAX_CLUSTER_BITS   21u
#define MAX_BACKING        1023u
#define MAX_FORMAT         15u
#define MAX_REFCOUNT_TABLE (8u << 20) /* bytes; QEMU: QCOW_MAX_REFTABLE_SIZE */

/* Incompatible features; an unknown one may change what everything else means. */
#define FEATURE_DIRTY       (1u << 0)
#define FEATURE_CORRUPT     (1u << 1)
#define FEATURE_DATA_FILE   (1u << 2)
#define FEATURE_COMPRESSION (1u << 3)
#define FEATURE_EXTENDED_L2 (1u << 4)
#define FEATURES_KNOWN      ((1u << 5) - 1)

#define AUTOCLEAR_BITMAPS 1u

#define EXTENSION_END     0u
#define EXTENSION_FORMAT  0xe2792acau
#define EXTENSION_BITMAPS 0x23852875u

/* The header cluster, as far as the file has it. Every read goes through these. */
typedef struct {
  guint8 *bytes;
  gsize length;
  gboolean short_read; /* something was asked for that is not there */
} Cluster;

static const guint8 *
bytes_at (Cluster *cluster, guint64 offset, gsize n)
{
  if (n <= cluster->length && offset <= cluster->length - n)
    return cluster->bytes + offset;
  cluster->short_read = TRUE;
  return NULL;
}

static guint32
u32_at (Cluster *cluster, guint64 offset)
{
  guint32 value = 0;
  const guint8 *bytes = bytes_at (cluster, offset, sizeof value);
  if (bytes != NULL)
    memcpy (&value, bytes, sizeof value);
  return GUINT32_FROM_BE (value);
}

static guint64
u64_at (Cluster *cluster, guint64 offset)
{
  return (guint64)u32_at (cluster, offset) << 32 | u32_at (cluster, offset + 4);
}

/* Full; NULL where it is not there or has a NUL inside, which two readers would read as
 * two names. */
static char *
text_at (Cluster *cluster, guint64 offset, gsize n)
{
  const guint8 *bytes = bytes_at (cluster, offset, n);
  return bytes != NULL && memchr (bytes, '\0', n) == NULL ? g_strndup ((const char *)bytes, n)
                                                          : NULL;
}

static gboolean
read_bytes (int fd, const char *path, guint64 from, gsize wanted, Cluster *cluster, GError **error)
{
  g_free (cluster->bytes);
  *cluster = (Cluster){.bytes = g_malloc (wanted)};
  while (cluster->length < wanted) {
    ssize_t n = pread (fd, cluster->bytes + cluster->length, wanted - cluster->length,
                       (off_t)(from + cluster->length));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno (error, errno, "read the header of '%s'", path);
    if (n == 0)
      break;
    cluster->length += (gsize)n;
  }
  return TRUE;
}

static gboolean
lies (GError **error, const char *path, const char *about)
{
  fail (error, FAILED, "the header of '%s' is damaged: %s", path, about);
  return hint (error, "qemu-img check -f qcow2 %s", path);
}

static gboolean
read_features (Cluster *cluster, const char *path, ImageHeader *header, GError **error)
{
  if (header->version < 3)
    return TRUE;
  guint64 features = u64_at (cluster, 72);
  if ((features & ~(guint64)FEATURES_KNOWN) != 0)
    return fail (error, FAILED, "'%s' uses qcow2 features that are not known", path);
  header->dirty = (features & FEATURE_DIRTY) != 0;
  header->corrupt = (features & FEATURE_CORRUPT) != 0;
  header->data_file = (features & FEATURE_DATA_FILE) != 0;
  header->extended_l2 = (features & FEATURE_EXTENDED_L2) != 0;
  return TRUE;
}

static gboolean
read_backing (Cluster *cluster, const char *path, guint header_length, ImageHeader *header,
              guint64 *ret_end, GError **error)
{
  guint64 offset = u64_at (cluster, 8);
  guint32 length = u32_at (cluster, 16);
  if (offset == 0)
    return TRUE;
  if (offset < header_length || offset > header->cluster_size)
    return lies (error, path, "the backing file name lies outside");
  if (length > MAX_BACKING || length > header->cluster_size - offset)
    return lies (error, path, "the backing file name is too long");
  *ret_end = offset + length;
  if (length == 0)
    return TRUE;
  header->backing = text_at (cluster, offset, length);
  return header->backing ? TRUE : lies (error, path, "the backing file name cannot be read");
}

static gboolean
read_extension (Cluster *cluster, const char *path, guint32 type, guint64 offset, guint32 length,
                ImageHeader *header, GError **error)
{
  if (type == EXTENSION_BITMAPS)
    header->has_bitmaps = header->version >= 3 && (u64_at (cluster, 88) & AUTOCLEAR_BITMAPS) != 0;
  if (type != EXTENSION_FORMAT || length == 0)
    return TRUE;
  if (length > MAX_FORMAT || header->backing_format != NULL)
    return lies (error, path, "the backing format is too long, or stands there twice");
  header->backing_format = text_at (cluster, offset, length);
  return header->backing_format ? TRUE : lies (error, path, "the backing format cannot be read");
}

/* Extensions end at the backing name, if there is one: both QEMU and we read no further. */
static gboolean
read_extensions (Cluster *cluster, const char *path, guint64 start, guint64 limit,
                 ImageHeader *header, guint64 *ret_end, GError **error)
{
  guint64 offset = start;
  while (offset + 8 <= limit) {
    guint32 type = u32_at (cluster, offset), length = u32_at (cluster, offset + 4);
    offset += 8;
    if (type == EXTENSION_END)
      break;
    if (length > limit - offset)
      return lies (error, path, "a header extension is too long");
    if (!read_extension (cluster, path, type, offset, length, header, error))
      return FALSE;
    offset = MIN (offset + ((length + 7u) & ~7u), limit);
  }
  *ret_end = offset;
  return TRUE;
}

static gboolean
read_header (Cluster *cluster, const char *path, ImageHeader *header, GError **error)
{
  guint header_length = header->version >= 3 ? u32_at (cluster, 100) : V2_LENGTH;
  guint32 crypt_method = u32_at (cluster, 32);
  guint64 backing_end = 0, extensions_end = 0;
  header->virtual_size = u64_at (cluster, 24);
  if (header->version >= 3 && (header_length < V3_LENGTH || header_length > header->cluster_size))
    return lies (error, path, "its length is impossible");
  if (header->virtual_size > G_MAXINT64)
    return lies (error, path, "the size of the disk is impossible");
  if (crypt_method > 2)
    return lies (error, path, "the encryption method is not known");
  header->encrypted = crypt_method != 0;
  header->snapshots = u32_at (cluster, 60);
  if (!read_features (cluster, path, header, error) ||
      !read_backing (cluster, path, header_length, header, &backing_end, error))
    return FALSE;
  guint64 backing_start = u64_at (cluster, 8);
  guint64 limit = backing_start ? backing_start : header->cluster_size;
  if (!read_extensions (cluster, path, header_length, limit, header, &extensions_end, error))
    return FALSE;
  if (cluster->short_read)
    return lies (error, path, "the file ends inside it");
  header->header_room = header->cluster_size - MAX (backing_end, extensions_end);
  return TRUE;
}

gboolean
image_header_read_fd (int fd, const char *path, ImageHeader *ret_header, GError **error)
{
  Cluster cluster = {0};
  g_auto (ImageHeader) header = {0};
  *ret_header = (ImageHeader){0};
  gboolean ok = read_bytes (fd, path, 0, V3_LENGTH, &cluster, error);
  header.is_qcow2 = ok && u32_at (&cluster, 0) == QCOW2_MAGIC && !cluster.short_read;
  if (ok && header.is_qcow2) {
    guint32 bits = u32_at (&cluster, 20);
    header.version = u32_at (&cluster, 4);
    if (cluster.length < V2_LENGTH)
      ok = lies (error, path, "the file ends inside it");
    else if (header.version != 2 && header.version != 3)
      ok = fail (error, FAILED, "'%s' is qcow2 of version %u, which is not known", path,
                 header.version);
    else if (bits < MIN_CLUSTER_BITS || bits > MAX_CLUSTER_BITS)
      ok = lies (error, path, "the cluster size is impossible");
    else
      header.cluster_size = 1u << bits;
    ok = ok && read_bytes (fd, path, 0, header.cluster_size, &cluster, error) &&
         read_header (&cluster, path, &header, error);
  }
  g_free (cluster.bytes);
  if (!ok)
    return FALSE;
  *ret_header = header;
  header = (ImageHeader){0};
  return TRUE;
}

gboolean
image_header_read (const char *path, ImageHeader *ret_header, GError **error)
{
  struct stat st;
  /* Non-blocking, since a name in a tenant's header may lead to a FIFO. */
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  *ret_header = (ImageHeader){0};
  if (fd < 0)
    return fail_errno (error, errno, "open '%s'", path);
  gboolean ok = fstat (fd, &st) == 0 && (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode));
  if (ok)
    ok = image_header_read_fd (fd, path, ret_header, error);
  else
    fail (error, REFUSED, "'%s' is neither a file nor a block device", path);
  close (fd);
  return ok;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Behind the last byte that is not zero. */
static gsize
end_of_data (const Cluster *cluster)
{
  gsize end = cluster->length;
  while (end > 0 && cluster->bytes[end - 1] == 0)
    end--;
  return end;
}

/* The last refcount of the last block of them. */
static gboolean
read_end (int fd, const char *path, const ImageHeader *header, Cluster *cluster, guint64 *ret_end,
          GError **error)
{
  if (!read_bytes (fd, path, 0, V3_LENGTH, cluster, error))
    return FALSE;
  guint64 table = u64_at (cluster, 48),
          table_size = (guint64)u32_at (cluster, 56) * header->cluster_size;
  guint order = header->version >= 3 ? u32_at (cluster, 96) : 4;
  if (order > 6 || table_size > MAX_REFCOUNT_TABLE ||
      table > (guint64)G_MAXINT64 - MAX_REFCOUNT_TABLE)
    return lies (error, path, "its table of refcounts is impossible");
  if (!read_bytes (fd, path, table, (gsize)table_size, cluster, error))
    return FALSE;
  guint64 last = (end_of_data (cluster) + 7) / 8;
  guint64 block = last > 0 ? u64_at (cluster, (last - 1) * 8) & ~511ull : 0;
  if (block == 0 || block > (guint64)G_MAXINT64 - header->cluster_size)
    return lies (error, path, "it has no refcounts");
  if (!read_bytes (fd, path, block, header->cluster_size, cluster, error))
    return FALSE;
  guint64 in_block = ((guint64)end_of_data (cluster) * 8 + (1u << order) - 1) >> order;
  guint64 per_block = ((guint64)header->cluster_size * 8) >> order;
  *ret_end = ((last - 1) * per_block + in_block) * header->cluster_size;
  return TRUE;
}

gboolean
image_end_read (const char *path, guint64 *ret_end, GError **error)
{
  g_auto (ImageHeader) header = {0};
  Cluster cluster = {0};
  if (!image_header_read (path, &header, error))
    return FALSE;
  int fd = header.is_qcow2 ? open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
  gboolean ok = fd >= 0 ? read_end (fd, path, &header, &cluster, ret_end, error)
                        : fail (error, FAILED, "'%s' is no qcow2 image", path);
  if (fd >= 0)
    close (fd);
  g_free (cluster.bytes);
  return ok;
}

void
image_header_clear (ImageHeader *header)
{
  g_free (header->backing);
  g_free (header->backing_format);
  *header = (ImageHeader){0};
}
