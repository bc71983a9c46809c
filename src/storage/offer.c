/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/offer.h"

#include "src/storage/plan-private.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAX_TEXT 4096u

Json *
offer_document (const Volume *source, const Codec *packed)
{
  ChainLayer *own = source->chain ? source->chain->pdata[0] : NULL;
  gboolean file = source->type == VOLUME_FILE;
  g_autofree char *stamp = file_stamp (source->place.path);
  guint64 data = source->has_allocated ? MIN (source->allocated, source->size) : source->size;
  return json_make ("schema", json_str ("rechain.offer/1"), "path", json_str (source->place.path),
                    "size", json_int ((gint64)source->size), "data", json_int ((gint64)data),
                    "mode", file ? json_int (source->place.st.st_mode & 0777) : NULL, "backing",
                    json_str (own ? own->backing : NULL), "codec",
                    json_str (source->codec ? source->codec->name : NULL), "packed",
                    json_str (packed ? packed->name : NULL), "stamp", json_str (stamp), NULL);
}

/* What is to be compressed, and is not, is compressed where it lies. */
gboolean
offer_find_packing (const VolumeRequest *request, const Volume *source, const Codec **ret_packed,
                    GError **error)
{
  const char *name = request->codec && *request->codec ? request->codec : "zstd";
  const Codec *want = request->archive ? codec_named (name) : NULL;
  if (want != NULL && source->codec != NULL && want != source->codec)
    return fail (error, REFUSED, "'%s' is compressed with %s already", source->place.path,
                 source->codec->name);
  *ret_packed = source->codec == NULL ? want : NULL;
  return *ret_packed == NULL || codec_is_usable (want) ||
         fail (error, FAILED, "there is no program '%s' on this host", want->compress[0]);
}

Json *
offer_make (const Allow *allow, const VolumeRequest *request, Json *layers, GError **error)
{
  VolumePlan plan = {
      .allow = allow, .request = request, .layers = layers, .files = open_files_scan ()};
  const Codec *packed = NULL;
  g_autoptr (Volume) source =
      plan_find (&plan, request->source, request->source_format, TRUE, error);
  Json *document = source != NULL && offer_find_packing (request, source, &packed, error)
                       ? offer_document (source, packed)
                       : NULL;
  open_files_free (plan.files);
  return document;
}

/* ---- from another host ----------------------------------------------------------------------- */

/* FALSE: too long, or missing where it must be. */
static gboolean
take_text (Json *document, const char *key, char **ret_text, gboolean must)
{
  const char *text = json_get_str (document, key);
  if (text == NULL)
    return !must;
  *ret_text = g_strdup (text);
  return *text != 0 && strlen (text) <= MAX_TEXT;
}

static gboolean
take_size (Json *document, const char *key, guint64 *ret_size)
{
  gint64 size = json_get_int (document, key);
  *ret_size = (guint64)size;
  return json_has (document, key) && size >= 0 && size <= G_MAXINT64 / 2;
}

static gboolean
take_codec (Json *document, const char *key, const Codec **ret_codec)
{
  const char *name = json_get_str (document, key);
  *ret_codec = name ? codec_named (name) : NULL;
  return name == NULL || *ret_codec != NULL;
}

Offer *
offer_parse (Json *document, GError **error)
{
  g_autoptr (Offer) offer = g_new0 (Offer, 1);
  offer->mode = json_has (document, "mode") ? (int)(json_get_int (document, "mode") & 0777) : -1;
  gboolean ok = g_strcmp0 (json_get_str (document, "schema"), "rechain.offer/1") == 0 &&
                take_text (document, "path", &offer->path, TRUE) &&
                take_text (document, "reads", &offer->reads, FALSE) &&
                take_text (document, "name", &offer->name, FALSE) &&
                take_text (document, "backing", &offer->backing, FALSE) &&
                take_text (document, "stamp", &offer->stamp, TRUE) &&
                take_size (document, "size", &offer->size) &&
                take_size (document, "data", &offer->data) &&
                take_codec (document, "codec", &offer->codec) &&
                take_codec (document, "packed", &offer->packed) && offer->path[0] == '/';
  if (!ok) {
    fail (error, USAGE, "what the other host offers is no volume");
    return NULL;
  }
  if (offer->name == NULL)
    offer->name = g_strdup (offer->path);
  return g_steal_pointer (&offer);
}

void
offer_free (Offer *offer)
{
  if (offer == NULL)
    return;
  g_free (offer->name);
  g_free (offer->path);
  g_free (offer->reads);
  g_free (offer->backing);
  g_free (offer->stamp);
  g_free (offer);
}

static const char *
read_from (const Offer *offer)
{
  return offer->reads ? offer->reads : offer->path;
}

gboolean
offer_holds (const Offer *offer, GError **error)
{
  g_autofree char *stamp = file_stamp (read_from (offer));
  if (g_strcmp0 (stamp, offer->stamp) == 0)
    return TRUE;
  fail (error, REFUSED, "'%s' was changed while it was copied", offer->path);
  return hint (error, "copy a snapshot of it: rechain vol snapshot");
}

int
offer_open (const Allow *allow, const Offer *offer, GError **error)
{
  g_auto (Place) place = {0};
  if (!place_find (allow, read_from (offer), &place, error) || !offer_holds (offer, error))
    return -1;
  if (file_has_writer (place.path)) {
    fail (error, REFUSED, "'%s' was opened by a process that writes", place.path);
    return -1;
  }
  return place_open (allow, &place, O_RDONLY | O_CLOEXEC, error);
}
