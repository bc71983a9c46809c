/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks one QEMU for everything that a world is made of, in one burst. */
#include "jobs/world.h"

#include "src/common/error.h"
#include "src/common/fs.h"
#include "src/common/source.h"

#include <string.h>

/* QEMU answers the queries one after the other, and a job may end in between. */
#define MAX_ATTEMPTS 3u
/* Whoever follows a job dismisses it within milliseconds. */
#define PATIENCE_MS  50u
#define MAX_PATIENCE 20u

/* Some state is only asked for where this QEMU has it; N_FEATURES: always. Where the answer is not
 * required, an error means "none". */
static const struct {
  const char *command;
  QmpFeature feature;
  gboolean required;
} queries[] = {
    /* First, so that a migration that ends meanwhile is still seen: it has left its mark on the
       status then. */
    {"query-migrate", N_FEATURES, FALSE},
    {"query-status", N_FEATURES, TRUE},
    {"query-block", N_FEATURES, TRUE},
    {"query-named-block-nodes", N_FEATURES, TRUE},
    {"x-debug-query-block-graph", FEATURE_DEBUG_GRAPH, FALSE},
    {"query-jobs", FEATURE_QUERY_JOBS, TRUE},
    {"query-block-jobs", N_FEATURES, TRUE},
    {"query-block-exports", FEATURE_BLOCK_EXPORTS, TRUE},
};

typedef struct {
  QmpClient *client;
  QmpFeatures *features; /* borrowed; nullable: ask for all, require nothing that has a feature */
  WorldReady callback;
  gpointer data;
  Json *replies;
  GError *error; /* the first */
  guint pending;
  guint attempts;
  guint patience; /* how often we waited for a job to be dismissed */
} Query;

/* One command of a burst. */
typedef struct {
  Query *query;
  gsize i;
} Ask;

static void
ask_all (Query *query);

static void
query_free (Query *query)
{
  qmp_client_unref (query->client);
  g_clear_pointer (&query->replies, json_clear);
  g_clear_error (&query->error);
  g_free (query);
}

/* ---- relative names -------------------------------------------------------------------------- */

/* The name is relative to QEMU's working directory, not to ours. The process at the other end
 * of the socket need not be QEMU (a relay, socat), so it is believed only if it holds the
 * file open. */
static char *
resolve_at_peer (const char *name, gpointer data)
{
  QmpClient *client = data;
  pid_t pid = qmp_client_get_peer_pid (client);
  g_autofree char *link = g_strdup_printf ("/proc/%d/cwd", (int)pid);
  g_autofree char *cwd = pid > 0 ? g_file_read_link (link, NULL) : NULL;
  g_autofree char *path = cwd ? chain_file_in (cwd, name) : NULL;
  return path && process_has_open (pid, path) ? g_steal_pointer (&path) : NULL;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static gboolean
settle (Query *query)
{
  WorldFiles files = {resolve_at_peer, query->client};
  g_autoptr (World) world = NULL;
  if (query->error == NULL)
    world = world_build (query->replies, files, &query->error);
  if (world != NULL && world_is_torn (world) && query->attempts < MAX_ATTEMPTS)
    return FALSE;
  if (world == NULL)
    prefix (&query->error, "look at QEMU's disks");
  query->callback (g_steal_pointer (&world), query->error, query->data);
  return TRUE;
}

static void
on_reply (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  g_autofree Ask *ask = data;
  Query *query = ask->query;
  const char *command = queries[ask->i].command;
  gboolean matters = queries[ask->i].required || (error && error->code == (int)UNREACHABLE);
  if (error == NULL)
    json_set (query->replies, command, json_dup (ret));
  else if (matters && query->error == NULL) {
    query->error = g_error_copy (error);
    prefix (&query->error, "%s", command);
  }
  if (--query->pending > 0)
    return;
  if (settle (query))
    query_free (query);
  else
    ask_all (query);
}

static gboolean
has (Query *query, QmpFeature feature)
{
  return feature == N_FEATURES || query->features == NULL ||
         qmp_features_has (query->features, feature);
}

static Json *
arguments_of (Query *query, const char *command)
{
  gboolean flat = g_str_equal (command, "query-named-block-nodes");
  return flat && has (query, FEATURE_NODES_FLAT) ? json_make ("flat", json_flag (TRUE), NULL)
                                                 : NULL;
}

static void
ask_all (Query *query)
{
  g_clear_pointer (&query->replies, json_clear);
  query->replies = json_make (NULL, NULL);
  query->attempts++;
  for (gsize i = 0; i < G_N_ELEMENTS (queries); i++) {
    if (!has (query, queries[i].feature))
      continue;
    Ask *ask = g_new0 (Ask, 1);
    *ask = (Ask){query, i};
    query->pending++;
    qmp_client_execute (query->client, queries[i].command, arguments_of (query, queries[i].command),
                        0, on_reply, ask);
  }
}

/* ---- a QEMU that must not be asked ----------------------------------------------------------- */

/* QEMU 7.2 dies of SIGSEGV in query-named-block-nodes while a stream job is concluded and not yet
 * dismissed (its copy-on-read filter has lost its child; docs/qemu-findings.md). 5.2 has no such
 * filter and 10.0 is sound; what lies between is taken to be bad. */
static gboolean
dies_of_concluded_streams (QmpClient *client)
{
  guint version = qmp_client_get_version (client);
  return version >= 60000 && version < 100000;
}

static const char *
concluded_stream (Json *jobs)
{
  for (gsize i = 0; i < json_length (jobs); i++) {
    Json *job = json_at (jobs, i);
    if (g_strcmp0 (json_get_str (job, "type"), "stream") == 0 &&
        g_strcmp0 (json_get_str (job, "status"), "concluded") == 0)
      return json_get_str (job, "id") ? json_get_str (job, "id") : "?";
  }
  return NULL;
}

static void
ask_jobs (Query *query);

static gboolean
on_patience (gpointer data)
{
  ask_jobs (data);
  return G_SOURCE_REMOVE;
}

static void
wait_for_dismissal (Query *query)
{
  g_autoptr (GSource) timer = NULL;
  source_after (&timer, PATIENCE_MS, on_patience, query);
}

static void
on_jobs (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Query *query = data;
  const char *job = concluded_stream (ret);
  if (error == NULL && job == NULL) {
    ask_all (query);
    return;
  }
  if (error == NULL && ++query->patience < MAX_PATIENCE) {
    wait_for_dismissal (query);
    return;
  }
  g_autoptr (GError) told = error ? g_error_copy (error) : NULL;
  if (told == NULL) {
    fail (&told, REFUSED,
          "job '%s' is concluded and nobody dismisses it: this QEMU dies when it is "
          "asked for its nodes now",
          job);
    hint (&told, "whoever started the job must dismiss it (QMP: job-dismiss)%s",
          g_str_has_prefix (job, "rc-") ? "; it is ours: rechain recover" : "");
  }
  prefix (&told, "look at QEMU's disks");
  query->callback (NULL, told, query->data);
  query_free (query);
}

static void
ask_jobs (Query *query)
{
  qmp_client_execute (query->client, "query-jobs", NULL, 0, on_jobs, query);
}

void
world_query (QmpClient *client, QmpFeatures *features, WorldReady callback, gpointer data)
{
  Query *query = g_new0 (Query, 1);
  query->client = qmp_client_ref (client);
  query->features = features;
  query->callback = callback;
  query->data = data;
  if (dies_of_concluded_streams (client) && has (query, FEATURE_QUERY_JOBS))
    ask_jobs (query);
  else
    ask_all (query);
}
