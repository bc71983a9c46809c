/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A few requests at a time, so that neither side waits for the other, each for as much as the
 * protocol's 32-bit lengths allow. A server answers with as many extents as it likes, but at least
 * one; what a request did not get told it asks again for, from where the shorter of the two
 * contexts ended. So the memory needed is that of a few answers, and the map itself. */
#include "jobs/map-nbd.h"

#include "src/common/error.h"

#include <errno.h>
#include <string.h>

/* Below 4 GiB, and a multiple of any cluster size. */
#define MAX_REQUEST ((4ull << 30) - (2u << 20))
#define HOLE        1u /* flags of base:allocation */
#define ZERO        2u

#define IN_FLIGHT   4u
#define MAX_EXTENTS (1u << 18) /* of an answer; QEMU sends half of that at most */
/* Enough for 4 PiB; a server may be hostile, and tell of a byte at a time. */
#define MAX_REQUESTS (1u << 20)

/* What one answer said, in one context. */
typedef struct {
  GArray *entries; /* guint32: length, flags, length, flags ... */
  guint at;        /* the entry that is being used up */
  guint32 used;    /* bytes of it */
} Context;

typedef struct {
  gint64 cookie;
  guint64 at, end; /* what is still to be told */
  Context allocation, depth;
} Answer;

struct _MapReader {
  NbdLink *link;
  Map *map; /* NULL until the size of the disk is known */
  GPtrArray *layers;
  GArray *depths;
  Region region;
  gboolean holes;
  guint64 end;               /* aligned end of what is asked for */
  guint64 asked;             /* up to where */
  Answer answers[IN_FLIGHT]; /* a ring: n_answers from the first on, in the order of the disk */
  guint first, n_answers;
  guint n_requests; /* so far */
  MapReady ready;
  gpointer data;
};

/* ---- one answer ------------------------------------------------------------------------------ */

/* libnbd: may not call libnbd from here. */
static int
on_extents (void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
            int *error)
{
  Answer *answer = data;
  gboolean depth = g_str_equal (context, "qemu:allocation-depth");
  GArray *into = (depth ? &answer->depth : &answer->allocation)->entries;
  if (n > 2 * MAX_EXTENTS - into->len) {
    *error = EOVERFLOW;
    return -1;
  }
  g_array_append_vals (into, entries, (guint)n);
  return 0;
}

static void
context_reset (Context *context)
{
  g_array_set_size (context->entries, 0);
  context->at = 0;
  context->used = 0;
}

static guint32
entry (const Context *context, guint i)
{
  return g_array_index (context->entries, guint32, i);
}

/* Bytes left of the present entry; 0 at the end of the answer. */
static guint32
context_left (Context *context)
{
  while (context->at + 1 < context->entries->len && context->used >= entry (context, context->at)) {
    context->at += 2;
    context->used = 0;
  }
  return context->at + 1 < context->entries->len ? entry (context, context->at) - context->used : 0;
}

/* What the export calls depth 0 nobody has. */
static gboolean
layer_of_depth (MapReader *reader, guint32 depth, guint *ret_layer, GError **error)
{
  *ret_layer = MAP_NOBODY;
  if (depth == 0)
    return TRUE;
  if (depth > reader->depths->len)
    return fail (error, FAILED, "QEMU tells of depth %u in a chain that has %u nodes", depth,
                 reader->depths->len);
  *ret_layer = g_array_index (reader->depths, guint, depth - 1);
  return TRUE;
}

/* What lies before or behind the region was asked for because of the alignment only. */
static guint64
within (MapReader *reader, guint64 start, guint64 length)
{
  guint64 from = MAX (start, reader->region.start);
  guint64 to = MIN (start + length, reader->region.start + reader->region.length);
  return to > from ? to - from : 0;
}

/* An old server says the same of zeros that take no space and of zeros that do; the former are
 * meant: to write zeros over the latter is harmless, to take the former for data would not be. */
static gboolean
is_data (MapReader *reader, guint32 flags)
{
  return !(flags & HOLE) && (reader->holes || !(flags & ZERO));
}

static gboolean
take_answer (MapReader *reader, Answer *answer, GError **error)
{
  guint64 before = answer->at;
  for (;;) {
    guint64 length = MIN (context_left (&answer->allocation), context_left (&answer->depth));
    guint layer;
    length = MIN (length, answer->end - answer->at);
    if (length == 0)
      break;
    guint32 flags = entry (&answer->allocation, answer->allocation.at + 1);
    guint32 depth = entry (&answer->depth, answer->depth.at + 1);
    if (!layer_of_depth (reader, depth, &layer, error) ||
        !map_add (reader->map, within (reader, answer->at, length), layer, is_data (reader, flags),
                  (flags & ZERO) != 0, error))
      return FALSE;
    answer->allocation.used += (guint32)length;
    answer->depth.used += (guint32)length;
    answer->at += length;
  }
  return answer->at > before ? TRUE
                             : fail (error, FAILED, "QEMU's NBD server answered with no extent");
}

/* ---- asking ---------------------------------------------------------------------------------- */

static gboolean
begin (MapReader *reader, GError **error)
{
  struct nbd_handle *nbd = nbd_link_handle (reader->link);
  guint64 size = nbd_link_size (reader->link), align = nbd_link_align (reader->link);
  if (nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1 ||
      nbd_can_meta_context (nbd, "qemu:allocation-depth") != 1)
    return fail (error, REFUSED, "this QEMU's NBD server does not tell what is allocated");
  if (!region_clip (&reader->region, size, error))
    return FALSE;
  reader->asked = reader->region.start / align * align;
  reader->end = (reader->region.start + reader->region.length + align - 1) / align * align;
  reader->end = MIN (reader->end, size);
  reader->map = map_new (reader->layers, size, reader->region.start);
  return TRUE;
}

static gboolean
ask (MapReader *reader, Answer *answer, GError **error)
{
  nbd_extent_callback extents = {.callback = on_extents, .user_data = answer};
  reader->n_requests++;
  if ((reader->end - answer->at) / MAX_REQUEST > MAX_REQUESTS - reader->n_requests) {
    fail (error, REFUSED, "the map has no end: %u questions would not be enough", MAX_REQUESTS);
    return hint (error, "ask for a part of the disk: --start, --length");
  }
  context_reset (&answer->allocation);
  context_reset (&answer->depth);
  answer->cookie = nbd_aio_block_status (nbd_link_handle (reader->link), answer->end - answer->at,
                                         answer->at, extents, NBD_NULL_COMPLETION, 0);
  return answer->cookie > 0 ? TRUE : nbd_link_fail (error, "ask for the allocation map");
}

static gboolean
ask_more (MapReader *reader, GError **error)
{
  while (reader->n_answers < IN_FLIGHT && reader->asked < reader->end) {
    Answer *answer = &reader->answers[(reader->first + reader->n_answers++) % IN_FLIGHT];
    answer->at = reader->asked;
    answer->end = reader->asked += MIN (reader->end - reader->asked, MAX_REQUEST);
    if (!ask (reader, answer, error))
      return FALSE;
  }
  return TRUE;
}

/* *ret_ended: there was nothing to take. */
static gboolean
take_first (MapReader *reader, gboolean *ret_ended, GError **error)
{
  Answer *answer = &reader->answers[reader->first];
  int ended = reader->n_answers == 0
                  ? 0
                  : nbd_aio_command_completed (nbd_link_handle (reader->link), answer->cookie);
  *ret_ended = ended == 0;
  if (ended == 0)
    return TRUE;
  if (ended < 0)
    return nbd_link_fail (error, "read the allocation map");
  if (!take_answer (reader, answer, error))
    return FALSE;
  if (answer->at < answer->end)
    return ask (reader, answer, error);
  reader->first = (reader->first + 1) % IN_FLIGHT;
  reader->n_answers--;
  return TRUE;
}

/* TRUE: go on. *ret_done: the map is whole. */
static gboolean
go_on (MapReader *reader, gboolean *ret_done, GError **error)
{
  gboolean ended = FALSE;
  if (reader->map == NULL && !begin (reader, error))
    return FALSE;
  while (!ended)
    if (!take_first (reader, &ended, error) || !ask_more (reader, error))
      return FALSE;
  *ret_done = reader->n_answers == 0;
  return TRUE;
}

void
map_reader_turn (MapReader *reader)
{
  GError *error = NULL;
  gboolean done = FALSE;
  if (reader->ready == NULL || (go_on (reader, &done, &error) && !done))
    return;
  MapReady ready = reader->ready;
  reader->ready = NULL;
  ready (error ? NULL : g_steal_pointer (&reader->map), error, reader->data);
}

MapReader *
map_reader_new (NbdLink *link, GPtrArray *layers, GArray *depths, Region region, gboolean holes,
                MapReady ready, gpointer data)
{
  MapReader *reader = g_new0 (MapReader, 1);
  *reader = (MapReader){.link = link,
                        .layers = g_ptr_array_ref (layers),
                        .depths = g_array_ref (depths),
                        .region = region,
                        .holes = holes,
                        .ready = ready,
                        .data = data};
  for (guint i = 0; i < IN_FLIGHT; i++) {
    reader->answers[i].allocation.entries = g_array_new (FALSE, FALSE, sizeof (guint32));
    reader->answers[i].depth.entries = g_array_new (FALSE, FALSE, sizeof (guint32));
  }
  return reader;
}

void
map_reader_free (MapReader *reader)
{
  if (reader == NULL)
    return;
  map_unref (reader->map);
  g_ptr_array_unref (reader->layers);
  g_array_unref (reader->depths);
  for (guint i = 0; i < IN_FLIGHT; i++) {
    g_array_unref (reader->answers[i].allocation.entries);
    g_array_unref (reader->answers[i].depth.entries);
  }
  g_free (reader);
}
