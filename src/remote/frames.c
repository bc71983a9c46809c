/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/frames.h"

#include "src/common/error.h"

#include <string.h>
#include <xxhash.h>

#define SEALED 16u /* bytes of a head that its digest is about */
G_STATIC_ASSERT (SEALED + FRAME_DIGEST == FRAME_HEAD);

struct _FrameSums {
  XXH3_state_t *one, *all;
};

FrameSums *
frame_sums_new (void)
{
  FrameSums *sums = g_new0 (FrameSums, 1);
  sums->one = XXH3_createState ();
  sums->all = XXH3_createState ();
  g_assert (sums->one != NULL && sums->all != NULL);
  XXH3_128bits_reset (sums->all);
  return sums;
}

void
frame_sums_free (FrameSums *sums)
{
  if (sums == NULL)
    return;
  XXH3_freeState (sums->one);
  XXH3_freeState (sums->all);
  g_free (sums);
}

static void
put (guint8 *to, guint64 value, guint bytes)
{
  for (guint i = 0; i < bytes; i++)
    to[i] = (guint8)(value >> (8 * (bytes - 1 - i)));
}

static guint64
get (const guint8 *from, guint bytes)
{
  guint64 value = 0;
  for (guint i = 0; i < bytes; i++)
    value = value << 8 | from[i];
  return value;
}

/* The same bytes on every machine. */
static void
digest_of (const XXH3_state_t *state, guint8 *ret_digest)
{
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash (&canonical, XXH3_128bits_digest (state));
  memcpy (ret_digest, canonical.digest, FRAME_DIGEST);
}

/* The digest of a frame; it counts into the sum over the stream. */
static void
sum_up (FrameSums *sums, const guint8 *head, const void *payload, gsize length, guint8 *ret_digest)
{
  XXH3_128bits_reset (sums->one);
  XXH3_128bits_update (sums->one, head, SEALED);
  XXH3_128bits_update (sums->one, payload, length);
  digest_of (sums->one, ret_digest);
  XXH3_128bits_update (sums->all, ret_digest, FRAME_DIGEST);
}

void
frame_write (FrameSums *sums, const Frame *frame, const void *payload, guint8 *ret_head)
{
  memcpy (ret_head, "rcf", 3);
  ret_head[3] = (guint8)frame->kind;
  put (ret_head + 4, frame->length, 4);
  put (ret_head + 8, frame->offset, 8);
  sum_up (sums, ret_head, payload, frame->length, ret_head + SEALED);
}

gsize
frame_write_end (FrameSums *sums, guint64 size, guint8 *ret_bytes)
{
  Frame frame = {.kind = FRAME_END, .length = FRAME_DIGEST, .offset = size};
  digest_of (sums->all, ret_bytes + FRAME_HEAD);
  frame_write (sums, &frame, ret_bytes + FRAME_HEAD, ret_bytes);
  return FRAME_HEAD + FRAME_DIGEST;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct _FrameReader {
  FrameSums *sums;
  guint64 at, size;
  guint8 head[FRAME_HEAD];
  gsize got;       /* of head and payload together */
  Frame frame;     /* once the head is there */
  guint8 *payload; /* FRAME_DATA_MAX bytes */
};

FrameReader *
frame_reader_new (guint64 from, guint64 size)
{
  FrameReader *reader = g_new0 (FrameReader, 1);
  reader->sums = frame_sums_new ();
  reader->at = from;
  reader->size = size;
  reader->payload = g_malloc (FRAME_DATA_MAX);
  return reader;
}

void
frame_reader_free (FrameReader *reader)
{
  if (reader == NULL)
    return;
  frame_sums_free (reader->sums);
  g_free (reader->payload);
  g_free (reader);
}

guint64
frame_reader_at (FrameReader *reader)
{
  return reader->at;
}

guint8 *
frame_reader_room (FrameReader *reader, gsize *ret_wanted)
{
  if (reader->got == FRAME_HEAD + reader->frame.length)
    reader->got = 0;
  gboolean head = reader->got < FRAME_HEAD;
  gsize end = head ? FRAME_HEAD : FRAME_HEAD + reader->frame.length;
  *ret_wanted = end - reader->got;
  return head ? reader->head + reader->got : reader->payload + (reader->got - FRAME_HEAD);
}

static gboolean
damaged (GError **error)
{
  return fail (error, UNREACHABLE, "the data is damaged");
}

/* Only what can be is read on; whether it is right is known when it is whole. */
static gboolean
read_head (FrameReader *reader, GError **error)
{
  const guint8 *head = reader->head;
  Frame frame = {.kind = (FrameKind)head[3],
                 .length = (guint32)get (head + 4, 4),
                 .offset = get (head + 8, 8)};
  guint32 most = frame.kind == FRAME_DATA    ? FRAME_DATA_MAX
                 : frame.kind == FRAME_END   ? FRAME_DIGEST
                 : frame.kind == FRAME_ABORT ? FRAME_WORDS_MAX
                                             : 0;
  gboolean fits = frame.length > 0 && frame.length <= most;
  if (frame.kind == FRAME_END)
    fits = frame.length == most && frame.offset >= reader->at && frame.offset <= G_MAXINT64 &&
           (reader->size == G_MAXUINT64 || frame.offset == reader->size);
  else if (frame.kind == FRAME_DATA)
    fits = fits && frame.offset >= reader->at && frame.offset <= reader->size &&
           frame.offset <= G_MAXINT64 - FRAME_DATA_MAX &&
           frame.length <= reader->size - frame.offset;
  if (memcmp (head, "rcf", 3) != 0 || !fits)
    return damaged (error);
  reader->frame = frame;
  return TRUE;
}

static gboolean
gave_up (FrameReader *reader, GError **error)
{
  g_autofree char *words = g_strndup ((const char *)reader->payload, reader->frame.length);
  g_autofree char *valid = g_utf8_make_valid (words, -1);
  fail (error, FAILED, "the source cannot be read to its end");
  return because (error, "%s", valid);
}

static gboolean
check_whole (FrameReader *reader, GError **error)
{
  guint8 digest[FRAME_DIGEST], sum[FRAME_DIGEST];
  digest_of (reader->sums->all, sum);
  sum_up (reader->sums, reader->head, reader->payload, reader->frame.length, digest);
  if (memcmp (digest, reader->head + SEALED, sizeof digest) != 0)
    return damaged (error);
  if (reader->frame.kind == FRAME_END && memcmp (sum, reader->payload, sizeof sum) != 0)
    return damaged (error);
  if (reader->frame.kind == FRAME_ABORT)
    return gave_up (reader, error);
  reader->at = reader->frame.offset + (reader->frame.kind == FRAME_DATA ? reader->frame.length : 0);
  return TRUE;
}

gboolean
frame_reader_take (FrameReader *reader, gsize length, gboolean *ret_whole, Frame *ret_frame,
                   const guint8 **ret_payload, GError **error)
{
  gboolean had_head = reader->got >= FRAME_HEAD;
  reader->got += length;
  *ret_whole = FALSE;
  if (!had_head && reader->got == FRAME_HEAD && !read_head (reader, error))
    return FALSE;
  if (reader->got < FRAME_HEAD || reader->got < FRAME_HEAD + reader->frame.length)
    return TRUE;
  *ret_whole = TRUE;
  *ret_frame = reader->frame;
  *ret_payload = reader->payload;
  return check_whole (reader, error);
}
