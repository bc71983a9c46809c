/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clang-format off */
/* LD_PRELOAD: counts the calls by which one program changes files, and does something at the n-th. The count
 * is kept in a file, over all processes of that name, so that a run can be measured first.
 *
 *   SHIM_PROGRAM  short name of the program; others are left alone
 *   SHIM_COUNT    file of two 64-bit numbers: how many there were, and at which it happens (from 1; 0: only
 *                 count). The second may be changed at any time
 *   SHIM_PATH     prefixes of the files that count, one a line; all if it is not set
 *   SHIM_WRITES   set: syncs do not count
 *   SHIM_DO       kill (SIGKILL before the call), both (the parent too), tear (SIGKILL when half of it is
 *                 written), EIO or ENOSPC (from then on: all calls fail), EIO-once or ENOSPC-once */
/* clang-format on */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* A QEMU of Debian 11 has an older C library than the one that this is made with. */
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");

enum { TEAR = -1 };

static _Atomic uint64_t *count; /* and behind it the call at which it happens */
static const char *what, *prefixes;
static int counts_syncs;

__attribute__ ((constructor)) static void
begin (void)
{
  const char *program = getenv ("SHIM_PROGRAM"), *path = getenv ("SHIM_COUNT");
  int fd;
  if (!program || !path || strcmp (program, program_invocation_short_name) != 0)
    return;
  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return;
  void *map = mmap (NULL, 2 * sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close (fd);
  if (map == MAP_FAILED)
    return;
  what = getenv ("SHIM_DO") ? getenv ("SHIM_DO") : "";
  prefixes = getenv ("SHIM_PATH");
  counts_syncs = getenv ("SHIM_WRITES") == NULL;
  count = map;
}

static int
is_wanted (const char *path)
{
  const char *line = prefixes;
  while (line && *line) {
    size_t length = strcspn (line, "\n");
    if (strncmp (path, line, length) == 0)
      return 1;
    line += length + (line[length] != '\0');
  }
  return prefixes == NULL;
}

/* Only what is a file, a folder or a device: sockets, pipes and the like are no images. */
static int
is_file (int fd)
{
  char name[32], path[4096];
  struct stat st;
  ssize_t length;
  if (count == NULL || syscall (SYS_fstat, fd, &st) != 0 ||
      !(S_ISREG (st.st_mode) || S_ISDIR (st.st_mode) || S_ISBLK (st.st_mode)))
    return 0;
  if (prefixes == NULL)
    return 1;
  snprintf (name, sizeof name, "/proc/self/fd/%d", fd);
  length = readlink (name, path, sizeof path - 1);
  path[length > 0 ? length : 0] = '\0';
  return is_wanted (path);
}

/* 0: go on; TEAR: write half and die; else the errno that the call fails with. */
static int
next_call (void)
{
  uint64_t n = atomic_fetch_add (count, 1) + 1, at = count[1];
  int once = strstr (what, "-once") != NULL;
  if (at == 0 || n < at || (once && n > at))
    return 0;
  if (strncmp (what, "EIO", 3) == 0)
    return EIO;
  if (strncmp (what, "ENOSPC", 6) == 0)
    return ENOSPC;
  if (n > at)
    return 0;
  if (strcmp (what, "tear") == 0)
    return TEAR;
  if (strcmp (what, "both") == 0)
    kill (getppid (), SIGKILL);
  kill (getpid (), SIGKILL);
  return 0;
}

#define REAL(name) ((__typeof__ (&name))dlsym (RTLD_NEXT, #name))

/* @is_ours: whether the call counts; @half: how it is done to one half. */
#define WRAP(type, name, params, args, is_ours, half)                                              \
  type name params                                                                                 \
  {                                                                                                \
    static __typeof__ (&name) real;                                                                \
    if (real == NULL)                                                                              \
      real = REAL (name);                                                                          \
    int error = count != NULL && (is_ours) ? next_call () : 0;                                     \
    if (error == TEAR) {                                                                           \
      (void)!(half);                                                                               \
      kill (getpid (), SIGKILL);                                                                   \
    }                                                                                              \
    if (error != 0) {                                                                              \
      errno = error;                                                                               \
      return -1;                                                                                   \
    }                                                                                              \
    return real args;                                                                              \
  }
#define WRAP_FD(type, name, params, args, half) WRAP (type, name, params, args, is_file (fd), half)
#define WRAP_PATH(name, params, args, is_ours)  WRAP (int, name, params, args, is_ours, 0)

/* clang-format off */
WRAP_FD (ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), real (fd, b, n / 2))
WRAP_FD (ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), real (fd, b, n / 2, o))
WRAP_FD (ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), real (fd, b, n / 2, o))
WRAP_FD (ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o), real (fd, v, n / 2, o))
WRAP_FD (ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o), real (fd, v, n / 2, o))
WRAP (int, fsync, (int fd), (fd), counts_syncs && is_file (fd), 0)
WRAP (int, fdatasync, (int fd), (fd), counts_syncs && is_file (fd), 0)
WRAP_FD (int, ftruncate, (int fd, off_t n), (fd, n), 0)
WRAP_FD (int, ftruncate64, (int fd, off64_t n), (fd, n), 0)
WRAP_FD (int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n), 0)
WRAP_FD (int, fallocate64, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n), 0)
/* clang-format on */

/* What is full lets remove. */
WRAP_PATH (unlink, (const char *path), (path), strncmp (what, "ENOSPC", 6) != 0 && is_wanted (path))
WRAP_PATH (rename, (const char *from, const char *to), (from, to), is_wanted (to))
WRAP_PATH (renameat2, (int from_dir, const char *from, int to_dir, const char *to, unsigned flags),
           (from_dir, from, to_dir, to, flags), is_wanted (to))

/* Only what makes a file; SQLite opens by open64. */
#define WRAP_OPEN(name)                                                                            \
  int name (const char *path, int flags, ...)                                                      \
  {                                                                                                \
    static __typeof__ (&name) real;                                                                \
    va_list rest;                                                                                  \
    mode_t mode;                                                                                   \
    va_start (rest, flags);                                                                        \
    mode = flags & O_CREAT ? va_arg (rest, mode_t) : 0;                                            \
    va_end (rest);                                                                                 \
    if (real == NULL)                                                                              \
      real = REAL (name);                                                                          \
    int error = count != NULL && (flags & O_CREAT) && is_wanted (path) ? next_call () : 0;         \
    if (error == TEAR)                                                                             \
      kill (getpid (), SIGKILL);                                                                   \
    if (error != 0) {                                                                              \
      errno = error;                                                                               \
      return -1;                                                                                   \
    }                                                                                              \
    return real (path, flags, mode);                                                               \
  }
WRAP_OPEN (open)
WRAP_OPEN (open64)
