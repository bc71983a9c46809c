/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files that nobody refers to: in the directories of the disks, of sockets, and of the journal. */
#include "src/lib/doctor-private.h"

#include "jobs/header.h"
#include "jobs/overlay.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ENTRIES    20000u /* of a directory */
#define MAX_OPERATIONS 1000u  /* newest first, that are asked who made a file */

typedef struct {
  char *path;
  char *backing; /* absolute; nullable */
  FileId id;
  gboolean qcow2, corrupt;
} Image;

static void
image_free (gpointer data)
{
  Image *image = data;
  g_free (image->path);
  g_free (image->backing);
  g_free (image);
}

static FileId
identity_of (const char *path)
{
  FileId id = {0};
  gboolean exists;
  file_identify (path, &id, &exists, NULL);
  return id;
}

/* Full: what a process does with it; NULL: none has it open. */
static char *
used_by (Exam *exam, const char *path)
{
  struct stat st;
  if (stat (path, &st) != 0)
    return NULL;
  g_autoptr (Users) users = users_find (exam->files, path, &st);
  return users_none (users) ? NULL : users_say (users);
}

/* ---- files with an operation's id ------------------------------------------------------------ */

/* ".rc-0123abcd-0.part" -> the id, full. */
static char *
id_of_part (const char *name)
{
  return g_str_has_prefix (name, ".rc-") && g_str_has_suffix (name, ".part") ? id_of_name (name + 1)
                                                                             : NULL;
}

/* Where an operation replaced a volume, the old one has the part's name until it is removed. */
static gboolean
is_what_was_replaced (Op *op, FileId id)
{
  for (guint i = 0; i < op->disks->len; i++) {
    if (file_id_equal (file_id_from_json (json_get (op_disk (op, i)->details, "replaces")), id))
      return TRUE;
  }
  return FALSE;
}

static void
exam_part (Exam *exam, const char *path, const char *op_id)
{
  FileId id = identity_of (path);
  g_autoptr (Op) op = exam_op (exam, op_id);
  g_autofree char *user = used_by (exam, path);
  g_autofree char *command = shell_words ("rm", "--", path, NULL);
  if (op != NULL && !op_has_ended (op))
    return;
  Json *finding = exam_find (exam, FOUND_WARNING, "temporary-file", NULL, NULL,
                             "'%s' is an unfinished file of an operation", path);
  if (op == NULL)
    finding_shows (finding, "operation %s is not in this journal", op_id);
  else
    finding_shows (finding, "operation %s (%s) is %s", op_id, op_kind_name (op->kind),
                   op_state_name (op->state));
  if (user != NULL)
    finding_shows (finding, "%s", user);
  if (op != NULL && is_what_was_replaced (op, id)) {
    finding_shows (finding, "it is the volume that the operation was to replace");
    finding_cure (finding, NULL, "look whether you want it back before you remove it");
    return;
  }
  finding_cure (finding, command,
                op ? "remove it" : "remove it, unless another rechain is at work there");
  if (op != NULL && user == NULL)
    finding_repair (exam, finding, NULL, path, "file",
                    json_make ("path", json_str (path), "id", file_id_to_json (id), NULL));
}

/* ---- images ---------------------------------------------------------------------------------- */

static gboolean
has_ending (const char *name, const char *const *endings)
{
  for (; *endings != NULL; endings++)
    if (g_str_has_suffix (name, *endings))
      return TRUE;
  return FALSE;
}

/* Raw images look like anything; those that are called so count. */
static Image *
read_image (const char *dir, const char *name, const struct stat *st)
{
  static const char *const raw[] = {".img", ".raw", NULL};
  g_auto (ImageHeader) header = {0};
  g_autofree char *path = g_build_filename (dir, name, NULL);
  gboolean read = image_header_read (path, &header, NULL);
  if ((!read || !header.is_qcow2) && !has_ending (name, raw))
    return NULL;
  Image *image = g_new0 (Image, 1);
  *image = (Image){.qcow2 = read && header.is_qcow2,
                   .corrupt = header.corrupt,
                   .id = identity_of (path),
                   .backing = header.backing ? chain_file_in (dir, header.backing) : NULL};
  image->path = g_steal_pointer (&path);
  return image;
}

static gboolean
is_backing (GPtrArray *images, const Image *image)
{
  for (guint i = 0; i < images->len; i++) {
    const char *backing = ((Image *)images->pdata[i])->backing;
    if (backing != NULL && path_same_file (backing, image->path))
      return TRUE;
  }
  return FALSE;
}

/* The operation that made it, or that left it behind; full, nullable. */
static Op *
find_maker (Exam *exam, const Image *image, gboolean *ret_made)
{
  g_auto (GStrv) ids = exam->journal ? journal_list (exam->journal, FALSE, NULL, NULL) : NULL;
  for (guint n = 0; ids != NULL && ids[n] != NULL && n < MAX_OPERATIONS; n++) {
    g_autoptr (Op) op = exam_op (exam, ids[n]);
    for (guint i = 0; op != NULL && i < op->disks->len; i++) {
      OpDisk *disk = op_disk (op, i);
      char **left = i < op->left->len ? op->left->pdata[i] : NULL;
      *ret_made = disk->made && disk->to && g_str_equal (disk->to, image->path) &&
                  file_id_equal (disk->id, image->id);
      if (*ret_made || (left && g_strv_contains ((const char *const *)left, image->path)))
        return g_steal_pointer (&op);
    }
  }
  return NULL;
}

/* Empty, and made by an operation that was taken back: nothing is lost with it. */
static gboolean
is_ours_and_empty (const Op *op, gboolean made, const Image *image)
{
  return op != NULL && made && op->state == OP_UNDONE && image->qcow2 &&
         overlay_is_empty (image->path);
}

static void
unused_image (Exam *exam, const Image *image)
{
  gboolean orphan = image->backing != NULL && exam_is_used (exam, image->backing), made = FALSE;
  g_autoptr (Op) op = find_maker (exam, image, &made);
  g_autofree char *command = shell_words ("rechain", "vol", "delete", image->path, NULL);
  Json *finding = orphan ? exam_find (exam, FOUND_WARNING, "orphan-overlay", NULL, NULL,
                                      "'%s' is an overlay over '%s', and part of no chain",
                                      image->path, image->backing)
                         : exam_find (exam, FOUND_NOTE, "unused-image", NULL, NULL,
                                      "nobody refers to the image '%s'", image->path);
  json_set (finding, "file", json_str (image->path));
  finding_shows (finding,
                 "no VM, no snapshot on record, no operation and no image there uses it, and no "
                 "process has it open");
  if (orphan && !overlay_is_empty (image->path))
    finding_shows (finding, "it holds data, which is good only as long as nothing writes to '%s'",
                   image->backing);
  if (op != NULL)
    finding_shows (finding, "operation %s (%s, %s) %s it", op->id, op_kind_name (op->kind),
                   op_state_name (op->state), made ? "made" : "left");
  if (is_ours_and_empty (op, made, image)) {
    finding_shows (finding, "it is empty");
    finding_cure (finding, command, "remove it");
    finding_repair (exam, finding, NULL, image->path, "file",
                    json_make ("path", json_str (image->path), "id", file_id_to_json (image->id),
                               "empty", json_flag (TRUE), NULL));
  } else
    finding_cure (finding, command, "if nobody wants it any more, remove it");
}

static void
exam_image (Exam *exam, GPtrArray *images, const Image *image)
{
  g_autofree char *check =
      shell_words ("qemu-img", "check", "-f", "qcow2", "-r", "all", image->path, NULL);
  if (image->corrupt) {
    Json *finding = exam_find (exam, FOUND_ERROR, "image", NULL, NULL,
                               "QEMU has marked the image '%s' as corrupt", image->path);
    json_set (finding, "file", json_str (image->path));
    finding_shows (finding, "it opens it for reading only, until it is checked");
    finding_cure (finding, check, "end its VM, copy the image, then have it repaired");
  }
  g_autofree char *user = exam_is_used (exam, image->path) ? NULL : used_by (exam, image->path);
  if (exam_is_used (exam, image->path) || user != NULL || is_backing (images, image))
    return;
  unused_image (exam, image);
}

/* ---- directories ----------------------------------------------------------------------------- */

static int
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *
names_in (const char *dir)
{
  GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GDir) entries = g_dir_open (dir, 0, NULL);
  for (const char *name; entries && (name = g_dir_read_name (entries)) && names->len < MAX_ENTRIES;)
    g_ptr_array_add (names, g_strdup (name));
  g_ptr_array_sort (names, by_name);
  return names;
}

static void
exam_directory (Exam *exam, const char *dir)
{
  g_autoptr (GPtrArray) names = names_in (dir),
                        images = g_ptr_array_new_with_free_func (image_free);
  for (guint i = 0; i < names->len; i++) {
    g_autofree char *path = g_build_filename (dir, names->pdata[i], NULL);
    g_autofree char *id = id_of_part (names->pdata[i]);
    struct stat st;
    if (lstat (path, &st) != 0 || !S_ISREG (st.st_mode))
      continue;
    Image *image = id ? NULL : read_image (dir, names->pdata[i], &st);
    if (id != NULL)
      exam_part (exam, path, id);
    if (image != NULL)
      g_ptr_array_add (images, image);
  }
  for (guint i = 0; i < images->len; i++)
    exam_image (exam, images, images->pdata[i]);
}

static void
add_directory (GHashTable *seen, GPtrArray *dirs, const char *dir)
{
  char *real = realpath (dir, NULL);
  if (real != NULL && g_hash_table_add (seen, g_strdup (real)))
    g_ptr_array_add (dirs, g_strdup (real));
  free (real);
}

static void
add_directories_of (GHashTable *seen, GPtrArray *dirs, ExamVm *vm)
{
  for (guint d = 0; vm->wanted && d < vm->disks->len; d++) {
    ExamDisk *disk = vm->disks->pdata[d];
    GPtrArray *layers = disk->graph ? disk->graph->layers : disk->layers;
    for (guint i = 0; layers != NULL && i < layers->len; i++) {
      const char *file = ((ChainLayer *)layers->pdata[i])->file;
      g_autofree char *dir = file && file[0] == '/' ? g_path_get_dirname (file) : NULL;
      if (dir != NULL && g_file_test (file, G_FILE_TEST_IS_REGULAR))
        add_directory (seen, dirs, dir);
    }
  }
}

/* ---- sockets --------------------------------------------------------------------------------- */

/* "rc-0123abcd-0" in a directory for sockets: QEMU's NBD server of an operation. */
static void
exam_socket (Exam *exam, const char *parent, const char *name)
{
  g_autofree char *id = id_of_name (name);
  g_autoptr (Op) op = exam_op (exam, id);
  g_autofree char *dir = g_build_filename (parent, name, NULL);
  g_autofree char *socket = g_build_filename (dir, "nbd", NULL);
  struct stat st;
  ExamVm *vm = NULL;
  if (!op_has_ended (op) || !g_file_test (dir, G_FILE_TEST_IS_DIR))
    return;
  for (guint i = 0; i < exam->vms->len; i++) {
    ExamVm *one = exam->vms->pdata[i];
    if (one->world != NULL && op_ran_on (op, one))
      vm = one;
  }
  gboolean served = vm != NULL && lstat (socket, &st) == 0 && S_ISSOCK (st.st_mode);
  if (vm != NULL ? !vm->wanted : !exam->all || !op_qemu_is_gone (op))
    return;
  Json *finding = exam_find (exam, served ? FOUND_ERROR : FOUND_NOTE,
                             served ? "nbd-server" : "temporary-file", vm, NULL,
                             served ? "QEMU's NBD server at '%s' is left over"
                                    : "the socket directory of '%s' is left over",
                             socket);
  finding_shows (finding, "operation %s (%s) is %s", id, op_kind_name (op->kind),
                 op_state_name (op->state));
  g_autofree char *command = repair_command (vm);
  finding_cure (finding, command,
                served ? "stop it (QMP: nbd-server-stop), remove its socket" : "remove it");
  Cure *cure =
      finding_repair (exam, finding, served ? vm : NULL, dir, served ? "server" : "socket", NULL);
  cure->socket = g_strdup (socket);
}

static void
exam_sockets (Exam *exam)
{
  const char *places[] = {"/run", g_get_user_runtime_dir (), "/tmp"};
  for (guint p = 0; p < G_N_ELEMENTS (places); p++) {
    g_autoptr (GPtrArray) names = names_in (places[p]);
    for (guint i = 0; i < names->len; i++)
      if (g_str_has_prefix (names->pdata[i], "rc-") && (p == 0 || strcmp (places[p], "/run") != 0))
        exam_socket (exam, places[p], names->pdata[i]);
  }
}

/* ---- the journal's own ----------------------------------------------------------------------- */

static gboolean
is_held (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  gboolean held = fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) != 0;
  if (fd >= 0)
    close (fd);
  return held;
}

/* ID.lock and ID.sock of an operation that has ended, or was never recorded. */
static void
exam_run_file (Exam *exam, const char *dir, const char *name)
{
  g_autofree char *id = strspn (name, "0123456789abcdef") == 8 ? g_strndup (name, 8) : NULL;
  g_autofree char *lock = id ? journal_run_path (exam->state_dir, id, ".lock") : NULL;
  g_autofree char *path = g_build_filename (dir, name, NULL);
  g_autoptr (Op) op = exam_op (exam, id);
  struct stat st;
  if (id == NULL || (op != NULL && !op_has_ended (op)) || is_held (lock) ||
      lstat (path, &st) != 0 || S_ISDIR (st.st_mode) || S_ISLNK (st.st_mode))
    return;
  g_autofree char *command = shell_words ("rm", "--", path, NULL);
  Json *finding =
      exam_find (exam, FOUND_NOTE, "temporary-file", NULL, NULL, "'%s' is left over", path);
  finding_shows (finding, op ? "operation %s has ended" : "there is no operation %s", id);
  finding_cure (finding, command, "remove it");
  finding_repair (
      exam, finding, NULL, path, "file",
      json_make ("path", json_str (path), "id", file_id_to_json (identity_of (path)), NULL));
}

static void
exam_run_directory (Exam *exam)
{
  g_autofree char *dir = g_build_filename (exam->state_dir, "run", NULL);
  g_autoptr (GPtrArray) names = names_in (dir);
  for (guint i = 0; exam->journal != NULL && i < names->len; i++)
    exam_run_file (exam, dir, names->pdata[i]);
}

void
exam_files (Exam *exam)
{
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (GPtrArray) dirs = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < exam->vms->len; i++)
    add_directories_of (seen, dirs, exam->vms->pdata[i]);
  for (char **dir = exam->all ? exam->dirs : NULL; dir != NULL && *dir != NULL; dir++)
    add_directory (seen, dirs, *dir);
  for (guint i = 0; i < dirs->len; i++)
    exam_directory (exam, dirs->pdata[i]);
  exam_sockets (exam);
  if (exam->all)
    exam_run_directory (exam);
}
