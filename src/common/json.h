/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* json-c with GLib manners: autoptr, tolerant typed getters, building in one expression.
 *
 * Getters never fail: what is absent or of another type reads as NULL, 0 or FALSE, since every
 * document here comes from a peer that may be hostile. */
#pragma once

#include <glib.h>
#include <json-c/json.h>

typedef struct json_object Json;

static inline void
json_clear (Json *json)
{
  json_object_put (json);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Json, json_clear)

#define JSON_MAX_DEPTH 1024

/* json_make ("a", json_str ("x"), "b", json_int (1), NULL): takes the values. A NULL value drops its
 * key, so optional members need no branches. */
Json *json_make (const char *first_key, ...) G_GNUC_NULL_TERMINATED;
/* json_list (a, b, NULL): takes the values. */
Json *json_list (Json *first, ...) G_GNUC_NULL_TERMINATED;
Json *json_array (void);
void json_append (Json *array, Json *take_value);
void json_set (Json *object, const char *key, Json *take_value);

Json *json_str (const char *text);      /* NULL -> NULL */
Json *json_int (gint64 value);
Json *json_flag (gboolean value);
Json *json_real (double value, int decimals);
Json *json_null (void);                 /* an explicit null, only as a value inside json_make */
Json *json_dup (Json *json);            /* a new reference */

Json *json_get (Json *object, const char *key);                  /* borrowed, nullable */
const char *json_get_str (Json *object, const char *key);        /* borrowed, nullable */
gint64 json_get_int (Json *object, const char *key);
gboolean json_get_bool (Json *object, const char *key);
gboolean json_has (Json *object, const char *key);
gsize json_length (Json *array);                                 /* 0 where it is no array */
Json *json_at (Json *array, gsize i);                            /* borrowed, nullable */

/* One whole document, up to JSON_MAX_DEPTH levels; NULL where @text is not exactly that. */
Json *json_parse (const char *text, gssize length);
/* Full. One line without blanks, and the readable form. */
char *json_line (Json *json);
char *json_pretty (Json *json);
