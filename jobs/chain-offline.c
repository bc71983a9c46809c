/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The chain of an image that no QEMU shows us: from headers, none of which is trusted. */
#include "jobs/chain.h"
#include "jobs/header.h"

#include "src/common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What QEMU knows to have no backing file. */
static const char *const single[] = {"raw", "vdi",   "vpc",   "vhdx",      "luks",
                                     "dmg", "bochs", "cloop", "parallels", NULL};
/* Protocols, written into old headers where "raw" was meant. */
static const char *const means_raw[] = {"file", "host_device", NULL};

typedef struct {
  GPtrArray *layers;
  GHashTable *seen; /* char*: device and inode */
} Reader;

static const char *
plain_format (const char *format)
{
  return format && g_strv_contains (means_raw, format) ? "raw" : format;
}

/* As QEMU reads names: "a:b", "json:{...}", "nbd://host". */
static gboolean
has_protocol (const char *name)
{
  return name[strcspn (name, ":/")] == ':';
}

static ChainLayer *
last_layer (Reader *reader)
{
  return reader->layers->len > 0 ? reader->layers->pdata[reader->layers->len - 1] : NULL;
}

static int
open_layer (const char *path, const ChainLayer *above, struct stat *ret_st, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && above != NULL)
    fail_errno (error, errno, "open layer '%s', the backing file of '%s'", path, above->file);
  else if (fd < 0)
    fail_errno (error, errno, "open image '%s'", path);
  if (fd < 0)
    return -1;
  if (fstat (fd, ret_st) == 0 && (S_ISREG (ret_st->st_mode) || S_ISBLK (ret_st->st_mode)))
    return fd;
  fail (error, REFUSED, "layer '%s' is neither a file nor a block device", path);
  close (fd);
  return -1;
}

static gboolean
see_once (Reader *reader, const char *path, const struct stat *st, GError **error)
{
  gboolean device = S_ISBLK (st->st_mode);
  char *key = g_strdup_printf ("%d:%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, device,
                               (guint64)(device ? st->st_rdev : st->st_dev),
                               (guint64)(device ? 0 : st->st_ino));
  if (g_hash_table_add (reader->seen, key))
    return TRUE;
  return fail (error, REFUSED, "the chain loops: '%s' refers to '%s', which is in it already",
               last_layer (reader)->file, path);
}

static gboolean
check_format (const char *path, const char *format, const ImageHeader *header, GError **error)
{
  if (format == NULL && header->is_qcow2)
    return TRUE;
  if (format == NULL) {
    fail (error, REFUSED, "the format of '%s' must be named", path);
    return hint (error, "it is not qcow2, and what a guest can write is never guessed from");
  }
  if (g_str_equal (format, "qcow2"))
    return header->is_qcow2 ? TRUE : fail (error, FAILED, "'%s' is not a qcow2 image", path);
  if (g_strv_contains (single, format))
    return TRUE;
  fail (error, REFUSED, "the chain of '%s' cannot be read, since its format is '%s'", path, format);
  return hint (error, "qemu-img convert makes a qcow2 image of it");
}

static void
fill_layer (ChainLayer *layer, int fd, const struct stat *st, const char *format,
            ImageHeader *header)
{
  gboolean qcow2 = format == NULL || g_str_equal (format, "qcow2");
  off_t end = lseek (fd, 0, SEEK_END);
  layer->format = g_strdup (qcow2 ? "qcow2" : format);
  layer->allocated = (guint64)st->st_blocks * 512;
  layer->has_allocated = S_ISREG (st->st_mode);
  if (!qcow2) {
    layer->virtual_size = g_str_equal (format, "raw") && end > 0 ? (guint64)end : 0;
    return;
  }
  layer->virtual_size = header->virtual_size;
  layer->encrypted = header->encrypted;
  layer->data_file = header->data_file;
  layer->backing = g_steal_pointer (&header->backing);
  layer->backing_format = g_steal_pointer (&header->backing_format);
}

static gboolean
read_open_layer (Reader *reader, int fd, const struct stat *st, const char *path,
                 const char *format, GError **error)
{
  g_auto (ImageHeader) header = {0};
  gboolean look = format == NULL || g_str_equal (format, "qcow2");
  if (!see_once (reader, path, st, error))
    return FALSE;
  if (look && !image_header_read_fd (fd, path, &header, error))
    return FALSE;
  if (!check_format (path, format, &header, error))
    return FALSE;
  ChainLayer *layer = chain_layer_new ();
  layer->file = g_strdup (path);
  fill_layer (layer, fd, st, format, &header);
  g_ptr_array_add (reader->layers, layer);
  return TRUE;
}

static gboolean
read_layer (Reader *reader, const char *path, const char *format, GError **error)
{
  struct stat st;
  if (reader->layers->len == CHAIN_MAX_LAYERS)
    return fail (error, REFUSED, "the chain has more than %u layers; '%s' is the last one read",
                 CHAIN_MAX_LAYERS, last_layer (reader)->file);
  int fd = open_layer (path, last_layer (reader), &st, error);
  if (fd < 0)
    return FALSE;
  gboolean ok = read_open_layer (reader, fd, &st, path, plain_format (format), error);
  close (fd);
  return ok;
}

/* *ret_path is NULL at the end of the chain. */
static gboolean
next_layer (const ChainLayer *layer, char **ret_path, GError **error)
{
  *ret_path = NULL;
  if (layer->backing == NULL)
    return TRUE;
  if (has_protocol (layer->backing))
    return fail (error, REFUSED, "layer '%s' refers to '%s', which is not a plain file",
                 layer->file, layer->backing);
  if (layer->backing_format == NULL) {
    fail (error, REFUSED, "layer '%s' does not say which format its backing file '%s' has",
          layer->file, layer->backing);
    return hint (error, "if you know the format: qemu-img rebase -u -b '%s' -F FORMAT '%s'",
                 layer->backing, layer->file);
  }
  g_autofree char *dir = g_path_get_dirname (layer->file);
  *ret_path = chain_file_in (dir, layer->backing);
  return TRUE;
}

static gboolean
read_layers (Reader *reader, const char *image, const char *format, GError **error)
{
  g_autofree char *cwd = g_get_current_dir ();
  g_autofree char *path = chain_file_in (cwd, image);
  while (path != NULL) {
    const ChainLayer *above = last_layer (reader);
    if (!read_layer (reader, path, above ? above->backing_format : format, error))
      return FALSE;
    g_clear_pointer (&path, g_free);
    if (!next_layer (last_layer (reader), &path, error))
      return FALSE;
  }
  return TRUE;
}

GPtrArray *
chain_read_offline (const char *image, const char *format, GError **error)
{
  g_autoptr (GPtrArray) layers = g_ptr_array_new_with_free_func ((GDestroyNotify)chain_layer_free);
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Reader reader = {layers, seen};
  if (!read_layers (&reader, image, format, error))
    return NULL;
  return g_steal_pointer (&layers);
}
