/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking: info, chain. */
#include "src/cli/show.h"

gboolean
run_info (Cli *cli, GError **error)
{
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], error);
  if (vm == NULL)
    return FALSE;
  g_autofree char *info = rechain_vm_info_to_json (vm);
  return out_either (cli, info, show_info, error);
}

static char *
read_offline (Cli *cli, GError **error)
{
  if (cli->n_words == 1)
    return rechain_chain_read_offline (cli->words[0], args_value (&cli->args, OPT_FORMAT), error);
  fail (error, USAGE, "chain --offline takes one image");
  hint (error, "rechain chain --offline IMAGE");
  return NULL;
}

static char *
read_live (Cli *cli, GError **error)
{
  if (args_has (&cli->args, OPT_FORMAT)) {
    fail (error, USAGE, "option '--format' goes with --offline: QEMU knows the format");
    return NULL;
  }
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], error);
  const char *disk = cli->n_words > 1 ? cli->words[1] : NULL;
  return vm ? rechain_vm_chain_to_json (vm, disk, error) : NULL;
}

gboolean
run_chain (Cli *cli, GError **error)
{
  gboolean offline = args_has (&cli->args, OPT_OFFLINE);
  g_autofree char *chain = offline ? read_offline (cli, error) : read_live (cli, error);
  if (chain == NULL)
    return FALSE;
  return out_either (cli, chain, cli->output == OUTPUT_DOT ? show_chain_dot : show_chain, error);
}
