/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Help and completion, both made from the tables of commands and options. */
#include "src/cli/print.h"

#include <stdlib.h>
#include <string.h>

#define WIDTH 80

static const struct {
  int code;
  const char *meaning;
} exits[] = {
    {0, "done (dry run: the plan is valid)"},
    {1, "failed before anything was changed"},
    {2, "usage or configuration error"},
    {3, "not found: VM, disk, layer, job, operation"},
    {4, "refused: a precondition does not hold, busy, in use"},
    {5, "no permission"},
    {6, "the monitor cannot be reached"},
    {7, "failed midway and undone: everything is as before"},
    {8, "failed midway and not undone, or interrupted: rechain recover"},
    {9, "timed out waiting; the job goes on"},
    {10, "the answer is no"},
    {130, "interrupted before anything was changed"},
};

/* ---- parts ----------------------------------------------------------------------------------- */

static void
heading (Cli *cli, const char *text, GString *out)
{
  g_autofree char *shown = text_colour (cli->colour_out, "1", text);
  g_string_append_printf (out, "\n%s\n", shown);
}

static void
two_columns (GString *out, const char *left, int width, const char *right)
{
  g_autoptr (GString) wrapped = g_string_new (NULL);
  text_wrap (wrapped, right, (guint)width + 4, WIDTH);
  if ((int)strlen (left) > width)
    g_string_append_printf (out, "  %s\n%s", left, wrapped->str);
  else
    g_string_append_printf (out, "  %-*s  %s", width, left, wrapped->str + width + 4);
}

static void
option_line (const Option *option, GString *out)
{
  g_autofree char *letter =
      option->letter ? g_strdup_printf ("-%c, ", option->letter) : g_strdup ("    ");
  gboolean optional = (option->flags & OPTION_OPTIONAL) != 0;
  g_autofree char *left =
      g_strdup_printf ("%s--%s%s%s%s", letter, option->name,
                       optional        ? "[="
                       : option->value ? " "
                                       : "",
                       option->value ? option->value : "", optional && option->value ? "]" : "");
  two_columns (out, left, 24, option->help);
}

static gboolean
is_shown (const Option *option)
{
  return (option->flags & (OPTION_HIDDEN | OPTION_NOT_BUILT)) == 0;
}

static void
global_options (GString *out)
{
  for (const Option *option = options; option < options + N_OPTIONS; option++)
    if (is_shown (option) && (option->flags & OPTION_GLOBAL))
      option_line (option, out);
}

static void
own_options (Cli *cli, const Command *command, GString *out)
{
  gboolean any = FALSE;
  for (gsize i = 0; i < N_OPTIONS; i++) {
    if (!is_shown (&options[i]) || !(command->options & OPTION_BIT (i)))
      continue;
    if (!any)
      heading (cli, "Options", out);
    any = TRUE;
    option_line (&options[i], out);
  }
}

static void
exit_codes (Cli *cli, const char *list, GString *out)
{
  g_auto (GStrv) codes = g_strsplit (list, " ", -1);
  heading (cli, "Exit codes", out);
  for (gsize i = 0; i < G_N_ELEMENTS (exits); i++) {
    g_autofree char *code = g_strdup_printf ("%d", exits[i].code);
    if (g_strv_contains ((const char *const *)codes, code))
      g_string_append_printf (out, "  %3s  %s\n", code, exits[i].meaning);
  }
}

/* ---- one command ----------------------------------------------------------------------------- */

/* One line for each way to write it. */
static void
usage (const Command *command, GString *out)
{
  g_auto (GStrv) ways = g_strsplit (command->synopsis, " | --offline", -1);
  for (guint i = 0; i == 0 || (ways[0] != NULL && ways[i] != NULL); i++)
    g_string_append_printf (out, "%s rechain %s%s%s%s\n",
                            i == 0 ? "Usage:" : "   or:", command->name,
                            command->options ? " [OPTIONS]" : "",
                            i > 0                ? " --offline"
                            : *command->synopsis ? " "
                                                 : "",
                            ways[0] ? ways[i] : "");
  g_string_append_c (out, '\n');
}

static void
command_help (Cli *cli, const Command *command, GString *out)
{
  usage (command, out);
  text_wrap (out, command->text, 0, WIDTH);
  own_options (cli, command, out);
  heading (cli, "Example", out);
  g_string_append_printf (out, "  %s\n", command->example);
  exit_codes (cli, command->exits, out);
  g_string_append (out, "\nGlobal options: rechain help\n");
}

static void
not_built_help (const Command *command, GString *out)
{
  g_string_append_printf (out, "Usage: rechain %s %s\n\n%s. Not built in this version.\n",
                          command->name, command->synopsis, command->summary);
}

static void
command_line (const Command *command, GString *out)
{
  g_autofree char *summary =
      g_strconcat (command->summary, command->run ? "" : " (not built in this version)", NULL);
  two_columns (out, command->name, 17, summary);
}

static void
family_help (const char *family, GString *out)
{
  g_autofree char *start = g_strconcat (family, " ", NULL);
  g_string_append_printf (out, "Usage: rechain %s VERB ...\n\n", family);
  for (const Command *command = commands; command->name != NULL; command++)
    if (g_str_has_prefix (command->name, start))
      command_line (command, out);
}

/* ---- everything ------------------------------------------------------------------------------ */

static void
overview (Cli *cli, GString *out)
{
  g_autoptr (GString) missing = g_string_new (NULL);
  g_string_append (out, "Usage: rechain [OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]\n"
                        "Changes the backing chain of a running QEMU disk, and takes it back when "
                        "it fails.\n\n"
                        "VM is a name from the configuration, or the address of a QMP monitor: a "
                        "path with a\n/ in it, unix:PATH or tcp:HOST:PORT.\n");
  heading (cli, "Commands", out);
  for (const Command *command = commands; command->name != NULL; command++) {
    if (command->run != NULL)
      command_line (command, out);
    else
      g_string_append_printf (missing, "%s%s", missing->len ? ", " : "", command->name);
  }
  heading (cli, "Options", out);
  global_options (out);
  g_string_append_c (out, '\n');
  if (missing->len > 0) {
    g_autofree char *sentence = g_strdup_printf ("Not built in this version: %s.", missing->str);
    text_wrap (out, sentence, 0, WIDTH);
  }
  g_string_append (out, "'rechain help COMMAND' says more; see also rechain(1).\n");
}

/* ---- for programs ---------------------------------------------------------------------------- */

static Json *
options_json (OptionSet wanted, OptionFlags flags)
{
  Json *list = json_object_new_array ();
  for (gsize i = 0; i < N_OPTIONS; i++) {
    const Option *option = &options[i];
    gboolean takes = (wanted & OPTION_BIT (i)) != 0 || (option->flags & flags) != 0;
    char letter[] = {option->letter, 0};
    if (takes && !(option->flags & OPTION_HIDDEN))
      json_object_array_add (
          list, json_make ("name", json_str (option->name), "letter",
                           option->letter ? json_str (letter) : NULL, "value",
                           json_str (option->value), "summary", json_str (option->help), "built",
                           json_flag (!(option->flags & OPTION_NOT_BUILT)), NULL));
  }
  return list;
}

static gboolean
print_table (Cli *cli, GError **error)
{
  Json *list = json_object_new_array ();
  for (const Command *command = commands; command->name != NULL; command++)
    json_object_array_add (list, json_make ("name", json_str (command->name), "synopsis",
                                            json_str (command->synopsis), "summary",
                                            json_str (command->summary), "built",
                                            json_flag (command->run != NULL), "options",
                                            options_json (command->options, 0), NULL));
  g_autoptr (Json) json = json_make ("schema", json_str ("rechain.help/1"), "options",
                                     options_json (0, OPTION_GLOBAL), "commands", list, NULL);
  g_autofree char *line = json_line (json);
  return out_document (cli, line, error);
}

/* ---- completion ------------------------------------------------------------------------------ */

static void
completion_options (OptionSet wanted, OptionFlags flags, GString *out)
{
  const char *blank = "";
  for (gsize i = 0; i < N_OPTIONS; i++) {
    if (!is_shown (&options[i]) || !((wanted & OPTION_BIT (i)) || (options[i].flags & flags)))
      continue;
    g_string_append_printf (out, "%s--%s", blank, options[i].name);
    blank = " ";
  }
}

static void
completion_rows (GString *out)
{
  for (const Command *command = commands; command->name != NULL; command++) {
    if (command->run == NULL || command->options == 0)
      continue;
    g_string_append_printf (out, "    '%s') echo \"", command->name);
    completion_options (command->options, 0, out);
    g_string_append (out, "\" ;;\n");
  }
}

static void
completion_verbs (GString *out)
{
  const char *last = "";
  for (const Command *command = commands; command->name != NULL; command++) {
    const char *verb = strchr (command->name, ' ');
    if (command->run == NULL)
      continue;
    g_autofree char *first = g_strndup (command->name, strcspn (command->name, " "));
    const char *family = g_intern_string (first);
    if (verb == NULL)
      continue;
    if (strcmp (family, last) != 0)
      g_string_append_printf (out, "%s    %s) echo \"", *last ? "\" ;;\n" : "", family);
    g_string_append_printf (out, "%s%s", strcmp (family, last) == 0 ? " " : "", verb + 1);
    last = family;
  }
  g_string_append (out, "\" ;;\n");
}

static void
completion_words (GString *out)
{
  const char *last = "";
  for (const Command *command = commands; command->name != NULL; command++) {
    g_autofree char *first = g_strndup (command->name, strcspn (command->name, " "));
    const char *word = g_intern_string (first);
    if (command->run == NULL || strcmp (word, last) == 0)
      continue;
    g_string_append_printf (out, "%s%s", *last ? " " : "", word);
    last = word;
  }
}

static gboolean
print_completion (Cli *cli, GError **error)
{
  g_autoptr (GString) out = g_string_new (
      "# bash completion of rechain; made by 'rechain help --completion', do not edit\n\n"
      "_rechain_options ()\n{\n  case \"$1\" in\n");
  completion_rows (out);
  g_string_append (out, "  esac\n  echo \"");
  completion_options (0, OPTION_GLOBAL, out);
  g_string_append (out, "\"\n}\n\n");
  g_string_append (out, "_rechain_verbs ()\n{\n  case \"$1\" in\n");
  completion_verbs (out);
  g_string_append (out, "  esac\n}\n\n"
                        "_rechain ()\n{\n"
                        "  local word=${COMP_WORDS[COMP_CWORD]} first= second= i choices=\n"
                        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
                        "    [[ ${COMP_WORDS[i]} == -* ]] && continue\n"
                        "    if [[ -z $first ]]; then first=${COMP_WORDS[i]}\n"
                        "    elif [[ -z $second ]]; then second=${COMP_WORDS[i]}; fi\n"
                        "  done\n"
                        "  local verbs=$(_rechain_verbs \"$first\")\n"
                        "  local command=$first${verbs:+ $second}\n"
                        "  if [[ $word == -* ]]; then choices=$(_rechain_options \"$command\")\n"
                        "  elif [[ -z $first || $first == help && -z $second ]]; then choices=\"");
  completion_words (out);
  g_string_append (out, "\"\n"
                        "  elif [[ -n $verbs && -z $second ]]; then choices=$verbs\n"
                        "  fi\n"
                        "  COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n"
                        "}\n\ncomplete -o default -F _rechain rechain\n");
  return out_text (cli, out->str, error);
}

/* ---- the command ----------------------------------------------------------------------------- */

gboolean
print_help (Cli *cli, GPtrArray *words, GError **error)
{
  g_autoptr (GString) out = g_string_new (NULL);
  g_autofree char *verbs = words->len == 1 ? command_verbs (words->pdata[0]) : NULL;
  guint used = 0;
  const Command *command =
      words->len > 0 && verbs == NULL ? command_find (words, &used, error) : NULL;
  if (words->len == 0)
    overview (cli, out);
  else if (verbs != NULL)
    family_help (words->pdata[0], out);
  else if (command == NULL)
    return FALSE;
  else if (command->run == NULL)
    not_built_help (command, out);
  else
    command_help (cli, command, out);
  return out_text (cli, out->str, error);
}

gboolean
run_help (Cli *cli, GError **error)
{
  if (args_has (&cli->args, OPT_COMPLETION))
    return print_completion (cli, error);
  if (cli->output == OUTPUT_JSON)
    return print_table (cli, error);
  g_autoptr (GPtrArray) words = g_ptr_array_new ();
  for (guint i = 0; i < cli->n_words; i++)
    g_ptr_array_add (words, cli->words[i]);
  return print_help (cli, words, error);
}
