/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Move: snapshot into a new file, stream everything above the kept base into it, drop the rest.
 *
 * The stream is held in PENDING (harmless for streams: the guest runs on) while the new layer is
 * flushed: QEMU rewrites the image header before the tables of the copied data are on disk, and a
 * kill at that moment would destroy data that the guest flushed long ago (qemu-facts, hazard 0). */
#include "jobs/bitmaps.h"
#include "jobs/blocks-job.h"
#include "jobs/freeze.h"
#include "jobs/grow.h"

static void
stream (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  start_job (op, disk, world, asks);
  wait_for_copy (op, disk, world, asks);
}

/* clang-format off */
const Step move_steps[] = {
  MAKE_STEP,
  ATTACH_STEP,
  WATCH_STEP,
  QUIESCE_STEP,
  {SNAPSHOT_STEP, .kind = STEP_UNDOABLE},
  {THAW_STEP, .kind = STEP_UNDOABLE, .aside = TRUE},
  {.name = "stream",
   .says = "copy everything above the kept base into the new layer",
   .kind = STEP_UNDOABLE,
   .ask = stream,
   .probe = is_copied,
   .undo = end_own_job,
   .undo_says = "cancel the job"},
  BITMAPS_STEP,
  {.name = "flush",
   .says = "make the copied data durable before any header names it",
   .kind = STEP_UNDOABLE,
   .ask = flush_copied},
  {.name = "pivot",
   .says = "drop the layers above the base from the chain",
   .kind = STEP_PIVOT,
   .commits = TRUE,
   .decides = DECIDED_NEW,
   .ask = finalize_job,
   .probe = is_on_new_chain,
   .undo = put_chain_back,
   .undo_says = "put the old layers back under the new one",
   .verify = chain_is_new},
  {.name = "settle",
   .says = "flush again and read the new header back",
   .kind = STEP_FINISH,
   .ask = flush_receiver,
   .verify = chain_is_new},
  FOLLOW_STEP,
  DETACH_STEP,
  REMOVE_STEP,
  UNWATCH_STEP,
  {0},
};
/* clang-format on */
