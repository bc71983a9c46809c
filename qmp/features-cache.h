/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a QEMU can do, kept in files by its version string and its binary (path, device, inode, size,
 * mtime of /proc/PID/exe of the peer). Nothing here is an error: what cannot be read, or is not
 * exactly what was written, is not there. Without a peer pid (TCP) nothing is kept. */
#pragma once

#include "qmp/client.h"

/* @digest: of the questions that the answer @features belongs to. Load gives full, or NULL. */
Json *features_cache_load (const char *dir, QmpClient *client, const char *digest);
void features_cache_save (const char *dir, QmpClient *client, const char *digest, Json *features);
