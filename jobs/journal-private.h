/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by journal.c (writing), journal-db.c (the database), journal-owner.c (who runs an operation),
 * journal-read.c, and by jobs/records*.c, whose tables lie in the same database. */
#pragma once

#include "jobs/journal.h"

#include <sqlite3.h>

struct _Journal {
  sqlite3 *db;
  GHashTable *statements; /* const char *sql -> sqlite3_stmt*, prepared earlier and not in use now */
  char *state_dir;
  GPtrArray *lines; /* JournalLine*, not yet durable */
  int lock_fd;      /* of the operation we own, -1 */
};

typedef struct {
  char *operation, *step, *disk, *direction, *phase, *detail;
  gint64 at;
} JournalLine;

/* journal.c */
void journal_line_free (gpointer line);
/* Ends a transaction that BEGIN IMMEDIATE began: COMMIT where @ok, with all lines noted since the last
 * one, else ROLLBACK and an error. */
gboolean journal_commit (Journal *journal, gboolean ok, const char *what, GError **error);

/* journal-owner.c: the lock of operation @id. REFUSED where another process has it. */
gboolean journal_own (Journal *journal, const char *id, GError **error);
void journal_disown (Journal *journal, const char *id, gboolean ended);

/* journal-db.c */
/* FALSE ends the reading of rows, which is no error. */
typedef gboolean (*RowFunc) (sqlite3_stmt *row, gpointer data);

/* @types: one letter per argument: s (const char *, nullable), i (gint64), n (NULL). */
gboolean journal_sql (Journal *journal, const char *sql, RowFunc on_row, gpointer data,
                      const char *types, ...);
const char *row_text (sqlite3_stmt *row, int column); /* borrowed, nullable */
/* "the journal in DIR cannot WHAT", with SQLite's words; returns FALSE. */
gboolean journal_failed (Journal *journal, const char *what, GError **error);
/* Of the tables as they are in the file; older than this program's where it was only opened to read. */
gint64 journal_version (Journal *journal);
