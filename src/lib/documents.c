/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The JSON documents of the interface contract. */
#include "src/lib/lib-private.h"

#include "jobs/grow.h"
#include "jobs/journal.h"
#include "src/common/size.h"

#include <string.h>

char *
print_document (Json *take_document)
{
  g_autoptr (Json) document = take_document;
  return json_pretty (document);
}

static Json *
strings (char **strv)
{
  Json *array = json_array ();
  for (; strv != NULL && *strv != NULL; strv++)
    json_append (array, json_str (*strv));
  return array;
}

static Json *
string_array (GPtrArray *names)
{
  Json *array = json_array ();
  for (guint i = 0; i < names->len; i++)
    json_append (array, json_str (names->pdata[i]));
  return array;
}

static Json *
number (guint64 value)
{
  return json_int ((gint64)MIN (value, G_MAXINT64));
}

/* ---- chain ----------------------------------------------------------------------------------- */

static Json *
layer_json (ChainLayer *layer, guint depth, guint n)
{
  const char *role = depth == 0 ? "active" : depth + 1 == n ? "base" : "intermediate";
  return json_make (
      "depth", json_int (depth), "role", json_str (role), "file", json_str (layer->file), "format",
      json_str (layer->format), "node", json_str (layer->node), "read-only",
      json_flag (layer->read_only), "virtual-size", number (layer->virtual_size), "allocated",
      layer->has_allocated ? number (layer->allocated) : NULL, "backing", json_str (layer->backing),
      "backing-format", json_str (layer->backing_format), "encrypted",
      layer->encrypted ? json_flag (TRUE) : NULL, "filters",
      layer->filters && layer->filters->len ? string_array (layer->filters) : NULL, NULL);
}

static Json *
layers_json (GPtrArray *layers)
{
  Json *array = json_array ();
  for (guint i = 0; i < layers->len; i++)
    json_append (array, layer_json (layers->pdata[i], i, layers->len));
  return array;
}

/* The disk whose chain @job works on; nullable, as for a job on nodes that no disk shows. */
static const char *
disk_of_job (World *world, ChainJob *job)
{
  GPtrArray *disks = world_disks (world);
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *disk = disks->pdata[i];
    for (guint k = 0; k < disk->jobs->len; k++)
      if (g_str_equal (((ChainJob *)disk->jobs->pdata[k])->id, job->id))
        return disk->name;
  }
  return NULL;
}

/* Full; NULL where the name is not "rc-<id>-..." */
static char *
operation_of_job (ChainJob *job)
{
  g_auto (GStrv) parts = g_strsplit (job->id, "-", 3);
  gboolean named = g_strv_length (parts) == 3 && g_str_equal (parts[0], "rc") &&
                   strlen (parts[1]) == 8 && strspn (parts[1], "0123456789abcdef") == 8;
  return named ? g_strdup (parts[1]) : NULL;
}

static Json *
job_json (World *world, ChainJob *job)
{
  g_autofree char *operation = operation_of_job (job);
  return json_make ("id", json_str (job->id), "type", json_str (job->type), "status",
                    json_str (job->status), "ours", json_flag (job->ours), "disk",
                    json_str (disk_of_job (world, job)), "operation", json_str (operation),
                    "current", number (job->current), "total", number (job->total), "speed",
                    job->has_speed ? number (job->speed) : NULL, "paused", json_flag (job->paused),
                    "error", json_str (job->error), NULL);
}

static Json *
jobs_json (World *world, GPtrArray *jobs)
{
  Json *array = json_array ();
  for (guint i = 0; i < jobs->len; i++)
    json_append (array, job_json (world, jobs->pdata[i]));
  return array;
}

Json *
document_chain (World *world, const char *address, ChainDisk *only)
{
  GPtrArray *all = world_disks (world);
  Json *disks = json_array ();
  for (guint i = 0; i < all->len; i++) {
    ChainDisk *disk = all->pdata[i];
    if (only != NULL && disk != only)
      continue;
    json_append (
        disks,
        json_make ("disk", json_str (disk->name), "node", json_str (disk->root_node),
                   "virtual-size",
                   disk->layers->len ? number (((ChainLayer *)disk->layers->pdata[0])->virtual_size)
                                     : NULL,
                   "chain", layers_json (disk->layers), "jobs", jobs_json (world, disk->jobs),
                   "broken", json_str (disk->broken), NULL));
  }
  return json_make ("schema", json_str ("rechain.chain/1"), "vm", json_str (address), "disks",
                    disks, NULL);
}

Json *
document_chain_offline (GPtrArray *layers)
{
  ChainLayer *active = layers->pdata[0];
  Json *disk = json_make ("virtual-size", number (active->virtual_size), "chain",
                          layers_json (layers), NULL);
  return json_make ("schema", json_str ("rechain.chain/1"), "disks", json_list (disk, NULL), NULL);
}

/* ---- info and jobs --------------------------------------------------------------------------- */

static Json *
disk_info (World *world, ChainDisk *disk)
{
  ChainLayer *active = disk->layers->len ? disk->layers->pdata[0] : NULL;
  return json_make (
      "disk", json_str (disk->name), "drive", json_str (disk->drive), "node",
      json_str (disk->root_node), "file", active ? json_str (active->file) : NULL, "format",
      active ? json_str (active->format) : NULL, "read-only", json_flag (disk->read_only),
      "virtual-size", active ? number (active->virtual_size) : NULL, "layers",
      json_int (disk->layers->len), "io-status", json_str (disk->io_status), "exports",
      string_array (disk->exports), "writable-exports", string_array (disk->writable_exports),
      "jobs", jobs_json (world, disk->jobs), "broken", json_str (disk->broken), NULL);
}

Json *
document_info (VmLink *link, const char *address)
{
  pid_t pid = qmp_client_get_peer_pid (link->client);
  GPtrArray *all = world_disks (link->world);
  Json *disks = json_array (), *features = json_object_new_object ();
  for (guint i = 0; i < all->len; i++)
    json_append (disks, disk_info (link->world, all->pdata[i]));
  for (guint i = 0; i < N_FEATURES; i++)
    json_set (features, qmp_feature_name ((QmpFeature)i),
              json_flag (qmp_features_has (link->features, (QmpFeature)i)));
  return json_make ("schema", json_str ("rechain.info/1"), "vm", json_str (address), "qemu",
                    json_str (qmp_client_get_version_string (link->client)), "pid",
                    pid > 0 && !link->borrowed_from ? json_int (pid) : NULL, "run-state",
                    json_str (world_run_state (link->world)), "borrowed-from",
                    json_str (link->borrowed_from), "disks", disks, "jobs",
                    jobs_json (link->world, world_jobs (link->world)), "features", features, NULL);
}

Json *
document_jobs (World *world, ChainJob *only)
{
  return json_make ("schema", json_str ("rechain.job-list/1"), "jobs",
                    only ? json_list (job_json (world, only), NULL)
                         : jobs_json (world, world_jobs (world)),
                    NULL);
}

/* ---- operation ------------------------------------------------------------------------------- */

static gboolean
is_offline_merge (Op *op)
{
  return op->kind == OP_PULL || op->kind == OP_COMMIT || op->kind == OP_MERGE ||
         op->kind == OP_SNAPSHOT_DELETE;
}

Json *
authoritative_files (Op *op)
{
  gboolean over = op_state_is_end (op->state);
  gboolean on_files = op_is_offline (op) ? is_offline_merge (op) : op_qemu_is_gone (op);
  if (op->state == OP_PLANNED || (over ? !op->dead : !on_files))
    return NULL;
  Json *files = json_object_new_object ();
  for (guint i = 0; i < op->disks->len; i++) {
    g_autofree char *file = op_disk_active_file (op, op_disk (op, i));
    if (file != NULL)
      json_set (files, op_disk (op, i)->name, json_str (file));
  }
  return files;
}

static char **
strv_at (GPtrArray *strvs, guint i)
{
  return i < strvs->len ? strvs->pdata[i] : NULL;
}

/* As QEMU showed it at the end; until then, and with QEMU dead, as the headers have it from there
 * on. Full. */
static char *
file_to_read (Op *op, guint i, const char *authoritative)
{
  gboolean shown = i < op->after->len && *(char **)op->after->pdata[i] != NULL;
  if (authoritative != NULL || op->state == OP_PLANNED || op_state_is_end (op->state) || shown)
    return g_strdup (authoritative);
  return op_disk_active_file (op, op_disk (op, i));
}

/* Full, nullable. */
static char **
chain_on_disk (OpDisk *disk, const char *file)
{
  if (file == NULL)
    return NULL;
  ChainLayer *old = disk->before->pdata[0];
  gboolean is_new = g_strcmp0 (file, disk->to) == 0;
  const char *format = disk->to_format ? disk->to_format : "qcow2";
  g_autoptr (GPtrArray) layers = chain_read_offline (file, is_new ? format : old->format, NULL);
  return layers ? chain_files (layers) : NULL;
}

/* Of growfs and shrinkfs; NULL. */
static Json *
filesystem_json (OpDisk *disk)
{
  if (!json_has (disk->details, "filesystem"))
    return NULL;
  return json_make ("type", json_dup (json_get (disk->details, "filesystem")), "size-before",
                    json_dup (json_get (disk->details, "fs-size")), "size",
                    json_dup (json_get (disk->found, "size")), "minimum-size",
                    json_dup (json_get (disk->found, "minimum-size")), NULL);
}

/* Logical volumes that were extended; NULL. */
static Json *
grown_json (OpDisk *disk)
{
  Json *rows = NULL;
  for (guint i = 0; disk->grows != NULL && i < disk->grows->len; i++) {
    const GrowImage *image = disk->grows->pdata[i];
    if (image->grown == 0)
      continue;
    rows = rows ? rows : json_array ();
    json_append (rows, json_make ("path", json_str (image->file), "size-before",
                                  number (image->size), "size", number (image->grown), NULL));
  }
  return rows;
}

static Json *
disk_result (Op *op, guint i, const char *authoritative)
{
  OpDisk *disk = op_disk (op, i);
  g_auto (GStrv) before = chain_files (disk->before);
  g_autofree char *file = file_to_read (op, i, authoritative);
  g_auto (GStrv) headers = chain_on_disk (disk, file);
  char **after = headers ? headers : strv_at (op->after, i);
  gboolean taken = op->kind == OP_SNAPSHOT && op->state == OP_DONE;
  gboolean beside = op_disk_is_beside (disk);
  const char *old = before[0];
  return json_make ("disk", json_str (disk->name), "chain",
                    strings (after && *after ? after : before), "chain-before", strings (before),
                    "removed", strings (strv_at (op->removed, i)), "left",
                    strings (strv_at (op->left, i)), "target", json_str (disk->to), "active-source",
                    taken ? json_str (beside ? old : disk->to) : NULL, "read-only-source",
                    taken ? json_str (beside ? disk->to : old) : NULL, "method",
                    taken ? json_str (op_method_name (disk)) : NULL, "filesystem",
                    filesystem_json (disk), "grown", grown_json (disk), NULL);
}

static Json *
error_json (const GError *error)
{
  if (error == NULL)
    return json_null ();
  return json_make ("code", json_str (rechain_error_code_name ((RechainError)error->code)),
                    "message", json_str (error->message), "cause",
                    json_str (rechain_error_get_cause (error)), "hint",
                    json_str (rechain_error_get_hint (error)), NULL);
}

Json *
document_operation (Op *op)
{
  Json *disks = json_array (), *authoritative = authoritative_files (op);
  g_autofree char *started = op->started_us ? format_time (op->started_us) : NULL;
  g_autofree char *ended = op->ended_us ? format_time (op->ended_us) : NULL;
  gint64 until = op->ended_us ? op->ended_us : g_get_real_time ();
  double seconds = op->started_us ? (double)(until - op->started_us) / G_USEC_PER_SEC : 0;
  for (guint i = 0; i < op->disks->len; i++)
    json_append (disks, disk_result (op, i, json_get_str (authoritative, op_disk (op, i)->name)));
  return json_make ("schema", json_str ("rechain.operation/1"), "operation", json_str (op->id),
                    "kind", json_str (op_kind_name (op->kind)), "name", json_str (op->name),
                    "state", json_str (op_state_name (op->state)), "vm", json_str (op->vm), "disks",
                    disks, "bytes", number (op->bytes), "seconds", json_real (seconds, 3),
                    "pause-ms", json_real ((double)op->pause_us / 1000, 1), "freeze-ms",
                    json_real ((double)op->freeze_us / 1000, 1), "filesystems",
                    op->filesystems >= 0 ? json_int (op->filesystems) : NULL, "authoritative",
                    authoritative ? authoritative : json_null (), "started", json_str (started),
                    "ended", json_str (ended), "error", error_json (op->error), NULL);
}

/* How far is not said where internal snapshots set no bound. */
static Json *
grows_json (Op *op, OpDisk *disk)
{
  Json *rows = disk->grows ? json_array () : NULL;
  for (guint i = 0; disk->grows != NULL && i < disk->grows->len; i++) {
    const GrowImage *image = disk->grows->pdata[i];
    json_append (rows, json_make ("path", json_str (image->file), "size", number (image->size),
                                  "step", number (op->grow_step), "most",
                                  image->most < G_MAXINT64 ? number (image->most) : NULL, "free",
                                  number (image->free), NULL));
  }
  return rows;
}

Json *
document_plan (Op *op)
{
  Json *disks = json_array (), *space = json_array ();
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    g_auto (GStrv) before = chain_files (disk->before);
    g_auto (GStrv) after = op_disk_planned_chain (disk);
    json_append (disks,
                 json_make ("disk", json_str (disk->name), "chain-before", strings (before),
                            "chain-after", strings (after), "backing", json_str (disk->backing),
                            "backing-format", json_str (disk->backing_format), "grows",
                            grows_json (op, disk), NULL));
    if (disk->receiver != NULL && disk->has_needed)
      json_append (space, json_make ("path", json_str (disk->receiver), "needed",
                                     number (disk->needed), "free", number (disk->free), NULL));
  }
  return json_make ("schema", json_str ("rechain.plan/1"), "kind",
                    json_str (op_kind_name (op->kind)), "operation", json_str (op->id), "vm",
                    json_str (op->vm), "disks", disks, "steps", plan_steps_to_json (op), "space",
                    space, "notes", string_array (op->notes), NULL);
}
