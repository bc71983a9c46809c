/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allocating regions: allocate. */
#include "src/cli/operate.h"

#include <string.h>

/* ---- regions --------------------------------------------------------------------------------- */

static gboolean
add_extent (RechainRequest *request, const char *disk, Json *extent, GError **error)
{
  gint64 start = json_get_int (extent, "start"), length = json_get_int (extent, "length");
  if (!json_object_is_type (json_get (extent, "start"), json_type_int) || start < 0 || length <= 0)
    return fail (error, USAGE, "it is no region: %s", json_object_to_json_string (extent));
  return rechain_request_add_region (request, disk, (guint64)start, (guint64)length, error);
}

/* A list, or a document that has one: a map. */
static gboolean
add_file (Cli *cli, RechainRequest *request, const char *disk, const char *file, GError **error)
{
  gsize length = 0;
  g_autofree char *text = cli_document (cli, OPT_REGIONS, &length, error);
  if (text == NULL)
    return FALSE;
  g_autoptr (Json) json = json_parse (text, (gssize)length);
  Json *list = json_has (json, "extents") ? json_get (json, "extents") : json;
  if (json_length (list) == 0)
    return fail (error, USAGE, "'%s' is no list of regions", file);
  for (gsize i = 0; i < json_length (list); i++)
    if (!add_extent (request, disk, json_at (list, i), error))
      return prefix (error, "'%s'", file);
  return TRUE;
}

/* The nth value that was given for @id; NULL: there are less. */
static const char *
nth_value (Cli *cli, OptionId id, guint nth)
{
  for (guint i = 0; i < cli->args.given->len; i++) {
    Given *given = &g_array_index (cli->args.given, Given, i);
    if (given->id == id && nth-- == 0)
      return given->value;
  }
  return NULL;
}

static gboolean
add_regions (Cli *cli, RechainRequest *request, const char *disk, GError **error)
{
  const char *file = args_value (&cli->args, OPT_REGIONS);
  if (cli->args.counts[OPT_OFFSET] != cli->args.counts[OPT_LENGTH]) {
    fail (error, USAGE, "each region has an --offset and a --length");
    return hint (error, "write --offset SIZE --length SIZE, as often as there are regions");
  }
  for (guint i = 0; i < cli->args.counts[OPT_OFFSET]; i++) {
    guint64 start, length;
    if (!parse_size (nth_value (cli, OPT_OFFSET, i), &start, error))
      return prefix (error, "option '--offset'");
    if (!parse_size (nth_value (cli, OPT_LENGTH, i), &length, error))
      return prefix (error, "option '--length'");
    if (length == 0)
      return fail (error, USAGE, "option '--length': nothing has a length of 0");
    if (!rechain_request_add_region (request, disk, start, length, error))
      return FALSE;
  }
  return file == NULL || add_file (cli, request, disk, file, error);
}

gboolean
run_allocate (Cli *cli, GError **error)
{
  gboolean offline = args_has (&cli->args, OPT_OFFLINE);
  if (cli->n_words != (offline ? 1 : 2)) {
    fail (error, USAGE, "allocate takes a VM and a disk");
    return hint (error, "rechain allocate VM DISK, or rechain allocate --offline IMAGE");
  }
  const char *disk = cli->words[offline ? 0 : 1], *fill = args_value (&cli->args, OPT_FILL);
  const char *format = args_value (&cli->args, OPT_FORMAT);
  if (format != NULL && !offline)
    return fail (error, USAGE, "option '--format' goes with --offline: QEMU knows the format");
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_ALLOCATE);
  rechain_request_add_disk (request, disk);
  return (fill == NULL || rechain_request_set_disk_option (request, disk, "fill", fill, error)) &&
         (format == NULL ||
          rechain_request_set_disk_option (request, disk, "format", format, error)) &&
         add_regions (cli, request, disk, error) && set_how (cli, request, error) &&
         operate (cli, offline ? NULL : cli->words[0], request, error);
}
