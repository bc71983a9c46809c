/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/options.h"
#include "src/common/error.h"

#include <string.h>

const Option options[N_OPTIONS] = {
#define X(id, letter, name, value, flags, help) [OPT_##id] = {letter, name, value, flags, help},
    OPTIONS (X)
#undef X
};

/* ---- what was meant -------------------------------------------------------------------------- */

/* Insertions, deletions, changes and swaps of neighbours between two short words. */
static guint
edit_distance (const char *a, const char *b)
{
  gsize n = strlen (a), m = strlen (b), width = m + 1;
  g_autofree guint *d = g_new0 (guint, (n + 1) * width);
  for (gsize i = 0; i <= n; i++)
    d[i * width] = (guint)i;
  for (gsize j = 0; j <= m; j++)
    d[j] = (guint)j;
  for (gsize i = 1; i <= n; i++)
    for (gsize j = 1; j <= m; j++) {
      guint change = d[(i - 1) * width + j - 1] + (a[i - 1] != b[j - 1]);
      guint step = MIN (d[(i - 1) * width + j], d[i * width + j - 1]) + 1;
      guint best = MIN (change, step);
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        best = MIN (best, d[(i - 2) * width + j - 2] + 1);
      d[i * width + j] = best;
    }
  return d[n * width + m];
}

const char *
nearest_name (const char *text, const char *const *names)
{
  if (strlen (text) > 64)
    return NULL;
  const char *nearest = NULL;
  guint least = strlen (text) > 4 ? 3 : 2; /* one slip in a short word, two in a longer one */
  for (gsize i = 0; names[i] != NULL; i++) {
    guint distance = edit_distance (text, names[i]);
    if (distance < least && distance < strlen (names[i])) {
      least = distance;
      nearest = names[i];
    }
  }
  return nearest;
}

/* ---- reading a command line ------------------------------------------------------------------ */

static const Option *
option_by_name (const char *name, gsize length)
{
  for (gsize i = 0; i < N_OPTIONS; i++)
    if (strlen (options[i].name) == length && strncmp (options[i].name, name, length) == 0)
      return &options[i];
  return NULL;
}

/* 'snapshot show' says with --xml how to print, all others from where to read. */
static const Option *
option_here (const Args *args, const Option *option)
{
  gboolean shows = args->words->len >= 2 && strcmp (args->words->pdata[0], "snapshot") == 0 &&
                   strcmp (args->words->pdata[1], "show") == 0;
  return shows && option == &options[OPT_XML] ? &options[OPT_AS_XML] : option;
}

static const Option *
option_by_letter (char letter)
{
  for (gsize i = 0; i < N_OPTIONS; i++)
    if (options[i].letter == letter)
      return &options[i];
  return NULL;
}

static gboolean
unknown_option (const char *name, gsize length, GError **error)
{
  g_autofree char *text = g_strndup (name, length);
  const char *names[N_OPTIONS + 1] = {0};
  gsize n = 0;
  for (gsize i = 0; i < N_OPTIONS; i++)
    if (!(options[i].flags & OPTION_HIDDEN))
      names[n++] = options[i].name;
  const char *meant = nearest_name (text, names);
  fail (error, USAGE, "unknown option '--%s'", text);
  if (meant != NULL)
    return hint (error, "did you mean '--%s'?", meant);
  return hint (error, "'rechain help COMMAND' lists the options of a command");
}

static gboolean
set_option (Args *args, const Option *option, const char *value, GError **error)
{
  OptionId id = (OptionId)(option - options);
  args->counts[id]++;
  if (option->value == NULL)
    return value == NULL || fail (error, USAGE, "option '--%s' takes no value", option->name);
  if (value == NULL && (option->flags & OPTION_OPTIONAL))
    return TRUE;
  if (value == NULL) {
    fail (error, USAGE, "option '--%s' needs a value", option->name);
    return hint (error, "write --%s %s", option->name, option->value);
  }
  if (*value == 0)
    return fail (error, USAGE, "the value of option '--%s' is empty", option->name);
  Given given = {.id = id, .value = value};
  args->values[id] = value;
  g_array_append_val (args->given, given);
  return TRUE;
}

/* @text is what follows "--"; @next the argument after it. */
static gboolean
read_long (Args *args, const char *text, const char *next, gboolean *ret_used_next, GError **error)
{
  gsize length = strcspn (text, "=");
  const Option *option = option_by_name (text, length);
  if (option == NULL)
    return unknown_option (text, length, error);
  option = option_here (args, option);
  if (text[length] == '=')
    return set_option (args, option, text + length + 1, error);
  gboolean wants = option->value != NULL && !(option->flags & OPTION_OPTIONAL);
  *ret_used_next = wants && next != NULL;
  return set_option (args, option, wants ? next : NULL, error);
}

/* @text is what follows "-": flags, of which the last may have a value joined to it or after it. */
static gboolean
read_letters (Args *args, const char *text, const char *next, gboolean *ret_used_next,
              GError **error)
{
  for (; *text != 0; text++) {
    const Option *option = option_by_letter (*text);
    if (option == NULL) {
      g_autofree char *letter =
          g_utf8_validate (text, -1, NULL) ? g_utf8_substring (text, 0, 1) : g_strndup (text, 1);
      fail (error, USAGE, "unknown option '-%s'", letter);
      return hint (error, "'rechain help COMMAND' lists the options of a command");
    }
    if (option->value == NULL) {
      args->counts[option - options]++;
      continue;
    }
    *ret_used_next = text[1] == 0 && next != NULL;
    return set_option (args, option, text[1] ? text + 1 : next, error);
  }
  return TRUE;
}

static gboolean
read_word (Args *args, char *word, GError **error)
{
  g_ptr_array_add (args->words, word);
  if (*word != 0)
    return TRUE;
  return fail (error, USAGE, "argument %u is empty", args->words->len);
}

gboolean
args_parse (Args *args, int argc, char **argv, GError **error)
{
  *args = (Args){.words = g_ptr_array_new (), .given = g_array_new (FALSE, FALSE, sizeof (Given))};
  g_autoptr (GError) first = NULL;
  gboolean only_words = FALSE;
  for (int i = 1; i < argc; i++) {
    GError **problem = first ? NULL : &first;
    const char *next = i + 1 < argc ? argv[i + 1] : NULL;
    gboolean used_next = FALSE;
    if (only_words || argv[i][0] != '-' || argv[i][1] == 0)
      read_word (args, argv[i], problem);
    else if (strcmp (argv[i], "--") == 0)
      only_words = TRUE;
    else if (argv[i][1] == '-')
      read_long (args, argv[i] + 2, next, &used_next, problem);
    else
      read_letters (args, argv[i] + 1, next, &used_next, problem);
    i += used_next;
  }
  if (first == NULL)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&first));
  return FALSE;
}

void
args_clear (Args *args)
{
  g_clear_pointer (&args->words, g_ptr_array_unref);
  g_clear_pointer (&args->given, g_array_unref);
}

gboolean
args_has (const Args *args, OptionId id)
{
  return args->counts[id] > 0;
}

const char *
args_value (const Args *args, OptionId id)
{
  return args->values[id];
}
