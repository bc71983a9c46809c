/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One run of qemu-img: a process, two pipes read to their ends, one callback.
 *
 * Three things must happen before the callback: stdout ended, stderr ended, the process was reaped.
 * Each counts `pending` down, in any order (one_ended).
 *
 * The limits are set in the child between fork and exec, so that there is no moment without them,
 * and no process of another that got the same pid can be hit, as with prlimit() on a child that
 * GLib may have reaped. The price would be the loss of posix_spawn; but GLib only uses that where
 * it need not close our other descriptors in the child, and we want them closed. */
#include "jobs/image.h"
#include "jobs/image-pipe.h"
#include "jobs/write-back.h"

#include "src/common/error.h"
#include "src/common/source.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixinputstream.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STDERR    8192u /* bytes kept, the last ones */
#define KILL_AFTER_MS 2000u
/* A child of the child may keep the pipes open; its words do not matter. */
#define DRAIN_MS    1000u
#define PROGRESS_MS 200u

struct _ImageRun {
  char *name; /* "qemu-img measure" */
  ImageFlags flags;
  int most_exit;
  pid_t parent;   /* of the process: us */
  ImageText text; /* nullable: stdout is kept */
  ImageDone callback;
  gpointer data;
  GSubprocess *process;
  ImagePipe *out_pipe, *err_pipe; /* NULL when they have ended */
  GString *out, *err;
  guint pending;
  gboolean cancelled, overflow, dead;
  GSource *timer; /* SIGKILL after SIGTERM, or the end of draining */
  int from;       /* our descriptor of stdin, whose offset says how far the process is; -1 */
  guint64 from_size;
  GSource *watch;
  WriteBack *back; /* nullable */
  void (*on_progress) (guint share, gpointer data);
  GError *error; /* of the start, or of reading */
};

static void
image_run_free (ImageRun *run)
{
  source_clear (&run->timer);
  source_clear (&run->watch);
  write_back_stop (run->back);
  if (run->from >= 0)
    close (run->from);
  g_clear_object (&run->process);
  g_string_free (run->out, TRUE);
  g_string_free (run->err, TRUE);
  g_clear_error (&run->error);
  g_free (run->name);
  g_free (run);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* In the child, between fork and exec: system calls only. A lower limit of the host stays. */
static void
limit (__rlimit_resource_t resource, rlim_t soft, rlim_t hard)
{
  struct rlimit now;
  if (getrlimit (resource, &now) != 0)
    return;
  now.rlim_max = MIN (now.rlim_max, hard);
  now.rlim_cur = MIN (now.rlim_cur, MIN (now.rlim_max, soft));
  setrlimit (resource, &now);
}

static void
limit_child (gpointer data)
{
  const ImageRun *run = data;
  gboolean question = (run->flags & IMAGE_QUESTION) != 0;
  rlim_t seconds = question ? IMAGE_MAX_CPU_QUESTION : IMAGE_MAX_CPU;
  limit (RLIMIT_AS, IMAGE_MAX_MEMORY, IMAGE_MAX_MEMORY);
  limit (RLIMIT_CPU, seconds, seconds + 5); /* SIGXCPU says why; SIGKILL follows */
  limit (RLIMIT_CORE, 0, 0);
  /* Its pipes may end before it does, and a Ctrl-C in our terminal is not meant for it. */
  if ((run->flags & IMAGE_LIVES_ON) != 0) {
    signal (SIGPIPE, SIG_IGN);
    setsid ();
    return;
  }
  /* What we started and can no longer watch must not go on writing behind the back of a
   * recovery. */
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  if (getppid () != run->parent)
    _exit (127);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* The last lines of stderr, as UTF-8 and without the newline; full. */
static char *
last_words (ImageRun *run)
{
  char *words = g_utf8_make_valid (run->err->str, (gssize)run->err->len);
  return g_strchomp (words);
}

static gboolean
ended_by_signal (ImageRun *run, int number)
{
  return g_subprocess_get_if_signaled (run->process) &&
         g_subprocess_get_term_sig (run->process) == number;
}

static gboolean
say_how_it_ended (ImageRun *run, GError **error)
{
  if (run->cancelled)
    return fail (error, INTERRUPTED, "%s was cancelled", run->name);
  if (run->overflow)
    return fail (error, FAILED, "%s: its output is longer than %u bytes", run->name,
                 IMAGE_MAX_OUTPUT);
  if (ended_by_signal (run, SIGXCPU))
    return fail (error, FAILED, "%s used up its limit of CPU time", run->name);
  if (g_subprocess_get_if_signaled (run->process))
    return fail (error, FAILED, "%s was killed by signal %d", run->name,
                 g_subprocess_get_term_sig (run->process));
  if (g_subprocess_get_exit_status (run->process) > run->most_exit)
    return fail (error, FAILED, "%s failed with exit code %d", run->name,
                 g_subprocess_get_exit_status (run->process));
  if ((run->flags & IMAGE_STDERR_FAILS) != 0 && run->err->len > 0)
    return fail (error, FAILED, "%s ended with exit code 0, but complained", run->name);
  return TRUE;
}

static void
finish (ImageRun *run)
{
  g_autoptr (GError) error = g_steal_pointer (&run->error);
  if (error == NULL && !say_how_it_ended (run, &error)) {
    g_autofree char *words = last_words (run);
    if (words[0] != '\0')
      because (&error, "%s", words);
  }
  run->callback (error ? NULL : run->out->str, error, run->data);
  image_run_free (run);
}

static void
one_ended (ImageRun *run)
{
  if (--run->pending == 0)
    finish (run);
}

static gboolean
on_not_started (gpointer data)
{
  finish (data);
  return G_SOURCE_REMOVE;
}

/* ---- the process ----------------------------------------------------------------------------- */

static gboolean
on_drained_long_enough (gpointer data)
{
  ImageRun *run = data;
  g_clear_pointer (&run->out_pipe, image_pipe_stop);
  g_clear_pointer (&run->err_pipe, image_pipe_stop);
  finish (run);
  return G_SOURCE_REMOVE;
}

static gboolean
on_still_there (gpointer data)
{
  g_subprocess_send_signal (((ImageRun *)data)->process, SIGKILL);
  return G_SOURCE_REMOVE;
}

static void
on_dead (GObject *process, GAsyncResult *result, gpointer data)
{
  ImageRun *run = data;
  g_subprocess_wait_finish (run->process, result, NULL);
  run->dead = TRUE;
  if (run->pending > 1)
    source_after (&run->timer, DRAIN_MS, on_drained_long_enough, run);
  one_ended (run);
}

static void
stop (ImageRun *run)
{
  if (run->process == NULL || run->dead || (run->flags & IMAGE_LIVES_ON) != 0)
    return;
  g_subprocess_send_signal (run->process, SIGTERM);
  source_after (&run->timer, KILL_AFTER_MS, on_still_there, run);
}

void
image_cancel (ImageRun *run)
{
  if (run->cancelled)
    return;
  run->cancelled = TRUE;
  stop (run);
}

/* ---- the pipes ------------------------------------------------------------------------------- */

/* "    (12.34/100%)\r", as often as it likes; nothing of it is kept. */
static void
read_progress (ImageRun *run, const char *text, gsize length)
{
  g_string_append_len (run->out, text, (gssize)length);
  const char *last = g_strrstr (run->out->str, "/100%");
  const char *open = last ? g_strrstr_len (run->out->str, last - run->out->str, "(") : NULL;
  if (open != NULL) {
    double percent = g_ascii_strtod (open + 1, NULL);
    run->on_progress ((guint)(CLAMP (percent, 0, 100) * 100), run->data);
  }
  if (run->out->len > MAX_STDERR || last != NULL)
    g_string_truncate (run->out, 0);
}

static void
on_out (const char *text, gsize length, gpointer data)
{
  ImageRun *run = data;
  if (run->text != NULL) {
    if (!run->cancelled && !run->text (text, length, run->data))
      image_cancel (run);
  } else if (run->on_progress != NULL && run->from < 0)
    read_progress (run, text, length);
  else if (run->out->len + length <= IMAGE_MAX_OUTPUT)
    g_string_append_len (run->out, text, (gssize)length);
  else {
    if (!run->overflow)
      stop (run);
    run->overflow = TRUE;
  }
}

static void
on_err (const char *text, gsize length, gpointer data)
{
  ImageRun *run = data;
  g_string_append_len (run->err, text, (gssize)length);
  if (run->err->len > MAX_STDERR)
    g_string_erase (run->err, 0, (gssize)(run->err->len - MAX_STDERR));
}

static void
on_out_end (gpointer data)
{
  ImageRun *run = data;
  run->out_pipe = NULL;
  one_ended (run);
}

static void
on_err_end (gpointer data)
{
  ImageRun *run = data;
  run->err_pipe = NULL;
  one_ended (run);
}

static ImagePipe *
open_pipe (ImageRun *run, GInputStream *stream, ImagePipeText text, ImagePipeEnd end)
{
  run->pending++;
  return image_pipe_read (g_unix_input_stream_get_fd (G_UNIX_INPUT_STREAM (stream)), text, end,
                          run);
}

/* ---- the start ------------------------------------------------------------------------------- */

static gboolean
on_watch (gpointer data)
{
  ImageRun *run = data;
  off_t at = lseek (run->from, 0, SEEK_CUR);
  if (at >= 0 && run->from_size > 0)
    run->on_progress ((guint)(MIN ((double)at / (double)run->from_size, 1) * 10000), run->data);
  return G_SOURCE_CONTINUE;
}

/* The process reads through a copy of the descriptor, so its offset is ours too. */
static gboolean
open_from (ImageRun *run, GSubprocessLauncher *launcher, const char *path, GError **error)
{
  run->from = open (path, O_RDONLY | O_CLOEXEC);
  int copy = run->from >= 0 ? fcntl (run->from, F_DUPFD_CLOEXEC, 3) : -1;
  if (copy < 0)
    return fail_errno (error, errno, "open '%s'", path);
  off_t end = lseek (run->from, 0, SEEK_END);
  run->from_size = end > 0 ? (guint64)end : 0;
  lseek (run->from, 0, SEEK_SET);
  g_subprocess_launcher_take_stdin_fd (launcher, copy);
  if (run->on_progress == NULL)
    return TRUE;
  source_after (&run->watch, PROGRESS_MS, on_watch, run);
  return TRUE;
}

static gboolean
open_into (GSubprocessLauncher *launcher, const char *path, GError **error)
{
  struct stat st;
  /* /dev/VG/LV is a symlink of udev's. */
  gboolean device = stat (path, &st) == 0 && S_ISBLK (st.st_mode);
  int fd = open (path, O_WRONLY | O_CLOEXEC | (device ? 0 : O_TRUNC | O_NOFOLLOW));
  if (fd < 0)
    return fail_errno (error, errno, "open '%s'", path);
  g_subprocess_launcher_take_stdout_fd (launcher, fd);
  return TRUE;
}

/* Which program stands for the one that is named; borrowed. */
static const char *
replacement (const char *program)
{
  const char *named = g_str_equal (program, "qemu-img") ? g_getenv ("RECHAIN_QEMU_IMG")
                      : g_str_equal (program, "qemu-storage-daemon")
                          ? g_getenv ("RECHAIN_QEMU_STORAGE_DAEMON")
                          : NULL;
  return named != NULL && named[0] != '\0' ? named : program;
}

/* The lock is taken here and inherited, so that there is no moment without it; who holds it then is
 * flock(1), which waits for the program. */
static gboolean
hold_busy (GSubprocessLauncher *launcher, const char *path, char ***args, GError **error)
{
  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 || flock (fd, LOCK_SH | LOCK_NB) != 0) {
    int errnum = errno;
    if (fd >= 0)
      close (fd);
    return fail_errno (error, errnum, "lock '%s'", path);
  }
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();
  g_strv_builder_add_many (words, "flock", "-s", "-o", path, NULL);
  g_strv_builder_addv (words, (const char **)*args);
  g_strfreev (*args);
  *args = g_strv_builder_end (words);
  g_subprocess_launcher_take_fd (launcher, fd, 3);
  return TRUE;
}

static GSubprocess *
spawn (ImageRun *run, const char *const *argv, const ImageMore *more, GError **error)
{
  g_autoptr (GError) cause = NULL;
  g_auto (GStrv) args = g_strdupv ((char **)argv);
  GSubprocessFlags pipes = G_SUBPROCESS_FLAGS_STDERR_PIPE;
  if (more == NULL || more->into == NULL)
    pipes |= G_SUBPROCESS_FLAGS_STDOUT_PIPE;
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (pipes);
  if (more != NULL && more->from != NULL && !open_from (run, launcher, more->from, error))
    return NULL;
  if (more != NULL && more->into != NULL && !open_into (launcher, more->into, error))
    return NULL;
  g_free (args[0]);
  args[0] = g_strdup (replacement (argv[0]));
  if (more != NULL && more->fd != NULL)
    g_subprocess_launcher_take_fd (launcher, *more->fd, 3);
  if (more != NULL && more->busy != NULL && !hold_busy (launcher, more->busy, &args, error))
    return NULL;
  g_subprocess_launcher_setenv (launcher, "LVM_SUPPRESS_FD_WARNINGS", "1", TRUE);
  g_subprocess_launcher_setenv (launcher, "LC_ALL", "C", TRUE);
  /* Many threads each with an arena of their own would need address space for nothing. */
  g_subprocess_launcher_setenv (launcher, "MALLOC_ARENA_MAX", "2", FALSE);
  /* QEMU allocates a buffer for each piece that it copies. Given back to the kernel each time,
   * their page faults were 40 % of the CPU time of a copy past the page cache
   * (docs/qemu-findings.md). */
  g_subprocess_launcher_setenv (launcher, "MALLOC_MMAP_THRESHOLD_", "33554432", FALSE);
  g_subprocess_launcher_setenv (launcher, "MALLOC_TRIM_THRESHOLD_", "67108864", FALSE);
  g_subprocess_launcher_setenv (launcher, "MALLOC_TOP_PAD_", "16777216", FALSE);
  run->parent = getpid ();
  g_subprocess_launcher_set_child_setup (launcher, limit_child, run, NULL);
  GSubprocess *process = g_subprocess_launcher_spawnv (launcher, (const char *const *)args, &cause);
  if (process == NULL) {
    fail (error, FAILED, "start %s", args[0]);
    because (error, "%s", cause->message);
    if (g_str_equal (argv[0], "qemu-img"))
      hint (error, "qemu-img is in Debian's package qemu-utils");
    if (g_str_equal (argv[0], "qemu-storage-daemon"))
      hint (error, "qemu-storage-daemon is in Debian's package qemu-system-common");
  }
  return process;
}

ImageRun *
image_run_more (const char *const *argv, ImageFlags flags, const ImageMore *more,
                ImageDone callback, gpointer data)
{
  ImageRun *run = g_new0 (ImageRun, 1);
  run->name = argv[1] && argv[1][0] != '-' ? g_strdup_printf ("%s %s", argv[0], argv[1])
                                           : g_strdup (argv[0]);
  run->flags = flags;
  run->text = more ? more->text : NULL;
  run->most_exit = more ? more->most_exit : 0;
  run->from = -1;
  run->callback = callback;
  run->data = data;
  run->on_progress = more ? more->on_progress : NULL;
  run->out = g_string_new (NULL);
  run->err = g_string_new (NULL);
  run->process = spawn (run, argv, more, &run->error);
  if (run->process == NULL) {
    source_idle (&run->timer, on_not_started, run);
    return run;
  }
  if (more != NULL && more->fills != NULL)
    run->back = write_back_start (more->fills);
  run->pending++;
  g_subprocess_wait_async (run->process, NULL, on_dead, run);
  if (g_subprocess_get_stdout_pipe (run->process) != NULL)
    run->out_pipe =
        open_pipe (run, g_subprocess_get_stdout_pipe (run->process), on_out, on_out_end);
  run->err_pipe = open_pipe (run, g_subprocess_get_stderr_pipe (run->process), on_err, on_err_end);
  return run;
}

ImageRun *
image_wait_idle (const char *busy, ImageDone callback, gpointer data)
{
  const char *argv[] = {"flock", "-x", busy, "true", NULL};
  return image_run (argv, IMAGE_QUESTION, callback, data);
}

ImageRun *
image_run (const char *const *argv, ImageFlags flags, ImageDone callback, gpointer data)
{
  return image_run_more (argv, flags, NULL, callback, data);
}

ImageRun *
image_run_streamed (const char *const *argv, ImageFlags flags, ImageText text, ImageDone callback,
                    gpointer data)
{
  return image_run_more (argv, flags, &(ImageMore){.text = text}, callback, data);
}
