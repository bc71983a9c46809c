/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What lies beside a chain, as a document names it. Whoever deletes the snapshot removes that, so
 * it must be something that the method makes: never a layer, nor a subvolume that is no snapshot.
 * Of a logical volume, LVM is asked when it is to be removed (plan-beside.c). */
#include "jobs/records-private.h"

#include "jobs/header.h"
#include "jobs/lv.h"
#include "jobs/subvolume.h"
#include "src/common/fs.h"

#include <stdlib.h>
#include <sys/stat.h>

gboolean
record_check_no_layer (const RecordDisk *disk, const char *name, GPtrArray *layers, GError **error)
{
  for (guint i = 0; i < layers->len; i++) {
    const char *file = ((ChainLayer *)layers->pdata[i])->file;
    if (file != NULL && path_same_file (file, disk->old_file))
      return fail (error, REFUSED, "'%s' is a layer of disk '%s' and no snapshot beside it",
                   disk->old_file, name);
  }
  return TRUE;
}

gboolean
record_check_no_disks_layer (const RecordDisk *disk, World *world, GError **error)
{
  GPtrArray *disks = world_disks (world);
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *other = disks->pdata[i];
    if (!record_check_no_layer (disk, other->name, other->layers, error))
      return FALSE;
  }
  return TRUE;
}

/* ---- by method ------------------------------------------------------------------------------- */

static gboolean
check_lv (const RecordDisk *disk, GError **error)
{
  g_autofree char *vg = NULL, *lv = NULL, *own_vg = NULL, *own_lv = NULL;
  if (!lv_path_split (disk->old_file, &vg, &lv, error))
    return FALSE;
  if (disk->uuid == NULL)
    return fail (error, REFUSED, "'%s' is no logical volume", disk->old_file);
  return (lv_of_file (disk->new_file, &own_vg, &own_lv) && g_str_equal (vg, own_vg)) ||
         fail (error, REFUSED, "'%s' is not in the volume group of '%s'", disk->old_file,
               disk->new_file);
}

static gboolean
check_subvolume (const RecordDisk *disk, GError **error)
{
  char *real = realpath (disk->new_file, NULL);
  g_autofree char *file = g_strdup (real);
  g_autofree char *source = file ? subvolume_of (file) : NULL;
  free (real);
  return (source != NULL && subvolume_is_snapshot (disk->subvolume, source)) ||
         fail (error, REFUSED, "'%s' is no snapshot of the subvolume that '%s' lies in",
               disk->subvolume, disk->new_file);
}

/* A disk may have grown since. */
static gboolean
check_reflink (const RecordDisk *disk, guint64 disk_size, GError **error)
{
  struct stat st;
  g_auto (ImageHeader) header = {0};
  if (lstat (disk->old_file, &st) != 0 || !S_ISREG (st.st_mode))
    return fail (error, REFUSED, "'%s' is no file that method '%s' makes", disk->old_file,
                 disk->method);
  if (!image_header_read (disk->old_file, &header, error))
    return FALSE;
  gboolean is_raw = g_strcmp0 (disk->old_format, "raw") == 0;
  if (!is_raw && !header.is_qcow2)
    return fail (error, REFUSED, "'%s' is no '%s', and the disk is one", disk->old_file,
                 disk->old_format);
  guint64 size = is_raw ? (guint64)st.st_size : header.virtual_size;
  return size <= disk_size || fail (error, REFUSED, "'%s' is larger than the disk", disk->old_file);
}

gboolean
record_check_beside (const RecordDisk *disk, const ChainLayer *active, World *world, GError **error)
{
  g_autofree char *why = NULL;
  if (!record_beside_is_there (disk, &why))
    return fail (error, REFUSED, "%s", why);
  if (!record_check_no_disks_layer (disk, world, error))
    return FALSE;
  return g_str_equal (disk->method, "lvm") ? check_lv (disk, error)
         : disk->subvolume                 ? check_subvolume (disk, error)
                                           : check_reflink (disk, active->virtual_size, error);
}
