/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What changes the model: its jobs, and the commands. */
#include "tests/unit/unit.h"

#include "tests/unit/model-private.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

/* ---- jobs ------------------------------------------------------------------------------------ */

static void
set_status (Model *model, ModelJob *job, const char *status)
{
  model_replace (&job->status, status);
  g_autofree char *data = g_strdup_printf ("{'id':'%s','status':'%s'}", job->id, status);
  if (!model->dead && model->fake != NULL && qemu_is_connected (model->fake))
    qemu_event (model->fake, "JOB_STATUS_CHANGE", data);
}

static void
is_pending (Model *model, ModelJob *job)
{
  ModelNode *top = model_node (model, job->top), *base = model_node (model, job->base);
  if (g_str_equal (job->type, "stream"))
    top->value = model_value_of (model, top->name);
  else
    base->value = model_value_of (model, top->name);
  set_status (model, job, "pending");
}

static void
proceed (Model *model, ModelJob *job)
{
  if (!g_str_equal (job->status, "running"))
    return;
  if (g_strcmp0 (model->fail_job, job->type) == 0 && job->stops) {
    set_status (model, job, "paused");
  } else if (g_strcmp0 (model->fail_job, job->type) == 0) {
    model_is_sorry (model, "a job aborts by itself, which QEMU 7.2 may not survive");
    model_replace (&job->error, "No space left on device");
    set_status (model, job, "concluded");
  } else if (g_str_equal (job->type, "stream"))
    is_pending (model, job);
  else {
    model_node (model, job->base)->value = model_value_of (model, job->top);
    set_status (model, job, "ready");
  }
}

static gboolean
on_job_timer (gpointer data)
{
  Model *model = data;
  for (guint i = 0; i < model->jobs->len && !model->slow_jobs; i++)
    proceed (model, model->jobs->pdata[i]);
  return G_SOURCE_REMOVE;
}

static void
soon (Model *model, GSourceFunc func)
{
  GSource *timer = g_timeout_source_new (1);
  g_source_set_callback (timer, func, model, NULL);
  g_source_attach (timer, NULL);
  g_ptr_array_add (model->timers, timer);
}

void
model_let_jobs_go (Model *model)
{
  model->slow_jobs = FALSE;
  soon (model, on_job_timer);
}

/* As block-stream does: the string in the header, in place. */
static void
write_backing (const char *file, const char *backing)
{
  guint8 header[104];
  int fd = g_open (file, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0 || pread (fd, header, sizeof header, 0) != sizeof header)
    fail_test ("'%s' is no qcow2", file);
  guint64 at = GUINT64_FROM_BE (*(guint64 *)(void *)(header + 8));
  guint32 length = GUINT32_TO_BE ((guint32)strlen (backing));
  if (pwrite (fd, backing, strlen (backing), (off_t)at) < 0 || pwrite (fd, &length, 4, 16) != 4)
    fail_test ("'%s' cannot be written", file);
  close (fd);
}

static void
conclude (Model *model, ModelJob *job)
{
  ModelNode *top = model_node (model, job->top);
  if (g_str_equal (job->type, "stream")) {
    model_replace (&top->backing, job->base);
    write_backing (model_node (model, top->file)->filename, job->backing_file);
  } else
    model_replace (&model_device_on (model, job->top)->root, job->base);
  set_status (model, job, "concluded");
}

void
model_write (Model *model, const char *name, guint64 highest)
{
  ModelNode *node = model_node (model, name);
  g_autofree char *data = g_strdup_printf ("{'node-name':'%s','write-threshold':%" G_GUINT64_FORMAT
                                           ",'amount-exceeded':1}",
                                           name, node->threshold);
  node->highest = MAX (node->highest, highest);
  if (node->threshold == 0 || highest <= node->threshold)
    return;
  node->threshold = 0;
  qemu_event (model->fake, "BLOCK_WRITE_THRESHOLD", data);
}

void
model_stand (Model *model, const char *node)
{
  g_autofree char *data =
      g_strdup_printf ("{'node-name':'%s','device':'','operation':'write','action':'stop',"
                       "'nospace':true,'reason':'No space left on device'}",
                       node);
  model->running = FALSE;
  model->run_state = "io-error";
  qemu_event (model->fake, "BLOCK_IO_ERROR", data);
}

/* ---- commands: each returns NULL, or why not ------------------------------------------------- */

static const char *
do_add (Model *model, Json *a);

/* A child given by its options, or by its name. Full: the name; NULL where there is none. */
static char *
add_child (Model *model, Json *child)
{
  if (!json_object_is_type (child, json_type_object))
    return g_strdup (json_object_get_string (child));
  g_autoptr (Json) named = json_dup (child);
  g_autofree char *made_up = g_strdup_printf ("#block%u", model->nodes->len);
  if (json_get (named, "node-name") == NULL)
    json_object_object_add (named, "node-name", json_str (made_up));
  const char *name = json_get_str (named, "node-name");
  if (do_add (model, named) != NULL)
    return NULL;
  model_node (model, name)->inside = TRUE;
  return g_strdup (name);
}

static const char *
do_add (Model *model, Json *a)
{
  const char *name = json_get_str (a, "node-name");
  const char *inner = json_get_str (json_get (a, "file"), "node-name");
  if (name == NULL || model_node (model, name) != NULL ||
      (inner != NULL && model_node (model, inner) != NULL))
    return "Duplicate nodes with node-name";
  ModelNode *node = g_new0 (ModelNode, 1);
  *node = (ModelNode){.name = g_strdup (name),
                      .driver = g_strdup (json_get_str (a, "driver")),
                      .filename = g_strdup (json_get_str (a, "filename"))};
  g_ptr_array_add (model->nodes, node);
  node->file = add_child (model, json_get (a, "file"));
  node->backing = add_child (model, json_get (a, "backing"));
  return NULL;
}

static gboolean
has_parent (Model *model, const char *name)
{
  for (guint i = 0; i < model->nodes->len; i++) {
    ModelNode *other = model->nodes->pdata[i];
    if (g_strcmp0 (other->file, name) == 0 || g_strcmp0 (other->backing, name) == 0)
      return TRUE;
  }
  return model_device_on (model, name) != NULL;
}

/* With it what was given inside it, as far as nothing else uses that. */
static void
remove_node (Model *model, ModelNode *node)
{
  g_autofree char *file = g_strdup (node->file), *backing = g_strdup (node->backing);
  const char *children[] = {file, backing};
  g_ptr_array_remove (model->nodes, node);
  for (guint i = 0; i < G_N_ELEMENTS (children); i++) {
    ModelNode *child = model_node (model, children[i]);
    if (child != NULL && child->inside && !has_parent (model, child->name))
      remove_node (model, child);
  }
}

static const char *
do_del (Model *model, Json *a)
{
  ModelNode *node = model_node (model, json_get_str (a, "node-name"));
  if (node == NULL)
    return "Failed to find node";
  if (node->inside)
    return "Node is not owned by the monitor";
  if (has_parent (model, node->name))
    return "Node is in use";
  for (guint i = 0; i < model->jobs->len; i++) {
    ModelJob *job = model->jobs->pdata[i];
    if (!g_str_equal (job->status, "concluded") &&
        (g_str_equal (job->top, node->name) || g_str_equal (job->base, node->name)))
      return "Node is busy";
  }
  remove_node (model, node);
  return NULL;
}

static const char *
do_transaction (Model *model, Json *a)
{
  Json *actions = json_get (a, "actions");
  for (gsize i = 0; i < json_length (actions); i++) {
    Json *data = json_get (json_at (actions, i), "data");
    if (model_node (model, json_get_str (data, "overlay")) == NULL ||
        model_device_on (model, json_get_str (data, "node")) == NULL)
      return "Cannot find device";
  }
  for (gsize i = 0; i < json_length (actions); i++) {
    Json *data = json_get (json_at (actions, i), "data");
    const char *overlay = json_get_str (data, "overlay"), *node = json_get_str (data, "node");
    model_replace (&model_node (model, overlay)->backing, node);
    model_replace (&model_device_on (model, node)->root, overlay);
  }
  return NULL;
}

static const char *
start_job (Model *model, Json *a, const char *type, const char *top, const char *base)
{
  const char *id = json_get_str (a, "job-id");
  if (model_job (model, id) != NULL)
    return "Job ID already in use";
  if (model_node (model, top) == NULL || model_node (model, base) == NULL)
    return "Cannot find node";
  ModelJob *job = g_new0 (ModelJob, 1);
  *job = (ModelJob){.id = g_strdup (id),
                    .type = g_strdup (type),
                    .status = g_strdup ("running"),
                    .top = g_strdup (top),
                    .base = g_strdup (base),
                    .backing_file = g_strdup (json_get_str (a, "backing-file")),
                    .stops = g_strcmp0 (json_get_str (a, "on-error"), "stop") == 0};
  g_ptr_array_add (model->jobs, job);
  soon (model, on_job_timer);
  return NULL;
}

static const char *
do_stream (Model *model, Json *a)
{
  return start_job (model, a, "stream", json_get_str (a, "device"), json_get_str (a, "base-node"));
}

static const char *
do_commit (Model *model, Json *a)
{
  return start_job (model, a, "commit", json_get_str (a, "top-node"),
                    json_get_str (a, "base-node"));
}

static const char *
do_complete (Model *model, Json *a)
{
  ModelJob *job = model_job (model, json_get_str (a, "id"));
  if (job == NULL)
    return "Job not found";
  if (!g_str_equal (job->status, "ready"))
    return "Job cannot accept command verb 'complete'";
  if (model->running)
    model_is_sorry (model, "a commit is completed while the guest runs");
  is_pending (model, job);
  return NULL;
}

static const char *
do_finalize (Model *model, Json *a)
{
  ModelJob *job = model_job (model, json_get_str (a, "id"));
  if (job == NULL)
    return "Job not found";
  if (!g_str_equal (job->status, "pending"))
    return "Job cannot accept command verb 'finalize'";
  conclude (model, job);
  return NULL;
}

static const char *
do_cancel (Model *model, Json *a)
{
  ModelJob *job = model_job (model, json_get_str (a, "id"));
  if (job == NULL)
    return "Job not found";
  if (g_str_equal (job->status, "concluded"))
    return "Job cannot accept command verb 'cancel'";
  gboolean soft = model->soft_cancels && g_str_equal (job->type, "commit") &&
                  !g_str_equal (job->status, "pending");
  set_status (model, job, soft ? "pending" : "concluded");
  return NULL;
}

static const char *
do_dismiss (Model *model, Json *a)
{
  ModelJob *job = model_job (model, json_get_str (a, "id"));
  if (job == NULL)
    return "Job not found";
  if (!g_str_equal (job->status, "concluded"))
    return "Job cannot accept command verb 'dismiss'";
  g_ptr_array_remove (model->jobs, job);
  return NULL;
}

static const char *
do_stop (Model *model, Json *a)
{
  model->running = FALSE;
  model->run_state = "paused";
  return NULL;
}

static const char *
do_cont (Model *model, Json *a)
{
  for (guint i = 0; i < model->jobs->len; i++) {
    ModelJob *job = model->jobs->pdata[i];
    if (g_str_equal (job->type, "commit") && g_str_equal (job->status, "pending"))
      model_is_sorry (model, "the guest is continued while a commit is pending");
  }
  model->running = TRUE;
  return NULL;
}

static const char *
do_reopen (Model *model, Json *a)
{
  Json *options = json_at (json_get (a, "options"), 0);
  ModelNode *node = model_node (model, json_get_str (options, "node-name"));
  if (node == NULL || model_node (model, json_get_str (options, "backing")) == NULL)
    return "Cannot find node";
  if (g_strcmp0 (node->file, json_get_str (options, "file")) != 0)
    return "The file child is another one";
  model_replace (&node->backing, json_get_str (options, "backing"));
  return NULL;
}

static const char *
do_threshold (Model *model, Json *a)
{
  ModelNode *node = model_node (model, json_get_str (a, "node-name"));
  if (node == NULL)
    return "Device not found";
  node->threshold = (guint64)json_get_int (a, "write-threshold");
  return NULL;
}

static const char *
do_pause (Model *model, Json *a)
{
  ModelJob *job = model_job (model, json_get_str (a, "id"));
  if (job == NULL || !g_str_equal (job->status, "running"))
    return "Job cannot accept command verb 'pause'";
  set_status (model, job, "paused");
  return NULL;
}

static const char *
do_resume (Model *model, Json *a)
{
  ModelJob *job = model_job (model, json_get_str (a, "id"));
  if (job == NULL || !g_str_equal (job->status, "paused"))
    return "Job cannot accept command verb 'resume'";
  set_status (model, job, "running");
  soon (model, on_job_timer);
  return NULL;
}

static const char *
do_nothing (Model *model, Json *a)
{
  return NULL;
}

static const struct {
  const char *name;
  const char *(*perform) (Model *model, Json *arguments);
} commands[] = {
    {"blockdev-add", do_add},
    {"blockdev-del", do_del},
    {"blockdev-reopen", do_reopen},
    {"transaction", do_transaction},
    {"block-stream", do_stream},
    {"block-commit", do_commit},
    {"job-complete", do_complete},
    {"job-finalize", do_finalize},
    {"job-cancel", do_cancel},
    {"job-dismiss", do_dismiss},
    {"stop", do_stop},
    {"cont", do_cont},
    {"human-monitor-command", do_nothing},
    {"block-job-set-speed", do_nothing},
    {"job-pause", do_pause},
    {"job-resume", do_resume},
    {"block-set-write-threshold", do_threshold},
};

const char *
model_command (guint i)
{
  return i < G_N_ELEMENTS (commands) ? commands[i].name : NULL;
}

const char *
model_perform (Model *model, const char *command, Json *arguments)
{
  gsize i = 0;
  while (!g_str_equal (commands[i].name, command))
    i++;
  const char *why_not = commands[i].perform (model, arguments);
  if (why_not == NULL)
    g_ptr_array_add (model->log, g_strdup (command));
  return why_not;
}

gboolean
model_do (Model *model, const char *command, Json *arguments)
{
  return model_perform (model, command, arguments) == NULL;
}
