/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/disks.h"
#include "src/cli/options.h"
#include "src/common/error.h"

#include <string.h>

void
disk_arg_free (DiskArg *disk)
{
  g_free (disk->name);
  g_ptr_array_unref (disk->keys);
  g_ptr_array_unref (disk->values);
  g_free (disk);
}

const char *
disk_arg_get (const DiskArg *disk, const char *key)
{
  for (guint i = 0; i < disk->keys->len; i++)
    if (strcmp (disk->keys->pdata[i], key) == 0)
      return disk->values->pdata[i];
  return NULL;
}

gboolean
disk_arg_set (DiskArg *disk, const char *key, const char *value, GError **error)
{
  if (disk_arg_get (disk, key) != NULL)
    return fail (error, USAGE, "disk '%s' has option '%s' twice", disk->name, key);
  g_ptr_array_add (disk->keys, g_strdup (key));
  g_ptr_array_add (disk->values, g_strdup (value));
  return TRUE;
}

/* Full. The text up to the next single comma; moves *text behind it, or to NULL at the end. */
static char *
next_part (const char **text)
{
  GString *part = g_string_new (NULL);
  const char *p = *text;
  for (; *p != 0; p++) {
    if (*p == ',' && p[1] != ',')
      break;
    p += *p == ',';
    g_string_append_c (part, *p);
  }
  *text = *p == ',' ? p + 1 : NULL;
  return g_string_free (part, FALSE);
}

static gboolean
unknown_key (const char *disk, const char *key, const char *const *known, GError **error)
{
  const char *meant = nearest_name (key, known);
  g_autofree char *list = g_strjoinv (", ", (char **)known);
  fail (error, USAGE, "disk '%s': unknown option '%s'", disk, key);
  if (meant != NULL)
    return hint (error, "did you mean '%s'? a disk can have: %s", meant, list);
  return hint (error, "a disk can have: %s; a comma in a name is doubled", list);
}

static gboolean
read_option (DiskArg *disk, char *option, const char *const *known, GError **error)
{
  char *value = strchr (option, '=');
  if (*option == 0)
    return fail (error, USAGE, "disk '%s': an option is empty", disk->name);
  if (value != NULL)
    *value++ = 0;
  if (!g_strv_contains (known, option))
    return unknown_key (disk->name, option, known, error);
  if (value == NULL || *value == 0)
    return fail (error, USAGE, "disk '%s': option '%s' has no value", disk->name, option);
  return disk_arg_set (disk, option, value, error);
}

DiskArg *
disk_arg_parse (const char *text, const char *const *known, GError **error)
{
  g_autoptr (DiskArg) disk = g_new0 (DiskArg, 1);
  disk->keys = g_ptr_array_new_with_free_func (g_free);
  disk->values = g_ptr_array_new_with_free_func (g_free);
  const char *rest = text;
  disk->name = next_part (&rest);
  if (*disk->name == 0) {
    fail (error, USAGE, "'%s' names no disk", text);
    return NULL;
  }
  while (rest != NULL) {
    g_autofree char *option = next_part (&rest);
    if (!read_option (disk, option, known, error))
      return NULL;
  }
  return g_steal_pointer (&disk);
}
