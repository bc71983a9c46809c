/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clang-format off */
/* Invariants. Each is tested by name in tests/unit/test-journal.c.
 *
 * (1) Nothing is asked of QEMU, and no image is created, changed or removed, before its intent is durable.
 *     [run-step.c: record_intent -> journal_write]
 * (2) No job is dismissed before its outcome is durable.
 *     [blocks.c: record_and_dismiss; run-look.c: on_jobs_before_look]
 * (3) If recording fails we do not act; if it fails in the middle we stop, and say so. An fsync error is an
 *     error. [every call returns it; run-end.c]
 * (4) The journal says what we intended and saw. What is, QEMU and the file system say.
 *     [nothing of it is read by a running operation]
 * (5) Undo and recovery are idempotent: twice, or after nothing happened, is harmless.
 *     [step.h: undo is made from the world as it is]
 * (6) One runner owns an operation at a time (pid + start time + lock); a dead owner's operation can be
 *     taken over, a live one's cannot. [journal_begin, journal_take_over]
 */
/* clang-format on */
#include "jobs/journal-private.h"

#include "src/common/process.h"

#include <unistd.h>

void
journal_line_free (gpointer data)
{
  JournalLine *line = data;
  char *strings[] = {line->operation, line->step,  line->disk,
                     line->direction, line->phase, line->detail};
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_free (line);
}

static gboolean
write_lines (Journal *journal)
{
  for (guint i = 0; i < journal->lines->len; i++) {
    JournalLine *line = journal->lines->pdata[i];
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
  if (!journal_own (journal, op->id, error)) {
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
    journal_disown (journal, op->id, TRUE);
  return ok;
}

void
journal_note (Journal *journal, Op *op, const char *step, const char *disk, const char *direction,
              const char *phase, const char *detail)
{
  JournalLine *line = g_new0 (JournalLine, 1);
  g_autofree char *valid = detail ? g_utf8_make_valid (detail, -1) : NULL;
  *line = (JournalLine){.operation = g_strdup (op->id),
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
  journal_disown (journal, op->id, ended);
  return TRUE;
}
