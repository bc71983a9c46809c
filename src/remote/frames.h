/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The contents of a volume on their way: frames of data, each with its place and its checksum. What is not sent
 * reads as zeroes, so holes cost nothing. Places only grow; after a lost connection the next stream begins
 * where the last whole frame ended.
 *
 *   "rcf" kind length offset digest payload     4 + 4 + 8 + 16 bytes, big endian, then the payload
 *
 * The digest is the XXH3 (128 bits, canonical) of what stands before it and of the payload. The end frame has the
 * size of the volume as its offset, and as payload the digest of all digests of its stream before: a frame that is
 * missing is missed. They are there against accidents; against whoever would forge data on the way there is ssh, and
 * against one who sends something else no digest helps. A frame "abort" carries words for people.
 *
 * Reading asks for exactly as many bytes as the next part has, checks before it believes, and knows no
 * descriptors. */
#pragma once

#include <glib.h>

#define FRAME_HEAD   32u
#define FRAME_DATA_MAX (256u << 10)
#define FRAME_WORDS_MAX 1000u
#define FRAME_DIGEST 16u

typedef enum { FRAME_DATA = 1, FRAME_END, FRAME_ABORT } FrameKind;

typedef struct {
  FrameKind kind;
  guint32 length;
  guint64 offset;
} Frame;

/* ---- writing ---- */

typedef struct _FrameSums FrameSums; /* the sum over a stream */

FrameSums *frame_sums_new (void);
void frame_sums_free (FrameSums *sums);
/* Writes the head of @frame, whose payload is @payload. */
void frame_write (FrameSums *sums, const Frame *frame, const void *payload, guint8 *ret_head);
/* Head and payload of the end; returns their length. */
gsize frame_write_end (FrameSums *sums, guint64 size, guint8 *ret_bytes);

/* ---- reading ---- */

typedef struct _FrameReader FrameReader;

/* @from: where the stream begins; @size: of the volume, G_MAXUINT64: not known. */
FrameReader *frame_reader_new (guint64 from, guint64 size);
void frame_reader_free (FrameReader *reader);
/* Where the next bytes go, and how many are wanted at most; never 0. */
guint8 *frame_reader_room (FrameReader *reader, gsize *ret_wanted);
/* So many came. FALSE: they are wrong, or the sender gave up. *ret_whole: a frame is whole now; its payload is
 * valid until the next call of frame_reader_room(). After an end frame nothing may be read any more. */
gboolean frame_reader_take (FrameReader *reader, gsize length, gboolean *ret_whole, Frame *ret_frame,
                            const guint8 **ret_payload, GError **error);
/* Up to here everything has come. */
guint64 frame_reader_at (FrameReader *reader);
