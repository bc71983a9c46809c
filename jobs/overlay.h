/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes an empty qcow2 overlay (QEMU: docs/interop/qcow2), as `qemu-img create -u -b` does, without the
 * process: eight of those take more CPU than all the rest of a snapshot of eight disks. What it writes is
 * the least that the format knows: no extension but the backing format, 64 KiB clusters, 16 bit
 * refcounts. tests/unit/test-overlay.c holds it against qemu-img. */
#pragma once

#include <glib.h>

/* Into @path, which exists and is empty; not synced. @size in bytes, a multiple of 512. USAGE where a name
 * does not fit the header. */
gboolean overlay_write (const char *path, guint64 size, const char *backing,
                        const char *backing_format, GError **error);
/* Has the qcow2 image @path no tables at all, so that it holds nothing? FALSE where that cannot be read. */
gboolean overlay_is_empty (const char *path);
