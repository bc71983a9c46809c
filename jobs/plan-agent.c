/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preflight of a freeze: is there an agent, does it answer, may it freeze, and is nothing frozen
 * yet? That it says so promises nothing: what counts is what happens when it is asked to. */
#include "jobs/plan-private.h"

#include "jobs/freeze.h"
#include "qmp/agent.h"

typedef struct {
  Op *op;
  QmpAgent *agent;
  PlanChecked callback;
  gpointer data;
} Probe;

static void
probe_ended (Probe *probe, GError *take_error)
{
  g_autoptr (GError) error = take_error;
  PlanChecked callback = probe->callback;
  gpointer data = probe->data;
  if (error != NULL)
    prefix (&error, "freeze the guest's filesystems");
  qmp_agent_free (probe->agent);
  g_free (probe);
  callback (error, data);
}

/* Is @command in the list of what the agent does? */
static gboolean
is_enabled (Json *info, const char *command)
{
  Json *commands = json_get (info, "supported_commands");
  for (gsize i = 0; i < json_length (commands); i++) {
    Json *one = json_at (commands, i);
    if (g_strcmp0 (json_get_str (one, "name"), command) == 0)
      return json_get_bool (one, "enabled");
  }
  return FALSE;
}

static void
on_info (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  Probe *probe = data;
  GError *refusal = error ? g_error_copy (error) : NULL;
  if (error == NULL && !is_enabled (ret, "guest-fsfreeze-freeze")) {
    fail (&refusal, REFUSED, "guest agent '%s' does not offer guest-fsfreeze-freeze",
          qmp_agent_get_name (agent));
    hint (&refusal, "allow it in the guest's configuration of qemu-ga");
  }
  probe_ended (probe, refusal);
}

/* What somebody else froze he may thaw at any moment. */
static GError *
already_frozen (void)
{
  GError *error = NULL;
  fail (&error, REFUSED, "they are frozen already");
  hint (&error,
        "without --quiesce the snapshot is taken of the frozen filesystems, and they stay frozen; "
        "'rechain thaw' thaws them");
  return error;
}

static void
on_status (QmpAgent *agent, Json *ret, const GError *error, gpointer data)
{
  Probe *probe = data;
  gboolean frozen = json_object_is_type (ret, json_type_string) &&
                    g_strcmp0 (json_object_get_string (ret), "frozen") == 0;
  probe->op->was_frozen = frozen;
  if (error != NULL)
    probe_ended (probe, g_error_copy (error));
  else if (frozen)
    probe_ended (probe, probe->op->kind == OP_QUIESCE ? NULL : already_frozen ());
  else
    qmp_agent_execute (agent, "guest-info", NULL, 0, on_info, probe);
}

gboolean
plan_check_freezable (Op *op, GError **error)
{
  gboolean can = !freezes_guest (op);
  for (const Step *step = steps_of (op); step->name != NULL; step++)
    can |= step->ask == freeze_guest;
  if (can)
    return TRUE;
  fail (error, USAGE, "'%s' takes no snapshot that frozen filesystems would be of use for",
        op_kind_name (op->kind));
  return hint (error, "leave --quiesce out");
}

gboolean
plan_check_agent (Op *op, World *world, PlanChecked callback, gpointer data, GError **error)
{
  QmpAgent *agent = op->agent ? qmp_agent_new (op->agent, 0, error) : NULL;
  if (op->agent == NULL) {
    fail (error, USAGE, "freeze the guest's filesystems: no guest agent is named");
    hint (error,
          "name its socket with --agent ADDRESS, or with agent=ADDRESS in the configuration");
  }
  if (agent != NULL && !world_running (world)) {
    g_clear_pointer (&agent, qmp_agent_free);
    fail (error, REFUSED,
          "freeze the guest's filesystems: the guest is stopped (%s), and so is its agent",
          world_run_state (world));
    hint (error,
          "continue it first, or leave the freeze out: a guest that is stopped writes nothing");
  }
  if (agent == NULL)
    return FALSE;
  Probe *probe = g_new0 (Probe, 1);
  *probe = (Probe){.op = op, .agent = agent, .callback = callback, .data = data};
  qmp_agent_execute (agent, "guest-fsfreeze-status", NULL, 0, on_status, probe);
  return TRUE;
}
