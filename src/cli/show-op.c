/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show.h"

#include <string.h>

static const char *
or_empty (const char *text)
{
  return text ? text : "";
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* Full. "vda, vdb". */
static char *
disk_names (Json *document)
{
  Json *disks = json_get (document, "disks");
  GString *names = g_string_new (NULL);
  for (gsize i = 0; i < json_length (disks); i++)
    g_string_append_printf (names, "%s%s", i ? ", " : "",
                            or_empty (json_get_str (json_at (disks, i), "disk")));
  return g_string_free (names, FALSE);
}

static void
chain_line (GString *out, const char *label, Json *chain)
{
  if (json_length (chain) == 0)
    return;
  g_autofree char *files = joined (chain, " -> ");
  text_line (out, "    %-8s %s", label, files);
}

/* Files that stay, and how to be rid of them: by what refuses to where somebody still uses one. A
 * name that cannot be shown as it is gets no command: what is copied from a terminal must be what
 * was meant. */
static void
left_lines (GString *out, Json *left)
{
  for (gsize i = 0; i < json_length (left); i++)
    text_line (out, "    %-8s %s", "kept", or_empty (json_object_get_string (json_at (left, i))));
  for (gsize i = 0; i < json_length (left); i++) {
    const char *file = or_empty (json_object_get_string (json_at (left, i)));
    g_autofree char *safe = text_escape (file);
    g_autofree char *quoted = g_shell_quote (file);
    gboolean bare = strspn (file, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "/._-+") == strlen (file);
    if (strcmp (safe, file) == 0)
      text_line (out, "    %-8s rechain vol delete %s", "remove", bare ? file : quoted);
  }
}

static void
filesystem_line (GString *out, Json *filesystem)
{
  if (!json_has (filesystem, "size"))
    return;
  g_autofree char *before = format_size ((guint64)json_get_int (filesystem, "size-before"));
  g_autofree char *now = format_size ((guint64)json_get_int (filesystem, "size"));
  text_line (out, "    %-8s %s -> %s", or_empty (json_get_str (filesystem, "type")), before, now);
}

/* Logical volumes that were extended. */
static void
grown_lines (GString *out, Json *grown)
{
  for (gsize i = 0; i < json_length (grown); i++) {
    Json *volume = json_at (grown, i);
    g_autofree char *before = format_size ((guint64)json_get_int (volume, "size-before"));
    g_autofree char *now = format_size ((guint64)json_get_int (volume, "size"));
    text_line (out, "    %-8s %s: %s -> %s", "extended", or_empty (json_get_str (volume, "path")),
               before, now);
  }
}

static void
disk_lines (GString *out, Json *disk)
{
  Json *before = json_get (disk, "chain-before");
  Json *now = json_get (disk, "chain");
  Json *removed = json_get (disk, "removed");
  text_line (out, "  %s", or_empty (json_get_str (disk, "disk")));
  chain_line (out, "before", before);
  chain_line (out, "now", now);
  if (json_has (disk, "read-only-source"))
    text_line (out, "    %-8s %s", "backup", json_get_str (disk, "read-only-source"));
  for (gsize i = 0; i < json_length (removed); i++)
    text_line (out, "    %-8s %s", "removed",
               or_empty (json_object_get_string (json_at (removed, i))));
  left_lines (out, json_get (disk, "left"));
  filesystem_line (out, json_get (disk, "filesystem"));
  grown_lines (out, json_get (disk, "grown"));
}

/* With QEMU dead: which file the guest must be started from. */
static void
authoritative_lines (GString *out, Json *files)
{
  if (!json_object_is_type (files, json_type_object))
    return;
  json_object_object_foreach (files, disk, file) text_line (
      out, "  start the guest with %s from %s", disk, or_empty (json_object_get_string (file)));
}

/* ---- where it stands ------------------------------------------------------------------------- */

/* It has not ended, and nobody runs it. */
static gboolean
is_left (Json *operation)
{
  return g_strcmp0 (json_get_str (operation, "owner"), "dead") == 0;
}

static const struct {
  const char *recover, *words;
} directions[] = {
    {"undo", "takes it back; everything will be as before"},
    {"finish", "finishes it; the new state was decided already"},
    {"look", "looks whether it took effect, and finishes it or takes it back"},
};

static const char *
outcome_words (Json *standing)
{
  const char *outcome = or_empty (json_get_str (standing, "outcome"));
  return strcmp (outcome, "unknown") == 0 ? "how it ended is not known" : outcome;
}

static void
step_line (GString *out, Json *standing)
{
  const char *step = json_get_str (standing, "step"), *says = json_get_str (standing, "says");
  const char *direction = or_empty (json_get_str (standing, "direction"));
  g_autoptr (GString) line = g_string_new (step ? step : "none: it had not begun");
  if (says != NULL)
    g_string_append_printf (line, ": %s", says);
  if (step != NULL && strcmp (direction, "do") != 0)
    g_string_append_printf (line, " (%s)", direction);
  if (step != NULL)
    g_string_append_printf (line, "; %s", outcome_words (standing));
  text_line (out, "  step     %s", line->str);
}

static void
world_lines (GString *out, Json *standing)
{
  const char *qemu = or_empty (json_get_str (standing, "qemu"));
  const char *guest = json_get_str (standing, "guest");
  if (strcmp (qemu, "gone") == 0)
    text_line (out, "  QEMU     is gone; until this is settled, start the guest from nothing else "
                    "than said above");
  else if (guest != NULL)
    text_line (out, "  guest    is %s by this operation; recovery lets it go first of all", guest);
  else if (*qemu != 0)
    text_line (out, "  guest    runs on as before");
}

/* What to do with one that nobody runs. */
static void
standing_lines (GString *out, Json *operation)
{
  Json *standing = json_get (operation, "standing");
  const char *recover = or_empty (json_get_str (standing, "recover"));
  if (standing == NULL || !is_left (operation))
    return;
  step_line (out, standing);
  world_lines (out, standing);
  text_line (out, "  to do    rechain recover --op %s",
             or_empty (json_get_str (operation, "operation")));
  for (gsize i = 0; i < G_N_ELEMENTS (directions); i++)
    if (strcmp (directions[i].recover, recover) == 0)
      text_line (out, "           %s", directions[i].words);
}

/* Full. ": 16.0 MiB, guest stopped for 3.1 ms", as far as known. No rate: the new layer also has
 * what the guest wrote meanwhile, which no limit slows down. */
static char *
amounts (Json *operation)
{
  g_autoptr (GPtrArray) parts = g_ptr_array_new_with_free_func (g_free);
  guint64 bytes = (guint64)MAX (json_get_int (operation, "bytes"), 0);
  double pause = json_get_real (operation, "pause-ms");
  double freeze = json_get_real (operation, "freeze-ms");
  gint64 filesystems = json_get_int (operation, "filesystems");
  if (bytes > 0)
    g_ptr_array_add (parts, format_size (bytes));
  if (pause > 0)
    g_ptr_array_add (parts, g_strdup_printf ("guest stopped for %.1f ms", pause));
  if (freeze > 0 && filesystems > 0)
    g_ptr_array_add (parts, g_strdup_printf ("%" G_GINT64_FORMAT " filesystem%s frozen for %.1f ms",
                                             filesystems, filesystems == 1 ? "" : "s", freeze));
  else if (freeze > 0)
    g_ptr_array_add (parts, g_strdup_printf ("guest frozen for %.1f ms", freeze));
  g_ptr_array_add (parts, NULL);
  g_autofree char *text = g_strjoinv (", ", (char **)parts->pdata);
  return *text ? g_strconcat (": ", text, NULL) : g_strdup ("");
}

static const struct {
  const char *state, *words, *ansi;
} state_words[] = {
    {"planned", "planned, nothing was changed", "0"},
    {"running", "is running", "33"},
    {"finishing", "is finishing", "33"},
    {"done", "done", "32"},
    {"undoing", "is being undone", "33"},
    {"undone", "undone, everything is as before", "33"},
    {"stuck", "stuck, neither done nor undone", "31"},
};

static char *
state_text (Cli *cli, Json *operation)
{
  const char *state = or_empty (json_get_str (operation, "state"));
  const char *step = json_get_str (json_get (operation, "standing"), "step");
  g_autofree char *at = step ? g_strdup_printf (" at step '%s'", step) : g_strdup ("");
  g_autofree char *safe = text_escape (at);
  if (is_left (operation) && strcmp (state, "stuck") == 0) {
    g_autofree char *words = g_strdup_printf ("is stuck%s, neither done nor undone", safe);
    return text_colour (cli->colour_out, "31", words);
  }
  if (is_left (operation)) {
    g_autofree char *words = g_strdup_printf ("was interrupted%s and is not settled", safe);
    return text_colour (cli->colour_out, "31", words);
  }
  for (gsize i = 0; i < G_N_ELEMENTS (state_words); i++)
    if (strcmp (state_words[i].state, state) == 0)
      return text_colour (cli->colour_out, state_words[i].ansi, state_words[i].words);
  return text_escape (state);
}

static void
headline (Cli *cli, Json *operation, GString *out)
{
  g_autofree char *disks = disk_names (operation);
  g_autofree char *what = g_strdup_printf ("%s%s%s", or_empty (json_get_str (operation, "kind")),
                                           *disks ? " of " : "", disks);
  g_autofree char *id =
      g_strdup_printf ("operation %s", or_empty (json_get_str (operation, "operation")));
  g_autofree char *safe_what = text_escape (what);
  g_autofree char *safe_id = text_escape (id);
  g_autofree char *state = state_text (cli, operation);
  g_autofree char *rest = amounts (operation);
  double seconds = is_left (operation) ? 0 : json_get_real (operation, "seconds");
  guint64 ms = (guint64)(MAX (seconds, 0) * 1000);
  g_autofree char *duration = format_duration (ms);
  g_string_append_printf (out, "%s %s%s%s%s (%s)\n", safe_what, state, ms ? " in " : "",
                          ms ? duration : "", rest, safe_id);
}

/* The error of an operation is an object like rechain.error/1; a bare string is taken as its
 * message. */
static void
error_lines (GString *out, Json *operation)
{
  Json *error = json_get (operation, "error");
  gboolean bare = json_object_is_type (error, json_type_string);
  const char *message = bare ? json_object_get_string (error) : json_get_str (error, "message");
  const char *cause = json_get_str (error, "cause");
  const char *advice = json_get_str (error, "hint");
  if (message != NULL)
    text_line (out, "  error: %s", message);
  if (cause != NULL)
    text_line (out, "  because: %s", cause);
  /* That of one that is left repeats what stands above. */
  if (advice != NULL && !(is_left (operation) && json_has (operation, "standing")))
    text_line (out, "  hint: %s", advice);
}

/* ---- one operation --------------------------------------------------------------------------- */

void
show_operation (Cli *cli, Json *operation, GString *out)
{
  Json *disks = json_get (operation, "disks");
  headline (cli, operation, out);
  for (gsize i = 0; i < json_length (disks); i++)
    disk_lines (out, json_at (disks, i));
  authoritative_lines (out, json_get (operation, "authoritative"));
}

static void
journal_table (Cli *cli, Json *journal, GString *out)
{
  if (json_length (journal) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "TIME STEP DISK DIRECTION PHASE DETAIL");
  for (gsize i = 0; i < json_length (journal); i++) {
    Json *entry = json_at (journal, i);
    table_add (table, NULL, json_get_str (entry, "at"), json_get_str (entry, "step"),
               json_get_str (entry, "disk"), json_get_str (entry, "direction"),
               json_get_str (entry, "phase"), json_get_str (entry, "detail"));
  }
  g_string_append_c (out, '\n');
  table_print (table, out);
}

static void
owner_line (Json *operation, GString *out)
{
  const char *owner = json_get_str (operation, "owner");
  if (owner != NULL && !is_left (operation))
    text_line (out, "  its process is %s", owner);
}

void
show_operation_full (Cli *cli, Json *operation, GString *out)
{
  show_operation (cli, operation, out);
  if (json_get_str (operation, "vm") != NULL)
    text_line (out, "  vm %s", json_get_str (operation, "vm"));
  if (json_get_str (operation, "started") != NULL)
    text_line (out, "  started %s%s%s", json_get_str (operation, "started"),
               json_get_str (operation, "ended") ? ", ended " : "",
               or_empty (json_get_str (operation, "ended")));
  owner_line (operation, out);
  error_lines (out, operation);
  standing_lines (out, operation);
  journal_table (cli, json_get (operation, "journal"), out);
}

/* ---- lists ----------------------------------------------------------------------------------- */

void
show_operations (Cli *cli, Json *list, GString *out)
{
  Json *operations = json_get (list, "operations");
  if (json_length (operations) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "OPERATION KIND STATE STARTED DISKS VM");
  for (gsize i = 0; i < json_length (operations); i++) {
    Json *operation = json_at (operations, i);
    g_autofree char *disks = disk_names (operation);
    gboolean dead = g_strcmp0 (json_get_str (operation, "owner"), "dead") == 0;
    g_autofree char *state = g_strconcat (or_empty (json_get_str (operation, "state")),
                                          dead ? " (interrupted)" : "", NULL);
    table_add (table, NULL, json_get_str (operation, "operation"), json_get_str (operation, "kind"),
               state, json_get_str (operation, "started"), disks, json_get_str (operation, "vm"));
  }
  table_print (table, out);
}

void
show_recovered (Cli *cli, Json *list, GString *out)
{
  Json *operations = json_get (list, "operations");
  for (gsize i = 0; i < json_length (operations); i++) {
    Json *operation = json_at (operations, i);
    show_operation (cli, operation, out);
    if (json_get_str (operation, "owner") != NULL)
      error_lines (out, operation);
  }
  if (json_length (operations) == 0 && !cli->quiet)
    g_string_append (out, "nothing to recover\n");
}

/* ---- plan ------------------------------------------------------------------------------------ */

/* What would be run, as one would type it. */
static void
command_line (GString *out, Json *argv)
{
  g_autoptr (GString) command = g_string_new (NULL);
  for (gsize i = 0; i < json_length (argv); i++) {
    const char *word = or_empty (json_object_get_string (json_at (argv, i)));
    gboolean bare = *word && strpbrk (word, " \t\n'\"\\$`*?[](){}<>|&;!#~") == NULL;
    g_autofree char *quoted = bare ? g_strdup (word) : g_shell_quote (word);
    g_string_append_printf (command, " %s", quoted);
  }
  text_line (out, "     $%s", command->str);
}

/* One command, or a list of them: one for each disk. */
static void
argv_lines (GString *out, Json *argv)
{
  if (json_length (argv) == 0)
    return;
  if (!json_object_is_type (json_at (argv, 0), json_type_array)) {
    command_line (out, argv);
    return;
  }
  for (gsize i = 0; i < json_length (argv); i++)
    command_line (out, json_at (argv, i));
}

static void
qmp_lines (GString *out, Json *qmp)
{
  for (gsize i = 0; i < json_length (qmp); i++) {
    g_autofree char *line = json_line (json_at (qmp, i));
    text_line (out, "     > %s", line);
  }
}

static void
agent_lines (GString *out, Json *asked)
{
  for (gsize i = 0; i < json_length (asked); i++) {
    g_autofree char *line = json_line (json_at (asked, i));
    text_line (out, "     agent> %s", line);
  }
}

static void
step_lines (Json *step, gsize number, GString *out)
{
  Json *local = json_get (step, "local");
  const char *undo = or_empty (json_get_str (step, "undo"));
  text_line (out, "%3zu. %s: %s [%s]", number, or_empty (json_get_str (step, "step")),
             or_empty (json_get_str (step, "says")), or_empty (json_get_str (step, "kind")));
  for (gsize i = 0; i < json_length (local); i++)
    text_line (out, "     - %s", or_empty (json_object_get_string (json_at (local, i))));
  argv_lines (out, json_get (step, "argv"));
  qmp_lines (out, json_get (step, "qmp"));
  agent_lines (out, json_get (step, "agent"));
  if (*undo != 0)
    text_line (out, "     undo: %s", undo);
}

static void
space_table (Cli *cli, Json *space, GString *out)
{
  if (json_length (space) == 0)
    return;
  g_autoptr (Table) table = table_new (cli, "SPACE >NEEDED >FREE");
  for (gsize i = 0; i < json_length (space); i++) {
    Json *row = json_at (space, i);
    g_autofree char *needed = size_of (row, "needed");
    g_autofree char *available = size_of (row, "free");
    table_add (table, NULL, json_get_str (row, "path"), needed, available);
  }
  g_string_append_c (out, '\n');
  table_print (table, out);
}

void
show_plan (Cli *cli, Json *plan, GString *out)
{
  Json *disks = json_get (plan, "disks"), *steps = json_get (plan, "steps");
  g_autofree char *names = disk_names (plan);
  text_line (out, "plan of a %s of %s; nothing was changed", or_empty (json_get_str (plan, "kind")),
             names);
  for (gsize i = 0; i < json_length (disks); i++) {
    Json *disk = json_at (disks, i);
    text_line (out, "  %s", or_empty (json_get_str (disk, "disk")));
    chain_line (out, "before", json_get (disk, "chain-before"));
    chain_line (out, "after", json_get (disk, "chain-after"));
  }
  g_string_append_c (out, '\n');
  for (gsize i = 0; i < json_length (steps); i++)
    step_lines (json_at (steps, i), i + 1, out);
  space_table (cli, json_get (plan, "space"), out);
}
