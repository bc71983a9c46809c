/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A scripted QEMU on the same main loop, at the other end of a socketpair (or of a unix socket).
 *
 * The script is a list: what it says is said as soon as the script gets there, and an "expects" waits
 * for that command. A test reads as two columns, what QEMU does and what the client does:
 *
 *   FakeQemu *q = fake_qemu_new ();
 *   qemu_greets (q);
 *   qemu_expects (q, "block-commit");  qemu_fails (q, "GenericError", "Node 'x' is busy");
 *   ... use qmp_client_new_for_connection (fake_qemu_connection (q), "fake", 0) ...
 *   fake_qemu_free (q);    fails the test where the script was not followed to its end
 *
 * A command out of turn fails the script and gets an error reply, so that nothing hangs. */
#pragma once

#include "src/common/json.h"

#include <gio/gio.h>

#define FAKE_VERSION "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"

typedef struct _FakeQemu FakeQemu;
/* Answers @command itself; full: {"return": ...} or {"error": ...} without id, NULL: no answer. */
typedef Json *(*FakeQemuHandler) (FakeQemu *qemu, const char *command, Json *arguments, gpointer data);

FakeQemu *fake_qemu_new (void);
/* Listens; serves the first one who connects. */
FakeQemu *fake_qemu_new_at (const char *path);
void fake_qemu_free (FakeQemu *qemu);
/* Borrowed: the client's end of the socketpair. */
GIOStream *fake_qemu_connection (FakeQemu *qemu);

/* The script. JSON texts may use ' for ". */
void qemu_greets (FakeQemu *qemu); /* greeting, and the reply to qmp_capabilities */
void qemu_expects (FakeQemu *qemu, const char *command);
/* Every member of @arguments has to be there and equal; more may be. */
void qemu_expects_with (FakeQemu *qemu, const char *command, const char *arguments);
void qemu_replies (FakeQemu *qemu, const char *ret);                      /* to the last command */
void qemu_replies_to (FakeQemu *qemu, const char *command, const char *ret); /* to its last one */
void qemu_fails (FakeQemu *qemu, const char *class, const char *desc);    /* the last command */
void qemu_event (FakeQemu *qemu, const char *name, const char *data);     /* NULL: {} */
void qemu_says (FakeQemu *qemu, const char *text);                        /* these bytes */
void qemu_says_bytes (FakeQemu *qemu, const void *bytes, gsize length);
void qemu_closes (FakeQemu *qemu);

/* Beside the script: answered at any time, in any number. */
void qemu_always (FakeQemu *qemu, const char *command, const char *ret);
void qemu_handles (FakeQemu *qemu, const char *command, FakeQemuHandler handler, gpointer data);
/* From now on @n bytes per turn of the main loop. */
void qemu_writes_slowly (FakeQemu *qemu, gsize n);
/* Does not read any more. */
void qemu_stops_reading (FakeQemu *qemu);

gboolean qemu_is_done (FakeQemu *qemu);
gboolean qemu_is_connected (FakeQemu *qemu); /* somebody is at the other end */
guint qemu_received (FakeQemu *qemu); /* commands so far */

/* Iterates the default context until @condition, at most 10 s. */
#define until(condition)                                                                           \
  do {                                                                                             \
    gint64 until_end = g_get_monotonic_time () + 10 * G_USEC_PER_SEC;                              \
    fake_qemu_tick ();                                                                             \
    while (!(condition) && g_get_monotonic_time () < until_end)                                    \
      g_main_context_iteration (NULL, TRUE);                                                       \
    if (!(condition))                                                                              \
      fail_test ("waited in vain for: %s", #condition);                                            \
  } while (0)
/* Lets everything happen that can happen without waiting. */
void fake_qemu_settle (void);
void fake_qemu_tick (void); /* for until(): the loop wakes up at least every 100 ms */
/* How many descriptors this process has open. */
guint count_fds (void);
