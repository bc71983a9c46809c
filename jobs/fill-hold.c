/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Zeros into the active qcow2 layer of a running guest.
 *
 * QEMU has no command that allocates where nothing is and leaves alone what the guest has just
 * written: a copy-on-read of zeros makes a zero cluster without space behind it, and a write of
 * zeros beside a running guest could come after the guest's own write to the same place, and undo
 * it. So the guest is stopped for a moment, and within that moment it is looked which clusters have
 * no data, zeros are written to those and no others, and it is looked again. That no write of the
 * guest is overwritten follows from the order: QEMU's "stop" returns when every request of the
 * guest has ended, the map is read after that, and the guest sends nothing before "cont". Should
 * somebody else continue the guest meanwhile (QEMU tells by an event), nothing more is written and
 * the allocation fails.
 *
 * The writes go through the device's own backend (qemu-io -d), which has the permission to write;
 * an export of ours could not have it. How much is done in one hold follows the time that the last
 * one took: a quarter of --max-pause. */
#include "jobs/fill.h"

#include <string.h>

#define FIRST_CHUNK (4u << 20)
#define MIN_CHUNK   (64u << 10)
#define MAX_CHUNK   (256u << 20)
#define MAX_WRITE   (16u << 20) /* bytes of one command: QEMU has a buffer for them */
#define MIN_REST_US 20000

typedef enum { RESTING, ASKING, STOPPING, LOOKING, WRITING, CHECKING, CONTINUING } HoldAt;

typedef struct _Hold Hold;

struct _Hold {
  QmpClient *client;
  HoldAt at;
  guint listener;
  gboolean stopped; /* by us */
  gint64 since;     /* monotonic us */
  guint64 chunk;    /* bytes for the next hold */
  Region window;
  MapReader *reader;
  GArray *holes; /* Region: without data, in the window */
  guint hole;
  guint target; /* which way of naming the backend works */
};

static void
write_next (Fill *fill);
static void
release (Fill *fill);

/* ---- QMP ------------------------------------------------------------------------------------- */

static void
ask_qemu (Fill *fill, HoldAt at, const char *command, Json *take_arguments, QmpReply reply)
{
  fill->hold->at = at;
  qmp_client_execute (fill->hold->client, command, take_arguments, 0, reply, fill);
}

/* ---- looking --------------------------------------------------------------------------------- */

static void
on_map (Map *map, GError *take_error, gpointer data)
{
  Fill *fill = data;
  Hold *hold = fill->hold;
  g_autoptr (Map) owned = map;
  g_array_set_size (hold->holes, 0);
  hold->hole = 0;
  if (take_error != NULL)
    fill_fail (fill, take_error);
  for (guint i = 0; map != NULL && i < map->extents->len; i++) {
    const MapExtent *extent = map_extent (map, i);
    Region region = {.start = extent->start, .length = extent->length};
    if (!extent->data)
      g_array_append_val (hold->holes, region);
  }
}

static void
look (Fill *fill, HoldAt at)
{
  Hold *hold = fill->hold;
  hold->at = at;
  hold->reader = map_reader_new (fill->link, fill->disk->before, fill->disk->depths, hold->window,
                                 op_qemu_version (fill->op) >= MAP_FIRST_HOLES, on_map, fill);
  g_array_set_size (hold->holes, 0);
  hold->hole = G_MAXUINT;
  map_reader_turn (hold->reader);
}

static void
check_written (Fill *fill)
{
  Hold *hold = fill->hold;
  GError *error = NULL;
  if (hold->holes->len == 0)
    return;
  fail (&error, FAILED, "QEMU did not write zeros at %" G_GUINT64_FORMAT " of '%s'",
        g_array_index (hold->holes, Region, 0).start,
        ((ChainLayer *)fill->disk->before->pdata[0])->file);
  hint (&error, "is there space left where it is?");
  fill_fail (fill, error);
}

/* The map of the window is there. */
static void
looked (Fill *fill)
{
  Hold *hold = fill->hold;
  HoldAt at = hold->at;
  g_clear_pointer (&hold->reader, map_reader_free);
  if (fill->error == NULL && at == CHECKING)
    check_written (fill);
  if (fill->error == NULL && at == LOOKING && hold->holes->len > 0)
    write_next (fill);
  else
    release (fill);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* How the device's backend is called, by what is known of the disk; full, NULL where there is no
 * more. */
static char *
backend (OpDisk *disk, guint nth)
{
  if (disk->drive != NULL && disk->drive[0] != '\0')
    return nth == 0 ? g_strdup (disk->drive) : NULL;
  if (disk->qdev == NULL || nth > 1)
    return NULL;
  if (disk->qdev[0] != '/' && nth == 0)
    return g_strdup_printf ("-d /machine/peripheral/%s/virtio-backend", disk->qdev);
  return disk->qdev[0] == '/' && nth == 1 ? NULL : g_strdup_printf ("-d %s", disk->qdev);
}

static void
on_written (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Fill *fill = data;
  Hold *hold = fill->hold;
  const char *said = ret ? json_object_get_string (ret) : "";
  g_autofree char *other = backend (fill->disk, hold->target + 1);
  GError *failure = error ? g_error_copy (error) : NULL;
  if (failure == NULL && said != NULL && said[0] != '\0' && other != NULL)
    hold->target++;
  else if (failure == NULL && said != NULL && said[0] != '\0') {
    fail (&failure, FAILED, "QEMU does not write zeros");
    because (&failure, "%s", said);
  } else
    hold->hole++;
  if (failure != NULL)
    fill_fail (fill, failure);
  write_next (fill);
  fill_go_on (fill);
}

/* Cut, so that no command is too large. */
static Region
next_hole (Hold *hold)
{
  Region *hole = &g_array_index (hold->holes, Region, hold->hole);
  Region piece = *hole;
  if (piece.length > MAX_WRITE) {
    Region rest = {.start = piece.start + MAX_WRITE, .length = piece.length - MAX_WRITE};
    piece.length = hole->length = MAX_WRITE;
    g_array_insert_val (hold->holes, hold->hole + 1, rest);
  }
  return piece;
}

static void
write_next (Fill *fill)
{
  Hold *hold = fill->hold;
  if (fill->error != NULL) {
    release (fill);
    return;
  }
  if (hold->hole >= hold->holes->len) {
    look (fill, CHECKING);
    return;
  }
  Region piece = next_hole (hold);
  g_autofree char *name = backend (fill->disk, hold->target);
  g_autofree char *line =
      g_strdup_printf ("qemu-io %s \"write -q -P 0 %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\"",
                       name, piece.start, piece.length);
  ask_qemu (fill, WRITING, "human-monitor-command",
            json_make ("command-line", json_str (line), NULL), on_written);
}

/* ---- holding and releasing ------------------------------------------------------------------- */

static void
adapt (Fill *fill, gint64 took)
{
  Hold *hold = fill->hold;
  gint64 wanted = (gint64)fill->op->max_pause_ms * 1000 / 4;
  if (took > wanted)
    hold->chunk /= 2;
  else if (took < wanted / 2)
    hold->chunk *= 2;
  hold->chunk = CLAMP (hold->chunk, MIN_CHUNK, MAX_CHUNK);
}

static void
rest (Fill *fill)
{
  Hold *hold = fill->hold;
  gint64 took = g_get_monotonic_time () - hold->since, again = 0;
  hold->at = RESTING;
  if (hold->stopped) {
    fill->op->pause_us = MAX (fill->op->pause_us, (guint64)took);
    again = MAX (took, MIN_REST_US);
    adapt (fill, took);
  }
  hold->stopped = FALSE;
  if (fill->error == NULL) {
    guint64 rate = fill->op->bandwidth;
    gint64 paid = rate ? (gint64)((double)hold->window.length * G_USEC_PER_SEC / (double)rate) : 0;
    fill_account (fill, hold->window.length);
    again = MAX (again, paid);
  }
  fill_later (fill, fill->error ? 0 : again);
}

static void
on_continued (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Fill *fill = data;
  if (error != NULL) {
    GError *copy = g_error_copy (error);
    prefix (&copy, "continue the guest");
    fill_fail (fill, copy);
  }
  rest (fill);
}

static void
release (Fill *fill)
{
  if (fill->hold->stopped)
    ask_qemu (fill, CONTINUING, "cont", NULL, on_continued);
  else
    rest (fill);
}

static void
on_stopped (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Fill *fill = data;
  if (error != NULL)
    fill_fail (fill, g_error_copy (error));
  fill->hold->stopped = TRUE; /* also where it is only not known to be */
  if (fill->error != NULL)
    release (fill);
  else
    look (fill, LOOKING);
  fill_go_on (fill);
}

static void
on_status (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Fill *fill = data;
  if (error != NULL)
    fill_fail (fill, g_error_copy (error));
  if (fill->error != NULL)
    release (fill);
  else if (json_get_bool (ret, "running")) {
    fill->hold->since = g_get_monotonic_time ();
    ask_qemu (fill, STOPPING, "stop", NULL, on_stopped);
  } else
    look (fill, LOOKING);
  fill_go_on (fill);
}

/* Not by us: while we hold the guest our "cont" was not sent. */
static void
on_resume (QmpClient *client, const char *name, Json *event, gpointer data)
{
  Fill *fill = data;
  HoldAt at = fill->hold->at;
  GError *error = NULL;
  if (at != LOOKING && at != WRITING && at != CHECKING)
    return;
  fail (&error, FAILED, "somebody else continued the guest while it was held");
  fill_fail (fill, error);
}

/* ---- one turn -------------------------------------------------------------------------------- */

gboolean
fill_hold_is_busy (Fill *fill)
{
  return fill->hold != NULL && fill->hold->at != RESTING;
}

static void
begin (Fill *fill)
{
  fill->hold = g_new0 (Hold, 1);
  fill->hold->client = qmp_client_ref (fill->host.client);
  fill->hold->chunk = FIRST_CHUNK;
  fill->hold->holes = g_array_new (FALSE, FALSE, sizeof (Region));
  fill->hold->listener = qmp_client_listen (fill->host.client, "RESUME", on_resume, fill);
}

static void
go_on (Fill *fill)
{
  Hold *hold = fill->hold;
  if (hold->at == LOOKING || hold->at == CHECKING) {
    if (fill->error == NULL && hold->hole == G_MAXUINT)
      map_reader_turn (hold->reader);
    if (fill->error != NULL || hold->hole != G_MAXUINT)
      looked (fill);
  }
}

gboolean
fill_hold (Fill *fill)
{
  if (fill->hold == NULL)
    begin (fill);
  Hold *hold = fill->hold;
  go_on (fill);
  if (hold->at != RESTING || fill->timer != NULL || fill->error != NULL)
    return FALSE;
  if (!fill_next (fill, hold->chunk, &hold->window))
    return TRUE;
  ask_qemu (fill, ASKING, "query-status", NULL, on_status);
  return FALSE;
}

void
fill_hold_free (Fill *fill)
{
  Hold *hold = fill->hold;
  if (hold == NULL)
    return;
  qmp_client_unlisten (hold->client, hold->listener);
  qmp_client_unref (hold->client);
  g_clear_pointer (&hold->reader, map_reader_free);
  g_array_unref (hold->holes);
  g_free (hold);
}
