/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which step, in which direction. Read from the bottom: runner_start, then begin_step and what it
 * calls, in order: look -> prepare -> (lanes) -> lanes_ended -> judge -> step_done or step_failed. */
#include "jobs/blocks.h"
#include "jobs/run-private.h"

#include <sys/stat.h>

#define UNDO_TRIES 4
#define LOOK_TRIES 4
#define FOLD_TRIES 3

static void begin_step (Runner *runner);
static void step_failed (Runner *runner, GError *take_error);
static void get_stuck (Runner *runner, GError *take_error);

/* ---- where we are ------------------------------------------------------------------------------------ */

Cursor *
runner_cursor (Runner *runner)
{
  return runner->in_fold ? &runner->fold : &runner->main;
}

const Step *
runner_step (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  return cursor->steps + MAX (cursor->at, 0);
}

const char *
runner_direction (Runner *runner)
{
  if (runner->in_fold)
    return runner->fold.back ? "unfold" : "fold";
  return runner->main.back ? "undo" : "do";
}

const char *
runner_step_name (Runner *runner)
{
  const char *name = runner->main.steps ? runner_step (runner)->name : NULL;
  return name ? name : "";
}

void
runner_changed (Runner *runner)
{
  if (runner->on_changed != NULL && !runner->ended)
    runner->on_changed (runner, runner->data);
}

static void
note (Runner *runner, OpDisk *disk, const char *phase, const char *detail)
{
  journal_note (runner->journal, runner->op, runner_step_name (runner), disk ? disk->name : NULL,
                runner_direction (runner), phase, detail);
}

static void
note_error (Runner *runner, OpDisk *disk, const GError *error)
{
  const char *cause = rechain_error_get_cause (error);
  g_autofree char *text = g_strdup_printf ("%s%s%s", error->message, cause ? ": " : "", cause ? cause : "");
  note (runner, disk, "failed", text);
}

static void
stop_timer (Runner *runner)
{
  if (runner->timer != NULL)
    g_source_destroy (runner->timer);
  g_clear_pointer (&runner->timer, g_source_unref);
}

static gboolean
on_timer (gpointer data)
{
  return G_SOURCE_REMOVE;
}

void
runner_after (Runner *runner, guint ms, GSourceFunc func)
{
  stop_timer (runner);
  runner->timer = g_timeout_source_new (ms);
  g_source_set_callback (runner->timer, func ? func : on_timer, runner, NULL);
  g_source_attach (runner->timer, g_main_context_get_thread_default ());
}

static gboolean
begin_later (gpointer data)
{
  begin_step (data);
  return G_SOURCE_REMOVE;
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static gboolean
tell_end (gpointer data)
{
  Runner *runner = data;
  if (runner->on_ended != NULL)
    runner->on_ended (runner, runner->data);
  runner_unref (runner);
  return G_SOURCE_REMOVE;
}

static void
end (Runner *runner)
{
  runner->ended = TRUE;
  stop_timer (runner);
  if (runner->deadline != NULL)
    g_source_destroy (runner->deadline);
  g_clear_pointer (&runner->deadline, g_source_unref);
  lanes_stop (runner);
  link_drop (runner);
  g_clear_pointer (&runner->relay, qmp_relay_free);
  g_autoptr (GSource) source = g_idle_source_new ();
  g_source_set_priority (source, G_PRIORITY_DEFAULT);
  g_source_set_callback (source, tell_end, runner_ref (runner), NULL);
  g_source_attach (source, g_main_context_get_thread_default ());
}

/* The connection was kept until then. */
static void
on_guest_gone (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  qmp_client_unref (data);
}

/* It ends here, and the guest does not wait for whoever recovers it. Before the commit record the commit
 * is cancelled, so that what the guest writes now goes to the overlay; after it both layers are equal. */
static void
let_guest_go (Runner *runner)
{
  Op *op = runner->op;
  if (!op->held || runner->lost || runner->client == NULL)
    return;
  for (guint i = 0; i < op->disks->len && op->decided == DECIDED_NOTHING; i++)
    qmp_client_execute (runner->client, "job-cancel",
                        json_make ("id", json_str (op_disk (op, i)->fold_job), NULL), 0, NULL, NULL);
  qmp_client_execute (runner->client, "cont", NULL, 0, on_guest_gone, qmp_client_ref (runner->client));
}

/* The journal could not be written: from here on we may not act, except that nobody is left standing. */
static void
journal_failed (Runner *runner, GError *take_error)
{
  Op *op = runner->op;
  let_guest_go (runner);
  g_clear_error (&op->error);
  op->error = take_error;
  recode (&op->error, STUCK);
  hint (&op->error, "mend the journal, then: rechain recover --op %s", op->id);
  op_set_state (op, OP_STUCK);
  end (runner);
}

static void
finish (Runner *runner, OpState state)
{
  GError *error = NULL;
  OpState before = runner->op->state;
  op_set_state (runner->op, state);
  runner->op->ended_us = g_get_real_time ();
  if (!journal_release (runner->journal, runner->op, op_state_is_end (state), &error)) {
    runner->op->state = before; /* an end that is not on record is none */
    journal_failed (runner, error);
  } else {
    let_guest_go (runner);
    end (runner);
  }
}

static void
strv_add (GPtrArray *list, char **take)
{
  g_ptr_array_add (list, take);
}

/* What the result says: the chain as QEMU shows it, and the files that fell out of it. */
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
    ChainDisk *now = runner->world ? op_find_disk (op, disk, runner->world) : NULL;
    g_autoptr (GStrvBuilder) left = g_strv_builder_new ();
    g_autoptr (GStrvBuilder) removed = g_strv_builder_new ();
    struct stat st;
    for (guint k = 0; moved && op->kind == OP_MOVE && k < op_disk_dropped (disk); k++) {
      ChainLayer *layer = disk->before->pdata[k];
      gboolean there = layer->file && g_file_test (layer->file, G_FILE_TEST_EXISTS);
      g_strv_builder_add (there ? left : removed, layer->file);
    }
    strv_add (op->after, now ? chain_files (now->layers) : g_new0 (char *, 1));
    strv_add (op->left, g_strv_builder_end (left));
    strv_add (op->removed, g_strv_builder_end (removed));
    if (moved && stat (disk->to, &st) == 0)
      op->bytes += (guint64)st.st_blocks * 512;
  }
}

static void
get_stuck (Runner *runner, GError *take_error)
{
  Op *op = runner->op;
  note_error (runner, NULL, take_error);
  if (op->error == NULL)
    op->error = take_error;
  else {
    prefix (&take_error, "%s; then", op->error->message);
    g_clear_error (&op->error);
    op->error = take_error;
  }
  recode (&op->error, STUCK);
  hint (&op->error, "rechain op show %s tells what was done; rechain recover --op %s goes on", op->id,
        op->id);
  if (op->held)
    note (runner, NULL, "intent", "cancel the commit if it is not decided, and continue the guest");
  take_stock (runner, FALSE);
  finish (runner, OP_STUCK);
}

/* ---- looking ------------------------------------------------------------------------------------------- */

typedef struct {
  Runner *runner;
  Looked then;
} Look;

static void look_then (Runner *runner, Looked then);

static gboolean
look_later (gpointer data)
{
  Runner *runner = data;
  look_then (runner, runner->look_again);
  return G_SOURCE_REMOVE;
}

static void
on_world (World *world, const GError *error, gpointer data)
{
  g_autofree Look *look = data;
  g_autoptr (Runner) runner = look->runner;
  if (runner->ended || runner->detached) {
    world_free (world);
    return;
  }
  g_clear_pointer (&runner->world, world_free);
  runner->world = world;
  if (world != NULL) {
    runner->looks_failed = 0;
    look->then (runner, world);
  } else if (runner->lost || error == NULL || g_error_matches (error, RECHAIN_ERROR, UNREACHABLE)) {
    runner->lost = TRUE;
    link_again (runner);
  } else if (++runner->looks_failed < LOOK_TRIES) {
    runner->look_again = look->then;
    runner_after (runner, 100u << runner->looks_failed, look_later);
  } else {
    GError *copy = g_error_copy (error);
    prefix (&copy, "look at QEMU");
    get_stuck (runner, copy);
  }
}

static gboolean
is_our_job (Op *op, const char *id)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (g_strcmp0 (id, op_disk (op, i)->job) == 0 || g_strcmp0 (id, op_disk (op, i)->fold_job) == 0)
      return TRUE;
  return FALSE;
}

/* A job of ours that concluded outside the normal course (it failed, or we were interrupted): its
 * outcome is recorded, then it is dismissed, and only then is QEMU asked for its nodes, since 7.2 dies of
 * that question otherwise. TRUE: there was one. */
static gboolean
note_concluded (Runner *runner, Json *jobs)
{
  guint n = 0;
  for (gsize i = 0; i < json_length (jobs); i++) {
    Json *job = json_at (jobs, i);
    const char *id = json_get_str (job, "id"), *words = json_get_str (job, "error");
    if (!is_our_job (runner->op, id) || g_strcmp0 (json_get_str (job, "status"), "concluded") != 0)
      continue;
    g_autofree char *detail = g_strdup_printf ("job %s concluded: %s", id, words ? words : "no error");
    note (runner, NULL, "note", detail);
    n++;
  }
  return n > 0;
}

static void
on_jobs_before_look (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Look *look = data;
  Runner *runner = look->runner;
  GError *unwritten = NULL;
  if (runner->ended || runner->detached || (error != NULL && runner->lost)) {
    on_world (NULL, error, look);
    return;
  }
  if (note_concluded (runner, ret) && !journal_write (runner->journal, runner->op, &unwritten)) {
    g_autoptr (Runner) last = runner;
    g_free (look);
    journal_failed (runner, unwritten);
    return;
  }
  for (gsize i = 0; i < json_length (ret); i++) {
    Json *job = json_at (ret, i);
    if (is_our_job (runner->op, json_get_str (job, "id")) &&
        g_strcmp0 (json_get_str (job, "status"), "concluded") == 0)
      qmp_client_execute (client, "job-dismiss",
                          json_make ("id", json_str (json_get_str (job, "id")), NULL), 0, NULL, NULL);
  }
  world_query (client, runner->features, on_world, look);
}

static void
look_then (Runner *runner, Looked then)
{
  if (runner->lost) {
    link_again (runner);
    return;
  }
  if (runner->fresh) {
    then (runner, runner->world);
    return;
  }
  Look *look = g_new0 (Look, 1);
  *look = (Look){.runner = runner_ref (runner), .then = then};
  qmp_client_execute (runner->client, "query-jobs", NULL, 0, on_jobs_before_look, look);
}

/* ---- tables that ended ---------------------------------------------------------------------------------- */

static void
on_done (Runner *runner, World *world)
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
    if (g_str_equal (node, op_disk (op, i)->old_node))
      return TRUE;
  return FALSE;
}

/* Undone is a claim about the world, so the world is asked. */
static void
on_undone (Runner *runner, World *world)
{
  Op *op = runner->op;
  GError *error = NULL;
  gboolean ok = TRUE;
  for (guint i = 0; ok && i < op->disks->len; i++) {
    g_auto (GStrv) before = chain_files (op_disk (op, i)->before);
    ok = disk_shows (op, op_disk (op, i), world, before, &error);
  }
  g_autofree char *mine = g_strdup_printf ("rc-%s-", op->id);
  g_autoptr (GPtrArray) nodes = world_nodes_with_prefix (world, mine);
  for (guint i = 0; ok && i < nodes->len; i++)
    ok = node_is_in_old_chain (op, nodes->pdata[i]) ||
         fail (&error, FAILED, "node '%s' is still in QEMU", (char *)nodes->pdata[i]);
  if (!ok) {
    get_stuck (runner, error);
    return;
  }
  take_stock (runner, FALSE);
  if (op->error == NULL)
    fail (&op->error, UNDONE, "operation %s was interrupted", op->id);
  recode (&op->error, UNDONE);
  if (rechain_error_get_hint (op->error) == NULL)
    hint (&op->error, "everything is as it was before; rechain op show %s tells what happened", op->id);
  finish (runner, OP_UNDONE);
}

static gboolean
fold_again (gpointer data)
{
  Runner *runner = data;
  runner->fold = (Cursor){.steps = fold_steps};
  begin_step (runner);
  return G_SOURCE_REMOVE;
}

/* The fold was taken back itself: the guest runs on the overlay. Try again, or stop here. */
static void
fold_taken_back (Runner *runner)
{
  if (runner->failure == NULL) { /* only settling: an earlier fold was interrupted */
    runner->in_fold = FALSE;
    begin_step (runner);
  } else if (runner->op->attempt < FOLD_TRIES) {
    g_clear_error (&runner->failure);
    runner->op->attempt++;
    runner_after (runner, 1000, fold_again);
  } else {
    runner->in_fold = FALSE;
    prefix (&runner->failure, "fold back into the old layer");
    get_stuck (runner, g_steal_pointer (&runner->failure));
  }
}

static gboolean
table_ended (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  if (cursor->back ? cursor->at >= 0 : cursor->steps[cursor->at].name != NULL)
    return FALSE;
  if (runner->in_fold && cursor->back)
    fold_taken_back (runner);
  else if (runner->in_fold) { /* on the old layer: go on undoing what came before the snapshot */
    runner->in_fold = FALSE;
    runner->switched = FALSE;
    begin_step (runner);
  } else if (cursor->back)
    look_then (runner, on_undone);
  else
    look_then (runner, on_done);
  return TRUE;
}

/* ---- one step -------------------------------------------------------------------------------------------- */

static Lane *
add_lane (Runner *runner, OpDisk *disk, GPtrArray *take_asks)
{
  Lane *lane = g_new0 (Lane, 1);
  *lane = (Lane){.runner = runner, .disk = disk, .asks = take_asks};
  g_ptr_array_add (runner->lanes, lane);
  return lane;
}

/* What of @step happened, over all disks. */
static Seen
probe_all (Runner *runner, const Step *step)
{
  guint yes = 0, no = 0, n = runner->op->disks->len;
  for (guint i = 0; i < n; i++) {
    Seen seen = step->probe (runner->op, op_disk (runner->op, i), runner->world);
    yes += seen == SEEN_YES;
    no += seen == SEEN_NO;
  }
  return yes == n ? SEEN_YES : no == n ? SEEN_NO : SEEN_HALF;
}

static void
ask_undo (Runner *runner, const Step *step, OpDisk *disk)
{
  GPtrArray *asks = g_ptr_array_new_with_free_func ((GDestroyNotify)ask_free);
  step->undo (runner->op, disk, runner->world, asks);
  add_lane (runner, disk, asks);
}

static void
make_lanes (Runner *runner, const Step *step)
{
  Op *op = runner->op;
  gboolean back = runner_cursor (runner)->back;
  gboolean may_skip = !back && runner->world != NULL && (runner->resumed || runner->in_fold);
  for (guint i = 0; i < (step->once ? 1 : op->disks->len); i++) {
    OpDisk *disk = step->once ? NULL : op_disk (op, i);
    if (back && step->undo != NULL)
      ask_undo (runner, step, disk);
    if (back)
      continue;
    Seen seen = !may_skip || step->probe == NULL ? SEEN_NO
                : step->once                      ? probe_all (runner, step)
                                                  : step->probe (op, disk, runner->world);
    if (seen != SEEN_YES)
      add_lane (runner, disk, step_asks (step, op, disk, runner->world));
  }
}

/* The commit record goes with the intent: before it the old layer is authoritative, after it the new. */
static gboolean
record_intent (Runner *runner, const Step *step, GError **error)
{
  Cursor *cursor = runner_cursor (runner);
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    for (guint k = 0; k < lane->asks->len; k++) {
      g_autofree char *text = ask_describe (lane->asks->pdata[k]);
      note (runner, lane->disk, "intent", text);
    }
  }
  if (step->undo_table != NULL && !cursor->back)
    runner->op->switched = TRUE;
  if (step->commits && !cursor->back) {
    runner->op->decided = step->decides;
    note (runner, NULL, "note", step->decides == DECIDED_NEW ? "commit record: the new layer" :
                                                               "commit record: the old layer");
  }
  if (journal_write (runner->journal, runner->op, error))
    return TRUE;
  if (step->commits && !cursor->back)
    runner->op->decided = DECIDED_NOTHING; /* not on record, not decided */
  return FALSE;
}

static guint
count_asks (Runner *runner)
{
  guint n = 0;
  for (guint i = 0; i < runner->lanes->len; i++)
    n += ((Lane *)runner->lanes->pdata[i])->asks->len;
  return n;
}

/* The monitor is lent while a job copies, which is long; not around the ends of jobs, where 7.2 must not
 * be asked for its nodes, nor in the steps between, which take milliseconds. */
static gboolean
step_copies (Runner *runner)
{
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    Ask *last = lane->asks->len ? lane->asks->pdata[lane->asks->len - 1] : NULL;
    if (last != NULL && last->job != NULL && last->wanted != JOB_CONCLUDED)
      return TRUE;
  }
  return FALSE;
}

static void step_done (Runner *runner);

static void
prepare (Runner *runner, World *world)
{
  const Step *step = runner_step (runner);
  Cursor *cursor = runner_cursor (runner);
  GError *error = NULL;
  if (cursor->back && step->undo_table != NULL && probe_all (runner, step) != SEEN_NO) {
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = step->undo_table};
    runner->op->attempt++;
    begin_step (runner);
    return;
  }
  g_clear_pointer (&runner->lanes, g_ptr_array_unref);
  runner->lanes = g_ptr_array_new_with_free_func (lane_free);
  make_lanes (runner, step);
  if (count_asks (runner) == 0 && (cursor->back || (step->verify == NULL && !step->commits)))
    step_done (runner);
  else if (!record_intent (runner, step, &error))
    journal_failed (runner, error);
  else {
    link_set_lent (runner, step_copies (runner));
    lanes_start (runner);
  }
}

static void
begin_step (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  if (table_ended (runner))
    return;
  const Step *step = runner_step (runner);
  if (step->applies != NULL && !step->applies (runner->op)) {
    cursor->at += cursor->back ? -1 : 1;
    begin_step (runner);
    return;
  }
  runner_changed (runner);
  /* In the normal course a step asks exactly what the plan has printed. */
  if (cursor->back || step->looks || runner->resumed)
    look_then (runner, prepare);
  else {
    g_clear_pointer (&runner->world, world_free);
    prepare (runner, NULL);
  }
}

/* ---- the outcome of a step -------------------------------------------------------------------------------- */

static void
step_done (Runner *runner)
{
  Cursor *cursor = runner_cursor (runner);
  const Step *step = runner_step (runner);
  if (runner->lanes->len > 0)
    note (runner, NULL, "done", NULL);
  if (!cursor->back && step->undo_table != NULL)
    runner->switched = TRUE;
  if (!runner->in_fold && !cursor->back && step->kind == STEP_PIVOT)
    op_set_state (runner->op, OP_FINISHING);
  runner->tries = 0;
  cursor->at += cursor->back ? -1 : 1;
  /* A cancellation that came while nothing could be aborted. */
  if (runner->cancelled != NULL && !runner->in_fold && !cursor->back &&
      runner->op->state == OP_RUNNING) {
    GError *error = NULL;
    fail (&error, INTERRUPTED, "%s", runner->cancelled);
    cursor->at--;
    step_failed (runner, error);
    return;
  }
  begin_step (runner);
}

/* Job record and events said yes; now the graph. */
static void
judge (Runner *runner, World *world)
{
  const Step *step = runner_step (runner);
  gboolean back = runner_cursor (runner)->back;
  GError *error = NULL;
  gboolean ok = TRUE;
  for (guint i = 0; ok && !back && i < runner->op->disks->len; i++)
    ok = step->verify (runner->op, op_disk (runner->op, i), world, &error);
  if (ok && back && step->probe != NULL && step->undo != NULL && step->kind == STEP_UNDOABLE)
    ok = probe_all (runner, step) == SEEN_NO || fail (&error, FAILED, "it is still there");
  /* The next step may use this look, up to where something is asked. */
  runner->fresh = ok;
  if (ok)
    step_done (runner);
  else
    step_failed (runner, error);
  runner->fresh = FALSE;
}

void
lanes_ended (Runner *runner)
{
  const Step *step = runner_step (runner);
  gboolean back = runner_cursor (runner)->back;
  GError *first = NULL;
  link_set_lent (runner, FALSE);
  for (guint i = 0; i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (lane->error == NULL)
      continue;
    note_error (runner, lane->disk, lane->error);
    /* What was aborted because of another disk's failure explains nothing. */
    if (first != NULL && !g_error_matches (first, RECHAIN_ERROR, INTERRUPTED))
      continue;
    g_clear_error (&first);
    first = g_steal_pointer (&lane->error);
    if (lane->disk != NULL && runner->op->disks->len > 1)
      prefix (&first, "disk '%s'", lane->disk->name);
  }
  if (first != NULL)
    step_failed (runner, first);
  else if (back ? step->probe != NULL : step->verify != NULL)
    look_then (runner, judge);
  else
    step_done (runner);
}

/* ---- turning round ----------------------------------------------------------------------------------------- */

/* From intent to cause: what the user asked for comes first. */
static void
say_intent (Op *op, GError **error)
{
  g_autoptr (GString) disks = g_string_new (NULL);
  for (guint i = 0; i < op->disks->len; i++)
    g_string_append_printf (disks, "%s%s", i ? "," : "", op_disk (op, i)->name);
  prefix (error, "%s %s", op_kind_name (op->kind), disks->str);
}

static void
remember (Runner *runner, GError *take_error)
{
  if (runner->op->error == NULL) {
    runner->op->error = take_error;
    say_intent (runner->op, &runner->op->error);
  } else
    g_error_free (take_error);
}

static void
turn_back (Runner *runner)
{
  if (runner->op->flags & OP_NO_UNDO) {
    GError *error = NULL;
    fail (&error, STUCK, "left for inspection, as asked");
    get_stuck (runner, error);
    return;
  }
  runner->tries = 0;
  runner->main.back = TRUE;
  op_set_state (runner->op, OP_UNDOING);
  begin_step (runner);
}

/* A pivot that reported failure may have happened, on all disks or on some. */
static void
judge_failed_pivot (Runner *runner, World *world)
{
  const Step *step = runner_step (runner);
  if (probe_all (runner, step) == SEEN_YES) {
    g_clear_error (&runner->op->error);
    step_done (runner);
    return;
  }
  if (runner->op->decided != DECIDED_NOTHING) {
    runner->op->decided = DECIDED_NOTHING;
    note (runner, NULL, "note", "revert: the old layer");
  }
  turn_back (runner);
}

static gboolean
retry (Runner *runner)
{
  if (++runner->tries >= UNDO_TRIES)
    return FALSE;
  runner->resumed = TRUE;
  runner_after (runner, 100u << runner->tries, begin_later);
  return TRUE;
}

static void
fold_failed (Runner *runner, GError *take_error)
{
  const Step *step = runner_step (runner);
  if (runner->fold.back || step->kind == STEP_FINISH) {
    if (retry (runner))
      g_error_free (take_error);
    else
      get_stuck (runner, take_error);
    return;
  }
  /* Not decided, or decided and refused by QEMU with the guest still held: the overlay stays. */
  if (runner->op->decided == DECIDED_OLD) {
    runner->op->decided = DECIDED_NOTHING;
    note (runner, NULL, "note", "revert: the overlay");
  }
  g_clear_error (&runner->failure);
  runner->failure = take_error;
  runner->tries = 0;
  runner->fold.back = TRUE;
  begin_step (runner);
}

static void
step_failed (Runner *runner, GError *take_error)
{
  const Step *step = runner_step (runner);
  prefix (&take_error, "%s", step->name);
  if (runner->lost) {
    if (!runner->in_fold && !runner->main.back && step->kind != STEP_FINISH)
      remember (runner, take_error);
    else
      g_error_free (take_error);
    link_again (runner);
  } else if (runner->in_fold)
    fold_failed (runner, take_error);
  else if (runner->main.back || step->kind == STEP_FINISH) {
    if (retry (runner))
      g_error_free (take_error);
    else
      get_stuck (runner, take_error);
  } else {
    remember (runner, take_error);
    if (step->kind == STEP_PIVOT)
      look_then (runner, judge_failed_pivot);
    else
      turn_back (runner);
  }
}

/* ---- the connection ------------------------------------------------------------------------------------------ */

/* Everything that was on its way is unknown now, so every step is looked at before it is done. In the
 * fold, whose jobs may stand anywhere, the first act is to settle. */
void
link_is_back (Runner *runner)
{
  const Step *step = runner_step (runner);
  runner->resumed = TRUE;
  runner->tries = 0;
  if (runner->in_fold && runner->op->decided != DECIDED_OLD && step->kind != STEP_FINISH) {
    if (!runner->fold.back && runner->failure == NULL)
      fail (&runner->failure, UNREACHABLE, "the connection to QEMU ended");
    runner->fold.back = TRUE;
    begin_step (runner);
  } else if (!runner->in_fold && !runner->main.back && step->kind == STEP_PIVOT)
    look_then (runner, judge_failed_pivot);
  else if (!runner->in_fold && !runner->main.back && step->kind == STEP_UNDOABLE &&
           runner->op->state == OP_RUNNING) {
    GError *error = NULL;
    fail (&error, UNREACHABLE, "%s: the connection to QEMU ended", step->name);
    remember (runner, error);
    turn_back (runner);
  } else
    begin_step (runner);
}

void
link_is_dead (Runner *runner, GError *take_error)
{
  g_clear_pointer (&runner->world, world_free);
  if (runner->in_fold)
    runner->in_fold = FALSE;
  get_stuck (runner, take_error);
}

/* ---- the caller's side ---------------------------------------------------------------------------------------- */

Runner *
runner_new (Op *op, Journal *journal, const char *state_dir, QmpClient *client,
            QmpFeatures *features)
{
  Runner *runner = g_new0 (Runner, 1);
  runner->refs = 1;
  runner->op = op;
  runner->journal = journal;
  runner->features = features;
  runner->state_dir = g_strdup (state_dir);
  runner->main = (Cursor){.steps = steps_of (op->kind)};
  runner->lanes = g_ptr_array_new_with_free_func (lane_free);
  link_attach (runner, client);
  return runner;
}

Runner *
runner_ref (Runner *runner)
{
  runner->refs++;
  return runner;
}

void
runner_unref (Runner *runner)
{
  if (--runner->refs > 0)
    return;
  runner->ended = TRUE;
  stop_timer (runner);
  if (runner->deadline != NULL)
    g_source_destroy (runner->deadline);
  g_clear_pointer (&runner->deadline, g_source_unref);
  link_drop (runner);
  g_clear_pointer (&runner->relay, qmp_relay_free);
  g_clear_pointer (&runner->lanes, g_ptr_array_unref);
  g_clear_pointer (&runner->world, world_free);
  g_clear_pointer (&runner->journal, journal_close);
  g_clear_pointer (&runner->op, op_free);
  g_clear_error (&runner->failure);
  g_free (runner->cancelled);
  g_free (runner->state_dir);
  g_free (runner);
}

static gboolean
on_deadline (gpointer data)
{
  Runner *runner = data;
  g_autofree char *why =
    g_strdup_printf ("not done within %" G_GUINT64_FORMAT " ms", runner->op->timeout_ms);
  runner_cancel (runner, why);
  return G_SOURCE_REMOVE;
}

static void
set_deadline (Runner *runner)
{
  guint64 ms = runner->op->timeout_ms;
  if (ms == 0)
    return;
  runner->deadline = g_timeout_source_new ((guint)MIN (ms, G_MAXUINT));
  g_source_set_callback (runner->deadline, on_deadline, runner, NULL);
  g_source_attach (runner->deadline, g_main_context_get_thread_default ());
}

gboolean
runner_start (Runner *runner, RunnerEnded ended, RunnerChanged changed, gpointer data, GError **error)
{
  Op *op = runner->op;
  op->started_us = g_get_real_time ();
  op_set_state (op, OP_RUNNING);
  if (!journal_begin (runner->journal, op, error)) {
    op->state = OP_PLANNED;
    return FALSE;
  }
  runner->on_ended = ended;
  runner->on_changed = changed;
  runner->data = data;
  link_lend (runner);
  set_deadline (runner);
  runner_after (runner, 0, begin_later);
  return TRUE;
}

static int
pivot_of (const Step *steps)
{
  for (int i = 0; steps[i].name != NULL; i++)
    if (steps[i].kind == STEP_PIVOT)
      return i;
  return 0;
}

static int
snapshot_of (const Step *steps)
{
  for (int i = 0; steps[i].name != NULL; i++)
    if (steps[i].undo_table != NULL)
      return i;
  return 0;
}

/* Where the journal and the world put us. */
static void
choose_direction (Runner *runner, World *world)
{
  Op *op = runner->op;
  int pivot = pivot_of (runner->main.steps);
  const Step *step = runner->main.steps + pivot;
  gboolean on = op->decided == DECIDED_NEW;
  if (runner->recover == RUN_BY_RECORD && !step->commits && op->decided == DECIDED_NOTHING &&
      op->state != OP_UNDOING)
    on = probe_all (runner, step) == SEEN_YES;
  if (runner->recover == RUN_ON && op->decided != DECIDED_OLD && op->state != OP_UNDOING)
    on = TRUE;
  runner->main.at = on && op->decided == DECIDED_NOTHING ? 0 : pivot;
  runner->main.back = !on;
  if (on && op->state == OP_STUCK)
    g_clear_error (&op->error);
  op_set_state (op, !on ? OP_UNDOING : op->decided == DECIDED_NEW ? OP_FINISHING : OP_RUNNING);
  if (op->decided == DECIDED_OLD) {
    /* Both layers were equal at the record; the fold can only go on from its pivot. */
    runner->main.at = snapshot_of (runner->main.steps);
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = fold_steps, .at = pivot_of (fold_steps)};
  } else if (!on || op->held) {
    /* Settle first: jobs in PENDING stop the guest's I/O, and a held guest waits for us. */
    runner->in_fold = TRUE;
    runner->fold = (Cursor){.steps = fold_steps, .at = pivot_of (fold_steps) - 1, .back = TRUE};
  }
  begin_step (runner);
}

gboolean
runner_recover (Runner *runner, RunDirection direction, RunnerEnded ended, RunnerChanged changed,
                gpointer data, GError **error)
{
  if (!journal_take_over (runner->journal, runner->op, error))
    return FALSE;
  if (direction == RUN_BACK && runner->op->decided == DECIDED_NEW) {
    fail (error, REFUSED, "operation %s took effect; it can only be finished", runner->op->id);
    journal_release (runner->journal, runner->op, FALSE, NULL);
    return FALSE;
  }
  runner->on_ended = ended;
  runner->on_changed = changed;
  runner->data = data;
  runner->resumed = TRUE;
  runner->recover = direction;
  link_lend (runner);
  look_then (runner, choose_direction);
  return TRUE;
}

void
runner_cancel (Runner *runner, const char *why)
{
  if (runner->ended || runner->cancelled != NULL || runner->in_fold || runner->main.back ||
      runner->op->state != OP_RUNNING || runner->op->decided != DECIDED_NOTHING)
    return;
  runner->cancelled = g_strdup (why);
  if (runner->busy > 0)
    lanes_abort (runner, INTERRUPTED, why);
}

void
runner_detach (Runner *runner)
{
  if (runner->ended)
    return;
  runner->detached = TRUE;
  if (!journal_release (runner->journal, runner->op, FALSE, NULL))
    g_message ("operation %s: the journal could not be written", runner->op->id);
  g_clear_error (&runner->op->error);
  fail (&runner->op->error, STUCK, "operation %s was let go of at step '%s'", runner->op->id,
        runner_step_name (runner));
  hint (&runner->op->error, "rechain recover --op %s", runner->op->id);
  end (runner);
}

static void
for_each_job (Runner *runner, const char *command, gint64 speed)
{
  for (guint i = 0; !runner->lost && runner->client && i < runner->op->disks->len; i++) {
    OpDisk *disk = op_disk (runner->op, i);
    const char *job = runner->in_fold ? disk->fold_job : disk->job;
    qmp_client_execute (runner->client, command,
                        json_make (speed < 0 ? "id" : "device", json_str (job), "speed",
                                   speed < 0 ? NULL : json_int (speed), NULL),
                        0, NULL, NULL);
  }
}

void
runner_pause (Runner *runner, gboolean pause)
{
  for_each_job (runner, pause ? "job-pause" : "job-resume", -1);
}

void
runner_set_bandwidth (Runner *runner, guint64 bytes_per_second)
{
  runner->op->bandwidth = bytes_per_second;
  guint64 share = bytes_per_second ? MAX (bytes_per_second / MAX (runner->op->disks->len, 1), 1) : 0;
  for_each_job (runner, "block-job-set-speed", (gint64)MIN (share, G_MAXINT64));
}

Op *
runner_op (Runner *runner)
{
  return runner->op;
}

gboolean
runner_was_detached (Runner *runner)
{
  return runner->detached;
}

void
runner_progress (Runner *runner, guint64 *ret_done, guint64 *ret_total, double *ret_rate)
{
  guint64 done = 0, total = 0;
  for (guint i = 0; i < runner->op->disks->len; i++) {
    done += op_disk (runner->op, i)->current;
    total += op_disk (runner->op, i)->total;
  }
  gint64 now = g_get_monotonic_time ();
  Sample *last = runner->samples + (runner->n_samples + N_SAMPLES - 1) % N_SAMPLES;
  if (runner->n_samples == 0 || now - last->us > 400 * G_TIME_SPAN_MILLISECOND)
    runner->samples[runner->n_samples++ % N_SAMPLES] = (Sample){.us = now, .bytes = done};
  Sample *first = runner->samples + (runner->n_samples > N_SAMPLES ? runner->n_samples % N_SAMPLES : 0);
  double seconds = (double)(now - first->us) / G_USEC_PER_SEC;
  *ret_done = done;
  *ret_total = total;
  *ret_rate = seconds > 0.2 && done > first->bytes ? (double)(done - first->bytes) / seconds : 0;
}
