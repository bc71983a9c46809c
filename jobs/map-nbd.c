/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request at a time, each for as much as the protocol's 32-bit lengths allow: a server answers
 * with as many extents as it likes, but at least one, and the next request begins where the shorter
 * of the two contexts ended. So the memory needed is that of one answer, and the map itself. */
#include "jobs/map-nbd.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_REQUEST                                                                                \
  ((4ull << 30) - (2u << 20)) /* below 4 GiB, and a multiple of any cluster size */
#define HOLE 1u               /* flags of base:allocation */
#define ZERO 2u

/* What one answer said, in one context. */
typedef struct {
  GArray *entries; /* guint32: length, flags, length, flags ... */
  guint at;        /* the entry that is being used up */
  guint32 used;    /* bytes of it */
} Context;

struct _MapReader {
  NbdLink *link;
  Map *map; /* NULL until the size of the disk is known */
  GPtrArray *layers;
  GArray *depths;
  Region region;
  guint64 end;   /* aligned end of what is asked for */
  guint64 at;    /* where the answer in hand begins */
  gint64 cookie; /* of the request in flight; 0: none */
  Context allocation, depth;
  MapReady ready;
  gpointer data;
};

/* ---- one answer ------------------------------------------------------------------------------ */

/* libnbd: may not call libnbd from here. */
static int
on_extents (void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n,
            int *error)
{
  MapReader *reader = data;
  gboolean depth = g_str_equal (context, "qemu:allocation-depth");
  g_array_append_vals ((depth ? &reader->depth : &reader->allocation)->entries, entries, (guint)n);
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
within (MapReader *reader, guint64 length)
{
  guint64 from = MAX (reader->at, reader->region.start);
  guint64 to = MIN (reader->at + length, reader->region.start + reader->region.length);
  return to > from ? to - from : 0;
}

static gboolean
take_answer (MapReader *reader, GError **error)
{
  guint64 before = reader->at;
  for (;;) {
    guint64 length = MIN (context_left (&reader->allocation), context_left (&reader->depth));
    guint layer;
    length = MIN (length, reader->end - reader->at);
    if (length == 0)
      break;
    guint32 flags = entry (&reader->allocation, reader->allocation.at + 1);
    guint32 depth = entry (&reader->depth, reader->depth.at + 1);
    if (!layer_of_depth (reader, depth, &layer, error) ||
        !map_add (reader->map, within (reader, length), layer, !(flags & HOLE), (flags & ZERO) != 0,
                  error))
      return FALSE;
    reader->allocation.used += (guint32)length;
    reader->depth.used += (guint32)length;
    reader->at += length;
  }
  return reader->at > before ? TRUE
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
  reader->at = reader->region.start / align * align;
  reader->end = (reader->region.start + reader->region.length + align - 1) / align * align;
  reader->end = MIN (reader->end, size);
  reader->map = map_new (reader->layers, size, reader->region.start);
  return TRUE;
}

static gboolean
ask (MapReader *reader, GError **error)
{
  nbd_extent_callback extents = {.callback = on_extents, .user_data = reader};
  context_reset (&reader->allocation);
  context_reset (&reader->depth);
  reader->cookie = nbd_aio_block_status (nbd_link_handle (reader->link),
                                         MIN (reader->end - reader->at, MAX_REQUEST), reader->at,
                                         extents, NBD_NULL_COMPLETION, 0);
  return reader->cookie > 0 ? TRUE : nbd_link_fail (error, "ask for the allocation map");
}

/* TRUE: go on. *ret_done: the map is whole. */
static gboolean
go_on (MapReader *reader, gboolean *ret_done, GError **error)
{
  if (reader->map == NULL) {
    if (!begin (reader, error))
      return FALSE;
  } else {
    int ended = nbd_aio_command_completed (nbd_link_handle (reader->link), reader->cookie);
    if (ended == 0)
      return TRUE;
    if (ended < 0)
      return nbd_link_fail (error, "read the allocation map");
    if (!take_answer (reader, error))
      return FALSE;
  }
  *ret_done = reader->at >= reader->end;
  return *ret_done || ask (reader, error);
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
map_reader_new (NbdLink *link, GPtrArray *layers, GArray *depths, Region region, MapReady ready,
                gpointer data)
{
  MapReader *reader = g_new0 (MapReader, 1);
  *reader = (MapReader){.link = link,
                        .layers = g_ptr_array_ref (layers),
                        .depths = g_array_ref (depths),
                        .region = region,
                        .ready = ready,
                        .data = data};
  reader->allocation.entries = g_array_new (FALSE, FALSE, sizeof (guint32));
  reader->depth.entries = g_array_new (FALSE, FALSE, sizeof (guint32));
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
  g_array_unref (reader->allocation.entries);
  g_array_unref (reader->depth.entries);
  g_free (reader);
}
