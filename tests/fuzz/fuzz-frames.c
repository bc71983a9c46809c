/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hostile host can send instead of a volume. First byte: how many bytes are read at once,
 * and whether the size is known. Checked: places only grow, within the size; nothing is read beyond
 * what was asked for. */
#include "src/remote/frames.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size == 0)
    return 0;
  gsize piece = (data[0] & 0x7f) + 1u;
  guint64 limit = data[0] & 0x80 ? 4096 : G_MAXUINT64, at = 0;
  FrameReader *reader = frame_reader_new (0, limit);
  g_autoptr (GError) error = NULL;
  for (size_t i = 1; i < size && error == NULL;) {
    gsize wanted;
    guint8 *room = frame_reader_room (reader, &wanted);
    gsize n = MIN (MIN (wanted, piece), size - i);
    gboolean whole = FALSE;
    Frame frame;
    const guint8 *payload;
    g_assert (wanted > 0);
    memcpy (room, data + i, n);
    i += n;
    gboolean ok = frame_reader_take (reader, n, &whole, &frame, &payload, &error);
    g_assert (ok == (error == NULL));
    if (!ok || !whole)
      continue;
    g_assert (frame.offset >= at && frame.offset <= limit);
    if (frame.kind == FRAME_END)
      break;
    g_assert (frame.length <= limit - frame.offset);
    at = frame.offset + frame.length;
    g_assert (frame_reader_at (reader) == at);
  }
  frame_reader_free (reader);
  return 0;
}
