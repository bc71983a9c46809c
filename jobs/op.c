/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/op.h"

#include "jobs/filesystem.h"
#include "jobs/op-repair.h"
#include "src/common/process.h"

#include <stdio.h>
#include <string.h>

#define MAX_ID 31 /* QEMU's limit for node names and job ids */

static const char *const kind_names[] = {
    [OP_SNAPSHOT] = "snapshot",
    [OP_MOVE] = "move",
    [OP_PULL] = "pull",
    [OP_COMMIT] = "commit",
    [OP_MERGE] = "merge",
    [OP_COPY] = "copy",
    [OP_MAP] = "map",
    [OP_QUIESCE] = "quiesce",
    [OP_SNAPSHOT_DELETE] = "snapshot-delete",
    [OP_ALLOCATE] = "allocate",
    [OP_VOL_CREATE] = "vol-create",
    [OP_VOL_CLONE] = "vol-clone",
    [OP_VOL_COPY] = "vol-copy",
    [OP_VOL_COPY_CONTENTS] = "vol-copy-contents",
    [OP_VOL_COMPRESS] = "vol-compress",
    [OP_VOL_DECOMPRESS] = "vol-decompress",
    [OP_VOL_SNAPSHOT] = "vol-snapshot",
    [OP_VOL_RESIZE] = "vol-resize",
    [OP_VOL_DELETE] = "vol-delete",
    [OP_VOL_GROWFS] = "vol-growfs",
    [OP_VOL_SHRINKFS] = "vol-shrinkfs",
    [OP_VOL_LEND] = "vol-lend",
    [OP_REPAIR] = "repair",
};

/* Of six characters at most: they end the names of jobs. */
static const char *const mode_names[] = {
    [MODE_NONE] = "stream",          [MODE_STREAM] = "stream",    [MODE_COMMIT] = "commit",
    [MODE_COMMIT_ACTIVE] = "commit", [MODE_MIRROR] = "mirror",    [MODE_LV] = "lv",
    [MODE_REFLINK] = "clone",        [MODE_SUBVOLUME] = "subvol",
};

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

static const char *const directions[] = {
    [MERGE_FORWARD] = "forward", [MERGE_BACKWARD] = "backward"};

const char *
merge_direction_name (MergeDirection direction)
{
  return directions[direction];
}

MergeDirection
merge_direction_parse (const char *word)
{
  for (guint i = MERGE_FORWARD; i < G_N_ELEMENTS (directions); i++)
    if (g_strcmp0 (word, directions[i]) == 0)
      return (MergeDirection)i;
  return MERGE_UNSAID;
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
disk_free (gpointer data)
{
  OpDisk *disk = data;
  char *strings[] = {disk->name,      disk->qdev,          disk->drive,    disk->to,
                     disk->part,      disk->backing_first, disk->backing,  disk->backing_format,
                     disk->node,      disk->file_node,     disk->job,      disk->fold_job,
                     disk->attach_to, disk->old_node,      disk->receiver, disk->header,
                     disk->to_format, disk->backing_old,   disk->export,   disk->socket};
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_clear_pointer (&disk->before, g_ptr_array_unref);
  g_clear_pointer (&disk->old_ids, g_ptr_array_unref);
  g_clear_pointer (&disk->regions, g_array_unref);
  g_clear_pointer (&disk->depths, g_array_unref);
  g_clear_pointer (&disk->grows, g_ptr_array_unref);
  g_clear_pointer (&disk->map, map_unref);
  json_object_put (disk->cache);
  json_object_put (disk->bitmaps);
  json_object_put (disk->details);
  json_object_put (disk->found);
  g_free (disk);
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
  op->max_freeze_ms = MAX_FREEZE_MS;
  op->filesystems = -1;
  op->disks = g_ptr_array_new_with_free_func (disk_free);
  op->notes = g_ptr_array_new_with_free_func (g_free);
  op->left = g_ptr_array_new_with_free_func (strv_free);
  op->removed = g_ptr_array_new_with_free_func (strv_free);
  op->after = g_ptr_array_new_with_free_func (strv_free);
  return op;
}

void
op_free (Op *op)
{
  if (op == NULL)
    return;
  g_free (op->id);
  g_free (op->name);
  g_free (op->description);
  g_free (op->vm);
  g_free (op->agent);
  g_free (op->qemu);
  g_free (op->migration);
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

static void
layer_free (gpointer layer)
{
  chain_layer_free (layer);
}

OpDisk *
op_add_disk (Op *op, const char *name)
{
  OpDisk *disk = g_new0 (OpDisk, 1);
  disk->index = op->disks->len;
  disk->name = g_strdup (name);
  disk->before = g_ptr_array_new_with_free_func (layer_free);
  disk->old_ids = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (op->disks, disk);
  return disk;
}

gboolean
op_is_offline (const Op *op)
{
  return op->vm == NULL || op->dead;
}

/* Of kinds that change the chain of a disk. The identities of dropped layers are missing only in
 * what an older version recorded. */
static gboolean
has_chain (OpDisk *disk)
{
  gboolean range =
      disk->first >= 0 && disk->first <= disk->base && (guint)disk->base <= disk->before->len &&
      (disk->old_ids->len == 0 || disk->old_ids->len == (guint)(disk->base - disk->first));
  return disk->before->len > 0 && range && (guint)disk->mode < N_OP_MODES && disk->node &&
         disk->old_node && disk->job && disk->fold_job &&
         (!op_disk_is_beside (disk) || (disk->to && disk->apart && disk->details));
}

static gboolean
has_new_layer (OpDisk *disk)
{
  return has_chain (disk) && disk->to && disk->part && disk->file_node;
}

static gboolean
has_export (OpDisk *disk)
{
  return disk->before->len > 0 && disk->export && disk->socket;
}

static gboolean
has_filter (OpDisk *disk)
{
  return has_export (disk) && disk->file_node && disk->regions->len > 0;
}

static gboolean
is_volume (OpDisk *disk)
{
  return disk->to && disk->part && disk->details;
}

static gboolean
is_filesystem (OpDisk *disk)
{
  return is_volume (disk) && disk->node && disk->export && json_has (disk->details, "mount") &&
         filesystem_named (json_get_str (disk->details, "filesystem")) != NULL;
}

gboolean
op_disk_is_whole (Op *op, OpDisk *disk)
{
  static gboolean (*const checks[]) (OpDisk *) = {
      [OP_SNAPSHOT] = has_new_layer,
      [OP_MOVE] = has_new_layer,
      [OP_PULL] = has_chain,
      [OP_COMMIT] = has_chain,
      [OP_MERGE] = has_chain,
      [OP_COPY] = has_new_layer,
      [OP_ALLOCATE] = has_filter,
      [OP_MAP] = has_export,
      [OP_SNAPSHOT_DELETE] = has_chain,
      [OP_VOL_CREATE] = is_volume,
      [OP_VOL_CLONE] = is_volume,
      [OP_VOL_COPY] = is_volume,
      [OP_VOL_COPY_CONTENTS] = is_volume,
      [OP_VOL_COMPRESS] = is_volume,
      [OP_VOL_DECOMPRESS] = is_volume,
      [OP_VOL_SNAPSHOT] = is_volume,
      [OP_VOL_RESIZE] = is_volume,
      [OP_VOL_DELETE] = is_volume,
      [OP_VOL_GROWFS] = is_filesystem,
      [OP_VOL_SHRINKFS] = is_filesystem,
      [OP_VOL_LEND] = is_volume,
      [OP_REPAIR] = disk_is_cure,
  };
  return disk->name != NULL && checks[op->kind](disk);
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
  disk->old_node = our_name (op, safe->str, "old");
  disk->job = our_name (op, safe->str, mode_names[disk->mode]);
  disk->fold_job = our_name (op, safe->str, "fold");
  disk->export = our_name (op, safe->str, "nbd");
  if (op->kind == OP_ALLOCATE)
    disk->file_node = our_name (op, safe->str, "cor");
  if (disk->to == NULL)
    return;
  g_autofree char *dir = g_path_get_dirname (disk->to);
  disk->part = g_strdup_printf ("%s%s.rc-%s-%u.part", dir, g_str_equal (dir, "/") ? "" : "/",
                                op->id, disk->index);
  disk->node = our_name (op, safe->str, "ov");
  disk->file_node = our_name (op, safe->str, "ovf");
}

gboolean
op_changes_chain (const Op *op)
{
  return op->kind != OP_MAP && (op->kind != OP_ALLOCATE || (op->flags & OP_DETACH_BACKING));
}

gboolean
op_has_regions (const Op *op)
{
  return op->kind == OP_MAP || op->kind == OP_ALLOCATE;
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

const char *
op_disk_detail (const OpDisk *disk, const char *key)
{
  return json_get_str (disk->details, key);
}

guint64
op_disk_size (const OpDisk *disk, const char *key)
{
  return (guint64)json_get_int (disk->details, key);
}

ChainLayer *
op_disk_layer (OpDisk *disk, int i)
{
  return i >= 0 && (guint)i < disk->before->len ? disk->before->pdata[i] : NULL;
}

gboolean
op_deletes (Op *op)
{
  return (op->flags & OP_DELETE) != 0;
}

gboolean
op_disk_switches (OpDisk *disk)
{
  return disk->mode == MODE_COMMIT_ACTIVE || disk->mode == MODE_MIRROR;
}

gboolean
op_switches (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (op_disk_switches (op_disk (op, i)))
      return TRUE;
  return FALSE;
}

gboolean
op_disk_is_beside (const OpDisk *disk)
{
  return disk->mode == MODE_LV || disk->mode == MODE_REFLINK || disk->mode == MODE_SUBVOLUME;
}

const char *
op_method_name (const OpDisk *disk)
{
  return !op_disk_is_beside (disk) ? "qemu" : disk->mode == MODE_LV ? "lvm" : "btrfs";
}

gboolean
op_has_beside (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (op_disk_is_beside (op_disk (op, i)))
      return TRUE;
  return FALSE;
}

gboolean
op_has_overlays (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (!op_disk_is_beside (op_disk (op, i)))
      return TRUE;
  return FALSE;
}

char **
op_disk_planned_chain (OpDisk *disk)
{
  g_autoptr (GPtrArray) files = g_ptr_array_new ();
  if (disk->to != NULL && !disk->apart)
    g_ptr_array_add (files, g_strdup (disk->to));
  for (guint i = 0; i < disk->before->len; i++)
    if (disk->apart || (int)i < disk->first || (int)i >= disk->base)
      g_ptr_array_add (files, g_strdup (((ChainLayer *)disk->before->pdata[i])->file));
  g_ptr_array_add (files, NULL);
  return (char **)g_ptr_array_free (g_steal_pointer (&files), FALSE);
}

char *
op_disk_active_file (Op *op, OpDisk *disk)
{
  if (disk->before->len == 0)
    return NULL;
  gboolean on_new = op_state_is_end (op->state) ? op->state == OP_DONE && op_changes_chain (op)
                    : op_disk_switches (disk)   ? op->decided == DECIDED_NEW
                                                : op->switched && op->decided != DECIDED_OLD;
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return g_strdup (on_new ? planned[0] : op_disk_layer (disk, 0)->file);
}

static const char *
receiver_format (OpDisk *disk)
{
  for (guint i = 0; disk->to == NULL && i < disk->before->len; i++) {
    ChainLayer *layer = disk->before->pdata[i];
    if (g_strcmp0 (layer->file, disk->receiver) == 0)
      return layer->format;
  }
  return disk->to_format ? disk->to_format : "qcow2";
}

OpAbsorbed
op_disk_absorbed (Op *op, OpDisk *disk)
{
  if (op->kind == OP_SNAPSHOT || disk->apart)
    return (OpAbsorbed){0};
  return (OpAbsorbed){.first = (guint)disk->first,
                      .count = (guint)(disk->base - disk->first),
                      .file = disk->receiver,
                      .format = receiver_format (disk)};
}

void
op_set_vm (Op *op, QmpClient *client)
{
  op->vm = g_strdup (qmp_client_get_name (client));
  op->qemu = g_strdup (qmp_client_get_version_string (client));
  op->qemu_pid = qmp_client_get_peer_pid (client);
  op->qemu_start = process_start_time (op->qemu_pid);
}

guint
op_qemu_version (const Op *op)
{
  const char *digits = op->qemu ? strpbrk (op->qemu, "0123456789") : NULL;
  guint major = 0, minor = 0;
  if (digits == NULL || sscanf (digits, "%3u.%3u", &major, &minor) != 2)
    return 0;
  return major * 10000 + minor * 100;
}
