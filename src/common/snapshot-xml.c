/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/snapshot-xml.h"

#include "src/common/error.h"
#include "src/common/xml.h"

#define MAX_DISKS 1024 /* more than any QEMU has */

static void
disk_free (gpointer data)
{
  SnapshotXmlDisk *disk = data;
  g_free (disk->name);
  g_free (disk->method);
  g_free (disk->source);
  g_free (disk->format);
  g_free (disk->on_delete);
  g_free (disk->device);
  g_free (disk->subvolume);
  g_free (disk->size);
  g_free (disk->backing);
  g_free (disk->backing_format);
  g_free (disk);
}

SnapshotXml *
snapshot_xml_new (void)
{
  SnapshotXml *snapshot = g_new0 (SnapshotXml, 1);
  snapshot->created = -1;
  snapshot->disks = g_ptr_array_new_with_free_func (disk_free);
  return snapshot;
}

void
snapshot_xml_free (SnapshotXml *snapshot)
{
  if (snapshot == NULL)
    return;
  g_free (snapshot->name);
  g_free (snapshot->description);
  g_free (snapshot->parent);
  g_free (snapshot->state);
  g_ptr_array_unref (snapshot->disks);
  g_free (snapshot);
}

SnapshotXmlDisk *
snapshot_xml_add_disk (SnapshotXml *snapshot, const char *name)
{
  SnapshotXmlDisk *disk = g_new0 (SnapshotXmlDisk, 1);
  disk->name = g_strdup (name);
  g_ptr_array_add (snapshot->disks, disk);
  return disk;
}

/* ---- reading --------------------------------------------------------------------------------- */

static gboolean
check_absolute (Xml *xml, XmlNode *node, const char *path, GError **error)
{
  return path == NULL || path[0] == '/' ||
         xml_complain (xml, node, error, "'%.200s' is no absolute path", path);
}

/* rechain makes overlays beside running disks; the other two kinds are somebody else's. */
static gboolean
read_kind (Xml *xml, XmlNode *node, SnapshotXmlDisk *disk, GError **error)
{
  g_autofree char *kind = xml_attribute (node, "snapshot");
  disk->left_out = g_strcmp0 (kind, "no") == 0;
  if (kind == NULL || disk->left_out || g_str_equal (kind, "external"))
    return TRUE;
  xml_complain (xml, node, error, "disk '%s': a snapshot of kind '%s' is not what rechain makes",
                disk->name, kind);
  recode (error, REFUSED);
  return hint (error, "it can be: external, no");
}

/* Said at the disk, or in its <diskSnapshot>. */
static gboolean
read_method (Xml *xml, XmlNode *node, SnapshotXmlDisk *disk, GError **error)
{
  XmlNode *inner = xml_child (node, "diskSnapshot");
  XmlNode *device = xml_child (inner, "device"), *subvolume = xml_child (inner, "subvolume");
  g_autofree char *within = xml_attribute (inner, "method");
  disk->method = xml_attribute (node, "method");
  disk->device = xml_attribute (device, "path");
  disk->subvolume = xml_attribute (subvolume, "path");
  disk->size = xml_size_text (xml_child (inner, "size"));
  if (disk->method != NULL && within != NULL && !g_str_equal (disk->method, within))
    return xml_complain (xml, inner, error, "disk '%s' has two methods: '%s' and '%s'", disk->name,
                         disk->method, within);
  if (disk->method == NULL)
    disk->method = g_steal_pointer (&within);
  return check_absolute (xml, device, disk->device, error) &&
         check_absolute (xml, subvolume, disk->subvolume, error);
}

static gboolean
check_left_out (Xml *xml, XmlNode *node, SnapshotXmlDisk *disk, GError **error)
{
  static const char *const parts[] = {"source", "driver", "on_delete", "diskSnapshot",
                                      "backingStore"};
  for (gsize i = 0; disk->left_out && i < G_N_ELEMENTS (parts); i++) {
    XmlNode *part = xml_child (node, parts[i]);
    if (part != NULL)
      return xml_complain (xml, part, error,
                           "disk '%s' is left out (snapshot='no'): no <%s> for it", disk->name,
                           parts[i]);
  }
  return TRUE;
}

static gboolean
check_new_name (Xml *xml, XmlNode *node, SnapshotXml *snapshot, const char *name, GError **error)
{
  if (snapshot->disks->len >= MAX_DISKS)
    return xml_complain (xml, node, error, "there are more than %d disks", MAX_DISKS);
  for (guint i = 0; i < snapshot->disks->len; i++)
    if (g_str_equal (((SnapshotXmlDisk *)snapshot->disks->pdata[i])->name, name))
      return xml_complain (xml, node, error, "disk '%.100s' is named twice", name);
  return TRUE;
}

static gboolean
read_disk (Xml *xml, XmlNode *node, SnapshotXml *snapshot, GError **error)
{
  g_autofree char *name = xml_attribute (node, "name");
  XmlNode *source = xml_child (node, "source"), *backing = xml_child (node, "backingStore");
  if (!check_new_name (xml, node, snapshot, name, error))
    return FALSE;
  SnapshotXmlDisk *disk = snapshot_xml_add_disk (snapshot, name);
  disk->source = xml_path (source);
  disk->format = xml_attribute (xml_child (node, "driver"), "type");
  disk->on_delete = xml_attribute (xml_child (node, "on_delete"), "merge");
  disk->backing = xml_path (xml_child (backing, "source"));
  disk->backing_format = xml_attribute (xml_child (backing, "format"), "type");
  return read_kind (xml, node, disk, error) && read_method (xml, node, disk, error) &&
         check_left_out (xml, node, disk, error) &&
         check_absolute (xml, source, disk->source, error) &&
         check_absolute (xml, backing, disk->backing, error);
}

static gboolean
read_created (Xml *xml, XmlNode *node, SnapshotXml *snapshot, GError **error)
{
  g_autofree char *text = xml_text (node);
  guint64 seconds;
  if (text == NULL)
    return TRUE;
  /* Until the year 9999, which is how far times can be written. */
  if (!g_ascii_string_to_unsigned (text, 10, 0, 253402300799, &seconds, NULL))
    return xml_complain (xml, node, error, "'%.100s' is no time", text);
  snapshot->created = (gint64)seconds;
  return TRUE;
}

SnapshotXml *
snapshot_xml_parse (const char *text, gsize length, const char *origin, GError **error)
{
  g_autoptr (Xml) xml = xml_read_memory (text, length, origin, XML_DOMAINSNAPSHOT, error);
  if (xml == NULL)
    return NULL;
  XmlNode *root = xml_root (xml);
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_new ();
  snapshot->name = xml_child_text (root, "name");
  snapshot->description = xml_child_text (root, "description");
  snapshot->parent = xml_child_text (xml_child (root, "parent"), "name");
  snapshot->state = xml_child_text (root, "state");
  if (!read_created (xml, xml_child (root, "creationTime"), snapshot, error))
    return NULL;
  XmlNode *disk = xml_child (xml_child (root, "disks"), "disk");
  for (; disk != NULL; disk = xml_next (disk))
    if (!read_disk (xml, disk, snapshot, error))
      return NULL;
  return g_steal_pointer (&snapshot);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void
add_optional (Xml *xml, XmlNode *parent, const char *name, const char *text)
{
  if (text != NULL)
    xml_add (xml, parent, name, text);
}

/* <name attribute='value'/>, where there is a value. */
static void
add_said (Xml *xml, XmlNode *parent, const char *name, const char *attribute, const char *value)
{
  if (value != NULL)
    xml_set (xml, xml_add (xml, parent, name, NULL), attribute, value);
}

static void
print_disk (Xml *xml, XmlNode *disks, const SnapshotXmlDisk *disk)
{
  XmlNode *node = xml_add (xml, disks, "disk", NULL);
  xml_set (xml, node, "name", disk->name);
  xml_set (xml, node, "snapshot", disk->left_out ? "no" : "external");
  xml_set (xml, node, "method", disk->method);
  add_said (xml, node, "source", "file", disk->source);
  add_said (xml, node, "driver", "type", disk->format);
  add_said (xml, node, "on_delete", "merge", disk->on_delete);
  if (disk->device != NULL || disk->subvolume != NULL) {
    XmlNode *inner = xml_add (xml, node, "diskSnapshot", NULL);
    xml_set (xml, inner, "method", disk->method);
    add_said (xml, inner, "device", "path", disk->device);
    add_said (xml, inner, "subvolume", "path", disk->subvolume);
  }
  if (disk->backing == NULL)
    return;
  XmlNode *backing = xml_add (xml, node, "backingStore", NULL);
  add_said (xml, backing, "format", "type", disk->backing_format);
  add_said (xml, backing, "source", "file", disk->backing);
}

char *
snapshot_xml_print (const SnapshotXml *snapshot, GError **error)
{
  g_autoptr (Xml) xml = xml_new ("domainsnapshot");
  XmlNode *root = xml_root (xml);
  g_autofree char *created = g_strdup_printf ("%" G_GINT64_FORMAT, snapshot->created);
  add_optional (xml, root, "name", snapshot->name);
  add_optional (xml, root, "description", snapshot->description);
  add_optional (xml, root, "state", snapshot->state);
  add_optional (xml, root, "creationTime", snapshot->created >= 0 ? created : NULL);
  if (snapshot->parent != NULL)
    xml_add (xml, xml_add (xml, root, "parent", NULL), "name", snapshot->parent);
  XmlNode *disks = xml_add (xml, root, "disks", NULL);
  for (guint i = 0; i < snapshot->disks->len; i++)
    print_disk (xml, disks, snapshot->disks->pdata[i]);
  return xml_print (xml, error);
}
