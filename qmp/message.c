/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/message.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_LOGGED 500
#define MAX_DESC   4096

static QmpMessage
malformed (const char *reason)
{
  return (QmpMessage){.kind = MESSAGE_MALFORMED, .reason = reason};
}

static QmpMessage
read_error (Json *message, Json *id)
{
  Json *body = json_get (message, "error");
  const char *class = json_get_str (body, "class");
  const char *desc = json_get_str (body, "desc");
  if (desc == NULL)
    return malformed ("an error without description");
  return (QmpMessage){.kind = MESSAGE_ERROR,
                      .id = id,
                      .body = body,
                      .class = class ? class : "GenericError",
                      .desc = desc};
}

QmpMessage
qmp_message_read (Json *message)
{
  static const char *const kinds[] = {"QMP", "return", "error", "event"};
  Json *id = json_get (message, "id");
  guint found = 0;
  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    found += json_has (message, kinds[i]);
  if (found != 1)
    return malformed (found ? "a message of two kinds" : "a message of no known kind");

  if (json_has (message, "event")) {
    const char *name = json_get_str (message, "event");
    return name ? (QmpMessage){.kind = MESSAGE_EVENT, .body = message, .name = name}
                : malformed ("an event without name");
  }
  if (json_has (message, "error"))
    return read_error (message, id);
  if (json_has (message, "return")) {
    Json *body = json_get (message, "return");
    return body ? (QmpMessage){.kind = MESSAGE_RETURN, .id = id, .body = body}
                : malformed ("a return of null");
  }
  Json *body = json_get (message, "QMP");
  return json_object_is_type (body, json_type_object)
             ? (QmpMessage){.kind = MESSAGE_GREETING, .body = body}
             : malformed ("a greeting that is no object");
}

Json *
qmp_message_command (const char *command, Json *arguments, Json *id)
{
  return json_make ("execute", json_str (command), "arguments", arguments, "id", id, NULL);
}

Json *
qmp_message_return (Json *ret, Json *id)
{
  return json_make ("return", ret ? ret : json_object_new_object (), "id", id, NULL);
}

Json *
qmp_message_error (const char *class, const char *desc, Json *id)
{
  Json *body = json_make ("class", json_str (class), "desc", json_str (desc), NULL);
  return json_make ("error", body, "id", id, NULL);
}

static RechainError
code_of_class (const char *class)
{
  static const struct {
    const char *class;
    RechainError code;
  } rows[] = {
      {"DeviceNotFound", NOT_FOUND},
      {"DeviceNotActive", NOT_FOUND},
      {"CommandNotFound", REFUSED},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (g_str_equal (class, rows[i].class))
      return rows[i].code;
  return FAILED;
}

/* Full. @text, cut between two characters. */
static char *
shorten (const char *text, gsize limit)
{
  if (strlen (text) <= limit)
    return g_strdup (text);
  const char *cut = g_utf8_find_prev_char (text, text + limit + 1);
  g_autofree char *head = g_strndup (text, cut ? (gsize)(cut - text) : limit);
  return g_strconcat (head, "...", NULL);
}

gboolean
qmp_message_fail (const QmpMessage *message, const char *command, GError **error)
{
  g_autofree char *desc = shorten (message->desc, MAX_DESC);
  fail (error, code_of_class (message->class), "%s", command);
  return because (error, "%s", desc);
}

static gboolean
has_secrets (const char *command)
{
  return strstr (command, "passw") != NULL || g_str_equal (command, "object-add") ||
         g_str_equal (command, "human-monitor-command");
}

char *
qmp_message_for_log (Json *message)
{
  const char *command = json_get_str (message, "execute");
  if (command != NULL && has_secrets (command))
    return g_strdup_printf ("{\"execute\":\"%s\", not shown}", command);
  return shorten (json_object_to_json_string_ext (message, JSON_C_TO_STRING_PLAIN |
                                                               JSON_C_TO_STRING_NOSLASHESCAPE),
                  MAX_LOGGED);
}
