/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/temp-dir.h"

#include "jobs/header.h"
#include "src/common/error.h"

#include <glib/gstdio.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLUSTER 65536u

/* Runs "qemu-img create ARGS" in the directory; returns the path of @name. */
static char *
create (const char *name, const char *options)
{
  char *path = g_build_filename (dir, name, NULL);
  g_autofree char *command =
      g_strdup_printf ("qemu-img create -q -f qcow2 -u %s '%s' 16M", options, path);
  int status = -1;
  assert_true (g_spawn_command_line_sync (command, NULL, NULL, &status, NULL));
  assert_int_equal (status, 0);
  return path;
}

static void
a_header_of_qemu_img_is_read (void **state)
{
  g_autofree char *path = create ("a", "-b 'odd, \"name' -F qcow2");
  g_auto (ImageHeader) header = {0};
  assert_true (image_header_read (path, &header, NULL));
  assert_true (header.is_qcow2);
  assert_int_equal (header.version, 3);
  assert_int_equal (header.virtual_size, 16 << 20);
  assert_int_equal (header.cluster_size, CLUSTER);
  assert_string_equal (header.backing, "odd, \"name");
  assert_string_equal (header.backing_format, "qcow2");
  assert_false (header.encrypted || header.data_file || header.dirty || header.corrupt);
  assert_false (header.has_bitmaps || header.extended_l2);
  assert_true (header.header_room > CLUSTER - 1024 && header.header_room < CLUSTER - 300);
}

static void
version_2_and_odd_cluster_sizes_are_read (void **state)
{
  g_autofree char *v2 = create ("v2", "-o compat=0.10 -b b -F raw");
  g_autofree char *big = create ("big", "-o cluster_size=2M,extended_l2=on");
  g_autofree char *small = create ("small", "-o cluster_size=512");
  g_auto (ImageHeader) header = {0};
  assert_true (image_header_read (v2, &header, NULL));
  assert_int_equal (header.version, 2);
  assert_string_equal (header.backing, "b");
  assert_string_equal (header.backing_format, "raw");
  image_header_clear (&header);
  assert_true (image_header_read (big, &header, NULL));
  assert_int_equal (header.cluster_size, 2 << 20);
  assert_true (header.extended_l2);
  assert_null (header.backing);
  image_header_clear (&header);
  assert_true (image_header_read (small, &header, NULL));
  assert_int_equal (header.cluster_size, 512);
  assert_true (header.header_room < 512);
}

static void
the_room_in_the_header_is_what_qemu_img_can_fill (void **state)
{
  g_autofree char *path = create ("room", "-o cluster_size=1k -b b -F qcow2");
  g_auto (ImageHeader) header = {0};
  assert_true (image_header_read (path, &header, NULL));
  for (guint more = 0; more <= 1; more++) {
    g_autofree char *name = g_strnfill (strlen (header.backing) + header.header_room + more, 'x');
    const char *argv[] = {"qemu-img", "rebase", "-q", "-u", "-f", "qcow2",
                          "-F",       "qcow2",  "-b", name, path, NULL};
    int status = -1;
    assert_true (g_spawn_sync (NULL, (char **)argv, NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL,
                               NULL, &status, NULL));
    assert_int_equal (status != 0, more);
  }
}

static void
data_file_bitmaps_and_encryption_are_flagged (void **state)
{
  g_autofree char *options = g_strdup_printf ("-o data_file=%s/data.raw", dir);
  g_autofree char *data = create ("data", options);
  g_autofree char *marked = create ("marked", "");
  g_autofree char *bitmap = g_strdup_printf ("qemu-img bitmap --add '%s' b", marked);
  g_auto (ImageHeader) header = {0};
  assert_true (g_spawn_command_line_sync (bitmap, NULL, NULL, NULL, NULL));
  assert_true (image_header_read (data, &header, NULL));
  assert_true (header.data_file);
  image_header_clear (&header);
  assert_true (image_header_read (marked, &header, NULL));
  assert_true (header.has_bitmaps && !header.encrypted);
  image_header_clear (&header);
  int fd = g_open (marked, O_RDWR | O_CLOEXEC);
  assert_int_equal (pwrite (fd, "\0\0\0\2", 4, 32), 4); /* LUKS */
  assert_int_equal (close (fd), 0);
  assert_true (image_header_read (marked, &header, NULL));
  assert_true (header.encrypted);
}

static void
what_is_no_qcow2_says_so_without_an_error (void **state)
{
  g_autofree char *path = g_build_filename (dir, "raw", NULL);
  static const char *const contents[] = {"", "Q", "QFI", "#!/bin/sh\n",
                                         "QFI\xfa long enough to be a header"};
  for (guint i = 0; i < G_N_ELEMENTS (contents); i++) {
    g_auto (ImageHeader) header = {0};
    assert_true (g_file_set_contents (path, contents[i], -1, NULL));
    assert_true (image_header_read (path, &header, NULL));
    assert_false (header.is_qcow2);
  }
}

static void
neither_missing_files_nor_fifos_nor_directories_block (void **state)
{
  g_autofree char *fifo = g_build_filename (dir, "fifo", NULL);
  g_auto (ImageHeader) header = {0};
  g_autoptr (GError) missing = NULL;
  g_autoptr (GError) odd = NULL;
  g_autoptr (GError) folder = NULL;
  assert_int_equal (mkfifo (fifo, 0600), 0);
  assert_false (image_header_read ("/rc-none", &header, &missing));
  assert_error (missing, NOT_FOUND, "/rc-none");
  assert_false (image_header_read (fifo, &header, &odd));
  assert_error (odd, REFUSED, "neither a file nor");
  assert_false (image_header_read (dir, &header, &folder));
  assert_error (folder, REFUSED, "neither a file nor");
}

/* ---- damaged headers ------------------------------------------------------------------------- */

/* The first cluster, small so that each byte can be tried. */
static void
load (const char *options, guint8 **ret_bytes, gsize *ret_length)
{
  g_autofree char *all = g_strdup_printf ("-o cluster_size=1k %s", options);
  g_autofree char *path = create ("seed", all);
  assert_true (g_file_get_contents (path, (char **)ret_bytes, ret_length, NULL));
  *ret_length = 1024;
}

/* Exactly @length bytes lie in the file; the answer itself does not matter to the caller. */
static gboolean
try_bytes (const guint8 *bytes, gsize length, GError **error)
{
  static char *path = NULL;
  static int fd = -1;
  if (fd < 0) {
    path = g_build_filename (dir, "try", NULL);
    fd = g_open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    unlink (path);
    g_clear_pointer (&path, g_free);
  }
  g_auto (ImageHeader) header = {0};
  assert_int_equal (ftruncate (fd, 0), 0);
  assert_int_equal (pwrite (fd, bytes, length, 0), length);
  gboolean ok = image_header_read_fd (fd, "try", &header, error);
  if (ok && header.backing != NULL)
    assert_true (strlen (header.backing) > 0 && strlen (header.backing) <= 1023);
  if (ok && header.is_qcow2)
    assert_true (header.header_room <= header.cluster_size);
  if (!ok)
    assert_null (header.backing);
  return ok;
}

static void
every_truncation_is_an_error_or_no_qcow2 (void **state)
{
  static const char *const seeds[] = {"-b backing-name -F qcow2", "", "-o compat=0.10 -b b -F raw"};
  for (guint s = 0; s < G_N_ELEMENTS (seeds); s++) {
    g_autofree guint8 *bytes = NULL;
    gsize length;
    load (seeds[s], &bytes, &length);
    for (gsize n = 0; n < length; n++) {
      g_autoptr (GError) error = NULL;
      /* On the heap and exactly as long, so that a sanitizer sees the first byte too far. */
      g_autofree guint8 *cut = g_memdup2 (bytes, n);
      if (!try_bytes (cut ? cut : bytes, n, &error))
        assert_error (error, FAILED, "header of 'try'");
      else if (n >= 4)
        assert_true (n > 72); /* everything up to the end of the extensions was there */
    }
  }
}

static void
every_flipped_bit_is_survived (void **state)
{
  static const char *const seeds[] = {"-b backing-name -F qcow2", "-o compat=0.10 -b b -F raw"};
  for (guint s = 0; s < G_N_ELEMENTS (seeds); s++) {
    g_autofree guint8 *bytes = NULL;
    gsize length;
    load (seeds[s], &bytes, &length);
    for (gsize bit = 0; bit < length * 8; bit++) {
      g_autoptr (GError) error = NULL;
      bytes[bit / 8] ^= (guint8)(1u << (bit % 8));
      if (!try_bytes (bytes, length, &error))
        assert_int_equal (error->code, FAILED);
      bytes[bit / 8] ^= (guint8)(1u << (bit % 8));
    }
  }
}

static void
random_headers_are_survived (void **state)
{
  g_autofree guint8 *bytes = NULL;
  gsize length;
  g_autoptr (GRand) rand = g_rand_new_with_seed (7);
  load ("-b backing-name -F qcow2", &bytes, &length);
  for (guint i = 0; i < 20000; i++) {
    g_autofree guint8 *mad = g_memdup2 (bytes, length);
    for (gint32 n = g_rand_int_range (rand, 1, 12); n > 0; n--)
      mad[g_rand_int_range (rand, 4, 512)] = (guint8)g_rand_int (rand);
    try_bytes (mad, length, NULL);
  }
}

typedef struct {
  guint offset;
  guint32 value;
  const char *words;
} Lie;

static void
lies_are_named (void **state)
{
  static const Lie lies[] = {
      {4, 4, "version 4"},
      {20, 8, "cluster size"},
      {20, 22, "cluster size"},
      {20, 0x80000000, "cluster size"},
      {24, 0x80000000, "size of the disk"},
      {32, 3, "encryption"},
      {100, 96, "length"},
      {100, 1025, "length"},
      {76, 1u << 5, "not known"},
      {72, 1, "not known"},
      {8, 1, "lies outside"},
      {12, 8, "lies outside"},
      {12, 1025, "lies outside"},
      {16, 1024, "too long"},
      {16, 0xffffffff, "too long"},
  };
  for (guint i = 0; i < G_N_ELEMENTS (lies); i++) {
    g_autofree guint8 *bytes = NULL;
    g_autoptr (GError) error = NULL;
    gsize length;
    guint32 value = GUINT32_TO_BE (lies[i].value);
    load ("-b backing-name -F qcow2", &bytes, &length);
    memcpy (bytes + lies[i].offset, &value, sizeof value);
    assert_false (try_bytes (bytes, length, &error));
    assert_error (error, FAILED, lies[i].words);
  }
}

static void
a_nul_inside_a_name_is_refused (void **state)
{
  g_autofree guint8 *bytes = NULL;
  g_autoptr (GError) error = NULL;
  gsize length;
  guint32 offset;
  load ("-b backing-name -F qcow2", &bytes, &length);
  memcpy (&offset, bytes + 12, sizeof offset);
  bytes[GUINT32_FROM_BE (offset) + 3] = 0;
  assert_false (try_bytes (bytes, length, &error));
  assert_error (error, FAILED, "backing file name");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (a_header_of_qemu_img_is_read),
      cmocka_unit_test (version_2_and_odd_cluster_sizes_are_read),
      cmocka_unit_test (the_room_in_the_header_is_what_qemu_img_can_fill),
      cmocka_unit_test (data_file_bitmaps_and_encryption_are_flagged),
      cmocka_unit_test (what_is_no_qcow2_says_so_without_an_error),
      cmocka_unit_test (neither_missing_files_nor_fifos_nor_directories_block),
      cmocka_unit_test (every_truncation_is_an_error_or_no_qcow2),
      cmocka_unit_test (every_flipped_bit_is_survived),
      cmocka_unit_test (random_headers_are_survived),
      cmocka_unit_test (lies_are_named),
      cmocka_unit_test (a_nul_inside_a_name_is_refused),
  };
  return cmocka_run_group_tests (tests, make_dir, remove_dir);
}
