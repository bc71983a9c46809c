/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a caller wants: a kind, disks with their options, and how. It says nothing about any QEMU. */
#pragma once

#include "jobs/op.h"

typedef struct {
  char *disk;             /* as the caller named it */
  char *to, *base, *format; /* nullable, as all that follow */
  char *top, *source, *dest;
  char *allow_shared;       /* layer that others may use too */
  char *method;             /* of a snapshot: "qemu", "lvm", "btrfs"; nullable: "qemu" */
  char *device;             /* "lvm": the volume to be made; "btrfs": the file */
  char *size;               /* "lvm": room for what changes since */
  char *subvolume;          /* "btrfs": the snapshot of the whole subvolume */
  char *on_delete;          /* how it is merged later: "forward", "backward"; nullable */
  gboolean left_out;        /* not this one, where all others are meant */
  char *fill;               /* of an allocation: "backing", "full"; nullable: "backing" */
  GArray *regions;        /* Region: of a map or an allocation; empty: the whole disk */
} RequestDisk;

typedef struct _RechainRequest Request;
struct _RechainRequest {
  OpKind kind;
  char *name;             /* of the snapshot; nullable */
  char *description;      /* of the snapshot; nullable */
  MergeDirection direction; /* in which a snapshot is deleted; unsaid: as it is on record, disk by disk */
  gboolean brief;         /* nobody reads the plan: no forecast of space where the whole disks fit */
  gboolean all_others;    /* also the writable disks that are not named */
  char **allow;           /* directories outside which no file may be named; NULL: anywhere */
  char **allow_vgs;       /* volume groups likewise */
  char **allow_shared;    /* of a deletion: layers that others may use too; nullable */
  char *agent;            /* address of the guest agent; nullable */
  guint64 bandwidth;      /* bytes/s, 0 = unlimited */
  guint64 timeout_ms;     /* 0 = never */
  guint64 max_pause_ms;
  guint64 max_freeze_ms;
  guint64 grow_step;      /* bytes by which logical volumes are extended that fill up; 0: they are not */
  OpFlags flags;
  GPtrArray *disks;       /* RequestDisk* */
};

Request *request_new (OpKind kind);
Request *request_copy (const Request *request);
void request_free (Request *request);
RequestDisk *request_add_disk (Request *request, const char *disk);
/* @length 0: to the end of the disk. USAGE for a kind that has no regions. */
gboolean request_add_region (Request *request, const char *disk, guint64 start, guint64 length,
                             GError **error);
/* USAGE for an option that this kind has not. */
gboolean request_set_disk_option (Request *request, const char *disk, const char *option,
                                  const char *value, GError **error);
