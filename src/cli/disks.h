/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DISK arguments with their options: "vda,to=/new/a.qcow2,base=none"; a doubled comma is a comma.
 */
#pragma once

#include <glib.h>

typedef struct {
  char *name;
  GPtrArray *keys;   /* char* */
  GPtrArray *values; /* char*, of the same index */
} DiskArg;

/* @known: NULL-terminated names of the options of a disk that the command has. */
DiskArg *
disk_arg_parse (const char *text, const char *const *known, GError **error);
void
disk_arg_free (DiskArg *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (DiskArg, disk_arg_free)
const char *
disk_arg_get (const DiskArg *disk, const char *key); /* borrowed, nullable */
/* USAGE where the disk has the option already. */
gboolean
disk_arg_set (DiskArg *disk, const char *key, const char *value, GError **error);
