/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/far.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_NAME 255

/* ssh puts the name into ProxyCommand, Match exec and %h of its configuration: nothing that a shell
 * or ssh itself reads as more than a name. */
static gboolean
is_plain (const char *text)
{
  static const char others[] = "._-:%@[]\\+";
  for (const char *c = text; *c != 0; c++)
    if (!g_ascii_isalnum (*c) && strchr (others, *c) == NULL)
      return FALSE;
  return TRUE;
}

static gboolean
check_address (const char *address, GError **error)
{
  const char *at = strrchr (address, '@');
  const char *host = at ? at + 1 : address;
  if (*host == 0 || at == address)
    return fail (error, USAGE, "'%s' names no host", address);
  if (address[0] == '-' || *host == '-') {
    fail (error, USAGE, "'%s' is no host: it begins with '-'", address);
    return hint (error, "write -H [USER@]HOST");
  }
  return (strlen (address) <= MAX_NAME && is_plain (address)) ||
         fail (error, USAGE, "'%s' is no host: it has characters that no host name has", address);
}

Far *
far_new (const char *name, const char *address, const char *config, GError **error)
{
  if (!check_address (address ? address : name, error))
    return NULL;
  Far *far = g_new0 (Far, 1);
  far->name = g_strdup (name);
  far->address = g_strdup (address ? address : name);
  far->config = g_strdup (config);
  return far;
}

Far *
far_copy (const Far *far)
{
  Far *copy = g_new0 (Far, 1);
  copy->name = g_strdup (far->name);
  copy->address = g_strdup (far->address);
  copy->config = g_strdup (far->config);
  copy->ciphers = g_strdup (far->ciphers);
  return copy;
}

void
far_free (Far *far)
{
  if (far == NULL)
    return;
  g_free (far->name);
  g_free (far->address);
  g_free (far->config);
  g_free (far->ciphers);
  g_free (far);
}

/* BatchMode: nobody is asked for a password. The ServerAlive options end a connection whose other
 * end is gone without a word. Nothing is forwarded, and no shell of ours comes near the words. */
char **
far_command (const Far *far)
{
  static const char *const always[] = {
      "BatchMode=yes",         "ConnectTimeout=20",       "ServerAliveInterval=10",
      "ServerAliveCountMax=3", "ClearAllForwardings=yes", "ForwardAgent=no",
      "ForwardX11=no",         "PermitLocalCommand=no",   "RequestTTY=no",
      "EscapeChar=none",       "RemoteCommand=none",      "LogLevel=ERROR"};
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  g_strv_builder_add (argv, "ssh");
  if (far->config != NULL)
    g_strv_builder_add_many (argv, "-F", far->config, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (always); i++)
    g_strv_builder_add_many (argv, "-o", always[i], NULL);
  g_autofree char *ciphers = g_strconcat ("Ciphers=", far->ciphers, NULL);
  if (far->ciphers != NULL)
    g_strv_builder_add_many (argv, "-o", ciphers, NULL);
  g_strv_builder_add_many (argv, "--", far->address, "rechain", "--stdio", NULL);
  return g_strv_builder_end (argv);
}
