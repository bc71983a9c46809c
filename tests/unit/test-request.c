/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "jobs/request.h"
#include "src/common/error.h"

static void
an_option_is_kept_with_its_disk (void **state)
{
  Request *request = request_new (OP_MOVE);
  request_add_disk (request, "vda");
  request_add_disk (request, "vdb");
  assert_true (request_set_disk_option (request, "vdb", "to", "/img/b", NULL));
  assert_true (request_set_disk_option (request, "vdb", "base", "none", NULL));
  assert_true (request_set_disk_option (request, "vdb", "to", "/img/c", NULL));
  RequestDisk *a = request->disks->pdata[0], *b = request->disks->pdata[1];
  assert_null (a->to);
  assert_string_equal (b->to, "/img/c");
  assert_string_equal (b->base, "none");
  request_free (request);
}

static void
refused (OpKind kind, const char *disk, const char *option, const char *value, const char *words)
{
  g_autoptr (GError) error = NULL;
  Request *request = request_new (kind);
  request_add_disk (request, "vda");
  assert_false (request_set_disk_option (request, disk, option, value, &error));
  assert_error (error, USAGE, words);
  request_free (request);
}

static void
what_a_kind_does_not_know_is_refused (void **state)
{
  refused (OP_SNAPSHOT, "vda", "base", "x", "'snapshot' has no option 'base'");
  refused (OP_MOVE, "vda", "colour", "x", "'move' has no option 'colour'");
  refused (OP_MOVE, "vda", "", "x", "has no option");
}

static void
an_unknown_disk_and_an_empty_value_are_refused (void **state)
{
  refused (OP_MOVE, "vdz", "to", "/x", "'vdz' is not part");
  refused (OP_MOVE, "vda", "to", "", "is empty");
  refused (OP_MOVE, "vda", "to", NULL, "is empty");
}

static void
a_copy_is_equal_and_independent (void **state)
{
  Request *request = request_new (OP_MOVE);
  request->name = g_strdup ("n");
  request->bandwidth = 7;
  request->timeout_ms = 8;
  request->max_pause_ms = 9;
  request->flags = OP_DELETE;
  request_add_disk (request, "vda");
  request_set_disk_option (request, "vda", "format", "qcow2", NULL);
  Request *copy = request_copy (request);
  request_free (request);
  RequestDisk *disk = copy->disks->pdata[0];
  assert_string_equal (copy->name, "n");
  assert_true (copy->bandwidth == 7 && copy->timeout_ms == 8 && copy->max_pause_ms == 9);
  assert_int_equal (copy->flags, OP_DELETE);
  assert_string_equal (disk->format, "qcow2");
  assert_null (disk->base);
  request_free (copy);
  request_free (NULL);
}

static void
the_pause_has_a_default (void **state)
{
  Request *request = request_new (OP_SNAPSHOT);
  assert_int_equal (request->max_pause_ms, 500);
  request_free (request);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (an_option_is_kept_with_its_disk),
      cmocka_unit_test (what_a_kind_does_not_know_is_refused),
      cmocka_unit_test (an_unknown_disk_and_an_empty_value_are_refused),
      cmocka_unit_test (a_copy_is_equal_and_independent),
      cmocka_unit_test (the_pause_has_a_default),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
