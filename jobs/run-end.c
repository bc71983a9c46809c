/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How operations end: done, undone, stuck, or with a journal that cannot be written. */
#include "jobs/blocks.h"
#include "jobs/grow.h"
#include "jobs/on-disk.h"
#include "jobs/run-private.h"
#include "src/common/source.h"

#include <sys/stat.h>

#define LET_GO_MS 3000u

/* ---- the end --------------------------------------------------------------------------------- */

static gboolean
tell_end (gpointer data)
{
  Runner *runner = data;
  if (runner->on_ended != NULL)
    runner->on_ended (runner, runner->data);
  runner_unref (runner);
  return G_SOURCE_REMOVE;
}

void
runner_end (Runner *runner)
{
  runner->ended = TRUE;
  source_clear (&runner->timer);
  source_clear (&runner->deadline);
  lanes_stop (runner);
  engine_drop (runner);
  link_drop (runner);
  runner_drop_agent (runner);
  runner_drop_hold (runner);
  g_clear_pointer (&runner->relay, qmp_relay_free);
  source_soon (tell_end, runner_ref (runner), NULL);
}

typedef struct {
  Runner *runner;
  Released then;
} LettingGo;

static void
on_guest_gone (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autofree LettingGo *letting = data;
  g_autoptr (Runner) runner = letting->runner;
  if (!runner->ended)
    letting->then (runner);
}

/* It ends here, and the guest does not wait for whoever recovers it. Before the commit record the
 * commit is cancelled, so that what the guest writes now goes to the overlay; after it both layers
 * are equal. QEMU does not perform what it has read of a client that is gone: its answer is waited
 * for. */
void
runner_let_guest_go (Runner *runner, Released then)
{
  Op *op = runner->op;
  if (!op->held || runner->lost || runner->client == NULL) {
    then (runner);
    return;
  }
  for (guint i = 0; i < op->disks->len && op->decided == DECIDED_NOTHING; i++) {
    OpDisk *disk = op_disk (op, i);
    const char *job = op_disk_switches (disk) ? disk->job : disk->fold_job;
    qmp_client_execute (runner->client, cancel_command (op), cancel_arguments (op, job), 0, NULL,
                        NULL);
  }
  LettingGo *letting = g_new0 (LettingGo, 1);
  *letting = (LettingGo){.runner = runner_ref (runner), .then = then};
  qmp_client_execute (runner->client, "cont", NULL, LET_GO_MS, on_guest_gone, letting);
}

static void
stop_without_journal (Runner *runner)
{
  op_set_state (runner->op, OP_STUCK);
  runner_end (runner);
}

static void
thaw_without_journal (Runner *runner)
{
  if (!runner_thaw_first (runner, stop_without_journal))
    stop_without_journal (runner);
}

/* The journal could not be written: from here on we may not act, except that nobody is left
 * standing. */
void
runner_journal_failed (Runner *runner, GError *take_error)
{
  Op *op = runner->op;
  g_clear_error (&op->error);
  op->error = take_error;
  recode (&op->error, STUCK);
  hint (&op->error, "mend the journal, then: rechain recover --op %s", op->id);
  runner_let_guest_go (runner, thaw_without_journal);
}

static void
finish_now (Runner *runner)
{
  GError *error = NULL;
  OpState before = runner->op->state, state = runner->last;
  op_set_state (runner->op, state);
  runner->op->ended_us = g_get_real_time ();
  if (!journal_release (runner->journal, runner->op, op_state_is_end (state), &error)) {
    runner->op->state = before; /* an end that is not on record is none */
    runner_journal_failed (runner, error);
  } else
    runner_let_guest_go (runner, runner_end);
}

static void
finish_soon (Runner *runner)
{
  if (!runner_free_guest (runner, finish_soon))
    finish_now (runner);
}

static void
finish (Runner *runner, OpState state);

static void
finish_after_growth (Runner *runner)
{
  finish (runner, runner->last);
}

/* A quiesce that is done leaves the guest frozen. */
static void
finish (Runner *runner, OpState state)
{
  runner->last = state;
  if (growth_end_first (runner, finish_after_growth))
    return;
  if (state == OP_DONE)
    finish_now (runner);
  else
    finish_soon (runner);
}

static void
strv_add (GPtrArray *list, char **take)
{
  g_ptr_array_add (list, take);
}

/* As QEMU shows it, or as the headers say; empty where neither does. Full. */
static char **
chain_now (Runner *runner, OpDisk *disk, gboolean moved)
{
  Op *op = runner->op;
  ChainDisk *now = runner->world ? op_find_disk (op, disk, runner->world) : NULL;
  if (now != NULL)
    return chain_files (now->layers);
  if (!op_is_offline (op) || disk->before->len == 0)
    return g_new0 (char *, 1);
  g_auto (GStrv) files = moved ? op_disk_planned_chain (disk) : chain_files (disk->before);
  g_autoptr (GPtrArray) layers = disk_read_chain (disk, files[0], NULL);
  return layers ? chain_files (layers) : g_new0 (char *, 1);
}

/* A stream counts its way over the whole disk, and copies only what the layers above lack. */
static guint64
bytes_copied (const OpDisk *disk)
{
  gboolean passes_over = disk->mode == MODE_STREAM && disk->has_needed;
  return passes_over ? MIN (disk->current, disk->needed) : disk->current;
}

/* What the result says: the chain that there is now, and the files that fell out of it. */
static void
take_stock (Runner *runner, gboolean moved)
{
  Op *op = runner->op;
  g_ptr_array_set_size (op->after, 0);
  g_ptr_array_set_size (op->left, 0);
  g_ptr_array_set_size (op->removed, 0);
  op->bytes = 0;
  for (guint i = 0; i < op->disks->len; i++) {
    OpDisk *disk = op_disk (op, i);
    g_autoptr (GStrvBuilder) left = g_strv_builder_new ();
    g_autoptr (GStrvBuilder) removed = g_strv_builder_new ();
    struct stat st;
    for (int k = disk->first; moved && !disk->apart && k < disk->base; k++) {
      ChainLayer *layer = disk->before->pdata[k];
      gboolean there = layer->file && g_file_test (layer->file, G_FILE_TEST_EXISTS);
      g_strv_builder_add (there ? left : removed, layer->file);
    }
    gboolean dropped = op->kind == OP_SNAPSHOT_DELETE && op_disk_is_beside (disk);
    if (moved && (dropped || op->kind == OP_VOL_DELETE))
      g_strv_builder_add (removed, disk->to);
    if (moved && json_has (disk->details, "removes"))
      g_strv_builder_add (removed, json_get_str (json_get (disk->details, "removes"), "path"));
    strv_add (op->after, chain_now (runner, disk, moved));
    strv_add (op->left, g_strv_builder_end (left));
    strv_add (op->removed, g_strv_builder_end (removed));
    gboolean file = moved && disk->to != NULL && stat (disk->to, &st) == 0;
    if (moved && (disk->to == NULL || (file && S_ISBLK (st.st_mode))))
      op->bytes += bytes_copied (disk);
    else if (file)
      op->bytes += (guint64)st.st_blocks * 512;
  }
}

void
runner_get_stuck (Runner *runner, GError *take_error)
{
  Op *op = runner->op;
  runner_note_error (runner, NULL, take_error);
  if (op->error == NULL) {
    op->error = take_error;
    runner_say_intent (op, &op->error);
  } else if (g_str_has_suffix (op->error->message, take_error->message))
    g_error_free (take_error); /* the same again, when it was to be taken back */
  else {
    prefix (&take_error, "%s; then", op->error->message);
    g_clear_error (&op->error);
    op->error = take_error;
  }
  recode (&op->error, STUCK);
  if (op->frozen)
    hint (&op->error,
          "the guest may still be frozen: 'rechain thaw' thaws it once its agent answers, and then "
          "'rechain recover --op %s' goes on",
          op->id);
  else
    hint (&op->error, "rechain op show %s tells what was done; rechain recover --op %s goes on",
          op->id, op->id);
  if (op->held)
    runner_note (runner, NULL, "intent",
                 "cancel the commit if it is not decided, and continue the guest");
  take_stock (runner, FALSE);
  finish (runner, OP_STUCK);
}

/* ---- done and undone ------------------------------------------------------------------------- */

void
runner_is_done (Runner *runner, World *world)
{
  take_stock (runner, TRUE);
  finish (runner, OP_DONE);
}

/* Nodes that an earlier step of the disk's history named are part of the old chain; only this
 * operation's own are left-overs, unless QEMU had to open the old layers again (reattach). */
static gboolean
node_is_in_old_chain (Op *op, const char *node)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (g_str_has_prefix (node, op_disk (op, i)->old_node))
      return TRUE;
  return FALSE;
}

/* What is not a chain was probed by its steps as they were taken back. */
static gboolean
is_as_before (Op *op, OpDisk *disk, World *world, GError **error)
{
  g_auto (GStrv) before = chain_files (disk->before);
  if (disk->before->len == 0 || !op_changes_chain (op))
    return TRUE;
  return op_is_offline (op) ? disk_reads (disk, before, error)
                            : disk_shows (op, disk, world, before, error);
}

static gboolean
no_node_is_left (Op *op, World *world, GError **error)
{
  g_autofree char *mine = g_strdup_printf ("rc-%s-", op->id);
  g_autoptr (GPtrArray) nodes = world_nodes_with_prefix (world, mine);
  for (guint i = 0; i < nodes->len; i++)
    if (!node_is_in_old_chain (op, nodes->pdata[i]))
      return fail (error, FAILED, "node '%s' is still in QEMU", (char *)nodes->pdata[i]);
  return TRUE;
}

/* Undone is a claim about the world, so the world is asked. */
void
runner_is_undone (Runner *runner, World *world)
{
  Op *op = runner->op;
  GError *error = NULL;
  gboolean ok = TRUE;
  for (guint i = 0; ok && i < op->disks->len; i++)
    ok = is_as_before (op, op_disk (op, i), world, &error);
  if (ok && !op_is_offline (op))
    ok = no_node_is_left (op, world, &error);
  if (!ok) {
    runner_get_stuck (runner, error);
    return;
  }
  take_stock (runner, FALSE);
  if (op->error == NULL)
    fail (&op->error, UNDONE, "operation %s was interrupted", op->id);
  recode (&op->error, UNDONE);
  g_autofree char *advice = growth_advice (runner);
  if (rechain_error_get_hint (op->error) == NULL)
    hint (&op->error,
          "everything is as it was before%s%s; %s%srechain op show %s tells what happened",
          op->dead ? ", but for the guest, whose QEMU is gone" : "",
          op_has_grown (op) ? ", but for logical volumes, which stay as large as they were made"
                            : "",
          advice ? advice : "", advice ? "; " : "", op->id);
  finish (runner, OP_UNDONE);
}
