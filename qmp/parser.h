/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes in, JSON objects out; in pieces of any size, in linear time, within limits.
 *
 * Two readers look at every byte and have to agree: a scanner of our own, which knows where a message
 * ends and counts what it would cost, and json-c, which builds it. Refused: what is no object, NUL,
 * control characters in strings, invalid UTF-8, more than JSON_MAX_DEPTH levels, and messages that
 * are too long or would need too much memory.
 *
 * It reads no socket and knows no QMP. */
#pragma once

#include "src/common/json.h"

typedef struct _QmpParser QmpParser;

QmpParser *qmp_parser_new (gsize max_message);
void qmp_parser_free (QmpParser *parser);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpParser, qmp_parser_free)

/* Reads up to the end of the first message: *ret_used says how far. *ret_message (full) is NULL where
 * more bytes are needed. After an error the parser is of no more use. Errors are verb phrases whose
 * subject is the peer ("sent ..."). */
gboolean qmp_parser_feed (QmpParser *parser, const char *bytes, gsize length, gsize *ret_used,
                          Json **ret_message, GError **error);
/* Stands in the middle of a message? */
gboolean qmp_parser_is_inside (const QmpParser *parser);
