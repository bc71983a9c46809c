/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes changed where they are: resize, delete. */
#include "src/storage/plan-private.h"

#include "jobs/lvm.h"
#include "jobs/volume-id.h"

void
plan_set_identity (VolumePlan *plan)
{
  json_set (plan->disk->details, "is", volume_id_of (plan->volume->place.path));
}

static gboolean
is_lv (VolumePlan *plan)
{
  return plan->volume->place.lv != NULL;
}

static gboolean
check_is_volume (VolumePlan *plan, GError **error)
{
  return plan->volume->type == VOLUME_FILE || is_lv (plan) ||
         fail (error, REFUSED, "'%s' is a device, neither a file nor a logical volume",
               plan->volume->place.path);
}

/* Changing it changes the snapshots of it, or is refused by LVM. */
gboolean
plan_check_origin (VolumePlan *plan, Volume *volume, GError **error)
{
  Json *row = plan_lv_row (plan, &volume->place);
  const char *attr = lvm_word (row, "lv_attr");
  if (attr == NULL || (attr[0] != 'o' && attr[0] != 'O'))
    return TRUE;
  return fail (error, REFUSED, "'%s' has snapshots, which would be lost", volume->place.path);
}

/* ---- where what is inside ends --------------------------------------------------------------- */

static gboolean
judge_end (VolumePlan *plan, const VolumeEnd *end, GError **error)
{
  const char *path = plan->volume->place.path;
  if (end->what == NULL ||
      (end->bytes > 0 && end->bytes <= (guint64)json_get_int (plan->disk->details, "new-size")))
    return TRUE;
  if (end->bytes == 0)
    return fail (error, REFUSED, "where the %s in '%s' ends is not known", end->what, path);
  fail (error, REFUSED, "the %s in '%s' reaches to byte %" G_GUINT64_FORMAT, end->what, path,
        end->bytes);
  return hint (error, "make it smaller first: rechain vol shrinkfs");
}

gboolean
plan_check_end (VolumePlan *plan, GError **error)
{
  return plan_find_end (plan, judge_end, error);
}

/* ---- resize ---------------------------------------------------------------------------------- */

/* What lies in a logical volume as an image has a size of its own. */
static gboolean
is_raw_lv (VolumePlan *plan)
{
  return is_lv (plan) && g_str_equal (plan->volume->format, "raw");
}

static gboolean
grow_lv (VolumePlan *plan, guint64 size, GError **error)
{
  Json *details = plan->disk->details, *row = plan_lv_row (plan, &plan->volume->place);
  const char *pool = lvm_word (row, "pool_lv");
  if (pool != NULL)
    return plan_check_pool (plan, plan->volume->place.vg, pool, error);
  json_set (details, "zero-from", json_int ((gint64)plan->volume->size));
  json_set (details, "in-place", json_flag (TRUE));
  return plan_lv_check_space (plan, size - plan->volume->size, error);
}

static gboolean
check_new_size (VolumePlan *plan, guint64 size, GError **error)
{
  Volume *volume = plan->volume;
  if (size == volume->virtual_size)
    return fail (error, REFUSED, "'%s' has this size already", volume->place.path);
  if (g_str_equal (volume->format, "qcow2") && size % 512 != 0)
    return fail (error, USAGE, "the size of a qcow2 volume is a multiple of 512");
  if (size > volume->virtual_size)
    return !is_raw_lv (plan) || grow_lv (plan, size, error);
  if (!plan->request->shrink) {
    fail (error, REFUSED, "this would cut off the end of '%s'", volume->place.path);
    return hint (error,
                 "--shrink does that, where nothing of its filesystem or partitions is there");
  }
  if (volume->backs->len > 0)
    return fail (error, REFUSED, "'%s' is the backing file of '%s'", volume->place.path,
                 (char *)volume->backs->pdata[0]);
  return plan_check_end (plan, error);
}

/* The layer of a VM that runs, where @volume is the active one of a disk. */
static Json *
active_layer (VolumePlan *plan, Volume *volume)
{
  for (gsize i = 0; i < json_length (plan->layers); i++) {
    Json *layer = json_at (plan->layers, i);
    const char *file = json_get_str (layer, "file");
    if (json_get_int (layer, "depth") == 0 && file != NULL &&
        path_same_file (file, volume->place.path))
      return layer;
  }
  return NULL;
}

/* The node must be QEMU's word for the very volume that was named. */
static gboolean
plan_live_resize (VolumePlan *plan, Json *layer, GError **error)
{
  const VolumeRequest *request = plan->request;
  const char *vm = json_get_str (layer, "vm"), *path = plan->volume->place.path;
  guint64 now = (guint64)json_get_int (layer, "size");
  guint64 size = request->capacity + (request->relative_capacity ? now : 0);
  if (size % 512 != 0)
    return fail (error, USAGE, "the size of a disk is a multiple of 512");
  if (size < now)
    return fail (error, REFUSED, "'%s' cannot be made smaller while VM '%s' uses it", path, vm);
  if (size == now)
    return fail (error, REFUSED, "'%s' has this size already", path);
  plan_begin (plan, path);
  plan->op->locks = file_has_writer (path);
  json_set (plan->disk->details, "vm", json_str (vm));
  json_set (plan->disk->details, "node", json_dup (json_get (layer, "node")));
  json_set (plan->disk->details, "format", json_dup (json_get (layer, "format")));
  json_set (plan->disk->details, "size", json_int ((gint64)now));
  json_set (plan->disk->details, "new-size", json_int ((gint64)size));
  return TRUE;
}

gboolean
plan_resize (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->volume == NULL || !request->has_capacity)
    return fail (error, USAGE, "resize needs a volume and a size");
  plan->volume = volume_look (plan->allow, request->volume, request->source_format, FALSE, error);
  if (plan->volume == NULL)
    return FALSE;
  Json *layer = active_layer (plan, plan->volume);
  if (layer != NULL)
    return plan_live_resize (plan, layer, error);
  g_clear_pointer (&plan->volume, volume_free);
  plan->volume = plan_find (plan, request->volume, request->source_format, FALSE, error);
  if (plan->volume == NULL || !check_is_volume (plan, error))
    return FALSE;
  Volume *volume = plan->volume;
  if (g_strcmp0 (volume->format, "raw") != 0 && g_strcmp0 (volume->format, "qcow2") != 0)
    return fail (error, REFUSED, "'%s' is %s; only raw and qcow2 volumes are resized",
                 volume->place.path, volume->codec ? "compressed" : volume->format);
  guint64 size = request->capacity + (request->relative_capacity ? volume->virtual_size : 0);
  if (is_lv (plan) && !plan_check_origin (plan, volume, error))
    return FALSE;
  plan_begin (plan, volume->place.path);
  plan_set_identity (plan);
  if (is_raw_lv (plan)) {
    plan_set_lv (plan, &volume->place);
    size = plan_lv_round (plan, size);
  }
  json_set (plan->disk->details, "format", json_str (volume->format));
  json_set (plan->disk->details, "size", json_int ((gint64)volume->virtual_size));
  json_set (plan->disk->details, "new-size", json_int ((gint64)size));
  return check_new_size (plan, size, error);
}

/* ---- delete ---------------------------------------------------------------------------------- */

/* What a QEMU has open is never removed, whatever is forced. */
static gboolean
check_unused (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  Users *users = plan->volume->users;
  g_autofree char *why = users_say (users);
  gboolean mounted = users->mounts->len + users->devices->len > 0 || users->swap;
  const char *reason = mounted ? "mounted" : users->locked || users->open->len > 0 ? "open" : NULL;
  if (json_length (plan->volume->vms) == 0 && !users->locked &&
      (reason == NULL || volume_request_forces (request, reason)))
    return TRUE;
  gboolean ok = plan_check_free (plan, plan->volume, FALSE, error);
  if (!ok && !users->locked && json_length (plan->volume->vms) == 0)
    hint (error, "--force %s removes it all the same", reason);
  return ok;
}

gboolean
plan_delete (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->volume == NULL)
    return fail (error, USAGE, "no volume is named");
  plan->volume = volume_look (plan->allow, request->volume, NULL, FALSE, error);
  if (plan->volume == NULL || !check_is_volume (plan, error))
    return FALSE;
  volume_find_users (plan->volume, plan->files);
  plan_find_vms (plan, plan->volume);
  if (!check_unused (plan, error))
    return FALSE;
  if (plan->volume->backs->len > 0 && !volume_request_forces (request, "backing")) {
    fail (error, REFUSED, "'%s' is the backing file of '%s'", plan->volume->place.path,
          (char *)plan->volume->backs->pdata[0]);
    return hint (error, "--force backing removes it, and what is built on it is lost");
  }
  if (is_lv (plan) && !volume_request_forces (request, "backing") &&
      !plan_check_origin (plan, plan->volume, error))
    return hint (error, "--force backing removes it, and its snapshots with it");
  plan_begin (plan, plan->volume->place.path);
  plan_set_identity (plan);
  if (is_lv (plan))
    plan_set_lv (plan, &plan->volume->place);
  json_set (plan->disk->details, "force", json_flag (request->force != NULL));
  return TRUE;
}
