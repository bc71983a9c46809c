/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public library, as a program sees it that links it and nothing else of ours but
 * src/common. */
#include "tests/unit/unit.h"

#include "tests/unit/temp-dir.h"

#include "src/common/error.h"
#include "src/common/json.h"

#include <rechain/rechain.h>

#include <glib/gstdio.h>

static RechainController *
controller_in (const char *name)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  return rechain_controller_new (path);
}

static void
a_controller_touches_nothing (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (RechainController) controller = controller_in ("state");
  g_autofree char *list = rechain_controller_list_operations (controller, &error);
  g_autofree char *again = rechain_controller_recover (controller, NULL, NULL,
                                                       RECHAIN_DIRECTION_DEFAULT, NULL, NULL, NULL);
  assert_null (error);
  g_autoptr (Json) document = json_parse (list, -1);
  assert_string_equal (json_get_str (document, "schema"), "rechain.operation-list/1");
  assert_int_equal (json_length (json_get (document, "operations")), 0);
  assert_non_null (again);
  assert_false (g_file_test (rechain_controller_get_state_dir (controller), G_FILE_TEST_EXISTS));
}

static void
the_state_directory_is_absolute_and_may_come_from_the_environment (void **state)
{
  g_setenv ("RECHAIN_STATE_DIR", "/somewhere/../else", TRUE);
  g_autoptr (RechainController) controller = rechain_controller_new (NULL);
  assert_string_equal (rechain_controller_get_state_dir (controller), "/else");
  g_unsetenv ("RECHAIN_STATE_DIR");
}

static void
boxed_values_are_copied_in_full (void **state)
{
  RechainLayer layer = {.file = (char *)"/a", .format = (char *)"qcow2", .allocated = -1};
  RechainDisk *disk = g_new0 (RechainDisk, 1);
  disk->name = g_strdup ("vda");
  disk->layers = g_ptr_array_new_with_free_func ((GDestroyNotify)rechain_layer_free);
  g_ptr_array_add (disk->layers, g_boxed_copy (RECHAIN_TYPE_LAYER, &layer));
  RechainDisk *copy = g_boxed_copy (RECHAIN_TYPE_DISK, disk);
  rechain_disk_free (disk);
  RechainLayer *inner = copy->layers->pdata[0];
  assert_string_equal (copy->name, "vda");
  assert_null (copy->node);
  assert_string_equal (inner->file, "/a");
  assert_null (inner->backing);
  assert_int_equal (inner->allocated, -1);
  g_boxed_free (RECHAIN_TYPE_DISK, copy);
  rechain_disk_free (NULL);
  rechain_layer_free (NULL);
}

static void
a_copied_request_does_not_follow_its_original (void **state)
{
  RechainRequest *request = rechain_request_new (RECHAIN_KIND_MOVE);
  rechain_request_add_disk (request, "vda");
  RechainRequest *copy = g_boxed_copy (RECHAIN_TYPE_REQUEST, request);
  rechain_request_add_disk (request, "vdb");
  assert_true (rechain_request_set_disk_option (request, "vdb", "to", "/x", NULL));
  assert_false (rechain_request_set_disk_option (copy, "vdb", "to", "/x", NULL));
  assert_true (rechain_request_set_disk_option (copy, "vda", "to", "/x", NULL));
  g_boxed_free (RECHAIN_TYPE_REQUEST, copy);
  rechain_request_free (request);
}

static void
on_looked (GObject *vm, GAsyncResult *result, gpointer data)
{
  GError **error = data;
  assert_false (rechain_vm_look_finish (RECHAIN_VM (vm), result, error));
}

static void
the_blocking_call_is_the_other_one_and_waiting (void **state)
{
  g_autoptr (GError) blocking = NULL;
  g_autoptr (GError) later = NULL;
  g_autoptr (RechainController) controller = controller_in ("state");
  g_autofree char *path = g_build_filename (dir, "qmp.sock", NULL);
  g_autoptr (RechainVm) vm = rechain_vm_new (controller, path, NULL);
  assert_false (rechain_vm_look (vm, NULL, &blocking));
  rechain_vm_look_async (vm, NULL, on_looked, &later);
  assert_null (later);
  while (later == NULL)
    g_main_context_iteration (NULL, TRUE);
  assert_error (blocking, UNREACHABLE, "does not exist");
  assert_int_equal (later->code, blocking->code);
  assert_string_equal (later->message, blocking->message);
}

static void
a_blocking_call_works_in_a_context_of_its_own (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_main_context_push_thread_default (context);
  g_autoptr (RechainController) controller = controller_in ("state");
  g_autofree char *path = g_build_filename (dir, "qmp.sock", NULL);
  RechainVm *vm = rechain_vm_new (controller, path, NULL);
  assert_false (rechain_vm_look (vm, NULL, &error));
  assert_error (error, UNREACHABLE, "does not exist");
  g_object_unref (vm);
  while (g_main_context_iteration (context, FALSE))
    ;
  g_main_context_pop_thread_default (context);
}

/* The program and the library both contain src/common. */
static void
there_is_one_error_domain (void **state)
{
  g_autoptr (GError) theirs = NULL;
  g_autoptr (GError) ours = NULL;
  g_autoptr (RechainController) controller = controller_in ("state");
  assert_null (rechain_vm_new (controller, "no-slash", &theirs));
  fail (&ours, USAGE, "x");
  hint (&ours, "y");
  assert_int_equal (theirs->domain, ours->domain);
  assert_int_equal (theirs->domain, RECHAIN_ERROR);
  assert_error (theirs, USAGE, "'no-slash'");
  assert_non_null (strstr (rechain_error_get_hint (theirs), "unix:PATH"));
  assert_string_equal (rechain_error_get_hint (ours), "y");
  assert_string_equal (rechain_error_code_name ((RechainError)theirs->code), "usage");
}

static void
one_vm_has_one_address (void **state)
{
  g_autoptr (RechainController) controller = controller_in ("state");
  g_autoptr (RechainVm) a = rechain_vm_new (controller, "unix:/run/../run/x.sock", NULL);
  g_autoptr (RechainVm) b = rechain_vm_new (controller, "/run/x.sock", NULL);
  g_autoptr (RechainVm) c = rechain_vm_new (controller, "tcp:localhost:4444", NULL);
  assert_string_equal (rechain_vm_get_address (a), rechain_vm_get_address (b));
  assert_string_equal (rechain_vm_get_address (c), "tcp:localhost:4444");
  assert_null (rechain_vm_get_qemu_version (a));
}

static void
a_plan_without_a_vm_fails_and_makes_nothing (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (RechainController) controller = controller_in ("state");
  g_autofree char *path = g_build_filename (dir, "qmp.sock", NULL);
  g_autoptr (RechainVm) vm = rechain_vm_new (controller, path, NULL);
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_SNAPSHOT);
  assert_null (rechain_operation_plan (vm, request, NULL, &error));
  assert_error (error, UNREACHABLE, "does not exist");
  assert_false (g_file_test (rechain_controller_get_state_dir (controller), G_FILE_TEST_EXISTS));
}

static void
an_operation_that_is_not_there_is_not_found (void **state)
{
  g_autoptr (RechainController) controller = controller_in ("state");
  GError *errors[4] = {NULL};
  guint unsettled = 7;
  assert_null (rechain_controller_show_operation (controller, "12345678", &errors[0]));
  assert_null (rechain_controller_cancel_operation (controller, "12345678", NULL, &errors[1]));
  assert_null (rechain_controller_wait_operation (controller, "12345678", NULL, &errors[2]));
  assert_null (rechain_controller_recover (controller, NULL, "12345678", RECHAIN_DIRECTION_DEFAULT,
                                           NULL, &unsettled, &errors[3]));
  for (guint i = 0; i < 4; i++) {
    assert_error (errors[i], NOT_FOUND, "'12345678'");
    g_clear_error (&errors[i]);
  }
}

static void
states_have_words_and_the_library_a_version (void **state)
{
  assert_string_equal (rechain_state_name (RECHAIN_STATE_STUCK), "stuck");
  assert_non_null (strchr (rechain_version (), '.'));
}

static void
an_image_that_is_not_there_is_said_so (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = g_build_filename (dir, "x.qcow2", NULL);
  assert_null (rechain_chain_read_offline (path, NULL, &error));
  assert_error (error, NOT_FOUND, "x.qcow2");
}

#define TEST(name) cmocka_unit_test_setup_teardown (name, make_dir, remove_dir)

int
main (void)
{
  const struct CMUnitTest tests[] = {
      TEST (a_controller_touches_nothing),
      TEST (the_state_directory_is_absolute_and_may_come_from_the_environment),
      TEST (boxed_values_are_copied_in_full),
      TEST (a_copied_request_does_not_follow_its_original),
      TEST (the_blocking_call_is_the_other_one_and_waiting),
      TEST (a_blocking_call_works_in_a_context_of_its_own),
      TEST (there_is_one_error_domain),
      TEST (one_vm_has_one_address),
      TEST (a_plan_without_a_vm_fails_and_makes_nothing),
      TEST (an_operation_that_is_not_there_is_not_found),
      TEST (states_have_words_and_the_library_a_version),
      TEST (an_image_that_is_not_there_is_said_so),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
