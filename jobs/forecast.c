/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/forecast.h"

#include "jobs/header.h"
#include "src/common/fs.h"

#include <sys/stat.h>

#define NEW_CLUSTER    65536u /* qemu-img's default, and that of jobs/overlay.c */
#define FILE_BLOCK     4096u  /* of a raw image on a filesystem */
#define REFCOUNT_BYTES 2u
#define L2_SLICE       4096u /* bytes of a table that QEMU holds at once */

/* ---- the receiver ---------------------------------------------------------------------------- */

Receiver
receiver_new (const char *format, guint64 virtual_size)
{
  gboolean qcow2 = g_strcmp0 (format, "raw") != 0;
  return (Receiver){.qcow2 = qcow2,
                    .fresh = TRUE,
                    .virtual_size = virtual_size,
                    .cluster = qcow2 ? NEW_CLUSTER : FILE_BLOCK,
                    .entry = 8,
                    .most = G_MAXUINT64};
}

gboolean
receiver_read (const char *file, const char *format, guint64 virtual_size, Receiver *ret_receiver,
               GError **error)
{
  g_auto (ImageHeader) header = {0};
  struct stat st;
  *ret_receiver = receiver_new (format, virtual_size);
  ret_receiver->fresh = FALSE;
  if (!ret_receiver->qcow2) { /* space that was reserved is a hole to SEEK_DATA, and is there */
    guint64 taken = stat (file, &st) == 0 ? (guint64)st.st_blocks * 512 : 0;
    ret_receiver->most = virtual_size > taken ? virtual_size - taken : 0;
    return TRUE;
  }
  if (!image_header_read (file, &header, error))
    return FALSE;
  ret_receiver->cluster = header.is_qcow2 ? header.cluster_size : NEW_CLUSTER;
  ret_receiver->entry = header.extended_l2 ? 16 : 8;
  return TRUE;
}

gboolean
receiver_free_space (const char *file, const char *format, gboolean fresh, guint64 *ret_bytes,
                     GError **error)
{
  struct stat st;
  guint64 size, end = 0;
  if (file[0] != '/' || stat (file, &st) != 0 || !S_ISBLK (st.st_mode))
    return file_free_space (file, ret_bytes, error);
  *ret_bytes = G_MAXINT64;
  if (g_strcmp0 (format, "qcow2") != 0)
    return TRUE;
  if (!file_length (file, &size, error) || (!fresh && !image_end_read (file, &end, error)))
    return FALSE;
  *ret_bytes = size - MIN (end, size);
  return TRUE;
}

guint64
receiver_slice (const Receiver *image)
{
  return image->qcow2 ? image->cluster * (MIN (image->cluster, L2_SLICE) / image->entry)
                      : G_MAXINT64;
}

/* ---- counting -------------------------------------------------------------------------------- */

/* Stretches come sorted, so that the last cluster and the last table are all there is to know. */
typedef struct {
  const Receiver *receiver;
  guint64 next_cluster, next_table; /* the first that is not counted yet */
  guint64 clusters, tables;
} Count;

static guint64
divide_up (guint64 bytes, guint64 unit)
{
  return bytes / unit + (bytes % unit != 0);
}

/* Adds units [from..to) from *next on. */
static void
add_units (guint64 from, guint64 to, guint64 *next, guint64 *count)
{
  from = MAX (from, *next);
  if (to > from)
    *count += to - from;
  *next = MAX (*next, to);
}

static guint64
table_reach (const Receiver *receiver)
{
  return receiver->cluster * (receiver->cluster / receiver->entry);
}

static void
count_stretch (Count *count, guint64 start, guint64 end)
{
  guint64 cluster = count->receiver->cluster;
  add_units (start / cluster, divide_up (end, cluster), &count->next_cluster, &count->clusters);
  if (!count->receiver->qcow2)
    return;
  guint64 table = table_reach (count->receiver);
  add_units (start / table, divide_up (end, table), &count->next_table, &count->tables);
}

static guint64
count_bytes (const Count *count)
{
  const Receiver *receiver = count->receiver;
  guint64 cluster = receiver->cluster, clusters = count->clusters;
  if (!receiver->qcow2)
    return MIN (clusters * cluster, receiver->most);
  clusters += count->tables;
  if (receiver->fresh) { /* header, refcount table, and the table of tables */
    guint64 tables = divide_up (receiver->virtual_size, table_reach (receiver));
    clusters += 2 + divide_up (MAX (tables, 1) * 8, cluster);
  }
  if (clusters > 0)
    clusters += divide_up (clusters * REFCOUNT_BYTES, cluster);
  return clusters * cluster;
}

guint64
receiver_whole (const Receiver *image)
{
  Receiver whole = *image;
  whole.fresh = TRUE;
  Count count = {.receiver = &whole};
  count_stretch (&count, 0, whole.virtual_size);
  /* A table of refcounts that was moved leaves its old place behind. */
  guint64 blocks = divide_up (count_bytes (&count) / whole.cluster * REFCOUNT_BYTES, whole.cluster);
  return count_bytes (&count) + 2 * divide_up (blocks * 8, whole.cluster) * whole.cluster;
}

/* ---- which stretches ------------------------------------------------------------------------- */

static gboolean
is_written (const Writing *writing, const MapExtent *extent)
{
  gboolean layers = extent->depth != MAP_NOBODY && extent->depth >= writing->first;
  if (extent->data && !extent->zero)
    return layers;
  return (layers && writing->layers_zeros) || (writing->full && !extent->data);
}

/* What of it the receiver has no space for. *at: the extent of the receiver's map to begin with. */
static void
count_missing (Count *count, const Map *has, guint *at, guint64 start, guint64 end)
{
  for (; has != NULL && *at < has->extents->len && start < end; (*at)++) {
    const MapExtent *extent = map_extent (has, *at);
    guint64 extent_end = extent->start + extent->length;
    if (extent_end <= start)
      continue;
    if (!extent->data && start < MIN (end, extent_end))
      count_stretch (count, start, MIN (end, extent_end));
    start = MAX (start, MIN (end, extent_end));
    if (extent_end > end)
      return;
  }
  if (start < end) /* beyond the end of a smaller receiver */
    count_stretch (count, start, end);
}

/* A block-stream takes all of a raw layer for data: it reads piece by piece from where the layer
 * begins to answer, or a table of a layer over it ends, and writes each piece that is not zeros
 * throughout. Where a piece is widened to the receiver's clusters, it is hardly ever zeros
 * throughout. */
typedef struct {
  guint64 start, end; /* where the layer answers */
  guint next;         /* extent behind it */
} Run;

static Run
find_run (const Map *map, guint e)
{
  const MapExtent *extent = map_extent (map, e);
  Run run = {.start = extent->start, .next = e};
  for (guint depth = extent->depth; run.next < map->extents->len; run.next++) {
    extent = map_extent (map, run.next);
    if (extent->depth != depth)
      break;
    run.end = extent->start + extent->length;
  }
  return run;
}

/* Where the piece with the byte @at begins, and behind it. */
static Region
piece_around (const Run *run, guint64 at, guint64 slice)
{
  guint64 base = at / slice * slice, first = MAX (run->start, base);
  guint64 start = first + (at - first) / WRITING_PIECE * WRITING_PIECE;
  guint64 end = MIN (MIN (start + WRITING_PIECE, base + slice), run->end);
  return (Region){.start = start, .length = end - start};
}

/* The pieces from that with the byte @from to that with the byte @last. */
static void
count_pieces (Count *count, const Run *run, guint64 slice, guint64 from, guint64 last)
{
  Region first_piece = piece_around (run, from, slice);
  Region last_piece = piece_around (run, last, slice);
  count_stretch (count, first_piece.start, last_piece.start + last_piece.length);
}

/* Returns the extent behind the run. */
static guint
count_run (Count *count, const Writing *writing, guint e)
{
  const Map *map = writing->from;
  guint64 cluster = count->receiver->cluster, slice = writing->slice;
  Run run = find_run (map, e);
  if (run.start % cluster != 0)
    count_pieces (count, &run, slice, run.start, run.start);
  for (; e < run.next; e++) {
    const MapExtent *extent = map_extent (map, e);
    if (is_written (writing, extent))
      count_pieces (count, &run, slice, extent->start, extent->start + extent->length - 1);
  }
  if (run.end % cluster != 0)
    count_pieces (count, &run, slice, run.end - 1, run.end - 1);
  return run.next;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static guint64
forecast_pieces (const Writing *writing, const Receiver *receiver)
{
  Count count = {.receiver = receiver};
  for (guint e = 0; e < writing->from->extents->len;) {
    const MapExtent *extent = map_extent (writing->from, e);
    if (extent->depth == writing->pieces_of) {
      e = count_run (&count, writing, e);
      continue;
    }
    if (is_written (writing, extent))
      count_stretch (&count, extent->start, extent->start + extent->length);
    e++;
  }
  return count_bytes (&count);
}

guint64
forecast (const Writing *writing, const Receiver *receiver)
{
  Count count = {.receiver = receiver};
  const Map *map = writing->from;
  Region all = {.start = map->start, .length = map_end (map) - map->start};
  if (writing->pieces_of !=
      MAP_NOBODY) /* always of a whole disk, into a layer that has none of it */
    return forecast_pieces (writing, receiver);
  guint n_regions = writing->regions ? writing->regions->len : 1;
  for (guint r = 0, e = 0, has = 0; r < n_regions; r++) {
    Region region = writing->regions ? g_array_index (writing->regions, Region, r) : all;
    guint64 region_end = region.start + region.length;
    for (; e < map->extents->len; e++) {
      const MapExtent *extent = map_extent (map, e);
      guint64 from = MAX (extent->start, region.start);
      guint64 to = MIN (extent->start + extent->length, region_end);
      if (from < to && is_written (writing, extent))
        count_missing (&count, writing->has, &has, from, to);
      if (extent->start + extent->length >= region_end)
        break;
    }
  }
  return count_bytes (&count);
}
