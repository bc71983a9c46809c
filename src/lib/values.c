/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boxed values and the small functions of the public header. */
#include "src/lib/lib-private.h"

#include "jobs/grow.h"
#include "src/storage/request.h"

/* GLib's macro passes functions through a union, which ISO C does not know. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
G_DEFINE_BOXED_TYPE (RechainLayer, rechain_layer, rechain_layer_copy, rechain_layer_free)
G_DEFINE_BOXED_TYPE (RechainDisk, rechain_disk, rechain_disk_copy, rechain_disk_free)
G_DEFINE_BOXED_TYPE (RechainVolumeRequest, rechain_volume_request, rechain_volume_request_copy,
                     rechain_volume_request_free)
G_DEFINE_BOXED_TYPE (RechainRequest, rechain_request, rechain_request_copy, rechain_request_free)
#pragma GCC diagnostic pop

/* The public enums are the inner ones under other names. */
G_STATIC_ASSERT ((int)RECHAIN_STATE_STUCK == (int)OP_STUCK);
G_STATIC_ASSERT ((int)RECHAIN_STATE_UNDOING == (int)OP_UNDOING);
G_STATIC_ASSERT ((int)RECHAIN_KIND_MOVE == (int)OP_MOVE);
G_STATIC_ASSERT ((int)RECHAIN_KIND_MAP == (int)OP_MAP);
G_STATIC_ASSERT ((int)RECHAIN_KIND_QUIESCE == (int)OP_QUIESCE);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_QUIESCED == (int)OP_QUIESCED);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_BEST_EFFORT == (int)OP_BEST_EFFORT);
G_STATIC_ASSERT ((int)RECHAIN_KIND_SNAPSHOT_DELETE == (int)OP_SNAPSHOT_DELETE);
G_STATIC_ASSERT ((int)RECHAIN_KIND_COPY == (int)OP_COPY);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_NO_PIVOT == (int)OP_NO_PIVOT);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_DETACH_BACKING == (int)OP_DETACH_BACKING);
G_STATIC_ASSERT ((int)RECHAIN_KIND_ALLOCATE == (int)OP_ALLOCATE);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_PIVOT_LIVE == (int)OP_PIVOT_LIVE);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_NO_UNDO == (int)OP_NO_UNDO);
G_STATIC_ASSERT ((int)RECHAIN_FLAG_DELETE == (int)OP_DELETE);

RechainLayer *
rechain_layer_copy (const RechainLayer *layer)
{
  RechainLayer *copy = g_memdup2 (layer, sizeof *layer);
  copy->file = g_strdup (layer->file);
  copy->format = g_strdup (layer->format);
  copy->node = g_strdup (layer->node);
  copy->backing = g_strdup (layer->backing);
  copy->backing_format = g_strdup (layer->backing_format);
  return copy;
}

void
rechain_layer_free (RechainLayer *layer)
{
  if (layer == NULL)
    return;
  g_free (layer->file);
  g_free (layer->format);
  g_free (layer->node);
  g_free (layer->backing);
  g_free (layer->backing_format);
  g_free (layer);
}

static gpointer
copy_layer (gconstpointer layer, gpointer data)
{
  return rechain_layer_copy (layer);
}

RechainDisk *
rechain_disk_copy (const RechainDisk *disk)
{
  RechainDisk *copy = g_memdup2 (disk, sizeof *disk);
  copy->name = g_strdup (disk->name);
  copy->node = g_strdup (disk->node);
  copy->layers = g_ptr_array_copy (disk->layers, copy_layer, NULL);
  return copy;
}

void
rechain_disk_free (RechainDisk *disk)
{
  if (disk == NULL)
    return;
  g_free (disk->name);
  g_free (disk->node);
  g_ptr_array_unref (disk->layers);
  g_free (disk);
}

RechainRequest *
rechain_request_new (RechainKind kind)
{
  g_return_val_if_fail ((guint)kind < N_OP_KINDS, NULL);
  return request_new ((OpKind)kind);
}

RechainRequest *
rechain_request_copy (const RechainRequest *request)
{
  return request_copy (request);
}

void
rechain_request_free (RechainRequest *request)
{
  request_free (request);
}

void
rechain_request_add_disk (RechainRequest *request, const char *disk)
{
  g_return_if_fail (disk != NULL);
  request_add_disk (request, disk);
}

gboolean
rechain_request_set_disk_option (RechainRequest *request, const char *disk, const char *option,
                                 const char *value, GError **error)
{
  return request_set_disk_option (request, disk, option, value, error);
}

gboolean
rechain_request_add_region (RechainRequest *request, const char *disk, guint64 start,
                            guint64 length, GError **error)
{
  return request_add_region (request, disk, start, length, error);
}

void
rechain_request_set_name (RechainRequest *request, const char *name)
{
  g_free (request->name);
  request->name = g_strdup (name);
}

void
rechain_request_set_description (RechainRequest *request, const char *description)
{
  g_free (request->description);
  request->description = g_strdup (description);
}

gboolean
rechain_request_set_direction (RechainRequest *request, const char *direction, GError **error)
{
  request->direction = merge_direction_parse (direction);
  if (direction == NULL || request->direction != MERGE_UNSAID)
    return TRUE;
  fail (error, USAGE, "'%s' is no direction", direction);
  return hint (error, "it can be: forward, backward");
}

void
rechain_request_set_allow_shared (RechainRequest *request, const char *const *layers)
{
  g_strfreev (request->allow_shared);
  request->allow_shared = g_strdupv ((char **)layers);
}

void
rechain_request_set_brief (RechainRequest *request, gboolean brief)
{
  request->brief = brief;
}

void
rechain_request_set_allowed (RechainRequest *request, const char *const *directories)
{
  g_strfreev (request->allow);
  request->allow = g_strdupv ((char **)directories);
}

void
rechain_request_set_allowed_groups (RechainRequest *request, const char *const *volume_groups)
{
  g_strfreev (request->allow_vgs);
  request->allow_vgs = g_strdupv ((char **)volume_groups);
}

gboolean
rechain_request_set_grow_step (RechainRequest *request, guint64 bytes, GError **error)
{
  request->grow_step = bytes;
  return bytes == 0 || bytes >= GROW_STEP_MIN ||
         fail (error, USAGE,
               "a step of %" G_GUINT64_FORMAT " bytes is too small: 1 MiB is the least", bytes);
}

void
rechain_request_set_bandwidth (RechainRequest *request, guint64 bytes_per_second)
{
  request->bandwidth = bytes_per_second;
}

void
rechain_request_set_timeout (RechainRequest *request, guint64 ms)
{
  request->timeout_ms = ms;
}

void
rechain_request_set_max_pause (RechainRequest *request, guint64 ms)
{
  request->max_pause_ms = ms;
}

void
rechain_request_set_agent (RechainRequest *request, const char *agent)
{
  g_free (request->agent);
  request->agent = agent ? rechain_vm_normalize_address (agent) : NULL;
}

void
rechain_request_set_max_freeze (RechainRequest *request, guint64 ms)
{
  request->max_freeze_ms = ms;
}

void
rechain_request_set_flags (RechainRequest *request, RechainFlags flags)
{
  request->flags = (OpFlags)flags;
}

const char *
rechain_state_name (RechainState state)
{
  return op_state_name ((OpState)state);
}

const char *
rechain_version (void)
{
  return RECHAIN_VERSION;
}

char *
rechain_chain_read_offline (const char *image, const char *format, GError **error)
{
  g_autoptr (GPtrArray) layers = chain_read_offline (image, format, error);
  return layers ? print_document (document_chain_offline (layers)) : NULL;
}

/* ---- volumes --------------------------------------------------------------------------------- */

G_STATIC_ASSERT ((int)OP_VOL_CREATE + (int)RECHAIN_VOLUME_LEND == (int)OP_VOL_LEND);

RechainVolumeRequest *
rechain_volume_request_new (RechainVolumeKind kind)
{
  g_return_val_if_fail ((guint)kind <= RECHAIN_VOLUME_LEND, NULL);
  return volume_request_new ((OpKind)(OP_VOL_CREATE + (int)kind));
}

RechainVolumeRequest *
rechain_volume_request_copy (const RechainVolumeRequest *request)
{
  return volume_request_copy (request);
}

void
rechain_volume_request_free (RechainVolumeRequest *request)
{
  volume_request_free (request);
}

gboolean
rechain_volume_request_set (RechainVolumeRequest *request, const char *option, const char *value,
                            GError **error)
{
  return volume_request_set (request, option, value, error);
}

gboolean
rechain_volume_request_set_xml (RechainVolumeRequest *request, const char *xml, gsize length,
                                const char *origin, GError **error)
{
  return volume_request_set_xml (request, xml, length, origin, error);
}
