/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/export.h"

#include "src/common/fs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Short names: the path of a socket has 107 bytes. QEMU may run as somebody who cannot see the
 * state directory. */
static const char *
place (void)
{
  const char *own = g_get_user_runtime_dir ();
  if (geteuid () == 0 && access ("/run", W_OK) == 0)
    return "/run";
  return strlen (own) < 60 && access (own, W_OK) == 0 ? own : "/tmp";
}

void
export_name (Op *op, OpDisk *disk)
{
  disk->socket = g_strdup_printf ("%s/rc-%s-%u/nbd", place (), op->id, disk->index);
}

static char *
directory (OpDisk *disk)
{
  return g_path_get_dirname (disk->socket);
}

static gboolean
exists (OpDisk *disk)
{
  g_autofree char *dir = directory (disk);
  return g_file_test (dir, G_FILE_TEST_EXISTS);
}

/* QEMU makes the socket, so the directory is for its user; we get in as root, or are that user. */
static gboolean
make_directory (Op *op, OpDisk *disk, GError **error)
{
  g_autofree char *dir = directory (disk);
  g_autofree char *process = g_strdup_printf ("/proc/%d", (int)op->qemu_pid);
  struct stat st;
  if (mkdir (dir, 0700) != 0)
    return fail_errno (error, errno, "make the directory '%s' for QEMU's NBD socket", dir);
  if (geteuid () != 0 || op->qemu_pid <= 0 || stat (process, &st) != 0 || st.st_uid == 0)
    return TRUE;
  return chown (dir, st.st_uid, st.st_gid) == 0 ||
         fail_errno (error, errno, "give '%s' to QEMU's user", dir);
}

static gboolean
remove_directory (Op *op, OpDisk *disk, GError **error)
{
  g_autofree char *dir = directory (disk);
  if (unlink (disk->socket) != 0 && errno != ENOENT && errno != ENOTDIR)
    return fail_errno (error, errno, "remove '%s'", disk->socket);
  if (rmdir (dir) != 0 && errno != ENOENT)
    return fail_errno (error, errno, "remove '%s'", dir);
  return TRUE;
}

/* QEMU makes the socket when its server starts and removes it when that stops; nobody else can make
 * it. */
static gboolean
is_served (OpDisk *disk)
{
  struct stat st;
  return lstat (disk->socket, &st) == 0 && S_ISSOCK (st.st_mode);
}

static gboolean
is_exported (Op *op, OpDisk *disk, World *world)
{
  ChainDisk *now = op_find_disk (op, disk, world);
  for (guint i = 0; now != NULL && i < now->exports->len; i++)
    if (g_str_equal (now->exports->pdata[i], disk->export))
      return TRUE;
  return FALSE;
}

void
export_add (Op *op, OpDisk *disk, const char *node, gboolean writable, GPtrArray *asks)
{
  g_autofree char *dir = directory (disk);
  g_autofree char *says = g_strdup_printf ("make the directory %s", dir);
  ask_local (asks, says, make_directory)->no_facts = TRUE;
  Json *address = json_make ("type", json_str ("unix"), "data",
                             json_make ("path", json_str (disk->socket), NULL), NULL);
  ask_qmp (asks, "nbd-server-start", json_make ("addr", address, NULL));
  ask_qmp (asks, "block-export-add",
           json_make ("type", json_str ("nbd"), "id", json_str (disk->export), "node-name",
                      json_str (node), "name", json_str (disk->export), "writable",
                      json_flag (writable), "allocation-depth", json_flag (TRUE), NULL));
}

void
export_forget (GPtrArray *asks)
{
  ask_local (asks, "remove the socket and its directory", remove_directory)->no_facts = TRUE;
}

Seen
export_is_there (Op *op, OpDisk *disk, World *world)
{
  gboolean exported = is_exported (op, disk, world);
  return exported && is_served (disk) ? SEEN_YES : exported || exists (disk) ? SEEN_HALF : SEEN_NO;
}

void
export_stop_server (OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world == NULL || is_served (disk))
    ask_qmp (asks, "nbd-server-stop", NULL);
  if (world == NULL || exists (disk))
    export_forget (asks);
}

void
export_remove (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world == NULL || is_exported (op, disk, world))
    ask_qmp (asks, "block-export-del",
             json_make ("id", json_str (disk->export), "mode", json_str ("hard"), NULL))
        ->tolerant = TRUE; /* it may go with its server */
  export_stop_server (disk, world, asks);
}

gboolean
export_is_gone (Op *op, OpDisk *disk, World *world, GError **error)
{
  return export_is_there (op, disk, world) == SEEN_NO ||
         fail (error, FAILED, "export '%s' is still in QEMU", disk->export);
}
