/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <merge>: which layer into which. Both as the document names them. */
#pragma once

#include <glib.h>

typedef struct {
  char *source, *dest;
} MergeXml;

/* @path: "-" is standard input. USAGE with file and line. */
MergeXml *merge_from_xml (const char *path, GError **error);
MergeXml *merge_xml_parse (const char *text, gsize length, const char *origin, GError **error);
void merge_xml_free (MergeXml *merge);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (MergeXml, merge_xml_free)
