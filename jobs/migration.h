/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Was the VM migrated while its disk was copied?
 *
 * QEMU leaves its images inactive when it has migrated a VM, also into a file. Copy-on-read into an inactive image
 * is skipped without a word, and a stream is copy-on-read: its job goes on, and reports success. So what a
 * stream copied counts only where QEMU knows of no other migration than when the operation was planned. */
#pragma once

#include "jobs/step.h"

/* Full: what query-migrate says, as a text that changes where a migration begins, goes on or ends. NULL where
 * @reply is NULL: this QEMU cannot tell. */
char *migration_mark (Json *reply);
/* Appends the question; the step fails where the answer is another one than at planning time. */
void ask_migration (Op *op, GPtrArray *asks);
