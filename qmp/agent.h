/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest agent of one VM (QEMU: docs/interop/qemu-ga-ref), through its socket on the host.
 *
 * closed -> connecting -> syncing -> idle <-> asked. It says nothing by itself, its answers carry no
 * ids, and what it sends belongs to the guest's owner: it may be stale, garbage, endless, or nothing. So
 * every connection begins with guest-sync-delimited and a random number, all before the answer to which
 * is dropped; one command is on its way at a time; whatever does not end as it should, a deadline that
 * passed included, closes the connection. The next command opens another one.
 *
 * Nothing that it answers decides whether data is right. */
#pragma once

#include "src/common/json.h"

#include <gio/gio.h>

typedef struct _QmpAgent QmpAgent;

/* Success: (@ret, NULL), @ret borrowed. The agent said no: (NULL, FAILED, its words as cause), REFUSED for
 * a command that it does not have or may not run. It did not answer, or not with an answer: (NULL,
 * UNREACHABLE); its socket may not be opened: (NULL, PERMISSION). */
typedef void (*QmpAgentReply) (QmpAgent *agent, Json *ret, const GError *error, gpointer data);

#define AGENT_SYNC_MS     5000u       /* to connect and be in step */
#define AGENT_COMMAND_MS  5000u       /* default deadline of a command, from when it is sent */
#define AGENT_MAX_MESSAGE (64u << 10) /* bytes */

/* @address as in qmp_client_new(), or USAGE; @sync_ms 0: AGENT_SYNC_MS. Connects when the first command
 * is given, in the thread-default main context. */
QmpAgent *qmp_agent_new (const char *address, guint sync_ms, GError **error);
/* Closes. Commands that wait are dropped, and no callback comes any more. */
void qmp_agent_free (QmpAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpAgent, qmp_agent_free)

/* Borrowed; the address as given. */
const char *qmp_agent_get_name (QmpAgent *agent);
/* Takes @arguments (nullable). @timeout_ms 0: AGENT_COMMAND_MS. @callback comes exactly once, never from
 * inside this call; it may free the agent. */
void qmp_agent_execute (QmpAgent *agent, const char *command, Json *arguments, guint timeout_ms,
                        QmpAgentReply callback, gpointer data);
/* When the command that was answered last was sent; monotonic, us. */
gint64 qmp_agent_get_sent_us (QmpAgent *agent);
