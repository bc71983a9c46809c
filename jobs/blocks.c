/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/blocks.h"

#include "jobs/bitmaps.h"
#include "jobs/overlay.h"
#include "jobs/records.h"
#include "src/common/fs.h"

#include <sys/stat.h>

/* ---- make ------------------------------------------------------------------------------------ */

/* An overlay is backed by the active layer until it pivots, a copy by what it is to keep. */
static const char *
first_format (OpDisk *disk)
{
  return disk->mode == MODE_MIRROR ? disk->backing_format : op_disk_layer (disk, 0)->format;
}

static gboolean
is_raw (OpDisk *disk)
{
  return g_strcmp0 (disk->to_format, "raw") == 0;
}

static gboolean
create_part (Op *op, OpDisk *disk, GError **error)
{
  ChainLayer *old = op_disk_layer (disk, 0);
  if (!file_create_new (disk->part, old->file, &disk->id, error))
    return FALSE;
  disk->made = TRUE;
  if (disk->mode == MODE_REFLINK)
    return TRUE;
  return is_raw (disk) ? file_resize (disk->part, old->virtual_size, error)
                       : overlay_write (disk->part, old->virtual_size, disk->backing_first,
                                        first_format (disk), error);
}

static gboolean
is_ours (const char *path, FileId ours, GError **error)
{
  FileId id;
  gboolean exists;
  if (!file_identify (path, &id, &exists, error))
    return FALSE;
  return exists && file_id_equal (id, ours)
             ? TRUE
             : fail (error, REFUSED,
                     "'%s' is not the file that was just made: somebody replaced it", path);
}

static gboolean
sync_part (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->part, error);
}

/* Whoever can write to the directory could put another file in its place: looked at before and
 * after. */
gboolean
name_layer (Op *op, OpDisk *disk, GError **error)
{
  return is_ours (disk->part, disk->id, error) && file_rename_new (disk->part, disk->to, error) &&
         is_ours (disk->to, disk->id, error);
}

static gboolean
sync_name (Op *op, OpDisk *disk, GError **error)
{
  return file_sync_dir_of (disk->to, error);
}

/* The name of the part carries the operation's random id, so what lies there is ours even if we
 * died before its identity was recorded. */
static gboolean
remove_part (Op *op, OpDisk *disk, GError **error)
{
  FileId id;
  gboolean exists;
  return file_identify (disk->part, &id, &exists, error) &&
         (!exists || file_remove (disk->part, id, error));
}

/* What lies there and is not the file that we made came from somebody else: nothing of ours is
 * left. */
static gboolean
remove_layer (Op *op, OpDisk *disk, GError **error)
{
  FileId id;
  gboolean exists;
  if (!file_identify (disk->to, &id, &exists, error))
    return FALSE;
  if (exists && !file_id_equal (id, disk->id))
    return TRUE;
  if (exists && file_is_locked (disk->to))
    return fail (error, REFUSED, "'%s' is open in another process; it is not removed", disk->to);
  return file_remove (disk->to, disk->id, error);
}

static gboolean
makes_file (Op *op, OpDisk *disk)
{
  return !(op->flags & OP_REUSE) && (!op_disk_is_beside (disk) || disk->mode == MODE_REFLINK);
}

void
make_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *old = op_disk_layer (disk, 0);
  if (!makes_file (op, disk))
    return;
  if (disk->mode == MODE_REFLINK) {
    g_autofree char *begin = g_strdup_printf ("create %s, owned like %s", disk->part, old->file);
    ask_local (asks, begin, create_part);
    return;
  }
  g_autofree char *backed =
      disk->backing_first
          ? g_strdup_printf (" backed by %s (%s),", disk->backing_first, first_format (disk))
          : g_strdup ("");
  g_autofree char *create = g_strdup_printf (
      "write an empty %s image of %" G_GUINT64_FORMAT " bytes,%s into %s, owned like %s",
      is_raw (disk) ? "raw" : "qcow2", old->virtual_size, backed, disk->part, old->file);
  g_autofree char *name = g_strdup_printf ("name it %s", disk->to);
  ask_local (asks, create, create_part);
  ask_local (asks, "sync it", sync_part)->no_facts = TRUE;
  ask_local (asks, name, name_layer)->no_facts = TRUE;
  ask_local (asks, "sync the directory", sync_name)->no_facts = TRUE;
}

Seen
layer_is_made (Op *op, OpDisk *disk, World *world)
{
  FileId id;
  gboolean part, whole;
  if (!makes_file (op, disk))
    return SEEN_NO; /* nothing of ours, nothing to take back */
  if (!file_identify (disk->part, &id, &part, NULL) || part)
    return SEEN_HALF;
  whole = FALSE;
  if (!file_identify (disk->to, &id, &whole, NULL))
    return SEEN_HALF;
  if (disk->made && file_is_away (disk->to, disk->id))
    return SEEN_HALF;
  return whole && disk->made && file_id_equal (id, disk->id) ? SEEN_YES : SEEN_NO;
}

void
unmake_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!makes_file (op, disk))
    return;
  ask_local (asks, "remove the unfinished file", remove_part)->no_facts = TRUE;
  if (disk->made)
    ask_local (asks, "remove the new layer's file", remove_layer)->no_facts = TRUE;
}

/* ---- attach ---------------------------------------------------------------------------------- */

Json *
cache_options (OpDisk *disk)
{
  Json *cache = json_get (disk->cache, "cache");
  return cache ? json_dup (cache) : NULL;
}

/* Discard and cache modes come from the format node. What need not be said is not said here and in
 * layer_options(): QEMU reads a command byte by byte, 2.5 us for each (docs/qemu-findings.md). */
static Json *
file_options (OpDisk *disk)
{
  struct stat st;
  gboolean device = stat (disk->to, &st) == 0 && S_ISBLK (st.st_mode);
  return json_make ("driver", json_str (device ? "host_device" : "file"), "node-name",
                    json_str (disk->file_node), "filename", json_str (disk->to), "auto-read-only",
                    json_flag (TRUE), NULL);
}

Json *
layer_options (OpDisk *disk, Json *take_file, const char *backing)
{
  Json *link = is_raw (disk) ? NULL : backing ? json_str (backing) : json_null ();
  return json_make (
      "driver", json_str (is_raw (disk) ? "raw" : "qcow2"), "node-name", json_str (disk->node),
      "file", take_file, "backing", link, "discard", json_str ("unmap"), "detect-zeroes",
      json_str (json_get_str (disk->cache, "detect-zeroes")), "cache", cache_options (disk), NULL);
}

Json *
reopen_options (OpDisk *disk, const ChainLayer *layer, const char *node, const char *file,
                const char *backing)
{
  return json_make ("driver", json_str (layer->format), "node-name", json_str (node), "file",
                    json_str (file), "backing", backing ? json_str (backing) : json_null (),
                    "discard", json_str ("unmap"), "cache", cache_options (disk), NULL);
}

/* The target of a shallow mirror is backed by the node that it is to keep: with none, the guest
 * would read zeros after the pivot (qemu-reference, fact 5). An overlay gets its backing by the
 * snapshot.
 *
 * Both nodes in one command, which QEMU performs in less time than two; its main loop is the
 * guest's. */
void
attach_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op_disk_is_beside (disk))
    return;
  gboolean kept = disk->mode == MODE_MIRROR && (guint)disk->base < disk->before->len;
  const char *backing = kept ? op_disk_layer (disk, disk->base)->node : NULL;
  ask_qmp (asks, "blockdev-add", layer_options (disk, file_options (disk), backing));
}

/* A file node alone: left by a deletion of two, or by an operation that added it by itself. */
Seen
layer_is_attached (Op *op, OpDisk *disk, World *world)
{
  if (world_has_node (world, disk->node))
    return SEEN_YES;
  return world_has_node (world, disk->file_node) ? SEEN_HALF : SEEN_NO;
}

/* The file node goes with the format node that it was given in. One that was added by itself stays,
 * is then seen to be there, and is deleted by the next try. */
void
detach_layer (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *node = disk->node;
  if (world != NULL && !world_has_node (world, node))
    node = world_has_node (world, disk->file_node) ? disk->file_node : NULL;
  if (node != NULL)
    ask_qmp (asks, "blockdev-del", json_make ("node-name", json_str (node), NULL));
}

/* ---- snapshot -------------------------------------------------------------------------------- */

void
take_snapshot (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  Json *actions = json_array ();
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *d = op_disk (op, i);
    if (op_disk_is_beside (d))
      continue;
    Json *data = json_make ("node", json_str (op_disk_layer (d, 0)->node), "overlay",
                            json_str (d->node), NULL);
    json_append (actions, json_make ("type", json_str ("blockdev-snapshot"), "data", data, NULL));
    add_overlay_bitmaps (d, actions);
  }
  ask_qmp (asks, "transaction", json_make ("actions", actions, NULL));
}

gboolean
disk_is_on (Op *op, OpDisk *disk, World *world, const char *node)
{
  ChainDisk *now = op_find_disk (op, disk, world);
  return now != NULL && now->layers->len > 0 &&
         g_strcmp0 (((ChainLayer *)now->layers->pdata[0])->node, node) == 0;
}

/* What lies beside a chain belongs to the same instant as the new layers of the other disks. */
Seen
snapshot_is_taken (Op *op, OpDisk *disk, World *world)
{
  for (guint i = 0; op_disk_is_beside (disk) && i < op->disks->len; i++)
    disk = op_disk (op, i);
  return disk_is_on (op, disk, world, disk->node) ? SEEN_YES : SEEN_NO;
}

gboolean
disk_shows (Op *op, OpDisk *disk, World *world, char **files, GError **error)
{
  ChainDisk *now = op_find_disk (op, disk, world);
  /* What is removed lies beside its chain, and the disk itself may have left the VM. */
  if (op->kind == OP_SNAPSHOT_DELETE && op_disk_is_beside (disk))
    return TRUE;
  if (now == NULL)
    return fail (error, FAILED, "disk '%s' is not in this QEMU any more", disk->name);
  g_auto (GStrv) shown = chain_files (now->layers);
  gboolean same = g_strv_length (shown) == g_strv_length (files);
  for (guint i = 0; same && files[i] != NULL; i++)
    same = path_same_file (shown[i], files[i]);
  if (same && now->broken == NULL)
    return TRUE;
  g_autofree char *is = g_strjoinv (" <- ", shown);
  g_autofree char *wanted = g_strjoinv (" <- ", files);
  return fail (error, FAILED, "disk '%s' shows the chain %s and not %s%s%s", disk->name, is, wanted,
               now->broken ? ": " : "", now->broken ? now->broken : "");
}

gboolean
shows_planned_chain (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return disk_shows (op, disk, world, planned, error);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

Seen
job_is_there (World *world, const char *job)
{
  ChainJob *found = world_job (world, job);
  if (found == NULL)
    return SEEN_NO;
  JobStatus status = job_status_parse (found->status);
  return status == JOB_PENDING || status == JOB_READY ? SEEN_YES : SEEN_HALF;
}

static gboolean
record_outcome (Op *op, OpDisk *disk, GError **error)
{
  return TRUE; /* the journal is written after every local act, with all that was seen until then */
}

/* Not later than this: QEMU 7.2 dies when it is asked for its nodes while a stream is concluded and
 * not dismissed. */
void
record_and_dismiss (const char *job, GPtrArray *asks)
{
  ask_local (asks, "record the outcome of the job", record_outcome);
  Ask *dismiss = ask_qmp (asks, "job-dismiss", json_make ("id", json_str (job), NULL));
  dismiss->tolerant = TRUE; /* gone already: somebody else dismissed it */
}

const char *
cancel_command (Op *op)
{
  return op->old_reopen ? "block-job-cancel" : "job-cancel";
}

Json *
cancel_arguments (Op *op, const char *job)
{
  return op->old_reopen ? json_make ("device", json_str (job), "force", json_flag (TRUE), NULL)
                        : json_make ("id", json_str (job), NULL);
}

void
end_job (Op *op, World *world, const char *job, GPtrArray *asks)
{
  if (world != NULL && world_job (world, job) == NULL)
    return;
  Ask *cancel = ask_qmp (asks, cancel_command (op), cancel_arguments (op, job));
  cancel->tolerant = TRUE; /* it may end by itself at this moment */
  cancel->job = job;
  cancel->wanted = JOB_CONCLUDED;
  /* Before QEMU 6.2 a mirror or an active commit that is, or gets, ready takes it for "end without
   * a pivot", and waits in PENDING like one that has succeeded. */
  cancel->insists = TRUE;
  record_and_dismiss (job, asks);
}

Ask *
ask_reopen (Op *op, Json *take_options, GPtrArray *asks)
{
  if (op->old_reopen)
    return ask_qmp (asks, "x-blockdev-reopen", take_options);
  return ask_qmp (asks, "blockdev-reopen",
                  json_make ("options", json_list (take_options, NULL), NULL));
}

/* ---- dropped layers -------------------------------------------------------------------------- */

/* A node that QEMU named itself goes by itself, with its last user. */
static gboolean
is_ours_to_delete (World *world, const char *node)
{
  return node != NULL && node[0] != '#' && (world == NULL || world_has_node (world, node));
}

/* A node that was given inside the options of the one above it goes with that, and cannot be
 * deleted by itself: whether it is gone is seen afterwards. */
static void
drop_node (const char *node, GPtrArray *asks)
{
  ask_qmp (asks, "blockdev-del", json_make ("node-name", json_str (node), NULL))->tolerant = TRUE;
}

gboolean
nodes_are_dropped (Op *op, OpDisk *disk, World *world, GError **error)
{
  for (int i = disk->first; i < disk->base; i++) {
    const char *nodes[] = {op_disk_layer (disk, i)->node, op_disk_layer (disk, i)->protocol_node};
    for (guint k = 0; k < G_N_ELEMENTS (nodes); k++)
      if (is_ours_to_delete (world, nodes[k]) && world_node_parents (world, nodes[k]) == 0)
        return fail (error, FAILED, "node '%s' is still in QEMU", nodes[k]);
  }
  return TRUE;
}

void
drop_nodes (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  guint expected = 0; /* parents that this list itself removes first */
  for (int i = disk->first; i < disk->base; i++) {
    ChainLayer *layer = op_disk_layer (disk, i);
    if (!is_ours_to_delete (world, layer->node)) {
      /* An earlier try may have got no further than the format node. */
      if (world != NULL && is_ours_to_delete (world, layer->protocol_node) &&
          world_node_parents (world, layer->protocol_node) == 0)
        drop_node (layer->protocol_node, asks);
      expected = 0;
      continue;
    }
    /* Used by somebody else too (another disk's chain): then it and what lies below stay. */
    if (world != NULL && world_node_parents (world, layer->node) > expected)
      return;
    drop_node (layer->node, asks);
    if (is_ours_to_delete (world, layer->protocol_node) &&
        (world == NULL || world_node_parents (world, layer->protocol_node) <= 1))
      drop_node (layer->protocol_node, asks);
    expected = 1;
  }
}

static gboolean
remove_dropped (Op *op, OpDisk *disk, GError **error)
{
  for (int i = disk->first; i < disk->base; i++) {
    ChainLayer *layer = op_disk_layer (disk, i);
    if (file_is_locked (layer->file))
      return fail (error, REFUSED, "'%s' is open in another process; it is not removed",
                   layer->file);
    if (!file_remove (layer->file, *(FileId *)disk->old_ids->pdata[i - disk->first], error))
      return FALSE;
  }
  return TRUE;
}

void
drop_files (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autoptr (GString) says = g_string_new ("remove");
  for (int i = disk->first; i < disk->base; i++)
    g_string_append_printf (says, " %s", op_disk_layer (disk, i)->file);
  if ((op->flags & OP_DELETE) && disk->first < disk->base)
    ask_local (asks, says->str, remove_dropped);
}

/* ---- snapshots on record --------------------------------------------------------------------- */

gboolean
is_on_record (Op *op)
{
  return op->on_record;
}

void
follow_records (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_record (asks, "update the snapshots whose layers were dropped", records_follow);
}

/* ---- small ones ------------------------------------------------------------------------------ */

void
flush_node (const char *node, GPtrArray *asks)
{
  g_autofree char *line = g_strdup_printf ("qemu-io %s \"flush\"", node);
  Ask *ask =
      ask_qmp (asks, "human-monitor-command", json_make ("command-line", json_str (line), NULL));
  ask->silent_reply = TRUE;
}

guint64
bandwidth_share (Op *op, guint running)
{
  return op->bandwidth == 0 ? 0 : MAX (op->bandwidth / MAX (running, 1), 1);
}
