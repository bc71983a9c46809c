/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who has a file or device in use now: processes, QEMU's image locks, devices made of it, mounts. It only
 * looks; the kernel says all of it. */
#pragma once

#include "src/common/json.h"

#include <sys/stat.h>

/* One look at /proc, for any number of volumes. */
typedef struct _OpenFiles OpenFiles;

OpenFiles *open_files_scan (void);
void open_files_free (OpenFiles *files);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (OpenFiles, open_files_free)

typedef struct {
  int pid;
  char *name;      /* as /proc/PID/comm has it */
  gboolean writes; /* opened for writing */
} OpenBy;

typedef struct {
  GPtrArray *open;    /* OpenBy* */
  GPtrArray *devices; /* char*: block devices made of it: loop devices, device-mapper, RAID */
  GPtrArray *mounts;  /* char*: where it is mounted, itself or a device made of it */
  gboolean locked;    /* a QEMU has its image lock */
  gboolean swap;
} Users;

/* @path is for the image lock. Full. */
Users *users_find (OpenFiles *files, const char *path, const struct stat *st);
void users_free (Users *users);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Users, users_free)

/* Nobody has it open, mounted or locked. */
gboolean users_none (const Users *users);
/* "process 17 (qemu-system-x86) has it open"; full, NULL where nobody uses it. */
char *users_say (const Users *users);
/* Adds "open", "devices", "mounted", "locked", "swap" to @document. */
void users_to_json (const Users *users, Json *document);
