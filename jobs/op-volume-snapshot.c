/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots of volumes that are neither new files nor new logical volumes: inside a qcow2 image, of
 * a btrfs subvolume, and of a source for the time that it is copied ("instant"). */
#include "jobs/op-volume.h"

#include "jobs/image.h"
#include "jobs/lend.h"
#include "jobs/lv.h"
#include "jobs/subvolume.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- inside an image ------------------------------------------------------------------------- */

static gboolean
note_internal (Op *op, OpDisk *disk, GError **error)
{
  if (!file_sync (disk->to, error))
    return FALSE;
  json_object_put (disk->found);
  disk->found = json_make ("made", json_flag (TRUE), NULL);
  return TRUE;
}

static char **
internal_args (OpDisk *disk, const char *what)
{
  const char *argv[] = {"qemu-img", "snapshot", "-q", what, op_disk_detail (disk, "name"),
                        disk->to,   NULL};
  return g_strdupv ((char **)argv);
}

static void
make_internal (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  volume_ask_free (asks);
  ask_run (asks, internal_args (disk, "-c"));
  ask_local (asks, "sync it", note_internal);
}

/* There was none of that name when it was planned; clusters that were counted for it are freed. */
static void
remove_internal (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  volume_ask_free (asks);
  ask_run (asks, internal_args (disk, "-d"))->tolerant = TRUE;
  ask_run (asks, image_repair_args (disk->to, "qcow2"))->tolerant = TRUE;
}

static Seen
seen_internal (Op *op, OpDisk *disk, World *world)
{
  return op->state != OP_UNDOING && json_get_bool (disk->found, "made") ? SEEN_YES : SEEN_NO;
}

const Step volume_internal_steps[] = {
    {.name = "snapshot",
     .says = "take the snapshot inside the image",
     .kind = STEP_UNDOABLE,
     .ask = make_internal,
     .probe = seen_internal,
     .undo = remove_internal,
     .undo_says = "remove it"},
    {0},
};

/* ---- of a subvolume -------------------------------------------------------------------------- */

static gboolean
note_subvolume (Op *op, OpDisk *disk, GError **error)
{
  g_autofree char *uuid = subvolume_uuid (disk->part);
  if (uuid == NULL)
    return fail (error, FAILED, "'%s' is no subvolume", disk->part);
  json_object_put (disk->found);
  disk->found = json_make ("uuid", json_str (uuid), NULL);
  return TRUE;
}

static gboolean
has_name (OpDisk *disk)
{
  g_autofree char *uuid = json_has (disk->found, "uuid") ? subvolume_uuid (disk->to) : NULL;
  return uuid != NULL && g_str_equal (uuid, json_get_str (disk->found, "uuid"));
}

static void
take (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_run (asks, subvolume_snapshot_args (op_disk_detail (disk, "subvolume"), disk->part));
  ask_local (asks, "note its uuid", note_subvolume);
}

/* The part carries our random id. */
static Seen
seen_taken (Op *op, OpDisk *disk, World *world)
{
  return has_name (disk) ? SEEN_YES : access (disk->part, F_OK) == 0 ? SEEN_HALF : SEEN_NO;
}

static void
untake (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (access (disk->part, F_OK) == 0)
    ask_run (asks, subvolume_delete_args (disk->part));
}

static gboolean
name_it (Op *op, OpDisk *disk, GError **error)
{
  return file_rename_new (disk->part, disk->to, error) && file_sync_dir_of (disk->to, error);
}

static void
publish (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("name it %s", disk->to);
  ask_local (asks, says, name_it)->no_facts = TRUE;
}

static Seen
seen_named (Op *op, OpDisk *disk, World *world)
{
  return has_name (disk) ? SEEN_YES : SEEN_NO;
}

const Step volume_subvolume_steps[] = {
    {.name = "begin",
     .says = "take the snapshot of the subvolume, under a name that carries this operation's id",
     .kind = STEP_UNDOABLE,
     .ask = take,
     .probe = seen_taken,
     .undo = untake,
     .undo_says = "remove it"},
    {.name = "publish",
     .says = "give it its name",
     .kind = STEP_PIVOT,
     .ask = publish,
     .probe = seen_named},
    {0},
};

/* ---- of what is copied ----------------------------------------------------------------------- */

static Json *
instant_of (OpDisk *disk)
{
  return json_get (disk->details, "instant");
}

gboolean
volume_has_instant (Op *op)
{
  return instant_of (op_disk (op, 0)) != NULL;
}

static gboolean
remove_instant_file (Op *op, OpDisk *disk, GError **error)
{
  const char *path = json_get_str (instant_of (disk), "path");
  return unlink (path) == 0 || errno == ENOENT || fail_errno (error, errno, "remove '%s'", path);
}

void
volume_take_instant (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  Json *instant = instant_of (disk);
  const char *lv = json_get_str (instant, "lv"), *path = json_get_str (instant, "path");
  g_autofree char *tag = lv_tag (op);
  if (lv != NULL) {
    ask_lvm (asks, lv_snapshot_args (json_get_str (instant, "vg"), json_get_str (instant, "origin"),
                                     lv, (guint64)json_get_int (instant, "size"), tag));
    return;
  }
  const char *argv[] = {"cp", "--reflink=always", "-T", json_get_str (instant, "of"), path, NULL};
  ask_run (asks, g_strdupv ((char **)argv));
}

void
volume_drop_instant (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (json_has (instant_of (disk), "lv"))
    lv_remove_instant (op, disk, asks);
  else
    ask_local (asks, "remove the snapshot", remove_instant_file)->no_facts = TRUE;
}

/* ---- lent to another host -------------------------------------------------------------------- */

/* Recovered, nobody waits for it any more. */
static void
lend (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op->lends)
    ask_work (asks, "wait until it was copied", lend_start);
}

/* No pivot: whatever becomes of it, the snapshot goes. */
const Step volume_lend_steps[] = {
    INSTANT_STEP,
    {.name = "lend",
     .says = "wait until the other host has copied it",
     .kind = STEP_UNDOABLE,
     .ask = lend},
    DROP_INSTANT_STEP,
    {0},
};
