/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/step.h"

#include "jobs/engine.h"
#include "jobs/op-repair.h"
#include "jobs/op-volume.h"

const char *
step_kind_name (StepKind kind)
{
  static const char *const names[] = {"undoable", "pivot", "finish"};
  return names[kind];
}

const Step *
steps_of (Op *op)
{
  static const Step *const live[N_OP_KINDS] = {
      [OP_SNAPSHOT] = snapshot_steps, [OP_MOVE] = move_steps,
      [OP_PULL] = merge_steps,        [OP_COMMIT] = merge_steps,
      [OP_MERGE] = merge_steps,       [OP_COPY] = copy_steps,
      [OP_MAP] = map_steps,           [OP_ALLOCATE] = allocate_steps,
      [OP_QUIESCE] = quiesce_steps,   [OP_SNAPSHOT_DELETE] = merge_steps,
      [OP_REPAIR] = repair_steps,
  };
  static const Step *const offline[N_OP_KINDS] = {
      [OP_PULL] = offline_steps,
      [OP_COMMIT] = offline_steps,
      [OP_MERGE] = offline_steps,
      [OP_SNAPSHOT_DELETE] = offline_steps,
      [OP_ALLOCATE] = allocate_offline_steps,
      [OP_REPAIR] = repair_files_steps,
  };
  if (volume_steps (op) != NULL)
    return volume_steps (op);
  if (op->vm == NULL && op->kind == OP_ALLOCATE && (op->flags & OP_DETACH_BACKING))
    return allocate_offline_detach_steps;
  if (op->vm == NULL)
    return offline[op->kind];
  if (op->kind == OP_SNAPSHOT && op->disks->len > 0 && !op_has_overlays (op))
    return beside_steps;
  if (op->kind == OP_ALLOCATE && (op->flags & OP_DETACH_BACKING))
    return allocate_detach_steps;
  return op->kind == OP_COPY && (op->flags & OP_NO_PIVOT) ? leave_steps : live[op->kind];
}

guint
steps_count (const Step *steps)
{
  guint n = 0;
  while (steps[n].name != NULL)
    n++;
  return n;
}

static void
ask_free_func (gpointer ask)
{
  ask_free (ask);
}

GPtrArray *
step_asks (const Step *step, Op *op, OpDisk *disk, World *world)
{
  GPtrArray *asks = g_ptr_array_new_with_free_func (ask_free_func);
  if (step->ask != NULL)
    step->ask (op, disk, world, asks);
  return asks;
}

void
ask_free (Ask *ask)
{
  if (ask == NULL)
    return;
  g_free (ask->says);
  g_free (ask->command);
  g_free (ask->agent);
  json_object_put (ask->arguments);
  g_strfreev (ask->argv);
  g_free (ask->from);
  g_free (ask->into);
  g_free (ask->fills);
  g_free (ask);
}

static Ask *
add (GPtrArray *asks)
{
  Ask *ask = g_new0 (Ask, 1);
  g_ptr_array_add (asks, ask);
  return ask;
}

Ask *
ask_qmp (GPtrArray *asks, const char *command, Json *take_arguments)
{
  Ask *ask = add (asks);
  ask->command = g_strdup (command);
  ask->arguments = take_arguments;
  return ask;
}

Ask *
ask_agent (GPtrArray *asks, const char *command, guint ms, AskHeard heard)
{
  Ask *ask = add (asks);
  ask->agent = g_strdup (command);
  ask->agent_ms = ms;
  ask->heard = heard;
  return ask;
}

Ask *
ask_run (GPtrArray *asks, char **take_argv)
{
  Ask *ask = add (asks);
  ask->argv = take_argv;
  return ask;
}

Ask *
ask_local (GPtrArray *asks, const char *says, AskLocal local)
{
  Ask *ask = add (asks);
  ask->says = g_strdup (says);
  ask->local = local;
  return ask;
}

Ask *
ask_record (GPtrArray *asks, const char *says, AskRecord record)
{
  Ask *ask = add (asks);
  ask->says = g_strdup (says);
  ask->record = record;
  return ask;
}

Ask *
ask_work (GPtrArray *asks, const char *says, WorkStart work)
{
  Ask *ask = add (asks);
  ask->says = g_strdup (says);
  ask->work = work;
  return ask;
}

Ask *
ask_wait (GPtrArray *asks, const char *job, JobStatus wanted)
{
  Ask *ask = add (asks);
  ask->job = job;
  ask->wanted = wanted;
  return ask;
}

Ask *
ask_engine (GPtrArray *asks)
{
  Ask *ask = ask_run (asks, engine_args ());
  ask->starts_engine = TRUE;
  return ask;
}

Ask *
ask_quit (GPtrArray *asks)
{
  Ask *ask = ask_qmp (asks, "quit", NULL);
  ask->ends_engine = TRUE;
  return ask;
}

Json *
ask_to_qmp (const Ask *ask)
{
  const char *command = ask->command ? ask->command : ask->agent;
  if (command == NULL)
    return NULL;
  return json_make ("execute", json_str (command), "arguments",
                    ask->arguments ? json_dup (ask->arguments) : NULL, NULL);
}

char *
ask_describe (const Ask *ask)
{
  g_autoptr (GString) text = g_string_new (NULL);
  if (ask->command != NULL || ask->agent != NULL) {
    g_autoptr (Json) qmp = ask_to_qmp (ask);
    g_autofree char *line = json_line (qmp);
    g_string_append_printf (text, "%s%s", ask->agent ? "guest agent: " : "", line);
  } else if (ask->argv != NULL) {
    for (guint i = 0; ask->argv[i] != NULL; i++) {
      g_autofree char *quoted = g_shell_quote (ask->argv[i]);
      gboolean plain =
          strpbrk (ask->argv[i], " '\"\\\n\t*?$&|;<>()`~{}") == NULL && ask->argv[i][0];
      g_string_append_printf (text, "%s%s", i ? " " : "", plain ? ask->argv[i] : quoted);
    }
    if (ask->from != NULL)
      g_string_append_printf (text, " < %s", ask->from);
    if (ask->into != NULL)
      g_string_append_printf (text, " > %s", ask->into);
  } else if (ask->says != NULL) {
    g_string_append (text, ask->says);
  }
  if (ask->job != NULL)
    g_string_append_printf (text, "%swait until job %s is %s", text->len ? ", then " : "", ask->job,
                            job_status_name (ask->wanted));
  return g_string_free (g_steal_pointer (&text), FALSE);
}
