/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The database of the journal: its statements, its tables and their versions. */
#include "jobs/journal-private.h"

#include "jobs/beside-schema.h"
#include "jobs/journal-schema.h"
#include "jobs/snapshots-schema.h"
#include "src/common/fs.h"

#include <errno.h>
#include <glib/gstdio.h>

#define BUSY_MS 5000

/* What makes version N + 1 of the tables out of version N. */
static const char *const migrations[] = {journal_schema, snapshots_schema, beside_schema};
#define USER_VERSION ((gint64)G_N_ELEMENTS (migrations))

gboolean
journal_failed (Journal *journal, const char *what, GError **error)
{
  fail (error, FAILED, "the journal in '%s' cannot %s", journal->state_dir, what);
  because (error, "%s", journal->db ? sqlite3_errmsg (journal->db) : "out of memory");
  return hint (error,
               "look for free space and permissions there; nothing is done without the journal");
}

/* ---- statements: prepared once, bound, stepped and reset in one place ------------------------ */

static void
statement_free (gpointer statement)
{
  sqlite3_finalize (statement);
}

/* Full; NULL where it cannot be prepared. */
static sqlite3_stmt *
take_statement (Journal *journal, const char *sql)
{
  gpointer key, statement = NULL;
  if (!g_hash_table_steal_extended (journal->statements, sql, &key, &statement))
    sqlite3_prepare_v2 (journal->db, sql, -1, (sqlite3_stmt **)&statement, NULL);
  return statement;
}

/* Takes @statement. Its error, if it had one, is the result. */
static int
put_statement (Journal *journal, sqlite3_stmt *statement)
{
  int rc = sqlite3_reset (statement);
  sqlite3_clear_bindings (statement);
  g_hash_table_replace (journal->statements, (gpointer)sqlite3_sql (statement), statement);
  return rc;
}

gboolean
journal_sql (Journal *journal, const char *sql, RowFunc on_row, gpointer data, const char *types,
             ...)
{
  sqlite3_stmt *statement = take_statement (journal, sql);
  if (statement == NULL)
    return FALSE;
  va_list args;
  va_start (args, types);
  int rc = SQLITE_OK;
  for (int i = 0; types[i] != '\0' && rc == SQLITE_OK; i++) {
    if (types[i] == 's')
      rc = sqlite3_bind_text (statement, i + 1, va_arg (args, const char *), -1, SQLITE_TRANSIENT);
    else if (types[i] == 'i')
      rc = sqlite3_bind_int64 (statement, i + 1, va_arg (args, gint64));
    else
      rc = sqlite3_bind_null (statement, i + 1);
  }
  va_end (args);
  while (rc == SQLITE_OK || rc == SQLITE_ROW) {
    rc = sqlite3_step (statement);
    if (rc == SQLITE_ROW && on_row != NULL && !on_row (statement, data))
      break;
  }
  int final = put_statement (journal, statement);
  return (rc == SQLITE_DONE || rc == SQLITE_ROW) && final == SQLITE_OK;
}

const char *
row_text (sqlite3_stmt *row, int column)
{
  return (const char *)sqlite3_column_text (row, column);
}

static gboolean
read_int (sqlite3_stmt *row, gpointer data)
{
  *(gint64 *)data = sqlite3_column_int64 (row, 0);
  return FALSE;
}

/* ---- opening --------------------------------------------------------------------------------- */

void
journal_close (Journal *journal)
{
  if (journal == NULL)
    return;
  g_hash_table_unref (journal->statements);
  sqlite3_close (journal->db);
  if (journal->lock_fd >= 0)
    close (journal->lock_fd);
  g_ptr_array_unref (journal->lines);
  g_free (journal->state_dir);
  g_free (journal);
}

static Journal *
open_database (const char *state_dir, int flags, GError **error)
{
  g_autoptr (Journal) journal = g_new0 (Journal, 1);
  journal->lock_fd = -1;
  journal->state_dir = g_strdup (state_dir);
  journal->statements = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, statement_free);
  journal->lines = g_ptr_array_new_with_free_func (journal_line_free);
  g_autofree char *path = g_build_filename (state_dir, "journal.db", NULL);
  if (sqlite3_open_v2 (path, &journal->db, flags, NULL) != SQLITE_OK ||
      sqlite3_busy_timeout (journal->db, BUSY_MS) != SQLITE_OK ||
      !journal_sql (journal, "PRAGMA foreign_keys = ON", NULL, NULL, "") ||
      !journal_sql (journal, "PRAGMA trusted_schema = OFF", NULL, NULL, "")) {
    journal_failed (journal, "be opened", error);
    return NULL;
  }
  return g_steal_pointer (&journal);
}

static gboolean
check_version (Journal *journal, gint64 *ret_version, GError **error)
{
  *ret_version = -1;
  if (!journal_sql (journal, "PRAGMA user_version", read_int, ret_version, ""))
    return journal_failed (journal, "be read", error);
  if (*ret_version < 0 || *ret_version > USER_VERSION) {
    fail (error, REFUSED, "the journal in '%s' was written by a newer rechain", journal->state_dir);
    return hint (error, "use that version, or another --state-dir");
  }
  return TRUE;
}

static gboolean
make_schema (Journal *journal, GError **error)
{
  gint64 version;
  gboolean ok = journal_sql (journal, "PRAGMA journal_mode = WAL", NULL, NULL, "") &&
                journal_sql (journal, "PRAGMA synchronous = FULL", NULL, NULL, "");
  if (!ok)
    return journal_failed (journal, "be set up", error);
  if (!check_version (journal, &version, error))
    return FALSE;
  if (version == USER_VERSION)
    return TRUE;
  /* Two processes may come here at once: the second one finds it done. */
  ok = journal_sql (journal, "BEGIN EXCLUSIVE", NULL, NULL, "") &&
       journal_sql (journal, "PRAGMA user_version", read_int, &version, "");
  for (; ok && version < USER_VERSION; version++) {
    g_autofree char *made = g_strdup_printf ("PRAGMA user_version = %d", (int)version + 1);
    ok = sqlite3_exec (journal->db, migrations[version], NULL, NULL, NULL) == SQLITE_OK &&
         journal_sql (journal, made, NULL, NULL, "");
  }
  if (!ok || !journal_sql (journal, "COMMIT", NULL, NULL, "")) {
    journal_failed (journal, "be set up", error);
    journal_sql (journal, "ROLLBACK", NULL, NULL, "");
    return FALSE;
  }
  return file_sync_dir_of (sqlite3_db_filename (journal->db, "main"), error);
}

Journal *
journal_open (const char *state_dir, GError **error)
{
  g_autofree char *run = g_build_filename (state_dir, "run", NULL);
  if (g_mkdir_with_parents (run, 0700) != 0) {
    fail_errno (error, errno, "make the state directory '%s'", run);
    hint (error, "run as root, or name another one with --state-dir");
    return NULL;
  }
  g_autoptr (Journal) journal =
      open_database (state_dir, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, error);
  if (journal == NULL || !make_schema (journal, error))
    return NULL;
  return g_steal_pointer (&journal);
}

Journal *
journal_open_to_read (const char *state_dir, GError **error)
{
  g_autofree char *path = g_build_filename (state_dir, "journal.db", NULL);
  gint64 version;
  if (g_access (path, F_OK) != 0)
    return NULL;
  /* A WAL database needs its -shm file even for reading; where the directory cannot be written, an
   * immutable read is the best there is. */
  g_autoptr (Journal) journal = open_database (
      state_dir, g_access (state_dir, W_OK) == 0 ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY,
      error);
  if (journal == NULL || !check_version (journal, &version, error))
    return NULL;
  if (version == 0)
    return NULL;
  return g_steal_pointer (&journal);
}

static gboolean
read_verdict (sqlite3_stmt *row, gpointer data)
{
  *(char **)data = g_strdup (row_text (row, 0));
  return FALSE;
}

gboolean
journal_check (Journal *journal, GError **error)
{
  g_autofree char *verdict = NULL;
  if (!journal_sql (journal, "PRAGMA quick_check (1)", read_verdict, &verdict, ""))
    return journal_failed (journal, "be read", error);
  if (g_strcmp0 (verdict, "ok") == 0)
    return TRUE;
  fail (error, FAILED, "the journal in '%s' is damaged", journal->state_dir);
  return because (error, "%s", verdict ? verdict : "it cannot be read");
}

gint64
journal_version (Journal *journal)
{
  gint64 version = -1;
  journal_sql (journal, "PRAGMA user_version", read_int, &version, "");
  return version;
}
