/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/relay.h"

#include "qmp/address.h"
#include "qmp/message.h"
#include "qmp/stream.h"
#include "qmp/wakeup.h"
#include "src/common/error.h"
#include "src/common/fs.h"
#include "src/common/source.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What one borrower may cost. */
#define MAX_BORROWERS 16
#define MAX_REQUEST   (1u << 20)
#define MAX_UNREAD    (16u << 20)
#define MAX_IN_FLIGHT 64
#define ACCEPT_AGAIN  100000 /* us; after a failure such as too many open files */

struct _QmpRelay {
  char *path;
  FileId id; /* of the socket that we made */
  GSocket *socket;
  GSource *incoming;
  GSource *again;
  GMainContext *context;
  GStrv allowed;
  QmpRelayCommand own;
  gpointer data;
  QmpClient *client; /* nullable */
  guint listener;
  Json *greeting; /* of the last client */
  gboolean held;
  GPtrArray *borrowers;
};

/* One lent connection. Alive while it is connected or replies for it are on their way. */
typedef struct {
  guint refs;
  QmpRelay *relay;   /* NULL: gone */
  QmpStream *stream; /* NULL: gone */
  gboolean ready;    /* after qmp_capabilities */
  guint in_flight;
  GQueue waiting; /* Json*: requests that came while the relay was held */
} Borrower;

typedef struct {
  Borrower *borrower;
  Json *id; /* as the borrower gave it */
} Loan;

/* ---- borrowers ------------------------------------------------------------------------------- */

static Borrower *
borrower_ref (Borrower *borrower)
{
  borrower->refs++;
  return borrower;
}

static void
borrower_unref (Borrower *borrower)
{
  if (--borrower->refs > 0)
    return;
  g_queue_clear_full (&borrower->waiting, (GDestroyNotify)json_clear);
  g_free (borrower);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Borrower, borrower_unref)

static void
borrower_leave (gpointer data)
{
  Borrower *borrower = data;
  borrower->relay = NULL;
  g_clear_pointer (&borrower->stream, qmp_stream_free);
  borrower_unref (borrower);
}

static void
dismiss (Borrower *borrower)
{
  if (borrower->relay != NULL)
    g_ptr_array_remove (borrower->relay->borrowers, borrower);
}

/* Takes @message. Who does not read loses the connection. */
static void
say (Borrower *borrower, Json *message)
{
  g_autoptr (Json) owned = message;
  g_autoptr (GError) error = NULL;
  if (borrower->stream == NULL || qmp_stream_send (borrower->stream, owned, &error))
    return;
  g_info ("a borrower of the monitor %s", error->message);
  dismiss (borrower);
}

/* Takes @id. */
static void
refuse (Borrower *borrower, Json *id, const char *class, const char *format, ...)
    G_GNUC_PRINTF (4, 5);

static void
refuse (Borrower *borrower, Json *id, const char *class, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *desc = g_strdup_vprintf (format, args);
  va_end (args);
  say (borrower, qmp_message_error (class, desc, id));
}

/* ---- commands -------------------------------------------------------------------------------- */

static const char *
class_of (const GError *error)
{
  return error->code == NOT_FOUND ? "DeviceNotFound"
         : error->code == REFUSED ? "CommandNotFound"
                                  : "GenericError";
}

static void
on_reply (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Loan *loan = data;
  const char *cause = rechain_error_get_cause (error);
  /* QEMU's own words where it spoke; ours where the connection failed. */
  gboolean ours = error != NULL && (cause == NULL || error->code == UNREACHABLE);
  loan->borrower->in_flight--;
  if (error == NULL)
    say (loan->borrower, qmp_message_return (json_dup (ret), loan->id));
  else
    refuse (loan->borrower, loan->id, class_of (error), "%s", ours ? error->message : cause);
  borrower_unref (loan->borrower);
  g_free (loan);
}

static void
lend (Borrower *borrower, const char *command, Json *arguments, Json *id)
{
  QmpRelay *relay = borrower->relay;
  if (relay->client == NULL) {
    refuse (borrower, json_dup (id), "GenericError", "rechain is not connected to QEMU");
    return;
  }
  if (borrower->in_flight >= MAX_IN_FLIGHT) {
    refuse (borrower, json_dup (id), "GenericError", "too many commands at once");
    return;
  }
  Loan *loan = g_new0 (Loan, 1);
  *loan = (Loan){.borrower = borrower_ref (borrower), .id = json_dup (id)};
  borrower->in_flight++;
  qmp_client_execute (relay->client, command, json_dup (arguments), 0, on_reply, loan);
}

/* Now, or when the relay is no longer held. */
static void
lend_or_wait (Borrower *borrower, Json *request)
{
  Json *id = json_get (request, "id");
  if (!borrower->relay->held)
    lend (borrower, json_get_str (request, "execute"), json_get (request, "arguments"), id);
  else if (g_queue_get_length (&borrower->waiting) >= MAX_IN_FLIGHT)
    refuse (borrower, json_dup (id), "GenericError", "too many commands at once");
  else
    g_queue_push_tail (&borrower->waiting, json_dup (request));
}

static void
run_own (Borrower *borrower, const char *command, Json *arguments, Json *id)
{
  g_autoptr (GError) error = NULL;
  Json *ret = NULL;
  QmpRelay *relay = borrower->relay;
  if (relay->own == NULL)
    refuse (borrower, json_dup (id), "CommandNotFound", "The command %s has not been found",
            command);
  else if (relay->own (command, arguments, &ret, relay->data, &error))
    say (borrower, qmp_message_return (ret, json_dup (id)));
  else
    refuse (borrower, json_dup (id), "GenericError", "%s", error ? error->message : command);
}

static gboolean
is_allowed (QmpRelay *relay, const char *command)
{
  return g_strv_contains ((const char *const *)relay->allowed, command);
}

/* What is wrong with a request, or NULL. */
static const char *
wrong_with (Json *request)
{
  Json *arguments = json_get (request, "arguments");
  if (json_get_str (request, "execute") == NULL)
    return "QMP input lacks member 'execute'";
  if (json_has (request, "arguments") && !json_object_is_type (arguments, json_type_object))
    return "QMP input member 'arguments' must be an object";
  static const char *const known[] = {"execute", "arguments", "id", NULL};
  struct json_object_iter member;
  json_object_object_foreachC (request, member)
  {
    if (!g_strv_contains (known, member.key))
      return "QMP input has an unexpected member";
  }
  return NULL;
}

static void
on_capabilities (Borrower *borrower, Json *id)
{
  if (borrower->ready) {
    refuse (borrower, json_dup (id), "CommandNotFound",
            "Capabilities negotiation is already complete, command ignored");
    return;
  }
  borrower->ready = TRUE;
  say (borrower, qmp_message_return (NULL, json_dup (id)));
}

/* The only router of requests. */
static void
on_request (QmpStream *stream, Json *request, gpointer data)
{
  g_autoptr (Borrower) borrower = borrower_ref (data);
  const char *wrong = wrong_with (request);
  const char *command = json_get_str (request, "execute");
  Json *id = json_get (request, "id");
  if (wrong != NULL)
    refuse (borrower, json_dup (id), "GenericError", "%s", wrong);
  else if (g_str_equal (command, "qmp_capabilities"))
    on_capabilities (borrower, id);
  else if (!borrower->ready)
    refuse (borrower, json_dup (id), "CommandNotFound",
            "Expecting capabilities negotiation with 'qmp_capabilities'");
  else if (g_str_has_prefix (command, "rechain-"))
    run_own (borrower, command, json_get (request, "arguments"), id);
  else if (is_allowed (borrower->relay, command))
    lend_or_wait (borrower, request);
  else
    refuse (borrower, json_dup (id), "GenericError",
            "rechain operation holds this monitor: '%s' is not lent", command);
}

static void
on_left (QmpStream *stream, const GError *error, gpointer data)
{
  g_debug ("a borrower of the monitor %s", error->message);
  dismiss (data);
}

static const QmpStreamOwner stream_owner = {.message = on_request, .ended = on_left};

/* Without oob: what is lent goes through one queue. */
static Json *
make_greeting (QmpRelay *relay)
{
  Json *current = relay->client ? qmp_client_get_greeting (relay->client) : NULL;
  Json *version = json_get (current ? current : relay->greeting, "version");
  Json *body = json_make ("version", version ? json_dup (version) : json_object_new_object (),
                          "capabilities", json_object_new_array (), NULL);
  return json_make ("QMP", body, NULL);
}

static gboolean
may_borrow (QmpRelay *relay, GIOStream *connection)
{
  pid_t pid;
  uid_t uid;
  qmp_peer_identify (connection, &pid, &uid);
  return relay->borrowers->len < MAX_BORROWERS && (uid == geteuid () || uid == 0);
}

static gboolean
on_incoming (GSocket *socket, GIOCondition condition, gpointer data)
{
  QmpRelay *relay = data;
  g_autoptr (GSocket) accepted = g_socket_accept (socket, NULL, NULL);
  if (accepted == NULL) {
    source_clear (&relay->incoming);
    wakeup_at (relay->again, g_get_monotonic_time () + ACCEPT_AGAIN);
    return G_SOURCE_REMOVE;
  }
  g_socket_set_blocking (accepted, FALSE);
  g_autoptr (GSocketConnection) connection =
      g_socket_connection_factory_create_connection (accepted);
  if (!may_borrow (relay, G_IO_STREAM (connection))) {
    g_io_stream_close (G_IO_STREAM (connection), NULL, NULL);
    return G_SOURCE_CONTINUE;
  }
  Borrower *borrower = g_new0 (Borrower, 1);
  borrower->refs = 1;
  borrower->relay = relay;
  borrower->stream = qmp_stream_new (G_IO_STREAM (connection), relay->context, MAX_REQUEST,
                                     MAX_UNREAD, &stream_owner, borrower);
  g_ptr_array_add (relay->borrowers, borrower);
  say (borrower, make_greeting (relay));
  return G_SOURCE_CONTINUE;
}

static gboolean
wait_incoming (gpointer data)
{
  QmpRelay *relay = data;
  relay->incoming = g_socket_create_source (relay->socket, G_IO_IN, NULL);
  g_source_set_callback (relay->incoming, G_SOURCE_FUNC (on_incoming), relay, NULL);
  g_source_attach (relay->incoming, relay->context);
  return G_SOURCE_CONTINUE;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void
on_event (QmpClient *client, const char *name, Json *event, gpointer data)
{
  QmpRelay *relay = data;
  /* Backwards: who does not read is dismissed on the way. */
  for (guint i = relay->borrowers->len; i > 0; i--) {
    Borrower *borrower = relay->borrowers->pdata[i - 1];
    if (borrower->ready)
      say (borrower, json_dup (event));
  }
}

void
qmp_relay_set_client (QmpRelay *relay, QmpClient *client)
{
  if (relay->client != NULL)
    qmp_client_unlisten (relay->client, relay->listener);
  if (client != NULL)
    qmp_client_ref (client);
  qmp_client_unref (relay->client);
  relay->client = client;
  if (client == NULL)
    return;
  relay->listener = qmp_client_listen (client, NULL, on_event, relay);
  json_object_put (relay->greeting);
  relay->greeting = json_dup (qmp_client_get_greeting (client));
}

static void
lend_waiting (gpointer data, gpointer unused)
{
  g_autoptr (Borrower) borrower = data; /* the reference of the copied list */
  while (borrower->relay != NULL && !borrower->relay->held &&
         !g_queue_is_empty (&borrower->waiting)) {
    g_autoptr (Json) request = g_queue_pop_head (&borrower->waiting);
    lend_or_wait (borrower, request);
  }
}

static gpointer
keep_borrower (gconstpointer borrower, gpointer unused)
{
  return borrower_ref ((Borrower *)borrower);
}

void
qmp_relay_hold (QmpRelay *relay, gboolean hold)
{
  relay->held = hold;
  if (hold)
    return;
  /* Answering may dismiss a borrower, which shortens the list. */
  g_autoptr (GPtrArray) now = g_ptr_array_copy (relay->borrowers, keep_borrower, NULL);
  g_ptr_array_set_free_func (now, NULL);
  g_ptr_array_foreach (now, lend_waiting, NULL);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* A socket that nobody listens at is the rest of a process that was killed. */
static gboolean
remove_stale (const char *path)
{
  g_autoptr (GSocketConnection) connection = NULL;
  struct stat st;
  return lstat (path, &st) == 0 && S_ISSOCK (st.st_mode) &&
         qmp_unix_connect (path, &connection) == ECONNREFUSED && g_unlink (path) == 0;
}

static gboolean
listen_at (QmpRelay *relay, GError **error)
{
  gboolean exists;
  int errnum = qmp_unix_listen (relay->path, &relay->socket);
  if (errnum == EADDRINUSE && remove_stale (relay->path))
    errnum = qmp_unix_listen (relay->path, &relay->socket);
  if (errnum == EADDRINUSE) {
    fail (error, REFUSED, "cannot lend the monitor at '%s'", relay->path);
    return because (error, "somebody listens there, or it is no socket");
  }
  if (errnum != 0)
    return fail_errno (error, errnum, "cannot lend the monitor at '%s'", relay->path);
  return file_identify (relay->path, &relay->id, &exists, error);
}

QmpRelay *
qmp_relay_new (const char *path, const char *const *allowed, QmpRelayCommand own, gpointer data,
               GError **error)
{
  g_autoptr (QmpRelay) relay = g_new0 (QmpRelay, 1);
  relay->path = g_strdup (path);
  relay->context = g_main_context_ref_thread_default ();
  relay->allowed = g_strdupv ((GStrv)allowed);
  relay->own = own;
  relay->data = data;
  relay->borrowers = g_ptr_array_new_with_free_func (borrower_leave);
  if (!listen_at (relay, error))
    return NULL;
  relay->again = wakeup_new (relay->context, wait_incoming, relay);
  wait_incoming (relay);
  return g_steal_pointer (&relay);
}

void
qmp_relay_free (QmpRelay *relay)
{
  if (relay == NULL)
    return;
  source_clear (&relay->incoming);
  source_clear (&relay->again);
  if (relay->socket != NULL) {
    file_remove (relay->path, relay->id, NULL);
    g_socket_close (relay->socket, NULL);
  }
  g_clear_object (&relay->socket);
  qmp_relay_set_client (relay, NULL);
  g_ptr_array_unref (relay->borrowers);
  json_object_put (relay->greeting);
  g_main_context_unref (relay->context);
  g_strfreev (relay->allowed);
  g_free (relay->path);
  g_free (relay);
}
