/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies of volumes that lie on another host: their contents come as frames (jobs/fetch.c). */
#include "src/storage/offer.h"
#include "src/storage/plan-private.h"

#include "src/common/size.h"

#include <string.h>

/* What the other host has may be smaller when it comes, but not larger: it is held to
 * what it said. */
static void
set_stream (VolumePlan *plan, const Offer *offer)
{
  const VolumeRequest *request = plan->request;
  Json *details = plan->disk->details;
  g_autofree char *socket = g_strdup_printf ("%s/run/%s.feed", plan->state_dir, plan->op->id);
  Json *stream = json_make ("name", json_str (offer->name), "size", json_int ((gint64)offer->size),
                            "data", json_int ((gint64)offer->data), NULL);
  json_set (stream, "offer", json_dup (request->offer));
  json_set (stream, "bytes", json_int (offer->packed ? -1 : (gint64)offer->size));
  if (request->from != NULL)
    json_set (stream, "from", json_dup (request->from));
  else
    json_set (stream, "socket", json_str (socket));
  json_set (details, "stream", stream);
}

/* What goes through a program that decompresses it. */
static gboolean
unpack (VolumePlan *plan, const Codec *codec, GError **error)
{
  Json *stream = json_get (plan->disk->details, "stream"), *words = json_array ();
  if (!plan_check_codec (codec, error))
    return FALSE;
  g_auto (GStrv) argv = plan_unpack_args (plan, codec);
  for (char **word = argv; *word != NULL; word++)
    json_append (words, json_str (*word));
  json_set (stream, "through", words);
  const char *dig[] = {"fallocate", "--dig-holes", plan->disk->part, NULL};
  if (!codec->sparse && !plan_makes_lv (plan))
    plan_add_program (plan, g_strdupv ((char **)dig));
  return !plan_makes_lv (plan) || plan_set_unpacked_size (plan, error);
}

/* Where nothing is sent there must be zeroes. */
static gboolean
set_size (VolumePlan *plan, const Offer *offer, GError **error)
{
  if (plan_makes_lv (plan))
    return plan_set_lv_size (plan, plan_lv_size_for (plan, offer->size), 0, error);
  plan_need (plan, offer->packed ? 0 : offer->data);
  if (offer->packed == NULL)
    json_set (plan->disk->details, "length", json_int ((gint64)offer->size));
  return TRUE;
}

/* The name in its header must lead to something here; whether it is the same file
 * nobody can say. */
static gboolean
check_backing (VolumePlan *plan, const Offer *offer, GError **error)
{
  if (offer->backing == NULL || offer->packed != NULL)
    return TRUE;
  g_autofree char *dir = g_path_get_dirname (plan->disk->to);
  g_autofree char *path = chain_file_in (dir, offer->backing);
  if (g_file_test (path, G_FILE_TEST_EXISTS)) {
    g_ptr_array_add (
        plan->op->notes,
        g_strdup_printf ("'%s' must have the same contents as on the other host", path));
    return TRUE;
  }
  fail (error, REFUSED, "the backing file '%s' of '%s' is not on this host", offer->backing,
        offer->name);
  return hint (error, "copy that first, or make a copy that needs none: rechain vol clone, there");
}

gboolean
plan_copy_offered (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  g_autoptr (Offer) offer = offer_parse (request->offer, error);
  if (offer == NULL)
    return FALSE;
  const Codec *want =
      request->archive ? codec_named (request->codec && *request->codec ? request->codec : "zstd")
                       : NULL;
  g_autofree char *to = plan_target_of (plan, offer->path);
  if (!plan_begin_new (plan, to, NULL, error))
    return FALSE;
  const Codec *comes = offer->packed ? offer->packed : offer->codec;
  if (want != NULL ? comes != want : offer->packed != NULL)
    return fail (error, REFUSED, "'%s' is not offered in the form that is asked for", offer->name);
  if (want != NULL && plan_makes_lv (plan))
    return fail (error, REFUSED, "an archive is a file, not a logical volume");
  if (request->has_capacity && !(plan_makes_lv (plan) && offer->codec != NULL && want == NULL))
    return fail (error, USAGE, "a capacity is only for an archive unpacked into a logical volume");
  if (offer->mode >= 0 && request->mode < 0 && plan->volume == NULL && !plan_makes_lv (plan))
    json_set (plan->disk->details, "mode", json_int (offer->mode));
  set_stream (plan, offer);
  if (want != NULL && !plan_check_suffix (plan, want, error))
    return FALSE;
  if (offer->codec != NULL && want == NULL)
    return unpack (plan, offer->codec, error);
  return set_size (plan, offer, error) && check_backing (plan, offer, error);
}
