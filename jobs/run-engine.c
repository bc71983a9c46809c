/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine of an offline operation: started and ended by asks of its table. In between, its
 * client is the runner's, so that jobs, progress, speed and the relay are as with a VM. */
#include "jobs/run-private.h"

#include "src/common/error.h"

static Lane *
waiting_lane (Runner *runner)
{
  for (guint i = 0; runner->lanes != NULL && i < runner->lanes->len; i++) {
    Lane *lane = runner->lanes->pdata[i];
    if (lane->for_engine)
      return lane;
  }
  return NULL;
}

static void
on_ready (Engine *engine, gpointer data)
{
  Runner *runner = data;
  Lane *lane = waiting_lane (runner);
  if (lane == NULL)
    return;
  lane->for_engine = FALSE;
  link_attach (runner, engine_get_client (engine));
  lane_next (lane);
}

/* In the middle of its work. */
static void
died (Runner *runner, const GError *error)
{
  const char *words = rechain_error_get_cause (error);
  g_autofree char *why =
      g_strdup_printf ("%s%s%s", error ? error->message : "qemu-storage-daemon quit",
                       words ? ": " : "", words ? words : "");
  runner_note (runner, NULL, "note", why);
  if (runner->busy > 0)
    lanes_abort (runner, FAILED, why);
}

static void
on_ended (Engine *engine, const GError *error, gpointer data)
{
  Runner *runner = data;
  Lane *lane = waiting_lane (runner);
  engine_drop (runner);
  if (lane == NULL) {
    died (runner, error);
    return;
  }
  gboolean tolerated = error != NULL && lane_ask (lane)->tolerant && lane->error == NULL;
  lane->for_engine = FALSE;
  if (tolerated)
    lane_note_refusal (lane, error);
  if (error != NULL && !tolerated)
    lane_failed (lane, g_error_copy (error));
  else
    lane_next (lane);
}

void
engine_start (Lane *lane)
{
  Runner *runner = lane->runner;
  EngineHost host = {.ready = on_ready, .ended = on_ended, .data = runner};
  GError *error = NULL;
  engine_drop (runner);
  lane->for_engine = TRUE;
  runner->engine = engine_new (&host, &error);
  if (runner->engine == NULL)
    lane_failed (lane, error);
}

/* The answer tells nothing: the process may have ended before it is read. */
void
engine_quit (Lane *lane)
{
  Runner *runner = lane->runner;
  if (runner->client == NULL) {
    lane_send_to_nobody (lane);
    return;
  }
  lane->for_engine = TRUE;
  qmp_client_execute (runner->client, lane_ask (lane)->command, NULL, 0, NULL, NULL);
}

void
engine_drop (Runner *runner)
{
  if (runner->engine == NULL)
    return;
  link_drop (runner);
  g_clear_pointer (&runner->engine, engine_free);
}
