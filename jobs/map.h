/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An allocation map: which bytes of a disk lie in which layer of its chain.
 *
 * Extents are sorted, without gaps, and neighbours that say the same are one. Each takes 24 bytes, so
 * that 100,000 of them are 2.4 MB; how many there may be is bounded, since an image or a QEMU may be
 * hostile. Where it comes from: map-nbd.c (a running QEMU), map-image.c (qemu-img). */
#pragma once

#include "jobs/chain.h"
#include "src/common/json.h"

/* A stretch of a disk, bytes. */
typedef struct {
  guint64 start, length;
} Region;

#define MAP_NOBODY      G_MAXUINT16 /* no layer has it: it reads as zeros */
#define MAP_MAX_EXTENTS (4u << 20)  /* 96 MiB of them */

typedef struct {
  guint64 start, length; /* bytes */
  guint16 depth;         /* of the layer that answers, 0 = active; or MAP_NOBODY */
  guint8 data;           /* there is data on the storage */
  guint8 zero;           /* it reads as zeros, and the layer knows */
} MapExtent;

typedef struct {
  gint refs;
  guint64 virtual_size; /* of the disk, bytes */
  guint64 start;        /* where the first extent begins */
  GPtrArray *files;     /* char*: of the layers, active first */
  GArray *extents;      /* MapExtent */
} Map;

typedef struct {
  guint64 allocated, data, zero; /* bytes; zero and data may overlap (preallocated zeros) */
} MapTotal;

/* @layers: ChainLayer*. */
Map *map_new (GPtrArray *layers, guint64 virtual_size, guint64 start);
Map *map_ref (Map *map);
void map_unref (Map *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Map, map_unref)

/* Appends what follows the last extent. FAILED where there is no such layer, or too many extents. */
gboolean map_add (Map *map, guint64 length, guint depth, gboolean data, gboolean zero, GError **error);
/* Where the last extent ends. */
guint64 map_end (const Map *map);
const MapExtent *map_extent (const Map *map, guint i);
/* The sum over the layer at @depth (MAP_NOBODY: over what no layer has, as zero). */
MapTotal map_total (const Map *map, guint depth);

/* The part of @region that a disk of @size has, from its start on; the whole disk for a region of
 * length 0. REFUSED where it does not lie in the disk. */
gboolean region_clip (Region *region, guint64 size, GError **error);

/* The document rechain.map/1, piece by piece: a text of all is large. @write: FALSE ends it. */
typedef gboolean (*MapWrite) (const char *text, gsize length, gpointer data);
gboolean map_write_json (const Map *map, const char *vm, const char *disk, MapWrite write, gpointer data);
