/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Filesystems in volumes made larger or smaller, whatever the format of the volume.
 *
 * The filesystem's own programs work on an overlay over the volume, which a qemu-storage-daemon of
 * ours shows as a file (FUSE); what works only on mounted filesystems is mounted from there through
 * a loop device. The volume itself is not written until the result was checked and is on disk;
 * then, after the commit record, the overlay is committed into it, which can be repeated. Whoever
 * dies before that leaves the old filesystem, whoever dies later is finished by recovery. (An nbd
 * device would need a module that many kernels have not, and leaves a block device behind whoever
 * is killed; a libguestfs appliance is a guest of its own.) */
#include "jobs/op-volume.h"

#include "jobs/export.h"
#include "jobs/filesystem.h"
#include "jobs/image.h"
#include "jobs/overlay.h"
#include "jobs/volume-id.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static const Filesystem *
filesystem_of (OpDisk *disk)
{
  return filesystem_named (json_get_str (disk->details, "filesystem"));
}

static FilesystemPlace
place_of (OpDisk *disk)
{
  const char *view = json_get_str (disk->details, "view");
  return (FilesystemPlace){.device = view ? view : json_get_str (disk->details, "device"),
                           .mount = json_get_str (disk->details, "mount"),
                           .bytes = op_disk_size (disk, "new-fs-size"),
                           .block = op_disk_size (disk, "fs-block")};
}

static void
note_size (OpDisk *disk, const char *key, guint64 bytes)
{
  if (disk->found == NULL)
    disk->found = json_make (NULL, NULL);
  json_set (disk->found, key, json_int ((gint64)bytes));
}

/* NULL where the filesystem has no such program. */
static Ask *
ask_program (OpDisk *disk, const char *const *words, GPtrArray *asks)
{
  FilesystemPlace place = place_of (disk);
  char **argv = filesystem_args (words, &place);
  return argv ? ask_run (asks, argv) : NULL;
}

/* ---- overlay --------------------------------------------------------------------------------- */

/* A sector that is not whole belongs to no filesystem. */
static gboolean
write_overlay (Op *op, OpDisk *disk, GError **error)
{
  return overlay_write (disk->part, op_disk_size (disk, "size") / 512 * 512, disk->to,
                        json_get_str (disk->details, "format"), error);
}

static gboolean
is_unchanged (Op *op, OpDisk *disk, GError **error)
{
  const char *stamp = json_get_str (disk->details, "stamp");
  g_autofree char *now = stamp ? file_stamp (disk->to) : NULL;
  if (!volume_is_free (disk->to, json_get (disk->details, "is"), error))
    return FALSE;
  return stamp == NULL || g_strcmp0 (now, stamp) == 0 ||
         fail (error, REFUSED, "'%s' was changed by somebody else meanwhile", disk->to);
}

static void
overlay (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("create %s", disk->part);
  ask_local (asks, "make sure that nobody opened it", is_unchanged)->no_facts = TRUE;
  ask_local (asks, says, volume_create_part);
  ask_local (asks, "make a qcow2 overlay of it, over the volume", write_overlay)->no_facts = TRUE;
}

static void
unoverlay (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "remove the overlay", volume_remove_part)->no_facts = TRUE;
}

/* ---- view ------------------------------------------------------------------------------------ */

static gboolean
make_view (Op *op, OpDisk *disk, GError **error)
{
  const char *view = json_get_str (disk->details, "view");
  const char *mount = json_get_str (disk->details, "mount");
  g_autofree char *dir = g_path_get_dirname (view);
  int fd = mkdir (dir, 0700) == 0 && mkdir (mount, 0700) == 0
               ? open (view, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
               : -1;
  if (fd < 0)
    return fail_errno (error, errno, "make the private directory '%s'", dir);
  close (fd);
  return TRUE;
}

/* Whoever was killed leaves a mount whose server is gone. Absent is fine; busy is not. */
static gboolean
detach (const char *path, GError **error)
{
  return umount2 (path, MNT_DETACH) == 0 || errno == EINVAL || errno == ENOENT ||
         fail_errno (error, errno, "unmount '%s'", path);
}

static gboolean
remove_view (Op *op, OpDisk *disk, GError **error)
{
  const char *view = json_get_str (disk->details, "view");
  const char *mount = json_get_str (disk->details, "mount");
  g_autofree char *dir = g_path_get_dirname (view);
  if (!detach (mount, error) || !detach (view, error))
    return FALSE;
  if (rmdir (mount) != 0 && errno != ENOENT)
    return fail_errno (error, errno, "remove '%s'", mount);
  if (unlink (view) != 0 && errno != ENOENT)
    return fail_errno (error, errno, "remove '%s'", view);
  return rmdir (dir) == 0 || errno == ENOENT || fail_errno (error, errno, "remove '%s'", dir);
}

static Json *
overlay_options (OpDisk *disk)
{
  return json_make (
      "driver", json_str ("qcow2"), "node-name", json_str (disk->node), "file",
      json_make ("driver", json_str ("file"), "filename", json_str (disk->part), NULL), "backing",
      json_dup (json_get (disk->details, "image")), NULL);
}

static void
view (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "make a private directory for it", make_view)->no_facts = TRUE;
  ask_engine (asks);
  ask_qmp (asks, "blockdev-add", overlay_options (disk));
  ask_qmp (asks, "block-export-add",
           json_make ("type", json_str ("fuse"), "id", json_str (disk->export), "node-name",
                      json_str (disk->node), "mountpoint",
                      json_dup (json_get (disk->details, "view")), "writable", json_flag (TRUE),
                      NULL));
}

static void
unview (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_quit (asks)->tolerant = TRUE;
  ask_local (asks, "remove what is left of the view", remove_view)->no_facts = TRUE;
}

/* ---- check, resize, verify ------------------------------------------------------------------- */

static void
check (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  Ask *ask = ask_program (disk, filesystem_of (disk)->check, asks);
  if (ask != NULL)
    ask->most_exit = 1; /* e2fsck(8): it found something, and mended it */
}

static gboolean
checks (Op *op)
{
  return filesystem_of (op_disk (op, 0))->check[0] != NULL;
}

static gboolean
hear_minimum (Op *op, OpDisk *disk, const char *out, GError **error)
{
  guint64 minimum, wanted = op_disk_size (disk, "new-fs-size");
  if (!filesystem_read_minimum (filesystem_of (disk), out, op_disk_size (disk, "fs-block"),
                                &minimum))
    return TRUE; /* then its program judges when it is asked to resize */
  note_size (disk, "minimum-size", minimum);
  if (wanted >= minimum)
    return TRUE;
  fail (error, REFUSED,
        "the filesystem in '%s' needs %" G_GUINT64_FORMAT " bytes; %" G_GUINT64_FORMAT
        " are not enough",
        disk->to, minimum, wanted);
  return hint (error, "nothing was changed; %" G_GUINT64_FORMAT " bytes is the least", minimum);
}

static void
ask_resize (OpDisk *disk, GPtrArray *asks)
{
  const Filesystem *filesystem = filesystem_of (disk);
  gboolean shrinks = op_disk_size (disk, "new-fs-size") < op_disk_size (disk, "fs-size");
  Ask *ask = shrinks ? ask_program (disk, filesystem->minimum, asks) : NULL;
  if (ask != NULL)
    ask->told = hear_minimum;
  ask_program (disk, filesystem->resize, asks);
}

static char **
unmount_args (OpDisk *disk)
{
  const char *argv[] = {"umount", json_get_str (disk->details, "mount"), NULL};
  return g_strdupv ((char **)argv);
}

static void
resize (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const Filesystem *filesystem = filesystem_of (disk);
  FilesystemPlace place = place_of (disk);
  if (filesystem->by_mount)
    ask_run (asks, filesystem_mount_args (filesystem, &place));
  ask_resize (disk, asks);
  if (filesystem->by_mount)
    ask_run (asks, unmount_args (disk));
}

/* What it holds goes with the overlay. */
static void
unresize (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (filesystem_of (disk)->by_mount)
    ask_run (asks, unmount_args (disk))->tolerant = TRUE;
}

/* The programs round to what the filesystem can be. */
static gboolean
hear_end (Op *op, OpDisk *disk, const char *out, GError **error)
{
  guint64 now, block, was = op_disk_size (disk, "fs-size"),
                      wanted = op_disk_size (disk, "new-fs-size");
  if (!filesystem_read_end (filesystem_of (disk), out, &now, &block))
    return fail (error, FAILED, "where the filesystem in '%s' ends now is not known", disk->to);
  note_size (disk, "size", now);
  if (now <= wanted && (wanted < was || now > was))
    return TRUE;
  return fail (error, FAILED, "the filesystem in '%s' has %" G_GUINT64_FORMAT " bytes now",
               disk->to, now);
}

static void
verify (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_program (disk, filesystem_of (disk)->verify, asks);
  ask_program (disk, filesystem_of (disk)->end, asks)->told = hear_end;
}

/* ---- close, commit --------------------------------------------------------------------------- */

static gboolean
sync_overlay (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->part, error);
}

static void
close_view (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_quit (asks);
  ask_local (asks, "remove the view", remove_view)->no_facts = TRUE;
  ask_local (asks, "sync the overlay", sync_overlay)->no_facts = TRUE;
}

static gboolean
closed_unchanged (Op *op, OpDisk *disk, World *world, GError **error)
{
  return is_unchanged (op, disk, error);
}

static Seen
seen_decided (Op *op, OpDisk *disk, World *world)
{
  return op->decided == DECIDED_NEW ? SEEN_YES : SEEN_NO;
}

static gboolean
is_committed (OpDisk *disk)
{
  return json_get_bool (disk->found, "committed");
}

static gboolean
note_committed (Op *op, OpDisk *disk, GError **error)
{
  if (!file_sync (disk->to, error))
    return FALSE;
  json_set (disk->found, "committed", json_flag (TRUE));
  return TRUE;
}

static void
commit (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  volume_ask_free (asks);
  ask_run (asks, image_commit_args (disk->part, "qcow2"))->silent_program = TRUE;
  ask_local (asks, "sync the volume", note_committed);
}

static Seen
seen_committed (Op *op, OpDisk *disk, World *world)
{
  return is_committed (disk) ? SEEN_YES : SEEN_NO;
}

const Step volume_fs_steps[] = {
    {.name = "overlay",
     .says = "make an overlay, so that the volume stays as it is until all is done",
     .kind = STEP_UNDOABLE,
     .ask = overlay,
     .undo = unoverlay,
     .undo_says = "remove it"},
    {.name = "view",
     .says = "show overlay and volume as a file (FUSE)",
     .kind = STEP_UNDOABLE,
     .ask = view,
     .undo = unview,
     .undo_says = "unmount and remove it"},
    {.name = "check",
     .says = "check the filesystem",
     .kind = STEP_UNDOABLE,
     .ask = check,
     .applies = checks},
    {.name = "resize",
     .says = "resize the filesystem, in the overlay",
     .kind = STEP_UNDOABLE,
     .ask = resize,
     .undo = unresize,
     .undo_says = "drop it with the overlay"},
    {.name = "verify",
     .says = "check the result, and how large it is",
     .kind = STEP_UNDOABLE,
     .ask = verify},
    {.name = "close",
     .says = "close the overlay, and make it durable",
     .kind = STEP_UNDOABLE,
     .ask = close_view,
     .verify = closed_unchanged},
    {.name = "decide",
     .says = "from here on the new filesystem counts",
     .kind = STEP_PIVOT,
     .commits = TRUE,
     .decides = DECIDED_NEW,
     .probe = seen_decided},
    {.name = "commit",
     .says = "write what the overlay holds into the volume",
     .kind = STEP_FINISH,
     .ask = commit,
     .probe = seen_committed},
    {.name = "clear", .says = "remove the overlay", .kind = STEP_FINISH, .ask = unoverlay},
    {0},
};

/* ---- mounted --------------------------------------------------------------------------------- */

/* The kernel grows it, and keeps it whole whatever happens; it cannot be taken back. */

static guint64
blocks_of (const char *mount)
{
  struct statfs fs;
  return statfs (mount, &fs) == 0 ? (guint64)fs.f_blocks : 0;
}

static void
resize_mounted (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *loop = json_get_str (disk->details, "loop");
  if (loop != NULL) {
    const char *argv[] = {"losetup", "-c", loop, NULL};
    ask_run (asks, g_strdupv ((char **)argv));
  }
  ask_resize (disk, asks);
  ask_program (disk, filesystem_of (disk)->end, asks)->told = hear_end;
}

static Seen
seen_mounted_resized (Op *op, OpDisk *disk, World *world)
{
  guint64 now = blocks_of (json_get_str (disk->details, "mount"));
  return now == 0 || now == op_disk_size (disk, "fs-blocks") ? SEEN_NO : SEEN_YES;
}

const Step volume_fs_mounted_steps[] = {
    {.name = "resize",
     .says = "let the kernel resize the filesystem, which stays mounted",
     .kind = STEP_PIVOT,
     .ask = resize_mounted,
     .probe = seen_mounted_resized},
    {0},
};
