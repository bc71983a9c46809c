/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/cli/loan.h"
#include "src/cli/operate.h"
#include "src/cli/print.h"
#include "src/cli/vol.h"
#include "src/cli/wait.h"

struct _Loan {
  Cli *cli;
  RechainOperation *operation; /* here; NULL: on the host */
  RechainHost *host;           /* borrowed */
  Wait *wait;
  gboolean stands; /* the snapshot */
  gboolean in_use; /* somebody else looks after interrupts */
  gboolean ended, ok;
  GError *error;
};

static void
loan_free (Loan *loan)
{
  if (loan->host != NULL)
    g_signal_handlers_disconnect_by_data (loan->host, loan);
  if (loan->cli->server != NULL)
    g_signal_handlers_disconnect_by_data (loan->cli->server, loan);
  g_clear_pointer (&loan->wait, wait_free);
  g_clear_object (&loan->operation);
  g_clear_error (&loan->error);
  g_free (loan);
}

/* ---- what comes from the main loop ----------------------------------------------------------- */

static void
on_interrupt (guint nth, gpointer data)
{
  Loan *loan = data;
  if (loan->in_use)
    return;
  if (loan->operation != NULL)
    nth == 1 ? rechain_operation_cancel (loan->operation)
             : rechain_operation_detach (loan->operation);
  else if (nth <= 2)
    rechain_host_interrupt (loan->host);
  else
    g_cancellable_cancel (wait_cancellable (loan->wait));
}

static void
on_ended (GObject *source, GAsyncResult *result, gpointer data)
{
  Loan *loan = data;
  loan->ended = TRUE;
  if (loan->operation != NULL)
    loan->ok = rechain_operation_run_finish (loan->operation, result, &loan->error);
  else
    loan->ok = rechain_host_run_finish (loan->host, result, &loan->error) == 0;
}

static void
on_lent (RechainOperation *operation, gpointer data)
{
  ((Loan *)data)->stands = TRUE;
}

static void
on_print (RechainHost *host, const char *text, gpointer data)
{
  g_autoptr (Json) offer = json_parse (rechain_host_get_output (host), -1);
  ((Loan *)data)->stands = offer != NULL;
}

static void
on_note (RechainHost *host, const char *text, gpointer data)
{
  note (((Loan *)data)->cli, "%s", text);
}

static void
on_released (RechainServer *server, gpointer data)
{
  rechain_operation_give_back (((Loan *)data)->operation);
}

static void
wait_until (Loan *loan, gboolean stands)
{
  while (!loan->ended && !(stands && loan->stands))
    g_main_context_iteration (NULL, TRUE);
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* FALSE: it does not begin. */
static gboolean
begin_here (Loan *loan, RechainStorage *storage, RechainVolumeRequest *request, GError **error)
{
  loan->operation = vol_plan (storage, request, error);
  if (loan->operation == NULL)
    return FALSE;
  operate_notes (loan->cli, loan->operation);
  if (args_has (&loan->cli->args, OPT_DRY_RUN))
    return TRUE;
  g_signal_connect (loan->operation, "lent", G_CALLBACK (on_lent), loan);
  if (loan->cli->server != NULL)
    g_signal_connect (loan->cli->server, "released", G_CALLBACK (on_released), loan);
  rechain_operation_run_async (loan->operation, NULL, on_ended, loan);
  wait_until (loan, TRUE);
  return TRUE;
}

static void
begin_there (Loan *loan, const char *const *argv)
{
  g_signal_connect (loan->host, "print", G_CALLBACK (on_print), loan);
  g_signal_connect (loan->host, "note", G_CALLBACK (on_note), loan);
  rechain_host_run_async (loan->host, argv, wait_cancellable (loan->wait), on_ended, loan);
  wait_until (loan, TRUE);
}

static char *
offer_of (Loan *loan, GError **error)
{
  return loan->operation ? rechain_operation_get_offer (loan->operation, error)
                         : g_strdup (rechain_host_get_output (loan->host));
}

/* FALSE: there is none. */
static gboolean
began (Loan *loan, GError **error)
{
  if (!loan->ended)
    return TRUE;
  if (loan->error != NULL)
    g_propagate_error (error, g_steal_pointer (&loan->error));
  else if (!loan->ok || !loan->stands)
    fail (error, UNREACHABLE, "the source's host lends nothing");
  return loan->ok && loan->stands;
}

Loan *
loan_take (Cli *cli, RechainStorage *storage, RechainHost *host, RechainVolumeRequest *request,
           const char *const *argv, char **ret_offer, GError **error)
{
  Loan *loan = g_new0 (Loan, 1);
  *loan = (Loan){.cli = cli, .host = host};
  loan->wait = wait_new (&(WaitSpec){.on_interrupt = on_interrupt, .data = loan});
  gboolean ok = TRUE;
  if (host != NULL)
    begin_there (loan, argv);
  else
    ok = begin_here (loan, storage, request, error);
  *ret_offer = ok && began (loan, error) ? offer_of (loan, error) : NULL;
  loan->in_use = TRUE;
  if (*ret_offer != NULL && !loan->ended && !args_has (&cli->args, OPT_DRY_RUN))
    return loan;
  if (!loan->ended && loan->stands)
    loan_end (loan, NULL);
  else
    loan_free (loan);
  return NULL;
}

/* ---- giving back ----------------------------------------------------------------------------- */

void
loan_wait (Loan *loan)
{
  loan->in_use = FALSE;
  wait_until (loan, FALSE);
}

gboolean
loan_end (Loan *loan, GError **error)
{
  loan->in_use = FALSE;
  if (loan->operation != NULL)
    rechain_operation_give_back (loan->operation);
  else
    rechain_host_give_back (loan->host);
  wait_until (loan, FALSE);
  gboolean ok = loan->ok;
  if (loan->error != NULL)
    g_propagate_error (error, g_steal_pointer (&loan->error));
  else if (!ok)
    fail (error, STUCK, "the snapshot of the source may be left on host '%s'",
          rechain_host_get_name (loan->host));
  loan_free (loan);
  return ok;
}
