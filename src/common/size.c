/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/size.h"
#include "src/common/error.h"

#include <errno.h>
#include <string.h>

typedef struct {
  const char *name;
  guint64 factor;
} Unit;

#define KI G_GUINT64_CONSTANT (1024)
#define KD G_GUINT64_CONSTANT (1000)

/* clang-format off */
static const Unit sizes[] = {
  {"", 1}, {"B", 1},
  {"K", KI}, {"KiB", KI}, {"KB", KD},
  {"M", KI * KI}, {"MiB", KI * KI}, {"MB", KD * KD},
  {"G", KI * KI * KI}, {"GiB", KI * KI * KI}, {"GB", KD * KD * KD},
  {"T", KI * KI * KI * KI}, {"TiB", KI * KI * KI * KI}, {"TB", KD * KD * KD * KD},
  {"P", KI * KI * KI * KI * KI}, {"PiB", KI * KI * KI * KI * KI}, {"PB", KD * KD * KD * KD * KD},
};

static const Unit durations[] = {
  {"ms", 1}, {"", 1000}, {"s", 1000}, {"m", 60 * 1000}, {"min", 60 * 1000}, {"h", 3600 * 1000},
};
/* clang-format on */

/* The whole part in integers, so that no size loses its last byte to a double. */
static gboolean
parse_units (const char *text, const Unit *units, gsize n_units, guint64 *ret_value)
{
  if (!g_ascii_isdigit (text[0]))
    return FALSE;
  char *end = NULL;
  errno = 0;
  guint64 whole = g_ascii_strtoull (text, &end, 10);
  if (errno == ERANGE)
    return FALSE;
  double fraction = 0;
  if (*end == '.') {
    if (!g_ascii_isdigit (end[1]))
      return FALSE;
    for (double weight = 0.1; g_ascii_isdigit (*++end); weight /= 10)
      fraction += weight * (*end - '0');
  }
  for (gsize i = 0; i < n_units; i++) {
    if (g_ascii_strcasecmp (end, units[i].name) != 0)
      continue;
    guint64 factor = units[i].factor;
    guint64 rest = (guint64)(fraction * (double)factor + 0.5);
    return g_uint64_checked_mul (&whole, whole, factor) &&
           g_uint64_checked_add (ret_value, whole, rest) && *ret_value <= G_MAXINT64;
  }
  return FALSE;
}

gboolean
parse_size (const char *text, guint64 *ret_bytes, GError **error)
{
  if (parse_units (text, sizes, G_N_ELEMENTS (sizes), ret_bytes))
    return TRUE;
  fail (error, USAGE, "'%s' is not a size", text);
  return hint (error, "write bytes, or a number with K, M, G, T, P (powers of 1024) or KB, MB ... "
                      "(powers of 1000), for example 512M");
}

gboolean
parse_duration (const char *text, guint64 *ret_ms, GError **error)
{
  if (parse_units (text, durations, G_N_ELEMENTS (durations), ret_ms))
    return TRUE;
  fail (error, USAGE, "'%s' is not a duration", text);
  return hint (error, "write a number with ms, s, m or h, for example 500ms or 30s");
}

char *
format_size (guint64 bytes)
{
  static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < KI)
    return g_strdup_printf ("%" G_GUINT64_FORMAT " B", bytes);
  double value = (double)bytes / (double)KI;
  gsize i = 0;
  while (value >= 1024 && i + 1 < G_N_ELEMENTS (names)) {
    value /= 1024;
    i++;
  }
  return g_strdup_printf ("%.1f %s", value, names[i]);
}

char *
format_duration (guint64 ms)
{
  guint64 s = ms / 1000;
  if (ms < 10000)
    return g_strdup_printf ("%.1fs", (double)ms / 1000);
  if (s < 60)
    return g_strdup_printf ("%us", (guint)s);
  if (s < 3600)
    return g_strdup_printf ("%um%02us", (guint)(s / 60), (guint)(s % 60));
  return g_strdup_printf ("%" G_GUINT64_FORMAT "h%02um", s / 3600, (guint)(s / 60 % 60));
}

char *
format_time (gint64 us)
{
  g_autoptr (GDateTime) time = g_date_time_new_from_unix_utc (us / G_USEC_PER_SEC);
  g_autofree char *seconds = time ? g_date_time_format (time, "%Y-%m-%dT%H:%M:%S") : g_strdup ("");
  return g_strdup_printf ("%s.%03dZ", seconds, (int)(us / 1000 % 1000));
}

char *
put_number (char *at, guint64 number, guint width)
{
  char digits[20];
  guint n = 0;
  do
    digits[n++] = (char)('0' + number % 10);
  while ((number /= 10) > 0);
  for (; width > n; width--)
    *at++ = ' ';
  while (n > 0)
    *at++ = digits[--n];
  *at = '\0';
  return at;
}
