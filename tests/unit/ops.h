/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations as a plan makes them, without a plan: disks vda, vdb ... of three layers each, top.qcow2
 * over mid.qcow2 over base.qcow2. A move keeps the base and drops the other two. */
#pragma once

#include "jobs/journal.h"

#define OP_ID "0badcafe"

/* Files are DIR/DISK-top.qcow2 ..., the target is DIR/DISK-new.qcow2; nodes are DISK-top, DISK-top-f. */
Op *op_for_test (OpKind kind, const char *dir, guint n_disks);
/* Makes the files of its layers (empty ones), and remembers what they are. */
void op_make_files (Op *op);
/* The journal in the state directory @dir; full. */
Journal *journal_in (const char *dir);
