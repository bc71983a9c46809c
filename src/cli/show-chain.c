/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show.h"

#include <string.h>

/* Longer chains are shown flat: the indentation of a tree would push them off the screen. */
#define MAX_TREE_DEPTH 16

static const char *
or_dash (const char *text)
{
  return text && *text ? text : "-";
}

static const char *
layer_name (Json *layer)
{
  const char *file = json_get_str (layer, "file");
  return file ? file : or_dash (json_get_str (layer, "node"));
}

static Row *
add_layer (Table *table, Row *parent, Json *layer)
{
  g_autofree char *virtual = size_of (layer, "virtual-size");
  g_autofree char *allocated = size_of (layer, "allocated");
  return table_add (table, parent, layer_name (layer), or_dash (json_get_str (layer, "format")),
                    or_dash (virtual), or_dash (allocated), or_dash (json_get_str (layer, "node")),
                    or_dash (json_get_str (layer, "backing")));
}

static void
add_chain (Table *table, Row *root, Json *chain)
{
  gboolean nested = json_length (chain) <= MAX_TREE_DEPTH;
  Row *parent = root;
  for (gsize i = 0; i < json_length (chain); i++) {
    Row *row = add_layer (table, parent, json_at (chain, i));
    if (nested)
      parent = row;
  }
}

static void
add_disk (Table *table, Json *disk)
{
  const char *name = json_get_str (disk, "disk");
  g_autofree char *virtual = size_of (disk, "virtual-size");
  Row *root = NULL;
  if (name != NULL)
    root = table_add (table, NULL, name, "", virtual, "", json_get_str (disk, "node"), "");
  add_chain (table, root, json_get (disk, "chain"));
}

static void
job_line (Json *disk, Json *job, GString *out)
{
  g_autofree char *percent =
      percent_of ((guint64)json_get_int (job, "current"), (guint64)json_get_int (job, "total"));
  text_line (out, "%s: %s job '%s' is %s%s%s%s", or_dash (json_get_str (disk, "disk")),
             or_dash (json_get_str (job, "type")), or_dash (json_get_str (job, "id")),
             or_dash (json_get_str (job, "status")), *percent ? ", " : "", percent,
             json_get_bool (job, "ours") ? "" : " (not ours)");
}

/* Jobs, and what the library says of a chain that it could not read in full. */
static void
disk_remarks (Json *disk, GString *out)
{
  Json *jobs = json_get (disk, "jobs");
  for (gsize i = 0; i < json_length (jobs); i++)
    job_line (disk, json_at (jobs, i), out);
  const char *broken = json_get_str (disk, "broken");
  if (broken != NULL)
    text_line (out, "%s: %s", or_dash (json_get_str (disk, "disk")), broken);
}

void
show_chain (Cli *cli, Json *chain, GString *out)
{
  Json *disks = json_get (chain, "disks");
  if (json_length (disks) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "+LAYER FORMAT >VIRTUAL >ALLOCATED NODE BACKING");
  for (gsize i = 0; i < json_length (disks); i++)
    add_disk (table, json_at (disks, i));
  table_print (table, out);
  for (gsize i = 0; i < json_length (disks); i++)
    disk_remarks (json_at (disks, i), out);
}

/* ---- the picture ----------------------------------------------------------------------------- */

/* Full. As the inside of a dot string, where a backslash and a quote mean something. */
static char *
dot_escape (const char *text)
{
  g_autofree char *safe = text_escape (text);
  g_autoptr (GString) out = g_string_new (safe);
  g_string_replace (out, "\\", "\\\\", 0);
  g_string_replace (out, "\"", "\\\"", 0);
  return g_string_free (g_steal_pointer (&out), FALSE);
}

static void
dot_layer (Json *layer, gsize disk, gsize depth, gboolean last, GString *out)
{
  g_autofree char *file = dot_escape (layer_name (layer));
  g_autofree char *format = dot_escape (or_dash (json_get_str (layer, "format")));
  g_autofree char *node = dot_escape (or_dash (json_get_str (layer, "node")));
  g_autofree char *allocated = size_of (layer, "allocated");
  g_string_append_printf (out, "    d%zul%zu [label=\"%s\\n%s %s\\n%s\"%s];\n", disk, depth, file,
                          format, node, allocated,
                          json_get_bool (layer, "read-only") ? ", style=filled" : "");
  if (!last)
    g_string_append_printf (out, "    d%zul%zu -> d%zul%zu;\n", disk, depth, disk, depth + 1);
}

static void
dot_disk (Json *disk, gsize index, GString *out)
{
  Json *chain = json_get (disk, "chain");
  const char *name = json_get_str (disk, "disk");
  g_string_append_printf (out, "  subgraph cluster_%zu {\n", index);
  if (name != NULL) {
    g_autofree char *label = dot_escape (name);
    g_string_append_printf (out, "    label=\"%s\";\n", label);
  }
  for (gsize i = 0; i < json_length (chain); i++)
    dot_layer (json_at (chain, i), index, i, i + 1 == json_length (chain), out);
  g_string_append (out, "  }\n");
}

void
show_chain_dot (Cli *cli, Json *chain, GString *out)
{
  Json *disks = json_get (chain, "disks");
  g_string_append (out, "digraph chain {\n  node [shape=box, fillcolor=lightgrey];\n");
  for (gsize i = 0; i < json_length (disks); i++)
    dot_disk (json_at (disks, i), i, out);
  g_string_append (out, "}\n");
}
