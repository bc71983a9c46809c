/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/calls.h"

struct _Calls {
  GTree *by_id;       /* owns; ids grow, so this is the order in which they were given */
  GTree *by_deadline; /* the same calls */
  gint64 last_id;
  gint64 last_sent;
};

static int
compare (gint64 a, gint64 b)
{
  return (a > b) - (a < b);
}

static int
by_id (gconstpointer a, gconstpointer b, gpointer data)
{
  return compare (((const Call *)a)->id, ((const Call *)b)->id);
}

static int
by_deadline (gconstpointer a, gconstpointer b, gpointer data)
{
  int order = compare (((const Call *)a)->deadline, ((const Call *)b)->deadline);
  return order != 0 ? order : by_id (a, b, data);
}

Calls *
calls_new (void)
{
  Calls *calls = g_new0 (Calls, 1);
  calls->by_id = g_tree_new_with_data (by_id, NULL);
  calls->by_deadline = g_tree_new_with_data (by_deadline, NULL);
  return calls;
}

void
call_free (Call *call)
{
  if (call == NULL)
    return;
  json_object_put (call->arguments);
  g_free (call->command);
  g_free (call);
}

void
calls_free (Calls *calls)
{
  Call *call;
  while ((call = calls_take_oldest (calls)) != NULL)
    call_free (call);
  g_tree_unref (calls->by_id);
  g_tree_unref (calls->by_deadline);
  g_free (calls);
}

Call *
calls_add (Calls *calls, const char *command, Json *arguments, guint timeout_ms, QmpReply callback,
           gpointer data)
{
  guint ms = timeout_ms ? timeout_ms : QMP_COMMAND_MS;
  Call *call = g_new0 (Call, 1);
  *call = (Call){.id = ++calls->last_id,
                 .command = g_strdup (command),
                 .arguments = arguments,
                 .deadline = g_get_monotonic_time () + (gint64)ms * 1000,
                 .callback = callback,
                 .data = data};
  g_tree_insert (calls->by_id, call, call);
  g_tree_insert (calls->by_deadline, call, call);
  return call;
}

static Call *
take (Calls *calls, Call *call)
{
  if (call == NULL)
    return NULL;
  g_tree_remove (calls->by_id, call);
  g_tree_remove (calls->by_deadline, call);
  return call;
}

static Call *
first (GTree *tree)
{
  GTreeNode *node = g_tree_node_first (tree);
  return node ? g_tree_node_value (node) : NULL;
}

Call *
calls_take (Calls *calls, gint64 id)
{
  Call key = {.id = id};
  return take (calls, g_tree_lookup (calls->by_id, &key));
}

Call *
calls_take_expired (Calls *calls, gint64 now)
{
  Call *call = first (calls->by_deadline);
  return call && call->deadline <= now ? take (calls, call) : NULL;
}

Call *
calls_take_oldest (Calls *calls)
{
  return take (calls, first (calls->by_id));
}

Call *
calls_next_unsent (Calls *calls)
{
  Call key = {.id = calls->last_sent};
  GTreeNode *node = g_tree_upper_bound (calls->by_id, &key);
  if (node == NULL)
    return NULL;
  Call *call = g_tree_node_value (node);
  calls->last_sent = call->id;
  call->sent = TRUE;
  return call;
}

gint64
calls_nearest_deadline (Calls *calls)
{
  Call *call = first (calls->by_deadline);
  return call ? call->deadline : -1;
}

guint
calls_waiting (Calls *calls)
{
  return (guint)g_tree_nnodes (calls->by_id);
}

gboolean
calls_knew (Calls *calls, gint64 id)
{
  return id > 0 && id <= calls->last_id;
}
