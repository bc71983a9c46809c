/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/schema.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_HOPS 16 /* arrays of arrays, alternates of alternates */

struct _QmpSchema {
  Json *json;
  GHashTable *types; /* name -> entry, both borrowed from json */
};

static gboolean
has_kind (Json *entry, const char *kind)
{
  return g_strcmp0 (json_get_str (entry, "meta-type"), kind) == 0;
}

static gboolean
add_entry (QmpSchema *schema, gsize i, GError **error)
{
  Json *entry = json_at (schema->json, i);
  const char *name = json_get_str (entry, "name");
  if (name == NULL || json_get_str (entry, "meta-type") == NULL)
    return fail (error, FAILED, "malformed schema: entry %" G_GSIZE_FORMAT " has no name or kind",
                 i);
  if (!g_hash_table_contains (schema->types, name))
    g_hash_table_insert (schema->types, (gpointer)name, entry);
  return TRUE;
}

QmpSchema *
qmp_schema_new (Json *json, GError **error)
{
  if (json_length (json) == 0) {
    fail (error, FAILED, "malformed schema: not a list of types");
    return NULL;
  }
  g_autoptr (QmpSchema) schema = g_new0 (QmpSchema, 1);
  schema->json = json_dup (json);
  schema->types = g_hash_table_new (g_str_hash, g_str_equal);
  for (gsize i = 0; i < json_length (json); i++)
    if (!add_entry (schema, i, error))
      return NULL;
  return g_steal_pointer (&schema);
}

void
qmp_schema_free (QmpSchema *schema)
{
  if (schema == NULL)
    return;
  g_hash_table_unref (schema->types);
  json_object_put (schema->json);
  g_free (schema);
}

/* The element of array @list whose @key is @value; borrowed, nullable. */
static Json *
find (Json *list, const char *key, const char *value)
{
  for (gsize i = 0; i < json_length (list); i++)
    if (g_strcmp0 (json_get_str (json_at (list, i), key), value) == 0)
      return json_at (list, i);
  return NULL;
}

static Json *
type_of (QmpSchema *schema, Json *entry, const char *key)
{
  const char *name = json_get_str (entry, key);
  return name ? g_hash_table_lookup (schema->types, name) : NULL;
}

/* The first member of an alternate that may be an object: "BlockdevRef" is one, or a name. */
static Json *
object_of_alternate (QmpSchema *schema, Json *alternate)
{
  Json *members = json_get (alternate, "members");
  for (gsize i = 0; i < json_length (members); i++) {
    Json *type = type_of (schema, json_at (members, i), "type");
    if (has_kind (type, "object"))
      return type;
  }
  return NULL;
}

/* The object behind @type: elements of arrays, objects of alternates. */
static Json *
object_behind (QmpSchema *schema, Json *type)
{
  for (int hops = 0; hops < MAX_HOPS && type != NULL; hops++) {
    if (has_kind (type, "object"))
      return type;
    type = has_kind (type, "array")       ? type_of (schema, type, "element-type")
           : has_kind (type, "alternate") ? object_of_alternate (schema, type)
                                          : NULL;
  }
  return NULL;
}

/* One step of a path: the type of member @step, or of variant VALUE where @step is "tag=VALUE". */
static gboolean
descend (QmpSchema *schema, Json **type, const char *step)
{
  Json *object = object_behind (schema, *type);
  const char *equals = strchr (step, '=');
  if (equals == NULL) {
    Json *member = find (json_get (object, "members"), "name", step);
    *type = type_of (schema, member, "type");
    return member != NULL;
  }
  g_autofree char *tag = g_strndup (step, (gsize)(equals - step));
  if (g_strcmp0 (json_get_str (object, "tag"), tag) != 0)
    return FALSE;
  Json *variant = find (json_get (object, "variants"), "case", equals + 1);
  *type = type_of (schema, variant, "type");
  return variant != NULL;
}

gboolean
qmp_schema_has (QmpSchema *schema, const char *command, const char *path)
{
  Json *entry = g_hash_table_lookup (schema->types, command);
  if (!has_kind (entry, "command"))
    return FALSE;
  if (path == NULL)
    return TRUE;
  g_auto (GStrv) steps = g_strsplit (path, ".", -1);
  Json *type = type_of (schema, entry, "arg-type");
  for (guint i = 0; steps[i] != NULL; i++)
    if (!descend (schema, &type, steps[i]))
      return FALSE;
  return TRUE;
}
