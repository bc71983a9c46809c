/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logical volumes: made, resized, deleted. A new one is made under a name that carries the
 * operation's id, and gets its own by lvrename once it is whole; what it replaces is renamed away
 * just before and removed in the end. */
#include "jobs/op-volume.h"

#include "jobs/lv.h"
#include "jobs/volume-id.h"
#include "jobs/zero-device.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* "VG/LV"; full. */
static char *
full_name (OpDisk *disk, const char *lv)
{
  return g_strdup_printf ("%s/%s", op_disk_detail (disk, "vg"), lv);
}

static char *
in_bytes (guint64 bytes)
{
  return g_strdup_printf ("%" G_GUINT64_FORMAT "b", bytes);
}

static char *
path_of (OpDisk *disk, const char *lv)
{
  return g_strdup_printf ("/dev/%s/%s", op_disk_detail (disk, "vg"), lv);
}

/* Has it its name? What was made is known by its uuid. */
static gboolean
is_published (OpDisk *disk)
{
  return volume_id_is (disk->to, json_get (disk->found, "made"));
}

static Seen
seen_by_name (Op *op, OpDisk *disk, World *world)
{
  return is_published (disk) ? SEEN_YES : SEEN_HALF;
}

/* ---- begin ----------------------------------------------------------------------------------- */

static char **
create_args (Op *op, OpDisk *disk)
{
  const char *pool = op_disk_detail (disk, "pool"), *vg = op_disk_detail (disk, "vg");
  g_autofree char *bytes = in_bytes (op_disk_size (disk, "lv-size")), *tag = lv_tag (op);
  g_autofree char *from = pool ? full_name (disk, pool) : g_strdup (vg);
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  g_strv_builder_add_many (argv, "lvm", "lvcreate", "-y", "-W", "y", "--addtag", tag, "-n",
                           op_disk_detail (disk, "lv"), pool ? "-V" : "-L", bytes, NULL);
  if (pool != NULL)
    g_strv_builder_add_many (argv, "--thinpool", from, NULL);
  else
    g_strv_builder_add (argv, from);
  return g_strv_builder_end (argv);
}

static gboolean
note_identity (Op *op, OpDisk *disk, GError **error)
{
  Json *id = volume_id_of (disk->part);
  if (id == NULL)
    return fail_errno (error, errno, "look at '%s'", disk->part);
  json_set (disk->found, "made", id);
  return TRUE;
}

static void
begin (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *tag = lv_tag (op);
  const char *origin = op_disk_detail (disk, "origin");
  ask_lvm (asks, origin ? lv_snapshot_args (op_disk_detail (disk, "vg"), origin,
                                            op_disk_detail (disk, "lv"),
                                            op_disk_size (disk, "lv-size"), tag)
                        : create_args (op, disk));
  lv_note_made (asks);
  ask_local (asks, "note which one it is", note_identity);
}

static void
unbegin (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  lv_remove_ours (op, disk, asks);
}

static Seen
seen_begun (Op *op, OpDisk *disk, World *world)
{
  return is_published (disk) ? SEEN_YES : lv_is_there (disk) == SEEN_NO ? SEEN_NO : SEEN_HALF;
}

/* ---- zero, settle ---------------------------------------------------------------------------- */

static gboolean
zeroes (Op *op)
{
  return json_has (op_disk (op, 0)->details, "zero-from");
}

static void
zero (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says =
      g_strdup_printf ("zero %s from byte %" G_GUINT64_FORMAT " on",
                       json_get_bool (disk->details, "in-place") ? disk->to : disk->part,
                       op_disk_size (disk, "zero-from"));
  ask_work (asks, says, zero_device_start);
}

static gboolean
sync_part (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->part, error);
}

static void
settle (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "sync it", sync_part)->no_facts = TRUE;
}

/* ---- publish --------------------------------------------------------------------------------- */

static void
rename_lv (OpDisk *disk, const char *from, const char *to, GPtrArray *asks)
{
  const char *argv[] = {"lvm", "lvrename", "-y", op_disk_detail (disk, "vg"), from, to, NULL};
  ask_lvm (asks, g_strdupv ((char **)argv));
}

static gboolean
check_replaced (Op *op, OpDisk *disk, GError **error)
{
  return volume_is_free (disk->to, json_get (disk->details, "replaces"), error);
}

static void
publish (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (volume_replaces (disk)) {
    ask_local (asks, "make sure that nobody opened what it replaces", check_replaced)->no_facts =
        TRUE;
    rename_lv (disk, op_disk_detail (disk, "name"), op_disk_detail (disk, "old"), asks);
  }
  rename_lv (disk, op_disk_detail (disk, "lv"), op_disk_detail (disk, "name"), asks);
}

/* Between the two the name is free. */
static void
unpublish (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *old =
      volume_replaces (disk) ? path_of (disk, op_disk_detail (disk, "old")) : NULL;
  if (old != NULL && volume_id_is (old, json_get (disk->details, "replaces")))
    rename_lv (disk, op_disk_detail (disk, "old"), op_disk_detail (disk, "name"), asks);
}

static Seen
seen_published (Op *op, OpDisk *disk, World *world)
{
  return is_published (disk) ? SEEN_YES : SEEN_NO;
}

/* ---- clear ----------------------------------------------------------------------------------- */

static char **
remove_args (OpDisk *disk, const char *lv)
{
  g_autofree char *name = full_name (disk, lv);
  const char *argv[] = {"lvm", "lvremove", "-f", "-y", name, NULL};
  return g_strdupv ((char **)argv);
}

static gboolean
is_old_there (OpDisk *disk)
{
  g_autofree char *old =
      volume_replaces (disk) ? path_of (disk, op_disk_detail (disk, "old")) : NULL;
  return old != NULL && volume_id_is (old, json_get (disk->details, "replaces"));
}

/* In a plan it is shown; later it may be gone already. */
static void
clear (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *tag = lv_tag (op), *name = full_name (disk, op_disk_detail (disk, "name"));
  const char *untag[] = {"lvm", "lvchange", "--deltag", tag, name, NULL};
  if (volume_replaces (disk) && (op->state == OP_PLANNED || is_old_there (disk)))
    ask_lvm (asks, remove_args (disk, op_disk_detail (disk, "old")));
  ask_lvm (asks, g_strdupv ((char **)untag));
}

const Step volume_make_lv_steps[] = {
    INSTANT_STEP,
    {.name = "begin",
     .says = "create the volume, under a name that carries this operation's id",
     .kind = STEP_UNDOABLE,
     .ask = begin,
     .probe = seen_begun,
     .undo = unbegin,
     .undo_says = "remove it"},
    {.name = "zero",
     .says = "let no old data be seen in it",
     .kind = STEP_UNDOABLE,
     .ask = zero,
     .probe = seen_by_name,
     .applies = zeroes},
    {.name = "fill",
     .says = "give it its contents",
     .kind = STEP_UNDOABLE,
     .ask = volume_fill,
     .probe = seen_by_name},
    {.name = "settle",
     .says = "make it durable",
     .kind = STEP_UNDOABLE,
     .ask = settle,
     .probe = seen_by_name},
    {.name = "publish",
     .says = "give it its name",
     .kind = STEP_PIVOT,
     .ask = publish,
     .probe = seen_published,
     .undo = unpublish,
     .undo_says = "give its name back to what it replaces"},
    {.name = "clear",
     .says = "remove what it replaced, and the mark of this operation",
     .kind = STEP_FINISH,
     .ask = clear},
    DROP_INSTANT_STEP,
    {0},
};

/* ---- resize ---------------------------------------------------------------------------------- */

static gboolean
zeroes_new (Op *op)
{
  return volume_grows (op) && zeroes (op);
}

static void
ask_size (OpDisk *disk, const char *program, guint64 size, GPtrArray *asks)
{
  g_autofree char *bytes = in_bytes (size), *name = full_name (disk, op_disk_detail (disk, "lv"));
  gboolean less = g_str_equal (program, "lvreduce");
  const char *argv[] = {"lvm", program, "-y", "-L", bytes, name, less ? "-f" : NULL, NULL};
  volume_ask_free (asks);
  ask_lvm (asks, g_strdupv ((char **)argv));
}

static guint64
size_now (OpDisk *disk)
{
  guint64 size;
  return file_length (disk->to, &size, NULL) ? size : 0;
}

static void
grow (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_size (disk, "lvextend", op_disk_size (disk, "new-size"), asks);
}

static void
shrink (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_size (disk, "lvreduce", op_disk_size (disk, "new-size"), asks);
}

static Seen
seen_resized (Op *op, OpDisk *disk, World *world)
{
  guint64 now = size_now (disk);
  return now == op_disk_size (disk, "new-size") ? SEEN_YES
         : now == op_disk_size (disk, "size")   ? SEEN_NO
                                                : SEEN_HALF;
}

static void
ungrow (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (seen_resized (op, disk, world) != SEEN_NO)
    ask_size (disk, "lvreduce", op_disk_size (disk, "size"), asks);
}

static gboolean
has_new_size (Op *op, OpDisk *disk, World *world, GError **error)
{
  guint64 now = size_now (disk);
  return now == op_disk_size (disk, "new-size") ||
         fail (error, FAILED,
               "'%s' has %" G_GUINT64_FORMAT " bytes, which is not what was asked for", disk->to,
               now);
}

const Step volume_resize_lv_steps[] = {
    {.name = "grow",
     .says = "make it larger",
     .kind = STEP_UNDOABLE,
     .ask = grow,
     .probe = seen_resized,
     .undo = ungrow,
     .undo_says = "give it its old size",
     .applies = volume_grows,
     .verify = has_new_size},
    {.name = "zero",
     .says = "let no old data be seen in the new space",
     .kind = STEP_UNDOABLE,
     .ask = zero,
     .applies = zeroes_new},
    {.name = "shrink",
     .says = "cut its end off",
     .kind = STEP_PIVOT,
     .ask = shrink,
     .probe = seen_resized,
     .applies = volume_shrinks,
     .verify = has_new_size},
    {0},
};

/* ---- delete ---------------------------------------------------------------------------------- */

static gboolean
check_deleted (Op *op, OpDisk *disk, GError **error)
{
  Json *is = json_get (disk->details, "is");
  if (!json_get_bool (disk->details, "force"))
    return volume_is_free (disk->to, is, error);
  return volume_id_is (disk->to, is) ||
         fail (error, REFUSED, "'%s' is another volume now", disk->to);
}

static void delete (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "make sure that it is the same, and that nobody opened it", check_deleted)
      ->no_facts = TRUE;
  ask_lvm (asks, remove_args (disk, op_disk_detail (disk, "lv")));
}

const Step volume_delete_lv_steps[] = {
    {.name = "delete",
     .says = "remove it",
     .kind = STEP_PIVOT,
     .ask = delete,
     .probe = volume_seen_deleted},
    {0},
};
