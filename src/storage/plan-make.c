/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New volumes: create, clone, copy-contents. */
#include "src/storage/plan-private.h"

#include "jobs/image.h"

#include <string.h>

static char *
number (guint64 bytes)
{
  return g_strdup_printf ("%" G_GUINT64_FORMAT, bytes);
}

static gboolean
is (const char *format, const char *wanted)
{
  return g_strcmp0 (format, wanted) == 0;
}

/* "preallocation=..." where the format knows it; full, NULL: as it comes. */
static gboolean
allocation_option (const VolumeRequest *request, const char *format, char **ret_option,
                   GError **error)
{
  const char *allocation = request->allocation;
  *ret_option = NULL;
  if (allocation == NULL || is (allocation, "sparse"))
    return TRUE;
  if (!is (format, "raw") && !is (format, "qcow2"))
    return fail (error, USAGE, "format '%s' has no allocation '%s'", format, allocation);
  if (is (format, "raw") && is (allocation, "metadata"))
    return fail (error, USAGE, "a raw volume has no metadata that could be allocated");
  *ret_option = g_strdup_printf ("preallocation=%s", allocation);
  return TRUE;
}

/* A raw volume in a thick logical one has all its space, in a thin one none of it. */
static gboolean
check_lv_allocation (VolumePlan *plan, const char *format, char **option, GError **error)
{
  const char *allocation = plan->request->allocation;
  gboolean thin = plan_makes_thin (plan);
  if (!is (format, "raw") && !is (format, "qcow2") && !is (format, "luks"))
    return fail (error, USAGE, "a logical volume holds raw, qcow2 or luks, not '%s'", format);
  if (is (format, "qcow2") || allocation == NULL)
    return TRUE;
  g_clear_pointer (option, g_free);
  if (thin == is (allocation, "sparse"))
    return TRUE;
  fail (error, USAGE, "a %s volume cannot have the allocation '%s'", thin ? "thin" : "thick",
        allocation);
  return thin ? FALSE : hint (error, "--pool LV makes it in a thin pool");
}

/* Raw files are exactly as long as was asked; what formats have above that is theirs. */
static void
set_length (VolumePlan *plan, const char *format, guint64 capacity)
{
  if (!plan_makes_lv (plan) && (is (format, "raw") || is (format, "luks")))
    json_set (plan->disk->details, "length", json_int ((gint64)capacity));
}

/* ---- create ---------------------------------------------------------------------------------- */

/* Full. The backing file as the header is to have it. */
static char *
backing_name (VolumePlan *plan, Volume *backing)
{
  return plan->request->relative ? path_relative (plan->disk->to, backing->place.path)
                                 : g_strdup (backing->place.path);
}

void
plan_add_create (VolumePlan *plan, const char *format, const char *option, Volume *backing,
                 guint64 capacity)
{
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  g_autofree char *bytes = number (capacity);
  g_autofree char *name = backing ? backing_name (plan, backing) : NULL;
  g_strv_builder_add_many (argv, "qemu-img", "create", "-q", "-f", format, NULL);
  if (option != NULL)
    g_strv_builder_add_many (argv, "-o", option, NULL);
  if (backing != NULL)
    g_strv_builder_add_many (argv, "-u", "-b", name, "-F", backing->format, NULL);
  g_strv_builder_add_many (argv, plan->disk->part, bytes, NULL);
  plan_add_program (plan, g_strv_builder_end (argv));
}

static gboolean
find_backing (VolumePlan *plan, const char *format, GError **error)
{
  const VolumeRequest *request = plan->request;
  plan->source = plan_find (plan, request->backing, request->backing_format, TRUE, error);
  if (plan->source == NULL)
    return prefix (error, "backing file");
  if (plan->source->format == NULL)
    return fail (error, REFUSED, "'%s' is compressed; it cannot be a backing file",
                 request->backing);
  return is (format, "qcow2") ||
         fail (error, USAGE, "format '%s' has no backing file here", format);
}

/* An image in it has room for all its clusters, unless it is to be sparse: then it has what its
 * tables take. */
static gboolean
create_lv (VolumePlan *plan, const char *format, char *option, guint64 capacity, GError **error)
{
  g_autofree char *own = g_strdup (option);
  g_autofree char *bytes = number (capacity);
  if (!check_lv_allocation (plan, format, &own, error))
    return FALSE;
  if (is (format, "raw"))
    return plan_set_lv_size (plan, capacity, 0, error);
  if (!is (format, "qcow2"))
    return fail (error, USAGE, "an encrypted volume is made by cloning one");
  const char *argv[] = {"qemu-img", "measure", "--output=json", "-O",
                        "qcow2",    "--size",  bytes,           NULL};
  plan->measure = g_strdupv ((char **)argv);
  plan->full = !is (plan->request->allocation, "sparse");
  plan_add_create (plan, format, own, plan->source, capacity);
  return TRUE;
}

gboolean
plan_create (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  g_autofree char *option = NULL;
  if (request->volume == NULL)
    return fail (error, USAGE, "no volume is named");
  g_autofree char *format =
      plan_format (request->format, request->volume, request->backing ? "qcow2" : "raw");
  if (request->backing != NULL && !find_backing (plan, format, error))
    return FALSE;
  if (!request->has_capacity && plan->source == NULL) {
    fail (error, USAGE, "no capacity is given");
    return hint (error, "add --capacity SIZE");
  }
  guint64 capacity = request->has_capacity ? request->capacity : plan->source->virtual_size;
  if (!allocation_option (request, format, &option, error) ||
      !plan_begin_new (plan, request->volume, NULL, error))
    return FALSE;
  if (plan->source != NULL)
    plan_use (plan, plan->source->place.path);
  if (plan_makes_lv (plan))
    return create_lv (plan, format, option, capacity, error);
  if (!is (format, "raw") || option != NULL)
    plan_add_create (plan, format, option, plan->source, capacity);
  set_length (plan, format, capacity);
  if (is (request->allocation, "falloc") || is (request->allocation, "full"))
    plan_need (plan, capacity);
  return TRUE;
}

/* ---- clone ----------------------------------------------------------------------------------- */

static void
use_chain (VolumePlan *plan, Volume *volume)
{
  plan_use (plan, volume->place.path);
  for (guint i = 1; volume->chain != NULL && i < volume->chain->len; i++)
    plan_use (plan, ((ChainLayer *)volume->chain->pdata[i])->file);
}

static void
add_resize (VolumePlan *plan, const char *format, guint64 capacity)
{
  g_autofree char *bytes = number (capacity);
  const char *argv[] = {"qemu-img", "resize", "-q", "-f", format, plan->disk->part, bytes, NULL};
  plan_add_program (plan, g_strdupv ((char **)argv));
}

/* Written past the page cache where that is possible: a quarter of the time until it is on disk
 * (docs/qemu-findings.md). Not a raw file with an odd end, which could be rounded up. */
static void
add_direct (VolumePlan *plan, const char *to, guint64 capacity, GStrvBuilder *argv)
{
  gboolean odd = is (to, "raw") && capacity % DIRECT_ALIGNMENT != 0;
  if (!plan_makes_lv (plan) && (is (to, "qcow2") || is (to, "raw")) && !odd &&
      file_will_take_direct (plan->disk->to))
    g_strv_builder_add_many (argv, "-t", "none", NULL);
}

static void
add_convert (VolumePlan *plan, const char *format, const char *option, guint64 capacity)
{
  const VolumeRequest *request = plan->request;
  Volume *source = plan->source;
  gboolean cut = capacity < source->virtual_size;
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  g_autofree char *name = plan_image_name (source, cut ? capacity : 0);
  g_autofree char *rate = number (request->bandwidth);
  const char *to = is (format, "luks") ? "raw" : format;
  gboolean lv = plan_makes_lv (plan);
  if (lv && is (to, "qcow2"))
    plan_add_create (plan, to, option, NULL, capacity);
  g_strv_builder_add_many (argv, "qemu-img", "convert", "-p", "-W", "-O", to, NULL);
  if (lv)
    g_strv_builder_add (argv, "-n");
  if (lv && plan_makes_thin (plan) && is (to, "raw"))
    g_strv_builder_add (argv, "--target-is-zero");
  add_direct (plan, to, capacity, argv);
  if (option != NULL && !lv)
    g_strv_builder_add_many (argv, "-o", option, NULL);
  if (request->bandwidth > 0)
    g_strv_builder_add_many (argv, "-r", rate, NULL);
  g_strv_builder_add_many (argv, name, plan->disk->part, NULL);
  json_set (plan_add_program (plan, g_strv_builder_end (argv)), "watched", json_flag (TRUE));
  if (capacity > source->virtual_size && !is (to, "raw") && !lv)
    add_resize (plan, format, capacity);
}

/* An overlay over the source, moved over to the new backing file: it then has what differs, and
 * only that. qemu-img rebase returned 0 with data lost before now, so its words count, and the
 * result is compared. */
static void
add_differences (VolumePlan *plan, Volume *backing, guint64 capacity)
{
  Volume *source = plan->source;
  g_autofree char *name = backing_name (plan, backing);
  g_autofree char *bytes = number (capacity);
  g_autofree char *image = plan_image_name (source, 0);
  const char *create[] = {
      "qemu-img",     "create",         "-q",  "-f", "qcow2", "-u", "-b", source->place.path, "-F",
      source->format, plan->disk->part, bytes, NULL};
  const char *rebase[] = {"qemu-img",      "rebase",         "-p", "-f", "qcow2", "-b", name, "-F",
                          backing->format, plan->disk->part, NULL};
  const char *compare[] = {"qemu-img", "compare",        "-p",  "-f",
                           "qcow2",    plan->disk->part, image, NULL};
  plan_add_program (plan, g_strdupv ((char **)create));
  Json *program = plan_add_program (plan, g_strdupv ((char **)rebase));
  json_set (program, "watched", json_flag (TRUE));
  json_set (program, "silent", json_flag (TRUE));
  json_set (plan_add_program (plan, g_strdupv ((char **)compare)), "watched", json_flag (TRUE));
}

static gboolean
clone_with_backing (VolumePlan *plan, const char *format, guint64 capacity, GError **error)
{
  const VolumeRequest *request = plan->request;
  g_autoptr (Volume) backing =
      plan_find (plan, request->backing, request->backing_format, TRUE, error);
  if (backing == NULL)
    return prefix (error, "backing file");
  if (!is (format, "qcow2") || backing->format == NULL)
    return fail (error, USAGE, "only a qcow2 clone has a backing file, which is not compressed");
  if (capacity < plan->source->virtual_size)
    return fail (error, USAGE, "a clone with a backing file cannot be smaller than its source");
  if (request->allocation != NULL && !is (request->allocation, "sparse"))
    return fail (error, USAGE, "a clone with a backing file is always sparse");
  use_chain (plan, backing);
  add_differences (plan, backing, capacity);
  return TRUE;
}

/* Everything in it is in the clone, block by block. */
static gboolean
is_whole_in_itself (Volume *source)
{
  return source->chain == NULL ||
         (source->chain->len == 1 && !((ChainLayer *)source->chain->pdata[0])->data_file);
}

static gboolean
can_reflink (VolumePlan *plan, const char *format, const char *option, guint64 capacity)
{
  Volume *source = plan->source;
  return option == NULL && is (format, source->format) && is_whole_in_itself (source) &&
         (is (format, "raw") || is (format, "luks") || capacity == source->virtual_size) &&
         plan_can_share (source, plan->disk->to);
}

static void
set_measure (VolumePlan *plan, const char *format)
{
  g_autofree char *name = plan_image_name (plan->source, 0);
  /* Only these two are measured by qemu-img. */
  const char *to = is (format, "qcow2") ? "qcow2" : "raw";
  const char *argv[] = {"qemu-img", "measure", "-U", "--output=json", "-O", to, name, NULL};
  plan->measure = g_strdupv ((char **)argv);
}

static gboolean
check_source (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->snapshot ? !plan_find_instant (plan, error)
                        : !(plan->source = plan_find (plan, request->source, request->source_format,
                                                      TRUE, error)))
    return FALSE;
  if (plan->source->format != NULL)
    return TRUE;
  fail (error, REFUSED, "'%s' is compressed (%s)", plan->source->place.path,
        plan->source->codec->name);
  return hint (error,
               "rechain vol decompress FILE, or rechain vol copy SRC DST, which decompresses");
}

/* What it replaces had room enough; a raw one is as large as its capacity. */
static gboolean
set_clone_size (VolumePlan *plan, const char *format, guint64 capacity, GError **error)
{
  guint64 end = MIN (capacity, plan->source->virtual_size);
  if (!plan_makes_lv (plan))
    return TRUE;
  plan->full = !is (plan->request->allocation, "sparse");
  if (plan->volume != NULL && plan->op->kind == OP_VOL_COPY_CONTENTS)
    return plan_set_lv_size (plan, plan->volume->size,
                             is (format, "raw") ? (end + 511) / 512 * 512 : G_MAXUINT64, error);
  return is (format, "qcow2") || plan_set_lv_size (plan, capacity, (end + 511) / 512 * 512, error);
}

static gboolean
fill_clone (VolumePlan *plan, const char *format, char *option, guint64 capacity, GError **error)
{
  g_autofree char *own = g_strdup (option);
  use_chain (plan, plan->source);
  set_length (plan, format, capacity);
  if ((plan_makes_lv (plan) && !check_lv_allocation (plan, format, &own, error)) ||
      !set_clone_size (plan, format, capacity, error))
    return FALSE;
  option = own;
  if (plan->request->backing != NULL) {
    if (plan_makes_lv (plan))
      set_measure (plan, format);
    return clone_with_backing (plan, format, capacity, error);
  }
  if (can_reflink (plan, format, option, capacity)) {
    json_set (plan->disk->details, "reflink", json_str (plan->source->place.path));
    return TRUE;
  }
  add_convert (plan, format, option, capacity);
  if (option != NULL && !plan_makes_lv (plan) && !g_str_has_suffix (option, "metadata"))
    plan_need (plan, capacity);
  if (plan->measure == NULL)
    set_measure (plan, format);
  return TRUE;
}

static gboolean
check_capacity (VolumePlan *plan, guint64 capacity, GError **error)
{
  Volume *source = plan->source;
  if (capacity >= source->virtual_size)
    return TRUE;
  if (!plan->request->shrink) {
    fail (error, REFUSED, "the clone would be smaller than '%s'", source->place.path);
    return hint (error, "--shrink cuts off what lies behind its filesystem or partitions");
  }
  /* The end of what is inside is asked of programs; see plan_check_end(). */
  g_clear_pointer (&plan->volume, volume_free);
  plan->volume = plan_find (plan, source->place.path, source->format, TRUE, error);
  json_set (plan->disk->details, "new-size", json_int ((gint64)capacity));
  return plan->volume != NULL && plan_check_end (plan, error);
}

gboolean
plan_clone (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  g_autofree char *option = NULL;
  if (request->source == NULL || request->volume == NULL)
    return fail (error, USAGE, "a clone needs a source and a name");
  if (!check_source (plan, error))
    return FALSE;
  g_autofree char *format = plan_format (request->format, request->volume, plan->source->format);
  guint64 capacity = request->has_capacity ? request->capacity : plan->source->virtual_size;
  if (capacity == plan->source->virtual_size && is (plan->source->format, "luks"))
    capacity = plan->source->size;
  return allocation_option (request, format, &option, error) &&
         plan_begin_new (plan, request->volume, plan->source, error) &&
         check_capacity (plan, capacity, error) &&
         fill_clone (plan, format, option, capacity, error);
}

/* ---- copy-contents --------------------------------------------------------------------------- */

/* A file is replaced by a new one of the same format, size, owner and mode: the old contents stand
 * until the new ones are whole. */
gboolean
plan_copy_contents (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  g_auto (Place) place = {0};
  if (request->source == NULL || request->volume == NULL)
    return fail (error, USAGE, "copy-contents needs a source and a target");
  if (!check_source (plan, error) || !place_find (plan->allow, request->volume, &place, error) ||
      !plan_begin_new (plan, request->volume, NULL, error))
    return FALSE;
  plan_use (plan, plan->source->place.path);
  Volume *target = plan->volume;
  if (path_same_file (target->place.path, plan->source->place.path))
    return fail (error, USAGE, "source and target are the same volume");
  if (target->format == NULL || is (target->format, "luks"))
    return fail (error, REFUSED, "'%s' is %s; only raw and qcow2 volumes are written into",
                 target->place.path, target->codec ? "compressed" : "encrypted");
  if (request->snapshot)
    set_measure (plan, target->format); /* of what is there now: the snapshot is not */
  if (target->virtual_size >= plan->source->virtual_size)
    return (!request->snapshot || plan_set_instant (plan, error)) &&
           fill_clone (plan, target->format, NULL, target->virtual_size, error);
  fail (error, REFUSED, "'%s' is smaller than '%s'", target->place.path, plan->source->place.path);
  return hint (error, "rechain vol resize makes it larger");
}
