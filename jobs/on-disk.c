/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/on-disk.h"

GPtrArray *
disk_read_chain (OpDisk *disk, const char *file, GError **error)
{
  const char *format = path_same_file (disk->to ? disk->to : "", file) ? disk->to_format : NULL;
  for (guint i = 0; i < disk->before->len; i++) {
    ChainLayer *layer = disk->before->pdata[i];
    if (path_same_file (layer->file, file))
      format = layer->format;
  }
  return chain_read_offline (file, format, error);
}

gboolean
disk_reads (OpDisk *disk, char **files, GError **error)
{
  g_autoptr (GPtrArray) layers = disk_read_chain (disk, files[0], error);
  if (layers == NULL)
    return FALSE;
  g_auto (GStrv) found = chain_files (layers);
  gboolean same = g_strv_length (found) == g_strv_length (files);
  for (guint i = 0; same && files[i] != NULL; i++)
    same = path_same_file (found[i], files[i]);
  if (same)
    return TRUE;
  g_autofree char *is = g_strjoinv (" <- ", found);
  g_autofree char *wanted = g_strjoinv (" <- ", files);
  return fail (error, FAILED, "the headers show the chain %s and not %s", is, wanted);
}
