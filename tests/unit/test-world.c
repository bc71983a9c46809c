/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asking a QEMU for its world; what the answers mean is in test-chain.c. */
#include "tests/unit/unit.h"

#include "tests/unit/fake-qemu.h"

#include "jobs/chain.h"
#include "src/common/error.h"

typedef struct {
  World *world;
  GError *error;
  guint calls;
  Json *replies;
  const char *missing;     /* this command is answered with an error */
  guint tear;              /* as often the graph is one that does not fit */
  guint asked;             /* query-block, how often */
  gboolean migration_ends; /* once the first query is answered */
  guint answered;
} Scene;

static void
on_world (World *world, const GError *error, gpointer data)
{
  Scene *scene = data;
  scene->calls++;
  scene->world = world;
  scene->error = error ? g_error_copy (error) : NULL;
}

static Json *
answer (FakeQemu *qemu, const char *command, Json *arguments, gpointer data)
{
  Scene *scene = data;
  Json *value = json_get (scene->replies, command);
  scene->asked += g_str_equal (command, "query-block");
  if (g_strcmp0 (command, scene->missing) == 0)
    return json_make ("error",
                      json_make ("class", json_str ("CommandNotFound"), "desc",
                                 json_str ("no such command"), NULL),
                      NULL);
  gboolean over = scene->answered++ > 0;
  if (scene->migration_ends && g_str_equal (command, "query-migrate"))
    return json_make ("return",
                      json_make ("status", json_str (over ? "completed" : "active"), NULL), NULL);
  if (scene->migration_ends && g_str_equal (command, "query-status"))
    return json_make ("return",
                      json_make ("status", json_str (over ? "postmigrate" : "running"), "running",
                                 json_flag (!over), NULL),
                      NULL);
  if (g_str_equal (command, "query-named-block-nodes"))
    assert_true (json_get_bool (arguments, "flat"));
  if (g_str_equal (command, "query-named-block-nodes") && scene->tear > 0) {
    scene->tear--;
    return json_make ("return", json_list (NULL, NULL), NULL);
  }
  return json_make ("return", json_dup (value), NULL);
}

static void
scene_start (Scene *scene, const char *recording, FakeQemu **ret_qemu, QmpClient **ret_client)
{
  static const char *const commands[] = {"query-block",
                                         "query-named-block-nodes",
                                         "x-debug-query-block-graph",
                                         "query-jobs",
                                         "query-block-jobs",
                                         "query-block-exports",
                                         "query-status",
                                         "query-migrate"};
  g_autofree char *path =
      g_strdup_printf ("%s/tests/unit/data/%s.json", g_getenv ("RECHAIN_SOURCE_DIR"), recording);
  g_autofree char *text = NULL;
  assert_true (g_file_get_contents (path, &text, NULL, NULL));
  scene->replies = json_parse (text, -1);
  assert_non_null (scene->replies);
  *ret_qemu = fake_qemu_new ();
  qemu_greets (*ret_qemu);
  for (guint i = 0; i < G_N_ELEMENTS (commands); i++)
    qemu_handles (*ret_qemu, commands[i], answer, scene);
  *ret_client = qmp_client_new_for_connection (fake_qemu_connection (*ret_qemu), "fake", 0);
}

static void
scene_end (Scene *scene, FakeQemu *qemu, QmpClient *client)
{
  fake_qemu_settle ();
  assert_int_equal (scene->calls, 1);
  assert_true ((scene->world == NULL) != (scene->error == NULL));
  world_free (scene->world);
  g_clear_error (&scene->error);
  json_clear (scene->replies);
  qmp_client_close (client);
  qmp_client_unref (client);
  fake_qemu_free (qemu);
}

static void
play (Scene *scene, const char *recording, void (*check) (Scene *scene))
{
  FakeQemu *qemu;
  QmpClient *client;
  scene_start (scene, recording, &qemu, &client);
  world_query (client, NULL, on_world, scene);
  assert_int_equal (scene->calls, 0);
  until (scene->calls > 0);
  check (scene);
  scene_end (scene, qemu, client);
}

static void
is_whole (Scene *scene)
{
  assert_non_null (scene->world);
  ChainDisk *vda = world_find_disk (scene->world, "vda", NULL);
  assert_non_null (vda);
  assert_null (vda->broken);
  assert_int_equal (vda->layers->len, 3);
  assert_int_equal (scene->asked, 1);
}

static void
one_burst_of_queries_makes_a_world (void **state)
{
  Scene scene = {0};
  play (&scene, "blockdev", is_whole);
}

static void
a_qemu_without_migration_or_graph_is_no_error (void **state)
{
  Scene scene = {.missing = "query-migrate"};
  play (&scene, "blockdev", is_whole);
}

static void
is_migrated (Scene *scene)
{
  assert_non_null (scene->world);
  assert_true (world_migrating (scene->world));
}

static void
a_migration_that_ends_between_the_queries_is_seen (void **state)
{
  Scene scene = {.migration_ends = TRUE};
  play (&scene, "blockdev", is_migrated);
}

static void
failed_as_required (Scene *scene)
{
  assert_error (scene->error, scene->error->code, "query-block-jobs");
  assert_error (scene->error, scene->error->code, "look at QEMU's disks");
  assert_string_equal (rechain_error_get_cause (scene->error), "no such command");
}

static void
a_required_query_that_fails_is_named (void **state)
{
  Scene scene = {.missing = "query-block-jobs"};
  play (&scene, "blockdev", failed_as_required);
}

static void
asked_twice (Scene *scene)
{
  assert_int_equal (scene->asked, 2);
  scene->asked = 1;
  is_whole (scene);
}

static void
answers_that_do_not_fit_together_are_asked_for_again (void **state)
{
  Scene scene = {.tear = 1};
  play (&scene, "blockdev", asked_twice);
}

static void
broken_after_three (Scene *scene)
{
  assert_int_equal (scene->asked, 3);
  assert_non_null (world_find_disk (scene->world, "vda", NULL)->broken);
}

static void
a_graph_that_never_fits_is_shown_as_broken (void **state)
{
  Scene scene = {.tear = 100};
  play (&scene, "blockdev", broken_after_three);
}

static void
a_relative_name_is_not_believed_of_a_peer_that_has_not_opened_it (void **state)
{
  Scene scene = {0};
  FakeQemu *qemu;
  QmpClient *client;
  scene_start (&scene, "drive", &qemu, &client);
  world_query (client, NULL, on_world, &scene);
  until (scene.calls > 0);
  assert_non_null (strstr (world_find_disk (scene.world, "vda", NULL)->broken, "cannot be told"));
  scene_end (&scene, qemu, client);
}

static void
a_connection_that_ends_is_one_answer (void **state)
{
  Scene scene = {0};
  FakeQemu *qemu;
  QmpClient *client;
  scene_start (&scene, "blockdev", &qemu, &client);
  until (qmp_client_get_state (client) == QMP_READY);
  world_query (client, NULL, on_world, &scene);
  qmp_client_close (client);
  until (scene.calls > 0);
  assert_error (scene.error, UNREACHABLE, "look at QEMU's disks");
  fake_qemu_settle ();
  assert_int_equal (scene.calls, 1);
  g_clear_error (&scene.error);
  json_clear (scene.replies);
  qmp_client_unref (client);
  fake_qemu_free (qemu);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (one_burst_of_queries_makes_a_world),
      cmocka_unit_test (a_qemu_without_migration_or_graph_is_no_error),
      cmocka_unit_test (a_migration_that_ends_between_the_queries_is_seen),
      cmocka_unit_test (a_required_query_that_fails_is_named),
      cmocka_unit_test (answers_that_do_not_fit_together_are_asked_for_again),
      cmocka_unit_test (a_graph_that_never_fits_is_shown_as_broken),
      cmocka_unit_test (a_relative_name_is_not_believed_of_a_peer_that_has_not_opened_it),
      cmocka_unit_test (a_connection_that_ends_is_one_answer),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
