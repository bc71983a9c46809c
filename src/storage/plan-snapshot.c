/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots of volumes, to stay (vol snapshot) or for the time of a copy (--snapshot). */
#include "src/storage/plan-private.h"

#include "jobs/image.h"
#include "jobs/lv.h"
#include "jobs/lvm.h"
#include "jobs/subvolume.h"

#include <string.h>

static gboolean
is (const char *word, const char *wanted)
{
  return g_strcmp0 (word, wanted) == 0;
}

/* Full. "/img/a.qcow2", "x", NULL -> "/img/a.x.qcow2" */
static char *
snapshot_path (const char *path, const char *name, const char *suffix)
{
  g_autofree char *dir = g_path_get_dirname (path);
  g_autofree char *base = g_path_get_basename (path);
  const char *dot = strrchr (base, '.');
  gsize stem = dot && dot != base ? (gsize)(dot - base) : strlen (base);
  g_autofree char *file =
      g_strdup_printf ("%.*s.%s%s", (int)stem, base, name, suffix ? suffix : base + stem);
  return g_build_filename (dir, file, NULL);
}

/* ---- logical volumes ------------------------------------------------------------------------- */

/* LVM takes it at one instant, whoever has it open. */
static Volume *
find_lv (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  g_autoptr (Volume) volume =
      volume_look (plan->allow, request->source, request->source_format, FALSE, error);
  if (volume == NULL)
    return NULL;
  volume_find_users (volume, plan->files);
  plan_find_vms (plan, volume);
  g_autofree char *why = users_say (volume->users);
  if (why != NULL)
    g_ptr_array_add (plan->op->notes,
                     g_strdup_printf ("'%s' is in use (%s): its snapshot is what a power cut would "
                                      "leave",
                                      volume->place.path, why));
  return g_steal_pointer (&volume);
}

static gboolean
is_thin (VolumePlan *plan, Volume *volume)
{
  return lvm_word (plan_lv_row (plan, &volume->place), "pool_lv") != NULL;
}

static gboolean
snapshot_lv (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  plan->source = find_lv (plan, error);
  if (plan->source == NULL)
    return FALSE;
  const Place *place = &plan->source->place;
  g_autofree char *to = g_strdup_printf ("/dev/%s/%s.%s", place->vg, place->lv, request->name);
  gboolean thin = is_thin (plan, plan->source);
  if (thin && request->has_capacity)
    return fail (error, USAGE, "a thin snapshot takes its space from the pool");
  if (!thin && (!request->has_capacity || request->capacity == 0)) {
    fail (error, USAGE, "'%s' is a thick volume: how much may change since is not said",
          place->path);
    return hint (error, "add --capacity SIZE; a snapshot that needs more is lost");
  }
  if (!lv_is_path (to))
    return fail (error, USAGE, "'%s' is no name for a snapshot", request->name);
  if (!plan_begin_new (plan, to, NULL, error))
    return FALSE;
  plan_use (plan, place->path);
  guint64 size = thin ? 0 : plan_lv_round (plan, request->capacity);
  json_set (plan->disk->details, "origin", json_str (place->lv));
  json_set (plan->disk->details, "lv-size", json_int ((gint64)size));
  return thin || plan_lv_check_space (plan, size, error);
}

/* ---- subvolumes ------------------------------------------------------------------------------ */

static gboolean
snapshot_subvolume (VolumePlan *plan, const Place *place, GError **error)
{
  g_auto (Place) target = {0};
  g_autofree char *uuid = subvolume_uuid (place->path);
  g_autofree char *to = g_strdup_printf ("%s.%s", place->path, plan->request->name);
  if (uuid == NULL)
    return fail (error, REFUSED, "'%s' is a directory, but no subvolume of btrfs", place->path);
  if (!place_find_new (plan->allow, to, &target, error))
    return FALSE;
  if (target.exists)
    return fail (error, REFUSED, "'%s' exists", to);
  plan_begin (plan, to);
  plan_use (plan, place->path);
  json_set (plan->disk->details, "subvolume", json_str (place->path));
  return TRUE;
}

/* ---- files ----------------------------------------------------------------------------------- */

static gboolean
has_snapshot (const char *out, const char *name)
{
  g_autoptr (Json) info = json_parse (out, -1);
  Json *all = json_get (info, "snapshots");
  for (gsize i = 0; i < json_length (all); i++)
    if (is (json_get_str (json_at (all, i), "name"), name))
      return TRUE;
  return FALSE;
}

static void
on_info (const char *out, const GError *error, gpointer data)
{
  VolumePlan *plan = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  const char *name = plan->request->name;
  if (bad == NULL && has_snapshot (out, name))
    fail (&bad, REFUSED, "'%s' has a snapshot '%s' already", plan->volume->place.path, name);
  plan_answered (plan, bad);
}

static gboolean
snapshot_internal (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  plan->volume = plan_find (plan, request->source, request->source_format, FALSE, error);
  if (plan->volume == NULL)
    return FALSE;
  const char *path = plan->volume->place.path;
  if (!is (plan->volume->format, "qcow2"))
    return fail (error, REFUSED, "'%s' is not qcow2: it has no snapshots inside", path);
  if (plan->volume->backs->len > 0)
    return fail (error, REFUSED, "'%s' is the backing file of '%s'", path,
                 (char *)plan->volume->backs->pdata[0]);
  plan_begin (plan, path);
  plan_set_identity (plan);
  json_set (plan->disk->details, "internal", json_flag (TRUE));
  json_set (plan->disk->details, "name", json_str (request->name));
  g_auto (GStrv) argv = image_info_args (path, "qcow2");
  plan->pending++;
  image_run ((const char *const *)argv, IMAGE_QUESTION, on_info, plan);
  return TRUE;
}

static gboolean
find_source (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  plan->source = plan_find (plan, request->source, request->source_format, TRUE, error);
  return plan->source != NULL;
}

/* The volume keeps what it has now; what comes goes into the new one. */
static gboolean
snapshot_external (VolumePlan *plan, GError **error)
{
  if (!find_source (plan, error))
    return FALSE;
  const char *path = plan->source->place.path;
  if (plan->source->format == NULL)
    return fail (error, REFUSED, "'%s' is compressed; it cannot be a backing file", path);
  g_autofree char *to = snapshot_path (path, plan->request->name, ".qcow2");
  if (!plan_begin_new (plan, to, plan->source, error))
    return FALSE;
  plan_use (plan, path);
  plan_add_create (plan, "qcow2", NULL, plan->source, plan->source->virtual_size);
  g_ptr_array_add (
      plan->op->notes,
      g_strdup_printf ("from now on use '%s'; '%s' must not be written any more", to, path));
  return TRUE;
}

/* A second file that shares all blocks with the first, until one of them is written. */
static gboolean
snapshot_reflink (VolumePlan *plan, GError **error)
{
  if (!find_source (plan, error))
    return FALSE;
  const char *path = plan->source->place.path;
  g_autofree char *to = snapshot_path (path, plan->request->name, NULL);
  if (!plan_begin_new (plan, to, plan->source, error))
    return FALSE;
  plan_use (plan, path);
  if (!plan_can_share (plan->source, plan->disk->to)) {
    fail (error, REFUSED, "the filesystem of '%s' cannot share blocks between files", path);
    return hint (error, is (plan->source->format, "qcow2")
                            ? "--method internal keeps it inside the image, --method external "
                              "makes an overlay over it"
                            : "--method external makes an overlay over it");
  }
  json_set (plan->disk->details, "reflink", json_str (path));
  json_set (plan->disk->details, "length", json_int ((gint64)plan->source->size));
  return TRUE;
}

gboolean
plan_snapshot (VolumePlan *plan, GError **error)
{
  g_auto (Place) place = {0};
  const VolumeRequest *request = plan->request;
  const char *name = request->name, *method = request->method;
  if (request->source == NULL)
    return fail (error, USAGE, "no volume is named");
  if (name == NULL || *name == '\0' || strchr (name, '/') != NULL)
    return fail (error, USAGE, "'%s' is no name for a snapshot", name ? name : "");
  if (!place_find (plan->allow, request->source, &place, error))
    return FALSE;
  const char *fits = S_ISDIR (place.st.st_mode) ? "btrfs" : place.lv ? "lvm" : NULL;
  if (method != NULL && fits == NULL && (is (method, "btrfs") || is (method, "lvm")))
    return fail (error, USAGE, "'%s' is a file: method '%s' is not for it", place.path, method);
  if (method != NULL && fits != NULL && is (fits, "btrfs") && !is (method, fits))
    return fail (error, USAGE, "'%s' is a directory: method '%s' is not for it", place.path,
                 method);
  if (request->has_capacity && !(is (fits, "lvm") && (method == NULL || is (method, fits))))
    return fail (error, USAGE, "only a snapshot of a logical volume has a capacity");
  if (is (method, "internal"))
    return snapshot_internal (plan, error);
  if (is (method, "external"))
    return snapshot_external (plan, error);
  if (is (fits, "btrfs"))
    return snapshot_subvolume (plan, &place, error);
  return fits ? snapshot_lv (plan, error) : snapshot_reflink (plan, error);
}

/* ---- for the time of a copy ------------------------------------------------------------------ */

gboolean
plan_find_instant (VolumePlan *plan, GError **error)
{
  g_auto (Place) place = {0};
  const VolumeRequest *request = plan->request;
  if (!place_find (plan->allow, request->source, &place, error))
    return FALSE;
  if (place.lv == NULL)
    return find_source (plan, error);
  plan->source = find_lv (plan, error);
  return plan->source != NULL;
}

/* A fifth of a thick volume may change while it is copied, if there is so much space. */
static gboolean
set_instant_lv (VolumePlan *plan, const char *name, GError **error)
{
  Volume *source = plan->source;
  Json *instant = json_make ("vg", json_str (source->place.vg), "lv", json_str (name), "origin",
                             json_str (source->place.lv), NULL);
  json_set (plan->disk->details, "instant", instant);
  if (is_thin (plan, source))
    return TRUE;
  guint64 size = plan_lv_part (plan, source->place.vg, source->size / 5);
  json_set (instant, "size", json_int ((gint64)size));
  return size > 0 || fail (error, REFUSED, "volume group '%s' has no space for a snapshot of '%s'",
                           source->place.vg, source->place.path);
}

static gboolean
set_instant_file (VolumePlan *plan, const char *path, GError **error)
{
  Volume *source = plan->source;
  if (!plan_can_share (source, path)) {
    fail (error, REFUSED, "the filesystem of '%s' cannot share blocks between files",
          source->place.path);
    return hint (error, "without --snapshot it is copied as it stands, if nobody writes to it");
  }
  json_set (plan->disk->details, "instant",
            json_make ("path", json_str (path), "of", json_str (source->place.path), NULL));
  return TRUE;
}

char *
plan_instant_path (VolumePlan *plan)
{
  const Place *place = &plan->source->place;
  g_autofree char *dir = g_path_get_dirname (place->path);
  return g_strdup_printf ("%s/%src-%s-s", dir, place->lv ? "" : ".", plan->op->id);
}

/* From here on the plan reads the snapshot. */
gboolean
plan_set_instant (VolumePlan *plan, GError **error)
{
  Volume *source = plan->source;
  g_autofree char *path = plan_instant_path (plan);
  if (source->place.lv ? !set_instant_lv (plan, strrchr (path, '/') + 1, error)
                       : !set_instant_file (plan, path, error))
    return FALSE;
  g_free (source->place.path);
  source->place.path = g_steal_pointer (&path);
  ChainLayer *own = source->chain ? source->chain->pdata[0] : NULL;
  if (own != NULL) {
    g_free (own->file);
    own->file = g_strdup (source->place.path);
  }
  return TRUE;
}
