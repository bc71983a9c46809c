/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/lend.h"

#include "src/common/error.h"
#include "src/common/source.h"

typedef struct {
  Work work;
  Op *op;
  WorkHost host;
  GSource *later;
} Lending;

static void
end (Lending *lending, const GError *error)
{
  WorkHost host = lending->host;
  lending->op->lent = NULL;
  source_clear (&lending->later);
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
  Lending *lending = (Lending *)work;
  source_idle (&lending->later, on_cancelled, lending);
}

Work *
lend_start (Op *op, OpDisk *disk, const WorkHost *host)
{
  Lending *lending = g_new0 (Lending, 1);
  *lending = (Lending){.work = {cancel}, .op = op, .host = *host};
  source_idle (&lending->later, on_lent, lending);
  return &lending->work;
}

void
lend_give_back (Op *op)
{
  Lending *lending = (Lending *)op->lent;
  if (lending != NULL)
    source_idle (&lending->later, on_given_back, lending);
}
