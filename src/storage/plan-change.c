/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes changed where they are: resize, delete. */
#include "src/storage/plan-private.h"

#include "jobs/op-volume.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static void
set_identity (VolumePlan *plan)
{
  const struct stat *st = &plan->volume->place.st;
  FileId id = {.dev = st->st_dev, .ino = st->st_ino};
  json_set (plan->disk->details, "is", file_id_to_json (id));
}

static gboolean
check_is_file (VolumePlan *plan, GError **error)
{
  return plan->volume->type == VOLUME_FILE ||
         fail (error, REFUSED, "'%s' is a device; changing devices is not built in this version",
               plan->volume->place.path);
}

/* ---- where what is inside ends --------------------------------------------------------------- */

/* Programs that say how many bytes a filesystem has, and the lines they say it in: the product of
 * both. */
/* clang-format off */
static const struct { const char *type, *argv[9], *keys[2]; } endings[] = {
    {"ext2", {"dumpe2fs", "-h", NULL}, {"Block count:", "Block size:"}},
    {"ext3", {"dumpe2fs", "-h", NULL}, {"Block count:", "Block size:"}},
    {"ext4", {"dumpe2fs", "-h", NULL}, {"Block count:", "Block size:"}},
    {"xfs", {"xfs_db", "-r", "-c", "sb 0", "-c", "print dblocks blocksize", NULL}, {"dblocks =", "blocksize ="}},
    {"btrfs", {"btrfs", "inspect-internal", "dump-super", NULL}, {"total_bytes", NULL}},
};
/* clang-format on */

static guint64
value_after (const char *out, const char *key)
{
  const char *at = strstr (out, key);
  return at ? g_ascii_strtoull (at + strlen (key), NULL, 10) : 0;
}

static gboolean
refuse_end (VolumePlan *plan, const char *what, guint64 end, GError **error)
{
  fail (error, REFUSED, "the %s in '%s' reaches to byte %" G_GUINT64_FORMAT, what,
        plan->volume->place.path, end);
  return hint (error, "make it smaller first: rechain vol shrinkfs");
}

static gboolean
judge_end (VolumePlan *plan, const char *what, guint64 end, GError **error)
{
  guint64 size = (guint64)json_get_int (plan->disk->details, "new-size");
  if (end == 0)
    return fail (error, REFUSED, "where the %s in '%s' ends is not known", what,
                 plan->volume->place.path);
  return end <= size || refuse_end (plan, what, end, error);
}

static gsize
ending_of (const char *type)
{
  gsize i = 0;
  while (i < G_N_ELEMENTS (endings) && g_strcmp0 (endings[i].type, type) != 0)
    i++;
  return i;
}

static gboolean
ask_program (VolumePlan *plan, const char *type, GError **error)
{
  gsize i = ending_of (type);
  if (i == G_N_ELEMENTS (endings))
    return judge_end (plan, type, 0, error);
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  for (const char *const *word = endings[i].argv; *word != NULL; word++)
    g_strv_builder_add (argv, *word);
  g_strv_builder_add (argv, plan->peek ? plan->peek : plan->volume->place.path);
  plan->ending = g_strv_builder_end (argv);
  return TRUE;
}

/* An image has to be looked into first. */
static gboolean
begin_peek (VolumePlan *plan, GError **error)
{
  g_autofree char *to = g_build_filename (g_get_tmp_dir (), "rechain-peek-XXXXXX", NULL);
  int fd = g_mkstemp (to);
  if (fd < 0)
    return fail (error, FAILED, "make a temporary file in '%s'", g_get_tmp_dir ());
  close (fd);
  plan->peek = g_steal_pointer (&to);
  return TRUE;
}

gboolean
plan_check_end (VolumePlan *plan, const char *out, GError **error)
{
  Contents *contents = &plan->volume->contents;
  if (out != NULL) {
    gsize i = ending_of (contents->filesystem);
    guint64 end = value_after (out, endings[i].keys[0]);
    guint64 block = endings[i].keys[1] ? value_after (out, endings[i].keys[1]) : 1;
    return judge_end (plan, contents->filesystem,
                      end > G_MAXINT64 / MAX (block, 1) ? 0 : end * block, error);
  }
  if (plan->peek == NULL && g_strcmp0 (plan->volume->format, "qcow2") == 0)
    return begin_peek (plan, error);
  /* A GPT has its second copy in the last 33 sectors, which partition programs put right. */
  if (contents->partitions != NULL)
    return judge_end (plan, "partition table", contents->partitions_end, error);
  return contents->filesystem == NULL || ask_program (plan, contents->filesystem, error);
}

/* ---- resize ---------------------------------------------------------------------------------- */

static gboolean
check_new_size (VolumePlan *plan, guint64 size, GError **error)
{
  Volume *volume = plan->volume;
  if (size == volume->virtual_size)
    return fail (error, REFUSED, "'%s' has this size already", volume->place.path);
  if (g_str_equal (volume->format, "qcow2") && size % 512 != 0)
    return fail (error, USAGE, "the size of a qcow2 volume is a multiple of 512");
  if (size > volume->virtual_size)
    return TRUE;
  if (!plan->request->shrink) {
    fail (error, REFUSED, "this would cut off the end of '%s'", volume->place.path);
    return hint (error,
                 "--shrink does that, where nothing of its filesystem or partitions is there");
  }
  if (volume->backs->len > 0)
    return fail (error, REFUSED, "'%s' is the backing file of '%s'", volume->place.path,
                 (char *)volume->backs->pdata[0]);
  return plan_check_end (plan, NULL, error);
}

/* The layer of a VM that runs, where @volume is the active one of a disk. */
static Json *
active_layer (VolumePlan *plan, Volume *volume)
{
  for (gsize i = 0; i < json_length (plan->layers); i++) {
    Json *layer = json_at (plan->layers, i);
    const char *file = json_get_str (layer, "file");
    if (json_get_int (layer, "depth") == 0 && file != NULL &&
        path_same_file (file, volume->place.path))
      return layer;
  }
  return NULL;
}

/* The node must be QEMU's word for the very volume that was named. */
static gboolean
plan_live_resize (VolumePlan *plan, Json *layer, GError **error)
{
  const VolumeRequest *request = plan->request;
  const char *vm = json_get_str (layer, "vm"), *path = plan->volume->place.path;
  guint64 now = (guint64)json_get_int (layer, "size");
  guint64 size = request->capacity + (request->relative_capacity ? now : 0);
  if (size % 512 != 0)
    return fail (error, USAGE, "the size of a disk is a multiple of 512");
  if (size < now)
    return fail (error, REFUSED, "'%s' cannot be made smaller while VM '%s' uses it", path, vm);
  if (size == now)
    return fail (error, REFUSED, "'%s' has this size already", path);
  plan_begin (plan, path);
  plan->op->locks = file_has_writer (path);
  json_set (plan->disk->details, "vm", json_str (vm));
  json_set (plan->disk->details, "node", json_dup (json_get (layer, "node")));
  json_set (plan->disk->details, "format", json_dup (json_get (layer, "format")));
  json_set (plan->disk->details, "size", json_int ((gint64)now));
  json_set (plan->disk->details, "new-size", json_int ((gint64)size));
  return TRUE;
}

gboolean
plan_resize (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->volume == NULL || !request->has_capacity)
    return fail (error, USAGE, "resize needs a volume and a size");
  plan->volume = volume_look (plan->allow, request->volume, request->source_format, FALSE, error);
  if (plan->volume == NULL)
    return FALSE;
  Json *layer = active_layer (plan, plan->volume);
  if (layer != NULL)
    return plan_live_resize (plan, layer, error);
  g_clear_pointer (&plan->volume, volume_free);
  plan->volume = plan_find (plan, request->volume, request->source_format, FALSE, error);
  if (plan->volume == NULL || !check_is_file (plan, error))
    return FALSE;
  Volume *volume = plan->volume;
  if (g_strcmp0 (volume->format, "raw") != 0 && g_strcmp0 (volume->format, "qcow2") != 0)
    return fail (error, REFUSED, "'%s' is %s; only raw and qcow2 volumes are resized",
                 volume->place.path, volume->codec ? "compressed" : volume->format);
  guint64 size = request->capacity + (request->relative_capacity ? volume->virtual_size : 0);
  plan_begin (plan, volume->place.path);
  set_identity (plan);
  json_set (plan->disk->details, "format", json_str (volume->format));
  json_set (plan->disk->details, "size", json_int ((gint64)volume->virtual_size));
  json_set (plan->disk->details, "new-size", json_int ((gint64)size));
  return check_new_size (plan, size, error);
}

/* ---- delete ---------------------------------------------------------------------------------- */

/* What a QEMU has open is never removed, whatever is forced. */
static gboolean
check_unused (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  Users *users = plan->volume->users;
  g_autofree char *why = users_say (users);
  gboolean mounted = users->mounts->len + users->devices->len > 0 || users->swap;
  const char *reason = mounted ? "mounted" : users->locked || users->open->len > 0 ? "open" : NULL;
  if (json_length (plan->volume->vms) == 0 && !users->locked &&
      (reason == NULL || volume_request_forces (request, reason)))
    return TRUE;
  gboolean ok = plan_check_free (plan, plan->volume, FALSE, error);
  if (!ok && !users->locked && json_length (plan->volume->vms) == 0)
    hint (error, "--force %s removes it all the same", reason);
  return ok;
}

gboolean
plan_delete (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->volume == NULL)
    return fail (error, USAGE, "no volume is named");
  plan->volume = volume_look (plan->allow, request->volume, NULL, FALSE, error);
  if (plan->volume == NULL || !check_is_file (plan, error))
    return FALSE;
  volume_find_users (plan->volume, plan->files);
  plan_find_vms (plan, plan->volume);
  if (!check_unused (plan, error))
    return FALSE;
  if (plan->volume->backs->len > 0 && !volume_request_forces (request, "backing")) {
    fail (error, REFUSED, "'%s' is the backing file of '%s'", plan->volume->place.path,
          (char *)plan->volume->backs->pdata[0]);
    return hint (error, "--force backing removes it, and what is built on it is lost");
  }
  plan_begin (plan, plan->volume->place.path);
  set_identity (plan);
  json_set (plan->disk->details, "force", json_flag (request->force != NULL));
  return TRUE;
}
