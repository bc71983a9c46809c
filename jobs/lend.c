/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/lend.h"

#include "src/common/error.h"

typedef struct {
  Work work;
  Op *op;
  WorkHost host;
  GSource *later;
} Lending;

static void
later (Lending *lending, GSourceFunc callback)
{
  if (lending->later != NULL)
    g_source_destroy (lending->later);
  g_clear_pointer (&lending->later, g_source_unref);
  lending->later = g_idle_source_new ();
  g_source_set_callback (lending->later, callback, lending, NULL);
  g_source_attach (lending->later, g_main_context_get_thread_default ());
}

static void
end (Lending *lending, const GError *error)
{
  WorkHost host = lending->host;
  lending->op->lent = NULL;
  g_source_unref (lending->later);
  g_free (lending);
  host.done (error, host.data);
}

static gboolean
on_cancelled (gpointer data)
{
  g_autoptr (GError) error = NULL;
  fail (&error, INTERRUPTED, "cancelled");
  end (data, error);
  return G_SOURCE_REMOVE;
}

static gboolean
on_given_back (gpointer data)
{
  end (data, NULL);
  return G_SOURCE_REMOVE;
}

static gboolean
on_lent (gpointer data)
{
  Lending *lending = data;
  lending->op->lent = &lending->work;
  if (lending->host.changed != NULL)
    lending->host.changed (lending->host.data);
  return G_SOURCE_REMOVE;
}

static void
cancel (Work *work)
{
  later ((Lending *)work, on_cancelled);
}

Work *
lend_start (Op *op, OpDisk *disk, const WorkHost *host)
{
  Lending *lending = g_new0 (Lending, 1);
  *lending = (Lending){.work = {cancel}, .op = op, .host = *host};
  later (lending, on_lent);
  return &lending->work;
}

void
lend_give_back (Op *op)
{
  if (op->lent != NULL)
    later ((Lending *)op->lent, on_given_back);
}
