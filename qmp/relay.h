/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A QMP monitor serves one client. While an operation holds it, this relay lends it: a unix socket
 * that greets like QEMU, passes on the commands of an allow-list through the operation's own client,
 * and hands out all events. So `rechain job speed`, `info` or `chain` work beside a running
 * operation. Each lent client is bounded in what it may queue, and one bad client stalls nobody. */
#pragma once

#include "qmp/client.h"

typedef struct _QmpRelay QmpRelay;

/* A command for the lender itself ("rechain-..."): answers with *ret_return (full) and TRUE, or FALSE
 * and @error. */
typedef gboolean (*QmpRelayCommand) (const char *command, Json *arguments, Json **ret_return,
                                     gpointer data, GError **error);

/* Listens at @path (made with mode 0600; longer paths than sun_path are fine: bound through
 * /proc/self/fd). @allowed: NULL-terminated names of QMP commands. Commands that begin with
 * "rechain-" go to @own. */
QmpRelay *qmp_relay_new (const char *path, const char *const *allowed, QmpRelayCommand own,
                         gpointer data, GError **error);
/* The client whose connection is lent; NULL while there is none (commands are then answered with an
 * error). Takes a reference. */
void qmp_relay_set_client (QmpRelay *relay, QmpClient *client);
/* While held, what is to be passed on waits (bounded, in order); events still go out. */
void qmp_relay_hold (QmpRelay *relay, gboolean hold);
/* Closes all connections and removes the socket. */
void qmp_relay_free (QmpRelay *relay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpRelay, qmp_relay_free)
