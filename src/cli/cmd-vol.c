/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at storage: vol list, vol info, storage info. */
#include "src/cli/show.h"
#include "src/cli/vol.h"
#include "src/cli/wait.h"

RechainStorage *
cli_storage (Cli *cli, GError **error)
{
  Config *config = cli_config (cli, error);
  if (config == NULL)
    return NULL;
  g_autoptr (RechainStorage) storage = rechain_storage_new (cli_controller (cli));
  rechain_storage_set_allowed (storage, (const char *const *)config->allow,
                               (const char *const *)config->allow_vg);
  for (guint i = 0; i < config->vms->len; i++) {
    ConfigVm *vm = config->vms->pdata[i];
    if (vm->qmp != NULL && !rechain_storage_add_vm (storage, vm->name, vm->qmp, error))
      return NULL;
  }
  return g_steal_pointer (&storage);
}

gboolean
run_vol_list (Cli *cli, GError **error)
{
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  if (storage == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_storage_list_async (storage, cli->n_words > 0 ? cli->words[0] : NULL,
                              wait_cancellable (wait), wait_done, wait);
  g_autofree char *list = rechain_storage_list_finish (storage, wait_run (wait), error);
  return list != NULL ? out_either (cli, list, show_volumes, error)
                      : wait_explain (wait, "vol list", error);
}

gboolean
run_vol_info (Cli *cli, GError **error)
{
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  if (storage == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_storage_volume_info_async (storage, cli->words[0], args_value (&cli->args, OPT_FORMAT),
                                     wait_cancellable (wait), wait_done, wait);
  g_autofree char *volume = rechain_storage_volume_info_finish (storage, wait_run (wait), error);
  return volume != NULL ? out_either (cli, volume, show_volume, error)
                        : wait_explain (wait, "vol info", error);
}

gboolean
run_storage_info (Cli *cli, GError **error)
{
  g_autoptr (RechainStorage) storage = cli_storage (cli, error);
  if (storage == NULL)
    return FALSE;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_storage_info_async (storage, wait_cancellable (wait), wait_done, wait);
  g_autofree char *info = rechain_storage_info_finish (storage, wait_run (wait), error);
  return info != NULL ? out_either (cli, info, show_storage, error)
                      : wait_explain (wait, "storage info", error);
}
