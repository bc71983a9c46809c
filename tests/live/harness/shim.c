/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LD_PRELOAD: counts the calls by which one program changes files, and does something at the n-th. The count
 * is kept in a file, over all processes of that name, so that a run can be measured first.
 *
 *   SHIM_PROGRAM  short name of the program; others are left alone
 *   SHIM_COUNT    file of 8 bytes
 *   SHIM_AT       number of the call, from 1; 0: only count
 *   SHIM_DO       kill (SIGKILL before the call), both (the parent too), EIO or ENOSPC (from then on: all
 *                 calls fail) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic uint64_t *count;
static uint64_t at;
static const char *what;

__attribute__ ((constructor)) static void
begin (void)
{
  const char *program = getenv ("SHIM_PROGRAM"), *path = getenv ("SHIM_COUNT"), *n = getenv ("SHIM_AT");
  int fd;
  if (!program || !path || strcmp (program, program_invocation_short_name) != 0)
    return;
  fd = open (path, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return;
  void *map = mmap (NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close (fd);
  if (map == MAP_FAILED)
    return;
  at = n ? strtoull (n, NULL, 10) : 0;
  what = getenv ("SHIM_DO") ? getenv ("SHIM_DO") : "";
  count = map;
}

/* Only what is a file or a device: sockets, pipes and the like are no images. */
static int
is_file (int fd)
{
  struct stat st;
  return fstat (fd, &st) == 0 && (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode));
}

/* 0: go on; else the errno that the call fails with. */
static int
next_call (void)
{
  uint64_t n;
  if (count == NULL)
    return 0;
  n = atomic_fetch_add (count, 1) + 1;
  if (at == 0 || n < at)
    return 0;
  if (strcmp (what, "EIO") == 0)
    return EIO;
  if (strcmp (what, "ENOSPC") == 0)
    return ENOSPC;
  if (n == at) {
    if (strcmp (what, "both") == 0)
      kill (getppid (), SIGKILL);
    kill (getpid (), SIGKILL);
  }
  return 0;
}

#define REAL(name) ((__typeof__ (&name))dlsym (RTLD_NEXT, #name))

#define WRAP(type, name, params, args)                                                             \
  type name params                                                                                 \
  {                                                                                                \
    static __typeof__ (&name) real;                                                                \
    int error = is_file (fd) ? next_call () : 0;                                                   \
    if (real == NULL)                                                                              \
      real = REAL (name);                                                                          \
    if (error != 0) {                                                                              \
      errno = error;                                                                               \
      return -1;                                                                                   \
    }                                                                                              \
    return real args;                                                                              \
  }

WRAP (ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n))
WRAP (ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
WRAP (ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
WRAP (ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
WRAP (ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o))
WRAP (int, fsync, (int fd), (fd))
WRAP (int, fdatasync, (int fd), (fd))
WRAP (int, ftruncate, (int fd, off_t n), (fd, n))
WRAP (int, ftruncate64, (int fd, off64_t n), (fd, n))
WRAP (int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n))
WRAP (int, fallocate64, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n))
