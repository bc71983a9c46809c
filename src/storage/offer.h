/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A volume as one host offers it to another: what the other must know to make a copy of it. The document
 * rechain.offer/1, which goes back to whom it came from when the data is wanted. */
#pragma once

#include "src/storage/plan.h"

typedef struct {
  char *name;          /* what to call it */
  char *path;          /* on its host */
  char *reads;         /* the snapshot that is read in its place; nullable */
  guint64 size, data;  /* bytes, in all and not in holes */
  int mode;            /* of the file; -1: it is none */
  char *backing;       /* as its header has it; nullable */
  const Codec *codec;  /* it is an archive; nullable */
  const Codec *packed; /* it is compressed on the way; nullable */
  char *stamp;         /* differs once it was written to */
} Offer;

/* What @request wants copied ("source", "source-format", "archive"): nobody may write it, and it must be
 * allowed. Full. */
Json *offer_make (const Allow *allow, const VolumeRequest *request, Json *layers, GError **error);
/* The parts of that: what is said of @source, and whether it is compressed on the way. */
Json *offer_document (const Volume *source, const Codec *packed);
gboolean offer_find_packing (const VolumeRequest *request, const Volume *source, const Codec **ret_packed,
                             GError **error);
/* plan-lend.c: the offer of what @op lends, once it does; before, what it will be of. Full. */
Json *offer_lent (Op *op, GError **error);
/* USAGE for what is none: it comes from another host. */
Offer *offer_parse (Json *document, GError **error);
void offer_free (Offer *offer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Offer, offer_free)
/* The volume, opened to be read, if it is still what was offered. -1 with an error. */
int offer_open (const Allow *allow, const Offer *offer, GError **error);
/* Is it still? */
gboolean offer_holds (const Offer *offer, GError **error);
