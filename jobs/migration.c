/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/migration.h"

/* Two that ended well have different figures; of one that failed there are none. */
char *
migration_mark (Json *reply)
{
  if (reply == NULL)
    return NULL;
  const char *status = json_get_str (reply, "status");
  Json *ram = json_get (reply, "ram");
  return g_strdup_printf ("%s %" G_GINT64_FORMAT " %" G_GINT64_FORMAT, status ? status : "none",
                          json_get_int (reply, "total-time"), json_get_int (ram, "transferred"));
}

static gboolean
heard_migration (Op *op, Json *ret, GError **error)
{
  g_autofree char *mark = migration_mark (ret);
  if (g_strcmp0 (mark, op->migration) == 0)
    return TRUE;
  fail (error, FAILED, "the VM was migrated meanwhile: what was copied may be incomplete");
  const char *status = json_get_str (ret, "status");
  return because (error, "query-migrate: %s", status ? status : "none");
}

void
ask_migration (Op *op, GPtrArray *asks)
{
  if (op->migration != NULL)
    ask_qmp (asks, "query-migrate", NULL)->answered = heard_migration;
}
