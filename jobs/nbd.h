/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection to an NBD export on a unix socket, driven by the main loop (libnbd does the protocol).
 *
 * libnbd's callbacks may not call libnbd, so they only note what arrived; after each step of the
 * protocol the owner's turn() is called, which may ask for more, or close the connection. */
#pragma once

#include <glib.h>
#include <libnbd.h>

typedef struct _NbdLink NbdLink;

/* Something arrived, or (@error, borrowed, once and last) the connection is of no use any more. The first
 * call without an error says that it is ready. May close the link. */
typedef void (*NbdTurn) (NbdLink *link, const GError *error, gpointer data);

/* A peer that owes us an answer for so long is taken for dead. */
#define NBD_PATIENCE_MS 30000u

/* Asks for the contexts base:allocation and (@depth) qemu:allocation-depth. Never fails at once. */
NbdLink *nbd_link_open (const char *socket, const char *export, gboolean depth, NbdTurn turn,
                        gpointer data);
void nbd_link_close (NbdLink *link);

/* Once ready. The handle is for nbd_aio_...() calls from turn(), or from the main loop. */
struct nbd_handle *nbd_link_handle (NbdLink *link);
guint64 nbd_link_size (NbdLink *link);  /* bytes */
guint nbd_link_align (NbdLink *link);   /* requests must begin and end at multiples of it, bytes */
/* libnbd's own words for the last call that failed. */
gboolean nbd_link_fail (GError **error, const char *what);
