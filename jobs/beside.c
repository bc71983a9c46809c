/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/beside.h"

#include "jobs/blocks-hold.h"
#include "jobs/blocks.h"
#include "jobs/lv.h"
#include "jobs/subvolume.h"
#include "src/common/fs.h"

#include <unistd.h>

/* ---- hold ------------------------------------------------------------------------------------ */

/* The one that needs none: device-mapper takes the image of a volume at one instant, and of raw
 * data that is what the guest would find after a power cut. */
static gboolean
is_of_one_instant (OpDisk *disk)
{
  return disk->mode == MODE_LV && disk->before->len == 1 &&
         g_strcmp0 (op_disk_layer (disk, 0)->format, "raw") == 0;
}

gboolean
holds_beside (Op *op)
{
  return op->kind == OP_SNAPSHOT && op_has_beside (op) &&
         (op->disks->len > 1 || !is_of_one_instant (op_disk (op, 0)));
}

void
hold_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world != NULL && !world_running (world))
    return;
  ask_local (asks, "note that the guest is stopped by us", note_hold);
  ask_qmp (asks, "stop", NULL);
}

Seen
beside_is_held (Op *op, OpDisk *disk, World *world)
{
  return op->held ? SEEN_YES : SEEN_NO;
}

void
unhold_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op->held)
    release_guest (op, NULL, world, asks);
}

/* The world is not looked at while the guest stands still; in a plan it is not known yet. */
void
release_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world != NULL || op->held || op->state == OP_PLANNED)
    release_guest (op, NULL, world, asks);
}

/* "stop" flushes too, but does not tell where that failed. */
void
flush_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op_disk_is_beside (disk))
    flush_node (op_disk_layer (disk, 0)->node, asks);
}

/* ---- logical volumes ------------------------------------------------------------------------- */

static void
make_lv (Op *op, OpDisk *disk, GPtrArray *asks)
{
  g_autofree char *tag = lv_tag (op);
  ask_lvm (asks, lv_snapshot_args (op_disk_detail (disk, "vg"), op_disk_detail (disk, "origin"),
                                   op_disk_detail (disk, "lv"), op_disk_size (disk, "size"), tag));
  lv_note_made (asks);
}

static void
unmake_lv (Op *op, OpDisk *disk, GPtrArray *asks)
{
  lv_remove_ours (op, disk, asks);
}

static Seen
lv_is_made (Op *op, OpDisk *disk)
{
  return lv_is_there (disk);
}

/* ---- reflinks -------------------------------------------------------------------------------- */

/* The part was created by an earlier step, as every new file is. */
static void
make_reflink (Op *op, OpDisk *disk, GPtrArray *asks)
{
  const char *const argv[] = {
      "cp", "--reflink=always", "-T", op_disk_layer (disk, 0)->file, disk->part, NULL};
  g_autofree char *name = g_strdup_printf ("name it %s", disk->to);
  ask_run (asks, g_strdupv ((char **)argv));
  ask_local (asks, name, name_layer)->no_facts = TRUE;
}

static gboolean
sync_reflink (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->to, error) && file_sync_dir_of (disk->to, error);
}

static void
settle_reflink (Op *op, OpDisk *disk, GPtrArray *asks)
{
  ask_local (asks, "sync it", sync_reflink)->no_facts = TRUE;
}

static gboolean
remove_reflink (Op *op, OpDisk *disk, GError **error)
{
  FileId id = file_id_from_json (disk->details);
  if (file_is_locked (disk->to))
    return fail (error, REFUSED, "'%s' is open in another process; it is not removed", disk->to);
  return file_remove (disk->to, id, error);
}

static void
drop_reflink (Op *op, OpDisk *disk, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("remove %s, if it is still the same file", disk->to);
  ask_local (asks, says, remove_reflink)->no_facts = TRUE;
}

/* ---- subvolumes ------------------------------------------------------------------------------ */

/* Disks whose images lie in one subvolume have one snapshot of it; the first of them
 * acts for all. */
static OpDisk *
leader_of (Op *op, OpDisk *disk)
{
  for (guint i = 0; i < disk->index; i++)
    if (g_strcmp0 (op_disk_detail (op_disk (op, i), "subvolume"),
                   op_disk_detail (disk, "subvolume")) == 0)
      return op_disk (op, i);
  return disk;
}

static gboolean
is_uuid (const char *path, const char *uuid)
{
  g_autofree char *now = uuid ? subvolume_uuid (path) : NULL;
  return now != NULL && g_str_equal (now, uuid);
}

static gboolean
note_subvolume (Op *op, OpDisk *disk, GError **error)
{
  g_autofree char *uuid = subvolume_uuid (op_disk_detail (disk, "part"));
  if (uuid == NULL)
    return fail (error, FAILED, "'%s' is no subvolume", op_disk_detail (disk, "part"));
  json_object_put (disk->found);
  disk->found = json_make ("uuid", json_str (uuid), NULL);
  return TRUE;
}

static gboolean
name_subvolume (Op *op, OpDisk *disk, GError **error)
{
  return file_rename_new (op_disk_detail (disk, "part"), op_disk_detail (disk, "subvolume"), error);
}

static void
make_subvolume (Op *op, OpDisk *disk, GPtrArray *asks)
{
  if (leader_of (op, disk) != disk)
    return;
  g_autofree char *name = g_strdup_printf ("name it %s", op_disk_detail (disk, "subvolume"));
  ask_run (asks, subvolume_snapshot_args (op_disk_detail (disk, "source"),
                                          op_disk_detail (disk, "part")));
  ask_local (asks, "note its uuid", note_subvolume);
  ask_local (asks, name, name_subvolume)->no_facts = TRUE;
}

/* The part carries our random id, the snapshot the uuid that was recorded before it got
 * its name. */
static const char *
subvolume_now (Op *op, OpDisk *disk)
{
  OpDisk *leader = leader_of (op, disk);
  if (access (op_disk_detail (leader, "part"), F_OK) == 0)
    return op_disk_detail (leader, "part");
  return is_uuid (op_disk_detail (leader, "subvolume"), json_get_str (leader->found, "uuid"))
             ? op_disk_detail (leader, "subvolume")
             : NULL;
}

static void
unmake_subvolume (Op *op, OpDisk *disk, GPtrArray *asks)
{
  const char *now = leader_of (op, disk) == disk ? subvolume_now (op, disk) : NULL;
  if (now != NULL)
    ask_run (asks, subvolume_delete_args (now));
}

static Seen
subvolume_is_made (Op *op, OpDisk *disk)
{
  return subvolume_now (op, disk) ? SEEN_YES : SEEN_NO;
}

static gboolean
sync_subvolume (Op *op, OpDisk *disk, GError **error)
{
  return file_sync_dir_of (op_disk_detail (disk, "subvolume"), error);
}

static void
settle_subvolume (Op *op, OpDisk *disk, GPtrArray *asks)
{
  ask_local (asks, "sync the directory", sync_subvolume)->no_facts = TRUE;
}

static void
drop_subvolume (Op *op, OpDisk *disk, GPtrArray *asks)
{
  const char *path = op_disk_detail (disk, "subvolume");
  if (leader_of (op, disk) == disk &&
      (op->state == OP_PLANNED || is_uuid (path, op_disk_detail (disk, "uuid"))))
    ask_run (asks, subvolume_delete_args (path));
}

/* ---- by mode --------------------------------------------------------------------------------- */

typedef struct {
  void (*make) (Op *op, OpDisk *disk, GPtrArray *asks);
  Seen (*is_made) (Op *op, OpDisk *disk); /* NULL: an earlier step tells */
  void (*unmake) (Op *op, OpDisk *disk, GPtrArray *asks);
  void (*settle) (Op *op, OpDisk *disk, GPtrArray *asks);
  void (*drop) (Op *op, OpDisk *disk, GPtrArray *asks);
} Way;

static const Way ways[N_OP_MODES] = {
    [MODE_LV] = {make_lv, lv_is_made, unmake_lv, NULL, unmake_lv},
    [MODE_REFLINK] = {make_reflink, NULL, NULL, settle_reflink, drop_reflink},
    [MODE_SUBVOLUME] = {make_subvolume, subvolume_is_made, unmake_subvolume, settle_subvolume,
                        drop_subvolume},
};

void
make_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (ways[disk->mode].make != NULL)
    ways[disk->mode].make (op, disk, asks);
}

Seen
beside_is_made (Op *op, OpDisk *disk, World *world)
{
  return ways[disk->mode].is_made ? ways[disk->mode].is_made (op, disk) : SEEN_NO;
}

void
unmake_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (ways[disk->mode].unmake != NULL)
    ways[disk->mode].unmake (op, disk, asks);
}

void
settle_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (ways[disk->mode].settle != NULL)
    ways[disk->mode].settle (op, disk, asks);
}

void
drop_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (ways[disk->mode].drop != NULL)
    ways[disk->mode].drop (op, disk, asks);
}

gboolean
drops_beside (Op *op)
{
  return op->kind == OP_SNAPSHOT_DELETE && op_has_beside (op);
}

/* ---- keep ------------------------------------------------------------------------------------ */

/* The record is what this step is for: from here on they stay. */
static gboolean
note_kept (Op *op, OpDisk *disk, GError **error)
{
  return TRUE;
}

void
keep_beside (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "note that all snapshots are taken", note_kept)->no_facts = TRUE;
}

Seen
beside_is_kept (Op *op, OpDisk *disk, World *world)
{
  return op->decided == DECIDED_NEW ? SEEN_YES : SEEN_NO;
}
