/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/bad-disk.h"

#include <sqlite3.h>
#include <string.h>

typedef struct {
  sqlite3_file base;
  sqlite3_file *real; /* lies behind this */
} BadFile;

static sqlite3_vfs *real_vfs;
static sqlite3_vfs bad_vfs;
static guint counts[N_BAD_DISK], limits[N_BAD_DISK];
static gboolean armed, broken;

void
bad_disk_breaks (BadDisk what, guint n)
{
  limits[what] = counts[what] + n;
  armed = TRUE;
  if (n == 0)
    broken = TRUE;
  else
    limits[!what] = G_MAXUINT;
}

void
bad_disk_mend (void)
{
  memset (counts, 0, sizeof counts);
  armed = broken = FALSE;
}

gboolean
bad_disk_is_broken (void)
{
  return broken;
}

guint
bad_disk_count (BadDisk what)
{
  return counts[what];
}

static gboolean
breaks (BadDisk what)
{
  counts[what]++;
  broken |= armed && counts[what] >= limits[what];
  return broken;
}

#define REAL(file)              (((BadFile *)(void *)(file))->real)
#define CALL(file, method, ...) REAL (file)->pMethods->method (REAL (file), ##__VA_ARGS__)

static int
bad_close (sqlite3_file *f)
{
  return CALL (f, xClose);
}

static int
bad_read (sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
  return CALL (f, xRead, p, n, at);
}

static int
bad_write (sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
  return breaks (BAD_DISK_WRITE) ? SQLITE_FULL : CALL (f, xWrite, p, n, at);
}

static int
bad_truncate (sqlite3_file *f, sqlite3_int64 size)
{
  return broken ? SQLITE_IOERR_TRUNCATE : CALL (f, xTruncate, size);
}

static int
bad_sync (sqlite3_file *f, int flags)
{
  return breaks (BAD_DISK_SYNC) ? SQLITE_IOERR_FSYNC : CALL (f, xSync, flags);
}

static int
bad_size (sqlite3_file *f, sqlite3_int64 *size)
{
  return CALL (f, xFileSize, size);
}

static int
bad_lock (sqlite3_file *f, int lock)
{
  return CALL (f, xLock, lock);
}

static int
bad_unlock (sqlite3_file *f, int lock)
{
  return CALL (f, xUnlock, lock);
}

static int
bad_reserved (sqlite3_file *f, int *out)
{
  return CALL (f, xCheckReservedLock, out);
}

static int
bad_control (sqlite3_file *f, int op, void *arg)
{
  return CALL (f, xFileControl, op, arg);
}

static int
bad_sector (sqlite3_file *f)
{
  return CALL (f, xSectorSize);
}

static int
bad_device (sqlite3_file *f)
{
  return CALL (f, xDeviceCharacteristics);
}

static int
bad_shm_map (sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
  return CALL (f, xShmMap, page, size, extend, out);
}

static int
bad_shm_lock (sqlite3_file *f, int offset, int n, int flags)
{
  return CALL (f, xShmLock, offset, n, flags);
}

static void
bad_shm_barrier (sqlite3_file *f)
{
  CALL (f, xShmBarrier);
}

static int
bad_shm_unmap (sqlite3_file *f, int delete)
{
  return CALL (f, xShmUnmap, delete);
}

static const sqlite3_io_methods bad_methods = {
    2,          bad_close,   bad_read,     bad_write,       bad_truncate,  bad_sync,
    bad_size,   bad_lock,    bad_unlock,   bad_reserved,    bad_control,   bad_sector,
    bad_device, bad_shm_map, bad_shm_lock, bad_shm_barrier, bad_shm_unmap, NULL,
    NULL,
};

static int
bad_open (sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out)
{
  BadFile *bad = (BadFile *)(void *)file;
  bad->real = (sqlite3_file *)(void *)(bad + 1);
  int rc = real_vfs->xOpen (real_vfs, name, bad->real, flags, out);
  bad->base.pMethods = bad->real->pMethods ? &bad_methods : NULL;
  return rc;
}

void
bad_disk_install (void)
{
  real_vfs = sqlite3_vfs_find (NULL);
  bad_vfs = *real_vfs;
  bad_vfs.zName = "bad-disk";
  bad_vfs.szOsFile = (int)sizeof (BadFile) + real_vfs->szOsFile;
  bad_vfs.xOpen = bad_open;
  sqlite3_vfs_register (&bad_vfs, TRUE);
}
