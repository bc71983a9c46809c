/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What offline operations share: a qemu-storage-daemon of our own with the layers of a chain. */
#pragma once

#include "jobs/blocks.h"

/* Starts it and opens every layer; "layerN" and "fileN" are their nodes. */
void open_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Ends it, and frees clusters that nothing refers to; also after it died. */
void close_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void repair_leaks (OpDisk *disk, GPtrArray *asks, gboolean tolerant);
gboolean sync_receiver (Op *op, OpDisk *disk, GError **error);
