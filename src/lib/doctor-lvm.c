/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logical volumes: those that operations left, snapshots that ran full, and layers that
 * lie in one. */
#include "src/lib/doctor-private.h"

#include "jobs/lv.h"
#include "jobs/lvm.h"

#include <string.h>

#define FULL_SOON 80 /* percent */

typedef struct {
  const char *vg, *lv, *tags, *attr; /* borrowed from the row */
  char *path;
  gboolean open;
  double used; /* percent of a snapshot or a pool; 0: neither */
} Volume;

static void
volume_clear (Volume *volume)
{
  g_free (volume->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Volume, volume_clear)

static const char *
or_empty (const char *text)
{
  return text ? text : "";
}

static Volume
volume_of (Json *row)
{
  const char *vg = or_empty (lvm_word (row, "vg_name")), *lv = or_empty (lvm_word (row, "lv_name"));
  return (Volume){.vg = vg,
                  .lv = lv,
                  .tags = or_empty (lvm_word (row, "lv_tags")),
                  .attr = or_empty (lvm_word (row, "lv_attr")),
                  .path = g_strdup_printf ("/dev/%s/%s", vg, lv),
                  .open = lvm_word (row, "lv_device_open") != NULL,
                  .used = g_ascii_strtod (or_empty (lvm_word (row, "data_percent")), NULL)};
}

/* lvs(8), lv_attr: the fifth character is the state. */
static gboolean
is_lost (const Volume *volume)
{
  return strlen (volume->attr) > 4 && strchr ("IS", volume->attr[4]) != NULL;
}

/* ---- what operations left -------------------------------------------------------------------- */

/* "rechain-0123abcd" among the tags -> the id, full. */
static char *
id_of_tags (const char *tags)
{
  g_auto (GStrv) all = g_strsplit (tags, ",", -1);
  for (char **tag = all; *tag != NULL; tag++) {
    const char *id = g_str_has_prefix (*tag, "rechain-") ? *tag + strlen ("rechain-") : "";
    if (strlen (id) == 8 && strspn (id, "0123456789abcdef") == 8)
      return g_strdup (id);
  }
  return NULL;
}

/* The record that has it; borrowed, nullable. A volume that is not active has no file to be known
 * by. */
static Record *
record_of (Exam *exam, const char *path)
{
  for (guint i = 0; exam->records != NULL && i < exam->records->len; i++) {
    Record *record = exam->records->pdata[i];
    for (guint k = 0; k < record->disks->len; k++)
      if (g_strcmp0 (record_disk (record, k)->old_file, path) == 0)
        return record;
  }
  return NULL;
}

static gboolean
is_named_in (Json *what, const Volume *volume)
{
  return g_strcmp0 (json_get_str (what, "vg"), volume->vg) == 0 &&
         g_strcmp0 (json_get_str (what, "lv"), volume->lv) == 0;
}

/* Nothing of it is wanted: what was taken back made it, or it was there for the time of a copy. */
static gboolean
is_leftover (Op *op, const Volume *volume)
{
  for (guint i = 0; op != NULL && i < op->disks->len; i++) {
    Json *details = op_disk (op, i)->details;
    if (is_named_in (json_get (details, "instant"), volume) ||
        (op->state == OP_UNDONE && is_named_in (details, volume)))
      return TRUE;
  }
  return FALSE;
}

static void
left_volume (Exam *exam, Json *row, const Volume *volume, const char *id)
{
  g_autoptr (Op) op = exam_op (exam, id);
  g_autofree char *command = shell_words ("rechain", "vol", "delete", volume->path, NULL);
  gboolean left = is_leftover (op, volume);
  if ((op != NULL && !op_has_ended (op)) || record_of (exam, volume->path) != NULL ||
      exam_is_used (exam, volume->path))
    return;
  Json *finding =
      exam_find (exam, left || op == NULL ? FOUND_WARNING : FOUND_NOTE, "volume", NULL, NULL,
                 left ? "logical volume '%s' is left over" : "nobody refers to logical volume '%s'",
                 volume->path);
  json_set (finding, "file", json_str (volume->path));
  finding_shows (finding, "it carries the tag of operation %s", id);
  if (op == NULL)
    finding_shows (finding, "operation %s is not in this journal", id);
  else
    finding_shows (finding, "operation %s (%s) is %s", id, op_kind_name (op->kind),
                   op_state_name (op->state));
  if (is_lost (volume))
    finding_shows (finding, "it is a snapshot that ran full: its contents are lost");
  if (volume->open)
    finding_shows (finding, "a process has it open");
  finding_cure (finding, command,
                op == NULL ? "remove it, unless another rechain is at work there"
                : left     ? "remove it"
                           : "if nobody wants it any more, remove it");
  g_auto (GStrv) parts = g_strsplit (or_empty (lvm_word (row, "lv_uuid")), "-", -1);
  g_autofree char *uuid = g_strjoinv ("", parts);
  if (left && !volume->open && *uuid)
    finding_repair (exam, finding, NULL, volume->path, "volume",
                    json_make ("vg", json_str (volume->vg), "lv", json_str (volume->lv), "uuid",
                               json_str (uuid), "origin", json_str (lvm_word (row, "origin")),
                               NULL));
}

/* ---- snapshots that run full ----------------------------------------------------------------- */

static void
exam_snapshot (Exam *exam, const Volume *volume, Record *record)
{
  ExamVm *vm = exam_vm_at (exam, record->vm);
  g_autofree char *name = g_strdup_printf ("%s/%s", volume->vg, volume->lv);
  if (is_lost (volume)) {
    g_autofree char *command = shell_words ("rechain", "snapshot", "delete",
                                            vm ? vm->name : record->vm, record->name, NULL);
    Json *finding = exam_find (exam, FOUND_ERROR, "volume", vm, NULL,
                               "snapshot '%s' is lost: logical volume '%s' ran full", record->name,
                               volume->path);
    finding_shows (finding, "lv_attr is '%s'", volume->attr);
    finding_cure (finding, command, "delete it; give the next one more room (size=)");
  } else if (volume->used >= FULL_SOON) {
    g_autofree char *command = shell_words ("lvm", "lvextend", "-l", "+50%LV", name, NULL);
    Json *finding =
        exam_find (exam, FOUND_WARNING, "space", vm, NULL,
                   "snapshot '%s' in logical volume '%s' is lost as soon as it is full: %.0f %%",
                   record->name, volume->path, volume->used);
    finding_cure (finding, command, "make it larger");
  }
}

/* ---- pools ----------------------------------------------------------------------------------- */

/* A thin volume of @pool is a layer of a VM that was asked for; borrowed, nullable. */
static ExamVm *
user_of_pool (Exam *exam, const Volume *pool)
{
  for (gsize i = 0; i < json_length (exam->lvs); i++) {
    Json *row = json_at (exam->lvs, i);
    g_auto (Volume) volume = volume_of (row);
    ExamVm *vm = NULL;
    if (g_strcmp0 (lvm_word (row, "pool_lv"), pool->lv) == 0 && g_str_equal (volume.vg, pool->vg) &&
        exam_find_layer (exam, volume.path, &vm) != NULL)
      return vm;
  }
  return NULL;
}

static void
exam_pool (Exam *exam, Json *row, const Volume *pool)
{
  double metadata = g_ascii_strtod (or_empty (lvm_word (row, "metadata_percent")), NULL);
  ExamVm *vm = MAX (pool->used, metadata) >= FULL_SOON ? user_of_pool (exam, pool) : NULL;
  g_autofree char *name = g_strdup_printf ("%s/%s", pool->vg, pool->lv);
  g_autofree char *command =
      pool->used >= FULL_SOON
          ? shell_words ("lvm", "lvextend", "-l", "+50%LV", name, NULL)
          : shell_words ("lvm", "lvextend", "--poolmetadatasize", "+64M", name, NULL);
  if (vm == NULL)
    return;
  Json *finding =
      exam_find (exam, FOUND_WARNING, "space", vm, NULL,
                 "thin pool '%s' is nearly full: %.0f %% of its data, %.0f %% of its metadata",
                 name, pool->used, metadata);
  finding_shows (finding, "the guest's writes fail when it is");
  finding_cure (finding, command, "make it larger");
}

/* ---- layers that lie in one ------------------------------------------------------------------ */

/* QEMU asks for the size when it opens a device. */
static void
exam_size (Exam *exam, Json *row, const Volume *volume)
{
  ExamVm *vm;
  ChainLayer *layer = exam_find_layer (exam, volume->path, &vm);
  guint64 size = g_ascii_strtoull (or_empty (lvm_word (row, "lv_size")), NULL, 10);
  g_autofree char *name = g_strdup_printf ("%s/%s", volume->vg, volume->lv);
  if (layer == NULL || vm->world == NULL || g_strcmp0 (layer->format, "raw") != 0 || size == 0 ||
      size >= layer->virtual_size)
    return;
  g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT "b", layer->virtual_size);
  g_autofree char *command = shell_words ("lvm", "lvextend", "-L", bytes, name, NULL);
  Json *finding = exam_find (exam, FOUND_ERROR, "volume", vm, NULL,
                             "logical volume '%s' is smaller than the disk in it", volume->path);
  finding_shows (finding, "QEMU: %" G_GUINT64_FORMAT " bytes; volume: %" G_GUINT64_FORMAT " bytes",
                 layer->virtual_size, size);
  finding_shows (finding, "what the guest reads or writes beyond its end fails");
  finding_cure (finding, command,
                "make it as large again: LVM often gives it the same space back, with its data");
}

static void
exam_suspended (Exam *exam, Json *row, const Volume *volume)
{
  ExamVm *vm;
  g_autofree char *name = g_strdup_printf ("%s/%s", volume->vg, volume->lv);
  g_autofree char *command = shell_words ("lvm", "lvchange", "--refresh", name, NULL);
  if (lvm_word (row, "lv_suspended") == NULL || exam_find_layer (exam, volume->path, &vm) == NULL)
    return;
  Json *finding = exam_find (exam, FOUND_ERROR, "volume", vm, NULL,
                             "logical volume '%s' is suspended", volume->path);
  finding_shows (finding, "the guest's reads and writes stand still");
  finding_cure (finding, command, "resume it, unless a program of LVM is at work there");
}

/* ---- all of it ------------------------------------------------------------------------------- */

void
exam_volumes (Exam *exam)
{
  for (gsize i = 0; i < json_length (exam->lvs); i++) {
    Json *row = json_at (exam->lvs, i);
    g_auto (Volume) volume = volume_of (row);
    g_autofree char *id = id_of_tags (volume.tags);
    Record *record = record_of (exam, volume.path);
    exam_suspended (exam, row, &volume);
    exam_size (exam, row, &volume);
    if (g_strcmp0 (lvm_word (row, "segtype"), "thin-pool") == 0)
      exam_pool (exam, row, &volume);
    if (record != NULL && lvm_word (row, "origin") && !lvm_word (row, "pool_lv") &&
        exam_wants (exam, record->vm))
      exam_snapshot (exam, &volume, record);
    if (exam->all && id != NULL)
      left_volume (exam, row, &volume, id);
  }
}

char *
exam_activation (Exam *exam, const char *path)
{
  for (gsize i = 0; i < json_length (exam->lvs); i++) {
    Json *row = json_at (exam->lvs, i);
    g_auto (Volume) volume = volume_of (row);
    gboolean active = strlen (volume.attr) > 4 && volume.attr[4] != '-';
    g_autofree char *name = g_strdup_printf ("%s/%s", volume.vg, volume.lv);
    if (g_strcmp0 (path, volume.path) == 0 && !active)
      return shell_words ("lvm", "lvchange", "-ay", "-K", name, NULL);
  }
  return NULL;
}
