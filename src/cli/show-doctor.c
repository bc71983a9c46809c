/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show.h"

#include <string.h>

static const char *
or_empty (const char *text)
{
  return text ? text : "";
}

/* ---- the three witnesses --------------------------------------------------------------------- */

static void
witness (GString *out, const char *name, Json *files, const char *more)
{
  if (files == NULL && *more == 0)
    return;
  g_autofree char *chain = joined (files, " -> ");
  text_line (out, "    %-8s %s%s%s", name, chain, *chain && *more ? "  " : "", more);
}

static void
disk_lines (GString *out, Json *disk)
{
  const char *operation = json_get_str (disk, "operation");
  g_autofree char *by = operation ? g_strdup_printf ("(operation %s)", operation) : g_strdup ("");
  text_line (out, "  %s", or_empty (json_get_str (disk, "disk")));
  witness (out, "graph", json_get (disk, "graph"), "");
  witness (out, "headers", json_get (disk, "headers"),
           or_empty (json_get_str (disk, "unreadable")));
  witness (out, "journal", json_get (disk, "journal"), by);
}

static void
vm_lines (GString *out, Json *vm)
{
  const char *qemu = json_get_str (vm, "qemu"), *run_state = json_get_str (vm, "run-state");
  const char *name = or_empty (json_get_str (vm, "vm")),
             *address = or_empty (json_get_str (vm, "address"));
  Json *disks = json_get (vm, "disks");
  text_line (out, "%s%s%s: %s%s%s%s%s", name, strcmp (name, address) ? " at " : "",
             strcmp (name, address) ? address : "", or_empty (json_get_str (vm, "state")),
             qemu ? ", QEMU " : "", or_empty (qemu), run_state ? ", " : "", or_empty (run_state));
  for (gsize i = 0; i < json_length (disks); i++)
    disk_lines (out, json_at (disks, i));
}

/* ---- findings -------------------------------------------------------------------------------- */

static const char *
ansi_of (const char *severity)
{
  return strcmp (severity, "error") == 0 ? "31" : strcmp (severity, "warning") == 0 ? "33" : "36";
}

static void
finding_lines (Cli *cli, GString *out, Json *finding)
{
  const char *severity = or_empty (json_get_str (finding, "severity"));
  const char *vm = json_get_str (finding, "vm");
  Json *evidence = json_get (finding, "evidence"), *cure = json_get (finding, "cure");
  g_autofree char *word = text_colour (cli->colour_out, ansi_of (severity), severity);
  g_autofree char *what = text_escape (or_empty (json_get_str (finding, "what")));
  g_autofree char *of = vm ? g_strdup_printf ("%s: ", vm) : g_strdup ("");
  g_autofree char *safe_of = text_escape (of);
  g_string_append_printf (out, "%s: %s%s\n", word, safe_of, what);
  for (gsize i = 0; i < json_length (evidence); i++)
    text_line (out, "  - %s", or_empty (json_object_get_string (json_at (evidence, i))));
  if (json_get_str (cure, "says") != NULL)
    text_line (out, "  cure: %s", json_get_str (cure, "says"));
  /* A name that cannot be shown as it is gets no command: what is copied must be what was meant. */
  const char *command = json_get_str (cure, "command");
  g_autofree char *safe = command ? text_escape (command) : NULL;
  if (command != NULL && strcmp (safe, command) == 0)
    text_line (out, "  $ %s", command);
}

static void
summary (GString *out, Json *findings)
{
  static const char *const words[] = {"error", "warning", "note"};
  gsize n = json_length (findings), repairable = 0, counts[G_N_ELEMENTS (words)] = {0};
  for (gsize i = 0; i < n; i++) {
    repairable += json_get_bool (json_at (findings, i), "repairable");
    for (gsize k = 0; k < G_N_ELEMENTS (words); k++)
      counts[k] +=
          strcmp (or_empty (json_get_str (json_at (findings, i), "severity")), words[k]) == 0;
  }
  if (n == 0) {
    g_string_append (out, "nothing is wrong\n");
    return;
  }
  g_autoptr (GString) parts = g_string_new (NULL);
  for (gsize k = 0; k < G_N_ELEMENTS (words); k++)
    if (counts[k] > 0)
      g_string_append_printf (parts, "%s%zu %s%s", parts->len ? ", " : "", counts[k], words[k],
                              counts[k] == 1 ? "" : "s");
  text_line (out, "%zu finding%s: %s%s", n, n == 1 ? "" : "s", parts->str,
             repairable ? "; --repair cures what is rechain's own" : "");
}

static void
missing_programs (GString *out, Json *programs)
{
  for (gsize i = 0; i < json_length (programs); i++) {
    Json *program = json_at (programs, i);
    if (!json_has (program, "path"))
      text_line (out, "not installed: %s, for %s (package %s)",
                 or_empty (json_get_str (program, "program")),
                 or_empty (json_get_str (program, "needed-for")),
                 or_empty (json_get_str (program, "package")));
  }
}

void
show_doctor (Cli *cli, Json *document, GString *out)
{
  Json *vms = json_get (document, "vms"), *findings = json_get (document, "findings");
  Json *repairs = json_get (document, "repairs"), *plans = json_get (document, "plans");
  for (gsize i = 0; i < json_length (repairs); i++)
    show_operation (cli, json_at (repairs, i), out);
  for (gsize i = 0; i < json_length (plans); i++)
    show_plan (cli, json_at (plans, i), out);
  for (gsize i = 0; !cli->quiet && i < json_length (vms); i++)
    vm_lines (out, json_at (vms, i));
  for (gsize i = 0; i < json_length (findings); i++)
    finding_lines (cli, out, json_at (findings, i));
  if (!cli->quiet) {
    missing_programs (out, json_get (document, "programs"));
    summary (out, findings);
  }
}
