/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One volume as it is now: a file, a block device or a logical volume. Nothing is remembered between two
 * looks; a file that was copied in by hand is a volume like any other. */
#pragma once

#include "jobs/chain.h"
#include "src/storage/archive.h"
#include "src/storage/contents.h"
#include "src/storage/place.h"
#include "src/storage/users.h"

typedef enum { VOLUME_FILE, VOLUME_BLOCK, VOLUME_LV, VOLUME_THIN_LV } VolumeType;

typedef struct {
  Place place;
  VolumeType type;
  const Codec *codec;   /* of a compressed file; else NULL */
  char *format;         /* "qcow2", "raw", "luks"; NULL where it is compressed */
  guint64 size;         /* bytes of the file or device */
  guint64 virtual_size; /* bytes a guest sees */
  gboolean has_virtual_size;
  guint64 allocated;    /* bytes on disk */
  gboolean has_allocated;
  GPtrArray *chain;     /* ChainLayer*, itself first; nullable */
  char *broken;         /* why the chain cannot be read; nullable */
  Contents contents;
  Users *users;         /* NULL: not looked for */
  GPtrArray *backs;     /* char*: images of its directory whose backing file it is; NULL: not looked for */
  Json *lv;             /* what LVM says of it; nullable */
  Json *vms;            /* [{"vm","disk","depth"}]; nullable */
} Volume;

/* Reads what can be read at once: header, chain, contents of what is raw. @format: as the caller says; NULL:
 * qcow2 by its magic, else raw. The contents of raw volumes are looked at only with @deep. */
Volume *volume_look (const Allow *allow, const char *path, const char *format, gboolean deep,
                     GError **error);
void volume_free (Volume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Volume, volume_free)

/* Who uses it, and what in its directory is built on it. */
void volume_find_users (Volume *volume, OpenFiles *files);

/* The document rechain.volume/1, without "schema"; full. */
Json *volume_to_json (Volume *volume);
