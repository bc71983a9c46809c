/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making one logical volume larger (jobs/grow.h).
 *
 * lvextend is never killed by us (jobs/lv.h). Whatever it says, we look: killed by somebody else it
 * may have done all of it, or leave LVM's record larger than the device, or the device suspended,
 * which has all that is written to it wait for good; lvchange --refresh mends both. Where its group
 * has not got a whole step, it gets what there is; where it has, lvextend is run once more. */
#include "jobs/run-grow.h"

#include "jobs/image.h"
#include "jobs/lvm.h"
#include "src/common/fs.h"

#include <string.h>

static void
run_lvextend (Runner *runner, Grower *grower, guint64 size);

static void
ended (Grower *grower)
{
  grower->wanted = 0;
  grower->refreshed = grower->retried = FALSE;
}

static void
set_why (Grower *grower, char *take_words)
{
  g_free (grower->why);
  grower->why = take_words;
}

static void
refused (Runner *runner, Grower *grower)
{
  growth_refused (runner, grower);
  ended (grower);
}

/* Programs warn before they say what is wrong; full. */
static char *
last_line (const char *words)
{
  g_autofree char *text = g_strchomp (g_strdup (words));
  const char *last = strrchr (text, '\n');
  return g_strstrip (g_strdup (last ? last + 1 : text));
}

/* Is it larger than before? */
static gboolean
has_grown (Runner *runner, Grower *grower)
{
  guint64 size = 0;
  GrowImage *image = grower->image;
  if (!file_length (image->file, &size, NULL) || size <= grower->had)
    return FALSE;
  g_autofree char *words =
      g_strdup_printf ("'%s' has %" G_GUINT64_FORMAT " bytes", image->file, size);
  image->grown = size;
  grower->is_full = FALSE;
  set_why (grower, NULL);
  growth_note (runner, grower, "done", words);
  /* That it did not get on record is found by the next step that must be. */
  journal_write (runner->journal, runner->op, NULL);
  ended (grower);
  growth_extended (runner, grower, size);
  return TRUE;
}

/* ---- when it did not get larger -------------------------------------------------------------- */

/* A group that has not got a whole step may have a part of it. Others take from it, too: what there
 * is, is asked anew each time, and less and less is tried. */
static void
on_group (Json *rows, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  Grower *grower = errand->grower;
  GrowImage *image = grower->image;
  guint64 free = lvm_bytes (json_at (rows, 0), "vg_free"), lacks = grower->wanted - grower->had;
  if (errand->runner->ended || errand->runner->detached)
    return;
  grower->is_full = error == NULL && !image->pool && free < lacks;
  gboolean some = free > 0 && grower->had + free < grower->tried;
  if (grower->is_full && some && !growth_is_over (errand->runner)) {
    run_lvextend (errand->runner, grower, grower->had + free);
    return;
  }
  if (error == NULL && !grower->is_full && !grower->retried && !growth_is_over (errand->runner)) {
    grower->retried = TRUE;
    run_lvextend (errand->runner, grower, grower->tried);
    return;
  }
  if (grower->is_full)
    set_why (grower,
             g_strdup_printf ("%" G_GUINT64_FORMAT " bytes more are needed, %" G_GUINT64_FORMAT
                              " are free in volume group '%s': %s",
                              lacks, free, image->vg, grower->why));
  refused (errand->runner, grower);
}

static void
ask_group (Runner *runner, Grower *grower)
{
  lvm_vgs (grower->image->vg, on_group, errand_new (runner, grower));
}

static void
on_refreshed (const char *out, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  Runner *runner = errand->runner;
  if (runner->ended || runner->detached)
    return;
  if (error != NULL)
    growth_note (runner, errand->grower, "failed", rechain_error_get_cause (error));
  if (!has_grown (runner, errand->grower))
    ask_group (runner, errand->grower);
}

/* What lvextend left half done. */
static void
on_volume (Json *rows, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  Runner *runner = errand->runner;
  Grower *grower = errand->grower;
  Json *row = lvm_row (rows, grower->image->lv);
  if (runner->ended || runner->detached)
    return;
  if (grower->refreshed || !grow_is_half_done (grower->image, row)) {
    if (!has_grown (runner, grower))
      ask_group (runner, grower);
    return;
  }
  grower->refreshed = TRUE;
  g_auto (GStrv) argv = grow_refresh_args (grower->image);
  g_autofree char *line = g_strjoinv (" ", argv);
  g_autofree char *busy = journal_run_path (runner->state_dir, runner->op->id, ".busy");
  growth_note (runner, grower, "intent", line);
  image_run_more ((const char *const *)argv, IMAGE_LIVES_ON, &(ImageMore){.busy = busy},
                  on_refreshed, errand_new (runner, grower));
}

/* ---- lvextend -------------------------------------------------------------------------------- */

static void
on_extended (const char *out, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  Runner *runner = errand->runner;
  Grower *grower = errand->grower;
  if (runner->ended || runner->detached || (error == NULL && has_grown (runner, grower)))
    return;
  const char *cause = error ? rechain_error_get_cause (error) : "lvextend changed nothing";
  set_why (grower, last_line (cause ? cause : error->message));
  growth_note (runner, grower, "failed", grower->why);
  lvm_lvs (grower->image->vg, NULL, on_volume, errand_new (runner, grower));
}

static void
run_lvextend (Runner *runner, Grower *grower, guint64 size)
{
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) argv = grow_args (grower->image, size);
  g_autofree char *line = g_strjoinv (" ", argv);
  g_autofree char *busy = journal_run_path (runner->state_dir, runner->op->id, ".busy");
  grower->tried = size;
  growth_note (runner, grower, "intent", line);
  if (!journal_write (runner->journal, runner->op, &error)) {
    set_why (grower, g_strdup (error->message));
    refused (runner, grower);
    return;
  }
  image_run_more ((const char *const *)argv, IMAGE_LIVES_ON, &(ImageMore){.busy = busy},
                  on_extended, errand_new (runner, grower));
}

gboolean
growth_extend (Runner *runner, Grower *grower, guint64 highest)
{
  guint64 size;
  if (grower->wanted > 0)
    return TRUE;
  if (!file_length (grower->image->file, &size, NULL))
    return FALSE;
  guint64 next = grow_next (runner->op, grower->image, size, highest);
  if (next <= size)
    return FALSE;
  grower->wanted = next;
  grower->had = size;
  run_lvextend (runner, grower, next);
  return TRUE;
}

/* ---- what somebody else began ---------------------------------------------------------------- */

/* Volumes of an operation whose owner is gone, one after the other. */
typedef struct {
  Runner *runner;
  GPtrArray *images; /* borrowed GrowImages */
  guint at;
  Thawed then;
} Mending;

static void
mend (Mending *mending);

static void
mended_one (Mending *mending)
{
  mending->at++;
  mend (mending);
}

static void
on_mended (const char *out, const GError *error, gpointer data)
{
  mended_one (data);
}

static void
on_found (Json *rows, const GError *error, gpointer data)
{
  Mending *mending = data;
  Runner *runner = mending->runner;
  GrowImage *image = mending->images->pdata[mending->at];
  if (!grow_is_half_done (image, lvm_row (rows, image->lv))) {
    mended_one (mending);
    return;
  }
  g_auto (GStrv) argv = grow_refresh_args (image);
  g_autofree char *line = g_strjoinv (" ", argv);
  g_autofree char *busy = journal_run_path (runner->state_dir, runner->op->id, ".busy");
  journal_note (runner->journal, runner->op, "grow", NULL, runner_direction (runner), "intent",
                line);
  image_run_more ((const char *const *)argv, IMAGE_LIVES_ON, &(ImageMore){.busy = busy}, on_mended,
                  mending);
}

/* What became of it is a fact that its owner may not have got on record. */
static void
note_size (GrowImage *image)
{
  guint64 size = 0;
  if (file_length (image->file, &size, NULL) && size > image->size)
    image->grown = size;
}

static void
mend (Mending *mending)
{
  if (mending->at < mending->images->len) {
    lvm_lvs (((GrowImage *)mending->images->pdata[mending->at])->vg, NULL, on_found, mending);
    return;
  }
  g_autoptr (Runner) runner = mending->runner;
  Thawed then = mending->then;
  for (guint i = 0; i < mending->images->len; i++)
    note_size (mending->images->pdata[i]);
  g_ptr_array_unref (mending->images);
  g_free (mending);
  if (!runner->ended)
    then (runner);
}

void
growth_mend_then (Runner *runner, Thawed then)
{
  Op *op = runner->op;
  Mending *mending = g_new0 (Mending, 1);
  *mending = (Mending){.runner = runner_ref (runner), .images = g_ptr_array_new (), .then = then};
  for (guint i = 0; i < op->disks->len; i++) {
    GPtrArray *images = op_disk (op, i)->grows;
    for (guint k = 0; images != NULL && k < images->len; k++)
      g_ptr_array_add (mending->images, images->pdata[k]);
  }
  mend (mending);
}
