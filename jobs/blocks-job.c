/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/blocks-job.h"

#include "jobs/blocks-hold.h"
#include "jobs/header.h"
#include "jobs/migration.h"

ChainLayer *
kept_base (OpDisk *disk)
{
  return (guint)disk->base < disk->before->len ? op_disk_layer (disk, disk->base) : NULL;
}

/* ---- starting -------------------------------------------------------------------------------- */

/* The node that block-commit and blockdev-mirror want: the root, be it a filter. */
static const char *
root_of (Op *op, OpDisk *disk, World *world)
{
  ChainDisk *now = world ? op_find_disk (op, disk, world) : NULL;
  return now ? now->root_node : disk->attach_to ? disk->attach_to : op_disk_layer (disk, 0)->node;
}

/* At an error a job pauses, and the undo cancels it. QEMU 7.2 does not survive a stream that aborts
 * by itself while the guest is being stopped for an I/O error: its filter stays behind as a dead
 * node (docs/qemu-findings.md). */
static Json *
how_it_runs (Op *op, Json *arguments)
{
  json_set (arguments, "speed", json_int ((gint64)bandwidth_share (op, op->disks->len)));
  json_set (arguments, "auto-finalize", json_flag (FALSE));
  json_set (arguments, "auto-dismiss", json_flag (FALSE));
  return arguments;
}

/* A backing name is always given: QEMU would otherwise write what it calls the node, which can be a
 * json: text that no other program opens (qemu-facts, 4). */
static void
start_stream (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ChainLayer *base = kept_base (disk);
  ask_qmp (
      asks, "block-stream",
      how_it_runs (op, json_make ("job-id", json_str (disk->job), "device", json_str (disk->node),
                                  "base-node", json_str (base ? base->node : NULL), "backing-file",
                                  json_str (base ? disk->backing : NULL), "backing-mask-protocol",
                                  base && op->mask_protocol ? json_flag (TRUE) : NULL, "on-error",
                                  json_str ("stop"), NULL)));
}

/* A job that stands at an error can be cancelled, and goes on where room is made. Before QEMU 6.2 a
 * mirror, or an active commit, that is to be completed and cannot flush does not listen to that,
 * and tries for ever (docs/qemu-findings.md). */
static const char *
error_action (Op *op, OpDisk *disk)
{
  return op->old_reopen && disk->grows == NULL ? "report" : "stop";
}

static void
start_commit (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  gboolean inner = disk->mode == MODE_COMMIT;
  ask_qmp (
      asks, "block-commit",
      how_it_runs (op, json_make ("job-id", json_str (disk->job), "device",
                                  json_str (root_of (op, disk, world)), "top-node",
                                  json_str (op_disk_layer (disk, disk->first)->node), "base-node",
                                  json_str (kept_base (disk)->node), "backing-file",
                                  json_str (inner ? disk->backing : NULL), "backing-mask-protocol",
                                  inner && op->mask_protocol ? json_flag (TRUE) : NULL, "on-error",
                                  json_str (inner ? "stop" : error_action (op, disk)), NULL)));
}

/* The node under a filter is named to be replaced, so that the filter stays above the target. */
static void
start_mirror (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  const char *active = op_disk_layer (disk, 0)->node, *root = root_of (op, disk, world);
  gboolean filtered = g_strcmp0 (root, active) != 0;
  ask_qmp (asks, "blockdev-mirror",
           how_it_runs (op, json_make ("job-id", json_str (disk->job), "device", json_str (root),
                                       "replaces", json_str (filtered ? active : NULL), "target",
                                       json_str (disk->node), "sync",
                                       json_str ((op->flags & OP_SHALLOW) ? "top" : "full"),
                                       "on-source-error", json_str ("stop"), "on-target-error",
                                       json_str (error_action (op, disk)), NULL)));
}

void
start_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  static const StartJob starts[N_OP_MODES] = {
      [MODE_STREAM] = start_stream,
      [MODE_COMMIT] = start_commit,
      [MODE_COMMIT_ACTIVE] = start_commit,
      [MODE_MIRROR] = start_mirror,
  };
  if (starts[disk->mode] != NULL && (world == NULL || world_job (world, disk->job) == NULL))
    starts[disk->mode](op, disk, world, asks);
}

Seen
job_is_started (Op *op, OpDisk *disk, World *world)
{
  return world_job (world, disk->job) ? SEEN_YES : SEEN_NO;
}

/* ---- copying --------------------------------------------------------------------------------- */

void
wait_for_copy (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!op_disk_is_beside (disk))
    ask_wait (asks, disk->job, op_disk_switches (disk) ? JOB_READY : JOB_PENDING);
}

Seen
is_copied (Op *op, OpDisk *disk, World *world)
{
  return job_is_there (world, disk->job);
}

void
end_own_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  end_job (op, world, disk->job, asks);
}

void
flush_receiver (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (!op_disk_is_beside (disk))
    flush_node (disk->node, asks);
}

void
flush_copied (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_migration (op, asks);
  flush_receiver (op, disk, world, asks);
}

/* ---- the pivot ------------------------------------------------------------------------------- */

void
finalize_job (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  /* Done before we were interrupted; the graph is looked at in any case. */
  if (op_disk_is_beside (disk) || (world != NULL && world_job (world, disk->job) == NULL))
    return;
  Ask *ask = ask_qmp (asks, "job-finalize", json_make ("id", json_str (disk->job), NULL));
  ask->job = disk->job;
  ask->wanted = JOB_CONCLUDED;
  record_and_dismiss (disk->job, asks);
}

static gboolean
header_is_right (OpDisk *disk, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (disk->header == NULL)
    return TRUE;
  if (!image_header_read (disk->header, &header, error))
    return prefix (error, "read back the header of '%s'", disk->header);
  return g_strcmp0 (header.backing, disk->backing) == 0 ||
         fail (error, FAILED, "the header of '%s' names the backing file '%s' and not '%s'",
               disk->header, header.backing ? header.backing : "",
               disk->backing ? disk->backing : "");
}

gboolean
chain_is_new (Op *op, OpDisk *disk, World *world, GError **error)
{
  return header_is_right (disk, error) && shows_planned_chain (op, disk, world, error);
}

Seen
is_on_new_chain (Op *op, OpDisk *disk, World *world)
{
  return chain_is_new (op, disk, world, NULL) ? SEEN_YES : SEEN_NO;
}
