/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <volume>: what a new volume is to be (libvirt: storage volume XML). Sizes in bytes. */
#pragma once

#include <glib.h>

typedef struct {
  char *name; /* all strings are nullable */
  char *path, *format;
  char *backing_path, *backing_format;
  gboolean has_capacity, has_allocation;
  guint64 capacity, allocation;
  int mode;             /* permission bits; -1: not said */
  gint64 owner, group;  /* -1: not said */
} VolumeXml;

/* @path: "-" is standard input. USAGE with file and line. */
VolumeXml *volume_from_xml (const char *path, GError **error);
VolumeXml *volume_xml_parse (const char *text, gsize length, const char *origin, GError **error);
void volume_xml_free (VolumeXml *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VolumeXml, volume_xml_free)
