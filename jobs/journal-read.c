/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the journal says of operations, and which of them are in the way of another. */
#include "jobs/journal-private.h"

#include "src/common/fs.h"
#include "src/common/size.h"

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
