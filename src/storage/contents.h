/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What lies inside a volume, for people: filesystem, partition table, volume group. Nothing is decided by
 * it but what growfs and shrinkfs are to call. */
#pragma once

#include "src/common/json.h"

typedef struct {
  char *filesystem; /* "ext4", "LVM2_member", "crypto_LUKS"; nullable */
  char *label, *uuid;
  char *partitions; /* "gpt", "dos"; nullable */
  guint64 partitions_end; /* bytes from the start that the partitions reach to */
} Contents;

/* @fd: a raw file, or a device. Nothing known is no error. */
void contents_probe (int fd, Contents *ret_contents);
void contents_clear (Contents *contents);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Contents, contents_clear)
/* Adds "filesystem" and "partition-table" to @document. */
void contents_to_json (const Contents *contents, Json *document);
