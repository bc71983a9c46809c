/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/json.h"

#include <string.h>

/* A value that json_make writes as null; compared by address. */
static char null_marker;
#define NULL_MARKER ((Json *)(void *)&null_marker)

Json *
json_null (void)
{
  return NULL_MARKER;
}

void
json_set (Json *object, const char *key, Json *take_value)
{
  if (take_value != NULL)
    json_object_object_add (object, key, take_value == NULL_MARKER ? NULL : take_value);
}

Json *
json_make (const char *first_key, ...)
{
  Json *object = json_object_new_object ();
  va_list args;
  va_start (args, first_key);
  for (const char *key = first_key; key != NULL; key = va_arg (args, const char *))
    json_set (object, key, va_arg (args, Json *));
  va_end (args);
  return object;
}

Json *
json_list (Json *first, ...)
{
  Json *array = json_object_new_array ();
  va_list args;
  va_start (args, first);
  for (Json *value = first; value != NULL; value = va_arg (args, Json *))
    json_object_array_add (array, value);
  va_end (args);
  return array;
}

Json *
json_array (void)
{
  return json_object_new_array ();
}

void
json_append (Json *array, Json *take_value)
{
  if (take_value != NULL)
    json_object_array_add (array, take_value);
}

/* What a peer or a file name contains need not be UTF-8; what we print must be. */
Json *
json_str (const char *text)
{
  if (text == NULL)
    return NULL;
  if (g_utf8_validate (text, -1, NULL))
    return json_object_new_string (text);
  g_autofree char *valid = g_utf8_make_valid (text, -1);
  return json_object_new_string (valid);
}

Json *
json_int (gint64 value)
{
  return json_object_new_int64 (value);
}

Json *
json_flag (gboolean value)
{
  return json_object_new_boolean (value);
}

Json *
json_real (double value, int decimals)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  char format[8];
  g_snprintf (format, sizeof format, "%%.%df", CLAMP (decimals, 0, 9));
  g_ascii_formatd (text, sizeof text, format, value);
  return json_object_new_double_s (value, text);
}

Json *
json_dup (Json *json)
{
  return json_object_get (json);
}

Json *
json_get (Json *object, const char *key)
{
  Json *value = NULL;
  if (object != NULL && json_object_is_type (object, json_type_object))
    json_object_object_get_ex (object, key, &value);
  return value;
}

gboolean
json_has (Json *object, const char *key)
{
  return object != NULL && json_object_is_type (object, json_type_object) &&
         json_object_object_get_ex (object, key, NULL);
}

const char *
json_get_str (Json *object, const char *key)
{
  Json *value = json_get (object, key);
  if (!json_object_is_type (value, json_type_string))
    return NULL;
  /* A NUL inside would make two readers see two strings. */
  const char *text = json_object_get_string (value);
  return strlen (text) == (size_t)json_object_get_string_len (value) ? text : NULL;
}

gint64
json_get_int (Json *object, const char *key)
{
  Json *value = json_get (object, key);
  return json_object_is_type (value, json_type_int) ? json_object_get_int64 (value) : 0;
}

gboolean
json_get_bool (Json *object, const char *key)
{
  Json *value = json_get (object, key);
  return json_object_is_type (value, json_type_boolean) && json_object_get_boolean (value);
}

gsize
json_length (Json *array)
{
  return json_object_is_type (array, json_type_array) ? json_object_array_length (array) : 0;
}

Json *
json_at (Json *array, gsize i)
{
  return i < json_length (array) ? json_object_array_get_idx (array, i) : NULL;
}

Json *
json_parse (const char *text, gssize length)
{
  gsize size = length < 0 ? strlen (text) : (gsize)length;
  if (size > G_MAXINT)
    return NULL;
  struct json_tokener *tokener = json_tokener_new_ex (JSON_MAX_DEPTH);
  json_tokener_set_flags (tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
  Json *json = json_tokener_parse_ex (tokener, text, (int)size);
  gsize end = json_tokener_get_parse_end (tokener);
  /* A bare number ends only where something follows it. */
  if (json == NULL && json_tokener_get_error (tokener) == json_tokener_continue)
    json = json_tokener_parse_ex (tokener, " ", 1);
  while (end < size && g_ascii_isspace (text[end]))
    end++;
  if (json != NULL && end < size)
    g_clear_pointer (&json, json_object_put);
  json_tokener_free (tokener);
  return json;
}

char *
json_line (Json *json)
{
  return g_strdup (json_object_to_json_string_ext (json, JSON_C_TO_STRING_PLAIN |
                                                             JSON_C_TO_STRING_NOSLASHESCAPE));
}

char *
json_pretty (Json *json)
{
  return g_strdup (json_object_to_json_string_ext (
      json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
}
