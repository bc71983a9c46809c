/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/request.h"

#include "src/common/size.h"
#include "src/common/volume-xml.h"
#include "src/storage/archive.h"

#include <string.h>

/* clang-format off */
#define F(member) G_STRUCT_OFFSET (VolumeRequest, member)
static const struct { const char *option; gsize offset; } strings[] = {
    {"volume", F (volume)},   {"source", F (source)},       {"name", F (name)},
    {"format", F (format)},   {"source-format", F (source_format)},
    {"backing", F (backing)}, {"backing-format", F (backing_format)},
    {"allocation", F (allocation)}, {"archive", F (codec)}, {"force", F (force)},
    {"pool", F (pool)}, {"method", F (method)},
};
static const struct { const char *option; gsize offset; } flags[] = {
    {"shrink", F (shrink)},     {"overwrite", F (overwrite)}, {"snapshot", F (snapshot)},
    {"relative", F (relative)}, {"delete", F (remove)},
};
/* clang-format on */

#define FIELD(type, request, at) (*(type *)((char *)(request) + (at)))

VolumeRequest *
volume_request_new (OpKind kind)
{
  VolumeRequest *request = g_new0 (VolumeRequest, 1);
  request->kind = kind;
  request->mode = -1;
  request->owner = request->group = -1;
  return request;
}

VolumeRequest *
volume_request_copy (const VolumeRequest *request)
{
  VolumeRequest *copy = g_memdup2 (request, sizeof *request);
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    FIELD (char *, copy, strings[i].offset) = g_strdup (FIELD (char *, copy, strings[i].offset));
  copy->offer = json_dup (request->offer);
  copy->from = json_dup (request->from);
  return copy;
}

void
volume_request_free (VolumeRequest *request)
{
  if (request == NULL)
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (FIELD (char *, request, strings[i].offset));
  json_object_put (request->offer);
  json_object_put (request->from);
  g_free (request);
}

static void
set_string (char **field, const char *value)
{
  g_free (*field);
  *field = g_strdup (value);
}

/* ---- values ---------------------------------------------------------------------------------- */

static gboolean
is_one_of (const char *value, const char *const *words, GError **error)
{
  g_autofree char *all = g_strjoinv (", ", (char **)words);
  if (g_strv_contains (words, value))
    return TRUE;
  fail (error, USAGE, "'%s' is not known here", value);
  return hint (error, "it can be: %s", all);
}

static gboolean
check_force (const char *value, GError **error)
{
  static const char *const reasons[] = {"open", "mounted", "backing", NULL};
  g_auto (GStrv) words = g_strsplit (value, ",", -1);
  for (char **word = words; *word != NULL; word++)
    if (!is_one_of (*word, reasons, error))
      return FALSE;
  return TRUE;
}

static gboolean
check_word (const char *option, const char *value, GError **error)
{
  static const char *const allocations[] = {"sparse", "metadata", "falloc", "full", NULL};
  static const char *const methods[] = {"reflink", "external", "internal", "lvm", "btrfs", NULL};
  if (g_str_equal (option, "allocation"))
    return is_one_of (value, allocations, error);
  if (g_str_equal (option, "method"))
    return is_one_of (value, methods, error);
  if (g_str_equal (option, "force"))
    return check_force (value, error);
  if (g_str_equal (option, "archive") && *value != '\0' && codec_named (value) == NULL) {
    fail (error, USAGE, "'%s' is no codec", value);
    return hint (error, "it can be: zstd, gzip, xz, lz4, lzop");
  }
  return TRUE;
}

static gboolean
set_capacity (VolumeRequest *request, const char *value, GError **error)
{
  request->relative_capacity = value[0] == '+';
  request->has_capacity =
      parse_size (value + request->relative_capacity, &request->capacity, error);
  if (request->has_capacity && request->capacity > (guint64)G_MAXINT64 / 2)
    return fail (error, USAGE, "'%s' is more than a volume can have", value);
  return request->has_capacity;
}

static gboolean
set_number (VolumeRequest *request, const char *option, const char *value, GError **error)
{
  char *end = NULL;
  gboolean mode = g_str_equal (option, "mode");
  guint64 number = g_ascii_strtoull (value, &end, mode ? 8 : 10);
  if (!g_ascii_isdigit (value[0]) || *end != '\0' || number > (mode ? 07777 : G_MAXINT32))
    return fail (error, USAGE, "'%s' is no %s", value, mode ? "mode of a file" : "numeric id");
  if (mode)
    request->mode = (int)number;
  else if (g_str_equal (option, "owner"))
    request->owner = (gint64)number;
  else
    request->group = (gint64)number;
  return TRUE;
}

static gboolean
set_value (VolumeRequest *request, const char *option, const char *value, GError **error)
{
  static const char *const numbers[] = {"mode", "owner", "group", NULL};
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    if (g_str_equal (option, strings[i].option)) {
      request->archive |= g_str_equal (option, "archive");
      set_string (&FIELD (char *, request, strings[i].offset), value);
      return check_word (option, value, error);
    }
  for (gsize i = 0; i < G_N_ELEMENTS (flags); i++)
    if (g_str_equal (option, flags[i].option)) {
      FIELD (gboolean, request, flags[i].offset) = TRUE;
      return TRUE;
    }
  if (g_str_equal (option, "capacity"))
    return set_capacity (request, value, error);
  if (g_strv_contains (numbers, option))
    return set_number (request, option, value, error);
  if (g_str_equal (option, "bandwidth"))
    return parse_size (value, &request->bandwidth, error);
  if (g_str_equal (option, "timeout"))
    return parse_duration (value, &request->timeout_ms, error);
  return fail (error, USAGE, "it is not known");
}

gboolean
volume_request_set (VolumeRequest *request, const char *option, const char *value, GError **error)
{
  return set_value (request, option, value ? value : "", error) ||
         prefix (error, "option '%s'", option);
}

gboolean
volume_request_forces (const VolumeRequest *request, const char *reason)
{
  g_auto (GStrv) words = g_strsplit (request->force ? request->force : "", ",", -1);
  return g_strv_contains ((const char *const *)words, reason);
}

/* ---- XML ------------------------------------------------------------------------------------- */

static void
take_string (char **field, const char *value)
{
  if (*field == NULL && value != NULL)
    *field = g_strdup (value);
}

/* Nothing allocated is sparse, all of it is allocated: what lies between has no name here. */
static gboolean
take_allocation (VolumeRequest *request, const VolumeXml *xml, GError **error)
{
  if (!xml->has_allocation || request->allocation != NULL)
    return TRUE;
  if (xml->allocation > 0 && (!request->has_capacity || xml->allocation < request->capacity))
    return fail (error, USAGE,
                 "<allocation> of %" G_GUINT64_FORMAT
                 " bytes is neither none nor all of the capacity",
                 xml->allocation);
  request->allocation = g_strdup (xml->allocation == 0 ? "sparse" : "falloc");
  return TRUE;
}

gboolean
volume_request_set_xml (VolumeRequest *request, const char *text, gsize length, const char *origin,
                        GError **error)
{
  g_autoptr (VolumeXml) xml = volume_xml_parse (text, length, origin, error);
  if (xml == NULL)
    return FALSE;
  take_string (&request->volume, xml->path);
  take_string (&request->format, xml->format);
  take_string (&request->backing, xml->backing_path);
  take_string (&request->backing_format, xml->backing_format);
  if (!request->has_capacity && xml->has_capacity) {
    request->has_capacity = TRUE;
    request->capacity = xml->capacity;
  }
  request->mode = request->mode >= 0 ? request->mode : xml->mode;
  request->owner = request->owner >= 0 ? request->owner : xml->owner;
  request->group = request->group >= 0 ? request->group : xml->group;
  return take_allocation (request, xml, error);
}
