/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/contents.h"

#include <blkid/blkid.h>
#include <string.h>

static char *
value_of (blkid_probe probe, const char *name)
{
  const char *text = NULL;
  gsize length = 0;
  if (blkid_probe_lookup_value (probe, name, &text, &length) != 0 || length == 0)
    return NULL;
  g_autofree char *bounded = g_strndup (text, length);
  return g_utf8_make_valid (bounded, -1);
}

static guint64
end_of_partitions (blkid_probe probe)
{
  guint64 end = 0;
  blkid_partlist list = blkid_probe_get_partitions (probe);
  int n = list ? blkid_partlist_numof_partitions (list) : 0;
  for (int i = 0; i < n; i++) {
    blkid_partition partition = blkid_partlist_get_partition (list, i);
    guint64 start = (guint64)blkid_partition_get_start (partition);
    end = MAX (end, (start + (guint64)blkid_partition_get_size (partition)) * 512);
  }
  /* A GPT has its second copy in the last 33 sectors. */
  return end;
}

void
contents_probe (int fd, Contents *ret_contents)
{
  *ret_contents = (Contents){0};
  blkid_probe probe = blkid_new_probe ();
  if (probe == NULL)
    return;
  if (blkid_probe_set_device (probe, fd, 0, 0) == 0) {
    blkid_probe_enable_superblocks (probe, 1);
    blkid_probe_set_superblocks_flags (probe,
                                       BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID);
    blkid_probe_enable_partitions (probe, 1);
    blkid_probe_set_partitions_flags (probe, BLKID_PARTS_ENTRY_DETAILS);
    if (blkid_do_safeprobe (probe) == 0) {
      ret_contents->filesystem = value_of (probe, "TYPE");
      ret_contents->label = value_of (probe, "LABEL");
      ret_contents->uuid = value_of (probe, "UUID");
      ret_contents->partitions = value_of (probe, "PTTYPE");
      if (ret_contents->partitions != NULL)
        ret_contents->partitions_end = end_of_partitions (probe);
    }
  }
  blkid_free_probe (probe);
}

void
contents_clear (Contents *contents)
{
  g_free (contents->filesystem);
  g_free (contents->label);
  g_free (contents->uuid);
  g_free (contents->partitions);
  *contents = (Contents){0};
}

void
contents_to_json (const Contents *contents, Json *document)
{
  if (contents->filesystem != NULL)
    json_set (document, "filesystem",
              json_make ("type", json_str (contents->filesystem), "label",
                         json_str (contents->label), "uuid", json_str (contents->uuid), NULL));
  if (contents->partitions != NULL)
    json_set (document, "partition-table", json_str (contents->partitions));
}
