/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who runs an operation: the process on record, and the lock that it holds while it lives. */
#include "jobs/journal-private.h"

#include "src/common/process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define DYING_MS 2000 /* for its owner to be gone */

char *
journal_run_path (const char *state_dir, const char *id, const char *suffix)
{
  g_autofree char *name = g_strconcat (id, suffix, NULL);
  return g_build_filename (state_dir, "run", name, NULL);
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

gboolean
journal_own (Journal *journal, const char *id, GError **error)
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
void
journal_disown (Journal *journal, const char *id, gboolean ended)
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
  if (!journal_own (journal, op->id, error))
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
