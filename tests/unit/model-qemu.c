/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/model-private.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

static void
listen_again (Model *model);

/* ---- finding --------------------------------------------------------------------------------- */

ModelNode *
model_node (Model *model, const char *name)
{
  for (guint i = 0; i < model->nodes->len; i++)
    if (g_strcmp0 (((ModelNode *)model->nodes->pdata[i])->name, name) == 0)
      return model->nodes->pdata[i];
  return NULL;
}

ModelJob *
model_job (Model *model, const char *id)
{
  for (guint i = 0; i < model->jobs->len; i++)
    if (g_strcmp0 (((ModelJob *)model->jobs->pdata[i])->id, id) == 0)
      return model->jobs->pdata[i];
  return NULL;
}

ModelDevice *
model_device_on (Model *model, const char *node)
{
  for (guint i = 0; i < model->devices->len; i++)
    if (g_strcmp0 (((ModelDevice *)model->devices->pdata[i])->root, node) == 0)
      return model->devices->pdata[i];
  return NULL;
}

int
model_value_of (Model *model, const char *name)
{
  for (ModelNode *node = model_node (model, name); node; node = model_node (model, node->backing))
    if (node->value != 0)
      return node->value;
  return 0;
}

static ModelDevice *
device_named (Model *model, const char *name)
{
  for (guint i = 0; i < model->devices->len; i++)
    if (g_str_equal (((ModelDevice *)model->devices->pdata[i])->name, name))
      return model->devices->pdata[i];
  return NULL;
}

int
model_read (Model *model, const char *device)
{
  return model_value_of (model, device_named (model, device)->root);
}

char **
model_chain (Model *model, const char *device)
{
  g_autoptr (GStrvBuilder) files = g_strv_builder_new ();
  ModelNode *node = model_node (model, device_named (model, device)->root);
  for (; node != NULL; node = model_node (model, node->backing))
    g_strv_builder_add (files, model_node (model, node->file)->filename);
  return g_strv_builder_end (files);
}

guint
model_count (Model *model, const char *prefix)
{
  guint n = 0;
  for (guint i = 0; i < model->nodes->len; i++)
    n += g_str_has_prefix (((ModelNode *)model->nodes->pdata[i])->name, prefix);
  for (guint i = 0; i < model->jobs->len; i++)
    n += g_str_has_prefix (((ModelJob *)model->jobs->pdata[i])->id, prefix);
  return n;
}

guint
model_asked (Model *model, const char *command)
{
  guint n = 0;
  for (guint i = 0; i < model->log->len; i++)
    n += g_str_equal (model->log->pdata[i], command);
  return n;
}

void
model_replace (char **field, const char *value)
{
  g_free (*field);
  *field = g_strdup (value);
}

void
model_is_sorry (Model *model, const char *why)
{
  if (model->sorry == NULL)
    model->sorry = g_strdup (why);
}

/* ---- what it shows --------------------------------------------------------------------------- */

static Json *
show_nodes (Model *model)
{
  Json *rows = json_array ();
  for (guint i = 0; i < model->nodes->len; i++) {
    ModelNode *node = model->nodes->pdata[i];
    ModelNode *file = model_node (model, node->file), *backing = model_node (model, node->backing);
    const char *name = file ? file->filename : node->filename;
    ModelNode *behind = backing ? model_node (model, backing->file) : NULL;
    Json *image = json_make ("filename", json_str (name), "virtual-size", json_int (1 << 20), NULL);
    json_append (rows,
                 json_make ("node-name", json_str (node->name), "drv", json_str (node->driver),
                            "ro", json_flag (FALSE), "file", json_str (name), "image", image,
                            "backing_file", json_str (behind ? behind->filename : NULL), NULL));
  }
  return rows;
}

static Json *
edge (guint parent, guint child, const char *name)
{
  return json_make ("parent", json_int (parent), "child", json_int (child), "name", json_str (name),
                    "perm", json_array (), NULL);
}

static guint
id_of (Model *model, const char *name)
{
  guint i;
  return g_ptr_array_find (model->nodes, model_node (model, name), &i) ? i + 1 : 0;
}

static Json *
show_graph (Model *model)
{
  Json *nodes = json_array (), *edges = json_array ();
  for (guint i = 0; i < model->nodes->len; i++) {
    ModelNode *node = model->nodes->pdata[i];
    json_append (nodes, json_make ("id", json_int (i + 1), "type", json_str ("block-driver"),
                                   "name", json_str (node->name), NULL));
    if (node->file != NULL)
      json_append (edges, edge (i + 1, id_of (model, node->file), "file"));
    if (node->backing != NULL)
      json_append (edges, edge (i + 1, id_of (model, node->backing), "backing"));
  }
  for (guint i = 0; i < model->devices->len; i++) {
    ModelDevice *device = model->devices->pdata[i];
    json_append (nodes, json_make ("id", json_int (1000 + i), "type", json_str ("block-backend"),
                                   "name", json_str (device->name), NULL));
    json_append (edges, edge (1000 + i, id_of (model, device->root), "root"));
  }
  return json_make ("nodes", nodes, "edges", edges, NULL);
}

static Json *
show_disks (Model *model)
{
  Json *rows = json_array ();
  for (guint i = 0; i < model->devices->len; i++) {
    ModelDevice *device = model->devices->pdata[i];
    Json *medium = json_make ("node-name", json_str (device->root), "ro", json_flag (FALSE), NULL);
    json_append (rows, json_make ("device", json_str (""), "qdev", json_str (device->name),
                                  "inserted", medium, NULL));
  }
  return rows;
}

static Json *
show_jobs (Model *model, gboolean block)
{
  Json *rows = json_array ();
  for (guint i = 0; i < model->jobs->len; i++) {
    ModelJob *job = model->jobs->pdata[i];
    Json *type = json_str (job->type), *status = json_str (job->status), *id = json_str (job->id);
    Json *error = json_str (job->error);
    gboolean paused = g_str_equal (job->status, "paused");
    const char *io = paused ? "nospace" : "ok";
    json_append (rows,
                 block ? json_make ("device", id, "type", type, "status", status, "offset",
                                    json_int (1), "len", json_int (1), "error", error, "io-status",
                                    json_str (io), "paused", json_flag (paused), NULL)
                       : json_make ("id", id, "type", type, "status", status, "current-progress",
                                    json_int (1), "total-progress", json_int (1), "error", error,
                                    NULL));
  }
  return rows;
}

static Json *
show_stats (Model *model)
{
  Json *rows = json_array ();
  for (guint i = 0; i < model->nodes->len; i++) {
    ModelNode *node = model->nodes->pdata[i];
    Json *stats = json_make ("wr_highest_offset", json_int ((gint64)node->highest), NULL);
    json_append (rows, json_make ("node-name", json_str (node->name), "stats", stats, NULL));
  }
  return rows;
}

Json *
model_replies (Model *model)
{
  Json *status = json_make ("running", json_flag (model->running), "status",
                            json_str (model->running ? "running" : model->run_state), NULL);
  return json_make ("query-block", show_disks (model), "query-named-block-nodes",
                    show_nodes (model), "x-debug-query-block-graph", show_graph (model),
                    "query-jobs", show_jobs (model, FALSE), "query-block-jobs",
                    show_jobs (model, TRUE), "query-block-exports", json_array (), "query-status",
                    status, "query-migrate", json_make (NULL, NULL), "query-blockstats",
                    show_stats (model), NULL);
}

/* ---- answering ------------------------------------------------------------------------------- */

static const char *const queries[] = {"query-block",
                                      "query-named-block-nodes",
                                      "x-debug-query-block-graph",
                                      "query-jobs",
                                      "query-block-jobs",
                                      "query-block-exports",
                                      "query-status",
                                      "query-migrate",
                                      "query-blockstats",
                                      NULL};

static Json *
refusal (const char *why)
{
  return json_make (
      "error", json_make ("class", json_str ("GenericError"), "desc", json_str (why), NULL), NULL);
}

static void
guest_writes (Model *model)
{
  for (guint i = 0; model->running && i < model->devices->len; i++)
    model_node (model, ((ModelDevice *)model->devices->pdata[i])->root)->value = model->written + 1;
  model->written += model->running;
}

static gboolean
is_refused (Model *model, const char *command, gboolean change)
{
  if (model->commands == model->refuse_command ||
      (change && model->changes == model->refuse_change))
    return TRUE;
  if (g_strcmp0 (model->refuse, command) != 0 || model->refuse_times == 0)
    return FALSE;
  model->refuse_times--;
  return TRUE;
}

static Json *
answer_query (Model *model, const char *command)
{
  for (guint i = 0; i < model->jobs->len && g_str_equal (command, "query-named-block-nodes"); i++) {
    ModelJob *job = model->jobs->pdata[i];
    if (g_str_equal (job->type, "stream") && g_str_equal (job->status, "concluded"))
      model_is_sorry (model, "QEMU 7.2 dies when it is asked for its nodes now");
  }
  g_autoptr (Json) replies = model_replies (model);
  return json_make ("return", json_dup (json_get (replies, command)), NULL);
}

static Json *
answer (FakeQemu *fake, const char *command, Json *arguments, gpointer data)
{
  Model *model = data;
  gboolean change = !g_strv_contains (queries, command);
  if (model->dead)
    return NULL;
  model->commands++;
  model->changes += change;
  guest_writes (model);
  gboolean cut = model->commands == model->cut_at;
  if (cut)
    model_cut (model);
  if (cut && !model->cut_after)
    return NULL;
  if (is_refused (model, command, change))
    return refusal ("refused for the test");
  if (change && model->hook != NULL)
    model->hook (model, command, arguments, model->data);
  if (!change)
    return cut ? NULL : answer_query (model, command);
  const char *why_not = model_perform (model, command, arguments);
  if (cut)
    return NULL;
  gboolean hmp = g_str_equal (command, "human-monitor-command");
  return why_not ? refusal (why_not)
                 : json_make ("return", hmp ? json_str ("") : json_make (NULL, NULL), NULL);
}

static gboolean
on_cut (gpointer data)
{
  Model *model = data;
  if (model->dead) {
    fake_qemu_free (model->fake);
    listen_again (model);
  }
  return G_SOURCE_REMOVE;
}

void
model_cut (Model *model)
{
  GSource *turn = g_idle_source_new ();
  g_source_set_priority (turn, G_PRIORITY_HIGH);
  g_source_set_callback (turn, on_cut, model, NULL);
  g_source_attach (turn, NULL);
  g_ptr_array_add (model->timers, turn);
  model->dead = TRUE;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void
node_free (gpointer data)
{
  ModelNode *node = data;
  g_free (node->name);
  g_free (node->driver);
  g_free (node->file);
  g_free (node->backing);
  g_free (node->filename);
  g_free (node);
}

static void
device_free (gpointer data)
{
  ModelDevice *device = data;
  g_free (device->name);
  g_free (device->root);
  g_free (device);
}

static void
job_free (gpointer data)
{
  ModelJob *job = data;
  char *strings[] = {job->id,  job->type, job->status,      job->error,
                     job->top, job->base, job->backing_file};
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_free (job);
}

static void
timer_free (gpointer timer)
{
  g_source_destroy (timer);
  g_source_unref (timer);
}

static void
listen_again (Model *model)
{
  model->dead = FALSE;
  model->fake = fake_qemu_new_at (model->path);
  for (guint i = 0; model_command (i) != NULL; i++)
    qemu_handles (model->fake, model_command (i), answer, model);
  for (guint i = 0; queries[i] != NULL; i++)
    qemu_handles (model->fake, queries[i], answer, model);
  qemu_greets (model->fake);
}

static void
add_node (Model *model, const char *name, const char *driver, const char *file, const char *backing,
          const char *filename)
{
  ModelNode *node = g_new0 (ModelNode, 1);
  *node = (ModelNode){.name = g_strdup (name),
                      .driver = g_strdup (driver),
                      .file = g_strdup (file),
                      .backing = g_strdup (backing),
                      .filename = g_strdup (filename)};
  g_ptr_array_add (model->nodes, node);
}

static void
add_disk (Model *model, OpDisk *disk)
{
  for (guint i = disk->before->len; i-- > 0;) {
    ChainLayer *layer = disk->before->pdata[i];
    ChainLayer *below = i + 1 < disk->before->len ? disk->before->pdata[i + 1] : NULL;
    add_node (model, layer->protocol_node, "file", NULL, NULL, layer->file);
    add_node (model, layer->node, "qcow2", layer->protocol_node, below ? below->node : NULL, NULL);
  }
  ModelDevice *device = g_new0 (ModelDevice, 1);
  *device =
      (ModelDevice){g_strdup (disk->qdev), g_strdup (((ChainLayer *)disk->before->pdata[0])->node)};
  g_ptr_array_add (model->devices, device);
}

Model *
model_new (Op *op)
{
  Model *model = g_new0 (Model, 1);
  model->nodes = g_ptr_array_new_with_free_func (node_free);
  model->devices = g_ptr_array_new_with_free_func (device_free);
  model->jobs = g_ptr_array_new_with_free_func (job_free);
  model->log = g_ptr_array_new_with_free_func (g_free);
  model->timers = g_ptr_array_new_with_free_func (timer_free);
  model->running = TRUE;
  model->run_state = "paused";
  model->path = g_strdup (op->vm);
  for (guint i = 0; i < op->disks->len; i++)
    add_disk (model, op_disk (op, i));
  if (g_str_has_prefix (op->vm, g_get_tmp_dir ())) /* tables alone need no socket */
    listen_again (model);
  return model;
}

void
model_free (Model *model)
{
  if (model->fake != NULL) {
    /* The greeting that nobody came for. */
    g_autoptr (QmpClient) last =
        qemu_is_done (model->fake) ? NULL : qmp_client_new (model->path, 0, NULL);
    until (qemu_is_done (model->fake));
    fake_qemu_free (model->fake);
    model->fake = NULL;
    if (last != NULL)
      qmp_client_close (last);
    fake_qemu_settle ();
  }
  g_ptr_array_unref (model->timers);
  g_ptr_array_unref (model->nodes);
  g_ptr_array_unref (model->devices);
  g_ptr_array_unref (model->jobs);
  g_ptr_array_unref (model->log);
  g_free (model->sorry);
  g_free (model->path);
  g_free (model);
}
