/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/progress.h"
#include "src/cli/print.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PLAIN_INTERVAL (10 * G_USEC_PER_SEC)
#define MAX_BAR_WIDTH  30

struct _Progress {
  Cli *cli;
  RechainOperation *operation; /* NULL: it is somewhere else, and tells through progress_feed() */
  Json *fed;                   /* what it told last */
  gulong notify;
  gboolean changed;   /* since it was last shown */
  gboolean on_screen; /* a bar stands there */
  char *step;         /* of the last plain line or object: "state/step" */
  gint64 last_plain;  /* monotonic, microseconds */
};

/* One look at the operation. */
typedef struct {
  Json *json;
  const char *state, *step, *disk;
  guint64 current, total, rate;
  gboolean has_eta;
  guint64 eta_ms;
} Sight;

static void
sight_clear (Sight *sight)
{
  g_clear_pointer (&sight->json, json_object_put);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Sight, sight_clear)

static guint64
amount_of (Json *json, const char *key)
{
  return (guint64)MAX (json_get_real (json, key), 0);
}

static const char *
word_of (Json *json, const char *key)
{
  const char *word = json_get_str (json, key);
  return word ? word : "";
}

static Json *
look (Progress *progress)
{
  if (progress->operation == NULL)
    return json_dup (progress->fed);
  g_autofree char *line = rechain_operation_progress_to_json (progress->operation);
  return json_parse (line, -1);
}

static void
sight_take (Sight *sight, Progress *progress)
{
  Json *json = look (progress);
  *sight = (Sight){
      .json = json,
      .state = word_of (json, "state"),
      .step = word_of (json, "step"),
      .disk = word_of (json, "disk"),
      .current = amount_of (json, "current"),
      .total = amount_of (json, "total"),
      .rate = amount_of (json, "rate"),
      .has_eta = json_get (json, "eta") != NULL,
      .eta_ms = (guint64)(MAX (json_get_real (json, "eta"), 0) * 1000),
  };
}

/* ---- words ----------------------------------------------------------------------------------- */

/* Full. "stream vda", or the state where no step has begun. */
static char *
where_text (const Sight *sight)
{
  g_autofree char *text = g_strdup_printf ("%s%s%s", *sight->step ? sight->step : sight->state,
                                           *sight->disk ? " " : "", sight->disk);
  return text_escape (text);
}

/* Full. " 45%  7.2 GiB of 16.0 GiB  120.0 MiB/s  1m05s left", as far as known. */
static char *
amount_text (const Sight *sight)
{
  if (sight->total == 0)
    return g_strdup ("");
  g_autoptr (GString) text = g_string_new (NULL);
  g_autofree char *percent = percent_of (sight->current, sight->total);
  g_autofree char *current = format_size (sight->current);
  g_autofree char *total = format_size (sight->total);
  g_autofree char *rate = format_size (sight->rate);
  g_autofree char *eta = format_duration (sight->eta_ms);
  g_string_append_printf (text, "%4s  %s of %s", percent, current, total);
  if (sight->rate > 0)
    g_string_append_printf (text, "  %s/s", rate);
  if (sight->has_eta)
    g_string_append_printf (text, "  %s left", eta);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
plain_line (Cli *cli, const Sight *sight)
{
  g_autofree char *where = where_text (sight);
  g_autofree char *amount = amount_text (sight);
  say (cli, "%s: %s%s%s", sight->state, where, *amount ? " " : "", amount);
}

/* ---- the bar --------------------------------------------------------------------------------- */

static int
terminal_width (void)
{
  struct winsize size;
  return ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Full. "[####....] " of a width that is left over; empty where little is. */
static char *
bar_text (const Sight *sight, int room)
{
  int width = MIN (room - 3, MAX_BAR_WIDTH);
  if (sight->total == 0 || width < 5)
    return g_strdup ("");
  double part = (double)MIN (sight->current, sight->total) / (double)sight->total;
  int filled = (int)(part * width);
  g_autofree char *full = g_strnfill ((gsize)filled, '#');
  g_autofree char *rest = g_strnfill ((gsize)(width - filled), '.');
  return g_strdup_printf ("[%s%s] ", full, rest);
}

static void
draw_bar (Progress *progress, const Sight *sight)
{
  int width = terminal_width () - 1;
  g_autofree char *where = where_text (sight);
  g_autofree char *amount = amount_text (sight);
  int used = (int)(g_utf8_strlen (where, -1) + 1 + g_utf8_strlen (amount, -1));
  g_autofree char *bar = bar_text (sight, width - used);
  g_autofree char *line = g_strconcat (where, " ", bar, amount, NULL);
  g_autofree char *cut = g_utf8_substring (line, 0, MIN (g_utf8_strlen (line, -1), MAX (width, 1)));
  fprintf (stderr, "\r%s\033[K", cut);
  fflush (stderr);
  progress->on_screen = TRUE;
}

void
progress_clear (Progress *progress)
{
  if (progress->on_screen)
    fputs ("\r\033[K", stderr);
  fflush (stderr);
  progress->on_screen = FALSE;
}

/* ---- when ------------------------------------------------------------------------------------ */

static gboolean
step_changed (Progress *progress, const Sight *sight)
{
  g_autofree char *step = g_strdup_printf ("%s/%s", sight->state, sight->step);
  if (g_strcmp0 (step, progress->step) == 0)
    return FALSE;
  g_free (progress->step);
  progress->step = g_steal_pointer (&step);
  return TRUE;
}

static void
show_plain (Progress *progress, const Sight *sight)
{
  gint64 now = g_get_monotonic_time ();
  gboolean due = now - progress->last_plain >= PLAIN_INTERVAL;
  if (!step_changed (progress, sight) && !due)
    return;
  progress->last_plain = now;
  plain_line (progress->cli, sight);
}

static void
show_object (const Sight *sight)
{
  g_autofree char *line = json_line (sight->json);
  fprintf (stderr, "%s\n", line);
}

static void
show_now (Progress *progress)
{
  g_auto (Sight) sight = {0};
  sight_take (&sight, progress);
  progress->changed = FALSE;
  if (progress->cli->server != NULL) {
    g_autofree char *line = json_line (sight.json);
    rechain_server_tell_progress (progress->cli->server, line);
  } else if (progress->cli->progress == PROGRESS_BAR)
    draw_bar (progress, &sight);
  else if (progress->cli->progress == PROGRESS_PLAIN)
    show_plain (progress, &sight);
  else
    show_object (&sight);
}

gboolean
progress_is_known (Progress *progress)
{
  return progress->operation != NULL || progress->fed != NULL;
}

/* For whom it is done elsewhere gets objects, and shows them as is wanted there. */
static ProgressMode
mode_of (Progress *progress)
{
  return progress->cli->server ? PROGRESS_JSON : progress->cli->progress;
}

void
progress_tick (Progress *progress)
{
  ProgressMode mode = mode_of (progress);
  if (mode == PROGRESS_NONE || (mode == PROGRESS_JSON && !progress->changed))
    return;
  if (progress_is_known (progress))
    show_now (progress);
}

void
progress_say (Progress *progress)
{
  g_auto (Sight) sight = {0};
  sight_take (&sight, progress);
  progress_clear (progress);
  if (progress->cli->progress == PROGRESS_JSON && progress->cli->server == NULL)
    show_object (&sight);
  else
    plain_line (progress->cli, &sight);
}

gboolean
progress_feed (Progress *progress, const char *object)
{
  g_autoptr (Json) json = json_parse (object, -1);
  if (!json_object_is_type (json, json_type_object))
    return FALSE;
  gboolean moved =
      g_strcmp0 (json_get_str (json, "step"), json_get_str (progress->fed, "step")) != 0 ||
      g_strcmp0 (json_get_str (json, "state"), json_get_str (progress->fed, "state")) != 0;
  json_object_put (progress->fed);
  progress->fed = g_steal_pointer (&json);
  progress->changed = TRUE;
  if (moved &&
      (progress->cli->progress == PROGRESS_JSON || progress->cli->progress == PROGRESS_PLAIN))
    show_now (progress);
  return TRUE;
}

/* A step may be over before the next tick; programs and logs see it all the same. */
static void
on_notify (GObject *operation, GParamSpec *property, gpointer data)
{
  Progress *progress = data;
  ProgressMode mode = mode_of (progress);
  progress->changed = TRUE;
  gboolean is_step = strcmp (property->name, "step") == 0 || strcmp (property->name, "state") == 0;
  if (is_step && (mode == PROGRESS_JSON || mode == PROGRESS_PLAIN))
    show_now (progress);
}

Progress *
progress_new (Cli *cli, RechainOperation *operation)
{
  Progress *progress = g_new0 (Progress, 1);
  progress->cli = cli;
  progress->last_plain = g_get_monotonic_time ();
  if (operation == NULL)
    return progress;
  progress->operation = g_object_ref (operation);
  progress->notify = g_signal_connect (operation, "notify", G_CALLBACK (on_notify), progress);
  return progress;
}

void
progress_free (Progress *progress)
{
  progress_clear (progress);
  if (progress->operation != NULL)
    g_signal_handler_disconnect (progress->operation, progress->notify);
  g_clear_object (&progress->operation);
  json_object_put (progress->fed);
  g_free (progress->step);
  g_free (progress);
}
