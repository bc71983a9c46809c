/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/ciphers.h"

#include <gio/gio.h>
#include <string.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* ssh as the user configured it, and as it comes. */
enum { CONFIGURED, STANDARD, N_ASKED };

struct _Ciphers {
  void (*done) (const char *list, gpointer data);
  gpointer data;
  GSubprocess *asked[N_ASKED];
  char *said[N_ASKED];
  guint pending;
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

/* Full. */
static char *
list_in (const char *configuration)
{
  g_auto (GStrv) lines = g_strsplit (configuration, "\n", -1);
  for (gsize i = 0; lines[i] != NULL; i++)
    if (g_str_has_prefix (lines[i], "ciphers "))
      return g_strdup (lines[i] + strlen ("ciphers "));
  return NULL;
}

char *
ciphers_of (const char *configuration, const char *standard)
{
  g_autofree char *list = list_in (configuration), *usual = list_in (standard);
  if (list == NULL || g_strcmp0 (list, usual) != 0)
    return NULL;
  g_autofree char *ours = ordered (list);
  return strcmp (ours, list) == 0 ? NULL : g_steal_pointer (&ours);
}

static void
on_answer (GObject *source, GAsyncResult *result, gpointer data)
{
  Ciphers *ciphers = data;
  guint which = source == G_OBJECT (ciphers->asked[CONFIGURED]) ? CONFIGURED : STANDARD;
  g_subprocess_communicate_utf8_finish (G_SUBPROCESS (source), result, &ciphers->said[which], NULL,
                                        NULL);
  if (--ciphers->pending > 0)
    return;
  gboolean both = ciphers->said[CONFIGURED] != NULL && ciphers->said[STANDARD] != NULL;
  g_autofree char *list =
      both ? ciphers_of (ciphers->said[CONFIGURED], ciphers->said[STANDARD]) : NULL;
  if (ciphers->done != NULL)
    ciphers->done (list, ciphers->data);
  for (guint i = 0; i < N_ASKED; i++) {
    g_object_unref (ciphers->asked[i]);
    g_free (ciphers->said[i]);
  }
  g_free (ciphers);
}

static GSubprocess *
ask (const char *config, const char *address)
{
  const char *plain[] = {"ssh", "-G", "--", address, NULL};
  const char *with_config[] = {"ssh", "-F", config, "-G", "--", address, NULL};
  return g_subprocess_newv (config ? with_config : plain,
                            G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_SILENCE,
                            NULL);
}

Ciphers *
ciphers_ask (const Far *far, void (*done) (const char *list, gpointer data), gpointer data)
{
  g_autoptr (GSubprocess) configured = has_aes () ? ask (far->config, far->address) : NULL;
  g_autoptr (GSubprocess) standard = configured ? ask ("none", far->address) : NULL;
  if (standard == NULL)
    return NULL;
  Ciphers *ciphers = g_new0 (Ciphers, 1);
  *ciphers = (Ciphers){.done = done, .data = data, .pending = N_ASKED};
  ciphers->asked[CONFIGURED] = g_steal_pointer (&configured);
  ciphers->asked[STANDARD] = g_steal_pointer (&standard);
  for (guint i = 0; i < N_ASKED; i++)
    g_subprocess_communicate_utf8_async (ciphers->asked[i], NULL, NULL, on_answer, ciphers);
  return ciphers;
}

void
ciphers_stop (Ciphers *ciphers)
{
  if (ciphers == NULL)
    return;
  ciphers->done = NULL;
  for (guint i = 0; i < N_ASKED; i++)
    g_subprocess_force_exit (ciphers->asked[i]);
}
