/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Graph, headers and journal side by side. With the VM running the graph is right, since the guest
 * reads through it; a header that names another file is what the guest is started with the next
 * time. With the VM off there are the headers, and what the journal says of the last operation. */
#include "src/lib/doctor-private.h"

#include "jobs/header.h"
#include "jobs/on-disk.h"

#include <string.h>

#define MAX_OPERATIONS 1000u /* of one VM, newest first, that are asked for its disks */

void
exam_disk_free (gpointer data)
{
  ExamDisk *disk = data;
  g_free (disk->name);
  g_clear_pointer (&disk->layers, g_ptr_array_unref);
  g_free (disk->unreadable);
  g_strfreev (disk->journal);
  g_free (disk->operation);
  g_free (disk);
}

static ExamDisk *
find_disk (ExamVm *vm, const char *name)
{
  for (guint i = 0; i < vm->disks->len; i++)
    if (g_str_equal (((ExamDisk *)vm->disks->pdata[i])->name, name))
      return vm->disks->pdata[i];
  return NULL;
}

static ExamDisk *
add_disk (ExamVm *vm, const char *name)
{
  ExamDisk *disk = g_new0 (ExamDisk, 1);
  disk->name = g_strdup (name);
  g_ptr_array_add (vm->disks, disk);
  return disk;
}

static void
read_headers (ExamDisk *disk, const char *file, const char *format)
{
  g_autoptr (GError) error = NULL;
  if (file == NULL || file[0] != '/')
    return;
  disk->layers = chain_read_offline (file, format, &error);
  if (error != NULL)
    disk->unreadable = g_strdup (error->message);
}

/* ---- the journal ----------------------------------------------------------------------------- */

/* What @op says the chain of its @i-th disk is; full. */
static char **
chain_by_journal (Op *op, guint i)
{
  OpDisk *disk = op_disk (op, i);
  g_autoptr (Json) files = op_has_ended (op) ? NULL : authoritative_files (op);
  const char *file = json_get_str (files, disk->name);
  char **after = i < op->after->len ? op->after->pdata[i] : NULL;
  g_autoptr (GPtrArray) layers = file ? disk_read_chain (disk, file, NULL) : NULL;
  if (layers != NULL)
    return chain_files (layers);
  if (op_has_ended (op) && after != NULL && *after != NULL)
    return g_strdupv (after);
  return op->state == OP_DONE ? op_disk_planned_chain (disk) : chain_files (disk->before);
}

static const char *
format_of (OpDisk *disk, const char *file)
{
  for (guint i = 0; i < disk->before->len; i++)
    if (g_strcmp0 (op_disk_layer (disk, (int)i)->file, file) == 0)
      return op_disk_layer (disk, (int)i)->format;
  return disk->to_format ? disk->to_format : "qcow2";
}

static void
add_from_op (ExamVm *vm, Op *op)
{
  for (guint i = 0; op_changes_chain (op) && i < op->disks->len; i++) {
    OpDisk *from = op_disk (op, i);
    ExamDisk *disk = find_disk (vm, from->name);
    if (from->before->len == 0 || (disk == NULL && vm->world != NULL) ||
        (disk != NULL && disk->journal != NULL))
      continue;
    disk = disk ? disk : add_disk (vm, from->name);
    disk->journal = chain_by_journal (op, i);
    disk->operation = g_strdup (op->id);
    disk->busy = disk->busy || !op_has_ended (op);
    if (vm->world == NULL)
      read_headers (disk, disk->journal[0], format_of (from, disk->journal[0]));
  }
}

static void
add_from_journal (Exam *exam, ExamVm *vm)
{
  g_auto (GStrv) ids =
      exam->journal ? journal_list (exam->journal, FALSE, vm->address, NULL) : NULL;
  for (guint n = 0; ids != NULL && ids[n] != NULL && n < MAX_OPERATIONS; n++) {
    g_autoptr (Op) op = exam_op (exam, ids[n]);
    if (op != NULL)
      add_from_op (vm, op);
  }
}

/* ---- the graph ------------------------------------------------------------------------------- */

static void
add_from_graph (ExamVm *vm, ChainDisk *graph)
{
  ChainLayer *active = graph->layers->len ? graph->layers->pdata[0] : NULL;
  if (!graph->inserted || active == NULL)
    return;
  ExamDisk *disk = add_disk (vm, graph->name);
  disk->graph = graph;
  disk->busy = graph->jobs->len > 0;
  read_headers (disk, active->file, active->format);
}

/* ---- one header against the graph ------------------------------------------------------------ */

/* "json:{...}", "nbd://...": nothing that could be compared with a file. */
static gboolean
is_plain (const char *name)
{
  return name[0] == '/' || strchr (name, ':') == NULL || strchr (name, ':') > strchr (name, '/');
}

static gboolean
names_layer (const ImageHeader *header, const char *file, const ChainLayer *below)
{
  if (header->backing == NULL || below == NULL)
    return header->backing == NULL && below == NULL;
  g_autofree char *dir = g_path_get_dirname (file);
  g_autofree char *named = chain_file_in (dir, header->backing);
  return path_same_file (named, below->file);
}

static gboolean
same_format (const char *header, const char *graph)
{
  return g_strcmp0 (header, graph) == 0 ||
         (g_strcmp0 (header, "file") == 0 && g_strcmp0 (graph, "raw") == 0);
}

/* The journal knows that @below lies under @file. */
static gboolean
journal_says (ExamDisk *disk, const char *file, const ChainLayer *below)
{
  for (char **at = disk->journal; at != NULL && *at != NULL; at++)
    if (path_same_file (*at, file))
      return below ? at[1] != NULL && path_same_file (at[1], below->file) : at[1] == NULL;
  return FALSE;
}

static const char *
or_none (const char *text)
{
  return text ? text : "none";
}

static void
wrong_header (Exam *exam, ExamVm *vm, ExamDisk *disk, guint i, const ImageHeader *header)
{
  ChainLayer *layer = disk->graph->layers->pdata[i];
  ChainLayer *below = i + 1 < disk->graph->layers->len ? disk->graph->layers->pdata[i + 1] : NULL;
  const char *to = below ? below->file : NULL;
  Json *finding = exam_find (
      exam, FOUND_ERROR, "header", vm, disk->name,
      "the header of '%s' names the backing file '%s', and QEMU reads '%s'%s%s", layer->file,
      or_none (header->backing), or_none (to), below ? " as " : "", below ? below->format : "");
  gboolean known = journal_says (disk, layer->file, below);
  finding_shows (finding, "header: %s%s%s", or_none (header->backing),
                 header->backing ? ", format " : "",
                 header->backing ? or_none (header->backing_format) : "");
  finding_shows (finding, "graph: %s%s%s", or_none (to), below ? ", format " : "",
                 below ? below->format : "");
  finding_shows (finding, "journal: %s", known ? "as the graph" : "does not know of it");
  finding_shows (finding,
                 "the guest would see other data when it is started from it the next time");
  g_autoptr (Json) arguments =
      json_make ("device", json_str (disk->graph->root_node), "image-node-name",
                 json_str (layer->node), "backing-file", json_str (to ? to : ""), NULL);
  g_autofree char *line = json_line (arguments);
  g_autofree char *command = repair_command (vm);
  finding_cure (finding, known ? command : NULL,
                "let QEMU write what it uses (QMP: change-backing-file %s)", line);
  if (known)
    finding_repair (exam, finding, vm, disk->name, "header",
                    json_make ("device", json_str (disk->graph->root_node), "node",
                               json_str (layer->node), "file", json_str (layer->file), "to",
                               json_str (to), "was", json_str (header->backing), "format",
                               below ? json_str (below->format) : NULL, NULL));
}

static void
compare_header (Exam *exam, ExamVm *vm, ExamDisk *disk, guint i)
{
  ChainLayer *layer = disk->graph->layers->pdata[i];
  ChainLayer *below = i + 1 < disk->graph->layers->len ? disk->graph->layers->pdata[i + 1] : NULL;
  g_auto (ImageHeader) header = {0};
  g_autoptr (GError) error = NULL;
  if (layer->file == NULL || layer->file[0] != '/' || g_strcmp0 (layer->format, "qcow2") != 0)
    return;
  if (!image_header_read (layer->file, &header, &error) || !header.is_qcow2) {
    Json *finding =
        exam_find (exam, FOUND_ERROR, "header", vm, disk->name,
                   "'%s' is a qcow2 image to QEMU, and its header cannot be read", layer->file);
    finding_shows (finding, "%s", error ? error->message : "it has no qcow2 header");
    finding_cure (finding, NULL, "keep the VM running, and copy the disk: rechain copy");
    return;
  }
  if (header.backing != NULL && !is_plain (header.backing))
    return;
  gboolean good = names_layer (&header, layer->file, below) &&
                  (below == NULL || same_format (header.backing_format, below->format));
  if (!good)
    wrong_header (exam, vm, disk, i, &header);
}

/* ---- files that are not those that QEMU has open --------------------------------------------- */

static gboolean
has_open (ExamVm *vm, const char *file)
{
  return process_has_open (qmp_client_get_peer_pid (rechain_vm_get_link (vm->vm)->client), file);
}

/* The process at the monitor's other end is QEMU where it has any of the files open; else it is a
 * relay. */
static gboolean
is_qemu_itself (ExamVm *vm)
{
  for (guint d = 0; d < vm->disks->len; d++) {
    ChainDisk *graph = ((ExamDisk *)vm->disks->pdata[d])->graph;
    for (guint i = 0; graph != NULL && i < graph->layers->len; i++) {
      const char *file = ((ChainLayer *)graph->layers->pdata[i])->file;
      if (file != NULL && file[0] == '/' && has_open (vm, file))
        return TRUE;
    }
  }
  return FALSE;
}

static gboolean
file_was_replaced (Exam *exam, ExamVm *vm, ExamDisk *disk, ChainLayer *layer)
{
  if (layer->file == NULL || layer->file[0] != '/' || has_open (vm, layer->file))
    return FALSE;
  gboolean there = g_file_test (layer->file, G_FILE_TEST_EXISTS);
  Json *finding = exam_find (exam, FOUND_ERROR, "file-replaced", vm, disk->name,
                             there ? "'%s' is another file than the one that QEMU has open"
                                   : "'%s' was removed while QEMU has it open",
                             layer->file);
  finding_shows (finding, "node '%s' of QEMU reads it", layer->node ? layer->node : "?");
  finding_cure (finding, NULL,
                "keep the VM running, and copy the disk while QEMU can still read it: rechain copy "
                "(its data is gone when QEMU ends)");
  return TRUE;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void
broken_chain (Exam *exam, ExamVm *vm, ExamDisk *disk, const char *why)
{
  Json *finding = exam_find (exam, FOUND_ERROR, "chain", vm, disk->name,
                             "the chain of disk '%s' cannot be read", disk->name);
  finding_shows (finding, "%s", why);
  if (disk->operation != NULL)
    finding_shows (finding, "operation %s was the last one on it", disk->operation);
  for (char **file = disk->journal; file != NULL && *file != NULL; file++) {
    g_autofree char *command = exam_activation (exam, *file);
    if (command == NULL)
      continue;
    finding_shows (finding, "logical volume '%s' is not active", *file);
    finding_cure (finding, command, "activate it");
    return;
  }
  finding_cure (finding, NULL,
                "bring the missing layer back, or name the right one: qemu-img rebase -u");
}

static void
judge_disk (Exam *exam, ExamVm *vm, ExamDisk *disk, gboolean look_at_files)
{
  if (disk->graph == NULL) {
    if (disk->unreadable != NULL && !disk->busy)
      broken_chain (exam, vm, disk, disk->unreadable);
    return;
  }
  if (disk->graph->broken != NULL)
    broken_chain (exam, vm, disk, disk->graph->broken);
  for (guint i = 0; i < disk->graph->layers->len && !disk->busy; i++)
    if (!look_at_files || !file_was_replaced (exam, vm, disk, disk->graph->layers->pdata[i]))
      compare_header (exam, vm, disk, i);
}

static void
use_layers (Exam *exam, ExamDisk *disk)
{
  GPtrArray *chains[] = {disk->graph ? disk->graph->layers : NULL, disk->layers};
  for (guint c = 0; c < G_N_ELEMENTS (chains); c++)
    for (guint i = 0; chains[c] != NULL && i < chains[c]->len; i++)
      exam_use (exam, ((ChainLayer *)chains[c]->pdata[i])->file);
  for (char **file = disk->graph ? NULL : disk->journal; file != NULL && *file != NULL; file++)
    exam_use (exam, *file);
}

void
exam_disks (Exam *exam)
{
  for (guint v = 0; v < exam->vms->len; v++) {
    ExamVm *vm = exam->vms->pdata[v];
    for (guint i = 0; vm->world != NULL && i < world_disks (vm->world)->len; i++)
      add_from_graph (vm, world_disks (vm->world)->pdata[i]);
    add_from_journal (exam, vm);
    gboolean itself = vm->world != NULL && is_qemu_itself (vm);
    for (guint i = 0; i < vm->disks->len; i++) {
      use_layers (exam, vm->disks->pdata[i]);
      if (vm->wanted)
        judge_disk (exam, vm, vm->disks->pdata[i], itself);
    }
  }
}

static Json *
files_json (char **take_files)
{
  Json *array = json_array ();
  for (char **file = take_files; file != NULL && *file != NULL; file++)
    json_append (array, json_str (*file));
  g_strfreev (take_files);
  return array;
}

Json *
exam_disk_to_json (ExamDisk *disk)
{
  return json_make ("disk", json_str (disk->name), "graph",
                    disk->graph ? files_json (chain_files (disk->graph->layers)) : NULL, "headers",
                    disk->layers ? files_json (chain_files (disk->layers)) : NULL, "unreadable",
                    json_str (disk->unreadable), "journal",
                    disk->journal ? files_json (g_strdupv (disk->journal)) : NULL, "operation",
                    json_str (disk->operation), NULL);
}
