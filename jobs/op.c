/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/op.h"

#include <string.h>

#define MAX_ID 31 /* QEMU's limit for node names and job ids */

static const char *const kind_names[] = {[OP_SNAPSHOT] = "snapshot", [OP_MOVE] = "move"};

static const char *const state_names[] = {
#define X(id, word) [id] = word,
  OP_STATES (X)
#undef X
};

#define B(state) (1u << (state))
/* From each state to which. Stuck is left only by recovery. */
static const guint transitions[] = {
  [OP_PLANNED] = B (OP_RUNNING) | B (OP_UNDONE),
  [OP_RUNNING] = B (OP_FINISHING) | B (OP_UNDOING) | B (OP_STUCK) | B (OP_DONE),
  [OP_FINISHING] = B (OP_DONE) | B (OP_UNDOING) | B (OP_STUCK),
  [OP_DONE] = 0,
  [OP_UNDOING] = B (OP_UNDONE) | B (OP_STUCK),
  [OP_UNDONE] = 0,
  [OP_STUCK] = B (OP_RUNNING) | B (OP_FINISHING) | B (OP_UNDOING),
};

const char *
op_kind_name (OpKind kind)
{
  return kind_names[kind];
}

const char *
op_state_name (OpState state)
{
  return (guint)state < N_OP_STATES ? state_names[state] : "unknown";
}

OpState
op_state_parse (const char *word)
{
  for (guint i = 0; i < N_OP_STATES; i++)
    if (g_strcmp0 (word, state_names[i]) == 0)
      return (OpState)i;
  return N_OP_STATES;
}

gboolean
op_state_is_end (OpState state)
{
  return state == OP_DONE || state == OP_UNDONE;
}

gboolean
op_state_allows (OpState from, OpState to)
{
  return (guint)from < N_OP_STATES && (transitions[from] & B (to)) != 0;
}

gboolean
op_set_state (Op *op, OpState state)
{
  if (op->state == state)
    return TRUE;
  if (!op_state_allows (op->state, state)) {
    g_critical ("operation %s: %s -> %s is not allowed", op->id, op_state_name (op->state),
                op_state_name (state));
    return FALSE;
  }
  g_debug ("operation %s: %s -> %s", op->id, op_state_name (op->state), op_state_name (state));
  op->state = state;
  return TRUE;
}

static void
layer_free (gpointer layer)
{
  chain_layer_free (layer);
}

static void
disk_free (gpointer disk)
{
  op_disk_free (disk);
}

static void
strv_free (gpointer strv)
{
  g_strfreev (strv);
}

Op *
op_new (OpKind kind)
{
  Op *op = g_new0 (Op, 1);
  op->kind = kind;
  op->id = g_strdup_printf ("%08x", g_random_int ());
  op->max_pause_ms = 500;
  op->disks = g_ptr_array_new_with_free_func (disk_free);
  op->notes = g_ptr_array_new_with_free_func (g_free);
  op->left = g_ptr_array_new_with_free_func (strv_free);
  op->removed = g_ptr_array_new_with_free_func (strv_free);
  op->after = g_ptr_array_new_with_free_func (strv_free);
  return op;
}

void
op_disk_free (OpDisk *disk)
{
  if (disk == NULL)
    return;
  char *strings[] = {disk->name, disk->qdev, disk->drive, disk->to, disk->part, disk->backing_first,
                     disk->backing, disk->backing_format, disk->node, disk->file_node, disk->job,
                     disk->fold_job, disk->attach_to, disk->old_node};
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_clear_pointer (&disk->before, g_ptr_array_unref);
  g_clear_pointer (&disk->old_ids, g_ptr_array_unref);
  json_object_put (disk->cache);
  g_free (disk);
}

void
op_free (Op *op)
{
  if (op == NULL)
    return;
  g_free (op->id);
  g_free (op->name);
  g_free (op->vm);
  g_free (op->qemu);
  g_ptr_array_unref (op->disks);
  g_ptr_array_unref (op->notes);
  g_ptr_array_unref (op->left);
  g_ptr_array_unref (op->removed);
  g_ptr_array_unref (op->after);
  g_clear_error (&op->error);
  g_free (op);
}

OpDisk *
op_disk (Op *op, guint i)
{
  return op->disks->pdata[i];
}

static char *
our_name (Op *op, const char *disk, const char *what)
{
  return g_strdup_printf ("rc-%s-%s-%s", op->id, disk, what);
}

void
op_name_disk (Op *op, OpDisk *disk)
{
  /* "rc-" + 8 + "-" + disk + "-" + "stream" must fit. */
  const gsize room = MAX_ID - strlen ("rc-12345678--stream");
  g_autoptr (GString) safe = g_string_new (NULL);
  for (const char *c = disk->name; *c != '\0' && safe->len < room; c++)
    g_string_append_c (safe, g_ascii_isalnum (*c) || *c == '.' || *c == '_' ? *c : '_');
  /* A name that was bent to fit may meet another one: the index tells them apart. */
  if (!g_str_equal (safe->str, disk->name)) {
    g_autofree char *suffix = g_strdup_printf ("%u", disk->index);
    g_string_truncate (safe, MIN (safe->len, room - strlen (suffix) - 1));
    g_string_append_printf (safe, ".%s", suffix);
  }
  g_autofree char *dir = g_path_get_dirname (disk->to);
  disk->part = g_strdup_printf ("%s%s.rc-%s-%u.part", dir, g_str_equal (dir, "/") ? "" : "/", op->id,
                                disk->index);
  disk->node = our_name (op, safe->str, "ov");
  disk->file_node = our_name (op, safe->str, "ovf");
  disk->old_node = our_name (op, safe->str, "old");
  disk->job = our_name (op, safe->str, "stream");
  disk->fold_job = our_name (op, safe->str, "fold");
}

ChainDisk *
op_find_disk (Op *op, OpDisk *disk, World *world)
{
  GPtrArray *disks = world_disks (world);
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *d = disks->pdata[i];
    if (disk->qdev != NULL ? g_strcmp0 (d->qdev, disk->qdev) == 0
                           : g_strcmp0 (disk->drive ? d->drive : d->name,
                                        disk->drive ? disk->drive : disk->name) == 0)
      return d;
  }
  return NULL;
}

guint
op_disk_dropped (OpDisk *disk)
{
  return (guint)disk->base;
}

char **
op_disk_planned_chain (OpDisk *disk)
{
  g_autoptr (GPtrArray) files = g_ptr_array_new ();
  g_ptr_array_add (files, g_strdup (disk->to));
  for (guint i = (guint)disk->base; i < disk->before->len; i++)
    g_ptr_array_add (files, g_strdup (((ChainLayer *)disk->before->pdata[i])->file));
  g_ptr_array_add (files, NULL);
  return (char **)g_ptr_array_free (g_steal_pointer (&files), FALSE);
}

/* ---- to and from the journal ---------------------------------------------------------------- */

typedef struct {
  const char *key;
  gsize offset;
} Field;

#define F(type, member) {#member, G_STRUCT_OFFSET (type, member)}

static const Field layer_strings[] = {F (ChainLayer, file), F (ChainLayer, format), F (ChainLayer, node),
                                      F (ChainLayer, protocol_node), F (ChainLayer, backing),
                                      F (ChainLayer, backing_format)};
static const Field disk_strings[] = {
  F (OpDisk, name), F (OpDisk, qdev), F (OpDisk, drive), F (OpDisk, to), F (OpDisk, part),
  F (OpDisk, backing_first), F (OpDisk, backing), F (OpDisk, backing_format), F (OpDisk, node),
  F (OpDisk, file_node), F (OpDisk, job), F (OpDisk, fold_job), F (OpDisk, attach_to),
  F (OpDisk, old_node)};
static const Field op_strings[] = {F (Op, id), F (Op, name), F (Op, vm), F (Op, qemu)};
static const Field op_numbers[] = {F (Op, qemu_start), F (Op, bandwidth), F (Op, timeout_ms),
                                   F (Op, max_pause_ms)};

#define FIELD(type, object, field) (*(type *)(void *)((char *)(object) + (field).offset))

static void
put_strings (Json *json, gconstpointer object, const Field *fields, gsize n)
{
  for (gsize i = 0; i < n; i++)
    json_set (json, fields[i].key, json_str (FIELD (char *, object, fields[i])));
}

static void
get_strings (Json *json, gpointer object, const Field *fields, gsize n)
{
  for (gsize i = 0; i < n; i++) {
    g_free (FIELD (char *, object, fields[i]));
    FIELD (char *, object, fields[i]) = g_strdup (json_get_str (json, fields[i].key));
  }
}

static Json *
id_to_json (FileId id)
{
  return json_list (json_int ((gint64)id.dev), json_int ((gint64)id.ino), NULL);
}

static FileId
id_from_json (Json *json)
{
  return (FileId){.dev = (guint64)json_object_get_int64 (json_at (json, 0)),
                  .ino = (guint64)json_object_get_int64 (json_at (json, 1))};
}

static Json *
disk_to_json (OpDisk *disk)
{
  Json *json = json_make ("base", json_int (disk->base), "needed", json_int ((gint64)disk->needed),
                          "has_needed", json_flag (disk->has_needed), "free",
                          json_int ((gint64)disk->free), "cache",
                          disk->cache ? json_dup (disk->cache) : NULL, NULL);
  put_strings (json, disk, disk_strings, G_N_ELEMENTS (disk_strings));
  Json *before = json_array ();
  for (guint i = 0; i < disk->before->len; i++) {
    ChainLayer *layer = disk->before->pdata[i];
    Json *one = json_make ("read_only", json_flag (layer->read_only), "virtual_size",
                           json_int ((gint64)layer->virtual_size), NULL);
    put_strings (one, layer, layer_strings, G_N_ELEMENTS (layer_strings));
    json_append (before, one);
  }
  json_set (json, "before", before);
  Json *ids = json_array ();
  for (guint i = 0; i < disk->old_ids->len; i++)
    json_append (ids, id_to_json (*(FileId *)disk->old_ids->pdata[i]));
  json_set (json, "old_ids", ids);
  return json;
}

Json *
op_to_json (Op *op)
{
  Json *json = json_make ("kind", json_str (op_kind_name (op->kind)), "flags", json_int (op->flags),
                          "qemu_pid", json_int (op->qemu_pid), "mask_protocol",
                          json_flag (op->mask_protocol), "start_held", json_flag (op->start_held), NULL);
  put_strings (json, op, op_strings, G_N_ELEMENTS (op_strings));
  for (gsize i = 0; i < G_N_ELEMENTS (op_numbers); i++)
    json_set (json, op_numbers[i].key, json_int ((gint64)FIELD (guint64, op, op_numbers[i])));
  Json *disks = json_array ();
  for (guint i = 0; i < op->disks->len; i++)
    json_append (disks, disk_to_json (op_disk (op, i)));
  json_set (json, "disks", disks);
  return json;
}

static Json *
strvs_to_json (GPtrArray *strvs)
{
  Json *all = json_array ();
  for (guint i = 0; i < strvs->len; i++) {
    Json *one = json_array ();
    for (char **s = strvs->pdata[i]; s != NULL && *s != NULL; s++)
      json_append (one, json_str (*s));
    json_append (all, one);
  }
  return all;
}

static void
strvs_from_json (Json *all, GPtrArray *strvs)
{
  g_ptr_array_set_size (strvs, 0);
  for (gsize i = 0; i < json_length (all); i++) {
    g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
    for (gsize k = 0; k < json_length (json_at (all, i)); k++)
      g_strv_builder_add (builder, json_object_get_string (json_at (json_at (all, i), k)));
    g_ptr_array_add (strvs, g_strv_builder_end (builder));
  }
}

static Json *
error_to_json (const GError *error)
{
  if (error == NULL)
    return NULL;
  return json_make ("code", json_str (rechain_error_code_name ((RechainError)error->code)), "number",
                    json_int (error->code), "message", json_str (error->message), "cause",
                    json_str (rechain_error_get_cause (error)), "hint",
                    json_str (rechain_error_get_hint (error)), NULL);
}

static GError *
error_from_json (Json *json)
{
  GError *error = NULL;
  if (json_get_str (json, "message") == NULL)
    return NULL;
  fail (&error, (RechainError)CLAMP (json_get_int (json, "number"), FAILED, INTERRUPTED), "%s",
        json_get_str (json, "message"));
  if (json_get_str (json, "cause") != NULL)
    because (&error, "%s", json_get_str (json, "cause"));
  if (json_get_str (json, "hint") != NULL)
    hint (&error, "%s", json_get_str (json, "hint"));
  return error;
}

Json *
op_facts_to_json (Op *op)
{
  Json *disks = json_array ();
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    json_append (disks, json_make ("made", json_flag (disk->made), "id", id_to_json (disk->id),
                                             NULL));
  }
  return json_make ("was_running", json_flag (op->was_running), "held", json_flag (op->held), "switched",
                    json_flag (op->switched), "attempt",
                    json_int (op->attempt), "pause_us", json_int ((gint64)op->pause_us), "bytes",
                    json_int ((gint64)op->bytes), "error", error_to_json (op->error), "left",
                    strvs_to_json (op->left), "removed", strvs_to_json (op->removed), "after",
                    strvs_to_json (op->after), "disks", disks, NULL);
}

static gboolean
disk_from_json (Op *op, Json *json, Json *facts, guint index)
{
  OpDisk *disk = g_new0 (OpDisk, 1);
  g_ptr_array_add (op->disks, disk);
  disk->index = index;
  disk->before = g_ptr_array_new_with_free_func (layer_free);
  disk->old_ids = g_ptr_array_new_with_free_func (g_free);
  get_strings (json, disk, disk_strings, G_N_ELEMENTS (disk_strings));
  disk->base = (int)json_get_int (json, "base");
  disk->needed = (guint64)json_get_int (json, "needed");
  disk->has_needed = json_get_bool (json, "has_needed");
  disk->free = (guint64)json_get_int (json, "free");
  disk->cache = json_has (json, "cache") ? json_dup (json_get (json, "cache")) : NULL;
  Json *before = json_get (json, "before");
  for (gsize i = 0; i < json_length (before); i++) {
    ChainLayer *layer = g_new0 (ChainLayer, 1);
    get_strings (json_at (before, i), layer, layer_strings, G_N_ELEMENTS (layer_strings));
    layer->read_only = json_get_bool (json_at (before, i), "read_only");
    layer->virtual_size = (guint64)json_get_int (json_at (before, i), "virtual_size");
    layer->filters = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (disk->before, layer);
  }
  Json *ids = json_get (json, "old_ids");
  for (gsize i = 0; i < json_length (ids); i++) {
    FileId id = id_from_json (json_at (ids, i));
    g_ptr_array_add (disk->old_ids, g_memdup2 (&id, sizeof id));
  }
  disk->made = json_get_bool (facts, "made");
  disk->id = id_from_json (json_get (facts, "id"));
  return disk->name && disk->to && disk->part && disk->node && disk->file_node && disk->job &&
         disk->fold_job && disk->before->len > 0 && disk->base >= 0 &&
         (guint)disk->base <= disk->before->len;
}

Op *
op_from_json (Json *plan, Json *facts, GError **error)
{
  g_autoptr (Op) op = op_new (OP_SNAPSHOT);
  const char *kind = json_get_str (plan, "kind");
  gboolean ok = FALSE;
  for (guint i = 0; i < N_OP_KINDS; i++)
    if (g_strcmp0 (kind, kind_names[i]) == 0) {
      op->kind = (OpKind)i;
      ok = TRUE;
    }
  get_strings (plan, op, op_strings, G_N_ELEMENTS (op_strings));
  for (gsize i = 0; i < G_N_ELEMENTS (op_numbers); i++)
    FIELD (guint64, op, op_numbers[i]) = (guint64)json_get_int (plan, op_numbers[i].key);
  op->flags = (OpFlags)json_get_int (plan, "flags");
  op->qemu_pid = (pid_t)json_get_int (plan, "qemu_pid");
  op->mask_protocol = json_get_bool (plan, "mask_protocol");
  op->start_held = json_get_bool (plan, "start_held");
  op->was_running = json_get_bool (facts, "was_running");
  op->held = json_get_bool (facts, "held");
  op->switched = json_get_bool (facts, "switched");
  op->attempt = (guint)json_get_int (facts, "attempt");
  op->pause_us = (guint64)json_get_int (facts, "pause_us");
  op->bytes = (guint64)json_get_int (facts, "bytes");
  op->error = error_from_json (json_get (facts, "error"));
  strvs_from_json (json_get (facts, "left"), op->left);
  strvs_from_json (json_get (facts, "removed"), op->removed);
  strvs_from_json (json_get (facts, "after"), op->after);
  Json *disks = json_get (plan, "disks");
  for (gsize i = 0; i < json_length (disks); i++)
    ok &= disk_from_json (op, json_at (disks, i), json_at (json_get (facts, "disks"), i), (guint)i);
  if (!ok || op->id == NULL || op->vm == NULL || op->disks->len == 0) {
    fail (error, FAILED, "the journal's record of operation '%s' is malformed", op->id ? op->id : "?");
    return NULL;
  }
  return g_steal_pointer (&op);
}
