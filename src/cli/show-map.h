/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A map as text: the strip, the totals, the table of extents. */
#pragma once

#include "src/cli/print.h"

/* One character for each of @width slices of what the map covers: the letter of the layer that has most
 * of it ('A' is the active one), small where that is zeros, '.' where no layer has it. Full. */
char *
map_strip (RechainMap *map, guint width);
/* All of it to stdout, piece by piece: a map can have millions of rows. */
gboolean
out_map (Cli *cli, RechainMap *map, GError **error);
