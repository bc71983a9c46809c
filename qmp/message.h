/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The five things that a QMP peer can say, and how to say ours. Knows no connection. */
#pragma once

#include "src/common/json.h"

typedef enum {
  MESSAGE_GREETING,  /* {"QMP": body} */
  MESSAGE_RETURN,    /* {"return": body, "id": id} */
  MESSAGE_ERROR,     /* {"error": {"class", "desc"}, "id": id} */
  MESSAGE_EVENT,     /* {"event": name, "data": ..., "timestamp": ...} */
  MESSAGE_MALFORMED, /* anything else; reason says why */
} QmpMessageKind;

/* All borrowed from the message; what does not belong to the kind is NULL. */
typedef struct {
  QmpMessageKind kind;
  Json *id;
  Json *body;
  const char *name;  /* of the event */
  const char *class; /* of the error; "GenericError" where the peer gave none */
  const char *desc;
  const char *reason;
} QmpMessage;

QmpMessage qmp_message_read (Json *message);

/* All full, taking their Json arguments; those may be NULL. */
Json *qmp_message_command (const char *command, Json *arguments, Json *id);
Json *qmp_message_return (Json *ret, Json *id);
Json *qmp_message_error (const char *class, const char *desc, Json *id);

/* QEMU's refusal of @command as ours: @message has to be a MESSAGE_ERROR. Always returns FALSE. */
gboolean qmp_message_fail (const QmpMessage *message, const char *command, GError **error);

/* Full. For the log: one line of at most 500 characters, without arguments that may be secret. */
char *qmp_message_for_log (Json *message);
