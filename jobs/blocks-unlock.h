/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A layer that lies under another is written to by a commit, and its header at every merge in the middle of a
 * chain. QEMU makes it writable for as long as that takes, unless its file was opened with read-only=on: then
 * the file is opened again. */
#pragma once

#include "jobs/blocks.h"

/* Does a merge write to a file of this disk that was opened with read-only=on? */
gboolean writes_to_locked (OpDisk *disk);

gboolean op_unlocks (Op *op);
void unlock_files (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Does it stream into a layer that lies under another one? */
gboolean op_streams_below (Op *op);
/* From QEMU 10.0 on such a layer stays writable when the job has ended, and so locked for who reads it. */
void seal_receiver (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Those that lie under another layer now. */
void lock_files (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
