/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the copying catches up with a guest that writes, and what is done where it does not: the
 * ladder. Each rung is tried for a while before the next:
 *
 *   1. the bandwidth that other disks, which have caught up, do not need
 *   2. write-blocking: the guest's writes go to both layers (mirror, QEMU 8.2 and later)
 *   3. the copying is not waited for any more: at a calm moment the guest is held, without a limit,
 *      for no longer than the pause budget; else it is released, and held again later
 *
 * What is forecast comes from the progress of the jobs: what is added to the total is what the
 * guest changed again. It ends in success, or with the figures when patience ends: as long as the
 * copying took, a minute at least. */
#include "jobs/run-private.h"

#include "jobs/blocks-hold.h"
#include "src/common/size.h"
#include "src/common/source.h"

#define WINDOW    (2 * G_TIME_SPAN_SECOND)
#define PATIENCE  (60 * G_TIME_SPAN_SECOND)
#define BURST     (16.0 * 1024 * 1024) /* bytes that QEMU copies before it sleeps for --bandwidth */
#define FOLDS     10                   /* holds of an undo that were too long */
#define CALM_RATE (64u << 20)          /* bytes/s that any storage in use is taken to manage */

enum { RUNG_NONE, RUNG_SPEED, RUNG_BLOCKING, RUNG_HOLD };

/* ---- forecast -------------------------------------------------------------------------------- */

guint64
pace_budget (Runner *runner)
{
  double rate = runner->drain_rate > 0 ? runner->drain_rate : CALM_RATE;
  return MAX ((guint64)(rate * (double)runner->op->max_pause_ms / 1000), 1u << 20);
}

/* Of one disk, since it began to be copied, or for a minute: as long may the rest take. What
 * remains of one whose guest writes to both layers grows no more, also while QEMU has not called it
 * ready yet. */
static gboolean
catches_up (Runner *runner, Pace *pace, gint64 now)
{
  double fall = pace->copied_rate - pace->dirty_rate;
  double patience = (double)MAX (PATIENCE, now - pace->begun_us) / G_USEC_PER_SEC;
  return ((pace->ready || pace->blocking) && pace->remaining <= pace_budget (runner)) ||
         (fall > 0 && (double)pace->remaining / fall <= patience);
}

/* Full; NULL where nothing was measured. */
char *
pace_figures (Runner *runner)
{
  double dirty = 0, copied = 0;
  guint64 remaining = 0;
  gboolean blocking = FALSE, measured = FALSE;
  for (guint i = 0; i < runner->op->disks->len; i++) {
    Pace *pace = runner->paces + i;
    measured |= pace->copied_rate > 0 || pace->dirty_rate > 0;
    dirty += pace->dirty_rate;
    copied += pace->copied_rate;
    remaining += pace->remaining;
    blocking |= pace->blocking;
  }
  if (!measured)
    return NULL;
  g_autofree char *left = format_size (remaining);
  g_autofree char *changes = format_size ((guint64)dirty);
  g_autofree char *copies = format_size ((guint64)copied);
  g_autoptr (GString) text = g_string_new (NULL);
  g_string_printf (text, "%s remained, the guest changed %s/s again, %s/s were copied", left,
                   changes, copies);
  if (blocking)
    g_string_append (text, "; tried: write-blocking copying");
  if (runner->patience > 0)
    g_string_append_printf (text, "%s the guest held %u times",
                            blocking ? "," : "; tried:", runner->patience);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

/* ---- the rungs ------------------------------------------------------------------------------- */

/* What was asked for a disk, and is on its way. */
typedef struct {
  Runner *runner;
  OpDisk *disk;
  gboolean blocking; /* write-blocking was asked for */
} Asked;

static void
on_asked (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autofree Asked *asked = data;
  g_autoptr (Runner) runner = asked->runner;
  if (error != NULL && !runner->ended)
    runner_note_error (runner, asked->disk, error);
  if (error == NULL && asked->blocking)
    runner->paces[asked->disk->index].blocking = TRUE;
}

static void
ask (Runner *runner, OpDisk *disk, const char *says, const char *command, Json *take_arguments)
{
  g_autofree char *text = g_strdup_printf ("%s (%s)", says, command);
  Asked *asked = g_new0 (Asked, 1);
  *asked = (Asked){.runner = runner_ref (runner),
                   .disk = disk,
                   .blocking = json_has (take_arguments, "copy-mode")};
  runner_note (runner, disk, "note", text);
  qmp_client_execute (runner->client, command, take_arguments, 0, on_asked, asked);
}

/* What a disk needs that has caught up, to stay where it is. */
static guint64
needs (Runner *runner, Pace *pace)
{
  guint64 share = bandwidth_share (runner->op, runner->op->disks->len);
  return MIN (share, MAX (share / 4, (guint64)(pace->dirty_rate * 1.25)));
}

static gboolean
raise_speed (Runner *runner, OpDisk *disk)
{
  Op *op = runner->op;
  guint64 left = op->bandwidth;
  guint behind = 0;
  for (guint i = 0; i < op->disks->len; i++) {
    Pace *pace = runner->paces + i;
    behind += !pace->ready;
    left -= pace->ready ? MIN (left, needs (runner, pace)) : 0;
  }
  if (op->bandwidth == 0 || behind == 0 || behind == op->disks->len)
    return FALSE;
  for (guint i = 0; i < op->disks->len; i++) {
    Pace *pace = runner->paces + i;
    guint64 speed = pace->ready ? needs (runner, pace) : left / behind;
    ask (runner, op_disk (op, i), "share the bandwidth anew", "block-job-set-speed",
         json_make ("device", json_str (op_disk (op, i)->job), "speed",
                    json_int ((gint64)MAX (speed, 1)), NULL));
  }
  return TRUE;
}

static gboolean
block_writes (Runner *runner, OpDisk *disk)
{
  if (disk->mode != MODE_MIRROR || !qmp_features_has (runner->features, FEATURE_BLOCK_JOB_CHANGE))
    return FALSE;
  ask (runner, disk, "the guest's writes go to both layers from now on", "block-job-change",
       json_make ("id", json_str (disk->job), "type", json_str ("mirror"), "copy-mode",
                  json_str ("write-blocking"), NULL));
  return TRUE;
}

/* Not from within the watch that told of the progress. */
static gboolean
stop_waiting (gpointer data)
{
  Runner *runner = data;
  for (guint i = 0; !runner->ended && !runner->detached && i < runner->op->disks->len; i++)
    if (runner->paces[i].rung == RUNG_HOLD)
      lanes_stop_waiting (runner, op_disk (runner->op, i)->job);
  return G_SOURCE_REMOVE;
}

static void
wait_no_more (Runner *runner)
{
  runner->op->stalled = TRUE;
  source_soon (stop_waiting, runner_ref (runner), (GDestroyNotify)runner_unref);
}

static void
climb (Runner *runner, OpDisk *disk, Pace *pace)
{
  /* A held guest has time for what is left. */
  if (pace->remaining <= pace_budget (runner) && op_holds (runner->op))
    pace->rung = RUNG_HOLD;
  while (pace->rung < RUNG_HOLD) {
    pace->rung++;
    if ((pace->rung == RUNG_SPEED && raise_speed (runner, disk)) ||
        (pace->rung == RUNG_BLOCKING && block_writes (runner, disk)))
      return;
  }
  wait_no_more (runner);
}

/* ---- watching -------------------------------------------------------------------------------- */

static void
begin_window (Pace *pace, gint64 now, guint64 current, guint64 total)
{
  pace->since_us = now;
  pace->copied = current;
  pace->total = total;
}

/* Under a limit QEMU copies a lot at once, then sleeps and counts nothing: less than the whole of
 * that says nothing of rates. Neither does one in which nothing was counted. */
static gboolean
window_is_over (Runner *runner, Pace *pace, gint64 now, guint64 current, guint64 total)
{
  Op *op = runner->op;
  guint64 limit = bandwidth_share (op, op->disks->len);
  gint64 burst = limit ? (gint64)(BURST / (double)limit * G_USEC_PER_SEC) : 0;
  gint64 since = now - pace->since_us;
  gboolean moved = current != pace->copied || total != pace->total;
  return since >= PATIENCE || (moved && since >= MAX (WINDOW, burst));
}

void
pace_see (Runner *runner, OpDisk *disk, JobStatus status, guint64 current, guint64 total)
{
  Pace *pace = runner->paces + disk->index;
  gint64 now = g_get_monotonic_time ();
  if (runner->in_fold || runner->main.back || !op_disk_switches (disk) || total == 0)
    return;
  pace->ready = status == JOB_READY;
  pace->remaining = total - MIN (current, total);
  if (pace->begun_us == 0) {
    pace->begun_us = now;
    pace->first_pass = total;
  }
  /* One that somebody paused is not judged. */
  if (pace->since_us == 0 || (status != JOB_RUNNING && status != JOB_READY)) {
    begin_window (pace, now, current, total);
    return;
  }
  if (!window_is_over (runner, pace, now, current, total))
    return;
  double seconds = (double)(now - pace->since_us) / G_USEC_PER_SEC;
  pace->copied_rate = (double)(current - MIN (pace->copied, current)) / seconds;
  pace->dirty_rate = (double)(total - MIN (pace->total, total)) / seconds;
  begin_window (pace, now, current, total);
  if (current >= pace->first_pass && !catches_up (runner, pace, now))
    climb (runner, disk, pace);
}

/* ---- holding --------------------------------------------------------------------------------- */

void
pace_drained (Runner *runner, guint64 remaining, gint64 held_us)
{
  guint64 done = runner->drain_from - MIN (remaining, runner->drain_from);
  if (held_us > 0 && done > 0)
    runner->drain_rate = (double)done * G_USEC_PER_SEC / (double)held_us;
}

/* Once more for one that was held too long, or could not be held? */
gboolean
pace_has_patience (Runner *runner)
{
  gint64 now = g_get_monotonic_time (), copied = 0;
  runner->patience++;
  if (runner->in_fold)
    return runner->patience <= FOLDS;
  if (runner->patient_since_us == 0)
    runner->patient_since_us = now;
  for (guint i = 0; i < runner->op->disks->len; i++)
    if (runner->paces[i].begun_us > 0)
      copied = MAX (copied, runner->patient_since_us - runner->paces[i].begun_us);
  return now - runner->patient_since_us <= MAX (PATIENCE, copied);
}
