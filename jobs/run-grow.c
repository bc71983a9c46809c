/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logical volumes that are extended while something is written into them (jobs/grow.h): what
 * happens besides the steps.
 *
 * QEMU tells when a volume is written beyond its threshold, or that the guest or a job stands for
 * want of space. Whatever the reason, we look how far each volume is written and how large it is,
 * and extend, arm the threshold anew, and let go on who stands. Looking again after arming closes
 * the gap: what was written before it is seen then.
 *
 * run-extend.c makes them larger; an operation does not end before that has ended. */
#include "jobs/run-grow.h"

#include "src/common/fs.h"

#include <errno.h>
#include <string.h>

static void
look (Runner *runner);

Errand *
errand_new (Runner *runner, Grower *grower)
{
  Errand *errand = g_new0 (Errand, 1);
  *errand = (Errand){.runner = runner_ref (runner), .grower = grower};
  runner->growth->pending++;
  return errand;
}

void
errand_free (Errand *errand)
{
  g_autoptr (Runner) runner = errand->runner;
  Growth *growth = runner->growth;
  Thawed after = growth->after;
  g_free (errand);
  if (--growth->pending > 0 || after == NULL || runner->ended)
    return;
  growth->after = NULL;
  after (runner);
}

static void
grower_free (gpointer data)
{
  Grower *grower = data;
  g_free (grower->why);
  g_free (grower);
}

void
growth_free (Growth *growth)
{
  g_ptr_array_unref (growth->growers);
  g_free (growth);
}

gboolean
growth_is_over (Runner *runner)
{
  return runner->ended || runner->detached || runner->lost || runner->client == NULL ||
         op_is_offline (runner->op);
}

void
growth_note (Runner *runner, Grower *grower, const char *phase, const char *detail)
{
  journal_note (runner->journal, runner->op, "grow", grower->disk->name, runner_direction (runner),
                phase, detail);
}

static char *
words_of (const Grower *grower)
{
  const GrowImage *image = grower->image;
  if (grower->why != NULL)
    return g_strdup_printf ("%s; '%s/%s' could not be extended: %s", g_strerror (ENOSPC), image->vg,
                            image->lv, grower->why);
  if (image->pool != NULL)
    return g_strdup_printf ("%s; '%s/%s' lies in the thin pool '%s/%s', which is full",
                            g_strerror (ENOSPC), image->vg, image->lv, image->vg, image->pool);
  return g_strdup_printf ("%s; '%s/%s' has all that its image can need", g_strerror (ENOSPC),
                          image->vg, image->lv);
}

char *
growth_advice (Runner *runner)
{
  for (guint i = 0; runner->growth != NULL && i < runner->growth->growers->len; i++) {
    const Grower *grower = runner->growth->growers->pdata[i];
    const GrowImage *image = grower->image;
    if (grower->is_full)
      return g_strdup_printf ("give %s '%s%s%s' more space (%s), or remove volumes there",
                              image->pool ? "thin pool" : "volume group", image->vg,
                              image->pool ? "/" : "", image->pool ? image->pool : "",
                              image->pool ? "lvextend" : "vgextend");
  }
  return NULL;
}

/* ---- who stands ------------------------------------------------------------------------------ */

/* Does the guest write to it? */
static gboolean
is_active (Runner *runner, Grower *grower)
{
  g_autofree char *file = op_disk_active_file (runner->op, grower->disk);
  return g_strcmp0 (grower->image->file, file) == 0;
}

/* A fold brings everything back into the old active layer. */
static Grower *
receiver_of (Runner *runner, const char *job)
{
  for (guint i = 0; runner->growth != NULL && i < runner->growth->growers->len; i++) {
    Grower *grower = runner->growth->growers->pdata[i];
    OpDisk *disk = grower->disk;
    const char *into = runner->in_fold ? op_disk_layer (disk, 0)->file : disk->receiver;
    if (g_strcmp0 (job, runner_job_of (runner, disk)) == 0 &&
        g_strcmp0 (grower->image->file, into) == 0)
      return grower;
  }
  return NULL;
}

static void
go_on_job (Runner *runner, Grower *grower)
{
  const char *job = runner_job_of (runner, grower->disk);
  grower->job_waits = FALSE;
  if (runner->erring != NULL)
    g_hash_table_remove (runner->erring, job);
  growth_note (runner, grower, "note", "let the job go on (job-resume)");
  qmp_client_execute (runner->client, "job-resume", json_make ("id", json_str (job), NULL), 0, NULL,
                      NULL);
}

static gboolean
stands_for_space (Runner *runner, Grower *grower, Json *job)
{
  const char *id = json_get_str (job, "device"), *status = json_get_str (job, "io-status");
  gboolean told = id && runner->erring && g_hash_table_contains (runner->erring, id);
  return receiver_of (runner, id) == grower && json_get_bool (job, "paused") &&
         (told || g_strcmp0 (status, "nospace") == 0);
}

static void
on_jobs (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  errand->grower->letting = FALSE;
  for (gsize i = 0; !growth_is_over (errand->runner) && i < json_length (ret); i++)
    if (stands_for_space (errand->runner, errand->grower, json_at (ret, i)))
      go_on_job (errand->runner, errand->grower);
}

/* Waited for: QEMU does not perform what it has read of a client that is gone. */
static void
on_continued (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  errand_free (data);
}

/* One that we hold, or that somebody else stopped, is not stopped for an error. */
static void
on_status (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  Runner *runner = errand->runner;
  gboolean stands = g_strcmp0 (json_get_str (ret, "status"), "io-error") == 0;
  if (growth_is_over (runner) || !stands || runner->op->held || !runner->op->was_running)
    return;
  growth_note (runner, errand->grower, "note",
               "continue the guest, which stood for want of space (cont)");
  qmp_client_execute (client, "cont", NULL, 0, on_continued, g_steal_pointer (&errand));
}

/* The jobs first: "cont" makes QEMU forget why they stand. */
static void
let_go_on (Runner *runner, Grower *grower, guint64 size)
{
  grower->went_on_at = size;
  if (grower->job_waits) {
    grower->letting = TRUE;
    qmp_client_execute (runner->client, "query-block-jobs", NULL, 0, on_jobs,
                        errand_new (runner, grower));
  }
  if (grower->guest_waits)
    qmp_client_execute (runner->client, "query-status", NULL, 0, on_status,
                        errand_new (runner, grower));
  grower->job_waits = grower->guest_waits = FALSE;
}

/* The job's failure is found where it is waited for; a guest that stands has nobody else. */
static void
give_up (Runner *runner, Grower *grower)
{
  grower->gave_up = grower->job_waits;
  grower->is_full |= grower->image->pool != NULL && (grower->job_waits || grower->guest_waits);
  if (!grower->guest_waits)
    return;
  grower->guest_waits = FALSE;
  g_autofree char *words = words_of (grower);
  g_autofree char *why =
      g_strdup_printf ("the guest's write to '%s' failed: %s", grower->image->file, words);
  if (runner->main.back)
    runner_set_bandwidth (runner, 0, NULL);
  else
    runner_cancel (runner, why);
}

void
growth_extended (Runner *runner, Grower *grower, guint64 size)
{
  if (!growth_is_over (runner))
    let_go_on (runner, grower, size);
  look (runner);
}

void
growth_refused (Runner *runner, Grower *grower)
{
  if (!growth_is_over (runner))
    give_up (runner, grower);
}

/* ---- looking --------------------------------------------------------------------------------- */

static void
on_armed (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Errand) errand = data;
  if (growth_is_over (errand->runner))
    return;
  if (error == NULL)
    errand->grower->image->armed = errand->threshold;
  look (errand->runner); /* what was written before it was armed is seen now */
}

static void
arm (Runner *runner, Grower *grower, guint64 threshold)
{
  g_autoptr (GPtrArray) asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
  Ask *ask = ask_threshold (asks, grower->image, threshold);
  Errand *errand = errand_new (runner, grower);
  errand->threshold = threshold;
  qmp_client_execute (runner->client, ask->command, json_dup (ask->arguments), 0, on_armed, errand);
}

static gboolean
is_extending (const Growth *growth)
{
  for (guint i = 0; i < growth->growers->len; i++)
    if (((Grower *)growth->growers->pdata[i])->wanted > 0)
      return TRUE;
  return FALSE;
}

/* Whoever was watched over is watched over until the row that ends it, in either direction. */
static gboolean
is_watched (Runner *runner)
{
  const Step *step = runner->main.steps;
  gboolean past = FALSE;
  for (int i = 0; i < runner->main.at && !past; i++)
    past = step[i].ask == watch_volumes;
  const Step *now = step + MAX (runner->main.at, 0);
  return past && now->name != NULL && now->ask != unwatch_volumes;
}

/* @highest: the byte behind the last one that was ever written, since QEMU opened it. */
static void
judge (Runner *runner, Grower *grower, guint64 highest)
{
  GrowImage *image = grower->image;
  gboolean waits = grower->job_waits || grower->guest_waits;
  guint64 size;
  if (grower->wanted > 0 || !file_length (image->file, &size, NULL))
    return;
  guint64 threshold = grow_threshold (runner->op, image, size);
  /* Once more for want of space at the same size: more of it helps, unless it is the pool's. */
  gboolean again = waits && !grower->unsure && grower->went_on_at == size;
  if ((threshold > 0 && highest > threshold) || (again && image->pool == NULL)) {
    if (!growth_extend (runner, grower, highest))
      give_up (runner, grower);
  } else if (again)
    give_up (runner, grower);
  else if (waits && !(grower->unsure && is_extending (runner->growth)))
    let_go_on (runner, grower, size);
  gboolean arms = threshold > 0 && highest <= threshold && image->armed != threshold;
  /* It may have ended since this was asked. */
  if (grower->wanted == 0 && arms && is_watched (runner))
    arm (runner, grower, threshold);
}

static gboolean
find_highest (Json *rows, const char *node, guint64 *ret_highest)
{
  for (gsize i = 0; i < json_length (rows); i++)
    if (g_strcmp0 (json_get_str (json_at (rows, i), "node-name"), node) == 0) {
      Json *stats = json_get (json_at (rows, i), "stats");
      *ret_highest = (guint64)MAX (json_get_int (stats, "wr_highest_offset"), 0);
      return TRUE;
    }
  return FALSE;
}

static void
on_stats (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Runner) runner = data;
  Growth *growth = runner->growth;
  guint64 highest;
  growth->looking = FALSE;
  if (growth_is_over (runner) || error != NULL)
    return;
  for (guint i = 0; i < growth->growers->len; i++) {
    Grower *grower = growth->growers->pdata[i];
    if (find_highest (ret, grower->image->node, &highest))
      judge (runner, grower, highest);
    else
      grower->image->armed = 0; /* not open yet, or not any more */
  }
  if (growth->again)
    look (runner);
}

static void
look (Runner *runner)
{
  Growth *growth = runner->growth;
  growth->again = growth->looking;
  if (growth->looking || growth_is_over (runner) || !is_watched (runner))
    return;
  growth->looking = TRUE;
  qmp_client_execute (runner->client, "query-blockstats",
                      json_make ("query-nodes", json_flag (TRUE), NULL), 0, on_stats,
                      runner_ref (runner));
}

/* ---- from outside ---------------------------------------------------------------------------- */

static void
begin (Runner *runner)
{
  Op *op = runner->op;
  runner->growth = g_new0 (Growth, 1);
  runner->growth->growers = g_ptr_array_new_with_free_func (grower_free);
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    for (guint k = 0; disk->grows != NULL && k < disk->grows->len; k++) {
      Grower *grower = g_new0 (Grower, 1);
      *grower = (Grower){.disk = disk, .image = disk->grows->pdata[k]};
      g_ptr_array_add (runner->growth->growers, grower);
    }
  }
}

/* Of an operation that was interrupted the guest may stand since before. */
static void
on_first_status (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Runner) runner = data;
  gboolean stands = g_strcmp0 (json_get_str (ret, "status"), "io-error") == 0;
  for (guint i = 0; stands && !growth_is_over (runner) && i < runner->growth->growers->len; i++) {
    Grower *grower = runner->growth->growers->pdata[i];
    grower->guest_waits |= is_active (runner, grower);
  }
  look (runner);
}

/* The same of its jobs; once the guest is continued, nothing tells why they stand. */
static void
on_first_jobs (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autoptr (Runner) runner = data;
  for (gsize i = 0; !growth_is_over (runner) && i < json_length (ret); i++) {
    Grower *grower = receiver_of (runner, json_get_str (json_at (ret, i), "device"));
    if (grower != NULL && stands_for_space (runner, grower, json_at (ret, i)))
      grower->job_waits = TRUE;
  }
}

void
growth_watch (Runner *runner)
{
  if (!op_grows (runner->op) || growth_is_over (runner) || !is_watched (runner))
    return;
  gboolean first = runner->growth == NULL;
  if (first)
    begin (runner);
  if (first && runner->resumed) {
    qmp_client_execute (runner->client, "query-block-jobs", NULL, 0, on_first_jobs,
                        runner_ref (runner));
    qmp_client_execute (runner->client, "query-status", NULL, 0, on_first_status,
                        runner_ref (runner));
  } else
    look (runner);
}

void
growth_forget_link (Runner *runner)
{
  for (guint i = 0; runner->growth != NULL && i < runner->growth->growers->len; i++)
    ((Grower *)runner->growth->growers->pdata[i])->image->armed = 0;
  if (runner->growth != NULL)
    runner->growth->looking = FALSE;
}

void
growth_on_threshold (QmpClient *client, const char *name, Json *event, gpointer data)
{
  Runner *runner = data;
  const char *node = json_get_str (json_get (event, "data"), "node-name");
  for (guint i = 0; runner->growth != NULL && i < runner->growth->growers->len; i++) {
    Grower *grower = runner->growth->growers->pdata[i];
    if (g_strcmp0 (node, grower->image->node) != 0)
      continue;
    grower->image->armed = 0; /* it tells once */
    look (runner);
  }
}

gboolean
growth_takes_job (Runner *runner, const char *job)
{
  Grower *grower = receiver_of (runner, job);
  if (grower == NULL)
    return FALSE;
  if (grower->gave_up) {
    grower->gave_up = grower->job_waits = FALSE;
    return FALSE;
  }
  if (!grower->letting) {
    grower->job_waits = TRUE;
    look (runner);
  }
  return TRUE;
}

char *
growth_why (Runner *runner, const char *job)
{
  Grower *grower = receiver_of (runner, job);
  return grower ? words_of (grower) : g_strdup (g_strerror (ENOSPC));
}

/* "vda" is /machine/peripheral/vda, which has its backend below. */
static gboolean
is_path_of (const char *qdev, const char *path)
{
  g_autofree char *device =
      qdev[0] == '/' ? g_strdup (qdev) : g_strconcat ("/machine/peripheral/", qdev, NULL);
  gsize n = strlen (device);
  return strncmp (path, device, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The event names the node, or the drive, that the guest's device is on; the device itself only
 * since 9.2. While a job runs the node is a filter of QEMU's own, which belongs to any disk. */
static Seen
is_disk_of (OpDisk *disk, Json *error)
{
  const char *node = json_get_str (error, "node-name"), *drive = json_get_str (error, "device");
  const char *path = json_get_str (error, "qom-path");
  const char *nodes[] = {op_disk_layer (disk, 0)->node, disk->node, disk->attach_to};
  if (path != NULL && disk->qdev != NULL)
    return is_path_of (disk->qdev, path) ? SEEN_YES : SEEN_NO;
  for (guint i = 0; node != NULL && i < G_N_ELEMENTS (nodes); i++)
    if (g_strcmp0 (node, nodes[i]) == 0)
      return SEEN_YES;
  if (disk->drive != NULL && g_strcmp0 (drive, disk->drive) == 0)
    return SEEN_YES;
  return node && node[0] == '#' && (drive == NULL || *drive == '\0') ? SEEN_HALF : SEEN_NO;
}

gboolean
growth_takes_guest (Runner *runner, Json *error)
{
  gboolean stops = g_strcmp0 (json_get_str (error, "action"), "stop") == 0, taken = FALSE;
  if (!stops || !json_get_bool (error, "nospace"))
    return FALSE;
  for (guint i = 0; runner->growth != NULL && i < runner->growth->growers->len; i++) {
    Grower *grower = runner->growth->growers->pdata[i];
    Seen seen = is_disk_of (grower->disk, error);
    gboolean watched = is_watched (runner) || grower->wanted > 0;
    if (seen == SEEN_NO || !is_active (runner, grower) || !watched)
      continue;
    grower->guest_waits = taken = TRUE;
    grower->unsure = seen == SEEN_HALF;
  }
  if (taken)
    look (runner);
  return taken;
}

gboolean
growth_end_first (Runner *runner, Thawed then)
{
  if (runner->growth == NULL || runner->growth->pending == 0)
    return FALSE;
  runner->growth->after = then;
  return TRUE;
}
