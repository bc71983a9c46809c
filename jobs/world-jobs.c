/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads jobs and exports, and tells each disk which ones touch its chain. */
#include "jobs/world-private.h"

#define MAX_JOBS    1024u
#define MAX_EXPORTS 4096u

static void
read_block_job (World *world, Json *row)
{
  const char *id = json_get_str (row, "device");
  ChainJob *job = id ? g_hash_table_lookup (world->job_ids, id) : NULL;
  if (job == NULL)
    return;
  job->paused = json_get_bool (row, "paused");
  job->has_speed = json_has (row, "speed");
  job->speed = (guint64)MAX (json_get_int (row, "speed"), 0);
  if (job->error == NULL)
    job->error = g_strdup (json_get_str (row, "error"));
}

/* @names: the members that hold id, current and total. */
static void
read_job (World *world, Json *row, const char *const names[3])
{
  const char *id = json_get_str (row, names[0]);
  const char *type = json_get_str (row, "type"), *status = json_get_str (row, "status");
  if (id == NULL || g_hash_table_contains (world->job_ids, id))
    return;
  ChainJob *job = g_new0 (ChainJob, 1);
  *job = (ChainJob){.id = g_strdup (id),
                    .type = g_strdup (type ? type : "unknown"),
                    .status = g_strdup (status ? status : "undefined"),
                    .error = g_strdup (json_get_str (row, "error")),
                    .ours = g_str_has_prefix (id, "rc-"),
                    .current = (guint64)MAX (json_get_int (row, names[1]), 0),
                    .total = (guint64)MAX (json_get_int (row, names[2]), 0)};
  job->paused = g_str_equal (job->status, "paused") || g_str_equal (job->status, "standby");
  g_ptr_array_add (world->jobs, job);
  g_hash_table_insert (world->job_ids, job->id, job);
}

static void
job_belongs (World *world, Parent *parent)
{
  ChainJob *job = g_hash_table_lookup (world->job_ids, parent->name);
  g_autoptr (GHashTable) done = g_hash_table_new (NULL, NULL);
  for (guint i = 0; job != NULL && i < parent->nodes->len; i++) {
    Node *node = parent->nodes->pdata[i];
    for (guint k = 0; k < node->disks->len; k++) {
      ChainDisk *disk = node->disks->pdata[k];
      if (g_hash_table_add (done, disk))
        g_ptr_array_add (disk->jobs, chain_job_copy (job));
    }
  }
}

void
world_read_jobs (World *world)
{
  static const char *const job[] = {"id", "current-progress", "total-progress"};
  static const char *const block_job[] = {"device", "offset", "len"};
  Json *jobs = world_reply (world, "query-jobs"),
       *block_jobs = world_reply (world, "query-block-jobs");
  for (gsize i = 0; i < MIN (json_length (jobs), MAX_JOBS); i++)
    read_job (world, json_at (jobs, i), job);
  for (gsize i = 0; i < MIN (json_length (block_jobs), MAX_JOBS); i++) {
    read_job (world, json_at (block_jobs, i), block_job);
    read_block_job (world, json_at (block_jobs, i));
  }
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, world->parents);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (((Parent *)value)->type == PARENT_JOB)
      job_belongs (world, value);
}

/* An export may sit on a filter of its own over a disk's node: what it shows is that node. */
static Node *
exported_node (Node *node)
{
  gboolean is_filter;
  for (guint i = 0; node != NULL && node->disks->len == 0 && i < MAX_NESTING; i++) {
    Node *below = node_below (node, &is_filter);
    node = is_filter || g_str_equal (node->driver, "raw") ? below : NULL;
  }
  return node;
}

void
world_read_exports (World *world)
{
  Json *rows = world_reply (world, "query-block-exports");
  for (gsize i = 0; i < MIN (json_length (rows), MAX_EXPORTS); i++) {
    const char *id = json_get_str (json_at (rows, i), "id");
    Node *node = world_find_node (world, json_get_str (json_at (rows, i), "node-name"));
    Node *shown = exported_node (node);
    if (node != NULL && !world->has_graph)
      node->parents++;
    for (guint k = 0; id != NULL && shown != NULL && k < shown->disks->len; k++) {
      ChainDisk *disk = shown->disks->pdata[k];
      g_ptr_array_add (disk->exports, g_strdup (id));
      if (node->written || !world->has_graph)
        g_ptr_array_add (disk->writable_exports, g_strdup (id));
    }
  }
}
