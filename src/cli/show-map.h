/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A map as text: the strip, the totals, the table of extents. */
#pragma once

#include "src/cli/print.h"

/* All of it to stdout, piece by piece: a map can have millions of rows. */
gboolean out_map (Cli *cli, RechainMap *map, GError **error);
