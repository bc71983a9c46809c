/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/show-map.h"

#include "src/common/size.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define STRIP_WIDTH 64u /* characters, where stdout is no terminal */
#define MAX_WIDTH   512u
#define PIECE       (64u << 10) /* bytes written at once */
#define N_LETTERS   26

/* Deeper layers share the last sign. */
static char
letter_of (int depth)
{
  return depth < N_LETTERS ? (char)('A' + depth) : '#';
}

/* ---- the strip ------------------------------------------------------------------------------- */

/* What a slice holds: by layer, data and zeros apart; the last is what nobody has. */
enum { DATA = 0, ZEROS = N_LETTERS + 1, NOBODY = 2 * (N_LETTERS + 1), N_HOLDERS };

static guint
holder_of (const RechainExtent *extent)
{
  if (extent->depth < 0)
    return NOBODY;
  guint layer = (guint)MIN (extent->depth, N_LETTERS);
  return (extent->data ? DATA : ZEROS) + layer;
}

static char
sign_of (guint holder)
{
  if (holder == NOBODY)
    return '.';
  char letter = letter_of ((int)(holder % ZEROS));
  return holder < ZEROS ? letter : g_ascii_tolower (letter);
}

static char
sign_of_most (const guint64 *held)
{
  guint most = NOBODY;
  for (guint i = 0; i < N_HOLDERS; i++)
    if (held[i] > held[most])
      most = i;
  return sign_of (most);
}

static RechainExtent
extent_at (RechainMap *map, guint i)
{
  RechainExtent extent;
  rechain_map_get_extent (map, i, &extent);
  return extent;
}

/* Where slice @i begins: the slices share the bytes as evenly as they can. */
static guint64
slice_start (guint64 start, guint64 length, guint width, guint i)
{
  return start + length / width * i + length % width * i / width;
}

/* One character for each of @width slices of what the map covers: the letter of the layer that has
 * most of it ('A' is the active one), small where that is zeros, '.' where no layer has it. Full.
 */
static char *
map_strip (RechainMap *map, guint width)
{
  guint n = rechain_map_get_n_extents (map), at = 0;
  g_autoptr (GString) strip = g_string_new (NULL);
  if (n == 0)
    return g_strdup ("");
  RechainExtent first = extent_at (map, 0), last = extent_at (map, n - 1);
  guint64 length = last.start + last.length - first.start;
  width = (guint)MIN (width, length);
  for (guint i = 0; i < width; i++) {
    guint64 held[N_HOLDERS] = {0};
    guint64 from = slice_start (first.start, length, width, i);
    guint64 to = slice_start (first.start, length, width, i + 1);
    for (; at < n; at++) {
      RechainExtent extent = extent_at (map, at);
      guint64 end = extent.start + extent.length;
      held[holder_of (&extent)] += MIN (end, to) - MAX (extent.start, from);
      if (end >= to)
        break;
    }
    if (at < n && extent_at (map, at).start + extent_at (map, at).length == to)
      at++;
    g_string_append_c (strip, sign_of_most (held));
  }
  return g_string_free (g_steal_pointer (&strip), FALSE);
}

static guint
strip_width (void)
{
  struct winsize size;
  if (isatty (STDOUT_FILENO) && ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 8)
    return MIN (size.ws_col - 1u, MAX_WIDTH);
  return STRIP_WIDTH;
}

/* ---- totals ---------------------------------------------------------------------------------- */

typedef struct {
  guint64 allocated, data, zero;
} Total;

static void
add_total (Table *table, const char *letter, const Total *total, const char *file)
{
  g_autofree char *allocated = format_size (total->allocated);
  g_autofree char *data = format_size (total->data);
  g_autofree char *zero = format_size (total->zero);
  table_add (table, NULL, letter, allocated, data, zero, file);
}

static void
put_totals (Cli *cli, RechainMap *map, char **files, GString *out)
{
  guint n = g_strv_length (files);
  g_autofree Total *totals = g_new0 (Total, n + 1);
  for (guint i = 0; i < rechain_map_get_n_extents (map); i++) {
    RechainExtent extent = extent_at (map, i);
    Total *total = totals + (extent.depth < 0 ? n : (guint)extent.depth);
    total->allocated += extent.length;
    total->data += extent.data ? extent.length : 0;
    total->zero += extent.zero ? extent.length : 0;
  }
  g_autoptr (Table) table = table_new (cli, "LAYER >ALLOCATED >DATA >ZERO FILE");
  for (guint i = 0; i < n; i++) {
    char letter[] = {letter_of ((int)i), 0};
    add_total (table, letter, totals + i, files[i]);
  }
  if (totals[n].allocated > 0)
    add_total (table, ".", totals + n, "(no layer)");
  table_print (table, out);
}

/* ---- the extents ----------------------------------------------------------------------------- */

static const char *
kind_of (const RechainExtent *extent)
{
  return extent->depth < 0 ? "none" : extent->data ? extent->zero ? "data,zero" : "data" : "zero";
}

static void
put_extent (const RechainExtent *extent, guint width, GString *out)
{
  char text[128], *at = put_number (text, extent->start, width);
  at = put_number (g_stpcpy (at, "  "), extent->length, width);
  at = g_stpcpy (at, "  .     ");
  char *column = at;
  if (extent->depth < 0)
    *at++ = '-';
  else {
    at[-6] = letter_of (extent->depth);
    at = put_number (at, (guint64)extent->depth, 0);
  }
  while (at < column + strlen ("DEPTH  "))
    *at++ = ' ';
  at = g_stpcpy (g_stpcpy (at, kind_of (extent)), "\n");
  g_string_append_len (out, text, at - text);
}

static gboolean
flush (Cli *cli, GString *out, gsize above, GError **error)
{
  if (out->len <= above)
    return TRUE;
  gboolean ok = out_text (cli, out->str, error);
  g_string_truncate (out, 0);
  return ok;
}

/* Not a table of libsmartcols, which would hold every cell of it. */
static gboolean
out_extents (Cli *cli, RechainMap *map, GString *out, GError **error)
{
  g_autofree char *size =
      g_strdup_printf ("%" G_GUINT64_FORMAT, rechain_map_get_virtual_size (map));
  guint width = (guint)MAX (strlen (size), strlen ("LENGTH"));
  g_string_append_printf (out, "%*s  %*s  LAYER DEPTH  KIND\n", (int)width, "START", (int)width,
                          "LENGTH");
  for (guint i = 0; i < rechain_map_get_n_extents (map); i++) {
    RechainExtent extent = extent_at (map, i);
    put_extent (&extent, width, out);
    if (!flush (cli, out, PIECE, error))
      return FALSE;
  }
  return flush (cli, out, 0, error);
}

static gboolean
out_map_text (Cli *cli, RechainMap *map, GError **error)
{
  g_autoptr (GString) out = g_string_sized_new (PIECE + 256);
  g_auto (GStrv) files = rechain_map_get_layers (map);
  g_autofree char *strip = map_strip (map, strip_width ());
  g_string_append_printf (out, "%s\n\n", strip);
  put_totals (cli, map, files, out);
  g_string_append_c (out, '\n');
  return out_extents (cli, map, out, error);
}

/* ---- the document ---------------------------------------------------------------------------- */

typedef struct {
  Cli *cli;
  GError **error;
} Out;

static gboolean
write_piece (const char *text, gsize length, gpointer data)
{
  Out *out = data;
  return out_text (out->cli, text, out->error);
}

gboolean
out_map (Cli *cli, RechainMap *map, GError **error)
{
  Out out = {cli, error};
  if (cli->output == OUTPUT_JSON)
    return rechain_map_write_json (map, write_piece, &out);
  return out_map_text (cli, map, error);
}
