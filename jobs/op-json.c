/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation to and from the journal: what was fixed when it was planned, and its facts. */
#include "jobs/grow.h"
#include "jobs/step.h"
#include "src/common/process.h"

typedef struct {
  const char *key;
  gsize offset;
} Field;

/* clang-format off */
#define F(type, member) {#member, G_STRUCT_OFFSET (type, member)}
/* clang-format on */

static const Field layer_strings[] = {F (ChainLayer, file),    F (ChainLayer, format),
                                      F (ChainLayer, node),    F (ChainLayer, protocol_node),
                                      F (ChainLayer, backing), F (ChainLayer, backing_format)};
static const Field disk_strings[] = {F (OpDisk, name),      F (OpDisk, qdev),
                                     F (OpDisk, drive),     F (OpDisk, to),
                                     F (OpDisk, part),      F (OpDisk, backing_first),
                                     F (OpDisk, backing),   F (OpDisk, backing_format),
                                     F (OpDisk, node),      F (OpDisk, file_node),
                                     F (OpDisk, job),       F (OpDisk, fold_job),
                                     F (OpDisk, attach_to), F (OpDisk, old_node),
                                     F (OpDisk, export),    F (OpDisk, socket),
                                     F (OpDisk, receiver),  F (OpDisk, header),
                                     F (OpDisk, to_format), F (OpDisk, backing_old)};
static const Field op_strings[] = {F (Op, id),   F (Op, name),  F (Op, description), F (Op, vm),
                                   F (Op, qemu), F (Op, agent), F (Op, migration)};
static const Field op_numbers[] = {F (Op, qemu_start),   F (Op, bandwidth),     F (Op, timeout_ms),
                                   F (Op, max_pause_ms), F (Op, max_freeze_ms), F (Op, grow_step)};

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
  return json_list (json_int ((gint64)id.dev), json_int ((gint64)id.ino),
                    json_int ((gint64)id.born), json_int ((gint64)id.home), NULL);
}

static FileId
id_from_json (Json *json)
{
  return (FileId){.dev = (guint64)json_object_get_int64 (json_at (json, 0)),
                  .ino = (guint64)json_object_get_int64 (json_at (json, 1)),
                  .born = (guint64)json_object_get_int64 (json_at (json, 2)),
                  .home = (guint64)json_object_get_int64 (json_at (json, 3))};
}

static Json *
regions_to_json (GArray *regions)
{
  Json *all = json_array ();
  for (guint i = 0; regions != NULL && i < regions->len; i++) {
    Region *region = &g_array_index (regions, Region, i);
    json_append (
        all, json_list (json_int ((gint64)region->start), json_int ((gint64)region->length), NULL));
  }
  return all;
}

static GArray *
regions_from_json (Json *all)
{
  GArray *regions = g_array_new (FALSE, FALSE, sizeof (Region));
  for (gsize i = 0; i < json_length (all); i++) {
    Region region = {
        .start = (guint64)MAX (json_object_get_int64 (json_at (json_at (all, i), 0)), 0),
        .length = (guint64)MAX (json_object_get_int64 (json_at (json_at (all, i), 1)), 0)};
    g_array_append_val (regions, region);
  }
  return regions;
}

static Json *
disk_to_json (OpDisk *disk)
{
  Json *json = json_make ("mode", json_int (disk->mode), "apart", json_flag (disk->apart), "first",
                          json_int (disk->first), "base", json_int (disk->base), "needed",
                          json_int ((gint64)disk->needed), "has_needed",
                          json_flag (disk->has_needed), "free", json_int ((gint64)disk->free),
                          "cache", disk->cache ? json_dup (disk->cache) : NULL, "bitmaps",
                          disk->bitmaps ? json_dup (disk->bitmaps) : NULL, "details",
                          disk->details ? json_dup (disk->details) : NULL, "grows",
                          grow_images_to_json (disk->grows), NULL);
  put_strings (json, disk, disk_strings, G_N_ELEMENTS (disk_strings));
  json_set (json, "on_delete", json_str (merge_direction_name (disk->on_delete)));
  Json *before = json_array ();
  for (guint i = 0; i < disk->before->len; i++) {
    ChainLayer *layer = disk->before->pdata[i];
    Json *one = json_make ("read_only", json_flag (layer->read_only), "file_read_only",
                           layer->file_read_only ? json_flag (TRUE) : NULL, "virtual_size",
                           json_int ((gint64)layer->virtual_size), NULL);
    put_strings (one, layer, layer_strings, G_N_ELEMENTS (layer_strings));
    json_append (before, one);
  }
  json_set (json, "before", before);
  Json *ids = json_array ();
  for (guint i = 0; i < disk->old_ids->len; i++)
    json_append (ids, id_to_json (*(FileId *)disk->old_ids->pdata[i]));
  json_set (json, "old_ids", ids);
  if (disk->regions != NULL && disk->regions->len > 0)
    json_set (json, "regions", regions_to_json (disk->regions));
  return json;
}

Json *
op_to_json (Op *op)
{
  Json *json = json_make (
      "kind", json_str (op_kind_name (op->kind)), "flags", json_int (op->flags), "qemu_pid",
      json_int (op->qemu_pid), "mask_protocol", json_flag (op->mask_protocol), "start_held",
      json_flag (op->start_held), "old_reopen", op->old_reopen ? json_flag (TRUE) : NULL, "unlocks",
      op->unlocks ? json_flag (TRUE) : NULL, "on_record", json_flag (op->on_record), "locks",
      json_flag (op->locks), "boot", json_str (host_boot ()), NULL);
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
  return json_make ("code", json_str (rechain_error_code_name ((RechainError)error->code)),
                    "number", json_int (error->code), "message", json_str (error->message), "cause",
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
                                   "found", disk->found ? json_dup (disk->found) : NULL, "grown",
                                   grow_facts_to_json (disk->grows), NULL));
  }
  return json_make ("was_running", json_flag (op->was_running), "held", json_flag (op->held),
                    "switched", json_flag (op->switched), "dead", json_flag (op->dead), "frozen",
                    json_flag (op->frozen), "frozen_at_us", json_int (op->frozen_at_us),
                    "filesystems", json_int (op->filesystems), "thawed_early",
                    json_flag (op->thawed_early), "freeze_us", json_int ((gint64)op->freeze_us),
                    "attempt", json_int (op->attempt), "pause_us", json_int ((gint64)op->pause_us),
                    "bytes", json_int ((gint64)op->bytes), "error", error_to_json (op->error),
                    "left", strvs_to_json (op->left), "removed", strvs_to_json (op->removed),
                    "after", strvs_to_json (op->after), "disks", disks, NULL);
}

/* Of files that are known by "dev" and "ino", wherever they are said to be. */
static void
forget_devices (Json *json, guint depth)
{
  if (!json_object_is_type (json, json_type_object) || depth == 0)
    return;
  json_object_object_foreach (json, key, value)
  {
    if (g_str_equal (key, "dev") && json_object_is_type (value, json_type_int))
      json_object_set_int64 (value, 0);
    else
      forget_devices (value, depth - 1);
  }
}

/* A boot gave devices other numbers, as it does on btrfs, on NFS and with device-mapper; inode and
 * name must do. */
static void
forget_devices_of (OpDisk *disk)
{
  for (guint i = 0; i < disk->old_ids->len; i++)
    ((FileId *)disk->old_ids->pdata[i])->dev = 0;
  disk->id.dev = 0;
  forget_devices (disk->details, 3);
  forget_devices (disk->found, 3);
}

static gboolean
disk_from_json (Op *op, Json *json, Json *facts)
{
  OpDisk *disk = op_add_disk (op, NULL);
  get_strings (json, disk, disk_strings, G_N_ELEMENTS (disk_strings));
  disk->mode = (OpMode)json_get_int (json, "mode");
  disk->apart = json_get_bool (json, "apart");
  disk->first = (int)json_get_int (json, "first");
  disk->base = (int)json_get_int (json, "base");
  disk->on_delete = merge_direction_parse (json_get_str (json, "on_delete"));
  disk->needed = (guint64)json_get_int (json, "needed");
  disk->has_needed = json_get_bool (json, "has_needed");
  g_clear_pointer (&disk->regions, g_array_unref);
  disk->regions = regions_from_json (json_get (json, "regions"));
  disk->free = (guint64)json_get_int (json, "free");
  disk->bitmaps = json_has (json, "bitmaps") ? json_dup (json_get (json, "bitmaps")) : NULL;
  disk->cache = json_has (json, "cache") ? json_dup (json_get (json, "cache")) : NULL;
  disk->details = json_has (json, "details") ? json_dup (json_get (json, "details")) : NULL;
  disk->found = json_has (facts, "found") ? json_dup (json_get (facts, "found")) : NULL;
  gboolean grows = grow_images_from_json (json_get (json, "grows"), &disk->grows);
  grow_facts_from_json (json_get (facts, "grown"), disk->grows);
  Json *before = json_get (json, "before");
  for (gsize i = 0; i < json_length (before); i++) {
    ChainLayer *layer = g_new0 (ChainLayer, 1);
    get_strings (json_at (before, i), layer, layer_strings, G_N_ELEMENTS (layer_strings));
    layer->read_only = json_get_bool (json_at (before, i), "read_only");
    layer->file_read_only = json_get_bool (json_at (before, i), "file_read_only");
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
  if (op->rebooted)
    forget_devices_of (disk);
  return grows && op_disk_is_whole (op, disk);
}

static gboolean
kind_from_json (Op *op, Json *plan)
{
  const char *kind = json_get_str (plan, "kind");
  for (guint i = 0; i < N_OP_KINDS; i++)
    if (g_strcmp0 (kind, op_kind_name ((OpKind)i)) == 0) {
      op->kind = (OpKind)i;
      return TRUE;
    }
  return FALSE;
}

static void
plan_from_json (Op *op, Json *plan)
{
  get_strings (plan, op, op_strings, G_N_ELEMENTS (op_strings));
  for (gsize i = 0; i < G_N_ELEMENTS (op_numbers); i++)
    FIELD (guint64, op, op_numbers[i]) = (guint64)json_get_int (plan, op_numbers[i].key);
  op->flags = (OpFlags)json_get_int (plan, "flags");
  op->qemu_pid = (pid_t)json_get_int (plan, "qemu_pid");
  op->mask_protocol = json_get_bool (plan, "mask_protocol");
  op->start_held = json_get_bool (plan, "start_held");
  op->old_reopen = json_get_bool (plan, "old_reopen");
  op->unlocks = json_get_bool (plan, "unlocks");
  op->locks = json_get_bool (plan, "locks");
  const char *boot = json_get_str (plan, "boot");
  op->rebooted = boot != NULL && g_strcmp0 (boot, host_boot ()) != 0;
  op->on_record = json_get_bool (plan, "on_record");
}

static void
facts_from_json (Op *op, Json *facts)
{
  op->was_running = json_get_bool (facts, "was_running");
  op->held = json_get_bool (facts, "held");
  op->dead = json_get_bool (facts, "dead");
  op->switched = json_get_bool (facts, "switched");
  op->frozen = json_get_bool (facts, "frozen");
  op->frozen_at_us = json_get_int (facts, "frozen_at_us");
  op->filesystems = json_has (facts, "filesystems") ? json_get_int (facts, "filesystems") : -1;
  op->thawed_early = json_get_bool (facts, "thawed_early");
  op->freeze_us = (guint64)json_get_int (facts, "freeze_us");
  op->attempt = (guint)json_get_int (facts, "attempt");
  op->pause_us = (guint64)json_get_int (facts, "pause_us");
  op->bytes = (guint64)json_get_int (facts, "bytes");
  op->error = error_from_json (json_get (facts, "error"));
  strvs_from_json (json_get (facts, "left"), op->left);
  strvs_from_json (json_get (facts, "removed"), op->removed);
  strvs_from_json (json_get (facts, "after"), op->after);
}

Op *
op_from_json (Json *plan, Json *facts, GError **error)
{
  g_autoptr (Op) op = op_new (OP_SNAPSHOT);
  Json *disks = json_get (plan, "disks");
  gboolean ok = kind_from_json (op, plan);
  plan_from_json (op, plan);
  facts_from_json (op, facts);
  for (gsize i = 0; i < json_length (disks); i++)
    ok &= disk_from_json (op, json_at (disks, i), json_at (json_get (facts, "disks"), i));
  if (!ok || op->id == NULL || (op->disks->len == 0 && op->kind != OP_QUIESCE) ||
      steps_of (op) == NULL) {
    fail (error, FAILED, "the journal's record of operation '%s' is malformed",
          op->id ? op->id : "?");
    return NULL;
  }
  return g_steal_pointer (&op);
}
