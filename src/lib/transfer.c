/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes on their way to and from other hosts: offering, sending, bringing data to an
 * operation. */
#include "src/lib/lib-private.h"

#include "jobs/fetch.h"
#include "src/remote/sender.h"
#include "src/storage/offer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

/* ---- sending --------------------------------------------------------------------------------- */

struct _Sending {
  Offer *offer;
  Sender *sender;
  GSubprocess *packer; /* compresses it on the way; nullable */
  int source;
  void (*done) (const GError *error, gpointer data);
  gpointer data;
};

/* What is read through a program is whole only if the program says so. */
static gboolean
check (gpointer data, GError **error)
{
  Sending *sending = data;
  g_autoptr (GError) cause = NULL;
  if (sending->packer != NULL && !g_subprocess_wait_check (sending->packer, NULL, &cause)) {
    fail (error, FAILED, "compress '%s'", sending->offer->path);
    return because (error, "%s", cause->message);
  }
  return offer_holds (sending->offer, error);
}

static void
on_sent (const GError *error, gpointer data)
{
  Sending *sending = data;
  sending->done (error, sending->data);
}

/* The descriptor that its output comes from; -1 with an error. */
static int
start_packer (Sending *sending, GError **error)
{
  int ends[2];
  const Codec *codec = sending->offer->packed;
  g_autoptr (GError) cause = NULL;
  if (pipe2 (ends, O_CLOEXEC) != 0) {
    fail_errno (error, errno, "make a pipe to %s", codec->compress[0]);
    return -1;
  }
  g_autoptr (GSubprocessLauncher) launcher =
      g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDERR_SILENCE);
  g_subprocess_launcher_take_stdin_fd (launcher, sending->source);
  g_subprocess_launcher_take_stdout_fd (launcher, ends[1]);
  sending->source = -1;
  sending->packer = g_subprocess_launcher_spawnv (launcher, codec->compress, &cause);
  if (sending->packer != NULL)
    return ends[0];
  close (ends[0]);
  fail (error, FAILED, "cannot start %s", codec->compress[0]);
  because (error, "%s", cause->message);
  return -1;
}

Sending *
sending_start (RechainStorage *storage, Json *offer, guint64 from, guint64 rate, int out,
               void (*done) (const GError *error, gpointer data), gpointer data)
{
  Sending *sending = g_new0 (Sending, 1);
  SenderSpec spec = {.source = -1,
                     .from = from,
                     .rate = rate,
                     .out = out,
                     .check = check,
                     .done = on_sent,
                     .data = sending};
  *sending = (Sending){.source = -1, .done = done, .data = data};
  sending->offer = offer_parse (offer, &spec.problem);
  if (sending->offer != NULL)
    sending->source =
        offer_open (rechain_storage_get_allow (storage), sending->offer, &spec.problem);
  spec.piped = sending->offer != NULL && sending->offer->packed != NULL;
  if (spec.problem == NULL && spec.piped && from > 0)
    fail (&spec.problem, REFUSED, "what is compressed on the way has no middle to begin at");
  if (spec.problem == NULL) {
    spec.size = sending->offer->size;
    spec.dense = sending->offer->codec != NULL;
    spec.source = spec.piped ? start_packer (sending, &spec.problem) : sending->source;
    sending->source = spec.piped ? sending->source : -1; /* the sender has it */
  }
  sending->sender = sender_start (&spec);
  return sending;
}

void
sending_free (Sending *sending)
{
  if (sending == NULL)
    return;
  sender_free (sending->sender);
  if (sending->packer != NULL)
    g_subprocess_force_exit (sending->packer);
  g_clear_object (&sending->packer);
  if (sending->source >= 0)
    close (sending->source);
  offer_free (sending->offer);
  g_free (sending);
}

/* ---- as calls -------------------------------------------------------------------------------- */

gboolean
rechain_storage_check_offer (RechainStorage *storage, const char *offer, GError **error)
{
  g_autoptr (Json) document = json_parse (offer, -1);
  g_autoptr (Offer) parsed = offer_parse (document, error);
  int fd = parsed ? offer_open (rechain_storage_get_allow (storage), parsed, error) : -1;
  if (fd >= 0)
    close (fd);
  return fd >= 0;
}

static void
on_all_sent (const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  if (error != NULL)
    g_task_return_error (task, g_error_copy (error));
  else
    g_task_return_boolean (task, TRUE);
}

void
rechain_storage_send_async (RechainStorage *storage, const char *offer, guint64 from,
                            guint64 bytes_per_second, int output, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (storage, cancellable, callback, user_data);
  g_autoptr (Json) document = json_parse (offer, -1);
  g_task_set_task_data (
      task, sending_start (storage, document, from, bytes_per_second, output, on_all_sent, task),
      (GDestroyNotify)sending_free);
}

gboolean
rechain_storage_send_finish (RechainStorage *storage, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
rechain_volume_request_set_offer (RechainVolumeRequest *request, const char *offer,
                                  RechainHost *from, GError **error)
{
  g_autoptr (Json) document = json_parse (offer, -1);
  g_autoptr (Offer) parsed = offer_parse (document, error);
  if (parsed == NULL)
    return FALSE;
  json_object_put (request->offer);
  json_object_put (request->from);
  request->offer = g_steal_pointer (&document);
  request->from = NULL;
  if (from == NULL)
    return TRUE;
  const Far *far = rechain_host_get_far (from);
  request->from = json_make ("name", json_str (far->name), "address", json_str (far->address),
                             "config", json_str (far->config), NULL);
  return TRUE;
}

/* ---- bringing data to an operation ----------------------------------------------------------- */

static gboolean
on_hung_up (int fd, GIOCondition condition, gpointer data)
{
  g_task_return_boolean (data, TRUE);
  return G_SOURCE_REMOVE;
}

static void
close_it (gpointer data)
{
  close (GPOINTER_TO_INT (data));
}

void
rechain_controller_feed_async (RechainController *controller, const char *operation, int input,
                               GCancellable *cancellable, GAsyncReadyCallback callback,
                               gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (controller, cancellable, callback, user_data);
  GError *error = NULL;
  gboolean id = strlen (operation) == 8 && strspn (operation, "0123456789abcdef") == 8;
  g_autofree char *path =
      g_strdup_printf ("%s/run/%s.feed", rechain_controller_get_state_dir (controller), operation);
  if (!id)
    fail (&error, NOT_FOUND, "'%s' is no operation", operation);
  int fd = id ? fetch_feed (path, input, &error) : -1;
  if (fd < 0) {
    g_task_return_error (task, error);
    return;
  }
  g_autoptr (GSource) source = g_unix_fd_source_new (fd, G_IO_IN | G_IO_HUP);
  g_task_set_task_data (task, GINT_TO_POINTER (fd), close_it);
  g_source_set_callback (source, G_SOURCE_FUNC (on_hung_up), g_object_ref (task), g_object_unref);
  g_source_attach (source, g_main_context_get_thread_default ());
}

gboolean
rechain_controller_feed_finish (RechainController *controller, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
