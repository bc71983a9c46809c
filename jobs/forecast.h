/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much space an image takes when something is written into it: counted from the map of what is
 * written and, where the image exists, the map of what it has. Clusters count as a whole, with the
 * tables that name them (QEMU: docs/interop/qcow2). A guest that writes meanwhile needs more. */
#pragma once

#include "jobs/map.h"

/* The image that is written into. */
typedef struct {
  gboolean qcow2;
  gboolean fresh;       /* it is made for this: its header and tables count, too */
  guint64 virtual_size; /* bytes */
  guint64 cluster;      /* bytes of the pieces in which it gets its space */
  guint entry;          /* bytes of an entry in a table of clusters */
  guint64 most;         /* bytes that it can take at all */
} Receiver;

/* A new image of QEMU's defaults. */
Receiver receiver_new (const char *format, guint64 virtual_size);
/* An image that is there; the header is read. */
gboolean receiver_read (const char *file, const char *format, guint64 virtual_size,
                        Receiver *ret_receiver, GError **error);

/* Bytes that can still be written into an image: of its filesystem, or of the device that it lies on, which a raw
 * image has all of. @fresh: it is made for this, and what it holds counts as needed. */
gboolean receiver_free_space (const char *file, const char *format, gboolean fresh,
                              guint64 *ret_bytes, GError **error);

typedef struct {
  const Map *from;
  const Map *has;        /* of the receiver alone: what has data there takes no new space; nullable */
  GArray *regions;       /* Region, sorted: what is written; NULL: all */
  guint first;           /* data of layers of at least this depth is written */
  gboolean layers_zeros; /* so are zeros that these layers have, as data */
  gboolean full;         /* so is whatever has no data, whoever has it */
  guint pieces_of;       /* of the layer at this depth QEMU copies whole pieces; MAP_NOBODY: of none */
  guint64 slice;         /* no piece goes beyond a multiple of it, bytes */
} Writing;

#define WRITING_PIECE (512u << 10) /* bytes; QEMU: STREAM_CHUNK */

/* What QEMU looks up at once in the tables of such an image, bytes of the disk. */
guint64 receiver_slice (const Receiver *image);

/* Bytes of a qcow2 image whose clusters are all allocated. */
guint64 receiver_whole (const Receiver *image);

/* Bytes. */
guint64 forecast (const Writing *writing, const Receiver *receiver);
