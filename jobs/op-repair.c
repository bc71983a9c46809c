/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/op-repair.h"

#include "jobs/blocks.h"
#include "jobs/export.h"
#include "jobs/header.h"
#include "jobs/image.h"
#include "jobs/lv.h"
#include "jobs/overlay.h"
#include "jobs/records.h"

#include <string.h>

OpDisk *
repair_add (Op *op, const char *name, const char *cure, Json *take_details)
{
  OpDisk *disk = op_add_disk (op, name);
  disk->details = take_details ? take_details : json_make (NULL, NULL);
  json_set (disk->details, "cure", json_str (cure));
  return disk;
}

static gboolean
is (OpDisk *disk, const char *cure)
{
  return g_strcmp0 (op_disk_detail (disk, "cure"), cure) == 0;
}

static gboolean
has (Op *op, const char *cure)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (is (op_disk (op, i), cure))
      return TRUE;
  return FALSE;
}

gboolean
disk_is_cure (OpDisk *disk)
{
  /* clang-format off */
  static const struct { const char *cure, *needs[3]; } cures[] = {
      {"header", {"node", "file", "device"}}, {"node", {"node"}}, {"bitmap", {"node", "name"}},
      {"record", {"name", "vm"}}, {"file", {"path"}}, {"volume", {"vg", "lv", "uuid"}},
  };
  /* clang-format on */
  if (is (disk, "job"))
    return disk->job != NULL;
  if (is (disk, "export"))
    return disk->export != NULL;
  if (is (disk, "server") || is (disk, "socket"))
    return disk->socket != NULL;
  for (gsize i = 0; i < G_N_ELEMENTS (cures); i++) {
    gboolean whole = is (disk, cures[i].cure);
    for (gsize k = 0; whole && k < G_N_ELEMENTS (cures[i].needs) && cures[i].needs[k]; k++)
      whole = op_disk_detail (disk, cures[i].needs[k]) != NULL;
    if (whole)
      return TRUE;
  }
  return FALSE;
}

/* ---- header ---------------------------------------------------------------------------------- */

static gboolean
has_headers (Op *op)
{
  return has (op, "header");
}

static gboolean
header_names (OpDisk *disk, const char *wanted)
{
  g_auto (ImageHeader) header = {0};
  return image_header_read (op_disk_detail (disk, "file"), &header, NULL) && header.is_qcow2 &&
         g_strcmp0 (header.backing, wanted) == 0 && (wanted == NULL || header.backing_format);
}

static void
point (OpDisk *disk, const char *to, GPtrArray *asks)
{
  ask_qmp (asks, "change-backing-file",
           json_make ("device", json_str (op_disk_detail (disk, "device")), "image-node-name",
                      json_str (op_disk_detail (disk, "node")), "backing-file",
                      json_str (to ? to : ""), NULL));
}

static void
point_to_graph (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is (disk, "header"))
    point (disk, op_disk_detail (disk, "to"), asks);
}

static void
point_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is (disk, "header") && !header_names (disk, op_disk_detail (disk, "was")))
    point (disk, op_disk_detail (disk, "was"), asks);
}

static Seen
is_pointed (Op *op, OpDisk *disk, World *world)
{
  return is (disk, "header") && header_names (disk, op_disk_detail (disk, "to")) ? SEEN_YES
                                                                                 : SEEN_NO;
}

static gboolean
points_to_graph (Op *op, OpDisk *disk, World *world, GError **error)
{
  return !is (disk, "header") || header_names (disk, op_disk_detail (disk, "to")) ||
         fail (error, FAILED, "the header of '%s' does not name '%s'",
               op_disk_detail (disk, "file"),
               op_disk_detail (disk, "to") ? op_disk_detail (disk, "to") : "");
}

/* QEMU is gone, and whoever has the file open now knows better. */
static void
point_file (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *file = op_disk_detail (disk, "file");
  if (!is (disk, "header") || header_names (disk, op_disk_detail (disk, "to")) ||
      file_is_locked (file))
    return;
  ask_run (asks,
           image_repoint_args (file, op_disk_detail (disk, "to"), op_disk_detail (disk, "format")))
      ->silent_program = TRUE;
}

/* ---- what is left in QEMU -------------------------------------------------------------------- */

static void
end_left_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is (disk, "job"))
    end_job (op, world, disk->job, asks);
}

static Seen
left_job_is_gone (Op *op, OpDisk *disk, World *world)
{
  return is (disk, "job") && world_job (world, disk->job) ? SEEN_NO : SEEN_YES;
}

static gboolean
no_left_job (Op *op, OpDisk *disk, World *world, GError **error)
{
  return left_job_is_gone (op, disk, world) == SEEN_YES ||
         fail (error, FAILED, "job '%s' is still in QEMU", disk->job);
}

static gboolean
has_exports (Op *op)
{
  return has (op, "export");
}

static void
remove_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is (disk, "export"))
    ask_qmp (asks, "block-export-del",
             json_make ("id", json_str (disk->export), "mode", json_str ("hard"), NULL))
        ->tolerant = TRUE;
}

static gboolean
has_servers (Op *op)
{
  return has (op, "server");
}

static void
stop_server (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is (disk, "server"))
    export_stop_server (disk, world, asks);
}

static gboolean
has_nodes (Op *op)
{
  return has (op, "node");
}

static void
remove_node (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *node = op_disk_detail (disk, "node");
  if (!is (disk, "node") ||
      (world && (!world_has_node (world, node) || world_node_parents (world, node) > 0)))
    return;
  ask_qmp (asks, "blockdev-del", json_make ("node-name", json_str (node), NULL))->tolerant = TRUE;
}

static gboolean
has_bitmaps (Op *op)
{
  return has (op, "bitmap");
}

/* One that is good again, or was made anew, is not the one that was found. */
static gboolean
bitmap_is_inconsistent (World *world, const char *node, const char *name)
{
  Json *all = world_node_bitmaps (world, node);
  for (gsize i = 0; i < json_length (all); i++)
    if (g_strcmp0 (json_get_str (json_at (all, i), "name"), name) == 0)
      return json_get_bool (json_at (all, i), "inconsistent");
  return FALSE;
}

static void
remove_bitmap (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *node = op_disk_detail (disk, "node"), *name = op_disk_detail (disk, "name");
  if (!is (disk, "bitmap") || (world && !bitmap_is_inconsistent (world, node, name)))
    return;
  ask_qmp (asks, "block-dirty-bitmap-remove",
           json_make ("node", json_str (node), "name", json_str (name), NULL))
      ->tolerant = TRUE;
}

/* ---- what is left elsewhere ------------------------------------------------------------------ */

/* A record all of whose layers are gone: files that came back make it one again. */
static gboolean
may_be_dropped (const Record *record)
{
  for (guint i = 0; i < record->disks->len; i++)
    if (g_file_test (record_disk (record, i)->old_file, G_FILE_TEST_EXISTS) ||
        g_file_test (record_disk (record, i)->new_file, G_FILE_TEST_EXISTS))
      return FALSE;
  return TRUE;
}

static gboolean
drop_records (Journal *journal, Op *op, GError **error)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    const char *vm = op_disk_detail (disk, "vm"), *name = op_disk_detail (disk, "name");
    g_autoptr (Record) record = is (disk, "record") ? records_load (journal, vm, name, NULL) : NULL;
    if (record != NULL && may_be_dropped (record) && !records_drop (journal, vm, name, error))
      return FALSE;
  }
  return TRUE;
}

static void
ask_drop_records (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (has (op, "record"))
    ask_record (asks, "drop the records whose layers are gone", drop_records);
}

static Seen
records_were_dropped (Op *op, OpDisk *disk, World *world)
{
  return SEEN_NO;
}

static gboolean
remove_left_file (Op *op, OpDisk *disk, GError **error)
{
  const char *path = op_disk_detail (disk, "path");
  Json *id = json_get (disk->details, "id");
  FileId now, ours = file_id_from_json (id);
  gboolean exists;
  if (!file_identify (path, &now, &exists, error))
    return FALSE;
  gboolean as_found = exists && file_id_equal (now, ours) && !file_is_locked (path) &&
                      (!json_get_bool (disk->details, "empty") || overlay_is_empty (path));
  return !as_found || file_remove (path, ours, error);
}

static gboolean
has_volumes (Op *op)
{
  return has (op, "volume");
}

static void
remove_volume (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (is (disk, "volume"))
    lv_remove_ours (op, disk, asks);
}

static void
remove_left (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  g_autofree char *says = NULL;
  if (is (disk, "socket") || is (disk, "server"))
    export_forget (asks);
  if (!is (disk, "file"))
    return;
  says = g_strdup_printf ("remove %s, if it is still that file and nobody has it open",
                          op_disk_detail (disk, "path"));
  ask_local (asks, says, remove_left_file)->no_facts = TRUE;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* clang-format off */
const Step repair_steps[] = {
  {.name = "header",
   .says = "let the header name the backing file that QEMU uses",
   .kind = STEP_UNDOABLE,
   .applies = has_headers,
   .ask = point_to_graph,
   .probe = is_pointed,
   .undo = point_back,
   .undo_says = "write the old name",
   .verify = points_to_graph},
  {.name = "jobs",
   .says = "end left-over jobs; from here on there is no way back",
   .kind = STEP_PIVOT,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = end_left_job,
   .probe = left_job_is_gone,
   .verify = no_left_job},
  {.name = "exports",
   .says = "remove left-over exports",
   .kind = STEP_FINISH,
   .applies = has_exports,
   .ask = remove_export},
  {.name = "server",
   .says = "stop the NBD server of an operation that has ended",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .applies = has_servers,
   .ask = stop_server},
  {.name = "nodes",
   .says = "close nodes that nobody uses",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .applies = has_nodes,
   .ask = remove_node},
  {.name = "bitmaps",
   .says = "remove dirty bitmaps that QEMU can never use again",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .applies = has_bitmaps,
   .ask = remove_bitmap},
  {0},
};

const Step repair_files_steps[] = {
  {.name = "records",
   .says = "drop the records of snapshots whose files are gone; from here on there is no way back",
   .kind = STEP_PIVOT,
   .once = TRUE,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = ask_drop_records,
   .probe = records_were_dropped},
  {.name = "files",
   .says = "remove what operations that have ended left behind",
   .kind = STEP_FINISH,
   .ask = remove_left},
  {.name = "volumes",
   .says = "remove the logical volumes that they left",
   .kind = STEP_FINISH,
   .applies = has_volumes,
   .ask = remove_volume},
  {0},
};

const Step dead_repair_steps[] = {
  {.name = "header",
   .says = "let the header name the backing file that QEMU used",
   .kind = STEP_FINISH,
   .ask = point_file},
  {.name = "files",
   .says = "remove the sockets that QEMU left",
   .kind = STEP_FINISH,
   .ask = remove_left},
  {0},
};
/* clang-format on */
