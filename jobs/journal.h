/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal: what operations intended and saw, durable before it matters. SQLite; one database per
 * state directory. It holds no opinion about what is: that only QEMU and the file system say. */
#pragma once

#include "jobs/op.h"

typedef struct _Journal Journal;

/* For changing: makes the directory (0700) and the database where they are missing. */
Journal *journal_open (const char *state_dir, GError **error);
/* For looking only: makes nothing. Where there is no journal yet: NULL and no error. */
Journal *journal_open_to_read (const char *state_dir, GError **error);
void journal_close (Journal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Journal, journal_close)

/* ---- writing: every call is durable when it returns TRUE ------------------------------------- */

/* Takes ownership of a new operation and records all of it. REFUSED where an unfinished operation
 * touches one of its disks or files. */
gboolean journal_begin (Journal *journal, Op *op, GError **error);
/* Adds a line that becomes durable with the next journal_write(). */
void journal_note (Journal *journal, Op *op, const char *step, const char *disk, const char *direction,
                   const char *phase, const char *detail);
/* State, commit record and facts of @op, and all lines noted since. One transaction. */
gboolean journal_write (Journal *journal, Op *op, GError **error);
/* The operation ended, or its owner lets go of it (@ended FALSE). */
gboolean journal_release (Journal *journal, Op *op, gboolean ended, GError **error);

/* Is the file sound? FAILED with SQLite's words. */
gboolean journal_check (Journal *journal, GError **error);

/* ---- ownership: one runner at a time --------------------------------------------------------- */

/* Takes over an operation whose owner is dead. REFUSED where the owner lives. */
gboolean journal_take_over (Journal *journal, Op *op, GError **error);
typedef enum { OWNER_NONE, OWNER_ALIVE, OWNER_DEAD } Owner;
Owner journal_owner (Journal *journal, const char *id, pid_t *ret_pid);

/* Removes lock and socket files of operations that have ended. */
void journal_sweep (Journal *journal);

/* ---- reading --------------------------------------------------------------------------------- */

/* NULL with NOT_FOUND; @id may be an unambiguous beginning. */
Op *journal_load (Journal *journal, const char *id, GError **error);
/* Ids, newest first; @open_only: those that have not ended; @vm nullable. Full. */
char **journal_list (Journal *journal, gboolean open_only, const char *vm, GError **error);
/* [{"at","step","disk","direction","phase","detail"}], full. */
Json *journal_steps (Journal *journal, const char *id, GError **error);
/* An unfinished operation that touches the disk (or any disk, NULL) of @vm; full, nullable. */
char *journal_find_open (Journal *journal, const char *vm, const char *disk);

/* An unfinished operation whose work does not go together with ours on @file: it changes that, or
 * (@changes) uses it. Full, nullable. */
char *journal_find_user (Journal *journal, const char *file, gboolean changes);

/* Full: where the relay socket and the lock of an operation are. */
char *journal_run_path (const char *state_dir, const char *id, const char *suffix);
