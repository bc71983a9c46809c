/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <domainsnapshot>: what is asked for, or what a record says (libvirt: domain snapshot XML). */
#pragma once

#include <glib.h>

typedef struct {
  char *name;                     /* DISK */
  gboolean left_out;              /* snapshot='no' */
  char *method;                   /* nullable: not said */
  char *source, *format;          /* the new active layer; nullable */
  char *on_delete;                /* "forward" or "backward"; nullable */
  char *device, *subvolume;       /* for methods other than qemu; nullable */
  char *size;                     /* as parse_size() takes it; nullable */
  char *backing, *backing_format; /* the layer under it, read-only from now on; nullable */
} SnapshotXmlDisk;

typedef struct {
  char *name, *description, *parent, *state; /* nullable */
  gint64 created; /* seconds since the epoch; -1: not said */
  GPtrArray *disks; /* SnapshotXmlDisk* */
} SnapshotXml;

SnapshotXml *snapshot_xml_new (void);
SnapshotXmlDisk *snapshot_xml_add_disk (SnapshotXml *snapshot, const char *name);
/* USAGE with file and line; REFUSED for internal and manual snapshots. All paths are absolute. */
SnapshotXml *snapshot_xml_parse (const char *text, gsize length, const char *origin, GError **error);
/* Full; what snapshot_xml_parse() reads. FAILED where a name cannot be written as XML. */
char *snapshot_xml_print (const SnapshotXml *snapshot, GError **error);
void snapshot_xml_free (SnapshotXml *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (SnapshotXml, snapshot_xml_free)
