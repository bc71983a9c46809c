/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The allocation map of a running disk, from an NBD export of its active layer: base:allocation says
 * what reads as zeros, qemu:allocation-depth which layer answers (QEMU: docs/interop/nbd). */
#pragma once

#include "jobs/map.h"
#include "jobs/nbd.h"

typedef struct _MapReader MapReader;

/* Exactly one call, never from inside map_reader_new() or map_reader_turn() of a closed one; @map is
 * full. Success: (map, NULL). */
typedef void (*MapReady) (Map *map, GError *take_error, gpointer data);

/* Before 6.1 QEMU called a hole what no layer has, and not what takes no space (upstream 0da9856851). */
#define MAP_FIRST_HOLES 60100u

/* Reads over @link, which is ready and must be turned by map_reader_turn(). @depths: for each depth that
 * the export counts (1 is the exported node), the index of its layer in @layers. @holes: the server knows what takes no space. Borrowed: @link. */
MapReader *map_reader_new (NbdLink *link, GPtrArray *layers, GArray *depths, Region region,
                           gboolean holes, MapReady ready, gpointer data);
/* To be called from the link's turn(). */
void map_reader_turn (MapReader *reader);
/* With no request of it in flight, or with the link closed. */
void map_reader_free (MapReader *reader);
