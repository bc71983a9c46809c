/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The XML readers. What a snapshot document says is written again and must read the same. */
#include "src/common/merge-xml.h"
#include "src/common/snapshot-xml.h"
#include "src/common/volume-xml.h"

#include <stdint.h>
#include <string.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  const char *text = (const char *)data;
  g_autoptr (MergeXml) merge = merge_xml_parse (text, size, "fuzz", NULL);
  g_autoptr (VolumeXml) volume = volume_xml_parse (text, size, "fuzz", NULL);
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_parse (text, size, "fuzz", NULL);
  g_autofree char *printed = snapshot ? snapshot_xml_print (snapshot, NULL) : NULL;
  if (printed == NULL)
    return 0;
  g_autoptr (SnapshotXml) again = snapshot_xml_parse (printed, strlen (printed), "again", NULL);
  g_assert (again != NULL && again->disks->len == snapshot->disks->len);
  g_assert (g_strcmp0 (again->name, snapshot->name) == 0);
  for (guint i = 0; i < again->disks->len; i++) {
    SnapshotXmlDisk *one = snapshot->disks->pdata[i], *same = again->disks->pdata[i];
    g_assert (g_strcmp0 (one->device, same->device) == 0);
    g_assert (g_strcmp0 (one->subvolume, same->subvolume) == 0);
  }
  return 0;
}
