/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logical volumes in plans: what LVM says of them, and where new ones are made. */
#include "src/storage/plan-private.h"

#include "jobs/lv.h"
#include "jobs/lvm.h"

#include <stdlib.h>
#include <string.h>

/* ---- what LVM says --------------------------------------------------------------------------- */

static gboolean
is_lv_path (const char *path)
{
  g_autofree char *vg = NULL, *lv = NULL;
  return path != NULL && (lv_of_file (path, &vg, &lv) || lv_is_path (path));
}

gboolean
plan_needs_lvm (const VolumeRequest *request)
{
  return is_lv_path (request->volume) || is_lv_path (request->source);
}

static void
on_vgs (Json *rows, const GError *error, gpointer data)
{
  VolumePlan *plan = data;
  plan->vgs = rows ? json_dup (rows) : NULL;
  plan_lvm_answered (plan, error);
}

static void
on_lvs (Json *rows, const GError *error, gpointer data)
{
  VolumePlan *plan = data;
  plan->lvs = rows ? json_dup (rows) : NULL;
  if (error != NULL)
    plan_lvm_answered (plan, error);
  else
    lvm_vgs (NULL, on_vgs, plan);
}

void
plan_ask_lvs (VolumePlan *plan)
{
  lvm_lvs (NULL, NULL, on_lvs, plan);
}

static Json *
row_of (Json *rows, const char *vg, const char *lv)
{
  for (gsize i = 0; i < json_length (rows); i++) {
    Json *row = json_at (rows, i);
    if (g_strcmp0 (lvm_word (row, "vg_name"), vg) == 0 &&
        (lv == NULL || g_strcmp0 (lvm_word (row, "lv_name"), lv) == 0))
      return row;
  }
  return NULL;
}

Json *
plan_lv_row (VolumePlan *plan, const Place *place)
{
  return place->lv ? row_of (plan->lvs, place->vg, place->lv) : NULL;
}

/* ---- names ----------------------------------------------------------------------------------- */

void
plan_set_lv (VolumePlan *plan, const Place *place)
{
  Json *details = plan->disk->details;
  json_set (details, "vg", json_str (place->vg));
  json_set (details, "lv", json_str (place->lv));
}

static gboolean
refuse_permissions (const VolumeRequest *request, GError **error)
{
  return (request->mode < 0 && request->owner < 0 && request->group < 0) ||
         fail (error, USAGE, "a logical volume has no mode and no owner of its own");
}

gboolean
plan_check_pool (VolumePlan *plan, const char *vg, const char *pool, GError **error)
{
  if (g_strcmp0 (lvm_word (row_of (plan->lvs, vg, pool), "zero"), "zero") == 0)
    return TRUE;
  fail (error, REFUSED, "thin pool '%s/%s' does not zero new blocks: old data would be seen", vg,
        pool);
  return hint (error, "lvchange -Zy %s/%s", vg, pool);
}

/* The thin pool it is made in: as asked, or that of what it replaces. */
static gboolean
set_pool (VolumePlan *plan, const Place *place, GError **error)
{
  const char *asked = plan->request->pool;
  Json *replaced = place->exists ? plan_lv_row (plan, place) : NULL;
  const char *pool = asked ? asked : lvm_word (replaced, "pool_lv");
  Json *row = pool ? row_of (plan->lvs, place->vg, pool) : NULL;
  if (pool == NULL)
    return TRUE;
  if (row == NULL || g_strcmp0 (lvm_word (row, "segtype"), "thin-pool") != 0)
    return fail (error, NOT_FOUND, "volume group '%s' has no thin pool '%s'", place->vg, pool);
  json_set (plan->disk->details, "pool", json_str (pool));
  return plan_check_pool (plan, place->vg, pool, error);
}

gboolean
plan_begin_lv (VolumePlan *plan, const Place *place, GError **error)
{
  OpDisk *disk = plan->disk;
  g_autofree char *part = g_strdup_printf ("rc-%s-%u", plan->op->id, disk->index);
  g_autofree char *old = g_strconcat (part, "-old", NULL);
  if (row_of (plan->vgs, place->vg, NULL) == NULL)
    return fail (error, NOT_FOUND, "there is no volume group '%s'", place->vg);
  if (!place->exists && plan_lv_row (plan, place) != NULL) {
    fail (error, REFUSED, "'%s' exists", place->path);
    return hint (error, "it is not active: lvchange -ay %s/%s", place->vg, place->lv);
  }
  json_set (disk->details, "vg", json_str (place->vg));
  json_set (disk->details, "lv", json_str (part));
  json_set (disk->details, "name", json_str (place->lv));
  json_set (disk->details, "old", place->exists ? json_str (old) : NULL);
  g_free (disk->part);
  disk->part = g_strdup_printf ("/dev/%s/%s", place->vg, part);
  return refuse_permissions (plan->request, error) && set_pool (plan, place, error);
}

gboolean
plan_makes_lv (VolumePlan *plan)
{
  return plan->disk != NULL && json_has (plan->disk->details, "lv");
}

gboolean
plan_makes_thin (VolumePlan *plan)
{
  return plan_makes_lv (plan) && json_has (plan->disk->details, "pool");
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static guint64
round_up (VolumePlan *plan, const char *vg, guint64 bytes)
{
  guint64 extent = MAX (lvm_bytes (row_of (plan->vgs, vg, NULL), "vg_extent_size"), 512);
  return (bytes + extent - 1) / extent * extent;
}

guint64
plan_lv_round (VolumePlan *plan, guint64 bytes)
{
  return round_up (plan, json_get_str (plan->disk->details, "vg"), bytes);
}

/* What the new volume itself takes is not free any more. */
guint64
plan_lv_part (VolumePlan *plan, const char *vg, guint64 bytes)
{
  guint64 free = lvm_bytes (row_of (plan->vgs, vg, NULL), "vg_free");
  gboolean same = g_strcmp0 (json_get_str (plan->disk->details, "vg"), vg) == 0;
  guint64 taken = same && plan->volume ? plan->volume->size : same ? plan->source->size : 0;
  return taken < free ? MIN (round_up (plan, vg, bytes), free - taken) : 0;
}

gboolean
plan_lv_check_space (VolumePlan *plan, guint64 bytes, GError **error)
{
  const char *vg = json_get_str (plan->disk->details, "vg");
  guint64 free = lvm_bytes (row_of (plan->vgs, vg, NULL), "vg_free");
  plan_need (plan, bytes);
  plan->disk->free = free;
  if (bytes <= free)
    return TRUE;
  return fail (error, REFUSED,
               "not enough space in volume group '%s': %" G_GUINT64_FORMAT
               " bytes needed, %" G_GUINT64_FORMAT " free",
               vg, bytes, free);
}

gboolean
plan_set_lv_size (VolumePlan *plan, guint64 bytes, guint64 zero_from, GError **error)
{
  Json *details = plan->disk->details;
  guint64 size = plan_lv_round (plan, MAX (bytes, 1));
  json_set (details, "lv-size", json_int ((gint64)size));
  if (plan_makes_thin (plan)) /* what it does not have yet reads as zeroes */
    return TRUE;
  if (zero_from < size)
    json_set (details, "zero-from", json_int ((gint64)zero_from));
  return plan_lv_check_space (plan, size, error);
}
