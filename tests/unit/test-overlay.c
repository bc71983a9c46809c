/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "tests/unit/temp-dir.h"

#include "jobs/header.h"
#include "jobs/overlay.h"
#include "src/common/error.h"

#include <glib/gstdio.h>
#include <sys/stat.h>

#define GIB (G_GUINT64_CONSTANT (1) << 30)

static char *
new_file (const char *name)
{
  char *path = g_build_filename (dir, name, NULL);
  g_unlink (path);
  assert_true (g_file_set_contents (path, "", 0, NULL));
  return path;
}

/* Full: what a qemu-img that must succeed prints. */
static char *
qemu_img (const char *verb, const char *option, const char *a, const char *b)
{
  const char *argv[] = {"qemu-img", verb, option, a, b, NULL};
  char *out = NULL;
  g_autofree char *err = NULL;
  int status;
  assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err,
                             &status, NULL));
  if (!g_spawn_check_wait_status (status, NULL))
    fail_test ("qemu-img %s: %s%s", verb, out, err);
  return out;
}

static void
make (const char *path, const char *format, guint64 size)
{
  g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT, size);
  const char *argv[] = {"qemu-img", "create", "-q", "-f", format, path, bytes, NULL};
  int status;
  assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                             &status, NULL));
  assert_int_equal (status, 0);
}

static void
every_size_passes_qemu_img_check_and_reads_as_its_backing_file (void **state)
{
  static const guint64 sizes[] = {512,        1 << 20,   64 << 20,   512 * (1 << 20),
                                  GIB - 512,  GIB + 512, 4096 * GIB, 4096 * GIB + 512,
                                  16384 * GIB};
  for (gsize i = 0; i < G_N_ELEMENTS (sizes); i++) {
    g_autofree char *base = g_build_filename (dir, "base.qcow2", NULL);
    g_autofree char *top = new_file ("top.qcow2");
    make (base, "qcow2", sizes[i]);
    assert_true (overlay_write (top, sizes[i], base, "qcow2", NULL));
    g_autofree char *check = qemu_img ("check", "-fqcow2", top, NULL);
    assert_non_null (strstr (check, "No errors were found"));
    g_autofree char *compare = qemu_img ("compare", "-fqcow2", top, base);
    assert_non_null (strstr (compare, "identical"));
  }
}

static void
only_what_is_not_zero_is_written (void **state)
{
  struct stat st;
  g_autofree char *top = new_file ("top.qcow2");
  assert_true (overlay_write (top, 16384 * GIB, "/img/base.raw", "raw", NULL));
  assert_int_equal (stat (top, &st), 0);
  assert_true (st.st_blocks * 512 <= 3 * st.st_blksize);
  assert_true (st.st_size > 256 << 10);
}

static void
the_header_is_read_back_as_it_was_meant (void **state)
{
  g_auto (ImageHeader) header = {0};
  g_autofree char *top = new_file ("top.qcow2");
  assert_true (overlay_write (top, 10 * GIB, "../a,b \"c\".raw", "raw", NULL));
  assert_true (image_header_read (top, &header, NULL));
  assert_true (header.is_qcow2);
  assert_int_equal (header.version, 3);
  assert_true (header.virtual_size == 10 * GIB);
  assert_int_equal (header.cluster_size, 65536);
  assert_string_equal (header.backing, "../a,b \"c\".raw");
  assert_string_equal (header.backing_format, "raw");
  assert_false (header.encrypted || header.data_file || header.dirty || header.has_bitmaps);
}

static void
qemu_img_says_the_same_of_it_as_of_its_own (void **state)
{
  g_autofree char *ours = new_file ("ours.qcow2");
  g_autofree char *theirs = g_build_filename (dir, "theirs.qcow2", NULL);
  const char *argv[] = {"qemu-img",      "create", "-q",  "-f",   "qcow2", "-u", "-b",
                        "/img/base.raw", "-F",     "raw", theirs, "5G",    NULL};
  int status;
  assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                             &status, NULL));
  assert_int_equal (status, 0);
  assert_true (overlay_write (ours, 5 * GIB, "/img/base.raw", "raw", NULL));
  g_autofree char *a = qemu_img ("info", "-fqcow2", ours, NULL);
  g_autofree char *b = qemu_img ("info", "-fqcow2", theirs, NULL);
  /* From the format on; before it stand the file's own name and disk usage. */
  assert_string_equal (strstr (a, "cluster_size"), strstr (b, "cluster_size"));
}

static void
qemu_writes_to_it_and_finds_its_data_again (void **state)
{
  g_autofree char *base = g_build_filename (dir, "base.qcow2", NULL);
  g_autofree char *top = new_file ("top.qcow2");
  make (base, "qcow2", 2 * GIB);
  assert_true (overlay_write (top, 2 * GIB, base, "qcow2", NULL));
  const char *argv[] = {"qemu-io",
                        "-f",
                        "qcow2",
                        "-c",
                        "write -P 7 0 4M",
                        "-c",
                        "write -P 9 2046M 2M",
                        "-c",
                        "read -P 7 0 4M",
                        "-c",
                        "read -P 9 2046M 2M",
                        "-c",
                        "read -P 0 1G 1M",
                        top,
                        NULL};
  g_autofree char *out = NULL;
  int status;
  assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL,
                             &status, NULL));
  assert_int_equal (status, 0);
  assert_null (strstr (out, "Pattern verification failed"));
  g_autofree char *check = qemu_img ("check", "-fqcow2", top, NULL);
  assert_non_null (strstr (check, "No errors were found"));
}

static void
what_does_not_fit_is_refused (void **state)
{
  g_autofree char *top = new_file ("top.qcow2");
  g_autofree char *fits = g_strnfill (1023, 'x');
  g_autofree char *longer = g_strnfill (1024, 'x');
  g_autoptr (GError) error = NULL;
  assert_true (overlay_write (top, GIB, fits, "qcow2", NULL));
  assert_false (overlay_write (top, GIB, longer, "qcow2", &error));
  assert_error (error, USAGE, "does not fit");
  g_clear_error (&error);
  assert_false (overlay_write (top, 511, "b", "qcow2", &error));
  assert_error (error, USAGE, "511 bytes");
  g_clear_error (&error);
  assert_false (overlay_write ("/proc/nowhere", 512, "b", "qcow2", &error));
  assert_error (error, NOT_FOUND, "/proc/nowhere");
}

static void
a_full_disk_is_an_error (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_false (overlay_write ("/dev/full", GIB, "b", "qcow2", &error));
  assert_non_null (rechain_error_get_cause (error));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (every_size_passes_qemu_img_check_and_reads_as_its_backing_file),
      cmocka_unit_test (only_what_is_not_zero_is_written),
      cmocka_unit_test (the_header_is_read_back_as_it_was_meant),
      cmocka_unit_test (qemu_img_says_the_same_of_it_as_of_its_own),
      cmocka_unit_test (qemu_writes_to_it_and_finds_its_data_again),
      cmocka_unit_test (what_does_not_fit_is_refused),
      cmocka_unit_test (a_full_disk_is_an_error),
  };
  return cmocka_run_group_tests (tests, make_dir, remove_dir);
}
