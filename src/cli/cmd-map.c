/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which layer holds what: map. */
#include "src/cli/show-map.h"
#include "src/cli/wait.h"

static gboolean
size_option (Cli *cli, OptionId id, guint64 *ret_bytes, GError **error)
{
  const char *text = args_value (&cli->args, id);
  *ret_bytes = 0;
  return text == NULL || parse_size (text, ret_bytes, error) ||
         prefix (error, "option '--%s'", options[id].name);
}

static RechainMap *
map_offline (Cli *cli, guint64 start, guint64 length, GError **error)
{
  if (cli->n_words != 1) {
    fail (error, USAGE, "map --offline takes one image");
    hint (error, "rechain map --offline IMAGE");
    return NULL;
  }
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_map_read_offline_async (cli->words[0], args_value (&cli->args, OPT_FORMAT), start, length,
                                  wait_cancellable (wait), wait_done, wait);
  RechainMap *map = rechain_map_read_offline_finish (wait_run (wait), error);
  if (map == NULL)
    wait_explain (wait, "reading the map", error);
  return map;
}

static RechainMap *
map_live (Cli *cli, guint64 start, guint64 length, GError **error)
{
  if (cli->n_words != 2) {
    fail (error, USAGE, "map takes a VM and a disk");
    hint (error, "rechain map VM DISK, or rechain map --offline IMAGE");
    return NULL;
  }
  if (args_has (&cli->args, OPT_FORMAT)) {
    fail (error, USAGE, "option '--format' goes with --offline: QEMU knows the format");
    return NULL;
  }
  g_autoptr (RechainVm) vm = cli_vm (cli, cli->words[0], error);
  if (vm == NULL)
    return NULL;
  g_autoptr (Wait) wait = wait_new (&(WaitSpec){0});
  rechain_vm_map_async (vm, cli->words[1], start, length, wait_cancellable (wait), wait_done, wait);
  return rechain_vm_map_finish (vm, wait_run (wait), error);
}

gboolean
run_map (Cli *cli, GError **error)
{
  guint64 start, length;
  if (!size_option (cli, OPT_START, &start, error) ||
      !size_option (cli, OPT_LENGTH, &length, error))
    return FALSE;
  if (args_has (&cli->args, OPT_LENGTH) && length == 0)
    return fail (error, USAGE, "option '--length': nothing has a length of 0");
  g_autoptr (RechainMap) map = args_has (&cli->args, OPT_OFFLINE)
                                   ? map_offline (cli, start, length, error)
                                   : map_live (cli, start, length, error);
  return map != NULL && out_map (cli, map, error);
}
