/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "qmp/features.h"
#include "qmp/schema.h"
#include "src/common/error.h"
#include "tests/unit/fake-qemu.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* As QEMU writes it, with masked names of types. */
#define SCHEMA                                                                                     \
  "[{'name':'block-stream','meta-type':'command','arg-type':'1','ret-type':'0'},"                  \
  "{'name':'stop','meta-type':'command','arg-type':'0','ret-type':'0'},"                           \
  "{'name':'STOP','meta-type':'event','arg-type':'0'},"                                            \
  "{'name':'0','meta-type':'object','members':[]},"                                                \
  "{'name':'1','meta-type':'object','members':["                                                   \
  "{'name':'device','type':'str'},{'name':'bottom','default':null,'type':'str'},"                  \
  "{'name':'auto-finalize','default':null,'type':'bool'}]},"                                       \
  "{'name':'blockdev-add','meta-type':'command','arg-type':'2','ret-type':'0'},"                   \
  "{'name':'2','meta-type':'object','tag':'driver',"                                               \
  "'members':[{'name':'driver','type':'3'},{'name':'node-name','type':'str'}],"                    \
  "'variants':[{'case':'qcow2','type':'4'},{'case':'copy-on-read','type':'5'}]},"                  \
  "{'name':'3','meta-type':'enum','values':['qcow2','copy-on-read']},"                             \
  "{'name':'4','meta-type':'object','members':[{'name':'backing','type':'6'}]},"                   \
  "{'name':'5','meta-type':'object','members':[{'name':'bottom','type':'str'},"                    \
  "{'name':'file','type':'6'}]},"                                                                  \
  "{'name':'6','meta-type':'alternate','members':[{'type':'str'},{'type':'2'}]},"                  \
  "{'name':'transaction','meta-type':'command','arg-type':'7','ret-type':'0'},"                    \
  "{'name':'7','meta-type':'object','members':[{'name':'actions','type':'[8]'}]},"                 \
  "{'name':'[8]','meta-type':'array','element-type':'1'},"                                         \
  "{'name':'str','meta-type':'builtin','json-type':'string'}]"

static Json *
relaxed (const char *text)
{
  g_autofree char *strict = g_strdup (text);
  Json *json = json_parse (g_strdelimit (strict, "'", '"'), -1);
  assert_non_null (json);
  return json;
}

static void
paths_descend_into_members_variants_arrays_and_alternates (void **state)
{
  static const struct {
    const char *command;
    const char *path;
    gboolean has;
  } rows[] = {
      {"block-stream", NULL, TRUE},
      {"block-stream", "bottom", TRUE},
      {"block-stream", "top", FALSE},
      {"block-stream", "bottom.x", FALSE},
      {"block-stream", ".", FALSE},
      {"block-stream", "driver=qcow2", FALSE},
      {"stop", NULL, TRUE},
      {"stop", "x", FALSE},
      {"STOP", NULL, FALSE},
      {"1", NULL, FALSE},
      {"absent", NULL, FALSE},
      {"blockdev-add", "node-name", TRUE},
      {"blockdev-add", "bottom", FALSE},
      {"blockdev-add", "driver=copy-on-read", TRUE},
      {"blockdev-add", "driver=copy-on-read.bottom", TRUE},
      {"blockdev-add", "driver=qcow2.bottom", FALSE},
      {"blockdev-add", "driver=qcow2.backing.driver=copy-on-read.file.node-name", TRUE},
      {"blockdev-add", "driver=vvfat", FALSE},
      {"blockdev-add", "node-name=qcow2", FALSE},
      {"transaction", "actions.bottom", TRUE},
  };
  g_autoptr (Json) json = relaxed (SCHEMA);
  g_autoptr (QmpSchema) schema = qmp_schema_new (json, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (qmp_schema_has (schema, rows[i].command, rows[i].path) != rows[i].has)
      fail_test ("%s %s", rows[i].command, rows[i].path ? rows[i].path : "");
}

static void
features_follow_from_the_schema (void **state)
{
  g_autoptr (Json) json = relaxed (SCHEMA);
  g_autoptr (QmpFeatures) features = qmp_features_parse (json, NULL);
  assert_true (qmp_features_has (features, FEATURE_BLOCK_STREAM));
  assert_true (qmp_features_has (features, FEATURE_STREAM_BOTTOM));
  assert_true (qmp_features_has (features, FEATURE_COPY_ON_READ_BOTTOM));
  assert_false (qmp_features_has (features, FEATURE_BLOCKDEV_REOPEN));
  assert_false (qmp_features_has (features, FEATURE_STREAM_MASK_PROTOCOL));
}

static void
a_missing_feature_is_refused_by_name (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client =
      qmp_client_new_for_connection (fake_qemu_connection (q), "fake", 0);
  g_autoptr (Json) json = relaxed (SCHEMA);
  g_autoptr (QmpFeatures) features = qmp_features_parse (json, NULL);
  g_autoptr (GError) error = NULL;
  qemu_greets (q);
  until (qmp_client_get_state (client) == QMP_READY);
  assert_true (qmp_features_require (features, client, FEATURE_STREAM_BOTTOM, "move", &error));
  assert_false (
      qmp_features_require (features, client, FEATURE_BLOCKDEV_REOPEN, "inner commit", &error));
  assert_error (error, REFUSED,
                "QEMU " FAKE_VERSION " has no 'blockdev-reopen', which inner commit needs");
  fake_qemu_free (q);
}

static void
malformed_schemas_are_refused (void **state)
{
  static const char *const rows[] = {"{}",
                                     "[]",
                                     "7",
                                     "'x'",
                                     "[7]",
                                     "[null]",
                                     "[{'name':'a'}]",
                                     "[{'meta-type':'command'}]",
                                     "[{'name':7,'meta-type':'command'}]",
                                     "[{'name':'a','meta-type':'command'},[]]"};
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (Json) json = relaxed (rows[i]);
    g_autoptr (GError) error = NULL;
    assert_null (qmp_features_parse (json, &error));
    assert_error (error, FAILED, "malformed schema");
  }
}

static void
hostile_schemas_read_as_no (void **state)
{
  static const char *const rows[] = {
      "[{'name':'blockdev-add','meta-type':'command','arg-type':'1'},"
      "{'name':'1','meta-type':'array','element-type':'1'}]",
      "[{'name':'blockdev-add','meta-type':'command','arg-type':'1'},"
      "{'name':'1','meta-type':'alternate','members':[{'type':'1'}]}]",
      "[{'name':'blockdev-add','meta-type':'command','arg-type':'blockdev-add'}]",
      "[{'name':'blockdev-add','meta-type':'command','arg-type':'1'},"
      "{'name':'1','meta-type':'object','tag':'driver','members':7,'variants':{'case':'copy-on-"
      "read'}}]",
      "[{'name':'blockdev-add','meta-type':'command','arg-type':'1'},{'name':'1','meta-type':'"
      "object','tag':'driver',"
      "'variants':[7,null,{'case':'copy-on-read','type':'1'}],'members':[[],{'name':7}]}]",
      "[{'name':'blockdev-add','meta-type':'command','arg-type':{}}]",
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (Json) json = relaxed (rows[i]);
    g_autoptr (QmpFeatures) features = qmp_features_parse (json, NULL);
    assert_true (qmp_features_has (features, FEATURE_BLOCKDEV_ADD));
    assert_false (qmp_features_has (features, FEATURE_COPY_ON_READ_BOTTOM));
  }
}

/* ---- asking ---------------------------------------------------------------------------------- */

typedef struct {
  int answers;
  QmpFeatures *features;
  GError *error;
} Asked;

static void
on_features (QmpFeatures *features, const GError *error, gpointer data)
{
  Asked *asked = data;
  assert_true ((features == NULL) != (error == NULL));
  asked->answers++;
  qmp_features_free (asked->features);
  g_clear_error (&asked->error);
  asked->features = features;
  asked->error = error ? g_error_copy (error) : NULL;
}

static void
asked_clear (Asked *asked)
{
  qmp_features_free (asked->features);
  g_clear_error (&asked->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Asked, asked_clear)

static void
one_connection_is_asked_once_however_many_want_to_know (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client =
      qmp_client_new_for_connection (fake_qemu_connection (q), "fake", 0);
  g_auto (Asked) a = {0}, b = {0}, c = {0};
  qmp_features_query (client, NULL, FALSE, on_features, &a);
  qmp_features_query (client, NULL, FALSE, on_features, &b);
  qemu_greets (q);
  qemu_expects (q, "query-qmp-schema");
  qemu_replies (q, SCHEMA);
  until (a.answers && b.answers);
  qmp_features_query (client, NULL, FALSE, on_features, &c);
  assert_int_equal (c.answers, 0);
  until (c.answers);
  assert_true (qmp_features_has (c.features, FEATURE_STREAM_BOTTOM));
  assert_int_equal (a.answers + b.answers + c.answers, 3);
  fake_qemu_free (q);
}

static void
a_failed_question_is_answered_with_the_error_and_asked_again (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client =
      qmp_client_new_for_connection (fake_qemu_connection (q), "fake", 0);
  g_auto (Asked) asked = {0};
  qemu_greets (q);
  qemu_expects (q, "query-qmp-schema");
  qemu_fails (q, "CommandNotFound", "The command query-qmp-schema has not been found");
  qmp_features_query (client, NULL, FALSE, on_features, &asked);
  until (asked.answers == 1);
  assert_error (asked.error, REFUSED, "query-qmp-schema");
  qemu_expects (q, "query-qmp-schema");
  qemu_replies (q, "[{'name': 7}]");
  qmp_features_query (client, NULL, FALSE, on_features, &asked);
  until (asked.answers == 2);
  assert_error (asked.error, FAILED, "query-qmp-schema of monitor 'fake': malformed schema");
  qemu_expects (q, "query-qmp-schema");
  qemu_closes (q);
  qmp_features_query (client, NULL, FALSE, on_features, &asked);
  until (asked.answers == 3);
  assert_error (asked.error, UNREACHABLE, "closed the connection");
  qmp_features_query (client, NULL, FALSE, on_features, &asked);
  until (asked.answers == 4);
  assert_error (asked.error, UNREACHABLE, "closed the connection");
  fake_qemu_free (q);
}

static void
who_asks_and_lets_the_client_go_is_answered (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  g_auto (Asked) asked = {0};
  QmpClient *client = qmp_client_new_for_connection (fake_qemu_connection (q), "fake", 50);
  qmp_features_query (client, NULL, FALSE, on_features, &asked);
  qmp_client_unref (client);
  until (asked.answers == 1);
  assert_error (asked.error, UNREACHABLE, "silent");
  fake_qemu_settle ();
  fake_qemu_free (q);
}

/* ---- the cache ------------------------------------------------------------------------------- */

/* A new connection; returns how many commands QEMU got beyond the greeting. */
static guint
ask_with_cache (const char *dir, gboolean may_write, const char *schema)
{
  FakeQemu *q = fake_qemu_new ();
  g_autoptr (QmpClient) client =
      qmp_client_new_for_connection (fake_qemu_connection (q), "fake", 0);
  g_auto (Asked) asked = {0};
  qemu_greets (q);
  qemu_always (q, "query-qmp-schema", schema);
  qmp_features_query (client, dir, may_write, on_features, &asked);
  until (asked.answers == 1);
  assert_null (asked.error);
  assert_true (qmp_features_has (asked.features, FEATURE_STREAM_BOTTOM));
  assert_false (qmp_features_has (asked.features, FEATURE_BLOCKDEV_REOPEN));
  guint commands = qemu_received (q) - 1;
  if (may_write)
    qmp_features_save (asked.features, client, dir);
  fake_qemu_free (q);
  return commands;
}

/* Full; the only file in @dir. */
static char *
file_in (const char *path)
{
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *name = dir ? g_dir_read_name (dir) : NULL;
  assert_non_null (name);
  char *file = g_build_filename (path, name, NULL);
  assert_null (g_dir_read_name (dir));
  return file;
}

static void
the_cache_spares_qemu_the_second_question (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *cache = g_build_filename (dir, "a", NULL);
  struct stat st;
  assert_int_equal (ask_with_cache (cache, FALSE, SCHEMA), 1);
  assert_false (g_file_test (cache, G_FILE_TEST_EXISTS));
  assert_int_equal (ask_with_cache (cache, TRUE, SCHEMA), 1);
  assert_int_equal (ask_with_cache (cache, FALSE, SCHEMA), 0);
  g_autofree char *file = file_in (cache);
  assert_int_equal (g_stat (file, &st), 0);
  assert_int_equal (st.st_mode & 07777, 0600);
  ino_t was = st.st_ino;
  assert_int_equal (ask_with_cache (cache, TRUE, SCHEMA), 0);
  assert_int_equal (g_stat (file, &st), 0);
  assert_int_equal (st.st_ino, was); /* what came from the cache is not written again */
  g_unlink (file);
  g_rmdir (cache);
  g_rmdir (dir);
}

static void
a_cache_that_is_not_exactly_ours_is_not_there (void **state)
{
  static const char *const rows[] = {"", "{", "[]", "{\"features\":[]}",
                                     "{\"belongs-to\":{},\"features\":[]}"};
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  assert_int_equal (ask_with_cache (dir, TRUE, SCHEMA), 1);
  g_autofree char *file = file_in (dir);
  g_autofree char *good = NULL;
  gsize length;
  assert_true (g_file_get_contents (file, &good, &length, NULL));
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    assert_true (g_file_set_contents (file, rows[i], -1, NULL));
    g_chmod (file, 0600);
    assert_int_equal (ask_with_cache (dir, FALSE, SCHEMA), 1);
  }
  /* A name that nobody knows, though the rest is right. */
  g_autoptr (Json) strange = json_parse (good, -1);
  json_set (strange, "features", json_list (json_str ("nonsense"), NULL));
  assert_true (g_file_set_contents (file, json_object_to_json_string (strange), -1, NULL));
  g_chmod (file, 0600);
  assert_int_equal (ask_with_cache (dir, FALSE, SCHEMA), 1);
  /* Written by anybody. */
  assert_true (g_file_set_contents (file, good, (gssize)length, NULL));
  g_chmod (file, 0622);
  assert_int_equal (ask_with_cache (dir, FALSE, SCHEMA), 1);
  g_chmod (file, 0600);
  assert_int_equal (ask_with_cache (dir, FALSE, SCHEMA), 0);
  g_unlink (file);
  g_rmdir (dir);
}

static void
a_cache_that_cannot_be_written_is_no_error (void **state)
{
  assert_int_equal (ask_with_cache ("/proc/nonexistent", TRUE, SCHEMA), 1);
  assert_int_equal (ask_with_cache ("/dev/null/x", TRUE, SCHEMA), 1);
}

/* The real one */

static GPid
start_qemu (const char *path)
{
  g_autofree char *qmp = g_strdup_printf ("unix:%s,server=on,wait=off", path);
  char *argv[] = {(char *)"qemu-system-x86_64",
                  (char *)"-machine",
                  (char *)"none",
                  (char *)"-nodefaults",
                  (char *)"-display",
                  (char *)"none",
                  (char *)"-qmp",
                  qmp,
                  NULL};
  GPid pid = 0;
  assert_true (g_spawn_async (NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                              NULL, NULL, &pid, NULL));
  for (int i = 0; i < 500 && !g_file_test (path, G_FILE_TEST_EXISTS); i++)
    g_usleep (10000);
  return pid;
}

static void
a_real_qemu_has_what_its_schema_says (void **state)
{
  g_autofree char *program = g_find_program_in_path ("qemu-system-x86_64");
  if (program == NULL) {
    print_message ("skipped: there is no qemu-system-x86_64\n");
    skip ();
  }
  g_autofree char *dir = g_dir_make_tmp ("rechain-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "x.qmp", NULL);
  g_auto (Asked) asked = {0};
  GPid pid = start_qemu (path);
  g_autoptr (QmpClient) client = qmp_client_new (path, 5000, NULL);
  qmp_features_query (client, NULL, FALSE, on_features, &asked);
  until (asked.answers == 1);
  g_autoptr (QmpClient) second = qmp_client_new (path, 300, NULL);
  until (qmp_client_get_state (second) == QMP_CLOSED);
  assert_error (qmp_client_get_error (second), UNREACHABLE, "somebody else holds this monitor");
  assert_int_equal (qmp_client_get_peer_pid (client), pid);
  qmp_client_execute (client, "quit", NULL, 0, NULL, NULL);
  until (qmp_client_get_state (client) == QMP_CLOSED);
  waitpid (pid, NULL, 0);
  g_unlink (path);
  g_rmdir (dir);

  guint version = qmp_client_get_version (client);
  static const QmpFeature always[] = {
      FEATURE_BLOCK_STREAM,    FEATURE_STREAM_FINALIZE, FEATURE_BLOCK_COMMIT,
      FEATURE_COMMIT_FINALIZE, FEATURE_BLOCKDEV_ADD,    FEATURE_JOB_VERBS,
      FEATURE_TRANSACTION,     FEATURE_DEBUG_GRAPH,     FEATURE_NODES_FLAT};
  for (gsize i = 0; i < G_N_ELEMENTS (always); i++)
    if (!qmp_features_has (asked.features, always[i]))
      fail_test ("no %s", qmp_feature_name (always[i]));
  assert_int_equal (qmp_features_has (asked.features, FEATURE_STREAM_BOTTOM), version >= 60000);
  assert_int_equal (qmp_features_has (asked.features, FEATURE_COPY_ON_READ_BOTTOM),
                    version >= 60000);
  assert_int_equal (qmp_features_has (asked.features, FEATURE_BLOCKDEV_REOPEN), version >= 60100);
  assert_int_equal (qmp_features_has (asked.features, FEATURE_BLOCK_JOB_CHANGE), version >= 80200);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (paths_descend_into_members_variants_arrays_and_alternates),
      cmocka_unit_test (features_follow_from_the_schema),
      cmocka_unit_test (a_missing_feature_is_refused_by_name),
      cmocka_unit_test (malformed_schemas_are_refused),
      cmocka_unit_test (hostile_schemas_read_as_no),
      cmocka_unit_test (one_connection_is_asked_once_however_many_want_to_know),
      cmocka_unit_test (a_failed_question_is_answered_with_the_error_and_asked_again),
      cmocka_unit_test (who_asks_and_lets_the_client_go_is_answered),
      cmocka_unit_test (the_cache_spares_qemu_the_second_question),
      cmocka_unit_test (a_cache_that_is_not_exactly_ours_is_not_there),
      cmocka_unit_test (a_cache_that_cannot_be_written_is_no_error),
      cmocka_unit_test (a_real_qemu_has_what_its_schema_says),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
