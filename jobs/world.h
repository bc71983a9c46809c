/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between jobs/world.c (what QEMU's replies mean) and jobs/world-query.c (asking); others use
 * jobs/chain.h. */
#pragma once

#include "jobs/chain.h"

/* How QEMU's relative file names become absolute. @resolve returns NULL where that is not known;
 * used only while the world is built. */
typedef struct {
  char *(*resolve) (const char *name, gpointer data);
  gpointer data;
} WorldFiles;

World *
world_build (Json *replies, WorldFiles files, GError **error);
/* The replies do not fit together: the graph changed between two queries (or is broken). Ask again.
 */
gboolean
world_is_torn (World *world);
