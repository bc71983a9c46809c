/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/plan.h"

#include "jobs/bitmaps.h"
#include "jobs/blocks-unlock.h"
#include "jobs/engine.h"
#include "jobs/image.h"
#include "jobs/records.h"
#include "jobs/run.h"
#include "src/common/fs.h"

#include <string.h>

/* QEMU 7.2: mirror-like jobs may start while writes are in flight (upstream da93d5c84e). */
#define FIRST_SAFE_START 70200u

typedef struct {
  PlanContext context;
  const Request *request;
  Journal *journal;   /* to see other operations; NULL where there is none yet */
  GPtrArray *records; /* Record* of the VM */
  Op *op;
  guint asking;  /* of qemu-img, and of the guest agent */
  Json *bitmaps; /* offline: of each layer, by node name */
  GError *error;
  PlanReady callback;
  gpointer data;
} Plan;

/* What qemu-img is asked about one disk. */
typedef struct {
  Plan *plan;
  OpDisk *disk;
  const ChainLayer *layer; /* where it is asked about one */
} Question;

/* ---- one disk -------------------------------------------------------------------------------- */

static char *
stem_of (const char *file)
{
  static const char *const endings[] = {".qcow2", ".img", ".raw", ".qcow"};
  for (gsize i = 0; i < G_N_ELEMENTS (endings); i++)
    if (g_str_has_suffix (file, endings[i]))
      return g_strndup (file, strlen (file) - strlen (endings[i]));
  return g_strdup (file);
}

/* Beside the active image, named after it and the snapshot. */
static char *
default_target (Op *op, ChainLayer *active)
{
  g_autofree char *stem = stem_of (active->file);
  return g_strdup_printf ("%s.%s.qcow2", stem, op->name);
}

static gboolean
choose_base (OpDisk *disk, const RequestDisk *wanted, OpKind kind, GError **error)
{
  int none = (int)disk->before->len;
  if (kind == OP_SNAPSHOT)
    disk->base = 0;
  else if (wanted->base == NULL)
    disk->base = MIN (1, none);
  else if (g_str_equal (wanted->base, "none"))
    disk->base = none;
  else
    disk->base = chain_find_layer (disk->before, wanted->base, error);
  if (disk->base < 0)
    return prefix (error, "base of disk '%s'", disk->name);
  if (kind == OP_MOVE && disk->base == 0) {
    fail (error, REFUSED, "base of disk '%s': '%s' is its active layer", disk->name, wanted->base);
    return hint (error, "the base must lie under the active layer; 'none' copies everything");
  }
  return TRUE;
}

char *
plan_backing_name (Op *op, const char *overlay, const char *file)
{
  if (file[0] != '/')
    return g_strdup (file);
  return (op->flags & OP_RELATIVE) ? path_relative (overlay, file) : g_strdup (file);
}

/* A new active layer that is backed by the old one, at first. */
static gboolean
plan_overlay_disk (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  ChainLayer *active = disk->before->pdata[0];
  if (wanted->format != NULL && !g_str_equal (wanted->format, "qcow2")) {
    fail (error, REFUSED, "disk '%s': the new layer cannot be '%s'", disk->name, wanted->format);
    return hint (error, "an overlay is qcow2; 'copy' is the operation that changes formats");
  }
  if (!choose_base (disk, wanted, op->kind, error))
    return FALSE;
  disk->mode = op->kind == OP_MOVE ? MODE_STREAM : MODE_NONE;
  disk->receiver = g_strdup (disk->to);
  disk->header = g_strdup (disk->to);
  disk->backing_first = plan_backing_name (op, disk->to, active->file);
  if ((guint)disk->base >= disk->before->len)
    return TRUE;
  ChainLayer *base = disk->before->pdata[disk->base];
  disk->backing = plan_backing_name (op, disk->to, base->file);
  disk->backing_format = g_strdup (base->format);
  return TRUE;
}

static gboolean
remember_dropped (OpDisk *disk, GError **error)
{
  for (int i = disk->first; i < disk->base; i++) {
    FileId id = {0};
    gboolean exists;
    const char *file = ((ChainLayer *)disk->before->pdata[i])->file;
    if (file[0] == '/' && !file_identify (file, &id, &exists, error))
      return FALSE;
    g_ptr_array_add (disk->old_ids, g_memdup2 (&id, sizeof id));
  }
  return TRUE;
}

/* What is the same for all, once the layers are chosen. @world: NULL offline. */
static gboolean
finish_disk (Op *op, OpDisk *disk, World *world, GError **error)
{
  return remember_dropped (disk, error) && plan_check_dropped (op, disk, world, error) &&
         file_free_space (disk->receiver, &disk->free, error);
}

static OpDisk *
new_disk (Op *op, ChainDisk *found, World *world)
{
  OpDisk *disk = op_add_disk (op, found->name);
  ChainLayer *active = found->layers->pdata[0];
  disk->qdev = g_strdup (found->qdev);
  disk->drive = g_strdup (found->drive);
  for (guint i = 0; i < found->layers->len; i++)
    g_ptr_array_add (disk->before, chain_layer_copy (found->layers->pdata[i]));
  if (g_strcmp0 (found->root_node, active->node) != 0)
    disk->attach_to = g_strdup (found->root_node);
  disk->cache = world_node_cache (world, active->node);
  return disk;
}

/* Map and the like: the chain stays, so that what is said of a new layer does not matter. */
static gboolean
add_region_disk (Plan *plan, ChainDisk *found, const RequestDisk *wanted, GError **error)
{
  if (!plan_check_region_disk (&plan->context, plan->op->kind, plan->journal, found, error))
    return FALSE;
  OpDisk *disk = new_disk (plan->op, found, plan->context.world);
  if (plan->op->flags & OP_DETACH_BACKING) {
    plan->op->on_record |= records_touch (plan->records, plan->op, disk);
    if (!plan_detach (plan->op, disk, wanted, plan->context.world, error) ||
        !remember_dropped (disk, error))
      return FALSE;
  }
  op_name_disk (plan->op, disk);
  return plan_add_regions (plan->op, disk, &plan->context, found, wanted, error);
}

/* What is made lies beside the chain. */
static gboolean
add_beside (Plan *plan, ChainDisk *found, const RequestDisk *wanted, GError **error)
{
  Op *op = plan->op;
  OpDisk *disk = new_disk (op, found, plan->context.world);
  if (!plan_beside_disk (op, disk, wanted, plan->request, error))
    return FALSE;
  op_name_disk (op, disk);
  return plan_check_beside (op, disk, error);
}

static gboolean
is_in (Op *op, const char *disk)
{
  for (guint i = 0; i < op->disks->len; i++)
    if (g_str_equal (op_disk (op, i)->name, disk))
      return TRUE;
  return FALSE;
}

static gboolean
add_disk (Plan *plan, const RequestDisk *wanted, GError **error)
{
  Op *op = plan->op;
  World *world = plan->context.world;
  ChainDisk *found = world_find_disk (world, wanted->disk, error);
  if (found == NULL)
    return FALSE;
  if (is_in (op, found->name))
    return fail (error, USAGE, "disk '%s' is named twice", found->name);
  if (op_has_regions (op))
    return add_region_disk (plan, found, wanted, error);
  if (!plan_check_disk (found, plan->journal, op->vm, error))
    return FALSE;
  if (plan_is_beside (wanted))
    return add_beside (plan, found, wanted, error);
  if (wanted->device != NULL || wanted->size != NULL || wanted->subvolume != NULL) {
    fail (error, USAGE, "disk '%s': device, size and subvolume go with a method", wanted->disk);
    return hint (error, "add method=lvm or method=btrfs");
  }
  OpDisk *disk = new_disk (op, found, world);
  disk->on_delete = merge_direction_parse (wanted->on_delete);
  if (wanted->to != NULL)
    disk->to = plan_target (plan->request, wanted, error);
  else if (op->kind == OP_SNAPSHOT)
    disk->to = default_target (op, disk->before->pdata[0]);
  if (wanted->to != NULL && disk->to == NULL)
    return FALSE;
  op->on_record |= op->kind != OP_SNAPSHOT && records_touch (plan->records, op, disk);
  gboolean planned = disk->to == NULL      ? plan_merge_disk (op, disk, wanted, world, error)
                     : op->kind == OP_COPY ? plan_copy_disk (op, disk, wanted, error)
                                           : plan_overlay_disk (op, disk, wanted, error);
  if (!planned)
    return FALSE;
  op_name_disk (op, disk);
  plan_bitmaps (op, disk, &(BitmapSource){.world = world});
  if (disk->mode == MODE_STREAM && disk->to == NULL &&
      !plan_check_subclusters (&plan->context, disk, disk->receiver, error))
    return FALSE;
  if (disk->to == NULL && writes_to_locked (disk))
    op->unlocks = TRUE;
  return (disk->to == NULL || plan_check_target (op, disk, world, error)) &&
         finish_disk (op, disk, world, error) &&
         plan_grow_disk (op, disk, plan->request, world, error);
}

/* ---- all disks ------------------------------------------------------------------------------- */

/* All that the guest can write to, besides those that were named. */
static gboolean
add_all (Plan *plan, GError **error)
{
  GPtrArray *disks = world_disks (plan->context.world);
  g_autoptr (GPtrArray) left_out = g_ptr_array_new_with_free_func (g_free);
  if (!plan_find_left_out (plan->request, plan->context.world, left_out, error))
    return FALSE;
  for (guint i = 0; i < disks->len; i++) {
    ChainDisk *found = disks->pdata[i];
    RequestDisk all = {.disk = found->name};
    if (is_in (plan->op, found->name) ||
        g_ptr_array_find_with_equal_func (left_out, found->name, g_str_equal, NULL))
      continue;
    if (found->inserted && !found->read_only && found->qdev != NULL &&
        !add_disk (plan, &all, error))
      return FALSE;
  }
  if (plan->op->disks->len > 0)
    return TRUE;
  fail (error, NOT_FOUND, "the VM has no writable disk");
  return hint (error, "rechain chain shows what it has");
}

/* The disk is gone, and all that is known of its chain is what is on record. */
static OpDisk *
new_gone_disk (Op *op, const RecordDisk *from)
{
  const ChainLayer layer = {.file = from->new_file, .format = from->new_format};
  OpDisk *disk = op_add_disk (op, from->disk);
  g_ptr_array_add (disk->before, chain_layer_copy (&layer));
  return disk;
}

/* It lies beside a chain, which does not change. */
static gboolean
add_drop (Plan *plan, const Record *record, const RecordDisk *from, GError **error)
{
  Op *op = plan->op;
  ChainDisk *found = world_find_disk (plan->context.world, from->disk, NULL);
  if (!plan_check_not_taken (plan->journal, op->vm, from->disk, error))
    return FALSE;
  OpDisk *disk = found ? new_disk (op, found, plan->context.world) : new_gone_disk (op, from);
  op->on_record = TRUE;
  if (!record_check_no_disks_layer (from, plan->context.world, error) ||
      !plan_beside_deletion (disk, record, from, error))
    return prefix (error, "disk '%s'", from->disk);
  op_name_disk (op, disk);
  return TRUE;
}

static gboolean
add_deletion (Plan *plan, GError **error)
{
  Request *merges = plan_deletion (plan->request, plan->records, plan->context.world, error);
  Record *record = merges ? records_find (plan->records, plan->request->name, error) : NULL;
  gboolean ok = record != NULL;
  for (guint i = 0; ok && i < merges->disks->len; i++)
    ok = add_disk (plan, merges->disks->pdata[i], error);
  for (guint i = 0; ok && i < record->disks->len; i++)
    if (record_disk_is_beside (record_disk (record, i)))
      ok = add_drop (plan, record, record_disk (record, i), error);
  request_free (merges);
  return ok;
}

static gboolean
fill_from_vm (Plan *plan, const Request *request, GError **error)
{
  Op *op = plan->op;
  QmpClient *client = plan->context.client;
  op_set_vm (op, client);
  op->mask_protocol = qmp_features_has (plan->context.features, FEATURE_STREAM_MASK_PROTOCOL);
  op->old_reopen = !qmp_features_has (plan->context.features, FEATURE_BLOCKDEV_REOPEN);
  op->start_held = qmp_client_get_version (client) < FIRST_SAFE_START;
  op->max_freeze_ms = request->max_freeze_ms;
  op->agent = g_strdup (request->agent);
  op->was_running = world_running (plan->context.world);
  plan_add_notes (op);
  GError *unreadable = NULL;
  plan->records = records_list (plan->journal, op->vm, &unreadable);
  if (unreadable != NULL) {
    g_propagate_error (error, unreadable);
    return FALSE;
  }
  if (!plan_check_vm (&plan->context, request, error) || !plan_check_freezable (op, error) ||
      !plan_name_snapshot (op, request, plan->records, error))
    return FALSE;
  if (request->kind == OP_QUIESCE)
    return plan_check_none_open (plan->journal, op->vm, error);
  if (request->kind == OP_SNAPSHOT_DELETE)
    return add_deletion (plan, error);
  if (request->disks->len == 0 && request->kind != OP_SNAPSHOT)
    return fail (error, USAGE, "no disk is named");
  for (guint i = 0; i < request->disks->len; i++) {
    RequestDisk *wanted = request->disks->pdata[i];
    if (wanted->left_out)
      continue;
    if ((request->kind == OP_MOVE || request->kind == OP_COPY) && wanted->to == NULL)
      return fail (error, USAGE, "disk '%s': no target is named (to=FILE)", wanted->disk);
    if (!add_disk (plan, wanted, error))
      return FALSE;
  }
  return !(request->disks->len == 0 || request->all_others) || add_all (plan, error);
}

/* ---- offline --------------------------------------------------------------------------------- */

static gboolean
add_offline (Plan *plan, const RequestDisk *wanted, const char *name, GError **error)
{
  Op *op = plan->op;
  if (!plan_add_offline (op, plan->request, wanted, name, plan->journal, error))
    return FALSE;
  OpDisk *disk = op_disk (op, op->disks->len - 1);
  op->on_record |= records_touch (plan->records, op, disk);
  return finish_disk (op, disk, NULL, error);
}

static gboolean
add_drop_offline (Plan *plan, const Record *record, const RecordDisk *from, GError **error)
{
  const RequestDisk wanted = {.disk = from->new_file, .format = from->new_format};
  g_autofree char *why = NULL;
  if (!record_beside_is_there (from, &why))
    return fail (error, REFUSED, "disk '%s': %s", from->disk, why);
  OpDisk *disk = access (from->new_file, F_OK) == 0
                     ? plan_look_offline (plan->op, &wanted, from->disk, error)
                     : new_gone_disk (plan->op, from);
  if (disk == NULL || !record_check_no_layer (from, from->disk, disk->before, error) ||
      !plan_beside_deletion (disk, record, from, error))
    return prefix (error, "disk '%s'", from->disk);
  op_name_disk (plan->op, disk);
  return TRUE;
}

/* The name of the disk that the @nth merge of @record is of. */
static const char *
name_of_merge (Record *record, guint nth)
{
  for (guint i = 0; i < record->disks->len; i++)
    if (!record_disk_is_beside (record_disk (record, i)) && nth-- == 0)
      return record_disk (record, i)->disk;
  return NULL;
}

static gboolean
add_deletion_offline (Plan *plan, GError **error)
{
  Op *op = plan->op;
  Record *record;
  if (plan->request->name == NULL)
    return fail (error, USAGE, "no snapshot is named");
  Request *merges = plan_deletion_offline (plan->request, plan->records, &record, error);
  gboolean ok = merges != NULL;
  op->name = g_strdup (plan->request->name);
  op->on_record = TRUE;
  for (guint i = 0; ok && i < merges->disks->len; i++)
    ok = add_offline (plan, merges->disks->pdata[i], name_of_merge (record, i), error);
  for (guint i = 0; ok && i < record->disks->len; i++)
    if (record_disk_is_beside (record_disk (record, i)))
      ok = add_drop_offline (plan, record, record_disk (record, i), error);
  g_ptr_array_insert (
      op->notes, 0,
      g_strdup_printf ("the VM '%s' is off: its images are worked on", plan->context.vm));
  request_free (merges);
  return ok;
}

static gboolean
fill_offline (Plan *plan, const Request *request, GError **error)
{
  gboolean deletes = request->kind == OP_SNAPSHOT_DELETE;
  plan->records = records_list (plan->journal, deletes ? plan->context.vm : NULL, error);
  if (plan->records == NULL)
    return FALSE;
  if (deletes)
    return add_deletion_offline (plan, error);
  if (request->disks->len != 1)
    return fail (error, USAGE, "an offline operation takes one image");
  return add_offline (plan, request->disks->pdata[0], NULL, error);
}

static gboolean
fill (Plan *plan, const Request *request, GError **error)
{
  Op *op = plan->op;
  op->flags = request->flags;
  op->bandwidth = request->bandwidth;
  op->timeout_ms = request->timeout_ms;
  op->max_pause_ms = request->max_pause_ms;
  op->grow_step = request->grow_step;
  GError *unreadable = NULL;
  plan->journal = journal_open_to_read (plan->context.state_dir, &unreadable);
  if (unreadable != NULL) {
    g_propagate_error (error, unreadable);
    return FALSE;
  }
  if (plan->context.client == NULL && op->grow_step > 0)
    return fail (error, USAGE, "--grow-lv goes with a running VM only");
  if (plan->context.client != NULL)
    return fill_from_vm (plan, request, error) && plan_check_grows (op, error);
  return fill_offline (plan, request, error);
}

/* ---- images
 * -----------------------------------------------------------------------------------------------
 */

static gboolean
tell (gpointer data)
{
  Plan *plan = data;
  if (plan->error == NULL)
    plan_check_space (plan->op, &plan->error);
  if (plan->error == NULL)
    plan_check_groups (plan->op, &plan->error);
  gboolean merges = op_is_offline (plan->op) && plan->op->kind != OP_ALLOCATE;
  for (guint i = 0; merges && plan->error == NULL && i < plan->op->disks->len; i++)
    if (!op_disk_is_beside (op_disk (plan->op, i)))
      plan_bitmaps_offline (plan->op, op_disk (plan->op, i), plan->bitmaps, &plan->error);
  if (plan->error != NULL)
    g_clear_pointer (&plan->op, op_free);
  plan->callback (plan->op, plan->error, plan->data);
  g_clear_error (&plan->error);
  g_clear_pointer (&plan->journal, journal_close);
  g_clear_pointer (&plan->records, g_ptr_array_unref);
  g_clear_pointer (&plan->bitmaps, json_clear);
  g_free (plan);
  return G_SOURCE_REMOVE;
}

/* Takes @bad, nullable. */
static void
answered_plan (Plan *plan, GError *bad)
{
  if (plan->error == NULL)
    plan->error = bad;
  else
    g_clear_error (&bad);
  if (--plan->asking == 0)
    tell (plan);
}

static void
answered (Question *question, GError *bad)
{
  Plan *plan = question->plan;
  g_free (question);
  answered_plan (plan, bad);
}

static void
on_answer (GError *take_error, gpointer data)
{
  answered (data, take_error);
}

/* What a reused file holds would hide what the guest has there. */
static void
on_mapped (const char *out, const GError *error, gpointer data)
{
  Question *question = data;
  const char *to = question->disk->to;
  gboolean empty = TRUE;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL && image_map_parse (out, &empty, &bad) && !empty) {
    fail (&bad, REFUSED, "it is not empty, and what it holds would hide what the guest has there");
    hint (&bad, "make it anew (qemu-img create), or leave --reuse out and name another file");
  }
  prefix (&bad, "reuse '%s'", to);
  answered (question, bad);
}

static void
on_layer_info (const char *out, const GError *error, gpointer data)
{
  Question *question = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL)
    json_set (question->plan->bitmaps, question->layer->node, bitmaps_from_info (out));
  prefix (&bad, "read the dirty bitmaps of '%s'", question->layer->file);
  answered (question, bad);
}

static void
on_engine_version (const char *out, const GError *error, gpointer data)
{
  Question *question = data;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL)
    plan_check_engine (question->plan->op, question->disk, out, &bad);
  answered (question, bad);
}

static void
ask_of_layer (Plan *plan, OpDisk *disk, const ChainLayer *layer, char **take_argv, ImageDone done)
{
  g_auto (GStrv) argv = take_argv;
  Question *question = g_new0 (Question, 1);
  *question = (Question){.plan = plan, .disk = disk, .layer = layer};
  plan->asking++;
  image_run ((const char *const *)argv, IMAGE_QUESTION, done, question);
}

static void
ask (Plan *plan, OpDisk *disk, char **take_argv, ImageDone done)
{
  ask_of_layer (plan, disk, NULL, take_argv, done);
}

static void
ask_offline (Plan *plan, OpDisk *disk)
{
  if (op_disk_is_beside (disk))
    return;
  if (plan->bitmaps == NULL)
    plan->bitmaps = json_object_new_object ();
  ask (plan, disk, engine_version_args (), on_engine_version);
  for (int i = 0; plan->op->kind != OP_ALLOCATE && i < (int)disk->before->len; i++) {
    const ChainLayer *layer = disk->before->pdata[i];
    if (plan_layer_has_bitmaps (disk, i))
      ask_of_layer (plan, disk, layer, image_info_args (layer->file, layer->format), on_layer_info);
  }
}

static void
ask_space (Plan *plan, OpDisk *disk)
{
  Question *question = g_new0 (Question, 1);
  GError *error = NULL;
  *question = (Question){.plan = plan, .disk = disk};
  if (plan_ask_space (&plan->context, plan->op, disk, on_answer, question, &error)) {
    plan->asking++;
    return;
  }
  g_free (question);
  if (plan->error == NULL)
    plan->error = error;
  else
    g_clear_error (&error);
}

static void
ask_iothread (Plan *plan, OpDisk *disk)
{
  Question *question = g_new0 (Question, 1);
  *question = (Question){.plan = plan, .disk = disk};
  if (plan_ask_iothread (&plan->context, plan->op->kind, disk, on_answer, question))
    plan->asking++;
  else
    g_free (question);
}

/* The guest cannot be frozen for the reason @why, which is taken. In best effort the snapshot is
 * taken all the same, and it is told of what: NULL. */
static GError *
without_freeze (Op *op, GError *why)
{
  const char *cause = rechain_error_get_cause (why);
  if (why == NULL || !(op->flags & OP_BEST_EFFORT))
    return why;
  op->flags &= ~(guint)OP_QUIESCED;
  g_ptr_array_add (op->notes,
                   g_strdup_printf ("the guest's filesystems are not frozen: %s%s%s", why->message,
                                    cause ? ": " : "", cause ? cause : ""));
  g_error_free (why);
  return NULL;
}

static void
on_agent_checked (const GError *error, gpointer data)
{
  Plan *plan = data;
  answered_plan (plan, without_freeze (plan->op, error ? g_error_copy (error) : NULL));
}

static void
ask_agent_of (Plan *plan)
{
  Op *op = plan->op;
  GError *error = NULL;
  if (op->kind != OP_QUIESCE && !(op->flags & OP_QUIESCED))
    return;
  if (plan_check_agent (op, plan->context.world, on_agent_checked, plan, &error))
    plan->asking++;
  else
    plan->error = without_freeze (op, error);
}

typedef gboolean (*AskLvm) (Op *op, OpDisk *disk, PlanAnswer answer, gpointer data);

static void
ask_lvm_of (Plan *plan, OpDisk *disk, AskLvm ask_it)
{
  Question *question = g_new0 (Question, 1);
  *question = (Question){.plan = plan, .disk = disk};
  if (ask_it (plan->op, disk, on_answer, question))
    plan->asking++;
  else
    g_free (question);
}

/* FALSE: nothing was to be asked. */
static gboolean
ask_around (Plan *plan)
{
  ask_agent_of (plan);
  gboolean fits = plan->request->brief && !op_is_offline (plan->op) && plan_has_room (plan->op);
  plan->op->locks = plan->op->vm != NULL && op_layers_are_open (plan->op);
  for (guint i = 0; i < plan->op->disks->len; i++) {
    OpDisk *disk = op_disk (plan->op, i);
    ask_lvm_of (plan, disk, plan_ask_lvm);
    ask_lvm_of (plan, disk, plan_ask_grow);
    if (op_is_offline (plan->op))
      ask_offline (plan, disk);
    if (!fits)
      ask_space (plan, disk);
    if (op_has_regions (plan->op) && !op_is_offline (plan->op))
      ask_iothread (plan, disk);
    if ((plan->op->flags & OP_REUSE) && disk->mode != MODE_MIRROR)
      ask (plan, disk, image_map_args (disk->to), on_mapped);
  }
  return plan->asking > 0;
}

void
plan_make (const PlanContext *context, const Request *request, PlanReady callback, gpointer data)
{
  Plan *plan = g_new0 (Plan, 1);
  *plan = (Plan){.context = *context,
                 .request = request,
                 .op = op_new (request->kind),
                 .callback = callback,
                 .data = data};
  if (!fill (plan, request, &plan->error) || !ask_around (plan)) {
    g_autoptr (GSource) source = g_idle_source_new ();
    g_source_set_priority (source, G_PRIORITY_DEFAULT);
    g_source_set_callback (source, tell, plan, NULL);
    g_source_attach (source, g_main_context_get_thread_default ());
  }
}

/* ---- printing -------------------------------------------------------------------------------- */

/* Appends to the lists in @row. */
static void
print_asks (const Step *step, Op *op, OpDisk *disk, Json *row)
{
  g_autoptr (GPtrArray) asks = step_asks (step, op, disk, NULL);
  for (guint i = 0; i < asks->len; i++) {
    Ask *ask = asks->pdata[i];
    if (ask->command != NULL)
      json_append (json_get (row, "qmp"), ask_to_qmp (ask));
    else if (ask->agent != NULL)
      json_append (json_get (row, "agent"), ask_to_qmp (ask));
    else if (ask->argv != NULL) {
      Json *words = json_array ();
      for (char **word = ask->argv; *word != NULL; word++)
        json_append (words, json_str (*word));
      json_append (json_get (row, "argv"), words);
    } else if (ask->says != NULL)
      json_append (json_get (row, "local"), json_str (ask->says));
  }
}

Json *
plan_steps_to_json (Op *op)
{
  Json *all = json_array ();
  for (const Step *step = steps_of (op); step->name != NULL; step++) {
    if (step->applies != NULL && !step->applies (op))
      continue;
    Json *row = json_make ("step", json_str (step->name), "kind",
                           json_str (step_kind_name (step->kind)), "says", json_str (step->says),
                           "qmp", json_array (), "argv", json_array (), "local", json_array (),
                           "agent", json_array (), "undo", json_str (step->undo_says), NULL);
    for (guint i = 0; i < (step->once ? 1 : op->disks->len); i++)
      print_asks (step, op, step->once ? NULL : op_disk (op, i), row);
    json_append (all, row);
  }
  return all;
}
