/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots on record: shown, exported, imported, edited, forgotten; and requests from XML. */
#include "src/lib/lib-private.h"

#include "jobs/lv.h"
#include "jobs/records.h"
#include "jobs/subvolume.h"
#include "src/common/fs.h"
#include "src/common/size.h"
#include "src/common/snapshot-xml.h"

#include <stdlib.h>
#include <string.h>

/* ---- requests from XML ----------------------------------------------------------------------- */

static void
request_disk (RechainRequest *request, const SnapshotXmlDisk *from)
{
  RequestDisk *disk = request_add_disk (request, from->name);
  disk->left_out = from->left_out;
  disk->to = g_strdup (from->source);
  disk->format = g_strdup (from->format);
  disk->method = g_strdup (from->method);
  disk->device = g_strdup (from->device);
  disk->size = g_strdup (from->size);
  disk->subvolume = g_strdup (from->subvolume);
  disk->on_delete = g_strdup (from->on_delete);
}

RechainRequest *
rechain_request_new_from_xml (const char *xml, gsize length, const char *origin, GError **error)
{
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_parse (xml, length, origin, error);
  if (snapshot == NULL)
    return NULL;
  RechainRequest *request = rechain_request_new (RECHAIN_KIND_SNAPSHOT);
  request->name = g_strdup (snapshot->name);
  request->description = g_strdup (snapshot->description);
  request->all_others = TRUE;
  for (guint i = 0; i < snapshot->disks->len; i++)
    request_disk (request, snapshot->disks->pdata[i]);
  return request;
}

/* ---- documents ------------------------------------------------------------------------------- */

static Json *
bytes_of (ChainLayer *layer)
{
  return layer->has_allocated ? json_int ((gint64)MIN (layer->allocated, G_MAXINT64)) : NULL;
}

/* What merging it would copy, at most: forward the old layer, backward the new one. */
static Json *
disk_json (const RecordDisk *disk, World *world, gboolean *ret_matches)
{
  ChainDisk *now = NULL;
  g_autofree char *why = NULL;
  int at = world ? record_disk_match (disk, world, &now, &why) : -1;
  gboolean beside = record_disk_is_beside (disk), merges = at >= 0 && !beside;
  *ret_matches = at >= 0;
  return json_make ("disk", json_str (disk->disk), "method", json_str (disk->method), "on-delete",
                    beside ? NULL : json_str (merge_direction_name (disk->on_delete)), "overlay",
                    json_str (disk->new_file), "overlay-format", json_str (disk->new_format),
                    "read-only-source", json_str (disk->old_file), "read-only-format",
                    json_str (disk->old_format), "matches", world ? json_flag (at >= 0) : NULL,
                    "mismatch", json_str (why), "subvolume", json_str (disk->subvolume),
                    "forward-bytes", merges ? bytes_of (now->layers->pdata[at + 1]) : NULL,
                    "backward-bytes", merges ? bytes_of (now->layers->pdata[at]) : NULL, NULL);
}

static gint64
bytes_to_delete (const Record *record, Json *disks)
{
  gint64 sum = 0;
  for (guint i = 0; i < record->disks->len; i++)
    sum += json_get_int (json_at (disks, i), record_disk (record, i)->on_delete == MERGE_FORWARD
                                                 ? "forward-bytes"
                                                 : "backward-bytes");
  return sum;
}

/* @ret_matches: nullable. */
static Json *
record_json (RechainVm *vm, const Record *record, gboolean current, gboolean *ret_matches)
{
  World *world = rechain_vm_get_link (vm)->world;
  Json *disks = json_array ();
  gboolean all = TRUE;
  for (guint i = 0; i < record->disks->len; i++) {
    gboolean matches;
    json_append (disks, disk_json (record_disk (record, i), world, &matches));
    all &= matches;
  }
  g_autofree char *created = format_time (record->created_us);
  if (ret_matches != NULL)
    *ret_matches = all;
  return json_make ("name", json_str (record->name), "description", json_str (record->description),
                    "parent", json_str (record->parent), "created", json_str (created), "state",
                    json_str (record->running ? "running" : "paused"), "current",
                    json_flag (current), "matches", world ? json_flag (all) : NULL, "disks", disks,
                    "delete-bytes",
                    world && all ? json_int (bytes_to_delete (record, disks)) : NULL, NULL);
}

static Journal *
open_to_read (RechainVm *vm, GError **error)
{
  return journal_open_to_read (
      rechain_controller_get_state_dir (rechain_vm_get_link (vm)->controller), error);
}

static GPtrArray *
records_of (RechainVm *vm, GError **error)
{
  GError *bad = NULL;
  g_autoptr (Journal) journal = open_to_read (vm, &bad);
  if (bad == NULL)
    return records_list (journal, rechain_vm_get_address (vm), error);
  g_propagate_error (error, bad);
  return NULL;
}

char *
rechain_vm_list_snapshots (RechainVm *vm, GError **error)
{
  g_autoptr (GPtrArray) records = records_of (vm, error);
  if (records == NULL)
    return NULL;
  Json *snapshots = json_array ();
  for (guint i = 0; i < records->len; i++)
    json_append (snapshots, record_json (vm, records->pdata[i],
                                         records->pdata[i] == records_current (records), NULL));
  return print_document (json_make ("schema", json_str ("rechain.snapshot-list/1"), "vm",
                                    json_str (rechain_vm_get_address (vm)), "snapshots", snapshots,
                                    NULL));
}

static Record *
load (RechainVm *vm, const char *name, GError **error)
{
  GError *bad = NULL;
  g_autoptr (Journal) journal = open_to_read (vm, &bad);
  if (bad == NULL)
    return records_load (journal, rechain_vm_get_address (vm), name, error);
  g_propagate_error (error, bad);
  return NULL;
}

static gboolean
is_current (RechainVm *vm, const Record *record)
{
  g_autoptr (GPtrArray) records = records_of (vm, NULL);
  Record *current = records ? records_current (records) : NULL;
  return current != NULL && g_str_equal (current->id, record->id);
}

static char *
record_document (RechainVm *vm, const Record *record, gboolean *ret_matches)
{
  Json *json = record_json (vm, record, is_current (vm, record), ret_matches);
  json_set (json, "schema", json_str ("rechain.snapshot/1"));
  json_set (json, "vm", json_str (rechain_vm_get_address (vm)));
  return print_document (json);
}

char *
rechain_vm_show_snapshot (RechainVm *vm, const char *name, gboolean *ret_matches, GError **error)
{
  g_autoptr (Record) record = load (vm, name, error);
  return record ? record_document (vm, record, ret_matches) : NULL;
}

char *
rechain_vm_export_snapshot (RechainVm *vm, const char *name, GError **error)
{
  g_autoptr (Record) record = load (vm, name, error);
  if (record == NULL)
    return NULL;
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_new ();
  snapshot->name = g_strdup (record->name);
  snapshot->description = g_strdup (record->description);
  snapshot->parent = g_strdup (record->parent);
  snapshot->state = g_strdup (record->running ? "running" : "paused");
  snapshot->created = record->created_us / G_USEC_PER_SEC;
  for (guint i = 0; i < record->disks->len; i++) {
    RecordDisk *from = record_disk (record, i);
    SnapshotXmlDisk *disk = snapshot_xml_add_disk (snapshot, from->disk);
    disk->method = g_strdup (from->method);
    disk->source = g_strdup (from->new_file);
    disk->format = g_strdup (from->new_format);
    disk->backing = g_strdup (from->old_file);
    disk->backing_format = g_strdup (from->old_format);
    if (record_disk_is_beside (from)) {
      disk->device = from->subvolume ? NULL : g_strdup (from->old_file);
      disk->subvolume = g_strdup (from->subvolume);
    } else
      disk->on_delete = g_strdup (merge_direction_name (from->on_delete));
  }
  return snapshot_xml_print (snapshot, error);
}

/* ---- changing records ------------------------------------------------------------------------ */

/* The two layers that a document means: source names the upper one, or the active one is meant. */
static gboolean
find_boundary (ChainDisk *disk, const SnapshotXmlDisk *from, guint *ret_at, GError **error)
{
  int at = from->source ? chain_find_layer (disk->layers, from->source, error) : 0;
  if (at < 0)
    return prefix (error, "disk '%s'", from->name);
  if ((guint)at + 1 >= disk->layers->len)
    return fail (error, REFUSED, "disk '%s': '%s' has no layer under it", from->name,
                 ((ChainLayer *)disk->layers->pdata[at])->file);
  ChainLayer *old = disk->layers->pdata[at + 1];
  *ret_at = (guint)at;
  return from->backing == NULL || path_same_file (from->backing, old->file) ||
         fail (error, REFUSED, "disk '%s': under '%s' lies '%s' and not '%s'", from->name,
               ((ChainLayer *)disk->layers->pdata[at])->file, old->file, from->backing);
}

/* Where @disk's file lies in a snapshot of its subvolume; full, nullable. */
static char *
file_in_subvolume (const char *file, const char *snapshot)
{
  char *real = realpath (file, NULL);
  g_autofree char *source = real ? subvolume_of (real) : NULL;
  char *found = source ? g_build_filename (snapshot, real + strlen (source), NULL) : NULL;
  free (real);
  return found;
}

/* Within what may be named; full. */
static char *
resolve_beside (VmLink *link, const SnapshotXmlDisk *from, GError **error)
{
  const char *path = from->subvolume ? from->subvolume : from->device;
  g_autofree char *vg = NULL, *lv = NULL;
  if (path == NULL) {
    fail (error, USAGE, "method '%s' names no <device> or <subvolume>", from->method);
    return NULL;
  }
  if (!g_str_equal (from->method, "lvm"))
    return link->allowed ? path_resolve_within (path, (const char *const *)link->allowed, error)
                         : path_absolute (path);
  if (!lv_path_split (path, &vg, &lv, error))
    return NULL;
  if (link->allowed_groups == NULL ||
      g_strv_contains ((const char *const *)link->allowed_groups, vg))
    return g_strdup (path);
  fail (error, PERMISSION, "volume group '%s' is not one that rechain may work on", vg);
  hint (error, "[storage] allow-vg in the configuration names those");
  return NULL;
}

static gboolean
add_beside (Record *record, VmLink *link, ChainDisk *disk, const SnapshotXmlDisk *from,
            GError **error)
{
  ChainLayer *active = disk->layers->pdata[0];
  g_autofree char *path = resolve_beside (link, from, error);
  if (path == NULL)
    return FALSE;
  g_autofree char *file =
      from->subvolume ? file_in_subvolume (active->file, path) : g_strdup (path);
  if (file == NULL)
    return fail (error, REFUSED, "'%s' is no file on btrfs", active->file);
  if (from->backing != NULL && !path_same_file (from->backing, file))
    return fail (error, REFUSED, "'%s' is named, and '%s' as what lies there", path, from->backing);
  RecordDisk *added = record_add_disk (record, disk->name);
  record_set_beside (added, from->method, active, file, from->subvolume ? path : NULL);
  return record_check_beside (added, active, link->world, error);
}

static gboolean
import_beside (Record *record, VmLink *link, ChainDisk *disk, const SnapshotXmlDisk *from,
               GError **error)
{
  gboolean there = disk->layers->len > 0 && ((ChainLayer *)disk->layers->pdata[0])->file != NULL;
  if (there && add_beside (record, link, disk, from, error))
    return TRUE;
  if (!there)
    fail (error, REFUSED, "it has no file");
  return prefix (error, "disk '%s'", from->name);
}

static gboolean
import_disk (Record *record, VmLink *link, const SnapshotXmlDisk *from, GError **error)
{
  ChainDisk *disk = world_find_disk (link->world, from->name, error);
  guint at = 0;
  if (disk == NULL)
    return FALSE;
  if (record_find_disk (record, disk->name) != NULL)
    return fail (error, USAGE, "disk '%s' is named twice", disk->name);
  if (from->method != NULL && !g_str_equal (from->method, "qemu"))
    return import_beside (record, link, disk, from, error);
  if (!find_boundary (disk, from, &at, error))
    return FALSE;
  record_set_layers (record_add_disk (record, disk->name), disk->layers->pdata[at],
                     disk->layers->pdata[at + 1], merge_direction_parse (from->on_delete));
  return TRUE;
}

static Record *
import (RechainVm *vm, const SnapshotXml *snapshot, GError **error)
{
  VmLink *link = rechain_vm_get_link (vm);
  g_autoptr (Record) record = record_new (rechain_vm_get_address (vm), snapshot->name);
  record->description = g_strdup (snapshot->description);
  record->parent = g_strdup (snapshot->parent);
  record->running = g_strcmp0 (snapshot->state, "paused") != 0;
  record->created_us =
      snapshot->created >= 0 ? snapshot->created * G_USEC_PER_SEC : g_get_real_time ();
  for (guint i = 0; i < snapshot->disks->len; i++) {
    SnapshotXmlDisk *disk = snapshot->disks->pdata[i];
    if (!disk->left_out && !import_disk (record, link, disk, error))
      return NULL;
  }
  if (record->disks->len > 0)
    return g_steal_pointer (&record);
  fail (error, USAGE, "the document names no disk of which a snapshot could be recorded");
  return NULL;
}

static Journal *
open_to_write (RechainVm *vm, GError **error)
{
  return journal_open (rechain_controller_get_state_dir (rechain_vm_get_link (vm)->controller),
                       error);
}

void
rechain_vm_set_allowed (RechainVm *vm, const char *const *directories,
                        const char *const *volume_groups)
{
  VmLink *link = rechain_vm_get_link (vm);
  g_strfreev (link->allowed);
  g_strfreev (link->allowed_groups);
  link->allowed = g_strdupv ((char **)directories);
  link->allowed_groups = g_strdupv ((char **)volume_groups);
}

char *
rechain_vm_import_snapshot (RechainVm *vm, const char *xml, gsize length, const char *origin,
                            GError **error)
{
  g_return_val_if_fail (rechain_vm_get_link (vm)->world != NULL, NULL);
  g_autoptr (SnapshotXml) snapshot = snapshot_xml_parse (xml, length, origin, error);
  if (snapshot == NULL)
    return NULL;
  if (snapshot->name == NULL) {
    fail (error, USAGE, "%s: a snapshot that is recorded anew needs its <name>", origin);
    return NULL;
  }
  g_autoptr (Record) record =
      plan_check_name (snapshot->name, error) ? import (vm, snapshot, error) : NULL;
  g_autoptr (Journal) journal = record ? open_to_write (vm, error) : NULL;
  if (journal == NULL || !records_store (journal, record, error))
    return NULL;
  return record_document (vm, record, NULL);
}

gboolean
rechain_vm_edit_snapshot (RechainVm *vm, const char *name, const char *disk, const char *direction,
                          const char *description, GError **error)
{
  MergeDirection wanted = merge_direction_parse (direction);
  g_autoptr (Record) record = load (vm, name, error);
  if (record == NULL)
    return FALSE;
  if (direction != NULL && wanted == MERGE_UNSAID) {
    fail (error, USAGE, "'%s' is no direction", direction);
    return hint (error, "it can be: forward, backward");
  }
  g_autoptr (Journal) journal = open_to_write (vm, error);
  return journal != NULL &&
         records_edit (journal, record->vm, name, disk, wanted, description, error);
}

gboolean
rechain_vm_forget_snapshot (RechainVm *vm, const char *name, GError **error)
{
  g_autoptr (Record) record = load (vm, name, error);
  g_autoptr (Journal) journal = record ? open_to_write (vm, error) : NULL;
  return journal != NULL && records_drop (journal, record->vm, name, error);
}
