/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making a volume: under a name that carries the operation's id until it is whole and on disk, then
 * by one rename. Whoever dies meanwhile leaves nothing under the final name. */
#include "jobs/op-volume.h"

#include "jobs/fetch.h"
#include "jobs/volume-id.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static FileId
id_of (OpDisk *disk, const char *key)
{
  return file_id_from_json (json_get (disk->details, key));
}

static gboolean
stands_there (const char *path, FileId wanted)
{
  FileId id;
  gboolean exists = FALSE;
  return file_identify (path, &id, &exists, NULL) && exists && file_id_equal (id, wanted);
}

static gboolean
check_free (Op *op, OpDisk *disk, GError **error)
{
  return volume_is_free (disk->to, json_get (disk->details, "is"), error);
}

void
volume_ask_free (GPtrArray *asks)
{
  ask_local (asks, "make sure that nobody opened it", check_free)->no_facts = TRUE;
}

static gboolean
is_published (OpDisk *disk)
{
  return disk->made && stands_there (disk->to, disk->id);
}

/* Of every step before the name: what has its name needs none of them any more. */
static Seen
seen_by_name (Op *op, OpDisk *disk, World *world)
{
  return is_published (disk) ? SEEN_YES : SEEN_HALF;
}

/* ---- begin ----------------------------------------------------------------------------------- */

/* The name carries our random id: what lies there is ours, also where we died before its identity
 * was recorded. */
gboolean
volume_remove_part (Op *op, OpDisk *disk, GError **error)
{
  FileId id;
  gboolean exists;
  return file_identify (disk->part, &id, &exists, error) &&
         (!exists || file_remove (disk->part, id, error));
}

gboolean
volume_create_part (Op *op, OpDisk *disk, GError **error)
{
  if (!volume_remove_part (op, disk, error) ||
      !file_create_new (disk->part, NULL, &disk->id, error))
    return FALSE;
  disk->made = TRUE;
  return TRUE;
}

static gboolean
create_where_planned (Op *op, OpDisk *disk, GError **error)
{
  return path_is_still_plain (disk->part, error) && volume_create_part (op, disk, error);
}

static Seen
seen_begun (Op *op, OpDisk *disk, World *world)
{
  FileId id;
  gboolean exists = TRUE;
  if (is_published (disk))
    return SEEN_YES;
  return file_identify (disk->part, &id, &exists, NULL) && !exists ? SEEN_NO : SEEN_HALF;
}

static void
begin (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = g_strdup_printf ("create %s", disk->part);
  ask_local (asks, says, create_where_planned);
}

static void
unbegin (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "remove the unfinished file", volume_remove_part)->no_facts = TRUE;
}

/* ---- fill ------------------------------------------------------------------------------------ */

static gboolean
share_blocks (Op *op, OpDisk *disk, GError **error)
{
  const char *source = json_get_str (disk->details, "reflink");
  int from = open (source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  int to = from >= 0 ? open (disk->part, O_WRONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
  gboolean ok = to >= 0 && ioctl (to, FICLONE, from) == 0;
  int errnum = errno;
  if (from >= 0)
    close (from);
  if (to >= 0)
    close (to);
  return ok || fail_errno (error, errnum, "share the blocks of '%s' with '%s'", source, disk->part);
}

static char **
words_of (Json *argv)
{
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();
  for (gsize i = 0; i < json_length (argv); i++)
    g_strv_builder_add (words, json_object_get_string (json_at (argv, i)));
  return g_strv_builder_end (words);
}

void
volume_fill (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  Json *programs = json_get (disk->details, "fill"), *stream = json_get (disk->details, "stream");
  const char *source = json_get_str (disk->details, "reflink");
  if (stream != NULL) {
    g_autofree char *says =
        g_strdup_printf ("receive %s through ssh", json_get_str (stream, "name"));
    ask_work (asks, says, fetch_start);
  }
  if (source != NULL) {
    g_autofree char *says = g_strdup_printf ("share all blocks of %s (FICLONE)", source);
    ask_local (asks, says, share_blocks)->no_facts = TRUE;
  }
  for (gsize i = 0; i < json_length (programs); i++) {
    Json *program = json_at (programs, i);
    Ask *ask = ask_run (asks, words_of (json_get (program, "argv")));
    ask->from = g_strdup (json_get_str (program, "from"));
    ask->into = json_get_bool (program, "into") ? g_strdup (disk->part) : NULL;
    ask->fills =
        ask->into != NULL || json_get_bool (program, "in-order") ? g_strdup (disk->part) : NULL;
    ask->silent_program = json_get_bool (program, "silent");
    ask->watched = json_get_bool (program, "watched");
  }
}

/* ---- settle: length, owner, mode, durable ---------------------------------------------------- */

static gboolean
set_owner_and_mode (int fd, OpDisk *disk, GError **error)
{
  Json *details = disk->details;
  const char *like = json_get_str (details, "like");
  struct stat st;
  uid_t owner = (uid_t)-1;
  gid_t group = (gid_t)-1;
  mode_t mode = 0600;
  if (like != NULL && stat (like, &st) == 0) {
    mode = S_ISREG (st.st_mode) ? st.st_mode & 07777 : mode;
    owner = geteuid () == 0 && S_ISREG (st.st_mode) ? st.st_uid : owner;
    group = geteuid () == 0 && S_ISREG (st.st_mode) ? st.st_gid : group;
  }
  if (json_has (details, "owner"))
    owner = (uid_t)json_get_int (details, "owner");
  if (json_has (details, "group"))
    group = (gid_t)json_get_int (details, "group");
  if (json_has (details, "mode"))
    mode = (mode_t)json_get_int (details, "mode");
  if (fchown (fd, owner, group) != 0)
    return fail_errno (error, errno, "give '%s' its owner", disk->to);
  return fchmod (fd, mode & 07777) == 0 ||
         fail_errno (error, errno, "give '%s' its mode", disk->to);
}

static gboolean
settle_file (Op *op, OpDisk *disk, GError **error)
{
  FileId id;
  struct stat st;
  guint64 length = op_disk_size (disk, "length");
  int fd = open (disk->part, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return fail_errno (error, errno, "open '%s'", disk->part);
  gboolean ok = fstat (fd, &st) == 0 && file_identify_fd (fd, disk->part, &id);
  if (!ok || !file_id_equal (id, disk->id))
    ok = fail (error, REFUSED, "'%s' is not the file that was just made: somebody replaced it",
               disk->part);
  if (ok && json_has (disk->details, "length") && (guint64)st.st_size != length &&
      ftruncate (fd, (off_t)length) != 0)
    ok = fail_errno (error, errno, "give '%s' its size", disk->to);
  ok = ok && set_owner_and_mode (fd, disk, error);
  if (ok && fsync (fd) != 0)
    ok = fail_errno (error, errno, "sync '%s'", disk->part);
  close (fd);
  return ok;
}

static void
settle (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "set size, owner and mode, and sync it", settle_file)->no_facts = TRUE;
}

/* ---- publish --------------------------------------------------------------------------------- */

gboolean
volume_replaces (const OpDisk *disk)
{
  return json_has (disk->details, "replaces");
}

/* The two names are exchanged at one instant; the old file is then under the name of the part. */
static gboolean
exchange (OpDisk *disk, GError **error)
{
  if (!stands_there (disk->to, id_of (disk, "replaces")))
    return fail (error, REFUSED, "'%s' is another file now", disk->to);
  if (file_is_locked (disk->to))
    return fail (error, REFUSED, "'%s' was opened by a process meanwhile", disk->to);
  if (renameat2 (AT_FDCWD, disk->part, AT_FDCWD, disk->to, RENAME_EXCHANGE) == 0)
    return TRUE;
  return fail_errno (error, errno, "exchange '%s' and '%s'", disk->part, disk->to);
}

static gboolean
name_it (Op *op, OpDisk *disk, GError **error)
{
  if (!stands_there (disk->part, disk->id))
    return fail (error, REFUSED, "'%s' is not the file that was just made: somebody replaced it",
                 disk->part);
  gboolean ok = path_is_still_plain (disk->to, error) &&
                (volume_replaces (disk) ? exchange (disk, error)
                                        : file_rename_new (disk->part, disk->to, error));
  return ok && file_sync_dir_of (disk->to, error);
}

static void
publish (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = volume_replaces (disk) ? g_strdup_printf ("exchange it with %s", disk->to)
                                                 : g_strdup_printf ("name it %s", disk->to);
  ask_local (asks, says, name_it)->no_facts = TRUE;
}

static Seen
seen_published (Op *op, OpDisk *disk, World *world)
{
  return is_published (disk) ? SEEN_YES : SEEN_NO;
}

/* ---- clear: what was replaced ---------------------------------------------------------------- */

static gboolean
remove_replaced (Op *op, OpDisk *disk, GError **error)
{
  return file_remove (disk->part, id_of (disk, "replaces"), error);
}

static void
clear (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "remove the file that was replaced", remove_replaced)->no_facts = TRUE;
}

static gboolean
clears (Op *op)
{
  return volume_replaces (op_disk (op, 0));
}

/* ---- drop: where its contents came from ------------------------------------------------------ */

static gboolean
remove_source (Op *op, OpDisk *disk, GError **error)
{
  const char *path = json_get_str (json_get (disk->details, "removes"), "path");
  return file_is_locked (path)
             ? fail (error, REFUSED, "'%s' was opened by a process meanwhile", path)
             : file_remove (path, id_of (disk, "removes"), error);
}

static void
drop (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "remove the source", remove_source)->no_facts = TRUE;
}

static gboolean
drops (Op *op)
{
  return json_has (op_disk (op, 0)->details, "removes");
}

static const Step make_steps[] = {
    INSTANT_STEP,
    {.name = "begin",
     .says = "create the file, under a name that carries this operation's id",
     .kind = STEP_UNDOABLE,
     .ask = begin,
     .probe = seen_begun,
     .undo = unbegin,
     .undo_says = "remove it"},
    {.name = "fill",
     .says = "give it its contents",
     .kind = STEP_UNDOABLE,
     .ask = volume_fill,
     .probe = seen_by_name},
    {.name = "settle",
     .says = "give it size, owner and mode, and make it durable",
     .kind = STEP_UNDOABLE,
     .ask = settle,
     .probe = seen_by_name},
    {.name = "publish",
     .says = "give it its name",
     .kind = STEP_PIVOT,
     .ask = publish,
     .probe = seen_published},
    {.name = "clear",
     .says = "remove what it replaced",
     .kind = STEP_FINISH,
     .ask = clear,
     .applies = clears},
    {.name = "drop",
     .says = "remove the source, as asked",
     .kind = STEP_FINISH,
     .ask = drop,
     .applies = drops},
    DROP_INSTANT_STEP,
    {0},
};

/* ---- which table ----------------------------------------------------------------------------- */

const Step *
volume_steps (Op *op)
{
  Json *details = op->disks->len > 0 ? op_disk (op, 0)->details : NULL;
  gboolean lv = json_has (details, "lv");
  switch ((int)op->kind) {
  case OP_VOL_CREATE:
  case OP_VOL_CLONE:
  case OP_VOL_COPY:
  case OP_VOL_COPY_CONTENTS:
  case OP_VOL_COMPRESS:
  case OP_VOL_DECOMPRESS:
    return lv ? volume_make_lv_steps : make_steps;
  case OP_VOL_SNAPSHOT:
    if (json_has (details, "internal"))
      return volume_internal_steps;
    if (json_has (details, "subvolume"))
      return volume_subvolume_steps;
    return lv ? volume_make_lv_steps : make_steps;
  case OP_VOL_LEND:
    return volume_lend_steps;
  case OP_VOL_RESIZE:
    return op->vm ? volume_resize_live_steps : lv ? volume_resize_lv_steps : volume_resize_steps;
  case OP_VOL_DELETE:
    return lv ? volume_delete_lv_steps : volume_delete_steps;
  case OP_VOL_GROWFS:
  case OP_VOL_SHRINKFS:
    return json_has (details, "view") ? volume_fs_steps : volume_fs_mounted_steps;
  default:
    return NULL;
  }
}
