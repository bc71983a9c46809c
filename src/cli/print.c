/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- text ------------------------------------------------------------------------------------ */

static void
escape_char (GString *out, gunichar c)
{
  if (c == '\n')
    g_string_append (out, "\\n");
  else if (c == '\t')
    g_string_append (out, "\\t");
  else if (c < 0x80)
    g_string_append_printf (out, "\\x%02x", c);
  else
    g_string_append_printf (out, "\\u%04x", c);
}

/* Also what would turn the reading direction of a terminal. */
static gboolean
is_harmless (gunichar c)
{
  return !g_unichar_iscntrl (c) && g_unichar_type (c) != G_UNICODE_FORMAT &&
         g_unichar_type (c) != G_UNICODE_LINE_SEPARATOR &&
         g_unichar_type (c) != G_UNICODE_PARAGRAPH_SEPARATOR;
}

char *
text_escape (const char *text)
{
  GString *out = g_string_new (NULL);
  while (*text != 0) {
    gunichar c = g_utf8_get_char_validated (text, -1);
    if (c == (gunichar)-1 || c == (gunichar)-2) {
      g_string_append_printf (out, "\\x%02x", (guchar)*text++);
      continue;
    }
    if (is_harmless (c))
      g_string_append_unichar (out, c);
    else
      escape_char (out, c);
    text = g_utf8_next_char (text);
  }
  return g_string_free (out, FALSE);
}

void
text_line (GString *out, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  g_autofree char *safe = text_escape (text);
  g_string_append_printf (out, "%s\n", safe);
}

void
text_fact (GString *out, const char *name, const char *value)
{
  if (value != NULL && *value != 0)
    text_line (out, "%-12s %s", name, value);
}

void
text_wrap (GString *out, const char *text, guint indent, guint width)
{
  g_auto (GStrv) words = g_strsplit (text, " ", -1);
  glong column = 0;
  for (char **word = words; *word != NULL; word++) {
    glong length = g_utf8_strlen (*word, -1);
    if (column > 0 && (guint)(column + 1 + length) > width) {
      g_string_append_c (out, '\n');
      column = 0;
    }
    if (column == 0) {
      g_string_append_printf (out, "%*s", (int)indent, "");
      column = (glong)indent;
    } else {
      g_string_append_c (out, ' ');
      column++;
    }
    g_string_append (out, *word);
    column += length;
  }
  g_string_append_c (out, '\n');
}

char *
text_colour (gboolean colour, const char *ansi, const char *text)
{
  return colour ? g_strdup_printf ("\033[%sm%s\033[0m", ansi, text) : g_strdup (text);
}

/* ---- stdout ---------------------------------------------------------------------------------- */

gboolean
out_text (Cli *cli, const char *text, GError **error)
{
  if (cli->server != NULL) {
    rechain_server_tell (cli->server, "print", text);
    return TRUE;
  }
  errno = 0;
  if (fputs (text, stdout) != EOF && fflush (stdout) == 0)
    return TRUE;
  int errnum = errno;
  fail (error, FAILED, "cannot write to standard output");
  return because (error, "%s", g_strerror (errnum));
}

gboolean
out_document (Cli *cli, const char *document, GError **error)
{
  gboolean ends = g_str_has_suffix (document, "\n");
  g_autofree char *text = g_strconcat (document, ends ? "" : "\n", NULL);
  return out_text (cli, text, error);
}

gboolean
out_either (Cli *cli, const char *document, ToText to_text, GError **error)
{
  if (cli->output == OUTPUT_JSON)
    return out_document (cli, document, error);
  g_autoptr (Json) json = json_parse (document, -1);
  g_autoptr (GString) out = g_string_new (NULL);
  to_text (cli, json, out);
  return out_text (cli, out->str, error);
}

/* ---- stderr ---------------------------------------------------------------------------------- */

/* To the terminal, or to whom this is done for. */
static void
say_line (Cli *cli, const char *event, const char *text)
{
  g_autofree char *safe = text_escape (text);
  if (cli->server != NULL)
    rechain_server_tell (cli->server, event, text);
  else
    fprintf (stderr, "rechain: %s\n", safe);
}

void
note (Cli *cli, const char *format, ...)
{
  gboolean programs =
      cli->progress == PROGRESS_JSON || (cli->output == OUTPUT_JSON && !cli->tty_err);
  if (cli->quiet || (programs && cli->server == NULL))
    return;
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  say_line (cli, "note", text);
}

void
say (Cli *cli, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  say_line (cli, "say", text);
}

RechainError
error_code (const GError *error)
{
  if (error->domain == RECHAIN_ERROR)
    return (RechainError)error->code;
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return INTERRUPTED;
  return error->domain == G_OPTION_ERROR || error->domain == G_KEY_FILE_ERROR ? USAGE : FAILED;
}

int
exit_code_of (RechainError code)
{
  if (code == INTERRUPTED)
    return 130;
  return code >= FAILED && code < INTERRUPTED ? (int)code : 1;
}

static void
print_error_document (const GError *error)
{
  g_autoptr (Json) json =
      json_make ("schema", json_str ("rechain.error/1"), "code",
                 json_str (rechain_error_code_name (error_code (error))), "message",
                 json_str (error->message), "cause", json_str (rechain_error_get_cause (error)),
                 "hint", json_str (rechain_error_get_hint (error)), "operation",
                 json_str (rechain_error_get_operation (error)), NULL);
  g_autofree char *line = json_line (json);
  fprintf (stderr, "%s\n", line);
}

static void
print_error_line (Cli *cli, const char *ansi, const char *label, const char *text)
{
  if (text == NULL || *text == 0)
    return;
  g_autofree char *safe = text_escape (text);
  g_autofree char *shown = text_colour (cli->colour_err, ansi, label);
  fprintf (stderr, "%s %s\n", shown, safe);
}

void
print_error (Cli *cli, const GError *error)
{
  if (cli->output == OUTPUT_JSON) {
    print_error_document (error);
    return;
  }
  print_error_line (cli, "1;31", "rechain:", error->message);
  print_error_line (cli, "1", "  because:", rechain_error_get_cause (error));
  print_error_line (cli, "1", "  hint:", rechain_error_get_hint (error));
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void
table_add_column (Table *table, const char *name)
{
  int flags = name[0] == '>' ? SCOLS_FL_RIGHT : name[0] == '+' ? SCOLS_FL_TREE : 0;
  scols_table_new_column (table, name + (flags != 0), 0, flags);
}

Table *
table_new (Cli *cli, const char *columns)
{
  Table *table = scols_new_table ();
  g_auto (GStrv) names = g_strsplit (columns, " ", -1);
  for (char **name = names; *name != NULL; name++)
    table_add_column (table, *name);
  /* Nothing is cut off, whatever the width: a half file name is of no use. */
  scols_table_set_termforce (table, SCOLS_TERMFORCE_NEVER);
  return table;
}

Row *
table_add (Table *table, Row *parent, ...)
{
  Row *row = scols_table_new_line (table, parent);
  va_list args;
  va_start (args, parent);
  for (gsize i = 0; i < scols_table_get_ncols (table); i++) {
    const char *value = va_arg (args, const char *);
    g_autofree char *valid = value ? g_utf8_make_valid (value, -1) : NULL;
    scols_line_set_data (row, i, valid);
  }
  va_end (args);
  return row;
}

void
table_print (Table *table, GString *out)
{
  char *text = NULL;
  if (scols_print_table_to_string (table, &text) != 0 || text == NULL)
    return;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  free (text);
  for (char **line = lines; *line != NULL; line++)
    if (*g_strchomp (*line) != 0)
      g_string_append_printf (out, "%s\n", *line);
}

/* ---- values out of documents ----------------------------------------------------------------- */

double
json_get_real (Json *object, const char *key)
{
  return json_object_get_double (json_get (object, key));
}

char *
size_of (Json *object, const char *key)
{
  return json_has (object, key) ? format_size ((guint64)MAX (json_get_int (object, key), 0))
                                : g_strdup ("");
}

char *
percent_of (guint64 current, guint64 total)
{
  if (total == 0)
    return g_strdup ("");
  double percent = 100.0 * (double)MIN (current, total) / (double)total;
  return g_strdup_printf ("%d%%", (int)percent);
}

char *
joined (Json *array, const char *separator)
{
  GString *text = g_string_new (NULL);
  for (gsize i = 0; i < json_length (array); i++) {
    Json *item = json_at (array, i);
    const char *word = json_object_is_type (item, json_type_string)
                           ? json_object_get_string (item)
                           : json_object_to_json_string (item);
    g_string_append_printf (text, "%s%s", i ? separator : "", word);
  }
  return g_string_free (text, FALSE);
}
