/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What offline operations share: a qemu-storage-daemon of our own with the layers of a chain. */
#pragma once

#include "jobs/blocks.h"

/* The detail of a disk that says: this is what QEMU before 6.1 calls blockdev-reopen. */
#define OLD_REOPEN "x-blockdev-reopen"

/* Starts it and opens every layer, by the names in before. */
void open_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Ends it, and frees clusters that nothing refers to; also after it died. */
void close_layers (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
void repair_leaks (OpDisk *disk, GPtrArray *asks, gboolean tolerant);
gboolean sync_receiver (Op *op, OpDisk *disk, GError **error);
