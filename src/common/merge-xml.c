/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/merge-xml.h"

#include "src/common/xml.h"

void
merge_xml_free (MergeXml *merge)
{
  if (merge == NULL)
    return;
  g_free (merge->source);
  g_free (merge->dest);
  g_free (merge);
}

static MergeXml *
read_merge (Xml *xml)
{
  MergeXml *merge = g_new0 (MergeXml, 1);
  merge->source = xml_path (xml_child (xml_root (xml), "source"));
  merge->dest = xml_path (xml_child (xml_root (xml), "dest"));
  return merge;
}

MergeXml *
merge_xml_parse (const char *text, gsize length, const char *origin, GError **error)
{
  g_autoptr (Xml) xml = xml_read_memory (text, length, origin, XML_MERGE, error);
  return xml ? read_merge (xml) : NULL;
}

MergeXml *
merge_from_xml (const char *path, GError **error)
{
  g_autoptr (Xml) xml = xml_read_file (path, XML_MERGE, error);
  return xml ? read_merge (xml) : NULL;
}
