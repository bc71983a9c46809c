/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Invariants. Each is tested by name in tests/unit/test-journal.c.
 *
 * (1) Nothing is asked of QEMU, and no image is created, changed or removed, before its intent is
 *     durable.                                  [run-step.c: record_intent -> journal_write]
 * (2) No job is dismissed before its outcome is durable.
 *                                               [blocks.c: record_and_dismiss; run-look.c:
 *                                                on_jobs_before_look]
 * (3) If recording fails we do not act; if it fails in the middle we stop, and say so. An fsync
 * error is an error.                              [every call returns it; run-end.c] (4) The
 * journal says what we intended and saw. What is, QEMU and the file system say. [nothing here is
 * read by a running operation] (5) Undo and recovery are idempotent: twice, or after nothing
 * happened, is harmless. [step.h: undo is made from the world as it is] (6) One runner owns an
 * operation at a time (pid + start time + lock); a dead owner's operation can be taken over, a live
 * one's cannot.          [journal_begin, journal_take_over]
 */
#include "jobs/journal-private.h"

#include "jobs/journal-schema.h"
#include "jobs/beside-schema.h"
#include "jobs/snapshots-schema.h"
#include "src/common/size.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define BUSY_MS  5000
#define DYING_MS 2000 /* for its owner to be gone */

/* What makes version N + 1 of the tables out of version N. */
static const char *const migrations[] = {journal_schema, snapshots_schema, beside_schema};
#define USER_VERSION ((gint64)G_N_ELEMENTS (migrations))

typedef struct {
  char *operation, *step, *disk, *direction, *phase, *detail;
  gint64 at;
} Line;

struct _Journal {
  sqlite3 *db;
  GHashTable
      *statements; /* const char *sql -> sqlite3_stmt*, prepared earlier and not in use now */
  char *state_dir;
  GPtrArray *lines; /* Line*, not yet durable */
  int lock_fd;      /* of the operation we own, -1 */
};

static void
line_free (gpointer data)
{
  Line *line = data;
  char *strings[] = {line->operation, line->step,  line->disk,
                     line->direction, line->phase, line->detail};
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_free (line);
}

gboolean
journal_failed (Journal *journal, const char *what, GError **error)
{
  fail (error, FAILED, "the journal in '%s' cannot %s", journal->state_dir, what);
  because (error, "%s", journal->db ? sqlite3_errmsg (journal->db) : "out of memory");
  return hint (error,
               "look for free space and permissions there; nothing is done without the journal");
}

/* ---- statements: prepared once, bound, stepped and reset in one place --------------------------
 */

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

/* ---- opening -----------------------------------------------------------------------------------
 */

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
  journal->lines = g_ptr_array_new_with_free_func (line_free);
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

/* ---- ownership ----------------------------------------------------------------------------------
 */

char *
journal_run_path (const char *state_dir, const char *id, const char *suffix)
{
  g_autofree char *name = g_strconcat (id, suffix, NULL);
  return g_build_filename (state_dir, "run", name, NULL);
}

const char *
host_boot (void)
{
  static char *boot = NULL;
  if (boot == NULL && g_file_get_contents ("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
    g_strstrip (boot);
  return boot;
}

guint64
process_start_time (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int)pid);
  g_autofree char *text = NULL;
  if (pid <= 0 || !g_file_get_contents (path, &text, NULL, NULL))
    return 0;
  /* The second field is a name in parentheses that may itself contain anything. */
  const char *rest = strrchr (text, ')');
  if (rest == NULL)
    return 0;
  g_auto (GStrv) fields = g_strsplit (rest + 1, " ", -1);
  /* Dead, though its parent has not looked yet. */
  if (g_strv_length (fields) > 1 && (g_str_equal (fields[1], "Z") || g_str_equal (fields[1], "X")))
    return 0;
  /* Field 22 of the line is the 20th after the name; the split begins with an empty one. */
  return g_strv_length (fields) > 20 ? g_ascii_strtoull (fields[20], NULL, 10) : 0;
}

/* SIGKILL is on its way to it, which nothing takes back. */
static gboolean
process_is_dying (pid_t pid)
{
  static const char *const pending[] = {"\nSigPnd:\t", "\nShdPnd:\t"};
  g_autofree char *path = g_strdup_printf ("/proc/%d/status", (int)pid);
  g_autofree char *text = NULL;
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS (pending); i++) {
    const char *line = strstr (text, pending[i]);
    if (line != NULL &&
        (g_ascii_strtoull (line + strlen (pending[i]), NULL, 16) >> (SIGKILL - 1) & 1))
      return TRUE;
  }
  return FALSE;
}

static int
take_lock (Journal *journal, const char *id)
{
  g_autofree char *path = journal_run_path (journal->state_dir, id, ".lock");
  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) != 0) {
    int errnum = errno;
    close (fd);
    errno = errnum;
    return -1;
  }
  return fd;
}

static gboolean
own (Journal *journal, const char *id, GError **error)
{
  journal->lock_fd = take_lock (journal, id);
  if (journal->lock_fd >= 0)
    return TRUE;
  if (errno != EWOULDBLOCK)
    return fail_errno (error, errno, "lock operation %s", id);
  fail (error, REFUSED, "operation %s is being run by another process", id);
  return hint (error, "rechain op show %s; rechain op cancel %s", id, id);
}

/* The file of an operation that goes on stays: two takers must meet at the same inode. */
static void
drop_lock (Journal *journal, const char *id, gboolean ended)
{
  g_autofree char *path = journal_run_path (journal->state_dir, id, ".lock");
  g_autofree char *busy = journal_run_path (journal->state_dir, id, ".busy");
  if (journal->lock_fd < 0)
    return;
  if (ended) {
    unlink (path);
    unlink (busy);
  }
  close (journal->lock_fd);
  journal->lock_fd = -1;
}

typedef struct {
  gint64 pid, start;
  gboolean found, ended;
} OwnerRow;

static gboolean
read_owner (sqlite3_stmt *row, gpointer data)
{
  *(OwnerRow *)data = (OwnerRow){.pid = sqlite3_column_int64 (row, 0),
                                 .start = sqlite3_column_int64 (row, 1),
                                 .ended = sqlite3_column_type (row, 2) != SQLITE_NULL,
                                 .found = TRUE};
  return FALSE;
}

Owner
journal_owner (Journal *journal, const char *id, pid_t *ret_pid)
{
  OwnerRow owner = {0};
  journal_sql (journal, "SELECT owner_pid, owner_start, ended FROM operations WHERE id = ?",
               read_owner, &owner, "s", id);
  if (ret_pid != NULL)
    *ret_pid = (pid_t)owner.pid;
  if (!owner.found || owner.ended)
    return OWNER_NONE;
  gboolean alive = owner.pid > 0 && process_start_time ((pid_t)owner.pid) == (guint64)owner.start &&
                   !process_is_dying ((pid_t)owner.pid);
  return alive ? OWNER_ALIVE : OWNER_DEAD;
}

/* Of a process that was killed a moment ago the threads end one by one, and the last one takes the
 * lock along. */
static void
wait_for_lock (Journal *journal, const char *id)
{
  for (guint waited = 0; waited < DYING_MS && journal_owner (journal, id, NULL) == OWNER_DEAD;
       waited += 5) {
    int fd = take_lock (journal, id);
    if (fd >= 0)
      close (fd);
    if (fd >= 0 || errno != EWOULDBLOCK)
      return;
    g_usleep (5000);
  }
}

gboolean
journal_take_over (Journal *journal, Op *op, GError **error)
{
  pid_t pid;
  if (journal_owner (journal, op->id, &pid) == OWNER_ALIVE && pid != getpid ()) {
    fail (error, REFUSED, "operation %s is being run by process %d", op->id, (int)pid);
    return hint (error, "rechain op cancel %s cancels and undoes it", op->id);
  }
  wait_for_lock (journal, op->id);
  if (!own (journal, op->id, error))
    return FALSE;
  if (!journal_sql (journal, "UPDATE operations SET owner_pid = ?, owner_start = ? WHERE id = ?",
                    NULL, NULL, "iis", (gint64)getpid (), (gint64)process_start_time (getpid ()),
                    op->id))
    return journal_failed (journal, "take over an operation", error);
  return TRUE;
}

/* A process that dies right after it has recorded the end of an operation leaves the files beside
 * it. Whoever records a new one makes its lock in a transaction, so none can be begun meanwhile. */
void
journal_sweep (Journal *journal)
{
  g_autofree char *path = g_build_filename (journal->state_dir, "run", NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  if (dir == NULL || !journal_sql (journal, "BEGIN IMMEDIATE", NULL, NULL, ""))
    return;
  for (const char *name = g_dir_read_name (dir); name != NULL; name = g_dir_read_name (dir)) {
    const char *dot = strchr (name, '.');
    g_autofree char *id = dot ? g_strndup (name, (gsize)(dot - name)) : NULL;
    g_autofree char *file = g_build_filename (path, name, NULL);
    if (id != NULL && journal_owner (journal, id, NULL) == OWNER_NONE)
      unlink (file);
  }
  journal_sql (journal, "ROLLBACK", NULL, NULL, "");
}

/* ---- writing --------------------------------------------------------------------------------- */

static gboolean
write_lines (Journal *journal)
{
  for (guint i = 0; i < journal->lines->len; i++) {
    Line *line = journal->lines->pdata[i];
    if (!journal_sql (journal,
                      "INSERT INTO steps (operation, at, step, disk, direction, phase, detail)"
                      " VALUES (?, ?, ?, ?, ?, ?, ?)",
                      NULL, NULL, "sisssss", line->operation, line->at, line->step, line->disk,
                      line->direction, line->phase, line->detail))
      return FALSE;
  }
  return TRUE;
}

gboolean
journal_commit (Journal *journal, gboolean ok, const char *what, GError **error)
{
  if (ok && write_lines (journal) && journal_sql (journal, "COMMIT", NULL, NULL, "")) {
    g_ptr_array_set_size (journal->lines, 0);
    return TRUE;
  }
  journal_failed (journal, what, error);
  journal_sql (journal, "ROLLBACK", NULL, NULL, "");
  return FALSE;
}

/* Full, nullable: the unfinished operation that is in the way. */
static char *
find_conflict (Journal *journal, Op *op, OpDisk *disk)
{
  char *other = op->vm ? journal_find_open (journal, op->vm, disk->name) : NULL;
  for (guint i = 0; i < disk->before->len && other == NULL; i++) {
    const char *file = ((ChainLayer *)disk->before->pdata[i])->file;
    if (file != NULL && file[0] == '/')
      other = journal_find_user (journal, file, (int)i < disk->base);
  }
  Json *uses = json_get (disk->details, "uses");
  for (gsize i = 0; i < json_length (uses) && other == NULL; i++)
    other = journal_find_user (journal, json_object_get_string (json_at (uses, i)), FALSE);
  if (other == NULL && disk->to != NULL)
    other = journal_find_user (journal, disk->to, TRUE);
  if (other == NULL && disk->name[0] == '/')
    other = journal_find_user (journal, disk->name, TRUE);
  return other;
}

gboolean
journal_begin (Journal *journal, Op *op, GError **error)
{
  if (!journal_sql (journal, "BEGIN IMMEDIATE", NULL, NULL, ""))
    return journal_failed (journal, "be written", error);
  for (guint i = 0; i < op->disks->len; i++) {
    g_autofree char *other = find_conflict (journal, op, op_disk (op, i));
    if (other == NULL)
      continue;
    journal_sql (journal, "ROLLBACK", NULL, NULL, "");
    fail (error, REFUSED, "operation %s on disk '%s' has not ended", other, op_disk (op, i)->name);
    return hint (error, "rechain op show %s; if its process is dead: rechain recover --op %s",
                 other, other);
  }
  if (!own (journal, op->id, error)) {
    journal_sql (journal, "ROLLBACK", NULL, NULL, "");
    return FALSE;
  }
  g_autoptr (Json) plan = op_to_json (op);
  g_autoptr (Json) facts = op_facts_to_json (op);
  g_autofree char *plan_text = json_line (plan);
  g_autofree char *facts_text = json_line (facts);
  gboolean ok = journal_sql (
      journal,
      "INSERT INTO operations (id, kind, vm, state, plan, facts, owner_pid, owner_start, started)"
      " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      NULL, NULL, "ssssssiii", op->id, op_kind_name (op->kind), op->vm ? op->vm : "",
      op_state_name (op->state), plan_text, facts_text, (gint64)getpid (),
      (gint64)process_start_time (getpid ()), op->started_us);
  ok = journal_commit (journal, ok, "record a new operation", error);
  if (!ok)
    drop_lock (journal, op->id, TRUE);
  return ok;
}

void
journal_note (Journal *journal, Op *op, const char *step, const char *disk, const char *direction,
              const char *phase, const char *detail)
{
  Line *line = g_new0 (Line, 1);
  g_autofree char *valid = detail ? g_utf8_make_valid (detail, -1) : NULL;
  *line = (Line){.operation = g_strdup (op->id),
                 .step = g_strdup (step),
                 .disk = g_strdup (disk),
                 .direction = g_strdup (direction),
                 .phase = g_strdup (phase),
                 .detail = g_steal_pointer (&valid),
                 .at = g_get_real_time ()};
  g_ptr_array_add (journal->lines, line);
}

static gboolean
update (Journal *journal, Op *op)
{
  g_autoptr (Json) facts = op_facts_to_json (op);
  g_autofree char *text = json_line (facts);
  return journal_sql (journal,
                      "UPDATE operations SET state = ?, decided = ?, facts = ? WHERE id = ?", NULL,
                      NULL, "siss", op_state_name (op->state), (gint64)op->decided, text, op->id);
}

gboolean
journal_write (Journal *journal, Op *op, GError **error)
{
  if (!journal_sql (journal, "BEGIN IMMEDIATE", NULL, NULL, ""))
    return journal_failed (journal, "be written", error);
  return journal_commit (journal, update (journal, op), "record a step", error);
}

gboolean
journal_release (Journal *journal, Op *op, gboolean ended, GError **error)
{
  if (!journal_sql (journal, "BEGIN IMMEDIATE", NULL, NULL, ""))
    return journal_failed (journal, "be written", error);
  gboolean ok =
      update (journal, op) &&
      journal_sql (journal,
                   "UPDATE operations SET owner_pid = NULL, owner_start = NULL WHERE id = ?", NULL,
                   NULL, "s", op->id) &&
      (!ended || journal_sql (journal, "UPDATE operations SET ended = ? WHERE id = ?", NULL, NULL,
                              "is", op->ended_us, op->id));
  if (!journal_commit (journal, ok, "record the end of an operation", error))
    return FALSE;
  drop_lock (journal, op->id, ended);
  return TRUE;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct {
  Op *op;
  GError **error;
  guint rows;
} Loading;

static gboolean
read_op (sqlite3_stmt *row, gpointer data)
{
  Loading *loading = data;
  if (++loading->rows > 1)
    return FALSE;
  g_autoptr (Json) plan = json_parse (row_text (row, 0), -1);
  g_autoptr (Json) facts = json_parse (row_text (row, 1), -1);
  OpState state = op_state_parse (row_text (row, 2));
  loading->op = op_from_json (plan, facts, loading->error);
  if (loading->op == NULL)
    return TRUE;
  loading->op->state = state == N_OP_STATES ? OP_STUCK : state;
  loading->op->decided = (OpDecision)CLAMP (sqlite3_column_int64 (row, 3), 0, DECIDED_OLD);
  loading->op->started_us = sqlite3_column_int64 (row, 4);
  loading->op->ended_us = sqlite3_column_int64 (row, 5);
  return TRUE;
}

Op *
journal_load (Journal *journal, const char *id, GError **error)
{
  Loading loading = {.error = error};
  if (journal != NULL &&
      !journal_sql (journal,
                    "SELECT plan, facts, state, decided, started, ended FROM operations"
                    " WHERE substr (id, 1, length (?1)) = ?1 ORDER BY id LIMIT 2",
                    read_op, &loading, "s", id)) {
    g_clear_pointer (&loading.op, op_free);
    journal_failed (journal, "be read", error);
    return NULL;
  }
  if (loading.rows == 1)
    return loading.op;
  g_clear_pointer (&loading.op, op_free);
  fail (error, loading.rows ? REFUSED : NOT_FOUND,
        loading.rows ? "'%s' begins more than one operation" : "there is no operation '%s'", id);
  hint (error, "rechain op list");
  return NULL;
}

static gboolean
read_id (sqlite3_stmt *row, gpointer data)
{
  g_strv_builder_add (data, row_text (row, 0));
  return TRUE;
}

char **
journal_list (Journal *journal, gboolean open_only, const char *vm, GError **error)
{
  g_autoptr (GStrvBuilder) ids = g_strv_builder_new ();
  if (!journal_sql (
          journal,
          "SELECT id FROM operations WHERE (ended IS NULL OR NOT ?1) AND (?2 IS NULL OR vm = ?2)"
          " ORDER BY started DESC, id",
          read_id, ids, "is", (gint64)open_only, vm)) {
    journal_failed (journal, "be read", error);
    return NULL;
  }
  return g_strv_builder_end (ids);
}

static gboolean
read_line (sqlite3_stmt *row, gpointer data)
{
  g_autofree char *at = format_time (sqlite3_column_int64 (row, 0));
  json_append (data, json_make ("at", json_str (at), "step", json_str (row_text (row, 1)), "disk",
                                json_str (row_text (row, 2)), "direction",
                                json_str (row_text (row, 3)), "phase", json_str (row_text (row, 4)),
                                "detail", json_str (row_text (row, 5)), NULL));
  return TRUE;
}

Json *
journal_steps (Journal *journal, const char *id, GError **error)
{
  g_autoptr (Json) lines = json_array ();
  if (!journal_sql (journal,
                    "SELECT at, step, disk, direction, phase, detail FROM steps WHERE operation = ?"
                    " ORDER BY seq",
                    read_line, lines, "s", id)) {
    journal_failed (journal, "be read", error);
    return NULL;
  }
  return g_steal_pointer (&lines);
}

typedef struct {
  const char *disk;
  char *found;
} Search;

static gboolean
match_disk (sqlite3_stmt *row, gpointer data)
{
  Search *search = data;
  g_autoptr (Json) plan = json_parse (row_text (row, 1), -1);
  Json *disks = json_get (plan, "disks");
  gboolean found = search->disk == NULL;
  for (gsize i = 0; !found && i < json_length (disks); i++)
    found = g_strcmp0 (json_get_str (json_at (disks, i), "name"), search->disk) == 0;
  if (found)
    search->found = g_strdup (row_text (row, 0));
  return !found;
}

char *
journal_find_open (Journal *journal, const char *vm, const char *disk)
{
  Search search = {.disk = disk};
  journal_sql (journal, "SELECT id, plan FROM operations WHERE ended IS NULL AND vm = ?",
               match_disk, &search, "s", vm);
  return search.found;
}

typedef struct {
  const char *file;
  gboolean changes;
  char *found;
} FileSearch;

static gboolean
is_file (Json *json, const char *key, const char *file)
{
  const char *name = json_get_str (json, key);
  return name != NULL && name[0] == '/' && path_same_file (name, file);
}

/* Does the operation with this disk change the file, or (@use) need it as it is? */
static gboolean
touches_file (Json *disk, const char *file, gboolean use)
{
  static const char *const changed[] = {"name", "to", "receiver", "header"};
  Json *before = json_get (disk, "before");
  gsize n = use ? json_length (before) : (gsize)MAX (json_get_int (disk, "base"), 0);
  for (gsize i = 0; i < G_N_ELEMENTS (changed); i++)
    if (is_file (disk, changed[i], file))
      return TRUE;
  for (gsize i = 0; i < MIN (n, json_length (before)); i++)
    if (is_file (json_at (before, i), "file", file))
      return TRUE;
  Json *uses = json_get (json_get (disk, "details"), "uses");
  for (gsize i = 0; use && i < json_length (uses); i++)
    if (path_same_file (json_object_get_string (json_at (uses, i)), file))
      return TRUE;
  return FALSE;
}

static gboolean
match_file (sqlite3_stmt *row, gpointer data)
{
  FileSearch *search = data;
  g_autoptr (Json) plan = json_parse (row_text (row, 1), -1);
  Json *disks = json_get (plan, "disks");
  for (gsize i = 0; i < json_length (disks); i++)
    if (touches_file (json_at (disks, i), search->file, search->changes)) {
      search->found = g_strdup (row_text (row, 0));
      return FALSE;
    }
  return TRUE;
}

char *
journal_find_user (Journal *journal, const char *file, gboolean changes)
{
  FileSearch search = {.file = file, .changes = changes};
  journal_sql (journal, "SELECT id, plan FROM operations WHERE ended IS NULL", match_file, &search,
               "");
  return search.found;
}
