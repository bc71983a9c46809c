/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a caller wants of a volume. It says nothing about what there is. */
#pragma once

#include "jobs/op.h"

typedef struct _RechainVolumeRequest VolumeRequest;
struct _RechainVolumeRequest {
  OpKind kind;
  char *volume;                  /* what is made or changed */
  char *source;                  /* where its contents come from */
  char *name;                    /* of a snapshot */
  char *format, *source_format;  /* all strings are nullable */
  char *backing, *backing_format;
  char *allocation;              /* "sparse", "metadata", "falloc", "full" */
  char *pool;                    /* thin pool of a new logical volume */
  char *method;                  /* of a snapshot */
  char *codec;                   /* of the archive to be made */
  char *force;                   /* "open,backing": reasons that do not count */
  gboolean has_capacity, relative_capacity; /* "+SIZE" */
  guint64 capacity;
  int mode;                      /* -1: not said */
  gint64 owner, group;           /* -1: not said */
  gboolean archive, shrink, overwrite, snapshot, relative, remove;
  guint64 bandwidth, timeout_ms;
  Json *offer; /* the source lies on another host, which says so (offer.h); nullable */
  Json *from;  /* that host, {"name","address","config"}; NULL: whoever wants the copy sends the data */
};

VolumeRequest *volume_request_new (OpKind kind);
VolumeRequest *volume_request_copy (const VolumeRequest *request);
void volume_request_free (VolumeRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VolumeRequest, volume_request_free)
/* Options by name, as in rechain-storage.h; USAGE for one that is unknown or a value that cannot be. */
gboolean volume_request_set (VolumeRequest *request, const char *option, const char *value,
                             GError **error);
/* What a <volume> document says and was not said before. */
gboolean volume_request_set_xml (VolumeRequest *request, const char *text, gsize length,
                                 const char *origin, GError **error);
/* Is @reason ("open", "mounted", "backing") one of those that do not count? */
gboolean volume_request_forces (const VolumeRequest *request, const char *reason);
