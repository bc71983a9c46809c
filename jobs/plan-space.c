/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is there space for what an operation writes? Forecast from the maps of the layers that are copied
 * and of the one that receives them, as qemu-img reads them; nothing is changed for a plan, so what
 * a running QEMU has not yet written of the active layer's tables is not seen.
 *
 * The map of a huge, scattered image takes long, and a plan may not: after a while the operation
 * goes on without a forecast, and says so. Should the space run out, it is taken back. */
#include "jobs/plan-private.h"

#include "jobs/fill.h"
#include "jobs/forecast.h"
#include "jobs/grow.h"
#include "jobs/lv.h"
#include "jobs/map-image.h"
#include "src/common/fs.h"
#include "src/common/size.h"
#include "src/common/source.h"

#include <sys/stat.h>

#define PATIENCE_S 10u

/* QEMU 7.2 writes zeros of an inner layer as data when it commits them, 10.0 does not any more;
 * into a raw file they are written by all, which reserves space (docs/qemu-findings.md). */
#define FIRST_THIN_COMMIT 100000u

typedef struct {
  Op *op;
  OpDisk *disk;
  Receiver receiver;
  Writing writing;
  Map *from, *has;
  ImageRun *runs[2]; /* NULL: ended, or never begun */
  guint pending;
  GSource *patience;
  gboolean late;
  GError *error;
  PlanAnswer answer;
  gpointer data;
} Look;

/* ---- what is written into what --------------------------------------------------------------- */

static gboolean
is_device (const char *file)
{
  struct stat st;
  return file[0] != '/' || (stat (file, &st) == 0 && S_ISBLK (st.st_mode));
}

/* A raw image on a device has all its space already. */
static gboolean
writes_something (OpDisk *disk, OpKind kind)
{
  return disk->receiver != NULL && disk->receiver[0] == '/' && disk->free < G_MAXINT64 &&
         (disk->first < disk->base || kind == OP_ALLOCATE);
}

static gboolean
is_raw (OpDisk *disk, int i)
{
  return g_strcmp0 (op_disk_layer (disk, i)->format, "raw") == 0;
}

static guint64
virtual_size_of (OpDisk *disk, int i)
{
  return op_disk_layer (disk, i)->virtual_size;
}

/* How a stream goes through the raw layer at @raw, under those from @from on. */
static gboolean
choose_pieces (Look *look, int from, int raw, GError **error)
{
  look->writing.pieces_of = (guint)(raw - from);
  look->writing.slice = G_MAXINT64;
  for (int i = from; i < raw; i++) {
    ChainLayer *layer = op_disk_layer (look->disk, i);
    Receiver image;
    if (!receiver_read (layer->file, layer->format, layer->virtual_size, &image, error))
      return FALSE;
    look->writing.slice = MIN (look->writing.slice, receiver_slice (&image));
  }
  return TRUE;
}

/* The layers [*ret_from..*ret_to) are mapped; the layer at *ret_has, too, where it is not -1. */
static gboolean
choose_layers (const PlanContext *context, Look *look, int *ret_from, int *ret_to, int *ret_has,
               GError **error)
{
  OpDisk *disk = look->disk;
  gboolean commits = disk->mode == MODE_COMMIT || disk->mode == MODE_COMMIT_ACTIVE;
  int receiver = commits ? disk->base : disk->first - 1;
  *ret_from = disk->first;
  *ret_to = disk->base;
  *ret_has = commits ? disk->base : -1;
  look->writing.pieces_of = MAP_NOBODY;
  if (look->op->kind == OP_ALLOCATE) {
    look->writing.regions = disk->regions;
    look->writing.full = fill_is_full (disk);
    receiver = 0;
    *ret_to = (int)disk->before->len;
  }
  if (!commits) /* what the receiver has is seen by its depth */
    *ret_from = disk->to != NULL ? disk->first : receiver;
  if (disk->mode == MODE_STREAM && look->op->kind != OP_ALLOCATE && is_raw (disk, *ret_to - 1) &&
      !choose_pieces (look, *ret_from, *ret_to - 1, error))
    return FALSE;
  if (disk->to != NULL) {
    look->receiver = receiver_new (disk->to_format, virtual_size_of (disk, 0));
    return TRUE;
  }
  look->writing.first = commits ? 0 : 1;
  look->writing.layers_zeros =
      commits &&
      (is_raw (disk, receiver) || (disk->mode == MODE_COMMIT && context->client != NULL &&
                                   qmp_client_get_version (context->client) < FIRST_THIN_COMMIT));
  return receiver_read (disk->receiver, op_disk_layer (disk, receiver)->format,
                        virtual_size_of (disk, receiver), &look->receiver, error);
}

static gboolean
takes_at_most (OpDisk *disk, guint64 *ret_bytes)
{
  Receiver image;
  guint64 size = virtual_size_of (disk, 0);
  if (disk->mode == MODE_MIRROR) {
    image = receiver_new (disk->to_format, size);
  } else {
    ChainLayer *base = op_disk_layer (disk, disk->base);
    size = MAX (size, base->virtual_size);
    if (!receiver_read (base->file, base->format, size, &image, NULL))
      return FALSE;
  }
  *ret_bytes = image.qcow2 ? receiver_whole (&image) : size;
  return TRUE;
}

gboolean
plan_has_room (Op *op)
{
  guint64 taken = 0, free = G_MAXUINT64;
  for (guint i = 0; i < op->disks->len; i++) {
    guint64 most;
    OpDisk *disk = op_disk (op, i);
    gboolean counts =
        disk->mode == MODE_MIRROR || disk->mode == MODE_COMMIT ||
        disk->mode == MODE_COMMIT_ACTIVE; /* what a stream passes over is known by its map */
    if (!writes_something (disk, op->kind))
      continue;
    if (!counts || disk->grows != NULL || !takes_at_most (disk, &most))
      return FALSE;
    taken = most > G_MAXUINT64 - taken ? G_MAXUINT64 : taken + most;
    free = MIN (free, disk->free);
  }
  return taken <= free;
}

/* ---- looking --------------------------------------------------------------------------------- */

static void
settle (Look *look)
{
  OpDisk *disk = look->disk;
  look->writing.from = look->from;
  look->writing.has = look->has;
  disk->has_needed = look->from != NULL && look->error == NULL && !look->late;
  if (disk->has_needed)
    disk->needed = forecast (&look->writing, &look->receiver);
}

/* Not to be able to tell is no reason to refuse. */
static void
excuse (Look *look)
{
  gboolean endless = g_error_matches (look->error, RECHAIN_ERROR, REFUSED);
  if (look->error == NULL || !(look->late || endless))
    return;
  g_ptr_array_add (
      look->op->notes,
      endless ? g_strdup_printf ("disk '%s': the space that '%s' will need is not known: %s",
                                 look->disk->name, look->disk->receiver, look->error->message)
              : g_strdup_printf ("disk '%s': the space that '%s' will need is not known: its map "
                                 "cannot be read within %u s",
                                 look->disk->name, look->disk->receiver, PATIENCE_S));
  g_clear_error (&look->error);
}

static void
ended (Look *look, guint run, Map *map, const GError *error)
{
  Map **into = run == 0 ? &look->from : &look->has;
  look->runs[run] = NULL;
  *into = map;
  if (error != NULL && look->error == NULL)
    look->error = g_error_copy (error);
  if (--look->pending > 0)
    return;
  settle (look);
  excuse (look);
  if (look->error != NULL)
    prefix (&look->error, "read what disk '%s' holds", look->disk->name);
  look->answer (look->error, look->data);
  source_clear (&look->patience);
  map_unref (look->from);
  map_unref (look->has);
  g_free (look);
}

static void
on_from (Map *map, const GError *error, gpointer data)
{
  ended (data, 0, map, error);
}

static void
on_has (Map *map, const GError *error, gpointer data)
{
  ended (data, 1, map, error);
}

static gboolean
on_late (gpointer data)
{
  Look *look = data;
  look->late = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (look->runs); i++)
    if (look->runs[i] != NULL)
      image_cancel (look->runs[i]);
  return G_SOURCE_REMOVE;
}

static ImageRun *
look_at (Look *look, int from, int to, gboolean in_place, MapImageReady ready)
{
  MapSource source = {.layers = look->disk->before,
                      .from = (guint)from,
                      .to = (guint)to,
                      .shared = TRUE,
                      .in_place = in_place,
                      .region.length = virtual_size_of (look->disk, from)};
  look->pending++;
  return map_image (&source, ready, look);
}

gboolean
plan_ask_space (const PlanContext *context, Op *op, OpDisk *disk, PlanAnswer answer, gpointer data,
                GError **error)
{
  int from, to, has;
  if (!writes_something (disk, op->kind))
    return FALSE;
  Look *look = g_new0 (Look, 1);
  *look = (Look){.op = op, .disk = disk, .answer = answer, .data = data};
  if (!choose_layers (context, look, &from, &to, &has, error)) {
    g_free (look);
    return FALSE;
  }
  int removed = plan_removed_layer (disk, from, to);
  if (removed >= 0) { /* QEMU still reads it, qemu-img cannot */
    g_ptr_array_add (op->notes, g_strdup_printf ("disk '%s': the space that '%s' will need is not "
                                                 "known: layer '%s' was removed",
                                                 disk->name, disk->receiver,
                                                 op_disk_layer (disk, removed)->file));
    g_free (look);
    return FALSE;
  }
  look->runs[0] = look_at (look, from, to, FALSE, on_from);
  if (has >= 0)
    look->runs[1] = look_at (look, has, has + 1, TRUE, on_has);
  source_after (&look->patience, PATIENCE_S * 1000, on_late, look);
  return TRUE;
}

/* ---- the check ------------------------------------------------------------------------------- */

static gboolean
fail_for_space (OpDisk *disk, const char *where, guint64 needed, const char *cure, GError **error)
{
  g_autofree char *want = format_size (needed), *have = format_size (disk->free);
  fail (error, REFUSED, "not enough space in '%s': %s needed, %s free", where, want, have);
  return hint (error,
               "this is what the map of its layers tells; free %" G_GUINT64_FORMAT " bytes more%s",
               needed - disk->free, cure);
}

/* What a device has is for its image alone, and that never needs more than all of its clusters. */
static gboolean
check_device (Op *op, OpDisk *disk, GError **error)
{
  g_autofree char *vg = NULL, *lv = NULL;
  guint64 size, virtual_size = virtual_size_of (disk, 0);
  Receiver receiver = receiver_new ("qcow2", virtual_size);
  if (!disk->has_needed || disk->needed <= disk->free || grow_image_of (disk, disk->receiver) ||
      !file_length (disk->receiver, &size, NULL) ||
      (disk->to == NULL &&
       !receiver_read (disk->receiver, "qcow2", virtual_size, &receiver, NULL)) ||
      size >= receiver_whole (&receiver))
    return TRUE;
  gboolean grows = op->vm != NULL && op->kind != OP_ALLOCATE;
  return fail_for_space (disk, disk->receiver, disk->needed,
                         !lv_of_file (disk->receiver, &vg, &lv) ? ": make the device larger"
                         : grows ? ": make the volume larger (lvextend), or use --grow-lv"
                                 : ": make the volume larger (lvextend)",
                         error);
}

/* Targets on one filesystem share what is free there. */
gboolean
plan_check_space (Op *op, GError **error)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    if (disk->receiver == NULL)
      continue;
    if (is_device (disk->receiver)) {
      if (!check_device (op, disk, error))
        return FALSE;
      continue;
    }
    g_autofree char *dir = g_path_get_dirname (disk->receiver);
    struct stat st, other;
    guint64 needed = 0;
    if (stat (dir, &st) != 0)
      continue;
    for (guint k = 0; k < op->disks->len; k++) {
      const char *receiver = op_disk (op, k)->receiver;
      g_autofree char *other_dir = receiver ? g_path_get_dirname (receiver) : NULL;
      if (other_dir != NULL && op_disk (op, k)->has_needed && !is_device (receiver) &&
          stat (other_dir, &other) == 0 && other.st_dev == st.st_dev)
        needed += op_disk (op, k)->needed;
    }
    if (needed <= disk->free)
      continue;
    return fail_for_space (disk, dir, needed,
                           disk->to != NULL          ? ", or choose another target"
                           : op->kind == OP_ALLOCATE ? ", or allocate smaller regions"
                                                     : "",
                           error);
  }
  return TRUE;
}
