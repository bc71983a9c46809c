/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/freeze.h"

#include "jobs/blocks.h"

#define MAX_FILESYSTEMS 100000 /* an answer beyond is not believed */

gboolean
freezes_guest (Op *op)
{
  return (op->flags & OP_QUIESCED) != 0;
}

static gboolean
note_frozen (Op *op, OpDisk *disk, GError **error)
{
  op->frozen = TRUE;
  op->frozen_at_us = g_get_real_time ();
  op->frozen_us = 0;
  op->filesystems = -1;
  return TRUE;
}

static void
heard_freeze (Op *op, Json *ret, gint64 sent_us)
{
  gint64 n = json_object_is_type (ret, json_type_int) ? json_object_get_int64 (ret) : 0;
  op->filesystems = ret ? CLAMP (n, 0, MAX_FILESYSTEMS) : -1;
  op->frozen_us = ret ? sent_us : 0;
  if (ret == NULL)
    op->frozen_at_us = 0;
}

void
heard_thaw (Op *op, Json *ret, gint64 sent_us)
{
  gint64 us = op->frozen_us > 0      ? g_get_monotonic_time () - op->frozen_us
              : op->frozen_at_us > 0 ? g_get_real_time () - op->frozen_at_us
                                     : 0;
  op->freeze_us = (guint64)MAX (us, 0);
  op->frozen_us = op->frozen_at_us = 0;
}

static gboolean
note_thawed (Op *op, OpDisk *disk, GError **error)
{
  op->frozen = FALSE;
  return TRUE;
}

void
freeze_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  ask_local (asks, "note that the guest may be frozen by us", note_frozen);
  Ask *freeze = ask_agent (asks, "guest-fsfreeze-freeze", (guint)MIN (op->max_freeze_ms, G_MAXUINT),
                           heard_freeze);
  freeze->tolerant = (op->flags & OP_BEST_EFFORT) != 0;
}

/* Once the snapshot is taken, nothing is to be frozen for it any more. */
Seen
guest_is_frozen (Op *op, OpDisk *disk, World *world)
{
  if (disk != NULL && snapshot_is_taken (op, disk, world) == SEEN_YES)
    return SEEN_YES;
  return !op->frozen ? SEEN_NO : op->filesystems < 0 ? SEEN_HALF : SEEN_YES;
}

void
thaw_guest (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (world != NULL && !op->frozen)
    return;
  ask_agent (asks, THAW_COMMAND, THAW_MS, heard_thaw)->patient = TRUE;
  ask_local (asks, "note that the guest is thawed", note_thawed);
}
