/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This end of one session with another host: starts ssh, greets, asks one thing at a time.
 *
 * The other end may be anything: what it sends is bounded (qmp/stream.h), a reply counts only with the id of the
 * request that waits for one, and what fits nothing ends the session. It knows no commands. */
#pragma once

#include "src/common/json.h"
#include "src/remote/far.h"

typedef struct _Session Session;

/* Calls come from the main loop; the owner may free the session inside them. */
typedef struct {
  void (*event) (const char *event, Json *data, gpointer owner);
  /* Exactly one for each session_ask(), unless the session ends. Exactly one of the two is set, borrowed. */
  void (*reply) (Json *ret, const GError *error, gpointer owner);
  /* Once, and the last: UNREACHABLE. */
  void (*ended) (const GError *error, gpointer owner);
} SessionOwner;

/* NULL where ssh cannot be started. */
Session *session_open (const Far *far, const SessionOwner *owner, gpointer data, GError **error);
/* The same for one that is to carry much data: ssh's fastest cipher comes first. */
Session *session_open_for_data (const Far *far, const SessionOwner *owner, gpointer data, GError **error);
/* Nothing else may be asked before the reply. Takes @arguments. */
void session_ask (Session *session, const char *command, Json *take_arguments);
/* What is not answered. Both wait until the other side has greeted. */
void session_tell (Session *session, const char *command, Json *take_arguments);
/* It has greeted. */
gboolean session_is_ready (Session *session);
/* After a reply: the connection as it is, without messages. From now on there are no callbacks; ssh lives until
 * session_free(). */
int session_take (Session *session);
/* Of the far side's process, as ssh passes it on; 255 for ssh's own troubles, -1: not known. */
int session_exit_status (Session *session);
void session_free (Session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Session, session_free)
