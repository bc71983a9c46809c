/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk under SQLite that breaks when the test says so, and stays broken until it is mended. */
#pragma once

#include <glib.h>

typedef enum { BAD_DISK_WRITE, BAD_DISK_SYNC, N_BAD_DISK } BadDisk;

void bad_disk_install (void);      /* becomes SQLite's default; once per process */
/* The @n-th write or sync from now on fails, and everything after it. 0: right now. */
void bad_disk_breaks (BadDisk what, guint n);
void bad_disk_mend (void);
gboolean bad_disk_is_broken (void); /* it was met in its broken state */
guint bad_disk_count (BadDisk what); /* since it was mended */
