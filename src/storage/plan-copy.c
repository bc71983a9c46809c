/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies of volumes as they are, byte for byte: copy, compress, decompress, snapshot. */
#include "src/storage/plan-private.h"

#include "src/storage/archive.h"

#include <string.h>

static gboolean
find_source (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->source == NULL)
    return fail (error, USAGE, "no source is named");
  if (request->snapshot)
    return plan_find_instant (plan, error);
  plan->source = plan_find (plan, request->source, request->source_format, TRUE, error);
  return plan->source != NULL;
}

/* ---- byte for byte --------------------------------------------------------------------------- */

/* The name in its header must still lead to the same backing file. */
static gboolean
check_relative_backing (VolumePlan *plan, GError **error)
{
  Volume *source = plan->source;
  ChainLayer *own = source->chain ? source->chain->pdata[0] : NULL;
  if (own == NULL || own->backing == NULL || source->chain->len < 2)
    return TRUE;
  g_autofree char *dir = g_path_get_dirname (plan->disk->to);
  g_autofree char *backing = chain_file_in (dir, own->backing);
  if (path_same_file (backing, ((ChainLayer *)source->chain->pdata[1])->file))
    return TRUE;
  fail (error, REFUSED, "the backing file '%s' of '%s' would not be found from '%s'", own->backing,
        source->place.path, plan->disk->to);
  return hint (error, "rechain vol clone makes a copy that needs none, or has --backing");
}

/* Through QEMU, which also knows how to leave out zeroes where the target is a device. */
static void
add_qemu_copy (VolumePlan *plan)
{
  g_autofree char *rate = g_strdup_printf ("%" G_GUINT64_FORMAT, plan->request->bandwidth);
  g_autofree char *name = plan_raw_name (plan->source);
  g_autoptr (GStrvBuilder) argv = g_strv_builder_new ();
  g_strv_builder_add_many (argv, "qemu-img", "convert", "-p", "-W", "-O", "raw", NULL);
  if (plan_makes_lv (plan))
    g_strv_builder_add (argv, "-n");
  if (plan_makes_thin (plan))
    g_strv_builder_add (argv, "--target-is-zero");
  if (plan->request->bandwidth > 0)
    g_strv_builder_add_many (argv, "-r", rate, NULL);
  g_strv_builder_add_many (argv, name, plan->disk->part, NULL);
  json_set (plan_add_program (plan, g_strv_builder_end (argv)), "watched", json_flag (TRUE));
}

static void
add_plain_copy (VolumePlan *plan)
{
  const char *argv[] = {"cp", "--sparse=auto",          "--reflink=never",
                        "--", plan->source->place.path, plan->disk->part,
                        NULL};
  if (plan->request->bandwidth > 0 || plan_makes_lv (plan) || plan->source->type != VOLUME_FILE)
    add_qemu_copy (plan);
  else
    json_set (plan_add_program (plan, g_strdupv ((char **)argv)), "in-order", json_flag (TRUE));
}

/* What replaces a logical volume is not smaller than that was. */
guint64
plan_lv_size_for (VolumePlan *plan, guint64 bytes)
{
  return MAX (bytes, plan->volume ? plan->volume->size : 0);
}

static gboolean
copy_bytes (VolumePlan *plan, GError **error)
{
  Volume *source = plan->source;
  if (!check_relative_backing (plan, error))
    return FALSE;
  if (plan_makes_lv (plan)) {
    add_plain_copy (plan);
    return plan_set_lv_size (plan, plan_lv_size_for (plan, source->size),
                             (source->size + 511) / 512 * 512, error);
  }
  json_set (plan->disk->details, "length", json_int ((gint64)source->size));
  if (plan_can_share (source, plan->disk->to)) {
    json_set (plan->disk->details, "reflink", json_str (source->place.path));
    return TRUE;
  }
  add_plain_copy (plan);
  plan_need (plan, source->has_allocated ? MIN (source->allocated, source->size) : source->size);
  return TRUE;
}

/* ---- through a codec ------------------------------------------------------------------------- */

gboolean
plan_check_codec (const Codec *codec, GError **error)
{
  return codec_is_usable (codec) ||
         fail (error, FAILED, "there is no program '%s' on this host", codec->compress[0]);
}

static void
add_filter (VolumePlan *plan, const char *const *argv)
{
  Json *program = plan_add_program (plan, g_strdupv ((char **)argv));
  json_set (program, "from", json_str (plan->source->place.path));
  json_set (program, "into", json_flag (TRUE));
  json_set (program, "watched", json_flag (TRUE));
}

gboolean
plan_check_suffix (VolumePlan *plan, const Codec *codec, GError **error)
{
  if (g_str_has_suffix (plan->disk->to, codec->suffix))
    return TRUE;
  fail (error, USAGE, "'%s' would not be known as an archive", plan->disk->to);
  return hint (error, "names of %s archives end with '%s'", codec->name, codec->suffix);
}

static gboolean
pack (VolumePlan *plan, const Codec *codec, GError **error)
{
  if (!plan_check_codec (codec, error))
    return FALSE;
  if (!plan_check_suffix (plan, codec, error))
    return FALSE;
  add_filter (plan, codec->compress);
  return TRUE;
}

/* A device may have old data where a program leaves a hole. */
char **
plan_unpack_args (VolumePlan *plan, const Codec *codec)
{
  char **argv = g_strdupv ((char **)codec->decompress);
  for (char **word = argv; plan_makes_lv (plan) && *word != NULL; word++)
    if (g_str_equal (*word, "--sparse")) {
      g_free (*word);
      *word = g_strdup ("--no-sparse");
    }
  return argv;
}

/* An archive does not say how large its contents are. */
gboolean
plan_set_unpacked_size (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  guint64 size = plan_lv_size_for (plan, request->has_capacity ? request->capacity : 0);
  if (size == 0) {
    fail (error, USAGE, "how large '%s' is to be is not said", plan->disk->to);
    return hint (error, "add --capacity SIZE");
  }
  return plan_set_lv_size (plan, size, 0, error);
}

/* Programs that leave no holes are followed by one that makes them. */
static gboolean
unpack (VolumePlan *plan, GError **error)
{
  const Codec *codec = plan->source->codec;
  if (!plan_check_codec (codec, error))
    return FALSE;
  g_auto (GStrv) argv = plan_unpack_args (plan, codec);
  add_filter (plan, (const char *const *)argv);
  const char *dig[] = {"fallocate", "--dig-holes", plan->disk->part, NULL};
  if (!codec->sparse && !plan_makes_lv (plan))
    plan_add_program (plan, g_strdupv ((char **)dig));
  return !plan_makes_lv (plan) || plan_set_unpacked_size (plan, error);
}

/* ---- the kinds ------------------------------------------------------------------------------- */

/* As with cp(1), a directory takes the name of the source. */
char *
plan_target_of (VolumePlan *plan, const char *source)
{
  const char *volume = plan->request->volume;
  if (volume == NULL || !g_file_test (volume, G_FILE_TEST_IS_DIR))
    return g_strdup (volume);
  g_autofree char *name = g_path_get_basename (source);
  return g_build_filename (volume, name, NULL);
}

gboolean
plan_copy (VolumePlan *plan, GError **error)
{
  const VolumeRequest *request = plan->request;
  if (request->offer != NULL)
    return plan_copy_offered (plan, error);
  if (!find_source (plan, error))
    return FALSE;
  g_autofree char *to = plan_target_of (plan, plan->source->place.path);
  const Codec *have = plan->source->codec;
  const Codec *want =
      request->archive ? codec_named (request->codec && *request->codec ? request->codec : "zstd")
                       : NULL;
  if (!plan_begin_new (plan, to, plan->source, error))
    return FALSE;
  if (path_same_file (plan->disk->to, plan->source->place.path))
    return fail (error, USAGE, "source and target are the same file");
  plan_use (plan, plan->source->place.path);
  gboolean at_once = have == NULL && want == NULL && plan_can_share (plan->source, plan->disk->to);
  if (request->snapshot && !at_once && !plan_set_instant (plan, error))
    return FALSE;
  if (have != NULL && want != NULL && have != want)
    return fail (error, REFUSED, "'%s' is compressed with %s already", plan->source->place.path,
                 have->name);
  if (request->has_capacity && !(plan_makes_lv (plan) && have != NULL && want == NULL))
    return fail (error, USAGE, "a capacity is only for an archive unpacked into a logical volume");
  if (want != NULL && plan_makes_lv (plan))
    return fail (error, USAGE, "an archive is a file, not a logical volume");
  if (want != NULL && have == NULL)
    return pack (plan, want, error);
  return have != NULL && want == NULL ? unpack (plan, error) : copy_bytes (plan, error);
}

/* The source goes, if that is asked, once the result stands. */
static void
remove_source (VolumePlan *plan)
{
  const struct stat *st = &plan->source->place.st;
  if (!plan->request->remove)
    return;
  json_set (plan->disk->details, "removes",
            json_make ("path", json_str (plan->source->place.path), "dev",
                       json_int ((gint64)st->st_dev), "ino", json_int ((gint64)st->st_ino), NULL));
}

/* What is to be removed must be free for that, too. */
static gboolean
check_source_file (VolumePlan *plan, GError **error)
{
  if (plan->source->type != VOLUME_FILE)
    return fail (error, REFUSED, "'%s' is a device, not a file", plan->source->place.path);
  if (!plan->request->remove)
    return TRUE;
  if (plan->source->backs->len > 0)
    return fail (error, REFUSED, "'%s' is the backing file of '%s'", plan->source->place.path,
                 (char *)plan->source->backs->pdata[0]);
  return plan_check_free (plan, plan->source, FALSE, error);
}

gboolean
plan_compress (VolumePlan *plan, GError **error)
{
  const Codec *codec = codec_named (plan->request->codec ? plan->request->codec : "zstd");
  if (!find_source (plan, error) || !check_source_file (plan, error))
    return FALSE;
  if (plan->source->codec != NULL)
    return fail (error, REFUSED, "'%s' is compressed with %s already", plan->source->place.path,
                 plan->source->codec->name);
  g_autofree char *to = g_strconcat (plan->source->place.path, codec->suffix, NULL);
  if (!plan_begin_new (plan, to, plan->source, error))
    return FALSE;
  plan_use (plan, plan->source->place.path);
  remove_source (plan);
  return pack (plan, codec, error);
}

gboolean
plan_decompress (VolumePlan *plan, GError **error)
{
  if (!find_source (plan, error) || !check_source_file (plan, error))
    return FALSE;
  const Codec *codec = plan->source->codec;
  const char *path = plan->source->place.path;
  if (codec == NULL) {
    fail (error, REFUSED, "'%s' is no compressed volume", path);
    return hint (error,
                 "its name must end with .zst, .gz, .xz, .lz4 or .lzo, and its contents fit that");
  }
  g_autofree char *to = g_strndup (path, strlen (path) - strlen (codec->suffix));
  if (!plan_begin_new (plan, to, plan->source, error))
    return FALSE;
  plan_use (plan, path);
  remove_source (plan);
  return unpack (plan, error);
}
