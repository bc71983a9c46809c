/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The qcow2 header, read by ourselves and with bounds before any other program opens a tenant's image
 * (QEMU: docs/interop/qcow2). Only the header cluster and its extensions are read. */
#pragma once

#include <glib.h>

typedef struct {
  gboolean is_qcow2;    /* FALSE: no qcow2 magic; nothing else is set */
  guint version;        /* 2 or 3 */
  guint64 virtual_size; /* bytes */
  guint cluster_size;   /* bytes */
  char *backing;        /* verbatim, nullable */
  char *backing_format; /* nullable */
  gboolean encrypted;
  gboolean data_file;   /* external data file */
  gboolean dirty, corrupt;
  gboolean has_bitmaps; /* persistent dirty bitmaps */
  gboolean extended_l2;
  guint snapshots;      /* internal ones */
  guint64 header_room;  /* bytes left in the header cluster: a new backing name may be longer than the
                           present one by so much (a first one also needs 16 for its format) */
} ImageHeader;

/* FAILED where the header lies (offsets outside, sizes absurd, NUL inside a name). */
gboolean image_header_read (const char *path, ImageHeader *ret_header, GError **error);
/* The same from an open file; @path is for messages. */
gboolean image_header_read_fd (int fd, const char *path, ImageHeader *ret_header, GError **error);
/* How many bytes of the file @path (qcow2) are in use, by its refcounts; what a running QEMU has not written of
 * them is not seen. */
gboolean image_end_read (const char *path, guint64 *ret_end, GError **error);
void image_header_clear (ImageHeader *header);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ImageHeader, image_header_clear)
