/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preflight. Each check looks at one thing and refuses with the reason and the cure. */
#include "jobs/plan-private.h"

#include "jobs/header.h"
#include "jobs/journal.h"
#include "jobs/lv.h"
#include "src/common/fs.h"
#include "src/common/size.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BACKING 1023  /* QEMU's limit for the name in a header, bytes */
#define MAX_SCAN    20000 /* entries of a directory that are looked at for users of a layer */

/* ---- the VM ---------------------------------------------------------------------------------- */

typedef struct {
  QmpFeature feature;
  const char *what_for;
  guint kinds;
} Need;

#define SNAPSHOT (1u << OP_SNAPSHOT)
#define MOVE     (1u << OP_MOVE)
#define STREAMS  (MOVE | 1u << OP_PULL | 1u << OP_MERGE | 1u << OP_SNAPSHOT_DELETE)
#define COMMITS  (1u << OP_COMMIT | 1u << OP_MERGE | 1u << OP_SNAPSHOT_DELETE)
#define COPY     (1u << OP_COPY)
#define MAP      (1u << OP_MAP)
#define ALL      (SNAPSHOT | STREAMS | COMMITS | COPY)
#define ALLOCATE (1u << OP_ALLOCATE)

static const Need needs[] = {
    {FEATURE_TRANSACTION, "switching disks at one instant", SNAPSHOT | MOVE},
    {FEATURE_BLOCKDEV_ADD, "opening the new layer", SNAPSHOT | MOVE | COPY},
    {FEATURE_BLOCKDEV_SNAPSHOT, "taking a snapshot", SNAPSHOT | MOVE},
    {FEATURE_JOB_VERBS, "holding a job before its pivot", ALL},
    {FEATURE_QUERY_JOBS, "reading a job's outcome", ALL},
    {FEATURE_NBD_SERVER, "exporting a disk", MAP | ALLOCATE},
    {FEATURE_BLOCK_EXPORT_ADD, "exporting a disk", MAP | ALLOCATE},
    {FEATURE_ALLOCATION_DEPTH, "telling which layer answers", MAP | ALLOCATE},
    {FEATURE_COMMIT_FINALIZE, "taking a snapshot back", SNAPSHOT | MOVE},
    {FEATURE_COMMIT_FINALIZE, "holding a commit before its pivot", COMMITS},
    {FEATURE_HMP, "flushing a layer", ALL | ALLOCATE},
    {FEATURE_STREAM_FINALIZE, "holding a stream before its pivot", STREAMS},
    {FEATURE_BLOCKDEV_MIRROR, "copying a disk", COPY},
};

gboolean
plan_check_vm (const PlanContext *context, const Request *request, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (needs); i++)
    if ((needs[i].kinds & 1u << request->kind) &&
        !qmp_features_require (context->features, context->client, needs[i].feature,
                               needs[i].what_for, error))
      return hint (error, "QEMU 5.2 and later have it");
  if (g_strcmp0 (world_run_state (context->world), "postmigrate") == 0) {
    fail (error, REFUSED, "the VM was migrated away; its images are inactive here");
    return hint (error, "name the monitor of the QEMU that it runs in now");
  }
  if (world_migrating (context->world)) {
    fail (error, REFUSED, "the VM is being migrated");
    return hint (error,
                 "wait until the migration has ended: QEMU can abort when a job runs during one");
  }
  return TRUE;
}

/* libvirt names its guests "guest=..." and keeps a master key for each. */
static gboolean
is_run_by_libvirt (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/cmdline", (int)pid);
  g_autofree char *words = NULL;
  gsize length = 0;
  if (pid <= 0 || !g_file_get_contents (path, &words, &length, NULL))
    return FALSE;
  for (gsize i = 0; i < length; i++)
    if (words[i] == '\0')
      words[i] = ' ';
  return strstr (words, "guest=") != NULL && strstr (words, "masterKey0") != NULL;
}

void
plan_add_notes (Op *op)
{
  if (is_run_by_libvirt (op->qemu_pid))
    g_ptr_array_add (op->notes,
                     g_strdup ("this QEMU was started by libvirt, which will not know of the "
                               "new chain: change its domain XML as well"));
  if (op->flags & OP_PIVOT_LIVE)
    g_ptr_array_add (
        op->notes,
        g_strdup ("--pivot live: should QEMU or the host die in the instant of a pivot, what "
                  "the guest wrote in that instant can be lost"));
}

gboolean
plan_check_group (const Request *request, const char *disk, const char *vg, GError **error)
{
  if (request->allow_vgs == NULL || g_strv_contains ((const char *const *)request->allow_vgs, vg))
    return TRUE;
  fail (error, PERMISSION, "disk '%s': volume group '%s' is not one that rechain may work on", disk,
        vg);
  return hint (error, "[storage] allow-vg in the configuration names those");
}

/* ---- a disk ---------------------------------------------------------------------------------- */

gboolean
plan_check_not_taken (Journal *journal, const char *vm, const char *disk, GError **error)
{
  g_autofree char *other = journal ? journal_find_open (journal, vm, disk) : NULL;
  if (other == NULL)
    return TRUE;
  if (journal_owner (journal, other, NULL) == OWNER_ALIVE) {
    fail (error, REFUSED, "operation %s is running on disk '%s'", other, disk);
    return hint (error, "wait for it, or: rechain op cancel %s", other);
  }
  fail (error, REFUSED, "operation %s on disk '%s' was interrupted and is not settled", other,
        disk);
  return hint (error, "rechain recover --op %s", other);
}

/* A freeze that was interrupted would be thawed by its recovery, in the middle of whatever this one
 * is for. */
gboolean
plan_check_none_open (Journal *journal, const char *vm, GError **error)
{
  g_autofree char *other = journal ? journal_find_open (journal, vm, NULL) : NULL;
  if (other == NULL)
    return TRUE;
  fail (error, REFUSED, "operation %s on this VM has not ended", other);
  return hint (error, "wait for it; if its process is gone: rechain recover --op %s", other);
}

static gboolean
check_layers (ChainDisk *disk, GError **error)
{
  for (guint i = 0; i < disk->layers->len; i++) {
    ChainLayer *layer = disk->layers->pdata[i];
    if (layer->file == NULL)
      return fail (error, REFUSED, "disk '%s': QEMU does not tell the file of layer %u", disk->name,
                   i);
    if (layer->encrypted) {
      fail (error, REFUSED, "disk '%s': layer '%s' is encrypted", disk->name, layer->file);
      return hint (error, "the new layer would hold its data in the clear");
    }
  }
  ChainLayer *active = disk->layers->pdata[0];
  if (active->virtual_size == 0)
    return fail (error, REFUSED, "disk '%s': its active layer has no size", disk->name);
  return TRUE;
}

gboolean
plan_check_has_chain (ChainDisk *disk, GError **error)
{
  if (!disk->inserted || disk->layers->len == 0) {
    fail (error, REFUSED, "disk '%s' has no medium", disk->name);
    return hint (error, "name another disk: rechain chain shows them");
  }
  if (disk->broken != NULL)
    return fail (error, REFUSED, "disk '%s': its chain cannot be read: %s", disk->name,
                 disk->broken);
  return TRUE;
}

gboolean
plan_check_disk (ChainDisk *disk, Journal *journal, const char *vm, GError **error)
{
  if (!plan_check_has_chain (disk, error))
    return FALSE;
  if (disk->read_only) {
    fail (error, REFUSED, "disk '%s' is read-only", disk->name);
    return hint (error, "only disks that the guest can write to are changed");
  }
  if (!plan_check_not_taken (journal, vm, disk->name, error))
    return FALSE;
  if (disk->jobs->len > 0) {
    ChainJob *job = disk->jobs->pdata[0];
    fail (error, REFUSED, "disk '%s' is busy: %s job '%s' of %s is %s", disk->name, job->type,
          job->id, job->ours ? "an operation" : "somebody else", job->status);
    return hint (error, "wait for it (rechain job wait), or cancel it (rechain job cancel%s)",
                 job->ours ? "" : " --foreign");
  }
  if (disk->writable_exports->len > 0) {
    fail (error, REFUSED, "disk '%s' has the writable export '%s'", disk->name,
          (char *)disk->writable_exports->pdata[0]);
    return hint (error,
                 "remove it first (block-export-del): writes through it around a pivot are lost");
  }
  return check_layers (disk, error);
}

/* ---- the target ------------------------------------------------------------------------------ */

static gboolean
check_directory (const char *to, GError **error)
{
  g_autofree char *dir = g_path_get_dirname (to);
  struct stat st;
  int errnum = stat (dir, &st) != 0 ? errno : S_ISDIR (st.st_mode) ? 0 : ENOTDIR;
  if (errnum != 0) {
    fail_errno (error, errnum, "the target's directory '%s'", dir);
    return errnum == ENOTDIR ? recode (error, REFUSED) : FALSE;
  }
  if (access (dir, W_OK | X_OK) == 0)
    return TRUE;
  errnum = errno;
  fail_errno (error, errnum, "the target's directory '%s' cannot be written", dir);
  return errnum == EROFS ? recode (error, PERMISSION) : FALSE;
}

/* The file that backs what is made: an overlay's is the active layer, a copy's what it
 * is to keep. */
static ChainLayer *
first_backing (OpDisk *disk)
{
  guint i = disk->mode == MODE_MIRROR ? (guint)disk->base : 0;
  return i < disk->before->len ? disk->before->pdata[i] : NULL;
}

/* What check_reuse() wants, as a command line. */
static gboolean
hint_reusable (OpDisk *disk, GError **error)
{
  ChainLayer *active = disk->before->pdata[0], *backing = first_backing (disk);
  const char *format = disk->to_format ? disk->to_format : "qcow2";
  if (backing == NULL)
    return hint (error, "qemu-img create -f %s '%s' %" G_GUINT64_FORMAT, format, disk->to,
                 active->virtual_size);
  return hint (error, "qemu-img create -f %s -u -b '%s' -F %s '%s' %" G_GUINT64_FORMAT, format,
               backing->file, backing->format, disk->to, active->virtual_size);
}

static gboolean
differs (const char *file, const char *wanted)
{
  return file == NULL || wanted == NULL ? file != wanted : !path_same_file (file, wanted);
}

/* The file that is to be reused must be what we would have made. That an overlay is empty is asked
 * of qemu-img, later. */
static gboolean
check_reuse (OpDisk *disk, GError **error)
{
  g_auto (ImageHeader) header = {0};
  ChainLayer *active = disk->before->pdata[0], *wanted = first_backing (disk);
  gboolean raw = g_strcmp0 (disk->to_format, "raw") == 0;
  if (raw ? !file_length (disk->to, &header.virtual_size, error)
          : !image_header_read (disk->to, &header, error))
    return prefix (error, "reuse '%s'", disk->to);
  g_autofree char *dir = g_path_get_dirname (disk->to);
  g_autofree char *backing = header.backing ? chain_file_in (dir, header.backing) : NULL;
  if (!raw && !header.is_qcow2)
    fail (error, REFUSED, "reuse '%s': it is not a qcow2 image", disk->to);
  else if (header.virtual_size != active->virtual_size)
    fail (error, REFUSED,
          "reuse '%s': its size is %" G_GUINT64_FORMAT " and not %" G_GUINT64_FORMAT, disk->to,
          header.virtual_size, active->virtual_size);
  else if (differs (backing, wanted ? wanted->file : NULL))
    fail (error, REFUSED, "reuse '%s': its backing file is '%s' and not %s'%s'", disk->to,
          header.backing ? header.backing : "none", wanted == active ? "the active image " : "",
          wanted ? wanted->file : "none");
  else if (!file_is_locked (disk->to))
    return TRUE;
  else {
    fail (error, REFUSED, "reuse '%s': it is open in another process", disk->to);
    return hint (error, "end that process, or name another file");
  }
  return hint_reusable (disk, error);
}

static gboolean
check_names (Op *op, OpDisk *disk, GError **error)
{
  /* QMP is JSON, which is UTF-8: another name would reach QEMU as a different one. */
  if (!g_utf8_validate (disk->to, -1, NULL))
    return fail (error, REFUSED,
                 "disk '%s': the target's name is not UTF-8, which QMP cannot carry", disk->name);
  for (guint i = 0; i < disk->index; i++)
    if (path_same_file (op_disk (op, i)->to, disk->to))
      return fail (error, REFUSED, "disks '%s' and '%s' have the same target '%s'",
                   op_disk (op, i)->name, disk->name, disk->to);
  if ((disk->backing_first && strlen (disk->backing_first) > MAX_BACKING) ||
      (disk->backing && strlen (disk->backing) > MAX_BACKING))
    return fail (error, REFUSED, "disk '%s': the name of its backing file is longer than %d bytes",
                 disk->name, MAX_BACKING);
  return TRUE;
}

int
plan_removed_layer (OpDisk *disk, int from, int to)
{
  for (int i = from; i < to; i++) {
    const char *file = op_disk_layer (disk, i)->file;
    if (file != NULL && file[0] == '/' && access (file, F_OK) != 0 && errno == ENOENT)
      return i;
  }
  return -1;
}

/* What the new header names must be there; what falls out need not be. */
static gboolean
check_kept (OpDisk *disk, GError **error)
{
  int removed = plan_removed_layer (disk, disk->base, (int)disk->before->len);
  if (removed < 0)
    return TRUE;
  fail (error, REFUSED, "disk '%s': layer '%s' was removed while QEMU has it open", disk->name,
        op_disk_layer (disk, removed)->file);
  return hint (error, "its data is gone when QEMU ends: save the whole disk with rechain copy");
}

gboolean
plan_check_target (Op *op, OpDisk *disk, World *world, GError **error)
{
  FileId id;
  gboolean exists;
  gboolean makes = (op->flags & OP_REUSE) == 0;
  if (makes && access (disk->to, F_OK) != 0 && lv_is_path (disk->to)) {
    fail (error, REFUSED, "target '%s' does not exist, and a logical volume is not made by this",
          disk->to);
    return hint (error,
                 "make it (lvcreate) and the image in it (qemu-img create), then use --reuse; "
                 "--grow-lv extends it");
  }
  if (!check_kept (disk, error) || !check_names (op, disk, error) ||
      !check_directory (disk->to, error) || !file_identify (disk->to, &id, &exists, error))
    return FALSE;
  if (exists && (op->flags & OP_REUSE))
    return check_reuse (disk, error);
  if (!exists && (op->flags & OP_REUSE)) {
    fail (error, NOT_FOUND, "target '%s' does not exist, and --reuse asks for one that does",
          disk->to);
    return hint_reusable (disk, error);
  }
  if (!exists)
    return TRUE;
  fail (error, REFUSED, "target '%s' exists", disk->to);
  return hint (error,
               "name another file, remove it, or use --reuse for an image that was made for this");
}

/* ---- layers that others use ------------------------------------------------------------------ */

static gboolean
is_in_chain (OpDisk *disk, const char *path)
{
  for (guint i = 0; i < disk->before->len; i++)
    if (path_same_file (path, ((ChainLayer *)disk->before->pdata[i])->file))
      return TRUE;
  return FALSE;
}

/* An image in @layer's directory that is backed by it and not part of this chain. Full,
 * nullable. */
static char *
find_overlay (OpDisk *disk, ChainLayer *layer)
{
  g_autofree char *dir = g_path_get_dirname (layer->file);
  g_autoptr (GDir) entries = g_dir_open (dir, 0, NULL);
  guint n = 0;
  for (const char *name; entries && (name = g_dir_read_name (entries)) && n < MAX_SCAN; n++) {
    g_autofree char *path = g_build_filename (dir, name, NULL);
    g_auto (ImageHeader) header = {0};
    if (!g_file_test (path, G_FILE_TEST_IS_REGULAR) || !image_header_read (path, &header, NULL) ||
        header.backing == NULL)
      continue;
    g_autofree char *plain = world_json_file (header.backing);
    g_autofree char *backing = chain_file_in (dir, plain ? plain : header.backing);
    if (path_same_file (backing, layer->file) && !is_in_chain (disk, path))
      return g_steal_pointer (&path);
  }
  return NULL;
}

/* Another disk of this VM whose chain has @layer; borrowed, nullable. */
static const char *
find_other_disk (OpDisk *disk, ChainLayer *layer, World *world)
{
  GPtrArray *disks = world ? world_disks (world) : NULL;
  for (guint d = 0; disks != NULL && d < disks->len; d++) {
    ChainDisk *other = disks->pdata[d];
    for (guint k = 0; !g_str_equal (other->name, disk->name) && k < other->layers->len; k++)
      if (path_same_file (((ChainLayer *)other->layers->pdata[k])->file, layer->file))
        return other->name;
  }
  return NULL;
}

/* A process that has @file open; 0: none that we can see. @qemu is not meant, nor who has the
 * active layer open: that is QEMU too, behind a monitor that somebody passes on. */
static pid_t
find_process (const char *file, const char *active, pid_t qemu)
{
  g_autoptr (GDir) processes = path_same_file (file, active) ? NULL : g_dir_open ("/proc", 0, NULL);
  for (const char *name; processes && (name = g_dir_read_name (processes));) {
    pid_t pid = (pid_t)atoi (name);
    if (pid > 0 && pid != qemu && pid != getpid () && process_has_open (pid, file) &&
        !process_has_open (pid, active))
      return pid;
  }
  return 0;
}

gboolean
plan_check_not_shared (OpDisk *disk, ChainLayer *layer, pid_t qemu, World *world, GError **error)
{
  const char *other = find_other_disk (disk, layer, world);
  if (other != NULL)
    return fail (error, REFUSED, "disk '%s' uses it too", other);
  if (layer->file == NULL || layer->file[0] != '/')
    return TRUE;
  g_autofree char *overlay = find_overlay (disk, layer);
  if (overlay != NULL)
    return fail (error, REFUSED, "it is the backing file of '%s' too", overlay);
  pid_t pid = find_process (layer->file, ((ChainLayer *)disk->before->pdata[0])->file, qemu);
  return pid == 0 || fail (error, REFUSED, "process %d has it open too", (int)pid);
}

gboolean
plan_check_writable (const char *file, gboolean by_us, GError **error)
{
  if (file == NULL || file[0] != '/' || access (file, W_OK) == 0)
    return TRUE;
  int errnum = errno;
  if (!by_us && errnum != EROFS) /* QEMU may be another user */
    return TRUE;
  fail_errno (error, errnum, "'%s' cannot be written", file);
  return errnum == EROFS ? recode (error, PERMISSION) : FALSE;
}

static guint
internal_snapshots (ChainLayer *layer)
{
  g_auto (ImageHeader) header = {0};
  gboolean local = layer->file != NULL && layer->file[0] == '/';
  return local && image_header_read (layer->file, &header, NULL) ? header.snapshots : 0;
}

/* What a snapshot inside an image does not hold it reads from the layers below, also when those
 * have been streamed into the image; after a commit they show the same. */
static gboolean
check_inner_snapshots_above (OpDisk *disk, GError **error)
{
  for (int i = 0; disk->mode == MODE_STREAM && disk->to == NULL && i < disk->first; i++) {
    ChainLayer *layer = op_disk_layer (disk, i);
    guint snapshots = internal_snapshots (layer);
    if (snapshots == 0)
      continue;
    fail (error, REFUSED,
          "disk '%s': '%s' holds %u internal snapshot%s, which would read nothing of what is below "
          "it any more",
          disk->name, layer->file, snapshots, snapshots > 1 ? "s" : "");
    return hint (error, "delete them first, or commit the layers below instead of pulling them");
  }
  return TRUE;
}

gboolean
plan_check_dropped (Op *op, OpDisk *disk, World *world, GError **error)
{
  for (int i = disk->first; (op->flags & OP_DELETE) && i < disk->base; i++) {
    ChainLayer *layer = disk->before->pdata[i];
    const char *other = find_other_disk (disk, layer, world);
    if (other != NULL)
      return fail (error, REFUSED, "'%s' cannot be removed: disk '%s' uses it too", layer->file,
                   other);
    g_autofree char *overlay = find_overlay (disk, layer);
    guint snapshots = internal_snapshots (layer);
    if (overlay == NULL && snapshots == 0)
      continue;
    if (overlay != NULL)
      fail (error, REFUSED, "'%s' cannot be removed: it is the backing file of '%s'", layer->file,
            overlay);
    else
      fail (error, REFUSED, "'%s' cannot be removed: it holds %u internal snapshot%s", layer->file,
            snapshots, snapshots > 1 ? "s" : "");
    return hint (error, "leave --delete out to keep the files that fall out of the chain");
  }
  return check_inner_snapshots_above (disk, error);
}
