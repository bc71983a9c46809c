/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation on another host wants the data of its copy: it is brought there through a session of
 * its own, from this host or, through a third session, from another. What goes wrong here the other
 * side notices and says; it asks again where that can help. */
#include "src/lib/lib-private.h"

#include "src/remote/bulk.h"

#include <unistd.h>

struct _Feed {
  FeedSource source;
  guint64 from;
  Session *to_session, *from_session;
  int out, in;
  Sending *sending;
  Pump *pump;
};

static void
on_event (const char *event, Json *object, gpointer data)
{
}

/* Closing is all there is to say: the reader's stream ends, whole or not. */
static void
stop (Feed *feed)
{
  g_clear_pointer (&feed->sending, sending_free);
  g_clear_pointer (&feed->pump, pump_free);
  for (int *fd = &feed->out;; fd = &feed->in) {
    if (*fd >= 0)
      close (*fd);
    *fd = -1;
    if (fd == &feed->in)
      break;
  }
  g_clear_pointer (&feed->to_session, session_free);
  g_clear_pointer (&feed->from_session, session_free);
}

static void
on_ended (const GError *error, gpointer data)
{
  g_info ("bringing the data: %s", error->message);
  stop (data);
}

static void
on_sent (const GError *error, gpointer data)
{
  if (error != NULL)
    g_info ("sending the data: %s", error->message);
  stop (data);
}

static void
on_pumped (gpointer data)
{
  stop (data);
}

/* Both ends are there: the source may begin. */
static void
join (Feed *feed)
{
  if (feed->in < 0 || feed->out < 0)
    return;
  if (write (feed->in, "\n", 1) == 1)
    feed->pump = pump_start (feed->in, feed->out, on_pumped, feed);
  else
    stop (feed);
}

/* Takes the connection, where the other side agrees. */
static gboolean
agreed (Feed *feed, Session *session, Json *ret, const GError *error, int *ret_fd)
{
  if (error == NULL && json_get_int (ret, "exit") == 0) {
    *ret_fd = session_take (session);
    return TRUE;
  }
  g_info ("bringing the data: %s", error ? error->message : "refused");
  stop (feed);
  return FALSE;
}

static void
on_to_reply (Json *ret, const GError *error, gpointer data)
{
  Feed *feed = data;
  if (!agreed (feed, feed->to_session, ret, error, &feed->out))
    return;
  if (feed->source.storage != NULL)
    feed->sending = sending_start (feed->source.storage, feed->source.offer, feed->from,
                                   feed->source.rate, feed->out, on_sent, feed);
  else
    join (feed);
}

static void
on_from_reply (Json *ret, const GError *error, gpointer data)
{
  Feed *feed = data;
  if (agreed (feed, feed->from_session, ret, error, &feed->in))
    join (feed);
}

Feed *
feed_start (const Far *to, const char *operation, const FeedSource *source, guint64 from)
{
  static const SessionOwner to_owner = {.event = on_event, .reply = on_to_reply, .ended = on_ended};
  static const SessionOwner from_owner = {
      .event = on_event, .reply = on_from_reply, .ended = on_ended};
  Feed *feed = g_new0 (Feed, 1);
  *feed = (Feed){.source = *source, .from = from, .out = -1, .in = -1};
  feed->to_session = session_open_for_data (to, &to_owner, feed, NULL);
  if (source->host != NULL)
    feed->from_session =
        session_open_for_data (rechain_host_get_far (source->host), &from_owner, feed, NULL);
  if (feed->to_session != NULL)
    bulk_ask_to_feed (feed->to_session, operation);
  if (feed->from_session != NULL)
    bulk_ask_to_send (feed->from_session, source->offer, from);
  return feed;
}

void
feed_free (Feed *feed)
{
  if (feed == NULL)
    return;
  stop (feed);
  g_free (feed);
}
