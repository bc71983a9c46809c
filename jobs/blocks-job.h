/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The job that gives a disk its new chain, whatever its mode: starting, flushing, finalizing, reading
 * the result, and putting the old chain back. */
#pragma once

#include "jobs/blocks.h"

ChainLayer *kept_base (OpDisk *disk); /* nullable: nothing is kept below */

/* Appends the command that starts the job, unless it is there. */
void start_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen job_is_started (Op *op, OpDisk *disk, World *world);
/* How far it goes by itself: READY where it pivots, else PENDING. */
void wait_for_copy (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
Seen is_copied (Op *op, OpDisk *disk, World *world);
void end_own_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

/* Makes durable what the job wrote, where QEMU does not: it rewrites a header before the tables of the
 * copied data are on disk (qemu-facts, hazard 0). */
void flush_receiver (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* The same, after it was made sure that what was copied is there. */
void flush_copied (Op *op, OpDisk *disk, World *world, GPtrArray *asks);

void finalize_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* Graph and header: when the write of the header failed, QEMU shows the shortened chain all the same. */
gboolean chain_is_new (Op *op, OpDisk *disk, World *world, GError **error);
Seen is_on_new_chain (Op *op, OpDisk *disk, World *world);

/* The undo of a pivot that took effect on this disk, but not on another one: the old layers come back
 * into the chain. Both hold the same data (a stream's receiver always, the others while the guest is
 * held). blocks-revert.c */
void put_chain_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
/* FALSE: its pivot cannot be taken back while QEMU lives. */
gboolean can_come_back (OpDisk *disk);
