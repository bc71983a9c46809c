/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --grow-lv: which layers of a disk are written to and lie in logical volumes that are smaller than
 * they may need to be, and whether their groups have space for what is forecast. */
#include "jobs/plan-private.h"

#include "jobs/forecast.h"
#include "jobs/grow.h"
#include "jobs/header.h"
#include "jobs/lv.h"
#include "jobs/lvm.h"
#include "src/common/fs.h"
#include "src/common/size.h"

#define NO_BOUND G_MAXINT64 /* internal snapshots keep any number of versions */

/* ---- which ----------------------------------------------------------------------------------- */

static gboolean
find_most (GrowImage *image, guint64 virtual_size, GError **error)
{
  g_auto (ImageHeader) header = {0};
  Receiver receiver;
  if (!image_header_read (image->file, &header, error) ||
      !receiver_read (image->file, "qcow2", MAX (virtual_size, header.virtual_size), &receiver,
                      error))
    return FALSE;
  image->most = header.snapshots > 0 ? NO_BOUND : receiver_whole (&receiver);
  return TRUE;
}

/* @node: its protocol node. What is no volume, or no qcow2 image, has the size that it needs. */
static gboolean
add_image (OpDisk *disk, const char *file, const char *format, const char *node,
           const Request *request, World *world, GError **error)
{
  g_autofree char *vg = NULL, *lv = NULL;
  gboolean qcow2 = g_strcmp0 (format ? format : "qcow2", "qcow2") == 0;
  if (!qcow2 || node == NULL || grow_image_of (disk, file) || !lv_of_file (file, &vg, &lv))
    return TRUE;
  if (!plan_check_group (request, disk->name, vg, error))
    return FALSE;
  GrowImage *image = g_new0 (GrowImage, 1);
  *image = (GrowImage){.file = g_strdup (file),
                       .vg = g_steal_pointer (&vg),
                       .lv = g_steal_pointer (&lv),
                       .node = g_strdup (node),
                       .theirs = world_node_write_threshold (world, node)};
  if (disk->grows == NULL)
    disk->grows = grow_images_new ();
  g_ptr_array_add (disk->grows, image);
  return file_length (file, &image->size, error) &&
         find_most (image, op_disk_layer (disk, 0)->virtual_size, error);
}

/* What receives the data, and what the guest writes to: an undo brings it back there, too. */
gboolean
plan_grow_disk (Op *op, OpDisk *disk, const Request *request, World *world, GError **error)
{
  if (op->grow_step == 0)
    return TRUE;
  if (disk->to != NULL &&
      !add_image (disk, disk->to, disk->to_format, disk->file_node, request, world, error))
    return FALSE;
  for (guint i = 0; i < disk->before->len; i++) {
    const ChainLayer *layer = op_disk_layer (disk, (int)i);
    gboolean written = i == 0 || g_strcmp0 (layer->file, disk->receiver) == 0;
    if (written &&
        !add_image (disk, layer->file, layer->format, layer->protocol_node, request, world, error))
      return FALSE;
  }
  return TRUE;
}

gboolean
plan_check_grows (Op *op, GError **error)
{
  if (op->grow_step == 0)
    return TRUE;
  if (op_grows (op))
    return lvm_is_usable (error);
  fail (error, REFUSED,
        "nothing can be extended: no layer that is written to is a qcow2 image in a "
        "logical volume");
  return hint (error, "leave --grow-lv out");
}

/* ---- what LVM knows -------------------------------------------------------------------------- */

typedef struct {
  Op *op;
  OpDisk *disk;
  guint at; /* into disk->grows */
  PlanAnswer answer;
  gpointer data;
} Question;

static void
ask_about (Question *question);

static GrowImage *
image_of (Question *question)
{
  return question->disk->grows->pdata[question->at];
}

static void
answer (Question *question, GError *take_error)
{
  PlanAnswer callback = question->answer;
  gpointer data = question->data;
  prefix (&take_error, "disk '%s'", question->disk->name);
  g_free (question);
  callback (take_error, data);
}

/* Where its space comes from; full. */
static char *
source_of (const GrowImage *image)
{
  return image->pool ? g_strdup_printf ("thin pool '%s/%s'", image->vg, image->pool)
                     : g_strdup_printf ("volume group '%s'", image->vg);
}

/* What can be written to it without space from there. */
static guint64
own_space (const GrowImage *image)
{
  return image->pool ? image->mapped : image->size;
}

static void
tell (Op *op, const GrowImage *image)
{
  g_autofree char *step = format_size (op->grow_step), *size = format_size (image->size);
  g_autofree char *free = format_size (image->free);
  g_autofree char *most = image->most < NO_BOUND ? format_size (image->most) : NULL;
  g_autofree char *source = source_of (image);
  g_ptr_array_add (
      op->notes,
      g_strdup_printf (
          "'%s' has %s and is extended by %s whenever it fills%s%s (%s are free in %s); "
          "it stays so when the operation is undone",
          image->file, size, step, most ? ", up to " : "", most ? most : "", free, source));
}

static void
next (Question *question, guint64 free)
{
  OpDisk *disk = question->disk;
  GrowImage *image = image_of (question);
  guint64 end = 0;
  image->free = free;
  tell (question->op, image);
  if (g_strcmp0 (disk->receiver, image->file) == 0 &&
      (disk->to != NULL || image_end_read (image->file, &end, NULL)))
    disk->free = own_space (image) - MIN (end, own_space (image)) + free;
  if (++question->at < question->disk->grows->len)
    ask_about (question);
  else
    answer (question, NULL);
}

static void
on_vgs (Json *rows, const GError *error, gpointer data)
{
  Question *question = data;
  if (error != NULL)
    answer (question, g_error_copy (error));
  else
    next (question, lvm_bytes (json_at (rows, 0), "vg_free"));
}

/* LVM extends no volume that has thick snapshots while it is active, and none of a kind that it
 * does not know how to. */
static GError *
check_volume (GrowImage *image, Json *row)
{
  GError *bad = NULL;
  const char *attr = lvm_word (row, "lv_attr");
  if (row == NULL)
    fail (&bad, REFUSED, "LVM knows no volume '%s/%s'", image->vg, image->lv);
  else if (attr != NULL && (attr[0] == 'o' || attr[0] == 'O' || attr[0] == 's')) {
    fail (&bad, REFUSED, "'%s' %s, and LVM extends none such while it is in use", image->file,
          attr[0] == 's' ? "is a snapshot" : "has snapshots");
    hint (&bad, "remove the snapshot first, or leave --grow-lv out");
  }
  return bad;
}

/* Of a thin volume, or of a pool: what is used of it. */
static guint64
used_of (Json *row)
{
  const char *used = lvm_word (row, "data_percent");
  double share = used ? CLAMP (g_ascii_strtod (used, NULL), 0, 100) : 0;
  return (guint64)((double)lvm_bytes (row, "lv_size") * share / 100);
}

static void
on_lvs (Json *rows, const GError *error, gpointer data)
{
  Question *question = data;
  GrowImage *image = image_of (question);
  Json *row = lvm_row (rows, image->lv);
  GError *bad = error ? g_error_copy (error) : check_volume (image, row);
  Json *pool = lvm_row (rows, lvm_word (row, "pool_lv"));
  if (bad != NULL)
    answer (question, bad);
  else if (pool != NULL) {
    image->pool = g_strdup (lvm_word (pool, "lv_name"));
    image->mapped = used_of (row);
    next (question, lvm_bytes (pool, "lv_size") - used_of (pool));
  } else
    lvm_vgs (image->vg, on_vgs, question);
}

static void
ask_about (Question *question)
{
  lvm_lvs (image_of (question)->vg, NULL, on_lvs, question);
}

gboolean
plan_ask_grow (Op *op, OpDisk *disk, PlanAnswer callback, gpointer data)
{
  if (disk->grows == NULL)
    return FALSE;
  Question *question = g_new0 (Question, 1);
  *question = (Question){.op = op, .disk = disk, .answer = callback, .data = data};
  ask_about (question);
  return TRUE;
}

/* ---- space ----------------------------------------------------------------------------------- */

/* Beyond the volume's end, or what a thin one has. What a new image needs counts from its
 * beginning. */
static guint64
missing (const OpDisk *disk, const GrowImage *image)
{
  guint64 end = 0;
  if (!disk->has_needed || g_strcmp0 (disk->receiver, image->file) != 0 ||
      (disk->to == NULL && !image_end_read (image->file, &end, NULL)))
    return 0;
  end = MIN (end + disk->needed, image->most);
  return end > own_space (image) ? end - own_space (image) : 0;
}

/* Volumes of one group, or of one pool, share what is free there. */
static guint64
missing_with (Op *op, const GrowImage *other)
{
  guint64 sum = 0;
  for (guint i = 0; i < op->disks->len; i++) {
    const OpDisk *disk = op_disk (op, i);
    for (guint k = 0; disk->grows != NULL && k < disk->grows->len; k++) {
      const GrowImage *image = disk->grows->pdata[k];
      if (g_str_equal (image->vg, other->vg) && g_strcmp0 (image->pool, other->pool) == 0)
        sum += missing (disk, image);
    }
  }
  return sum;
}

gboolean
plan_check_groups (Op *op, GError **error)
{
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    for (guint k = 0; disk->grows != NULL && k < disk->grows->len; k++) {
      const GrowImage *image = disk->grows->pdata[k];
      guint64 own = missing (disk, image), needed = own > 0 ? missing_with (op, image) : 0;
      if (needed <= image->free)
        continue;
      g_autofree char *want = format_size (needed), *have = format_size (image->free);
      g_autofree char *source = source_of (image);
      fail (error, REFUSED,
            "not enough space in %s: '%s'%s would have to get %s more (%" G_GUINT64_FORMAT
            " bytes), %s are free (%" G_GUINT64_FORMAT " bytes)",
            source, image->file, needed > own ? " and others together" : "", want, needed, have,
            image->free);
      return hint (error,
                   "this is what the map of its layers tells; give the %s %" G_GUINT64_FORMAT
                   " bytes more (%s), or remove volumes there",
                   image->pool ? "pool" : "group", needed - image->free,
                   image->pool ? "lvextend" : "vgextend");
    }
  }
  return TRUE;
}
