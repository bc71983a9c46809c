/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes through the export, a few requests at a time: reads, which copy-on-read turns into
 * allocations in the active layer (a guest's write to the same place waits for it, and wins), or
 * writes of zeros, only into an image that nobody else has open. */
#include "jobs/fill.h"

/* -1: it failed; 0: not yet. */
static int
completed (Fill *fill, gint64 cookie)
{
  return nbd_aio_command_completed (nbd_link_handle (fill->link), (uint64_t)cookie);
}

static gboolean
collect (Fill *fill, FillSlot *slot, GError **error)
{
  int ended = slot->cookie != 0 ? completed (fill, slot->cookie) : 0;
  if (ended == 0)
    return TRUE;
  slot->cookie = 0;
  if (ended < 0)
    return nbd_link_fail (error, "allocate") || recode (error, FAILED);
  fill_account (fill, slot->length);
  return TRUE;
}

static void
pay (Fill *fill, guint64 bytes)
{
  gint64 now = g_get_monotonic_time ();
  guint64 rate = fill->op->bandwidth;
  gint64 from = MAX (fill->paid_until, now);
  fill->paid_until = rate ? from + (gint64)((double)bytes * G_USEC_PER_SEC / (double)rate) : now;
}

static gboolean
ask (Fill *fill, FillSlot *slot, Region piece, gboolean write, GError **error)
{
  struct nbd_handle *nbd = nbd_link_handle (fill->link);
  if (slot->buffer == NULL)
    slot->buffer = g_malloc0 (FILL_PIECE);
  slot->length = piece.length;
  slot->cookie =
      write ? nbd_aio_pwrite (nbd, slot->buffer, piece.length, piece.start, NBD_NULL_COMPLETION, 0)
            : nbd_aio_pread (nbd, slot->buffer, piece.length, piece.start, NBD_NULL_COMPLETION, 0);
  if (slot->cookie > 0)
    return TRUE;
  slot->cookie = 0;
  return nbd_link_fail (error, "allocate");
}

/* With a bandwidth, pieces are a tenth of a second's worth at most. */
static guint64
piece_size (Fill *fill)
{
  guint64 rate = fill->op->bandwidth;
  return rate ? CLAMP (rate / 10 / 65536 * 65536, 65536, FILL_PIECE) : FILL_PIECE;
}

/* FALSE: a flaw. */
static gboolean
fill_slots (Fill *fill, gboolean write, GError **error)
{
  for (guint i = 0; i < FILL_SLOTS; i++) {
    Region piece;
    if (fill->slots[i].cookie != 0)
      continue;
    gint64 wait = fill_wait (fill);
    if (wait > 0 && fill->todo_at < fill->todo->len) {
      fill_later (fill, wait);
      return TRUE;
    }
    if (!fill_next (fill, piece_size (fill), &piece))
      return TRUE;
    pay (fill, piece.length);
    if (!ask (fill, &fill->slots[i], piece, write, error))
      return FALSE;
  }
  return TRUE;
}

/* Buffers hold what was read; only zeros may be written. */
static void
forget_buffers (Fill *fill)
{
  for (guint i = 0; i < FILL_SLOTS; i++)
    g_clear_pointer (&fill->slots[i].buffer, g_free);
}

gboolean
fill_copy (Fill *fill, gboolean write)
{
  GError *error = NULL;
  gboolean ok = TRUE;
  for (guint i = 0; ok && i < FILL_SLOTS; i++)
    ok = collect (fill, &fill->slots[i], &error);
  if (!ok || !fill_slots (fill, write, &error)) {
    fill_fail (fill, error);
    return FALSE;
  }
  if (fill->todo_at < fill->todo->len || fill_in_flight (fill) > 0)
    return FALSE;
  forget_buffers (fill);
  return TRUE;
}

gboolean
fill_flush (Fill *fill)
{
  GError *error = NULL;
  int ended = fill->flush != 0 ? completed (fill, fill->flush) : 0;
  if (fill->flush == 0)
    fill->flush = nbd_aio_flush (nbd_link_handle (fill->link), NBD_NULL_COMPLETION, 0);
  if (fill->flush < 0 || ended < 0) {
    nbd_link_fail (&error, "flush");
    fill_fail (fill, error);
  }
  return ended > 0;
}

/* After the link was closed: nothing is read into the buffers any more. */
void
fill_copy_free (Fill *fill)
{
  forget_buffers (fill);
}
