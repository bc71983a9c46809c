/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/volume-xml.h"

#include "src/common/error.h"
#include "src/common/size.h"
#include "src/common/xml.h"

#define MAX_MODE 07777

void
volume_xml_free (VolumeXml *volume)
{
  if (volume == NULL)
    return;
  g_free (volume->name);
  g_free (volume->path);
  g_free (volume->format);
  g_free (volume->backing_path);
  g_free (volume->backing_format);
  g_free (volume);
}

static gboolean
read_size (Xml *xml, XmlNode *node, gboolean *ret_has, guint64 *ret_size, GError **error)
{
  g_autofree char *size = xml_size_text (node);
  *ret_has = node != NULL;
  return node == NULL || parse_size (size, ret_size, NULL) ||
         xml_complain (xml, node, error, "'%.100s' is more bytes than a volume can have", size);
}

static gboolean
read_id (Xml *xml, XmlNode *node, gint64 *ret_id, GError **error)
{
  g_autofree char *text = xml_text (node);
  *ret_id = text ? g_ascii_strtoll (text, NULL, 10) : -1;
  return *ret_id < G_MAXUINT32 || xml_complain (xml, node, error, "'%s' is no id", text);
}

static gboolean
read_mode (Xml *xml, XmlNode *node, int *ret_mode, GError **error)
{
  g_autofree char *text = xml_text (node);
  *ret_mode = text ? (int)g_ascii_strtoll (text, NULL, 8) : -1;
  return *ret_mode <= MAX_MODE ||
         xml_complain (xml, node, error, "'%s' is no mode of a file", text);
}

static gboolean
read_permissions (Xml *xml, XmlNode *node, VolumeXml *volume, GError **error)
{
  return read_mode (xml, xml_child (node, "mode"), &volume->mode, error) &&
         read_id (xml, xml_child (node, "owner"), &volume->owner, error) &&
         read_id (xml, xml_child (node, "group"), &volume->group, error);
}

static VolumeXml *
read_volume (Xml *xml, GError **error)
{
  XmlNode *root = xml_root (xml);
  XmlNode *target = xml_child (root, "target"), *backing = xml_child (root, "backingStore");
  g_autoptr (VolumeXml) volume = g_new0 (VolumeXml, 1);
  volume->name = xml_child_text (root, "name");
  volume->path = xml_child_text (target, "path");
  volume->format = xml_attribute (xml_child (target, "format"), "type");
  volume->backing_path = xml_child_text (backing, "path");
  volume->backing_format = xml_attribute (xml_child (backing, "format"), "type");
  gboolean ok = read_size (xml, xml_child (root, "capacity"), &volume->has_capacity,
                           &volume->capacity, error) &&
                read_size (xml, xml_child (root, "allocation"), &volume->has_allocation,
                           &volume->allocation, error) &&
                read_permissions (xml, xml_child (target, "permissions"), volume, error);
  return ok ? g_steal_pointer (&volume) : NULL;
}

VolumeXml *
volume_xml_parse (const char *text, gsize length, const char *origin, GError **error)
{
  g_autoptr (Xml) xml = xml_read_memory (text, length, origin, XML_VOLUME, error);
  return xml ? read_volume (xml, error) : NULL;
}

VolumeXml *
volume_from_xml (const char *path, GError **error)
{
  g_autoptr (Xml) xml = xml_read_file (path, XML_VOLUME, error);
  return xml ? read_volume (xml, error) : NULL;
}
