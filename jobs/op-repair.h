/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Repairs: what `rechain doctor` found and what is provably ours is taken away or put right. Each disk of
 * the operation is one cure, told by its details ("cure"):
 *
 *   header   device, node, file, format, to, was: the header of a layer of a running VM gets the name that
 *            the graph and the journal agree on
 *   job      a left-over job (the disk's job)
 *   export   a left-over block export (the disk's export)
 *   server   the NBD server of an operation that has ended (the disk's socket)
 *   node     a node that nobody uses
 *   bitmap   node, name: a dirty bitmap that is inconsistent: QEMU can do nothing with it but remove it
 *   record   name, vm: a snapshot on record whose files are gone
 *   socket   a directory with the socket of an NBD server that is gone (the disk's socket)
 *   volume   vg, lv, uuid, origin: a logical volume that an operation made and left
 *   file     path, id, empty: a file that an operation made and left; "empty": only while it holds nothing
 *
 * The first six need the VM, the others have none. "witness": a file that this VM writes to. What is not as it
 * was found any more is left alone, and no failure: whoever asks the doctor again is told. */
#pragma once

#include "jobs/step.h"

extern const Step repair_steps[];
extern const Step repair_files_steps[];
extern const Step dead_repair_steps[]; /* when the VM is gone */

gboolean disk_is_cure (OpDisk *disk);
/* Adds a cure; takes @details. */
OpDisk *repair_add (Op *op, const char *name, const char *cure, Json *take_details);
