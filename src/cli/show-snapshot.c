/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show.h"

static const char *
or_dash (const char *text)
{
  return text && *text ? text : "-";
}

static const char *
match_word (Json *object)
{
  return !json_has (object, "matches") ? "?" : json_get_bool (object, "matches") ? "yes" : "no";
}

static void
add_disk (Table *table, Row *parent, Json *disk)
{
  g_autofree char *forward = size_of (disk, "forward-bytes");
  g_autofree char *backward = size_of (disk, "backward-bytes");
  table_add (table, parent, json_get_str (disk, "disk"), "", match_word (disk),
             json_get_str (disk, "on-delete"), or_dash (forward), or_dash (backward),
             json_get_str (disk, "overlay"), json_get_str (disk, "read-only-source"));
}

static Row *
add_snapshot (Table *table, Row *parent, Json *snapshot)
{
  Json *disks = json_get (snapshot, "disks");
  g_autofree char *total = size_of (snapshot, "delete-bytes");
  g_autofree char *name = g_strconcat (json_get_str (snapshot, "name"),
                                       json_get_bool (snapshot, "current") ? " *" : NULL, NULL);
  Row *row = table_add (table, parent, name, json_get_str (snapshot, "created"),
                        match_word (snapshot), "", "", "", "", "");
  for (gsize i = 0; i < json_length (disks); i++)
    add_disk (table, row, json_at (disks, i));
  return row;
}

/* Children after their parents, whatever the order of the list. @depth ends what a journal that was
 * tampered with could begin. */
static void
add_children (Table *table, Row *row, Json *list, const char *parent, gsize depth)
{
  for (gsize i = 0; depth > 0 && i < json_length (list); i++) {
    Json *snapshot = json_at (list, i);
    if (g_strcmp0 (json_get_str (snapshot, "parent"), parent) != 0)
      continue;
    Row *child = add_snapshot (table, row, snapshot);
    add_children (table, child, list, json_get_str (snapshot, "name"), depth - 1);
  }
}

void
show_snapshots (Cli *cli, Json *document, GString *out)
{
  Json *list = json_get (document, "snapshots");
  if (json_length (list) == 0)
    return;
  g_autoptr (Table) table =
      table_new (cli, "+SNAPSHOT CREATED MATCHES ON-DELETE >FORWARD >BACKWARD OVERLAY READ-ONLY");
  add_children (table, NULL, list, NULL, json_length (list));
  table_print (table, out);
}

static void
disk_lines (Json *disk, GString *out)
{
  const char *why = json_get_str (disk, "mismatch");
  g_autofree char *forward = size_of (disk, "forward-bytes");
  g_autofree char *backward = size_of (disk, "backward-bytes");
  text_line (out, "  %s", or_dash (json_get_str (disk, "disk")));
  text_line (out, "    overlay    %s", or_dash (json_get_str (disk, "overlay")));
  text_line (out, "    read-only  %s", or_dash (json_get_str (disk, "read-only-source")));
  text_line (out, "    on delete  %s", or_dash (json_get_str (disk, "on-delete")));
  if (*forward || *backward)
    text_line (out, "    would copy %s forward, %s backward", or_dash (forward),
               or_dash (backward));
  if (why != NULL)
    text_line (out, "    no match   %s", why);
}

void
show_snapshot (Cli *cli, Json *snapshot, GString *out)
{
  Json *disks = json_get (snapshot, "disks");
  const char *parent = json_get_str (snapshot, "parent");
  const char *description = json_get_str (snapshot, "description");
  text_line (out, "snapshot %s of %s, guest %s%s", or_dash (json_get_str (snapshot, "name")),
             or_dash (json_get_str (snapshot, "created")),
             or_dash (json_get_str (snapshot, "state")),
             json_get_bool (snapshot, "current") ? " (current)" : "");
  if (parent != NULL)
    text_line (out, "  parent %s", parent);
  if (description != NULL)
    text_line (out, "  %s", description);
  for (gsize i = 0; i < json_length (disks); i++)
    disk_lines (json_at (disks, i), out);
  if (json_has (snapshot, "matches") && !json_get_bool (snapshot, "matches"))
    text_line (out, "The record does not match the chain any more.");
}
