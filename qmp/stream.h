/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes <-> whole JSON objects over one connected, pollable GIOStream (unix socket, TCP).
 *
 * It owns the connection, the input buffer, the output queue and their sources, and the limits on
 * both. It does not connect, knows no QMP, no state, no deadline, and does not log.
 *
 * Callbacks come from the main context only, one message per dispatch, so the owner may send, close,
 * drop its reference or iterate the context inside them. A peer that does not read costs at most
 * @max_queued; no more input is read than what was handed out. */
#pragma once

#include "src/common/json.h"

#include <gio/gio.h>

typedef struct _QmpStream QmpStream;

typedef struct {
  /* @message is borrowed. */
  void (*message) (QmpStream *stream, Json *message, gpointer data);
  /* Once, and the last; not after qmp_stream_close. @error: a verb phrase whose subject is the peer,
   * for instance "closed the connection". */
  void (*ended) (QmpStream *stream, const GError *error, gpointer data);
} QmpStreamOwner;

/* Takes a reference to @connection. @owner has to outlive the stream. */
QmpStream *qmp_stream_new (GIOStream *connection, GMainContext *context, gsize max_message,
                           gsize max_queued, const QmpStreamOwner *owner, gpointer data);
/* Closes, and drops the reference. */
void qmp_stream_free (QmpStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpStream, qmp_stream_free)

/* Queues @message (borrowed) and a newline. FALSE: closed, or the peer does not read. */
gboolean qmp_stream_send (QmpStream *stream, Json *message, GError **error);
/* Bytes that the peer has not taken yet. */
gsize qmp_stream_get_queued (QmpStream *stream);
/* For a peer that may be in the middle of anything: queues the byte @sentinel, which no JSON has, and
 * drops what comes in up to and with the next one of the peer's; and again where what follows is no
 * message, or not the one that was waited for, until the owner says that they are in step. */
void qmp_stream_resync (QmpStream *stream, guchar sentinel);
void qmp_stream_resync_again (QmpStream *stream);
void qmp_stream_in_step (QmpStream *stream);
/* Closes at once, dropping what is queued in both directions. No callback comes any more. */
void qmp_stream_close (QmpStream *stream);
