/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show.h"

/* Full. What keeps it from being changed, in few words; "" where nothing does. */
static char *
use_of (Json *volume)
{
  Json *open = json_get (volume, "open"), *mounted = json_get (volume, "mounted");
  if (json_length (mounted) > 0)
    return g_strdup ("mounted");
  if (json_length (open) > 0)
    return g_strdup_printf ("%s %" G_GINT64_FORMAT, json_get_str (json_at (open, 0), "name"),
                            json_get_int (json_at (open, 0), "pid"));
  if (json_length (json_get (volume, "devices")) > 0)
    return g_strdup (json_object_get_string (json_at (json_get (volume, "devices"), 0)));
  return g_strdup (json_get_bool (volume, "locked") ? "locked" : "");
}

static const char *
format_of (Json *volume)
{
  const char *codec = json_get_str (volume, "codec");
  return codec ? codec : json_get_str (volume, "format");
}

void
show_volumes (Cli *cli, Json *list, GString *out)
{
  Json *volumes = json_get (list, "volumes");
  if (json_length (volumes) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "VOLUME TYPE FORMAT >VIRTUAL >ALLOCATED USE BACKING");
  for (gsize i = 0; i < json_length (volumes); i++) {
    Json *volume = json_at (volumes, i);
    g_autofree char *virtual = size_of (volume, "virtual-size");
    g_autofree char *allocated = size_of (volume, "allocated");
    g_autofree char *use = use_of (volume);
    gboolean broken = json_has (volume, "broken");
    table_add (table, NULL, json_get_str (volume, "path"), json_get_str (volume, "type"),
               broken ? "broken" : format_of (volume), virtual, allocated, use,
               json_get_str (volume, "backing"));
  }
  table_print (table, out);
}

/* ---- one volume ------------------------------------------------------------------------------ */

static void
fact_size (GString *out, const char *name, Json *object, const char *key)
{
  g_autofree char *size = size_of (object, key);
  text_fact (out, name, size);
}

static void
fact_list (GString *out, const char *name, Json *list)
{
  for (gsize i = 0; i < json_length (list); i++)
    text_fact (out, i == 0 ? name : "", json_object_get_string (json_at (list, i)));
}

static void
open_facts (GString *out, Json *volume)
{
  Json *open = json_get (volume, "open");
  for (gsize i = 0; i < json_length (open); i++) {
    Json *by = json_at (open, i);
    g_autofree char *text = g_strdup_printf ("%" G_GINT64_FORMAT " %s%s", json_get_int (by, "pid"),
                                             json_get_str (by, "name"),
                                             json_get_bool (by, "writes") ? "" : " (read-only)");
    text_fact (out, i == 0 ? "open in" : "", text);
  }
}

static void
vm_facts (GString *out, Json *volume)
{
  Json *vms = json_get (volume, "vms");
  for (gsize i = 0; i < json_length (vms); i++) {
    Json *vm = json_at (vms, i);
    gint64 depth = json_get_int (vm, "depth");
    g_autofree char *layer =
        depth == 0 ? g_strdup ("active layer") : g_strdup_printf ("layer %" G_GINT64_FORMAT, depth);
    g_autofree char *text = g_strdup_printf ("%s, disk %s, %s", json_get_str (vm, "vm"),
                                             json_get_str (vm, "disk"), layer);
    text_fact (out, i == 0 ? "of VM" : "", text);
  }
}

static void
chain_facts (GString *out, Json *volume)
{
  Json *chain = json_get (volume, "chain");
  for (gsize i = 1; i < json_length (chain); i++)
    text_fact (out, i == 1 ? "on" : "", json_get_str (json_at (chain, i), "file"));
}

static void
contents_facts (GString *out, Json *volume)
{
  Json *filesystem = json_get (volume, "filesystem");
  const char *label = json_get_str (filesystem, "label");
  g_autofree char *text = g_strdup_printf ("%s%s%s", json_get_str (filesystem, "type"),
                                           label ? ", " : "", label ? label : "");
  text_fact (out, "contains", filesystem ? text : NULL);
  text_fact (out, "partitions", json_get_str (volume, "partition-table"));
}

static void
lv_facts (GString *out, Json *lv)
{
  g_autofree char *fill = json_has (lv, "data-percent")
                              ? g_strdup_printf ("%.1f%%", json_get_real (lv, "data-percent"))
                              : NULL;
  text_fact (out, "segments", json_get_str (lv, "segments"));
  text_fact (out, "thin pool", json_get_str (lv, "pool"));
  text_fact (out, "snapshot of", json_get_str (lv, "snapshot-of"));
  text_fact (out, "filled", fill);
}

void
show_volume (Cli *cli, Json *volume, GString *out)
{
  text_fact (out, "volume", json_get_str (volume, "path"));
  text_fact (out, "type", json_get_str (volume, "type"));
  text_fact (out, "format", json_get_str (volume, "format"));
  text_fact (out, "compressed", json_get_str (volume, "codec"));
  fact_size (out, "virtual size", volume, "virtual-size");
  fact_size (out, "size", volume, "size");
  fact_size (out, "allocated", volume, "allocated");
  text_fact (out, "broken", json_get_str (volume, "broken"));
  chain_facts (out, volume);
  contents_facts (out, volume);
  lv_facts (out, json_get (volume, "lv"));
  fact_list (out, "backs", json_get (volume, "backs"));
  fact_list (out, "mounted at", json_get (volume, "mounted"));
  fact_list (out, "devices", json_get (volume, "devices"));
  open_facts (out, volume);
  text_fact (out, "image lock", json_get_bool (volume, "locked") ? "held" : NULL);
  vm_facts (out, volume);
}

/* ---- storage info ---------------------------------------------------------------------------- */

static void
pools_table (Cli *cli, Json *pools, GString *out)
{
  if (json_length (pools) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "POOL TYPE FILESYSTEM >TOTAL >FREE >FILLED");
  for (gsize i = 0; i < json_length (pools); i++) {
    Json *pool = json_at (pools, i);
    const char *path = json_get_str (pool, "path");
    g_autofree char *total = size_of (pool, "total");
    g_autofree char *available = size_of (pool, "free");
    g_autofree char *fill = json_has (pool, "data-percent")
                                ? g_strdup_printf ("%.1f%%", json_get_real (pool, "data-percent"))
                                : g_strdup ("");
    table_add (table, NULL, path ? path : json_get_str (pool, "name"), json_get_str (pool, "type"),
               json_get_str (pool, "filesystem"), total, available, fill);
  }
  table_print (table, out);
  g_string_append_c (out, '\n');
}

/* Full. The names under @key of the rows whose @flag is set, joined. */
static char *
names_where (Json *rows, const char *key, const char *flag)
{
  GString *names = g_string_new (NULL);
  for (gsize i = 0; i < json_length (rows); i++)
    if (json_get_bool (json_at (rows, i), flag))
      g_string_append_printf (names, "%s%s", names->len ? ", " : "",
                              json_get_str (json_at (rows, i), key));
  return g_string_free (names, FALSE);
}

void
show_storage (Cli *cli, Json *storage, GString *out)
{
  Json *filesystems = json_get (storage, "filesystems"), *lvm = json_get (storage, "lvm");
  g_autofree char *formats = joined (json_get (storage, "formats"), ", ");
  g_autofree char *grow = names_where (filesystems, "type", "grows");
  g_autofree char *shrink = names_where (filesystems, "type", "shrinks");
  g_autofree char *codecs = names_where (json_get (storage, "codecs"), "codec", "usable");
  pools_table (cli, json_get (storage, "pools"), out);
  text_fact (out, "formats", formats);
  text_fact (out, "growfs", grow);
  text_fact (out, "shrinkfs", shrink);
  text_fact (out, "codecs", codecs);
  text_fact (out, "LVM", json_get_bool (lvm, "usable") ? "yes" : json_get_str (lvm, "reason"));
}
