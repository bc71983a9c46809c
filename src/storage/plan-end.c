/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where what lies in a volume ends: the programs of its filesystem say it, or its partition table.
 * An image is looked into first. */
#include "src/storage/plan-private.h"

#include "jobs/image.h"

static const char *
path_of (VolumePlan *plan)
{
  return plan->peek ? peek_path (plan->peek) : plan->volume->place.path;
}

static void
on_end (const char *out, const GError *error, gpointer data)
{
  VolumePlan *plan = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  const char *type = plan->volume->contents.filesystem;
  VolumeEnd end = {.what = type, .filesystem = filesystem_named (type)};
  if (bad == NULL) {
    filesystem_read_end (end.filesystem, out, &end.bytes, &end.block);
    plan->judge (plan, &end, &bad);
  }
  plan_answered (plan, bad);
}

static gboolean
ask_program (VolumePlan *plan, const Filesystem *filesystem)
{
  FilesystemPlace place = {.device = path_of (plan)};
  g_auto (GStrv) argv = filesystem_args (filesystem->end, &place);
  plan->pending++;
  /* dumpe2fs ends with 1 when it has said all but what the journal of ext4 has, which lies behind
   * the beginning. */
  image_run_more ((const char *const *)argv, IMAGE_QUESTION, &(ImageMore){.most_exit = 1}, on_end,
                  plan);
  return TRUE;
}

static gboolean
ask_contents (VolumePlan *plan, GError **error)
{
  Contents *contents = &plan->volume->contents;
  /* A GPT has its second copy in the last 33 sectors, which partition programs put right. */
  if (contents->partitions != NULL)
    return plan->judge (
        plan, &(VolumeEnd){.what = "partition table", .bytes = contents->partitions_end}, error);
  const Filesystem *filesystem = filesystem_named (contents->filesystem);
  if (filesystem != NULL)
    return ask_program (plan, filesystem);
  return plan->judge (plan, &(VolumeEnd){.what = contents->filesystem}, error);
}

static void
on_peeked (Peek *peek, const GError *error, gpointer data)
{
  VolumePlan *plan = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL)
    ask_contents (plan, &bad);
  plan_answered (plan, bad);
}

gboolean
plan_find_end (VolumePlan *plan, VolumeJudge judge, GError **error)
{
  GError *bad = NULL;
  plan->judge = judge;
  plan->peek = peek_new (plan->volume, on_peeked, plan, &bad);
  if (bad != NULL) {
    g_propagate_error (error, bad);
    return FALSE;
  }
  if (plan->peek == NULL)
    return ask_contents (plan, error);
  plan->pending++;
  return TRUE;
}
