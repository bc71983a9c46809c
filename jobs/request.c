/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/request.h"

#define SNAPSHOT (1u << OP_SNAPSHOT)
#define MOVE     (1u << OP_MOVE)
#define PULL     (1u << OP_PULL)
#define COMMIT   (1u << OP_COMMIT)
#define MERGE    (1u << OP_MERGE)
#define COPY     (1u << OP_COPY)
#define ALLOCATE (1u << OP_ALLOCATE)

/* Which kinds know which option. */
static const struct {
  const char *name;
  gsize offset;
  guint kinds;
} options[] = {
    {"to", G_STRUCT_OFFSET (RequestDisk, to), SNAPSHOT | MOVE | COPY},
    {"base", G_STRUCT_OFFSET (RequestDisk, base), MOVE | PULL | COMMIT},
    {"format", G_STRUCT_OFFSET (RequestDisk, format), SNAPSHOT | MOVE | COPY | ALLOCATE},
    {"top", G_STRUCT_OFFSET (RequestDisk, top), PULL | COMMIT},
    {"source", G_STRUCT_OFFSET (RequestDisk, source), MERGE},
    {"dest", G_STRUCT_OFFSET (RequestDisk, dest), MERGE},
    {"fill", G_STRUCT_OFFSET (RequestDisk, fill), ALLOCATE},
    {"method", G_STRUCT_OFFSET (RequestDisk, method), SNAPSHOT},
    {"device", G_STRUCT_OFFSET (RequestDisk, device), SNAPSHOT},
    {"size", G_STRUCT_OFFSET (RequestDisk, size), SNAPSHOT},
    {"subvolume", G_STRUCT_OFFSET (RequestDisk, subvolume), SNAPSHOT},
    {"on-delete", G_STRUCT_OFFSET (RequestDisk, on_delete), SNAPSHOT},
    {"allow-shared", G_STRUCT_OFFSET (RequestDisk, allow_shared), PULL | COMMIT | MERGE},
};

static char **
option_of (RequestDisk *disk, gsize i)
{
  return (char **)(void *)((char *)disk + options[i].offset);
}

static void
disk_free (gpointer data)
{
  RequestDisk *disk = data;
  g_free (disk->disk);
  for (gsize i = 0; i < G_N_ELEMENTS (options); i++)
    g_free (*option_of (disk, i));
  g_array_unref (disk->regions);
  g_free (disk);
}

Request *
request_new (OpKind kind)
{
  Request *request = g_new0 (Request, 1);
  request->kind = kind;
  request->max_pause_ms = 500;
  request->max_freeze_ms = MAX_FREEZE_MS;
  request->disks = g_ptr_array_new_with_free_func (disk_free);
  return request;
}

Request *
request_copy (const Request *request)
{
  Request *copy = request_new (request->kind);
  copy->name = g_strdup (request->name);
  copy->description = g_strdup (request->description);
  copy->direction = request->direction;
  copy->brief = request->brief;
  copy->all_others = request->all_others;
  copy->allow = g_strdupv (request->allow);
  copy->allow_vgs = g_strdupv (request->allow_vgs);
  copy->allow_shared = g_strdupv (request->allow_shared);
  copy->agent = g_strdup (request->agent);
  copy->bandwidth = request->bandwidth;
  copy->timeout_ms = request->timeout_ms;
  copy->max_pause_ms = request->max_pause_ms;
  copy->max_freeze_ms = request->max_freeze_ms;
  copy->grow_step = request->grow_step;
  copy->flags = request->flags;
  for (guint i = 0; i < request->disks->len; i++) {
    RequestDisk *from = request->disks->pdata[i];
    RequestDisk *to = request_add_disk (copy, from->disk);
    for (gsize k = 0; k < G_N_ELEMENTS (options); k++)
      *option_of (to, k) = g_strdup (*option_of (from, k));
    to->left_out = from->left_out;
    g_array_append_vals (to->regions, from->regions->data, from->regions->len);
  }
  return copy;
}

void
request_free (Request *request)
{
  if (request == NULL)
    return;
  g_free (request->name);
  g_free (request->description);
  g_strfreev (request->allow);
  g_strfreev (request->allow_vgs);
  g_strfreev (request->allow_shared);
  g_free (request->agent);
  g_ptr_array_unref (request->disks);
  g_free (request);
}

RequestDisk *
request_add_disk (Request *request, const char *disk)
{
  RequestDisk *added = g_new0 (RequestDisk, 1);
  added->disk = g_strdup (disk);
  added->regions = g_array_new (FALSE, FALSE, sizeof (Region));
  g_ptr_array_add (request->disks, added);
  return added;
}

static RequestDisk *
find (Request *request, const char *disk)
{
  for (guint i = request->disks->len; i-- > 0;)
    if (g_str_equal (((RequestDisk *)request->disks->pdata[i])->disk, disk))
      return request->disks->pdata[i];
  return NULL;
}

gboolean
request_add_region (Request *request, const char *disk, guint64 start, guint64 length,
                    GError **error)
{
  RequestDisk *found = find (request, disk);
  Region region = {.start = start, .length = length};
  if (found == NULL)
    return fail (error, USAGE, "disk '%s' is not part of the request", disk);
  if (request->kind != OP_MAP && request->kind != OP_ALLOCATE)
    return fail (error, USAGE, "disk '%s': '%s' has no regions", disk,
                 op_kind_name (request->kind));
  if (start > G_MAXINT64 || length > G_MAXINT64)
    return fail (error, USAGE, "disk '%s': no disk is that large", disk);
  g_array_append_val (found->regions, region);
  return TRUE;
}

/* Options that are one of a few words. */
static gboolean
check_word (const char *disk, const char *option, const char *value, GError **error)
{
  static const struct {
    const char *option, *words;
  } table[] = {{"on-delete", "forward, backward"},
               {"fill", "backing, full"},
               {"method", "qemu, lvm, btrfs"}};
  for (gsize i = 0; i < G_N_ELEMENTS (table); i++) {
    g_auto (GStrv) words = g_strsplit (table[i].words, ", ", -1);
    if (!g_str_equal (option, table[i].option) ||
        g_strv_contains ((const char *const *)words, value))
      continue;
    fail (error, USAGE, "disk '%s': '%s' is no value of %s", disk, value, option);
    return hint (error, "it can be: %s", table[i].words);
  }
  return TRUE;
}

gboolean
request_set_disk_option (Request *request, const char *disk, const char *option, const char *value,
                         GError **error)
{
  RequestDisk *found = find (request, disk);
  if (found == NULL)
    return fail (error, USAGE, "disk '%s' is not part of the request", disk);
  if (value == NULL || value[0] == '\0')
    return fail (error, USAGE, "disk '%s': option '%s' is empty", disk, option);
  for (gsize i = 0; i < G_N_ELEMENTS (options); i++) {
    if (!g_str_equal (option, options[i].name) || !(options[i].kinds & 1u << request->kind))
      continue;
    if (!check_word (disk, option, value, error))
      return FALSE;
    char **field = option_of (found, i);
    g_free (*field);
    *field = g_strdup (value);
    return TRUE;
  }
  return fail (error, USAGE, "disk '%s': '%s' has no option '%s'", disk,
               op_kind_name (request->kind), option);
}
