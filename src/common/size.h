/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes, rates and durations as people write them (docs: interface contract, "Options"). */
#pragma once

#include <glib.h>

/* A bare number is bytes; K M G T P and KiB MiB ... are powers of 1024, KB MB ... of 1000. Trailing
 * junk, overflow and negative numbers are USAGE errors that quote the text. */
gboolean parse_size (const char *text, guint64 *ret_bytes, GError **error);
/* "500ms", "30s", "5m", "1h"; a bare number is seconds. */
gboolean parse_duration (const char *text, guint64 *ret_ms, GError **error);
/* Full. "16.0 MiB", "512 B". */
char *format_size (guint64 bytes);
/* Full. "0.3s", "12s", "3m05s", "2h10m". */
char *format_duration (guint64 ms);
/* Full. RFC 3339, UTC, milliseconds; @us is microseconds since the epoch. */
char *format_time (gint64 us);
/* Writes @number as at least @width characters and returns where it ends: at most MAX (20, @width) bytes, and a
 * NUL. For texts of millions of numbers, where printf is most of the time. */
char *put_number (char *at, guint64 number, guint width);
