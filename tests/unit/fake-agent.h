/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest agent on the same main loop, behind a unix socket: it answers as qemu-ga does, until the test
 * says otherwise. It serves one client at a time, as QEMU's character device does. */
#pragma once

#include "src/common/json.h"

#include <gio/gio.h>

typedef struct FakeAgent FakeAgent;
struct FakeAgent {
  char *path;
  guint filesystems; /* that it freezes and thaws */
  gboolean frozen;
  guint connections;
  GPtrArray *log; /* char*: commands in the order in which they came, but the syncs */

  /* Mishaps, each for commands of this name ("*": all, also the sync), so often; NULL: none. */
  const char *refuse, *silent, *hang_up, *garble;
  guint times; /* 0: always */
  gboolean after;     /* it does what was asked, and then the mishap comes */
  const char *answer; /* what garble says; NUL-terminated, or of @answer_length bytes */
  gsize answer_length;
  const char *stale;     /* said as soon as somebody connects */
  gboolean no_freeze;    /* guest-info says that guest-fsfreeze-freeze is not enabled */

  GSocketService *service;
  GSocketConnection *connection;
  GSource *readable, *writable;
  GString *in, *out;

  void (*hook) (FakeAgent *agent, const char *command, gpointer data); /* before each command */
  gpointer data;
};

FakeAgent *fake_agent_new (const char *path);
void fake_agent_free (FakeAgent *agent);
/* Its socket stays, and nobody listens there. */
void fake_agent_stops_listening (FakeAgent *agent);
/* How often a command came. */
guint fake_agent_asked (FakeAgent *agent, const char *command);
/* These bytes to whoever is connected. */
void fake_agent_says (FakeAgent *agent, const char *bytes, gssize length);
