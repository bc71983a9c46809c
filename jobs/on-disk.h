/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an offline operation looks at instead of a QEMU's world: the headers of the images. */
#pragma once

#include "jobs/op.h"

/* The chain from @file down, one of the layers that @disk had; full. */
GPtrArray *disk_read_chain (OpDisk *disk, const char *file, GError **error);
/* The chain from @files[0] down equals @files (NULL-terminated); else FAILED, telling both. */
gboolean disk_reads (OpDisk *disk, char **files, GError **error);
