/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The steps "export" and "unexport": a read-only NBD export of a node, on a unix socket in a directory
 * of its own (0700), for reading maps and for copy-on-read.
 *
 * QEMU has one NBD server. Where somebody else's runs already, ours cannot, and theirs is never
 * touched: that a server is ours is known by its socket, which QEMU makes in the directory that
 * nobody but us and QEMU can write to. */
#pragma once

#include "jobs/step.h"

/* Names directory, socket and export of @disk; to be called when it is planned. */
void export_name (Op *op, OpDisk *disk);

/* @node: which node is exported. @writable: only of an image that nobody else has open. */
void export_add (Op *op, OpDisk *disk, const char *node, gboolean writable, GPtrArray *asks);
/* Removes the socket and its directory, whatever became of the server. */
void export_forget (GPtrArray *asks);
/* Ours alone: its socket tells. Then the same. */
void export_stop_server (OpDisk *disk, World *world, GPtrArray *asks);
Seen export_is_there (Op *op, OpDisk *disk, World *world);
void export_remove (Op *op, OpDisk *disk, World *world, GPtrArray *asks);
gboolean export_is_gone (Op *op, OpDisk *disk, World *world, GError **error);
