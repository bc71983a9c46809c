/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal's database, for the tables that are not of operations (jobs/records.c). */
#pragma once

#include "jobs/journal.h"

#include <sqlite3.h>

/* FALSE ends the reading of rows, which is no error. */
typedef gboolean (*RowFunc) (sqlite3_stmt *row, gpointer data);

/* @types: one letter per argument: s (const char *, nullable), i (gint64), n (NULL). */
gboolean journal_sql (Journal *journal, const char *sql, RowFunc on_row, gpointer data,
                      const char *types, ...);
const char *row_text (sqlite3_stmt *row, int column); /* borrowed, nullable */
/* "the journal in DIR cannot WHAT", with SQLite's words; returns FALSE. */
gboolean journal_failed (Journal *journal, const char *what, GError **error);
/* Ends a transaction that BEGIN IMMEDIATE began: COMMIT where @ok, with all lines noted since the last
 * one, else ROLLBACK and an error. */
gboolean journal_commit (Journal *journal, gboolean ok, const char *what, GError **error);
/* Of the tables as they are in the file; older than this program's where it was only opened to read. */
gint64 journal_version (Journal *journal);
