/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs the real qemu-img, and small scripts in its place ($RECHAIN_QEMU_IMG). */
#include "tests/unit/unit.h"

#include "tests/unit/temp-dir.h"

#include "jobs/chain.h"
#include "jobs/forecast.h"
#include "jobs/image.h"
#include "jobs/map-image.h"
#include "src/common/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- waiting --------------------------------------------------------------------------------- */

typedef struct {
  guint calls;
  char *out;
  GError *error;
} Answer;

static void
on_done (const char *out, const GError *error, gpointer data)
{
  Answer *answer = data;
  answer->calls++;
  answer->out = g_strdup (out);
  answer->error = error ? g_error_copy (error) : NULL;
}

static void
answer_clear (Answer *answer)
{
  g_free (answer->out);
  g_clear_error (&answer->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Answer, answer_clear)

static void
await (Answer *answer)
{
  while (answer->calls == 0)
    g_main_context_iteration (NULL, TRUE);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  assert_int_equal (answer->calls, 1);
  assert_true ((answer->out == NULL) != (answer->error == NULL));
}

/* Takes @argv. */
static void
run (char **argv, ImageFlags flags, Answer *answer)
{
  image_run ((const char *const *)argv, flags, on_done, answer);
  assert_int_equal (answer->calls, 0);
  g_strfreev (argv);
  await (answer);
}

static void
must (const char *format, ...) G_GNUC_PRINTF (1, 2);

/* Runs a shell command in the directory. */
static void
must (const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *line = g_strdup_vprintf (format, args);
  va_end (args);
  const char *argv[] = {"sh", "-ec", line, NULL};
  int status = -1;
  assert_true (g_spawn_sync (dir, (char **)argv, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                             NULL, &status, NULL));
  assert_int_equal (status, 0);
}

/* A shell script in the place of qemu-img. */
static void
run_script (const char *body, ImageFlags flags, Answer *answer)
{
  g_autofree char *path = g_build_filename (dir, "script", NULL);
  g_autofree char *text = g_strdup_printf ("#!/bin/sh\n%s\n", body);
  assert_true (
      g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0700, NULL));
  const char *argv[] = {"qemu-img", "info", NULL};
  g_setenv ("RECHAIN_QEMU_IMG", path, TRUE);
  run (g_strdupv ((char **)argv), flags, answer);
  g_unsetenv ("RECHAIN_QEMU_IMG");
}

/* ---- running --------------------------------------------------------------------------------- */

static void
the_callback_comes_once_and_later (void **state)
{
  g_auto (Answer) answer = {0};
  const char *argv[] = {"qemu-img", "--version", NULL};
  run (g_strdupv ((char **)argv), IMAGE_DEFAULT, &answer);
  assert_non_null (strstr (answer.out, "qemu-img version"));
}

static void
a_program_that_is_not_there_is_an_answer_too (void **state)
{
  g_auto (Answer) answer = {0};
  const char *argv[] = {"rc-no-such-program", NULL};
  run (g_strdupv ((char **)argv), IMAGE_DEFAULT, &answer);
  assert_error (answer.error, FAILED, "rc-no-such-program");
  assert_non_null (rechain_error_get_cause (answer.error));
}

static void
its_own_words_are_the_cause (void **state)
{
  g_auto (Answer) answer = {0};
  run (image_repair_args ("/rc-none/a", "qcow2"), IMAGE_QUESTION, &answer);
  assert_error (answer.error, FAILED, "qemu-img check failed with exit code 1");
  assert_string_equal (rechain_error_get_cause (answer.error),
                       "qemu-img: Could not open '/rc-none/a': Could not open '/rc-none/a': No "
                       "such file or directory");
}

static void
only_the_last_words_of_a_long_complaint_are_kept (void **state)
{
  g_auto (Answer) answer = {0};
  run_script ("yes complaint | head -c 1000000 >&2; echo the end >&2; exit 3", IMAGE_DEFAULT,
              &answer);
  assert_error (answer.error, FAILED, "exit code 3");
  const char *cause = rechain_error_get_cause (answer.error);
  assert_true (strlen (cause) <= 8192 && g_str_has_suffix (cause, "the end"));
}

static void
complaints_fail_only_where_asked (void **state)
{
  g_auto (Answer) lax = {0};
  g_auto (Answer) strict = {0};
  run_script ("echo No space left on device >&2; echo out", IMAGE_DEFAULT, &lax);
  assert_string_equal (lax.out, "out\n");
  run_script ("echo No space left on device >&2; echo out", IMAGE_STDERR_FAILS, &strict);
  assert_error (strict.error, FAILED, "complained");
  assert_string_equal (rechain_error_get_cause (strict.error), "No space left on device");
}

static void
output_without_end_is_stopped (void **state)
{
  g_auto (Answer) answer = {0};
  run_script ("exec yes", IMAGE_DEFAULT, &answer);
  assert_error (answer.error, FAILED, "longer than");
}

static void
limits_environment_and_input_are_set (void **state)
{
  g_auto (Answer) answer = {0};
  run_script (
      "ulimit -v; ulimit -t; ulimit -c; echo $LC_ALL; cat | wc -c; readlink /proc/self/fd/0",
      IMAGE_QUESTION, &answer);
  assert_string_equal (answer.out, "4194304\n300\n0\nC\n0\n/dev/null\n");
}

static void
none_of_our_descriptors_is_handed_on (void **state)
{
  g_auto (Answer) answer = {0};
  int fd = open ("/dev/null", O_RDONLY); /* on purpose without O_CLOEXEC */
  run_script ("ls /proc/self/fd | wc -l", IMAGE_DEFAULT, &answer);
  close (fd);
  assert_string_equal (answer.out, "4\n"); /* 0, 1, 2 and the folder that ls reads */
}

static void
a_signal_is_named (void **state)
{
  g_auto (Answer) answer = {0};
  g_auto (Answer) cpu = {0};
  run_script ("kill -9 $$", IMAGE_DEFAULT, &answer);
  assert_error (answer.error, FAILED, "killed by signal 9");
  run_script ("kill -XCPU $$; sleep 5", IMAGE_DEFAULT, &cpu);
  assert_error (cpu.error, FAILED, "limit of CPU time");
}

static void
cancel_after (const char *body, ImageFlags flags, double least, double most)
{
  g_auto (Answer) answer = {0};
  g_autofree char *path = g_build_filename (dir, "slow", NULL);
  g_autofree char *text = g_strdup_printf ("#!/bin/sh\n%s\n", body);
  assert_true (
      g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0700, NULL));
  const char *argv[] = {path, NULL};
  gint64 start = g_get_monotonic_time ();
  ImageRun *handle = image_run (argv, flags, on_done, &answer);
  while (g_get_monotonic_time () - start < 300000)
    g_main_context_iteration (NULL, FALSE);
  image_cancel (handle);
  image_cancel (handle);
  await (&answer);
  double took = (double)(g_get_monotonic_time () - start) / 1e6;
  assert_error (answer.error, INTERRUPTED, "cancelled");
  if (took < least || took > most)
    fail_test ("took %.3f s", took);
}

static void
cancel_ends_at_once_what_obeys_and_after_2_s_what_does_not (void **state)
{
  cancel_after ("exec sleep 30", IMAGE_DEFAULT, 0.3, 1.5);
  cancel_after ("trap '' TERM; while :; do sleep 0.05; done", IMAGE_DEFAULT, 2.2, 4.5);
}

/* lvm is not stopped between suspending a device and resuming it. */
static void
what_lives_on_is_not_killed_by_a_cancel_and_not_by_our_death (void **state)
{
  g_autofree char *late = g_build_filename (dir, "late", NULL);
  g_autofree char *text = g_strdup_printf ("#!/bin/sh\nsleep 1; echo word; touch %s\n", late);
  g_autofree char *path = g_build_filename (dir, "changes", NULL);
  g_autofree char *busy = g_build_filename (dir, "busy", NULL);
  const char *argv[] = {path, NULL};
  g_auto (Answer) idle = {0};
  cancel_after ("sleep 1; exit 0", IMAGE_LIVES_ON, 0.9, 3);
  assert_true (
      g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0700, NULL));
  pid_t child = fork ();
  if (child == 0) {
    image_run_more (argv, IMAGE_LIVES_ON, &(ImageMore){.busy = busy}, on_done, NULL);
    kill (getpid (), SIGKILL);
  }
  waitpid (child, NULL, 0);
  assert_int_not_equal (g_access (late, F_OK), 0);
  image_wait_idle (busy, on_done, &idle);
  await (&idle);
  assert_int_equal (g_access (late, F_OK), 0);
}

static void
a_grandchild_that_keeps_the_pipes_is_not_waited_for (void **state)
{
  g_auto (Answer) answer = {0};
  gint64 start = g_get_monotonic_time ();
  run_script ("sleep 6 & echo out", IMAGE_DEFAULT, &answer);
  assert_string_equal (answer.out, "out\n");
  assert_true (g_get_monotonic_time () - start < 3000000);
}

static void
eight_run_in_parallel (void **state)
{
  Answer answers[8] = {0};
  const char *argv[] = {"qemu-img", "--version", NULL};
  gint64 start = g_get_monotonic_time ();
  for (guint i = 0; i < 8; i++)
    image_run (argv, IMAGE_DEFAULT, on_done, &answers[i]);
  gint64 started = g_get_monotonic_time () - start;
  for (guint i = 0; i < 8; i++)
    await (&answers[i]);
  print_message ("8 x qemu-img: started in %d us, done in %d us\n", (int)started,
                 (int)(g_get_monotonic_time () - start));
  for (guint i = 0; i < 8; i++) {
    assert_non_null (answers[i].out);
    answer_clear (&answers[i]);
  }
}

/* ---- what a program writes ------------------------------------------------------------------- */

/* Pages of @path that nobody has begun to write out; -1 where the kernel does not tell. */
static gint64
dirty_pages (const char *path)
{
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
  struct {
    guint64 start, length;
  } all = {0};
  struct {
    guint64 cached, dirty, writeback, evicted, recently_evicted;
  } counts = {0};
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  long failed = syscall (SYS_cachestat, fd, &all, &counts, 0);
  close (fd);
  return failed ? -1 : (gint64)counts.dirty;
}

/* Without truncating it: ext4 would write out what comes after that when it is closed. */
static gint64
dirty_after_writing (const char *path, const char *fills)
{
  g_autofree char *script = g_strdup_printf ("head -c 8M /dev/zero 1<> '%s'; sleep 0.5", path);
  const char *argv[] = {"sh", "-c", script, NULL};
  g_auto (Answer) answer = {0};
  assert_true (g_file_set_contents (path, "", 0, NULL));
  image_run_more (argv, IMAGE_DEFAULT, &(ImageMore){.fills = fills}, on_done, &answer);
  await (&answer);
  assert_null (answer.error);
  return dirty_pages (path);
}

static void
what_a_program_writes_in_order_goes_to_the_disk_meanwhile (void **state)
{
  g_autofree char *path = g_build_filename (dir, "written", NULL);
  if (dirty_after_writing (path, NULL) <= 0)
    skip (); /* no cachestat(), or a filesystem in memory */
  assert_int_equal (dirty_after_writing (path, path), 0);
}

/* ---- create, map, forecast ------------------------------------------------------------------- */

static void
names_with_every_odd_character_are_created_and_mapped (void **state)
{
  static const char *const names[] = {"a,b",   "a:b", "-a",      "a\"b'c", "a\nb",
                                      "a%20b", "a b", "json:{}", "a\\b",   "\xc3\xa4"};
  g_autofree char *cwd = g_get_current_dir ();
  assert_int_equal (chdir (dir), 0);
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    g_auto (Answer) mapped = {0};
    g_autofree char *path = g_build_filename (dir, names[i], NULL);
    g_autofree char *over = g_strdup_printf ("%s.over", names[i]);
    g_autofree char *relative = g_strdup_printf ("./%s", names[i]);
    g_autofree char *name = g_shell_quote (path);
    g_autofree char *backing = g_shell_quote (relative);
    g_autofree char *overlay = g_shell_quote (over);
    must ("qemu-img create -q -f qcow2 -u %s 1M", name);
    must ("qemu-img create -q -f qcow2 -u -b %s -F qcow2 \"$PWD\"/%s 1M", backing, overlay);
    g_autoptr (GPtrArray) layers = chain_read_offline (over, NULL, NULL);
    assert_non_null (layers);
    assert_int_equal (layers->len, 2);
    assert_string_equal (((ChainLayer *)layers->pdata[0])->backing, relative);
    assert_string_equal (((ChainLayer *)layers->pdata[1])->file, path);
    run (image_chain_map_args (layers, 0, 1 << 20, TRUE), IMAGE_STDERR_FAILS | IMAGE_QUESTION,
         &mapped);
    if (mapped.error != NULL)
      fail_test ("%s: %s", names[i], rechain_error_get_cause (mapped.error));
  }
  assert_int_equal (chdir (cwd), 0);
}

typedef struct {
  guint calls;
  Map *map;
  GError *error;
} Mapped;

static void
on_map (Map *map, const GError *error, gpointer data)
{
  Mapped *mapped = data;
  mapped->calls++;
  mapped->map = map;
  mapped->error = error ? g_error_copy (error) : NULL;
}

/* What qemu-img itself says. */
static guint64
measured (GPtrArray *layers, guint n)
{
  g_auto (Answer) answer = {0};
  guint64 required = 0, full = 0;
  g_autoptr (Json) spec = image_chain_spec (layers, 0, n);
  g_autofree char *name = image_spec_name (spec);
  const char *argv[] = {"qemu-img", "measure", "-U", "--output=json", "-O", "qcow2", name, NULL};
  run (g_strdupv ((char **)argv), IMAGE_QUESTION, &answer);
  if (answer.error != NULL)
    fail_test ("%s", rechain_error_get_cause (answer.error));
  assert_true (image_measure_parse (answer.out, &required, &full, NULL));
  assert_true (full >= required);
  return required;
}

/* The forecast for a new image with what the layers hold; qemu-img has no other opinion, but for a
 * few tables. */
static guint64
needed (GPtrArray *layers, guint n)
{
  Mapped mapped = {0};
  guint64 size = ((ChainLayer *)layers->pdata[0])->virtual_size;
  Receiver receiver = receiver_new ("qcow2", size);
  map_image (&(MapSource){.layers = layers, .to = n, .region.length = size, .shared = TRUE}, on_map,
             &mapped);
  while (mapped.calls == 0)
    g_main_context_iteration (NULL, TRUE);
  if (mapped.error != NULL)
    fail_test ("%s", rechain_error_get_cause (mapped.error));
  guint64 bytes = forecast (&(Writing){.from = mapped.map, .pieces_of = MAP_NOBODY}, &receiver);
  guint64 theirs = measured (layers, n);
  map_unref (mapped.map);
  assert_true (bytes + 3 * 65536 >= theirs && bytes <= theirs + 3 * 65536);
  return bytes;
}

static GPtrArray *
chain (const char *name, const char *format)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  g_autoptr (GError) error = NULL;
  GPtrArray *layers = chain_read_offline (path, format, &error);
  if (layers == NULL)
    fail_test ("%s", error->message);
  return layers;
}

#define MIB (1u << 20)

static void
a_forecast_counts_what_the_named_layers_hold_together (void **state)
{
  must ("qemu-img create -q -f qcow2 m0 64M; qemu-io -f qcow2 -c 'write 0 8M' m0");
  must ("qemu-img create -q -f qcow2 -b m0 -F qcow2 m1; qemu-io -f qcow2 -c 'write 4M 8M' m1");
  must ("qemu-img create -q -f qcow2 -b m1 -F qcow2 m2; qemu-io -f qcow2 -c 'write 8M 8M' m2");
  g_autoptr (GPtrArray) layers = chain ("m2", NULL);
  assert_int_equal (layers->len, 3);
  guint64 one = needed (layers, 1), two = needed (layers, 2), three = needed (layers, 3);
  assert_true (one >= 8 * MIB && one < 9 * MIB);
  assert_true (two >= 12 * MIB && two < 13 * MIB); /* 4M..16M: the overlap once */
  assert_true (three >= 16 * MIB && three < 17 * MIB);
}

static void
a_forecast_does_not_count_zeros_and_reads_raw (void **state)
{
  must ("qemu-img create -q -f raw z.raw 64M; qemu-io -f raw -c 'write 0 2M' z.raw");
  must ("qemu-img create -q -f qcow2 -b z.raw -F raw z1; qemu-io -f qcow2 -c 'write -z 4M 32M' z1");
  must ("qemu-io -f qcow2 -c 'write 40M 1M' z1");
  g_autoptr (GPtrArray) layers = chain ("z1", NULL);
  g_autoptr (GPtrArray) raw = chain ("z.raw", "raw");
  guint64 zeros = needed (layers, 1), all = needed (layers, 2), alone = needed (raw, 1);
  assert_true (zeros >= 1 * MIB && zeros < 2 * MIB);
  assert_true (all >= 3 * MIB && all < 4 * MIB);
  assert_true (alone >= 2 * MIB && alone < 3 * MIB);
}

static void
a_chain_in_use_by_a_qemu_has_a_forecast (void **state)
{
  must ("qemu-img create -q -f qcow2 l0 64M; qemu-img create -q -f qcow2 -b l0 -F qcow2 l1");
  must ("qemu-io -f qcow2 -c 'write 0 4M' l1");
  const char *argv[] = {"qemu-storage-daemon",
                        "--blockdev",
                        "driver=qcow2,node-name=n,file.driver=file,file.filename=l1",
                        "--nbd-server",
                        "addr.type=unix,addr.path=nbd",
                        "--export",
                        "type=nbd,id=e,node-name=n,writable=on",
                        "--pidfile",
                        "pid",
                        NULL};
  GPid pid = 0;
  g_autofree char *pidfile = g_build_filename (dir, "pid", NULL);
  assert_true (g_spawn_async (dir, (char **)argv, NULL,
                              G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid,
                              NULL));
  for (guint i = 0; i < 500 && !g_file_test (pidfile, G_FILE_TEST_EXISTS); i++)
    g_usleep (10000);
  g_autoptr (GPtrArray) layers = chain ("l1", NULL);
  g_auto (Answer) locked = {0};
  run (image_repair_args (((ChainLayer *)layers->pdata[0])->file, "qcow2"), IMAGE_QUESTION,
       &locked);
  guint64 required = needed (layers, 2);
  kill (pid, SIGTERM);
  g_spawn_close_pid (pid);
  assert_non_null (locked.error);
  assert_non_null (strstr (rechain_error_get_cause (locked.error), "lock"));
  assert_true (required >= 4 * MIB && required < 5 * MIB);
}

static void
a_chain_of_200_layers_is_read_and_has_a_forecast (void **state)
{
  must ("qemu-img create -q -f qcow2 deep0 1M; for i in $(seq 1 200); do"
        " cp --sparse=always deep0 deep$i; done");
  must ("for i in $(seq 1 200); do echo $i; done | xargs -P4 -I{} sh -c"
        " 'qemu-img rebase -q -u -f qcow2 -b deep$(({} - 1)) -F qcow2 deep{}'");
  g_autoptr (GPtrArray) layers = chain ("deep199", NULL);
  assert_int_equal (layers->len, 200);
  assert_true (needed (layers, 200) < MIB);
  g_autofree char *path = g_build_filename (dir, "deep200", NULL);
  g_autoptr (GError) error = NULL;
  assert_null (chain_read_offline (path, NULL, &error));
  assert_error (error, REFUSED, "more than 200 layers");
}

static void
answers_without_sizes_are_refused (void **state)
{
  static const char *const texts[] = {"",
                                      "{}",
                                      "[]",
                                      "{\"required\":1}",
                                      "{\"required\":-1,\"fully-allocated\":2}",
                                      "{\"required\":\"1\",\"fully-allocated\":[]} x"};
  for (guint i = 0; i < G_N_ELEMENTS (texts); i++) {
    g_autoptr (GError) error = NULL;
    guint64 required, full;
    assert_false (image_measure_parse (texts[i], &required, &full, &error));
    assert_error (error, FAILED, "measure");
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (the_callback_comes_once_and_later),
      cmocka_unit_test (a_program_that_is_not_there_is_an_answer_too),
      cmocka_unit_test (its_own_words_are_the_cause),
      cmocka_unit_test (only_the_last_words_of_a_long_complaint_are_kept),
      cmocka_unit_test (complaints_fail_only_where_asked),
      cmocka_unit_test (output_without_end_is_stopped),
      cmocka_unit_test (limits_environment_and_input_are_set),
      cmocka_unit_test (none_of_our_descriptors_is_handed_on),
      cmocka_unit_test (a_signal_is_named),
      cmocka_unit_test (cancel_ends_at_once_what_obeys_and_after_2_s_what_does_not),
      cmocka_unit_test (what_lives_on_is_not_killed_by_a_cancel_and_not_by_our_death),
      cmocka_unit_test (a_grandchild_that_keeps_the_pipes_is_not_waited_for),
      cmocka_unit_test (eight_run_in_parallel),
      cmocka_unit_test (what_a_program_writes_in_order_goes_to_the_disk_meanwhile),
      cmocka_unit_test (names_with_every_odd_character_are_created_and_mapped),
      cmocka_unit_test (a_forecast_counts_what_the_named_layers_hold_together),
      cmocka_unit_test (a_forecast_does_not_count_zeros_and_reads_raw),
      cmocka_unit_test (a_chain_in_use_by_a_qemu_has_a_forecast),
      cmocka_unit_test (a_chain_of_200_layers_is_read_and_has_a_forecast),
      cmocka_unit_test (answers_without_sizes_are_refused),
  };
  return cmocka_run_group_tests (tests, make_dir, remove_dir);
}
