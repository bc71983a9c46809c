/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of src/storage that decide by themselves: names, places, archives. */
#include "tests/unit/unit.h"

#include "src/common/error.h"
#include "src/storage/archive.h"
#include "jobs/lv.h"
#include "jobs/lvm.h"
#include "src/storage/place.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static void
names_of_device_mapper_are_split_where_a_single_hyphen_stands (void **state)
{
  static const struct {
    const char *name, *vg, *lv;
  } cases[] = {{"vg0-root", "vg0", "root"}, {"vg--0-my--lv", "vg-0", "my-lv"},
               {"vg0-a--", "vg0", "a-"},    {"vg0-lv-real", NULL, NULL},
               {"vg0", NULL, NULL},         {"vg0-", NULL, NULL},
               {"-lv", NULL, NULL}};
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *vg = NULL, *lv = NULL;
    gboolean split = dm_name_split (cases[i].name, &vg, &lv);
    assert_int_equal (split, cases[i].vg != NULL);
    if (split) {
      assert_string_equal (vg, cases[i].vg);
      assert_string_equal (lv, cases[i].lv);
    }
  }
}

static void
a_path_of_a_volume_names_its_group_and_nothing_else (void **state)
{
  static const char *const bad[] = {
      "/dev/vg0",     "/dev/vg0/",    "/dev/vg0/a/b",      "vg0/a",
      "/dev/vg0/..",  "/dev/../vg/a", "/dev/mapper/vg0-a", "/dev/-f/a",
      "/dev/vg0/-fy", "//dev/vg0/a",  "/dev/vg0/a b",      ""};
  g_autofree char *vg = NULL, *lv = NULL;
  assert_true (lv_path_split ("/dev/my-vg/a.b", &vg, &lv, NULL));
  assert_string_equal (vg, "my-vg");
  assert_string_equal (lv, "a.b");
  for (gsize k = 0; k < G_N_ELEMENTS (bad); k++) {
    g_autofree char *other_vg = NULL, *other_lv = NULL;
    assert_false (lv_path_split (bad[k], &other_vg, &other_lv, NULL));
  }
}

static void
a_name_for_lvm_is_no_option_and_no_path (void **state)
{
  static const char *const good[] = {"vg0", "a", "_x", "+a", "my-vg.1"};
  static const char *const bad[] = {"", "-f", ".", "..", "a/b", "a b", "a\nb", "\xc3\xa4"};
  for (gsize i = 0; i < G_N_ELEMENTS (good); i++)
    assert_true (lvm_name_is_valid (good[i]));
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    assert_false (lvm_name_is_valid (bad[i]));
}

static void
an_archive_needs_its_name_and_its_beginning (void **state)
{
  for (const Codec *codec = codecs; codec->name != NULL; codec++) {
    g_autofree char *name = g_strconcat ("disk.img", codec->suffix, NULL);
    assert_ptr_equal (codec_of_file (name, codec->magic, codec->magic_length), codec);
    assert_null (codec_of_file ("disk.img", codec->magic, codec->magic_length));
    assert_null (codec_of_file (name, codec->magic, codec->magic_length - 1));
    assert_null (codec_of_file (name, "QFI\xfb\0\0\0\3\0\0\0\0", 12));
    assert_ptr_equal (codec_named (codec->name), codec);
  }
  assert_null (codec_named ("rar"));
  assert_null (codec_named (NULL));
}

static void
a_file_that_was_exchanged_meanwhile_is_not_opened (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "a.img", NULL);
  g_autofree char *other = g_build_filename (dir, "b.img", NULL);
  char *const dirs[] = {dir, NULL};
  const Allow allow = {.dirs = (char **)dirs};
  g_auto (Place) place = {0};
  assert_true (g_file_set_contents (path, "a", 1, NULL));
  assert_true (g_file_set_contents (other, "b", 1, NULL));
  assert_true (place_find (&allow, path, &place, NULL));
  int fd = place_open (&allow, &place, O_RDONLY, &error);
  assert_true (fd >= 0);
  close (fd);
  assert_int_equal (g_rename (other, path), 0);
  assert_int_equal (place_open (&allow, &place, O_RDONLY, &error), -1);
  assert_int_equal (error->code, REFUSED);
  g_clear_error (&error);
  g_unlink (path);
  assert_int_equal (symlink ("/etc/passwd", path), 0);
  assert_int_equal (place_open (&allow, &place, O_RDONLY, &error), -1);
  assert_int_equal (error->code, PERMISSION);
  g_unlink (path);
  g_rmdir (dir);
}

static void
a_new_place_is_judged_by_its_directory (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "new.img", NULL);
  g_autofree char *dots = g_build_filename (dir, "..", NULL);
  char *const dirs[] = {dir, NULL};
  const Allow allow = {.dirs = (char **)dirs};
  g_auto (Place) place = {0};
  assert_true (place_find_new (&allow, path, &place, NULL));
  assert_false (place.exists);
  assert_string_equal (place.path, path);
  place_clear (&place);
  assert_false (place_find_new (&allow, "/tmp/elsewhere.img", &place, &error));
  assert_int_equal (error->code, PERMISSION);
  g_clear_error (&error);
  assert_false (place_find_new (&allow, "/no/such/dir/x", &place, &error));
  assert_int_equal (error->code, NOT_FOUND);
  g_clear_error (&error);
  assert_false (place_find_new (&allow, dots, &place, &error));
  assert_int_equal (error->code, PERMISSION);
  g_rmdir (dir);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (names_of_device_mapper_are_split_where_a_single_hyphen_stands),
      cmocka_unit_test (a_path_of_a_volume_names_its_group_and_nothing_else),
      cmocka_unit_test (a_name_for_lvm_is_no_option_and_no_path),
      cmocka_unit_test (an_archive_needs_its_name_and_its_beginning),
      cmocka_unit_test (a_file_that_was_exchanged_meanwhile_is_not_opened),
      cmocka_unit_test (a_new_place_is_judged_by_its_directory),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
