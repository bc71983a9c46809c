/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preflight of operations on regions of a disk, which leave its chain as it is: map, allocate. */
#include "jobs/plan-private.h"

#include "jobs/export.h"
#include "jobs/forecast.h"
#include "jobs/header.h"
#include "src/common/fs.h"

#include <string.h>

/* QEMU's NBD server runs in IOThreads without harm since then (upstream f816310d0c, 7075d23511,
 * 9c707525cb); 7.2 can abort the guest. */
#define FIRST_SAFE_EXPORT 90000u
/* Copy-on-read knows of subclusters since 8.2; before that QEMU can abort when it copies into an
 * image that has them (docs/qemu-findings.md). */
#define FIRST_SUBCLUSTERS 80200u
#define SECTOR            512u

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

gboolean
plan_check_region_disk (const PlanContext *context, OpKind kind, Journal *journal, ChainDisk *found,
                        GError **error)
{
  if (kind == OP_ALLOCATE) /* it writes, and so has the conditions of all that do */
    return plan_check_disk (found, journal, qmp_client_get_name (context->client), error);
  return plan_check_has_chain (found, error) &&
         plan_check_not_taken (journal, qmp_client_get_name (context->client), found->name,
                               error) &&
         check_no_pivot (found, error);
}

/* ---- regions --------------------------------------------------------------------------------- */

static int
compare_starts (gconstpointer a, gconstpointer b)
{
  guint64 x = ((const Region *)a)->start, y = ((const Region *)b)->start;
  return x < y ? -1 : x > y;
}

/* Sorted, and what touches is one. */
static void
merge_regions (GArray *regions)
{
  guint n = 0;
  g_array_sort (regions, compare_starts);
  for (guint i = 1; i < regions->len; i++) {
    Region *last = &g_array_index (regions, Region, n);
    Region *next = &g_array_index (regions, Region, i);
    guint64 end = next->start + next->length;
    if (next->start <= last->start + last->length)
      last->length = MAX (last->start + last->length, end) - last->start;
    else
      g_array_index (regions, Region, ++n) = *next;
  }
  if (regions->len > 0)
    g_array_set_size (regions, n + 1);
}

/* Sectors: what every command and filesystem takes. */
static Region
widen (Region region, guint64 size)
{
  guint64 end = MIN ((region.start + region.length + SECTOR - 1) / SECTOR * SECTOR, size);
  region.start = region.start / SECTOR * SECTOR;
  region.length = end - region.start;
  return region;
}

/* ---- allocate -------------------------------------------------------------------------------- */

static gboolean
is_plain (const char *name)
{
  return name == NULL || strpbrk (name, " \t\n\"'\\") == NULL;
}

static gboolean
check_allocation (Op *op, OpDisk *disk, gboolean full, GError **error)
{
  ChainLayer *active = disk->before->pdata[0];
  gboolean raw = g_strcmp0 (active->format, "raw") == 0;
  if (!raw && g_strcmp0 (active->format, "qcow2") != 0) {
    fail (error, REFUSED, "disk '%s': regions of a '%s' image cannot be allocated", disk->name,
          active->format);
    return hint (error, "qcow2 and raw images can");
  }
  if (!full || raw || op_is_offline (op))
    return TRUE;
  if (g_strcmp0 (json_get_str (disk->cache, "detect-zeroes"), "on") == 0)
    return fail (error, REFUSED,
                 "disk '%s': its detect-zeroes option makes QEMU drop the zeros that are to be "
                 "written",
                 disk->name);
  if (is_plain (disk->qdev) && is_plain (disk->drive) && (disk->qdev || disk->drive))
    return TRUE;
  return fail (error, REFUSED, "disk '%s': the monitor has no name for its device", disk->name);
}

gboolean
plan_check_subclusters (const PlanContext *context, OpDisk *disk, const char *file, GError **error)
{
  g_auto (ImageHeader) header = {0};
  if (disk->before->len == 1 || qmp_client_get_version (context->client) >= FIRST_SUBCLUSTERS)
    return TRUE;
  if (!image_header_read (file, &header, error))
    return prefix (error, "disk '%s'", disk->name);
  if (!header.extended_l2)
    return TRUE;
  fail (
      error, REFUSED,
      "disk '%s': '%s' has subclusters (extended_l2), and this QEMU (%s) can abort when it copies "
      "into such an image from what backs it",
      disk->name, file, qmp_client_get_version_string (context->client));
  return hint (error, "QEMU 8.2 and later can do it");
}

static gboolean
add_allocation (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  FileId id;
  gboolean exists;
  gboolean full = g_strcmp0 (wanted->fill, "full") == 0;
  const char *file = ((ChainLayer *)disk->before->pdata[0])->file;
  disk->details = json_make ("fill", json_str (full ? "full" : "backing"), NULL);
  if (!full && g_strcmp0 (((ChainLayer *)disk->before->pdata[0])->format, "raw") == 0) {
    g_array_set_size (disk->regions, 0);
    g_ptr_array_add (op->notes,
                     g_strdup_printf ("'%s' is raw, so that no layer has anything it could need: "
                                      "nothing is allocated without --fill full",
                                      file));
  } else if (disk->regions->len == 0) {
    Region whole = {.length = ((ChainLayer *)disk->before->pdata[0])->virtual_size};
    g_array_append_val (disk->regions, whole);
  }
  if (!check_allocation (op, disk, full, error) || !file_identify (file, &id, &exists, error))
    return FALSE;
  if (disk->receiver == NULL) {
    g_ptr_array_add (disk->old_ids,
                     g_memdup2 (&id, sizeof id)); /* of the file itself: fill-file.c */
    disk->receiver = g_strdup (file);
  }
  if (!receiver_free_space (file, op_disk_layer (disk, 0)->format, FALSE, &disk->free, error))
    return FALSE;
  if (op->kind == OP_ALLOCATE && disk->before->len > 1) { /* the filter is counted too */
    guint first = 0;
    g_array_prepend_val (disk->depths, first);
  }
  return TRUE;
}

static gboolean
add_wanted (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  guint64 size = ((ChainLayer *)disk->before->pdata[0])->virtual_size;
  disk->regions = g_array_new (FALSE, FALSE, sizeof (Region));
  for (guint i = 0; i < wanted->regions->len; i++) {
    Region region = g_array_index (wanted->regions, Region, i);
    if (!region_clip (&region, size, error))
      return prefix (error, "disk '%s': region %u", disk->name, i + 1);
    if (op->kind == OP_ALLOCATE)
      region = widen (region, size);
    g_array_append_val (disk->regions, region);
  }
  merge_regions (disk->regions);
  return TRUE;
}

/* Only where nothing below is needed any more, which is known of the whole disk or not at all. */
gboolean
plan_detach (Op *op, OpDisk *disk, const RequestDisk *wanted, World *world, GError **error)
{
  if (wanted->regions->len > 0) {
    fail (error, USAGE, "disk '%s': the backing layers can only be detached from the whole disk",
          disk->name);
    return hint (error, "leave the regions out");
  }
  if (disk->before->len == 1) {
    fail (error, REFUSED, "disk '%s': its active layer has no backing file", disk->name);
    return hint (error, "leave --detach-backing out");
  }
  return plan_merge_disk (op, disk, wanted, world, error);
}

/* The first node of the export is the active layer, or the filter over it. */
gboolean
plan_allocate_image (Op *op, OpDisk *disk, const RequestDisk *wanted, GError **error)
{
  gboolean backed = disk->before->len > 1;
  disk->mode = backed ? MODE_STREAM : MODE_NONE; /* as copy-on-read does */
  disk->first = disk->base = backed ? 1 : 0;
  disk->depths = g_array_new (FALSE, FALSE, sizeof (guint));
  for (guint i = 0; i < disk->before->len; i++)
    g_array_append_val (disk->depths, i);
  export_name (op, disk);
  return (!(op->flags & OP_DETACH_BACKING) || plan_detach (op, disk, wanted, NULL, error)) &&
         add_wanted (op, disk, wanted, error) && add_allocation (op, disk, wanted, error);
}

gboolean
plan_add_regions (Op *op, OpDisk *disk, const PlanContext *context, ChainDisk *found,
                  const RequestDisk *wanted, GError **error)
{
  if (!add_wanted (op, disk, wanted, error))
    return FALSE;
  disk->depths = world_depths (context->world, found);
  if (disk->depths == NULL)
    return fail (error, REFUSED, "disk '%s': QEMU's count of its layers cannot be told",
                 disk->name);
  export_name (op, disk);
  return op->kind != OP_ALLOCATE ||
         (add_allocation (op, disk, wanted, error) &&
          plan_check_subclusters (context, disk, ((ChainLayer *)disk->before->pdata[0])->file,
                                  error));
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
    fail (&refusal, REFUSED,
          "disk '%s' may run in an IOThread, and this QEMU (%s) can abort when "
          "such a disk is exported",
          question->disk, qmp_client_get_version_string (client));
    hint (&refusal, "QEMU 9.0 and later can do it; or end the guest and use --offline");
  }
  answer (question, refusal);
}

/* The property is that of a virtio device; of another kind of disk it is not known
 * where it runs. */
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
    qmp_client_execute (
        client, "qom-get",
        json_make ("path", json_str (question->qdev), "property", json_str ("iothread"), NULL), 0,
        on_iothread, question);
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
plan_ask_iothread (const PlanContext *context, OpKind kind, OpDisk *disk, PlanAnswer told,
                   gpointer data)
{
  gboolean exports = disk->before->len > 1 ||
                     g_strcmp0 (((ChainLayer *)disk->before->pdata[0])->format, "raw") != 0;
  if (context->client == NULL || /* offline: the daemon is our own */
      qmp_client_get_version (context->client) >= FIRST_SAFE_EXPORT ||
      (kind == OP_ALLOCATE && !exports))
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
