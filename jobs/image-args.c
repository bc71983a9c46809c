/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Command lines of qemu-img as data. Names are made absolute, so that none begins with "-" or reads
 * as a protocol; what has structure is JSON from a serializer. */
#include "jobs/chain.h"
#include "jobs/image.h"

#include "src/common/error.h"

#include <string.h>
#include <sys/stat.h>

/* Formats that take a "backing" option. */
static const char *const backed[] = {"qcow2", "qcow", "qed", "vmdk", NULL};

static char *
plain_name (const char *file)
{
  g_autofree char *cwd = g_get_current_dir ();
  return chain_file_in (cwd, file);
}

char **
image_commit_args (const char *file, const char *format)
{
  g_autofree char *name = plain_name (file);
  const char *args[] = {"qemu-img", "commit", "-q", "-d", "-f", format, name, NULL};
  return g_strdupv ((char **)args);
}

char **
image_info_args (const char *file, const char *format)
{
  g_autofree char *name = plain_name (file);
  const char *args[] = {"qemu-img", "info", "-f", format, "--output=json", name, NULL};
  return g_strdupv ((char **)args);
}

char **
image_repair_args (const char *file, const char *format)
{
  g_autofree char *name = plain_name (file);
  const char *args[] = {"qemu-img", "check", "-q", "-f", format, "-r", "leaks", name, NULL};
  return g_strdupv ((char **)args);
}

char **
image_resize_args (const char *file, const char *format, guint64 size, gboolean shrink)
{
  g_autofree char *name = plain_name (file);
  g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT, size);
  g_autoptr (GStrvBuilder) args = g_strv_builder_new ();
  g_strv_builder_add_many (args, "qemu-img", "resize", "-q", "-f", format, NULL);
  if (shrink)
    g_strv_builder_add (args, "--shrink");
  g_strv_builder_add_many (args, name, bytes, NULL);
  return g_strv_builder_end (args);
}

char **
image_repoint_args (const char *file, const char *backing, const char *format)
{
  g_autofree char *name = plain_name (file);
  g_autoptr (GStrvBuilder) args = g_strv_builder_new ();
  g_strv_builder_add_many (args, "qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b",
                           backing ? backing : "", NULL);
  if (backing != NULL)
    g_strv_builder_add_many (args, "-F", format, NULL);
  g_strv_builder_add (args, name);
  return g_strv_builder_end (args);
}

/* The protocol part: a file, a device, or what QEMU itself called it. */
static Json *
storage_spec (const char *file)
{
  struct stat st;
  if (g_str_has_prefix (file, "json:")) {
    Json *options = json_parse (file + strlen ("json:"), -1);
    return options ? options : json_make ("filename", json_str (file), NULL);
  }
  if (file[0] != '/')
    return json_make ("filename", json_str (file), NULL);
  gboolean device = stat (file, &st) == 0 && S_ISBLK (st.st_mode);
  return json_make ("driver", json_str (device ? "host_device" : "file"), "filename",
                    json_str (file), NULL);
}

Json *
image_chain_spec (GPtrArray *layers, guint from, guint to)
{
  g_autoptr (Json) spec = NULL;
  /* From the last one up, each holding the one below it. */
  for (guint i = MIN (to, layers->len); i-- > from;) {
    const ChainLayer *layer = layers->pdata[i];
    Json *below = spec ? g_steal_pointer (&spec) : json_null ();
    spec = json_make ("driver", json_str (layer->format), "file",
                      storage_spec (layer->file ? layer->file : ""), NULL);
    if (g_strv_contains (backed, layer->format))
      json_set (spec, "backing", below);
    else if (below != json_null ())
      json_clear (below);
  }
  return g_steal_pointer (&spec);
}

char *
image_spec_name (Json *spec)
{
  g_autofree char *line = json_line (spec);
  return g_strdup_printf ("json:%s", line);
}

char **
image_chain_map_args (GPtrArray *layers, guint64 start, guint64 length, gboolean shared)
{
  g_autoptr (Json) spec = image_chain_spec (layers, 0, layers->len);
  g_autoptr (GStrvBuilder) args = g_strv_builder_new ();
  g_autofree char *name = image_spec_name (spec);
  g_autofree char *from = g_strdup_printf ("--start-offset=%" G_GUINT64_FORMAT, start);
  g_autofree char *bytes = g_strdup_printf ("--max-length=%" G_GUINT64_FORMAT, length);
  g_strv_builder_add_many (args, "qemu-img", "map", "--output=json", from, bytes, NULL);
  if (shared)
    g_strv_builder_add (args, "-U");
  g_strv_builder_add (args, name);
  return g_strv_builder_end (args);
}

static gboolean
get_size (Json *reply, const char *key, guint64 *ret_size)
{
  gint64 size = json_get_int (reply, key);
  *ret_size = (guint64)MAX (size, 0);
  return json_has (reply, key) && size >= 0;
}

gboolean
image_measure_parse (const char *out, guint64 *ret_required, guint64 *ret_full, GError **error)
{
  g_autoptr (Json) reply = json_parse (out, -1);
  gboolean complete = get_size (reply, "required", ret_required);
  complete = get_size (reply, "fully-allocated", ret_full) && complete;
  return complete ? TRUE : fail (error, FAILED, "qemu-img measure: the answer has no sizes");
}

char **
image_map_args (const char *file)
{
  g_autoptr (Json) spec = json_make ("driver", json_str ("qcow2"), "file", storage_spec (file),
                                     "backing", json_null (), NULL);
  g_autofree char *name = image_spec_name (spec);
  const char *args[] = {"qemu-img", "map", "-U", "--output=json", name, NULL};
  return g_strdupv ((char **)args);
}

gboolean
image_map_parse (const char *out, gboolean *ret_empty, GError **error)
{
  g_autoptr (Json) extents = json_parse (out, -1);
  *ret_empty = TRUE;
  if (json_length (extents) == 0)
    return fail (error, FAILED, "qemu-img map: the answer is no list of extents");
  for (gsize i = 0; i < json_length (extents); i++) {
    Json *extent = json_at (extents, i);
    /* "present" is missing before qemu-img 6.1, where only "data" can be told from a hole. */
    if (json_get_bool (extent, "present") || json_get_bool (extent, "data"))
      *ret_empty = FALSE;
  }
  return TRUE;
}
