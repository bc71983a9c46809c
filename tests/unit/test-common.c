/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "src/common/error.h"
#include "src/common/fs.h"
#include "src/common/json.h"
#include "src/common/size.h"

#include <glib/gstdio.h>
#include <string.h>

static void
sizes_are_bytes_or_powers (void **state)
{
  static const struct {
    const char *text;
    guint64 bytes;
  } rows[] = {
      {"0", 0},
      {"1", 1},
      {"4096", 4096},
      {"1K", 1024},
      {"1k", 1024},
      {"1KiB", 1024},
      {"1KB", 1000},
      {"16M", 16 << 20},
      {"1.5M", 1572864},
      {"2GB", 2000000000},
      {"1T", 1ull << 40},
      {"7P", 7ull << 50},
      {"9223372036854775807", G_MAXINT64},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    guint64 bytes = 1;
    assert_true (parse_size (rows[i].text, &bytes, NULL));
    assert_int_equal (bytes, rows[i].bytes);
  }
}

static void
bad_sizes_are_quoted_in_the_error (void **state)
{
  static const char *const rows[] = {"",
                                     " ",
                                     "-1",
                                     "+1",
                                     "1X",
                                     "1 M",
                                     "0x10",
                                     "1e3",
                                     "M",
                                     "1MM",
                                     "1.M",
                                     "9223372036854775808",
                                     "99999999999999999999",
                                     "8192P",
                                     "1K\n"};
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    guint64 bytes;
    assert_false (parse_size (rows[i], &bytes, &error));
    assert_error (error, USAGE, rows[i]);
    assert_non_null (rechain_error_get_hint (error));
  }
}

static void
durations_have_units (void **state)
{
  guint64 ms;
  assert_true (parse_duration ("500ms", &ms, NULL) && ms == 500);
  assert_true (parse_duration ("30s", &ms, NULL) && ms == 30000);
  assert_true (parse_duration ("5m", &ms, NULL) && ms == 300000);
  assert_true (parse_duration ("2", &ms, NULL) && ms == 2000);
  assert_false (parse_duration ("5 m", &ms, NULL));
  assert_false (parse_duration ("-5m", &ms, NULL));
}

static void
errors_keep_message_cause_and_hint_apart (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_false (fail (&error, REFUSED, "job %d", 7));
  because (&error, "%s", "Node 'x' is busy");
  because (&error, "%s", "a later phrase does not replace the deepest one");
  hint (&error, "wait");
  prefix (&error, "move vda");
  assert_string_equal (error->message, "move vda: job 7");
  assert_string_equal (rechain_error_get_cause (error), "Node 'x' is busy");
  g_autoptr (GError) copy = g_error_copy (error);
  assert_string_equal (rechain_error_get_hint (copy), "wait");
  recode (&copy, STUCK);
  assert_string_equal (rechain_error_code_name (copy->code), "stuck");
  assert_string_equal (rechain_error_get_cause (copy), "Node 'x' is busy");
}

static void
json_is_built_and_read_in_one_expression (void **state)
{
  g_autoptr (Json) json =
      json_make ("a", json_str ("x"), "absent", json_str (NULL), "n", json_null (), "l",
                 json_list (json_int (1), json_flag (TRUE), NULL), NULL);
  g_autofree char *line = json_line (json);
  assert_string_equal (line, "{\"a\":\"x\",\"n\":null,\"l\":[1,true]}");
  assert_null (json_get_str (json, "l"));
  assert_int_equal (json_length (json_get (json, "l")), 2);
  assert_null (json_at (json_get (json, "l"), 2));
}

static void
a_document_is_exactly_one_and_not_too_deep (void **state)
{
  g_autoptr (Json) number = json_parse ("7", -1);
  assert_non_null (number);
  assert_null (json_parse ("{} {}", -1));
  assert_null (json_parse ("{", -1));
  assert_null (json_parse ("", -1));
  g_autoptr (GString) deep = g_string_new (NULL);
  for (int i = 0; i < JSON_MAX_DEPTH + 1; i++)
    g_string_append_c (deep, '[');
  for (int i = 0; i < JSON_MAX_DEPTH + 1; i++)
    g_string_append_c (deep, ']');
  assert_null (json_parse (deep->str, -1));
}

static void
a_file_that_is_not_ours_is_never_removed (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "a", NULL);
  g_autofree char *other = g_build_filename (dir, "b", NULL);
  FileId id, id_b;
  g_autoptr (GError) error = NULL;
  assert_true (file_create_new (path, NULL, &id, NULL));
  assert_false (file_create_new (path, NULL, &id_b, &error));
  assert_error (error, REFUSED, "exists");
  g_clear_error (&error);
  assert_true (file_create_new (other, NULL, &id_b, NULL));
  assert_false (file_rename_new (other, path, &error));
  assert_error (error, REFUSED, "exists");
  g_clear_error (&error);
  assert_false (file_remove (path, id_b, &error));
  assert_error (error, REFUSED, "not the file");
  assert_true (file_remove (path, id, NULL));
  assert_true (file_remove (path, id, NULL));
  assert_true (file_remove (other, id_b, NULL));
  g_rmdir (dir);
}

/* ext4 gives the number of an inode that was removed to the next file. */
static void
a_file_is_known_by_when_it_was_made_where_its_filesystem_tells (void **state)
{
  FileId id = {.dev = 1, .ino = 2, .born = 3, .home = 4}, other = id;
  g_autoptr (Json) json = file_id_to_json (id);
  FileId again = file_id_from_json (json);
  assert_memory_equal (&again, &id, sizeof id);
  other.dev = 9;
  assert_true (file_id_equal (id, other));
  other.born = 0;
  assert_false (file_id_equal (id, other));
  other.dev = 0;
  assert_true (file_id_equal (id, other));
  other.born = 5;
  assert_false (file_id_equal (id, other));
}

static void
a_file_that_is_gone_is_away_only_where_its_directory_is_another (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "a", NULL);
  FileId id;
  assert_true (file_create_new (path, NULL, &id, NULL));
  FileId moved = id, elsewhere = id;
  moved.dev++;
  elsewhere.dev++;
  elsewhere.home++;
  assert_false (file_is_away (path, elsewhere));
  assert_true (file_remove (path, moved, NULL) || id.born == 0);
  unlink (path);
  assert_false (file_is_away (path, id));
  assert_true (!file_is_away (path, moved) || id.home == 0);
  elsewhere.home = MAX (elsewhere.home, 1);
  g_autoptr (GError) error = NULL;
  if (file_is_away (path, elsewhere)) { /* not told on overlayfs */
    assert_false (file_remove (path, elsewhere, &error));
    assert_error (error, FAILED, "not mounted");
  }
  g_rmdir (dir);
}

static void
not_every_file_can_be_read_past_the_page_cache (void **state)
{
  assert_false (file_takes_direct ("/proc/self/status"));
  assert_false (file_takes_direct ("/nowhere/at-all"));
  assert_false (file_will_take_direct ("/proc/file"));
  assert_false (file_will_take_direct ("/nowhere/at-all"));
}

static void
relative_names_are_not_read_as_protocols (void **state)
{
  g_autofree char *a = path_relative ("/img/x/top.qcow2", "/img/y/base.qcow2");
  g_autofree char *b = path_relative ("/img/top.qcow2", "/img/nbd:base");
  g_autofree char *c = path_relative ("/img/x/top", "/img/base");
  assert_string_equal (a, "../y/base.qcow2");
  assert_string_equal (b, "./nbd:base");
  assert_string_equal (c, "../base");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (sizes_are_bytes_or_powers),
      cmocka_unit_test (bad_sizes_are_quoted_in_the_error),
      cmocka_unit_test (durations_have_units),
      cmocka_unit_test (errors_keep_message_cause_and_hint_apart),
      cmocka_unit_test (json_is_built_and_read_in_one_expression),
      cmocka_unit_test (a_document_is_exactly_one_and_not_too_deep),
      cmocka_unit_test (a_file_that_is_not_ours_is_never_removed),
      cmocka_unit_test (a_file_is_known_by_when_it_was_made_where_its_filesystem_tells),
      cmocka_unit_test (a_file_that_is_gone_is_away_only_where_its_directory_is_another),
      cmocka_unit_test (not_every_file_can_be_read_past_the_page_cache),
      cmocka_unit_test (relative_names_are_not_read_as_protocols),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
