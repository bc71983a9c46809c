/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/features.h"

#include "qmp/features-cache.h"
#include "qmp/schema.h"
#include "qmp/wakeup.h"
#include "src/common/error.h"
#include "src/common/source.h"

#include <string.h>

struct _QmpFeatures {
  gboolean has[N_FEATURES];
  gboolean from_cache;
};

static const struct {
  const char *name;
  const char *command;
  const char *argument;
} rows[] = {
#define X(id, name, command, argument) [id] = {name, command, argument},
    QMP_FEATURES (X)
#undef X
};

const char *
qmp_feature_name (QmpFeature feature)
{
  return rows[feature].name;
}

gboolean
qmp_features_has (QmpFeatures *features, QmpFeature feature)
{
  return features->has[feature];
}

gboolean
qmp_features_require (QmpFeatures *features, QmpClient *client, QmpFeature feature,
                      const char *what_for, GError **error)
{
  const char *version = client ? qmp_client_get_version_string (client) : NULL;
  if (qmp_features_has (features, feature))
    return TRUE;
  fail (error, REFUSED, "QEMU %s has no '%s', which %s needs",
        version ? version : "at this monitor", rows[feature].name, what_for);
  return rows[feature].argument ? because (error, "the command %s has no argument '%s'",
                                           rows[feature].command, rows[feature].argument)
                                : because (error, "there is no command %s", rows[feature].command);
}

static QmpFeatures *
features_copy (const QmpFeatures *features)
{
  return g_memdup2 (features, sizeof *features);
}

void
qmp_features_free (QmpFeatures *features)
{
  g_free (features);
}

QmpFeatures *
qmp_features_parse (Json *json, GError **error)
{
  g_autoptr (QmpSchema) schema = qmp_schema_new (json, error);
  if (schema == NULL)
    return NULL;
  QmpFeatures *features = g_new0 (QmpFeatures, 1);
  for (guint i = 0; i < N_FEATURES; i++)
    features->has[i] = qmp_schema_has (schema, rows[i].command, rows[i].argument);
  return features;
}

/* The cache: names of what is there. What this program asks for is part of the key, so another
 * version of it has its own. */

static void
add_rows (GChecksum *sum)
{
  for (guint i = 0; i < N_FEATURES; i++) {
    g_autofree char *row = g_strdup_printf ("%s %s %s\n", rows[i].name, rows[i].command,
                                            rows[i].argument ? rows[i].argument : "");
    g_checksum_update (sum, (const guchar *)row, -1);
  }
}

static char *
rows_digest (void)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  add_rows (sum);
  return g_strdup (g_checksum_get_string (sum));
}

static Json *
features_to_json (const QmpFeatures *features)
{
  Json *names = json_object_new_array ();
  for (guint i = 0; i < N_FEATURES; i++)
    if (features->has[i])
      json_object_array_add (names, json_str (rows[i].name));
  return names;
}

static QmpFeatures *
features_from_json (Json *names)
{
  g_autoptr (QmpFeatures) features = g_new0 (QmpFeatures, 1);
  if (!json_object_is_type (names, json_type_array) || json_length (names) > N_FEATURES)
    return NULL;
  for (gsize i = 0; i < json_length (names); i++) {
    const char *name = json_object_get_string (json_at (names, i));
    guint feature = 0;
    while (feature < N_FEATURES && g_strcmp0 (rows[feature].name, name) != 0)
      feature++;
    if (feature == N_FEATURES)
      return NULL;
    features->has[feature] = TRUE;
  }
  return g_steal_pointer (&features);
}

/* One question per connection, however many want to know. */

typedef struct {
  QmpFeaturesReady callback;
  gpointer data;
} Waiter;

typedef struct {
  QmpClient *client;  /* borrowed: this hangs on the client */
  QmpFeatures *known; /* the answer, once there is one */
  GError *error;      /* why there is none; the next one who wants to know asks again */
  gboolean busy;      /* somebody waits; a reference to the client is held */
  gboolean asked;     /* query-qmp-schema is on its way */
  char *cache_dir;
  gboolean may_write;
  GQueue waiters;
  GSource *turn;
} Question;

static void
question_free (gpointer data)
{
  Question *question = data;
  source_clear (&question->turn);
  g_queue_clear_full (&question->waiters, g_free);
  qmp_features_free (question->known);
  g_clear_error (&question->error);
  g_free (question->cache_dir);
  g_free (question);
}

static gboolean
answer_all (Question *question)
{
  g_autoptr (GError) error = g_steal_pointer (&question->error);
  QmpClient *client = question->client; /* with the reference of qmp_features_query() */
  GQueue waiters = question->waiters;
  g_queue_init (&question->waiters);
  question->busy = question->asked = FALSE;
  Waiter *waiter;
  while ((waiter = g_queue_pop_head (&waiters)) != NULL) {
    waiter->callback (question->known ? features_copy (question->known) : NULL,
                      question->known ? NULL : error, waiter->data);
    g_free (waiter);
  }
  qmp_client_unref (client); /* the question may go with it */
  return G_SOURCE_CONTINUE;
}

static void
on_schema (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Question *question = data;
  if (error != NULL)
    question->error = g_error_copy (error);
  else if ((question->known = qmp_features_parse (ret, &question->error)) == NULL)
    prefix (&question->error, "query-qmp-schema of monitor '%s'", qmp_client_get_name (client));
  g_autofree char *digest = rows_digest ();
  g_autoptr (Json) names = question->known ? features_to_json (question->known) : NULL;
  if (names != NULL && question->may_write)
    features_cache_save (question->cache_dir, client, digest, names);
  wakeup_at (question->turn, WAKEUP_NOW);
}

static QmpFeatures *
load (Question *question)
{
  g_autofree char *digest = rows_digest ();
  g_autoptr (Json) names = features_cache_load (question->cache_dir, question->client, digest);
  QmpFeatures *known = names ? features_from_json (names) : NULL;
  if (known != NULL)
    known->from_cache = TRUE;
  return known;
}

/* Known -> answer; failed -> answer; ready -> look into the cache, else ask; not ready -> wait. */
static gboolean
on_turn (gpointer data)
{
  Question *question = data;
  if (!question->busy)
    return G_SOURCE_CONTINUE;
  if (question->known == NULL && question->error == NULL && !question->asked &&
      qmp_client_get_state (question->client) >= QMP_READY) {
    if (qmp_client_get_state (question->client) == QMP_READY)
      question->known = load (question);
    question->asked = question->known == NULL;
    if (question->asked)
      qmp_client_execute (question->client, "query-qmp-schema", NULL, 0, on_schema, question);
  }
  return question->known || question->error ? answer_all (question) : G_SOURCE_CONTINUE;
}

static void
on_state (QmpClient *client, QmpState state, gpointer data)
{
  Question *question = data;
  if (question->busy && state >= QMP_READY && question->turn != NULL)
    wakeup_at (question->turn, WAKEUP_NOW);
}

static Question *
question_of (QmpClient *client)
{
  Question *question = qmp_client_get_data (client, "features");
  if (question != NULL)
    return question;
  g_autoptr (GMainContext) context = g_main_context_ref_thread_default ();
  question = g_new0 (Question, 1);
  question->client = client;
  question->turn = wakeup_new (context, on_turn, question);
  qmp_client_set_data (client, "features", question, question_free);
  qmp_client_watch_state (client, on_state, question);
  return question;
}

void
qmp_features_query (QmpClient *client, const char *cache_dir, gboolean may_write,
                    QmpFeaturesReady callback, gpointer data)
{
  Question *question = question_of (client);
  Waiter *waiter = g_new0 (Waiter, 1);
  *waiter = (Waiter){.callback = callback, .data = data};
  g_queue_push_tail (&question->waiters, waiter);
  if (!question->busy) {
    question->busy = TRUE;
    question->may_write = may_write && cache_dir != NULL;
    g_free (question->cache_dir);
    question->cache_dir = g_strdup (cache_dir);
    qmp_client_ref (client);
  }
  wakeup_at (question->turn, WAKEUP_NOW);
}

void
qmp_features_save (QmpFeatures *features, QmpClient *client, const char *cache_dir)
{
  if (features->from_cache)
    return;
  g_autofree char *digest = rows_digest ();
  g_autoptr (Json) names = features_to_json (features);
  features_cache_save (cache_dir, client, digest, names);
}
