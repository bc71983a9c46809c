/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show.h"

#include <string.h>

static void
fact_int (GString *out, const char *name, Json *object, const char *key)
{
  if (!json_has (object, key))
    return;
  g_autofree char *value = g_strdup_printf ("%" G_GINT64_FORMAT, json_get_int (object, key));
  text_fact (out, name, value);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static char *
job_progress (Json *job)
{
  return percent_of ((guint64)MAX (json_get_int (job, "current"), 0),
                     (guint64)MAX (json_get_int (job, "total"), 0));
}

static char *
job_speed (Json *job)
{
  if (!json_has (job, "speed"))
    return g_strdup ("");
  if (json_get_int (job, "speed") == 0)
    return g_strdup ("unlimited");
  g_autofree char *size = size_of (job, "speed");
  return g_strconcat (size, "/s", NULL);
}

static const char *
job_owner (Json *job)
{
  const char *operation = json_get_str (job, "operation");
  if (operation != NULL)
    return operation;
  return json_get_bool (job, "ours") ? "rechain" : "foreign";
}

static void
jobs_table (Cli *cli, Json *jobs, GString *out)
{
  if (json_length (jobs) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "JOB TYPE STATUS DISK >DONE >SPEED OWNER");
  for (gsize i = 0; i < json_length (jobs); i++) {
    Json *job = json_at (jobs, i);
    g_autofree char *done = job_progress (job);
    g_autofree char *speed = job_speed (job);
    table_add (table, NULL, json_get_str (job, "id"), json_get_str (job, "type"),
               json_get_bool (job, "paused") ? "paused" : json_get_str (job, "status"),
               json_get_str (job, "disk"), done, speed, job_owner (job));
  }
  table_print (table, out);
}

void
show_jobs (Cli *cli, Json *list, GString *out)
{
  jobs_table (cli, json_get (list, "jobs"), out);
}

static void
job_facts (Json *job, GString *out)
{
  g_autofree char *done = job_progress (job);
  g_autofree char *current = size_of (job, "current");
  g_autofree char *total = size_of (job, "total");
  g_autofree char *amount =
      g_strdup_printf ("%s of %s%s%s", current, total, *done ? ", " : "", done);
  g_autofree char *speed = job_speed (job);
  text_fact (out, "job", json_get_str (job, "id"));
  text_fact (out, "type", json_get_str (job, "type"));
  text_fact (out, "status", json_get_str (job, "status"));
  text_fact (out, "paused", json_get_bool (job, "paused") ? "yes" : NULL);
  text_fact (out, "disk", json_get_str (job, "disk"));
  text_fact (out, "owner", job_owner (job));
  text_fact (out, "done", *total ? amount : NULL);
  text_fact (out, "speed", speed);
  text_fact (out, "error", json_get_str (job, "error"));
}

void
show_job (Cli *cli, Json *list, GString *out)
{
  Json *jobs = json_get (list, "jobs");
  for (gsize i = 0; i < json_length (jobs); i++) {
    if (i > 0)
      g_string_append_c (out, '\n');
    job_facts (json_at (jobs, i), out);
  }
}

/* ---- info ------------------------------------------------------------------------------------ */

static void
disks_table (Cli *cli, Json *disks, GString *out)
{
  if (json_length (disks) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "DISK DRIVE NODE FORMAT >VIRTUAL >LAYERS IO FILE");
  for (gsize i = 0; i < json_length (disks); i++) {
    Json *disk = json_at (disks, i);
    g_autofree char *virtual = size_of (disk, "virtual-size");
    g_autofree char *layers =
        json_has (disk, "layers")
            ? g_strdup_printf ("%" G_GINT64_FORMAT, json_get_int (disk, "layers"))
            : g_strdup ("");
    const char *status = json_get_str (disk, "io-status");
    table_add (table, NULL, json_get_str (disk, "disk"), json_get_str (disk, "drive"),
               json_get_str (disk, "node"), json_get_str (disk, "format"), virtual, layers,
               json_get_bool (disk, "read-only") ? "read-only" : status,
               json_get_str (disk, "file"));
  }
  g_string_append_c (out, '\n');
  table_print (table, out);
}

static void
exports_lines (Json *disks, GString *out)
{
  for (gsize i = 0; i < json_length (disks); i++) {
    Json *disk = json_at (disks, i);
    g_autofree char *exports = joined (json_get (disk, "exports"), ", ");
    const char *name = json_get_str (disk, "disk");
    if (*exports != 0)
      text_line (out, "%s: exported as %s", name ? name : "-", exports);
  }
}

static void
features_lines (Json *features, gboolean wanted, const char *label, GString *out)
{
  if (!json_object_is_type (features, json_type_object))
    return;
  g_autoptr (GString) names = g_string_new (NULL);
  json_object_object_foreach (features, name, value)
  {
    if (json_object_get_boolean (value) == wanted)
      g_string_append_printf (names, "%s%s", names->len ? ", " : "", name);
  }
  if (names->len == 0)
    return;
  g_autofree char *safe = text_escape (names->str);
  g_string_append_printf (out, "%s\n", label);
  text_wrap (out, safe, 2, 78);
}

void
show_info (Cli *cli, Json *info, GString *out)
{
  Json *disks = json_get (info, "disks");
  Json *features = json_get (info, "features");
  const char *lender = json_get_str (info, "borrowed-from");
  g_autofree char *borrowed =
      lender ? g_strdup_printf ("borrowed from operation %s", lender) : NULL;
  text_fact (out, "monitor", json_get_str (info, "vm"));
  text_fact (out, "", borrowed);
  text_fact (out, "QEMU", json_get_str (info, "qemu"));
  fact_int (out, "process", info, "pid");
  text_fact (out, "state", json_get_str (info, "run-state"));
  disks_table (cli, disks, out);
  exports_lines (disks, out);
  if (json_length (json_get (info, "jobs")) > 0)
    g_string_append_c (out, '\n');
  jobs_table (cli, json_get (info, "jobs"), out);
  g_string_append_c (out, '\n');
  features_lines (features, TRUE, "this QEMU has", out);
  features_lines (features, FALSE, "it lacks", out);
}
