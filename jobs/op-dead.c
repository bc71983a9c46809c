/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is left to do when the QEMU of an operation is gone: on its files, by the one runner. Two
 * tables serve every kind, since what there is to do follows from the mode of each disk and from
 * the facts:
 *
 *   back   the header names the journalled old chain again; a new layer that may hold writes is
 *          committed into the old one, and removed once that is on record
 *   on     the header names the new chain; the rest as in the normal course
 *
 * Either header is right once it is made to be what the journal says: before the commit record the
 * old files hold all that the dropped layers held, after it the receiver was flushed too
 * (qemu-facts, hazard 0). A commit is repeated as long as it is not on record, and never after that
 * (hazard 7). Nobody may have open what is changed: a guest that was started again runs on one of
 * these files. */
#include "jobs/base-size.h"
#include "jobs/beside.h"
#include "jobs/blocks.h"
#include "jobs/export.h"
#include "jobs/grow.h"
#include "jobs/header.h"
#include "jobs/image.h"
#include "jobs/lv.h"
#include "jobs/on-disk.h"
#include "jobs/overlay.h"
#include "jobs/records.h"

/* What a header is to name. @file NULL: there is none to look at. */
typedef struct {
  const char *file, *backing, *format;
} Link;

/* The new layer has been the active one, and may hold writes. */
static gboolean
may_hold_writes (Op *op, OpDisk *disk)
{
  return op->switched && op->decided != DECIDED_OLD && disk->to != NULL &&
         !op_disk_is_beside (disk);
}

static Link
old_link (Op *op, OpDisk *disk)
{
  if (may_hold_writes (op, disk))
    return (Link){disk->to, disk->backing_first, op_disk_layer (disk, 0)->format};
  if (disk->to != NULL || disk->header == NULL)
    return (Link){0};
  const char *format = op_disk_layer (disk, disk->first - 1)->backing_format;
  return (Link){disk->header, disk->backing_old,
                format ? format : op_disk_layer (disk, disk->first)->format};
}

static Link
new_link (OpDisk *disk)
{
  return (Link){disk->header, disk->backing, disk->backing_format};
}

/* ---- who uses them --------------------------------------------------------------------------- */

static gboolean
is_free (Op *op, const char *file, GError **error)
{
  if (!file_is_locked (file))
    return TRUE;
  fail (error, REFUSED, "'%s' is open in another process", file);
  return hint (error,
               "end what uses it (a guest that was started again?), then: rechain recover --op %s",
               op->id);
}

/* A guest that was started from the layer that is not to be the active one. */
static gboolean
is_not_used (Op *op, OpDisk *disk, const char *wrong, const char *right, GError **error)
{
  if (path_same_file (wrong, right) || !file_has_writer (wrong))
    return TRUE;
  fail (error, REFUSED,
        "disk '%s': a guest was started from '%s', and the operation ends with '%s'", disk->name,
        wrong, right);
  return hint (error, "shut it down, then: rechain recover --op %s", op->id);
}

static gboolean
new_is_not_used (Op *op, OpDisk *disk, GError **error)
{
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return is_not_used (op, disk, planned[0], op_disk_layer (disk, 0)->file, error);
}

static gboolean
old_is_not_used (Op *op, OpDisk *disk, GError **error)
{
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return is_not_used (op, disk, op_disk_layer (disk, 0)->file, planned[0], error);
}

static void
look_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "see that no guest runs on the new layer", new_is_not_used)->no_facts = TRUE;
}

static void
look_on (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "see that no guest runs on the old layer", old_is_not_used)->no_facts = TRUE;
}

/* ---- headers --------------------------------------------------------------------------------- */

static gboolean
link_is (Link link, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (link.file == NULL)
    return TRUE;
  if (!image_header_read (link.file, &header, error))
    return FALSE;
  if (g_strcmp0 (header.backing, link.backing) == 0 &&
      (link.backing == NULL || header.backing_format != NULL))
    return TRUE;
  return fail (error, FAILED, "the header of '%s' names the backing file '%s' and not '%s'",
               link.file, header.backing ? header.backing : "", link.backing ? link.backing : "");
}

static gboolean
sync_header (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (disk->header, error);
}

static gboolean
header_is_free (Op *op, OpDisk *disk, GError **error)
{
  return is_free (op, disk->header, error);
}

static void
write_link (Link link, GPtrArray *asks)
{
  if (link_is (link, NULL))
    return;
  ask_local (asks, "see that nobody has it open", header_is_free)->no_facts = TRUE;
  ask_run (asks, image_repoint_args (link.file, link.backing, link.format))->silent_program = TRUE;
  ask_local (asks, "sync it", sync_header)->no_facts = TRUE;
}

static void
point_back (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  write_link (old_link (op, disk), asks);
}

static Seen
is_pointed_on (Op *op, OpDisk *disk, World *world)
{
  return link_is (old_link (op, disk), NULL) ? SEEN_NO : SEEN_YES;
}

static void
point_on (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  write_link (new_link (disk), asks);
}

static gboolean
reads_new (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (GStrv) planned = op_disk_planned_chain (disk);
  return link_is (new_link (disk), error) && disk_reads (disk, planned, error);
}

/* ---- fold ------------------------------------------------------------------------------------ */

static gboolean
is_file (const char *file, FileId wanted, GError **error)
{
  FileId id;
  gboolean exists;
  if (!file_identify (file, &id, &exists, error))
    return FALSE;
  return (exists && (wanted.ino == 0 || file_id_equal (id, wanted))) ||
         fail (error, REFUSED, "'%s' is %s", file, exists ? "another file now" : "gone");
}

/* The new layer over all of the old chain; full. */
static char **
chain_over (OpDisk *disk)
{
  g_autoptr (GStrvBuilder) files = g_strv_builder_new ();
  g_auto (GStrv) before = chain_files (disk->before);
  g_strv_builder_add (files, disk->to);
  g_strv_builder_addv (files, (const char **)before);
  return g_strv_builder_end (files);
}

/* The very files, one right over the other, and nobody at work on them. */
static gboolean
may_be_folded (Op *op, OpDisk *disk, GError **error)
{
  const char *old = op_disk_layer (disk, 0)->file;
  FileId id = disk->old_ids->len > 0 ? *(FileId *)disk->old_ids->pdata[0] : (FileId){0};
  g_auto (GStrv) chain = chain_over (disk);
  return is_file (disk->to, disk->made ? disk->id : (FileId){0}, error) &&
         is_file (old, id, error) && is_free (op, disk->to, error) && is_free (op, old, error) &&
         disk_reads (disk, chain, error);
}

static gboolean
sync_old (Op *op, OpDisk *disk, GError **error)
{
  return file_sync (op_disk_layer (disk, 0)->file, error);
}

static gboolean
note_room (Op *op, OpDisk *disk, GError **error)
{
  GrowImage *old = grow_image_of (disk, op_disk_layer (disk, 0)->file);
  return file_length (old->file, &old->grown, error);
}

/* Nobody tells that a volume fills now, but it is known what comes into it at most. */
static void
make_room (OpDisk *disk, GPtrArray *asks)
{
  GrowImage *old = grow_image_of (disk, op_disk_layer (disk, 0)->file);
  guint64 size, end, more;
  if (old == NULL || !file_length (old->file, &size, NULL) ||
      !image_end_read (old->file, &end, NULL) || !image_end_read (disk->to, &more, NULL) ||
      MIN (end + more, old->most) <= size)
    return;
  ask_lvm (asks, grow_args (old, MIN (end + more, old->most)))->tolerant =
      TRUE; /* it may fit all the same */
  ask_local (asks, "note its new size", note_room);
}

/* An overlay without data has nothing to give; then a guest may even run on the old layer. */
static void
fold (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!may_hold_writes (op, disk) || overlay_is_empty (disk->to))
    return;
  ask_local (asks, "see that these are the files, and that nobody has them open", may_be_folded)
      ->no_facts = TRUE;
  make_room (disk, asks);
  ask_run (asks, image_commit_args (disk->to, "qcow2"))->silent_program = TRUE;
  ask_local (asks, "sync the old layer", sync_old)->no_facts = TRUE;
}

static gboolean
switched (Op *op)
{
  return op->switched;
}

static gboolean
decide_old (Op *op, OpDisk *disk, GError **error)
{
  op->decided = DECIDED_OLD;
  return TRUE;
}

static void
record_fold (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (op->decided != DECIDED_OLD)
    ask_local (asks, "commit record: the old layer has all", decide_old);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static gboolean
makes_layers (Op *op)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (op_disk (op, i)->to != NULL)
      return TRUE;
  return FALSE;
}

static gboolean
exports (Op *op)
{
  return op->kind == OP_MAP || op->kind == OP_ALLOCATE;
}

static void
forget_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (disk->socket != NULL)
    export_forget (asks);
}

static gboolean
is_snapshot (Op *op)
{
  return op->kind == OP_SNAPSHOT;
}

static void
record_snapshot (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_record (asks, "put the snapshot on record", records_add);
}

/* clang-format off */
const Step dead_back_steps[] = {
  BASE_SIZE_STEP,
  {.name = "overlay",
   .says = "remove the new file",
   .kind = STEP_UNDOABLE,
   .applies = makes_layers,
   .probe = layer_is_made,
   .undo = unmake_layer},
  {.name = "beside",
   .says = "remove the snapshots that lie beside the chains",
   .kind = STEP_UNDOABLE,
   .applies = op_has_beside,
   .probe = beside_is_made,
   .undo = unmake_beside},
  {.name = "fold-decide",
   .says = "record that the old layer has all writes",
   .kind = STEP_UNDOABLE,
   .once = TRUE,
   .applies = switched,
   .undo = record_fold},
  {.name = "fold",
   .says = "commit the new layer into the old one",
   .kind = STEP_UNDOABLE,
   .applies = switched,
   .undo = fold},
  {.name = "header",
   .says = "write the old backing name",
   .kind = STEP_UNDOABLE,
   .probe = is_pointed_on,
   .undo = point_back},
  {.name = "export",
   .says = "remove the socket",
   .kind = STEP_UNDOABLE,
   .applies = exports,
   .undo = forget_export},
  {.name = "look",
   .says = "see where a guest was started again",
   .kind = STEP_UNDOABLE,
   .undo = look_back},
  {0},
};

const Step dead_on_steps[] = {
  {.name = "look",
   .says = "see where a guest was started again",
   .kind = STEP_FINISH,
   .ask = look_on},
  {.name = "header",
   .says = "write the new backing name",
   .kind = STEP_FINISH,
   .ask = point_on,
   .verify = reads_new},
  SETTLE_BESIDE_STEP,
  DROP_BESIDE_STEP,
  {.name = "record",
   .says = "put the snapshot on record",
   .kind = STEP_FINISH,
   .once = TRUE,
   .applies = is_snapshot,
   .ask = record_snapshot},
  FOLLOW_STEP,
  REMOVE_STEP,
  {0},
};
/* clang-format on */
