/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Map: read which layer holds what, through an export that is made for it and removed again.
 *
 * It changes nothing of the disk, and is an operation all the same: for a moment there is an NBD
 * server in QEMU and an export on the disk's node, and whatever happens to us they have to go
 * again. That is what the runner, the journal and `recover` are for; a second mechanism that
 * remembers exports would be the same once more. It costs two writes of the journal. */
#include "jobs/export.h"
#include "jobs/map-nbd.h"
#include "src/common/source.h"

typedef struct {
  Work work;
  Op *op;
  OpDisk *disk;
  WorkHost host;
  NbdLink *link;
  MapReader *reader; /* once the link is ready */
  GSource *later;    /* a cancellation to be told from the main loop */
} Reading;

static const char *
active_node (OpDisk *disk)
{
  return ((ChainLayer *)disk->before->pdata[0])->node;
}

/* Nothing named: the whole disk. */
static Region
region_of (OpDisk *disk)
{
  return disk->regions->len > 0 ? g_array_index (disk->regions, Region, 0) : (Region){0};
}

static void
reading_end (Reading *reading, const GError *error)
{
  WorkHost host = reading->host;
  source_clear (&reading->later);
  nbd_link_close (reading->link);
  map_reader_free (reading->reader);
  g_free (reading);
  host.done (error, host.data);
}

static void
on_map (Map *map, GError *take_error, gpointer data)
{
  Reading *reading = data;
  g_autoptr (GError) error = take_error;
  g_clear_pointer (&reading->disk->map, map_unref);
  reading->disk->map = map;
  reading_end (reading, error);
}

static void
on_turn (NbdLink *link, const GError *error, gpointer data)
{
  Reading *reading = data;
  if (error != NULL) {
    reading_end (reading, error);
    return;
  }
  if (reading->reader == NULL)
    reading->reader = map_reader_new (
        link, reading->disk->before, reading->disk->depths, region_of (reading->disk),
        op_qemu_version (reading->op) >= MAP_FIRST_HOLES, on_map, reading);
  map_reader_turn (reading->reader);
}

static gboolean
on_cancelled (gpointer data)
{
  g_autoptr (GError) error = NULL;
  fail (&error, INTERRUPTED, "cancelled");
  reading_end (data, error);
  return G_SOURCE_REMOVE;
}

static void
reading_cancel (Work *work)
{
  Reading *reading = (Reading *)work;
  if (reading->later != NULL)
    return;
  source_idle (&reading->later, on_cancelled, reading);
}

static Work *
start_reading (Op *op, OpDisk *disk, const WorkHost *host)
{
  Reading *reading = g_new0 (Reading, 1);
  *reading = (Reading){.work.cancel = reading_cancel, .op = op, .disk = disk, .host = *host};
  reading->link = nbd_link_open (disk->socket, disk->export, TRUE, on_turn, reading);
  return &reading->work;
}

/* ---- the steps ------------------------------------------------------------------------------- */

static void
add_export (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  export_add (op, disk, active_node (disk), FALSE, asks);
}

static void
read_map (Op *op, OpDisk *disk, World *world, GPtrArray *asks)
{
  if (disk->depths != NULL) /* recovered: nobody waits for the map any more */
    ask_work (asks, "read the map through the export", start_reading);
}

/* clang-format off */
const Step map_steps[] = {
  {.name = "export",
   .says = "export the active layer, read-only, on a private socket",
   .kind = STEP_UNDOABLE,
   .ask = add_export,
   .probe = export_is_there,
   .undo = export_remove,
   .undo_says = "remove the export, the NBD server and the socket"},
  {.name = "read",
   .says = "read which layer holds what",
   .kind = STEP_UNDOABLE,
   .ask = read_map},
  {.name = "unexport",
   .says = "remove the export, the NBD server and the socket",
   .kind = STEP_FINISH,
   .looks = TRUE,
   .ask = export_remove,
   .verify = export_is_gone},
  {0},
};
/* clang-format on */
