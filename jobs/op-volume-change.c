/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Changing a volume where it is: its size, its end. */
#include "jobs/header.h"
#include "jobs/image.h"
#include "jobs/op-volume.h"
#include "jobs/volume-id.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

gboolean
volume_guest_size (const char *path, const char *format, guint64 *ret_size, GError **error)
{
  g_auto (ImageHeader) header = {0};
  struct stat st;
  if (g_strcmp0 (format, "qcow2") != 0) {
    if (stat (path, &st) != 0)
      return fail_errno (error, errno, "look at '%s'", path);
    *ret_size = (guint64)st.st_size;
    return TRUE;
  }
  if (!image_header_read (path, &header, error))
    return FALSE;
  *ret_size = header.virtual_size;
  return header.is_qcow2 || fail (error, FAILED, "'%s' is not a qcow2 image", path);
}

static gboolean
is_still_it (OpDisk *disk, GError **error)
{
  return volume_is_free (disk->to, json_get (disk->details, "is"), error);
}

/* ---- resize ---------------------------------------------------------------------------------- */

static gboolean
is_raw (OpDisk *disk)
{
  return g_strcmp0 (json_get_str (disk->details, "format"), "raw") == 0;
}

gboolean
volume_grows (Op *op)
{
  OpDisk *disk = op_disk (op, 0);
  return op_disk_size (disk, "new-size") >= op_disk_size (disk, "size");
}

gboolean
volume_shrinks (Op *op)
{
  return !volume_grows (op);
}

static gboolean
set_raw_size (OpDisk *disk, guint64 size, GError **error)
{
  int fd = is_still_it (disk, error) ? open (disk->to, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
  if (fd < 0)
    return error && *error ? FALSE : fail_errno (error, errno, "open '%s'", disk->to);
  gboolean ok = ftruncate (fd, (off_t)size) == 0 && fsync (fd) == 0;
  int errnum = errno;
  close (fd);
  return ok || fail_errno (error, errnum, "resize '%s'", disk->to);
}

static gboolean
set_new_raw_size (Op *op, OpDisk *disk, GError **error)
{
  return set_raw_size (disk, op_disk_size (disk, "new-size"), error);
}

static gboolean
set_old_raw_size (Op *op, OpDisk *disk, GError **error)
{
  return set_raw_size (disk, op_disk_size (disk, "size"), error);
}

static gboolean
check_it (Op *op, OpDisk *disk, GError **error)
{
  return is_still_it (disk, error);
}

static gboolean
sync_it (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->to, error);
}

static void
ask_resize (OpDisk *disk, guint64 size, gboolean shrink, GPtrArray *asks)
{
  g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT, size);
  g_autofree char *says = g_strdup_printf ("set the size of %s to %s bytes", disk->to, bytes);
  if (is_raw (disk)) {
    AskLocal local = size == op_disk_size (disk, "size") ? set_old_raw_size : set_new_raw_size;
    ask_local (asks, says, local)->no_facts = TRUE;
    return;
  }
  ask_local (asks, "make sure that nobody opened it", check_it)->no_facts = TRUE;
  ask_run (asks,
           image_resize_args (disk->to, json_get_str (disk->details, "format"), size, shrink));
  ask_local (asks, "sync it", sync_it)->no_facts = TRUE;
}

static void
resize (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_resize (disk, op_disk_size (disk, "new-size"), volume_shrinks (op), asks);
}

static Seen
seen_resized (Op *op, OpDisk *disk, World *world)
{
  guint64 now = 0;
  if (!volume_guest_size (disk->to, json_get_str (disk->details, "format"), &now, NULL))
    return SEEN_HALF;
  return now == op_disk_size (disk, "new-size") ? SEEN_YES
         : now == op_disk_size (disk, "size")   ? SEEN_NO
                                                : SEEN_HALF;
}

/* Nothing was written into the new space yet: nobody else may open it as long as we own it. */
static void
unresize (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (seen_resized (op, disk, world) != SEEN_NO)
    ask_resize (disk, op_disk_size (disk, "size"), TRUE, asks);
}

static gboolean
has_new_size (Op *op, OpDisk *disk, World *world, GError **error)
{
  guint64 now = 0;
  return volume_guest_size (disk->to, json_get_str (disk->details, "format"), &now, error) &&
         (now == op_disk_size (disk, "new-size") ||
          fail (error, FAILED,
                "'%s' has %" G_GUINT64_FORMAT " bytes, which is not what was asked for", disk->to,
                now));
}

const Step volume_resize_steps[] = {
    {.name = "grow",
     .says = "make it larger; the new space reads as zeroes",
     .kind = STEP_UNDOABLE,
     .ask = resize,
     .probe = seen_resized,
     .undo = unresize,
     .undo_says = "give it its old size",
     .applies = volume_grows,
     .verify = has_new_size},
    {.name = "shrink",
     .says = "cut its end off",
     .kind = STEP_PIVOT,
     .ask = resize,
     .probe = seen_resized,
     .applies = volume_shrinks,
     .verify = has_new_size},
    {0},
};

/* ---- resize, through QEMU -------------------------------------------------------------------- */

static void
resize_node (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_qmp (asks, "block_resize",
           json_make ("node-name", json_str (json_get_str (disk->details, "node")), "size",
                      json_dup (json_get (disk->details, "new-size")), NULL));
}

static Seen
seen_node_resized (Op *op, OpDisk *disk, World *world)
{
  GPtrArray *disks = world_disks (world);
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *one = disks->pdata[i];
    ChainLayer *active = one->layers->len ? one->layers->pdata[0] : NULL;
    if (active != NULL && g_strcmp0 (active->node, json_get_str (disk->details, "node")) == 0)
      return active->virtual_size == op_disk_size (disk, "new-size") ? SEEN_YES : SEEN_NO;
  }
  return SEEN_NO;
}

static gboolean
node_has_new_size (Op *op, OpDisk *disk, World *world, GError **error)
{
  return seen_node_resized (op, disk, world) == SEEN_YES ||
         fail (error, FAILED, "QEMU does not show the new size of '%s'", disk->to);
}

const Step volume_resize_live_steps[] = {
    {.name = "resize",
     .says = "let QEMU make it larger; the guest sees it at once",
     .kind = STEP_PIVOT,
     .ask = resize_node,
     .probe = seen_node_resized,
     .verify = node_has_new_size},
    {0},
};

/* With its QEMU gone the file says what became of it, and nothing is left to do. */
gboolean
volume_was_resized (Op *op)
{
  return seen_resized (op, op_disk (op, 0), NULL) == SEEN_YES;
}

const Step dead_resize_steps[] = {
    {.name = "look",
     .says = "see which size the volume has",
     .kind = STEP_FINISH,
     .verify = has_new_size},
    {0},
};

/* ---- delete ---------------------------------------------------------------------------------- */

static gboolean
remove_it (Op *op, OpDisk *disk, GError **error)
{
  return (json_get_bool (disk->details, "force") || is_still_it (disk, error)) &&
         file_remove (disk->to, file_id_from_json (json_get (disk->details, "is")), error);
}

static void delete (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("remove %s, if it is still the same file", disk->to);
  ask_local (asks, says, remove_it)->no_facts = TRUE;
}

Seen
volume_seen_deleted (Op *op, OpDisk *disk, World *world)
{
  return volume_id_is (disk->to, json_get (disk->details, "is")) ? SEEN_NO : SEEN_YES;
}

const Step volume_delete_steps[] = {
    {.name = "delete",
     .says = "remove it",
     .kind = STEP_PIVOT,
     .ask = delete,
     .probe = volume_seen_deleted},
    {0},
};
