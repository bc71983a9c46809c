/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/fill.h"

#include "jobs/forecast.h"
#include "src/common/source.h"

gboolean
fill_is_full (OpDisk *disk)
{
  return g_strcmp0 (json_get_str (disk->details, "fill"), "full") == 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void
end (Fill *fill)
{
  WorkHost host = fill->host;
  g_autoptr (GError) error = g_steal_pointer (&fill->error);
  source_clear (&fill->timer);
  nbd_link_close (fill->link);
  map_reader_free (fill->reader);
  fill_copy_free (fill);
  fill_hold_free (fill);
  g_array_unref (fill->todo);
  g_free (fill);
  host.done (error, host.data);
}

void
fill_fail (Fill *fill, GError *take_error)
{
  if (fill->error == NULL)
    fill->error = take_error;
  else
    g_error_free (take_error);
}

static gboolean
on_timer (gpointer data)
{
  Fill *fill = data;
  g_clear_pointer (&fill->timer, g_source_unref);
  fill_go_on (fill);
  return G_SOURCE_REMOVE;
}

void
fill_later (Fill *fill, gint64 us)
{
  if (us > 0)
    source_after (&fill->timer, (guint)(us / 1000 + 1), on_timer, fill);
  else
    source_idle (&fill->timer, on_timer, fill);
  g_source_set_priority (fill->timer, G_PRIORITY_DEFAULT);
}

/* ---- what there is to do --------------------------------------------------------------------- */

gboolean
fill_next (Fill *fill, guint64 most, Region *ret_piece)
{
  if (fill->todo_at >= fill->todo->len)
    return FALSE;
  Region *left = &g_array_index (fill->todo, Region, fill->todo_at);
  *ret_piece = (Region){.start = left->start, .length = MIN (left->length, most)};
  left->start += ret_piece->length;
  left->length -= ret_piece->length;
  fill->todo_at += left->length == 0;
  return TRUE;
}

void
fill_account (Fill *fill, guint64 bytes)
{
  fill->disk->current += bytes;
  if (fill->host.changed != NULL)
    fill->host.changed (fill->host.data);
}

gint64
fill_wait (Fill *fill)
{
  if (fill->op->bandwidth == 0)
    return 0;
  return MAX (fill->paid_until - g_get_monotonic_time (), 0);
}

/* What this phase is for. Zeros that a backing layer has stay where they are: the active layer
 * reads the same without them. */
static gboolean
is_wanted (Fill *fill, const MapExtent *extent)
{
  if (fill->phase == FILL_MAPPING)
    return extent->depth != MAP_NOBODY && extent->depth > 0 && extent->data;
  return !extent->data;
}

static void
add_todo (Fill *fill, guint64 start, guint64 end)
{
  guint64 align = nbd_link_align (fill->link), size = nbd_link_size (fill->link);
  Region piece = {.start = start / align * align};
  piece.length = MIN ((end + align - 1) / align * align, size) - piece.start;
  g_array_append_val (fill->todo, piece);
}

/* Regions and extents are both sorted. */
static guint64
choose (Fill *fill, const Map *map)
{
  guint64 sum = 0;
  g_array_set_size (fill->todo, 0);
  fill->todo_at = 0;
  for (guint r = 0, e = 0; r < fill->disk->regions->len; r++) {
    Region *region = &g_array_index (fill->disk->regions, Region, r);
    guint64 region_end = region->start + region->length;
    for (; e < map->extents->len; e++) {
      const MapExtent *extent = map_extent (map, e);
      guint64 from = MAX (extent->start, region->start);
      guint64 to = MIN (extent->start + extent->length, region_end);
      if (to > from && is_wanted (fill, extent)) {
        add_todo (fill, from, to);
        sum += to - from;
      }
      if (extent->start + extent->length >= region_end)
        break;
    }
  }
  return sum;
}

/* Nothing is begun that does not fit: the guest may have written since the plan was made. */
static gboolean
check_space (Fill *fill, const Map *map, GError **error)
{
  ChainLayer *active = fill->disk->before->pdata[0];
  Writing writing = {.from = map,
                     .regions = fill->disk->regions,
                     .first = 1,
                     .full = fill_is_full (fill->disk),
                     .pieces_of = MAP_NOBODY};
  Receiver receiver;
  guint64 free;
  if (!receiver_free_space (active->file, active->format, FALSE, &free, NULL) ||
      !receiver_read (active->file, active->format, active->virtual_size, &receiver, NULL))
    return TRUE;
  guint64 needed = forecast (&writing, &receiver);
  if (needed <= free)
    return TRUE;
  fail (error, REFUSED,
        "not enough space for '%s': %" G_GUINT64_FORMAT " bytes needed, %" G_GUINT64_FORMAT " free",
        active->file, needed, free);
  return hint (error, "make room, or allocate smaller regions");
}

/* ---- the phases ------------------------------------------------------------------------------ */

static void
on_map (Map *map, GError *take_error, gpointer data)
{
  Fill *fill = data;
  g_autoptr (Map) owned = map;
  GError *error = take_error;
  if (map != NULL) {
    guint64 sum = choose (fill, map);
    if (fill->phase == FILL_MAPPING)
      check_space (fill, map, &error);
    fill->disk->total = fill->disk->current + sum;
  }
  if (error != NULL)
    fill_fail (fill, error);
  fill->phase++;
}

/* One map over all regions, from the first to the last. */
static void
read_map (Fill *fill)
{
  GArray *regions = fill->disk->regions;
  Region *first = &g_array_index (regions, Region, 0);
  Region *last = &g_array_index (regions, Region, regions->len - 1);
  Region hull = {.start = first->start, .length = last->start + last->length - first->start};
  FillPhase phase = fill->phase;
  if (fill->reader == NULL)
    fill->reader = map_reader_new (fill->link, fill->disk->before, fill->disk->depths, hull,
                                   op_qemu_version (fill->op) >= MAP_FIRST_HOLES, on_map, fill);
  map_reader_turn (fill->reader);
  if (fill->phase != phase && fill->error == NULL) /* else requests of it are still in flight */
    g_clear_pointer (&fill->reader, map_reader_free);
}

static gboolean
do_phase (Fill *fill)
{
  FillPhase before = fill->phase;
  gboolean live = !op_is_offline (fill->op);
  switch (fill->phase) {
  case FILL_MAPPING:
  case FILL_MAPPING_AGAIN:
    read_map (fill);
    break;
  case FILL_COPYING:
    if (fill_copy (fill, FALSE))
      fill->phase = fill_is_full (fill->disk) ? FILL_MAPPING_AGAIN : FILL_FLUSHING;
    break;
  case FILL_ZEROING:
    if (live ? fill_hold (fill) : fill_copy (fill, TRUE))
      fill->phase = FILL_FLUSHING;
    break;
  case FILL_FLUSHING: /* a live layer is flushed by a step of its own */
    if (live || fill_flush (fill))
      fill->phase = FILL_ENDING;
    break;
  case FILL_ENDING:
    break;
  }
  return fill->phase != before;
}

guint
fill_in_flight (Fill *fill)
{
  guint n = 0;
  for (guint i = 0; i < FILL_SLOTS; i++)
    n += fill->slots[i].cookie != 0;
  return n;
}

void
fill_go_on (Fill *fill)
{
  while (fill->error == NULL && do_phase (fill))
    ;
  if (fill->error != NULL && fill_hold_is_busy (fill)) {
    fill_hold (fill); /* lets the guest go */
    if (fill_hold_is_busy (fill))
      return;
  }
  if (fill->error != NULL || fill->phase == FILL_ENDING)
    end (fill);
}

/* ---- from outside ---------------------------------------------------------------------------- */

static void
on_turn (NbdLink *link, const GError *error, gpointer data)
{
  Fill *fill = data;
  if (error != NULL)
    fill_fail (fill, g_error_copy (error));
  fill_go_on (fill);
}

/* What is on its way in QEMU goes on there and allocates a little more, which harms nobody. */
static void
cancel (Work *work)
{
  Fill *fill = (Fill *)work;
  GError *error = NULL;
  fail (&error, INTERRUPTED, "cancelled");
  fill_fail (fill, error);
  fill_later (fill, 0);
}

Work *
fill_start (Op *op, OpDisk *disk, const WorkHost *host)
{
  Fill *fill = g_new0 (Fill, 1);
  *fill = (Fill){.work.cancel = cancel, .op = op, .disk = disk, .host = *host};
  fill->todo = g_array_new (FALSE, FALSE, sizeof (Region));
  disk->current = disk->total = 0;
  fill->link = nbd_link_open (disk->socket, disk->export, TRUE, on_turn, fill);
  return &fill->work;
}
