/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/ciphers.h"

#include <gio/gio.h>
#include <string.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

struct _Ciphers {
  void (*done) (const char *list, gpointer data);
  gpointer data;
  GSubprocess *ssh;
};

static gboolean
has_aes (void)
{
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_cpu_supports ("aes") && __builtin_cpu_supports ("pclmul");
#elif defined(__aarch64__)
  return (getauxval (AT_HWCAP) & HWCAP_AES) != 0 && (getauxval (AT_HWCAP) & HWCAP_PMULL) != 0;
#else
  return FALSE;
#endif
}

static gboolean
is_gcm (const char *cipher)
{
  return g_str_has_prefix (cipher, "aes") && strstr (cipher, "-gcm@") != NULL;
}

static char *
ordered (const char *list)
{
  g_auto (GStrv) names = g_strsplit (list, ",", -1);
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  for (int gcm = TRUE; gcm >= FALSE; gcm--)
    for (gsize i = 0; names[i] != NULL; i++)
      if (is_gcm (names[i]) == gcm)
        g_strv_builder_add (builder, names[i]);
  g_auto (GStrv) order = g_strv_builder_end (builder);
  return g_strjoinv (",", order);
}

char *
ciphers_of (const char *configuration)
{
  g_auto (GStrv) lines = g_strsplit (configuration, "\n", -1);
  for (gsize i = 0; lines[i] != NULL; i++) {
    if (!g_str_has_prefix (lines[i], "ciphers "))
      continue;
    const char *list = lines[i] + strlen ("ciphers ");
    g_autofree char *ours = ordered (list);
    return strcmp (ours, list) == 0 ? NULL : g_steal_pointer (&ours);
  }
  return NULL;
}

static void
on_answer (GObject *source, GAsyncResult *result, gpointer data)
{
  Ciphers *ciphers = data;
  g_autofree char *text = NULL;
  g_subprocess_communicate_utf8_finish (G_SUBPROCESS (source), result, &text, NULL, NULL);
  g_autofree char *list = text ? ciphers_of (text) : NULL;
  if (ciphers->done != NULL)
    ciphers->done (list, ciphers->data);
  g_object_unref (ciphers->ssh);
  g_free (ciphers);
}

Ciphers *
ciphers_ask (const Far *far, void (*done) (const char *list, gpointer data), gpointer data)
{
  const char *plain[] = {"ssh", "-G", "--", far->address, NULL};
  const char *with_config[] = {"ssh", "-F", far->config, "-G", "--", far->address, NULL};
  g_autoptr (GSubprocess) ssh = NULL;
  if (has_aes ())
    ssh = g_subprocess_newv (far->config ? with_config : plain,
                             G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_SILENCE,
                             NULL);
  if (ssh == NULL)
    return NULL;
  Ciphers *ciphers = g_new0 (Ciphers, 1);
  *ciphers = (Ciphers){.done = done, .data = data, .ssh = g_object_ref (ssh)};
  g_subprocess_communicate_utf8_async (ssh, NULL, NULL, on_answer, ciphers);
  return ciphers;
}

void
ciphers_stop (Ciphers *ciphers)
{
  if (ciphers == NULL)
    return;
  ciphers->done = NULL;
  g_subprocess_force_exit (ciphers->ssh);
}
