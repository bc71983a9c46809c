/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/storage/plan-private.h"

#include "jobs/image.h"
#include "jobs/lvm.h"
#include "jobs/volume-id.h"
#include "src/common/size.h"
#include "src/common/source.h"
#include "src/storage/report.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- who uses it ----------------------------------------------------------------------------- */

static gboolean
refuse (Volume *volume, const char *why, GError **error)
{
  fail (error, REFUSED, "'%s' is in use: %s", volume->place.path, why);
  return FALSE;
}

/* A VM that runs is told first: there is a way through it. */
static gboolean
check_vms (VolumePlan *plan, Volume *volume, gboolean reading, GError **error)
{
  for (gsize i = 0; i < json_length (volume->vms); i++) {
    Json *vm = json_at (volume->vms, i);
    if (reading && json_get_int (vm, "depth") > 0)
      continue;
    g_autofree char *why = g_strdup_printf ("VM '%s' has it in the chain of its disk '%s'",
                                            json_get_str (vm, "vm"), json_get_str (vm, "disk"));
    refuse (volume, why, error);
    return hint (error, "shut the VM down, or use the live commands: rechain help copy");
  }
  return TRUE;
}

static gboolean
is_written (const Users *users)
{
  for (guint i = 0; i < users->open->len; i++)
    if (((OpenBy *)users->open->pdata[i])->writes)
      return TRUE;
  return users->mounts->len > 0 || users->devices->len > 0 || users->swap;
}

gboolean
plan_check_free (VolumePlan *plan, Volume *volume, gboolean reading, GError **error)
{
  if (!check_vms (plan, volume, reading, error))
    return FALSE;
  if (reading ? !is_written (volume->users) : users_none (volume->users))
    return TRUE;
  g_autofree char *why = users_say (volume->users);
  return refuse (volume, why, error);
}

void
plan_find_vms (VolumePlan *plan, Volume *volume)
{
  volume->vms = layers_of_volume (plan->layers, volume);
}

/* A guest can write a qcow2 header into its raw disk, and let it name any file of this host as
 * backing or data file (CVE-2026-24708): where only the header says that it is qcow2, it may name
 * none. */
static gboolean
check_header (Volume *volume, const char *format, GError **error)
{
  const char *path = volume->place.path;
  for (guint i = 0; volume->chain != NULL && i < volume->chain->len; i++) {
    ChainLayer *layer = volume->chain->pdata[i];
    if (layer->data_file)
      return fail (error, REFUSED, "'%s' keeps its data in another file", layer->file);
  }
  if (volume->chain == NULL || volume->chain->len < 2 || format != NULL ||
      g_str_has_suffix (path, ".qcow2"))
    return TRUE;
  fail (error, REFUSED,
        "the format of '%s' must be named: its contents say qcow2, its name does not", path);
  return hint (error,
               "--source-format qcow2 (or --backing-format) where no guest wrote it as a raw disk, "
               "else raw");
}

Volume *
plan_find (VolumePlan *plan, const char *path, const char *format, gboolean reading, GError **error)
{
  g_autoptr (Volume) volume = volume_look (plan->allow, path, format, TRUE, error);
  if (volume == NULL)
    return NULL;
  volume_find_users (volume, plan->files);
  plan_find_vms (plan, volume);
  if (volume->broken != NULL) {
    fail (error, REFUSED, "'%s' cannot be used", volume->place.path);
    because (error, "%s", volume->broken);
    return NULL;
  }
  return check_header (volume, format, error) && plan_check_free (plan, volume, reading, error)
             ? g_steal_pointer (&volume)
             : NULL;
}

/* ---- the operation --------------------------------------------------------------------------- */

void
plan_begin (VolumePlan *plan, const char *path)
{
  plan->disk = op_add_disk (plan->op, path);
  plan->disk->to = g_strdup (path);
  plan->disk->receiver = g_strdup (path);
  plan->disk->details = json_make ("uses", json_array (), "fill", json_array (), NULL);
  op_name_disk (plan->op, plan->disk);
}

static gboolean
check_replaced (VolumePlan *plan, const char *path, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (!request->overwrite && request->kind != OP_VOL_COPY_CONTENTS) {
    fail (error, REFUSED, "'%s' exists", path);
    return request->kind == OP_VOL_COPY ? hint (error, "--overwrite replaces it") : FALSE;
  }
  plan->volume = plan_find (plan, path, NULL, FALSE, error);
  if (plan->volume == NULL)
    return FALSE;
  if (plan->volume->type == VOLUME_BLOCK)
    return fail (error, REFUSED, "'%s' is a device, neither a file nor a logical volume", path);
  if (!plan_check_origin (plan, plan->volume, error))
    return FALSE;
  if (plan->volume->backs->len == 0)
    return TRUE;
  return fail (error, REFUSED, "'%s' is the backing file of '%s'", path,
               (char *)plan->volume->backs->pdata[0]);
}

static void
set_permissions (VolumePlan *plan, Volume *like)
{
  const VolumeRequest *request = plan->request;
  Json *details = plan->disk->details;
  if (like != NULL)
    json_set (details, "like", json_str (like->place.path));
  if (request->mode >= 0)
    json_set (details, "mode", json_int (request->mode));
  if (request->owner >= 0)
    json_set (details, "owner", json_int (request->owner));
  if (request->group >= 0)
    json_set (details, "group", json_int (request->group));
}

gboolean
plan_begin_new (VolumePlan *plan, const char *path, Volume *like, GError **error)
{
  g_auto (Place) place = {0};
  if (path == NULL)
    return fail (error, USAGE, "no volume is named");
  if (!place_find_new (plan->allow, path, &place, error) ||
      (place.exists && !check_replaced (plan, place.path, error)))
    return FALSE;
  if (strlen (strrchr (place.path, '/')) > 200)
    return fail (error, USAGE, "the name of '%s' is too long", place.path);
  plan_begin (plan, place.path);
  if (plan->volume != NULL) {
    json_set (plan->disk->details, "replaces", volume_id_of (place.path));
    like = plan->volume;
  }
  if (place.vg != NULL)
    return plan_begin_lv (plan, &place, error);
  set_permissions (plan, like);
  return TRUE;
}

Json *
plan_add_program (VolumePlan *plan, char **take_argv)
{
  g_auto (GStrv) argv = take_argv;
  Json *words = json_array ();
  for (char **word = argv; *word != NULL; word++)
    json_append (words, json_str (*word));
  Json *program = json_make ("argv", words, NULL);
  json_append (json_get (plan->disk->details, "fill"), program);
  return program;
}

void
plan_use (VolumePlan *plan, const char *path)
{
  json_append (json_get (plan->disk->details, "uses"), json_str (path));
}

void
plan_need (VolumePlan *plan, guint64 bytes)
{
  plan->disk->needed = bytes;
  plan->disk->has_needed = TRUE;
}

/* ---- what more than one kind asks ------------------------------------------------------------ */

Json *
plan_image_spec (Volume *volume)
{
  if (volume->chain != NULL)
    return image_chain_spec (volume->chain, 0, volume->chain->len);
  gboolean device = S_ISBLK (volume->place.st.st_mode);
  /* LUKS is copied as it is; only who has the key sees more in it. */
  const char *format = g_strcmp0 (volume->format, "luks") == 0 ? "raw" : volume->format;
  return json_make ("driver", json_str (format), "file",
                    json_make ("driver", json_str (device ? "host_device" : "file"), "filename",
                               json_str (volume->place.path), NULL),
                    NULL);
}

char *
plan_image_name (Volume *volume, guint64 limit)
{
  g_autoptr (Json) spec = plan_image_spec (volume);
  if (limit > 0)
    spec = json_make ("driver", json_str ("raw"), "size", json_int ((gint64)limit), "file",
                      g_steal_pointer (&spec), NULL);
  return image_spec_name (spec);
}

char *
plan_raw_name (Volume *volume)
{
  Volume as_raw = {.place = volume->place, .format = (char *)"raw"};
  return plan_image_name (&as_raw, 0);
}

char *
plan_format (const char *asked, const char *path, const char *otherwise)
{
  if (asked != NULL)
    return g_strdup (asked);
  return g_strdup (g_str_has_suffix (path, ".qcow2") ? "qcow2" : otherwise);
}

gboolean
plan_can_share (Volume *source, const char *path)
{
  g_autofree char *dir = g_path_get_dirname (path);
  if (source->type != VOLUME_FILE)
    return FALSE;
  int from = open (source->place.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  int to = from >= 0 ? open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
  gboolean ok = to >= 0 && ioctl (to, FICLONE, from) == 0;
  if (from >= 0)
    close (from);
  if (to >= 0)
    close (to);
  return ok;
}

static gboolean
check_space (VolumePlan *plan, GError **error)
{
  OpDisk *disk = plan->disk;
  if (!disk->has_needed || plan_makes_lv (plan) || !file_free_space (disk->to, &disk->free, NULL) ||
      disk->needed <= disk->free)
    return TRUE;
  g_autofree char *want = format_size (disk->needed);
  g_autofree char *have = format_size (disk->free);
  g_autofree char *dir = g_path_get_dirname (disk->to);
  return fail (error, REFUSED, "not enough space in '%s': %s needed, %s free", dir, want, have);
}

/* ---- the course of planning ------------------------------------------------------------------ */

static void
plan_free (VolumePlan *plan)
{
  op_free (plan->op);
  volume_free (plan->source);
  volume_free (plan->volume);
  open_files_free (plan->files);
  g_strfreev (plan->measure);
  json_object_put (plan->lvs);
  json_object_put (plan->vgs);
  peek_free (plan->peek);
  g_clear_error (&plan->error);
  g_free (plan);
}

static gboolean
tell (gpointer data)
{
  VolumePlan *plan = data;
  if (plan->error == NULL)
    check_space (plan, &plan->error);
  plan->callback (plan->error ? NULL : g_steal_pointer (&plan->op), plan->error, plan->data);
  plan_free (plan);
  return G_SOURCE_REMOVE;
}

static void
one_answered (VolumePlan *plan)
{
  if (--plan->pending > 0)
    return;
  source_soon (tell, plan, NULL);
}

void
plan_answered (VolumePlan *plan, GError *take_error)
{
  if (plan->error == NULL)
    plan->error = take_error;
  else
    g_clear_error (&take_error);
  one_answered (plan);
}

static void
on_measured (const char *out, const GError *error, gpointer data)
{
  VolumePlan *plan = data;
  guint64 needed = 0, full;
  GError *bad = error ? g_error_copy (error) : NULL;
  if (bad == NULL && image_measure_parse (out, &needed, &full, &bad)) {
    guint64 bytes = plan->full ? full : needed;
    if (plan_makes_lv (plan) && !json_has (plan->disk->details, "lv-size"))
      plan_set_lv_size (plan, bytes, G_MAXUINT64, &bad);
    else if (!plan_makes_lv (plan))
      plan_need (plan, MAX (plan->disk->needed, bytes));
  }
  prefix (&bad, "measure '%s'", plan->source ? plan->source->place.path : "");
  plan_answered (plan, bad);
}

static gboolean
fill (VolumePlan *plan, GError **error)
{
  static gboolean (*const kinds[N_OP_KINDS]) (VolumePlan * plan, GError * *error) = {
      [OP_VOL_CREATE] = plan_create,     [OP_VOL_CLONE] = plan_clone,
      [OP_VOL_COPY] = plan_copy,         [OP_VOL_COPY_CONTENTS] = plan_copy_contents,
      [OP_VOL_COMPRESS] = plan_compress, [OP_VOL_DECOMPRESS] = plan_decompress,
      [OP_VOL_SNAPSHOT] = plan_snapshot, [OP_VOL_RESIZE] = plan_resize,
      [OP_VOL_DELETE] = plan_delete,     [OP_VOL_GROWFS] = plan_growfs,
      [OP_VOL_SHRINKFS] = plan_shrinkfs, [OP_VOL_LEND] = plan_lend,
  };
  Op *op = plan->op;
  op->bandwidth = plan->request->bandwidth;
  op->timeout_ms = plan->request->timeout_ms;
  return kinds[op->kind](plan, error);
}

static void
plan_kind (VolumePlan *plan)
{
  if (fill (plan, &plan->error) && plan->measure != NULL) {
    plan->pending++;
    image_run ((const char *const *)plan->measure, IMAGE_QUESTION, on_measured, plan);
  }
  one_answered (plan);
}

void
plan_lvm_answered (VolumePlan *plan, const GError *error)
{
  if (error == NULL) {
    plan_kind (plan);
    return;
  }
  plan_answered (plan, g_error_copy (error));
}

void
volume_plan_make (const Allow *allow, const char *state_dir, const VolumeRequest *request,
                  Json *layers, VolumePlanReady callback, gpointer data)
{
  VolumePlan *plan = g_new0 (VolumePlan, 1);
  *plan = (VolumePlan){.allow = allow,
                       .state_dir = state_dir,
                       .request = request,
                       .layers = layers,
                       .files = open_files_scan (),
                       .op = op_new (request->kind),
                       .pending = 1,
                       .callback = callback,
                       .data = data};
  if (!plan_needs_lvm (request))
    plan_kind (plan);
  else if (lvm_is_usable (&plan->error))
    plan_ask_lvs (plan);
  else
    one_answered (plan);
}
