/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The filesystem in a volume: growfs, shrinkfs. */
#include "src/storage/plan-private.h"

#include "jobs/export.h"
#include "src/common/fs.h"

#include <errno.h>
#include <sys/statfs.h>

static gboolean
is_mounted (Volume *volume)
{
  return volume->users->mounts->len > 0;
}

static void
set_size (VolumePlan *plan, const char *key, guint64 bytes)
{
  json_set (plan->disk->details, key, json_int ((gint64)bytes));
}

/* ---- what is asked for ----------------------------------------------------------------------- */

static gboolean
check_size (VolumePlan *plan, const VolumeEnd *end, guint64 size, GError **error)
{
  const char *path = plan->volume->place.path;
  gboolean shrinks = plan->op->kind == OP_VOL_SHRINKFS;
  guint64 room = plan->volume->virtual_size;
  if (size > room) {
    fail (error, REFUSED, "'%s' has only %" G_GUINT64_FORMAT " bytes", path, room);
    return hint (error, "rechain vol resize makes it larger");
  }
  if (size == end->bytes)
    return fail (error, REFUSED, "the %s in '%s' has %" G_GUINT64_FORMAT " bytes already",
                 end->what, path, end->bytes);
  if (shrinks ? size < end->bytes : size > end->bytes)
    return TRUE;
  fail (error, REFUSED, "the %s in '%s' has %" G_GUINT64_FORMAT " bytes", end->what, path,
        end->bytes);
  return hint (error, shrinks ? "rechain vol growfs makes it larger"
                              : "rechain vol shrinkfs makes it smaller");
}

static gboolean
check_kind (VolumePlan *plan, const VolumeEnd *end, GError **error)
{
  const char *path = plan->volume->place.path;
  const Filesystem *filesystem = end->filesystem;
  if (plan->volume->contents.partitions != NULL) {
    fail (error, REFUSED, "'%s' holds a partition table", path);
    return hint (error, "only a filesystem that fills a volume is resized here; the guest grows "
                        "partitions by itself (growpart)");
  }
  if (filesystem == NULL)
    return fail (error, REFUSED, "'%s' holds %s, not a filesystem that can be resized", path,
                 end->what ? end->what : "nothing that is known");
  if (end->bytes == 0)
    return fail (error, REFUSED, "where the %s in '%s' ends is not known", end->what, path);
  if (plan->op->kind == OP_VOL_SHRINKFS && !filesystem->shrinks)
    return fail (error, REFUSED, "%s cannot be made smaller", end->what);
  if (plan->op->kind == OP_VOL_SHRINKFS && is_mounted (plan->volume) &&
      !filesystem->shrinks_mounted) {
    fail (error, REFUSED, "%s cannot be made smaller while it is mounted at '%s'", end->what,
          (char *)plan->volume->users->mounts->pdata[0]);
    return hint (error, "unmount it first");
  }
  return TRUE;
}

/* ---- where it is done ------------------------------------------------------------------------ */

/* Through a file of our own: that of a device lies in the state directory, which outlives
 * a reboot. */
static void
set_view (VolumePlan *plan)
{
  OpDisk *disk = plan->disk;
  export_name (plan->op, disk);
  g_autofree char *dir = g_path_get_dirname (disk->socket);
  g_autofree char *view = g_build_filename (dir, "view", NULL);
  g_autofree char *mount = g_build_filename (dir, "mount", NULL);
  g_autofree char *stamp =
      plan->volume->type == VOLUME_FILE ? file_stamp (plan->volume->place.path) : NULL;
  json_set (disk->details, "view", json_str (view));
  json_set (disk->details, "mount", json_str (mount));
  json_set (disk->details, "image", plan_image_spec (plan->volume));
  json_set (disk->details, "stamp", json_str (stamp));
  if (plan->volume->type == VOLUME_FILE)
    return;
  g_free (disk->part);
  disk->part = g_strdup_printf ("%s/.rc-%s-%u.part", plan->state_dir, plan->op->id, disk->index);
}

static gboolean
set_mounted (VolumePlan *plan, GError **error)
{
  struct statfs fs;
  Users *users = plan->volume->users;
  const char *path = plan->volume->place.path, *mount = users->mounts->pdata[0];
  gboolean file = plan->volume->type == VOLUME_FILE;
  if (file && users->devices->len != 1)
    return fail (error, REFUSED, "'%s' is mounted at '%s' in a way that is not known here", path,
                 mount);
  if (statfs (mount, &fs) != 0)
    return fail_errno (error, errno, "look at '%s'", mount);
  g_autofree char *loop =
      file ? g_strdup_printf ("/dev/%s", (char *)users->devices->pdata[0]) : NULL;
  json_set (plan->disk->details, "loop", json_str (loop));
  json_set (plan->disk->details, "device", json_str (loop ? loop : path));
  json_set (plan->disk->details, "mount", json_str (mount));
  set_size (plan, "fs-blocks", (guint64)fs.f_blocks);
  g_ptr_array_add (plan->op->notes,
                   g_strdup_printf ("it is mounted at '%s': the kernel does it, and it cannot be "
                                    "taken back",
                                    mount));
  return TRUE;
}

static gboolean
judge (VolumePlan *plan, const VolumeEnd *end, GError **error)
{
  const VolumeRequest *request = plan->request;
  gboolean fill = !request->has_capacity || (request->capacity == 0 && !request->relative_capacity);
  guint64 size = fill ? plan->volume->virtual_size
                      : request->capacity + (request->relative_capacity ? end->bytes : 0);
  if (!check_kind (plan, end, error))
    return FALSE;
  size -= size % MAX (end->block, 512);
  if (!check_size (plan, end, size, error))
    return FALSE;
  json_set (plan->disk->details, "filesystem", json_str (end->what));
  set_size (plan, "fs-size", end->bytes);
  set_size (plan, "fs-block", end->block);
  set_size (plan, "new-fs-size", size);
  if (is_mounted (plan->volume))
    return set_mounted (plan, error);
  if (end->filesystem->by_mount)
    g_ptr_array_add (
        plan->op->notes,
        g_strdup_printf ("%s can only be resized mounted: the kernel of this host will read what a "
                         "guest wrote",
                         end->what));
  set_view (plan);
  return TRUE;
}

/* ---- the kinds ------------------------------------------------------------------------------- */

/* Mounted is no obstacle here, where nobody else has it. */
static gboolean
find_volume (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  plan->volume = volume_look (plan->allow, request->volume, request->source_format, TRUE, error);
  if (plan->volume == NULL)
    return FALSE;
  volume_find_users (plan->volume, plan->files);
  plan_find_vms (plan, plan->volume);
  if (is_mounted (plan->volume) && g_strcmp0 (plan->volume->format, "raw") == 0 &&
      !plan->volume->users->locked && json_length (plan->volume->vms) == 0)
    return TRUE;
  g_clear_pointer (&plan->volume, volume_free);
  plan->volume = plan_find (plan, request->volume, request->source_format, FALSE, error);
  return plan->volume != NULL;
}

static gboolean
plan_resize_fs (VolumePlan *plan, GError **error)
{
  if (plan->request->volume == NULL)
    return fail (error, USAGE, "no volume is named");
  if (!find_volume (plan, error))
    return FALSE;
  Volume *volume = plan->volume;
  if (g_strcmp0 (volume->format, "raw") != 0 && g_strcmp0 (volume->format, "qcow2") != 0)
    return fail (error, REFUSED,
                 "'%s' is %s; only in raw and qcow2 volumes are filesystems resized",
                 volume->place.path, volume->codec ? "compressed" : volume->format);
  if (volume->backs->len > 0)
    return fail (error, REFUSED, "'%s' is the backing file of '%s'", volume->place.path,
                 (char *)volume->backs->pdata[0]);
  plan_begin (plan, volume->place.path);
  plan_set_identity (plan);
  json_set (plan->disk->details, "format", json_str (volume->format));
  set_size (plan, "size", volume->virtual_size);
  return plan_find_end (plan, judge, error);
}

gboolean
plan_growfs (VolumePlan *plan, GError **error)
{
  return plan_resize_fs (plan, error);
}

gboolean
plan_shrinkfs (VolumePlan *plan, GError **error)
{
  if (!plan->request->has_capacity || plan->request->capacity == 0)
    return fail (error, USAGE, "shrinkfs needs a volume and a size");
  return plan_resize_fs (plan, error);
}
