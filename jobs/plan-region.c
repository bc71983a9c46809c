/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preflight of operations on regions of a disk, which leave its chain as it is: map. */
#include "jobs/plan.h"

#include "jobs/export.h"

#include <string.h>

/* QEMU's NBD server runs in IOThreads without harm since then (upstream f816310d0c, 7075d23511,
 * 9c707525cb); 7.2 can abort the guest. */
#define FIRST_SAFE_EXPORT 90000u

/* ---- the disk -------------------------------------------------------------------------------- */

/* A client that connects while a mirror-like job is held before its pivot makes that hang. */
static gboolean
check_no_pivot (ChainDisk *disk, GError **error)
{
  for (guint i = 0; i < disk->jobs->len; i++) {
    ChainJob *job = disk->jobs->pdata[i];
    if (g_strcmp0 (job->status, "pending") != 0 && g_strcmp0 (job->status, "waiting") != 0)
      continue;
    fail (error, REFUSED, "disk '%s' is busy: %s job '%s' is %s", disk->name, job->type, job->id,
          job->status);
    return hint (error, "wait until the job has ended");
  }
  return TRUE;
}

static gboolean
check_has_chain (ChainDisk *disk, GError **error)
{
  if (!disk->inserted || disk->layers->len == 0) {
    fail (error, REFUSED, "disk '%s' has no medium", disk->name);
    return hint (error, "name another disk: rechain chain shows them");
  }
  if (disk->broken != NULL)
    return fail (error, REFUSED, "disk '%s': its chain cannot be read: %s", disk->name,
                 disk->broken);
  return TRUE;
}

gboolean
plan_check_region_disk (const PlanContext *context, Journal *journal, ChainDisk *found,
                        GError **error)
{
  return check_has_chain (found, error) &&
         plan_check_not_taken (journal, qmp_client_get_name (context->client), found->name,
                               error) &&
         check_no_pivot (found, error);
}

gboolean
plan_add_regions (Op *op, OpDisk *disk, const PlanContext *context, ChainDisk *found,
                  const RequestDisk *wanted, GError **error)
{
  guint64 size = ((ChainLayer *)disk->before->pdata[0])->virtual_size;
  disk->regions = g_array_new (FALSE, FALSE, sizeof (Region));
  for (guint i = 0; i < wanted->regions->len; i++) {
    Region region = g_array_index (wanted->regions, Region, i);
    if (!region_clip (&region, size, error))
      return prefix (error, "disk '%s': region %u", disk->name, i + 1);
    g_array_append_val (disk->regions, region);
  }
  disk->depths = world_depths (context->world, found);
  if (disk->depths == NULL)
    return fail (error, REFUSED, "disk '%s': QEMU's count of its layers cannot be told",
                 disk->name);
  export_name (op, disk);
  return TRUE;
}

/* ---- IOThreads ------------------------------------------------------------------------------- */

typedef struct {
  QmpClient *client;
  char *disk, *qdev;
  PlanAnswer answer;
  gpointer data;
} Question;

static void
answer (Question *question, GError *take_error)
{
  PlanAnswer told = question->answer;
  gpointer data = question->data;
  qmp_client_unref (question->client);
  g_free (question->disk);
  g_free (question->qdev);
  g_free (question);
  told (take_error, data);
}

static void
on_iothread (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Question *question = data;
  GError *refusal = NULL;
  gboolean none = error == NULL && json_object_is_type (ret, json_type_string) &&
                  json_object_get_string_len (ret) == 0;
  if (!none) {
    fail (&refusal, REFUSED, "disk '%s' may run in an IOThread, and this QEMU (%s) can abort when "
          "such a disk is exported", question->disk, qmp_client_get_version_string (client));
    hint (&refusal, "QEMU 9.0 and later can do it; or end the guest and use --offline");
  }
  answer (question, refusal);
}

/* The property is that of a virtio device; of another kind of disk it is not known where it runs. */
static void
on_iothreads (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Question *question = data;
  if (error != NULL) {
    GError *copy = g_error_copy (error);
    answer (question, copy);
  } else if (json_length (ret) == 0)
    answer (question, NULL);
  else
    qmp_client_execute (client, "qom-get",
                        json_make ("path", json_str (question->qdev), "property",
                                   json_str ("iothread"), NULL),
                        0, on_iothread, question);
}

/* Full. "vda", "/machine/peripheral/vda/virtio-backend" -> the device. */
static char *
device_path (OpDisk *disk)
{
  const char *qdev = disk->qdev ? disk->qdev : "";
  const char *backend = g_strrstr (qdev, "/virtio-backend");
  if (qdev[0] != '/')
    return g_strconcat ("/machine/peripheral/", qdev, NULL);
  return backend ? g_strndup (qdev, (gsize)(backend - qdev)) : g_strdup (qdev);
}

gboolean
plan_ask_iothread (const PlanContext *context, OpDisk *disk, PlanAnswer told, gpointer data)
{
  if (qmp_client_get_version (context->client) >= FIRST_SAFE_EXPORT)
    return FALSE;
  Question *question = g_new0 (Question, 1);
  *question = (Question){.client = qmp_client_ref (context->client),
                         .disk = g_strdup (disk->name),
                         .qdev = device_path (disk),
                         .answer = told,
                         .data = data};
  qmp_client_execute (context->client, "query-iothreads", NULL, 0, on_iothreads, question);
  return TRUE;
}
