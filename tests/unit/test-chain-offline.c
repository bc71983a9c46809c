/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chains as the headers of images tell them, where no QEMU runs. */
#include "tests/unit/unit.h"

#include "tests/unit/temp-dir.h"

#include "jobs/chain.h"
#include "src/common/error.h"

#include <string.h>

/* Runs a shell command in the directory. */
static void
sh (const char *line)
{
  const char *argv[] = {"sh", "-ec", line, NULL};
  int status = -1;
  assert_true (g_spawn_sync (dir, (char **)argv, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                             NULL, &status, NULL));
  assert_int_equal (status, 0);
}

static GPtrArray *
read_chain (const char *name, const char *format, GError **error)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  return chain_read_offline (path, format, error);
}

static void
assert_refused (const char *name, const char *format, RechainError code, const char *words)
{
  g_autoptr (GError) error = NULL;
  assert_null (read_chain (name, format, &error));
  assert_error (error, code, words);
}

static void
an_offline_chain_is_read_through_relative_names (void **state)
{
  sh ("mkdir -p sub; qemu-img create -q -f raw base.raw 8M");
  sh ("cd sub; qemu-img create -q -f qcow2 -b ../base.raw -F raw mid; qemu-img create -q -f qcow2 "
      "-b mid -F qcow2 top");
  sh ("qemu-io -f qcow2 -c 'write 0 1M' sub/top");
  g_autoptr (GPtrArray) layers = read_chain ("sub/top", NULL, NULL);
  assert_non_null (layers);
  assert_int_equal (layers->len, 3);
  ChainLayer *top = layers->pdata[0], *mid = layers->pdata[1], *base = layers->pdata[2];
  g_autofree char *base_path = g_build_filename (dir, "base.raw", NULL);
  assert_string_equal (base->file, base_path);
  assert_string_equal (base->format, "raw");
  assert_int_equal (base->virtual_size, 8 << 20);
  assert_string_equal (mid->backing, "../base.raw");
  assert_string_equal (mid->backing_format, "raw");
  assert_true (top->has_allocated && top->allocated >= 1 << 20 && top->allocated < 2 << 20);
  assert_null (top->node);
  assert_int_equal (chain_find_layer (layers, "base.raw", NULL), 2);
}

static void
a_backing_name_behind_a_symlinked_folder_is_the_one_that_qemu_opens (void **state)
{
  sh ("mkdir -p far/deep; ln -s far/deep link; qemu-img create -q -f qcow2 far/base 1M");
  sh ("qemu-img create -q -f qcow2 base 2M");
  sh ("qemu-img create -q -f qcow2 -u -b ../base -F qcow2 far/deep/top 1M");
  g_autoptr (GPtrArray) layers = read_chain ("link/top", NULL, NULL);
  assert_int_equal (((ChainLayer *)layers->pdata[1])->virtual_size, 1 << 20);
}

static void
a_raw_image_is_never_probed (void **state)
{
  sh ("qemu-img create -q -f raw plain 1M; qemu-img create -q -f qcow2 looks 1M");
  assert_refused ("plain", NULL, REFUSED, "must be named");
  assert_refused ("plain", "qcow2", FAILED, "is not a qcow2 image");
  g_autoptr (GPtrArray) layers = read_chain ("looks", "raw", NULL);
  assert_string_equal (((ChainLayer *)layers->pdata[0])->format, "raw");
}

static void
a_backing_file_of_format_raw_ends_the_chain_whatever_is_in_it (void **state)
{
  sh ("qemu-img create -q -f qcow2 -u -b /etc/passwd -F raw evil 1M");
  sh ("qemu-img create -q -f qcow2 -u -b evil -F raw r1 1M; qemu-img create -q -f qcow2 -u -b evil "
      "-F file r2 1M");
  g_autoptr (GPtrArray) one = read_chain ("r1", NULL, NULL);
  g_autoptr (GPtrArray) two = read_chain ("r2", NULL, NULL);
  assert_int_equal (one->len, 2);
  assert_int_equal (two->len, 2);
  assert_string_equal (((ChainLayer *)two->pdata[1])->format, "raw");
}

static void
a_backing_file_without_format_is_refused_with_the_cure (void **state)
{
  sh ("qemu-img create -q -f qcow2 nf-base 1M; qemu-img create -q -f qcow2 -o compat=0.10 nf 1M");
  sh ("printf '%s' nf-base | dd of=nf bs=1 seek=1024 conv=notrunc status=none");
  sh ("printf '\\000\\000\\000\\000\\000\\000\\004\\000\\000\\000\\000\\007' | dd of=nf bs=1 "
      "seek=8 conv=notrunc "
      "status=none");
  g_autoptr (GError) error = NULL;
  assert_null (read_chain ("nf", NULL, &error));
  assert_error (error, REFUSED, "does not say which format");
  assert_non_null (
      strstr (rechain_error_get_hint (error), "qemu-img rebase -u -b 'nf-base' -F FORMAT"));
}

static void
references_that_are_no_plain_files_are_refused (void **state)
{
  static const char *const names[] = {"json:{\"driver\":\"null-co\"}",
                                      "nbd:localhost:1",
                                      "nbd://h/x",
                                      "fat:/etc",
                                      "file:base",
                                      "a:b"};
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autofree char *line =
        g_strdup_printf ("qemu-img create -q -f qcow2 -u -b '%s' -F raw odd 1M", names[i]);
    sh (line);
    assert_refused ("odd", NULL, REFUSED, names[i]);
  }
  sh ("mkfifo fifo; qemu-img create -q -f qcow2 -u -b fifo -F qcow2 odd 1M");
  assert_refused ("odd", NULL, REFUSED, "neither a file nor a block device");
  sh ("qemu-img create -q -f qcow2 -u -b fifo -F vmdk odd2 1M; qemu-img create -q -f vmdk v.vmdk "
      "1M");
  assert_refused ("v.vmdk", "vmdk", REFUSED, "vmdk");
}

static void
a_missing_layer_names_itself_and_who_refers_to_it (void **state)
{
  g_autoptr (GError) error = NULL;
  sh ("qemu-img create -q -f qcow2 -u -b gone -F qcow2 orphan 1M");
  assert_null (read_chain ("orphan", NULL, &error));
  assert_error (error, NOT_FOUND, "/gone'");
  assert_error (error, NOT_FOUND, "/orphan'");
  assert_refused ("nothing-here", NULL, NOT_FOUND, "nothing-here");
}

static void
offline_loops_are_found_by_what_files_are (void **state)
{
  sh ("qemu-img create -q -f qcow2 -u -b loop2 -F qcow2 loop1 1M; ln loop1 loop1-too");
  sh ("qemu-img create -q -f qcow2 -u -b loop1-too -F qcow2 loop2 1M");
  sh ("qemu-img create -q -f qcow2 -u -b ./self -F qcow2 self 1M");
  assert_refused ("loop1", NULL, REFUSED, "loops");
  assert_refused ("self", NULL, REFUSED, "loops");
}

static void
an_external_data_file_is_flagged (void **state)
{
  sh ("qemu-img create -q -f qcow2 -o data_file=d.raw with-data 1M");
  g_autoptr (GPtrArray) layers = read_chain ("with-data", NULL, NULL);
  assert_true (((ChainLayer *)layers->pdata[0])->data_file);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (an_offline_chain_is_read_through_relative_names),
      cmocka_unit_test (a_backing_name_behind_a_symlinked_folder_is_the_one_that_qemu_opens),
      cmocka_unit_test (a_raw_image_is_never_probed),
      cmocka_unit_test (a_backing_file_of_format_raw_ends_the_chain_whatever_is_in_it),
      cmocka_unit_test (a_backing_file_without_format_is_refused_with_the_cure),
      cmocka_unit_test (references_that_are_no_plain_files_are_refused),
      cmocka_unit_test (a_missing_layer_names_itself_and_who_refers_to_it),
      cmocka_unit_test (offline_loops_are_found_by_what_files_are),
      cmocka_unit_test (an_external_data_file_is_flagged),
  };
  return cmocka_run_group_tests (tests, make_dir, remove_dir);
}
