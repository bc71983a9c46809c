/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/error.h"

#include <errno.h>

typedef struct {
  char *cause;
  char *hint;
  char *operation;
} RechainErrorPrivate;

static void
rechain_error_private_init (RechainErrorPrivate *priv)
{
  *priv = (RechainErrorPrivate){0};
}

static void
rechain_error_private_copy (const RechainErrorPrivate *from, RechainErrorPrivate *to)
{
  to->cause = g_strdup (from->cause);
  to->hint = g_strdup (from->hint);
  to->operation = g_strdup (from->operation);
}

static void
rechain_error_private_clear (RechainErrorPrivate *priv)
{
  g_clear_pointer (&priv->cause, g_free);
  g_clear_pointer (&priv->hint, g_free);
  g_clear_pointer (&priv->operation, g_free);
}

G_DEFINE_EXTENDED_ERROR (RechainError, rechain_error)

static const char *const code_names[] = {
    [FAILED] = "failed",           [USAGE] = "usage",
    [NOT_FOUND] = "not-found",     [REFUSED] = "refused",
    [PERMISSION] = "permission",   [UNREACHABLE] = "unreachable",
    [UNDONE] = "undone",           [STUCK] = "stuck",
    [TIMED_OUT] = "timeout",       [SAID_NO] = "no",
    [INTERRUPTED] = "interrupted",
};

const char *
rechain_error_code_name (RechainError code)
{
  guint i = (guint)code;
  return i < G_N_ELEMENTS (code_names) && code_names[i] ? code_names[i] : code_names[FAILED];
}

static RechainErrorPrivate *
private_of (const GError *error)
{
  return error && error->domain == RECHAIN_ERROR ? rechain_error_get_private (error) : NULL;
}

const char *
rechain_error_get_cause (const GError *error)
{
  RechainErrorPrivate *priv = private_of (error);
  return priv ? priv->cause : NULL;
}

const char *
rechain_error_get_hint (const GError *error)
{
  RechainErrorPrivate *priv = private_of (error);
  return priv ? priv->hint : NULL;
}

const char *
rechain_error_get_operation (const GError *error)
{
  RechainErrorPrivate *priv = private_of (error);
  return priv ? priv->operation : NULL;
}

gboolean
fail (GError **error, RechainError code, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  if (error != NULL)
    *error = g_error_new_valist (RECHAIN_ERROR, (int)code, format, args);
  va_end (args);
  return FALSE;
}

gboolean
fail_errno (GError **error, int errnum, const char *format, ...)
{
  RechainError code = errnum == EACCES || errnum == EPERM ? PERMISSION
                      : errnum == ENOENT                  ? NOT_FOUND
                                                          : FAILED;
  va_list args;
  va_start (args, format);
  if (error != NULL)
    *error = g_error_new_valist (RECHAIN_ERROR, (int)code, format, args);
  va_end (args);
  return because (error, "%s", g_strerror (errnum));
}

gboolean
prefix (GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  if (error != NULL && *error != NULL) {
    g_autofree char *phrase = g_strdup_vprintf (format, args);
    g_prefix_error (error, "%s: ", phrase);
  }
  va_end (args);
  return FALSE;
}

static gboolean
set_text (GError **error, gsize offset, gboolean keep, const char *format, va_list args)
{
  RechainErrorPrivate *priv = error ? private_of (*error) : NULL;
  if (priv == NULL)
    return FALSE;
  char **field = (char **)((char *)priv + offset);
  if (keep && *field != NULL)
    return FALSE;
  g_free (*field);
  *field = g_strdup_vprintf (format, args);
  return FALSE;
}

gboolean
because (GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  set_text (error, G_STRUCT_OFFSET (RechainErrorPrivate, cause), TRUE, format, args);
  va_end (args);
  return FALSE;
}

gboolean
hint (GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  set_text (error, G_STRUCT_OFFSET (RechainErrorPrivate, hint), FALSE, format, args);
  va_end (args);
  return FALSE;
}

gboolean
of_operation (GError **error, const char *operation)
{
  RechainErrorPrivate *priv = error ? private_of (*error) : NULL;
  if (priv != NULL) {
    g_free (priv->operation);
    priv->operation = g_strdup (operation);
  }
  return FALSE;
}

gboolean
recode (GError **error, RechainError code)
{
  if (error == NULL || *error == NULL)
    return FALSE;
  if ((*error)->domain == RECHAIN_ERROR) {
    (*error)->code = (int)code;
    return FALSE;
  }
  g_autoptr (GError) foreign = g_steal_pointer (error);
  return fail (error, code, "%s", foreign->message);
}
