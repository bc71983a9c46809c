/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The allocation map of an image that no process has open, from `qemu-img map`. */
#pragma once

#include "jobs/image.h"
#include "jobs/map.h"

/* Exactly one of @map (full) and @error (borrowed) is set. */
typedef void (*MapImageReady) (Map *map, const GError *error, gpointer data);

typedef struct {
  GPtrArray *layers; /* as chain_read_offline() gave them: every format is named, nothing is probed */
  guint from, to;    /* the map is of layers[from..to) alone; 0, 0: all */
  Region region;
  gboolean shared;   /* others may have them open, and write */
  gboolean in_place; /* only data that can be overwritten where it lies counts as data: not what is compressed */
} MapSource;

/* The callback comes once, never from inside this call; image_cancel() ends it. */
ImageRun *map_image (const MapSource *source, MapImageReady ready, gpointer data);

/* What qemu-img prints, piece by piece; for map_image() and its tests. */
typedef struct _MapParser MapParser;
MapParser *map_parser_new (GPtrArray *layers, guint64 size, Region region, gboolean in_place);
gboolean map_parser_feed (MapParser *parser, const char *text, gsize length, GError **error);
/* Full; NULL where the list has not ended, or has holes. */
Map *map_parser_end (MapParser *parser, GError **error);
void map_parser_free (MapParser *parser);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (MapParser, map_parser_free)
