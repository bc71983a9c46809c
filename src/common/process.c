/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/process.h"

#include <signal.h>
#include <string.h>

const char *
host_boot (void)
{
  static char *boot = NULL;
  if (boot == NULL && g_file_get_contents ("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
    g_strstrip (boot);
  return boot;
}

guint64
process_start_time (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int)pid);
  g_autofree char *text = NULL;
  if (pid <= 0 || !g_file_get_contents (path, &text, NULL, NULL))
    return 0;
  /* The second field is a name in parentheses that may itself contain anything. */
  const char *rest = strrchr (text, ')');
  if (rest == NULL)
    return 0;
  g_auto (GStrv) fields = g_strsplit (rest + 1, " ", -1);
  /* Dead, though its parent has not looked yet. */
  if (g_strv_length (fields) > 1 && (g_str_equal (fields[1], "Z") || g_str_equal (fields[1], "X")))
    return 0;
  /* Field 22 of the line is the 20th after the name; the split begins with an empty one. */
  return g_strv_length (fields) > 20 ? g_ascii_strtoull (fields[20], NULL, 10) : 0;
}

gboolean
process_is_dying (pid_t pid)
{
  static const char *const pending[] = {"\nSigPnd:\t", "\nShdPnd:\t"};
  g_autofree char *path = g_strdup_printf ("/proc/%d/status", (int)pid);
  g_autofree char *text = NULL;
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS (pending); i++) {
    const char *line = strstr (text, pending[i]);
    if (line != NULL &&
        (g_ascii_strtoull (line + strlen (pending[i]), NULL, 16) >> (SIGKILL - 1) & 1))
      return TRUE;
  }
  return FALSE;
}
