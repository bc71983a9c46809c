/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection to one QEMU's QMP monitor (QEMU: docs/interop/qmp-spec).
 *
 * connecting -> greeting -> capabilities -> ready -> closed. Many commands are in flight at once, by
 * id; every command gets exactly one answer, also when the connection ends or its deadline passes;
 * no callback runs inside the call that registered it. Everything the peer sends may be hostile: bad
 * input ends the connection with an error, never the process.
 *
 * It knows nothing of disks, and does not reconnect: whoever needs that makes a new client. */
#pragma once

#include "src/common/json.h"

#include <gio/gio.h>

typedef struct _QmpClient QmpClient;

typedef enum {
  QMP_CONNECTING,   /* waiting for the socket */
  QMP_GREETING,     /* connected, waiting for QEMU's greeting */
  QMP_CAPABILITIES, /* greeted, qmp_capabilities sent */
  QMP_READY,        /* commands are executed */
  QMP_CLOSED,       /* ended; qmp_client_get_error() says why */
} QmpState;

/* Success: (@ret, NULL). QEMU said no: (NULL, FAILED or NOT_FOUND, QEMU's "desc" as cause). Connection ended,
 * or deadline passed: (NULL, UNREACHABLE); socket may not be opened: (NULL, PERMISSION); command that
 * this QEMU does not have: (NULL, REFUSED). @ret is borrowed. */
typedef void (*QmpReply) (QmpClient *client, Json *ret, const GError *error, gpointer data);
/* @event is the whole message ("event", "data", "timestamp"), borrowed. */
typedef void (*QmpEvent) (QmpClient *client, const char *name, Json *event, gpointer data);
/* Once per change; in QMP_CLOSED after every pending command was answered. */
typedef void (*QmpStateChanged) (QmpClient *client, QmpState state, gpointer data);

#define QMP_GREETING_MS    3000u           /* default deadline for the greeting */
#define QMP_COMMAND_MS     30000u          /* default deadline of a command */
#define QMP_MAX_MESSAGE    (64u << 20)     /* bytes of one message */
#define QMP_MAX_QUEUED     (64u << 20)     /* bytes waiting to be written */

/* @address: a path (contains "/"), "unix:PATH" or "tcp:HOST:PORT". Starts connecting in the
 * thread-default main context. Returns NULL with USAGE for an address that is none of these. */
QmpClient *qmp_client_new (const char *address, guint greeting_ms, GError **error);
/* On a connected socket (takes a reference): tests, and transports of others. */
QmpClient *qmp_client_new_for_connection (GIOStream *connection, const char *name, guint greeting_ms);
QmpClient *qmp_client_ref (QmpClient *client);
/* Dropping the last reference closes; commands still pending are answered from the main loop (so
 * their data has to live until then), listeners and watchers are not called any more. */
void qmp_client_unref (QmpClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpClient, qmp_client_unref)

/* Ends the connection; pending commands are answered (UNREACHABLE) from the main loop. */
void qmp_client_close (QmpClient *client);

QmpState qmp_client_get_state (QmpClient *client);
/* Borrowed; why the connection ended, NULL before that. */
const GError *qmp_client_get_error (QmpClient *client);
/* Borrowed; the "QMP" member of the greeting, NULL before it came. */
Json *qmp_client_get_greeting (QmpClient *client);
/* Borrowed; the address as given. */
const char *qmp_client_get_name (QmpClient *client);
/* major*10000 + minor*100 + micro, 0 before the greeting. For known bugs only; features are asked
 * for by name (features.h). */
guint qmp_client_get_version (QmpClient *client);
/* Borrowed; "7.2.22 (Debian ...)" or NULL. */
const char *qmp_client_get_version_string (QmpClient *client);
/* Process at the other end of a unix socket, 0 where unknown. */
pid_t qmp_client_get_peer_pid (QmpClient *client);

guint qmp_client_watch_state (QmpClient *client, QmpStateChanged callback, gpointer data);

/* Sends {"execute": @command, "arguments": @arguments, "id": ...}. Takes @arguments (nullable).
 * Before QMP_READY the command waits for it. @timeout_ms 0: QMP_COMMAND_MS. After the deadline a late
 * reply is dropped with a log line. @callback may be NULL. */
void qmp_client_execute (QmpClient *client, const char *command, Json *arguments, guint timeout_ms,
                         QmpReply callback, gpointer data);

/* Events by name (NULL: all), to any number of listeners, in order of arrival. */
guint qmp_client_listen (QmpClient *client, const char *event_name, QmpEvent callback, gpointer data);
/* For ids of both qmp_client_listen and qmp_client_watch_state; an id that is gone is ignored. After
 * it the callback is not called again. */
void qmp_client_unlisten (QmpClient *client, guint id);

/* Something of another module that lives as long as the connection's object, by @key. */
void qmp_client_set_data (QmpClient *client, const char *key, gpointer data, GDestroyNotify destroy);
gpointer qmp_client_get_data (QmpClient *client, const char *key);
