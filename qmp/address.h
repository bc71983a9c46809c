/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a monitor is: parsing addresses, connecting, and the words for what goes wrong on the way. */
#pragma once

#include <gio/gio.h>

typedef struct {
  char *path;                 /* of a unix socket, or NULL */
  GSocketConnectable *remote; /* TCP, or NULL */
} QmpAddress;

/* A path (contains "/"), "unix:PATH" or "tcp:HOST:PORT"; USAGE for anything else. */
gboolean qmp_address_parse (const char *text, QmpAddress *ret_address, GError **error);
void qmp_address_clear (QmpAddress *address);

/* Does not block; paths may be longer than sun_path. 0, or an errno value; EAGAIN: the backlog is
 * full, try later. */
int qmp_unix_connect (const char *path, GSocketConnection **ret_connection);
/* Nobody listens at this unix socket, or there is none: the QEMU that had it is off. FALSE where that cannot be
 * told, as over a network. */
gboolean qmp_address_is_dead (const char *text);
/* A listening socket with mode 0600 at @path, which must not exist. 0, or an errno value. */
int qmp_unix_listen (const char *path, GSocket **ret_socket);

/* Set @error for the @peer ("monitor", "guest agent") called @name; always return FALSE. */
gboolean qmp_address_fail_unix (const char *peer, const char *name, int errnum, GError **error);
gboolean qmp_address_fail_remote (const char *peer, const char *name, const GError *why,
                                  GError **error);
/* A monitor only: an agent says nothing unless it is asked. */
gboolean qmp_address_fail_silent (const char *name, gboolean connected, GError **error);

/* Process and user at the other end of a unix socket; pid 0 and uid -1 where unknown. */
void qmp_peer_identify (GIOStream *connection, pid_t *ret_pid, uid_t *ret_uid);
