/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots on record: list, show, edit, delete. Taking them is in cmd-change.c. */
#include "src/cli/disks.h"
#include "src/cli/operate.h"
#include "src/cli/show.h"

/* Full. A VM that is off is listed as well: what is on record needs no QEMU. */
static RechainVm *
look_if_it_runs (Cli *cli, GError **error)
{
  GError *problem = NULL;
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], &problem);
  if (vm != NULL)
    return g_steal_pointer (&vm);
  if (error_code (problem) != UNREACHABLE && error_code (problem) != NOT_FOUND) {
    g_propagate_error (error, problem);
    return NULL;
  }
  g_autoptr (RechainVm) off = cli_vm (cli, cli->words[0], error);
  if (off != NULL)
    note (cli, "%s; what is on record is not held against any chain", problem->message);
  g_clear_error (&problem);
  return g_steal_pointer (&off);
}

gboolean
run_snapshot_list (Cli *cli, GError **error)
{
  g_autoptr (RechainVm) vm = look_if_it_runs (cli, error);
  g_autofree char *list = vm ? rechain_vm_list_snapshots (vm, error) : NULL;
  return list != NULL && out_either (cli, list, show_snapshots, error);
}

static gboolean
export_it (Cli *cli, GError **error)
{
  g_autoptr (RechainVm) vm = cli_vm (cli, cli->words[0], error);
  g_autofree char *xml = vm ? rechain_vm_export_snapshot (vm, cli->words[1], error) : NULL;
  return xml != NULL && out_text (cli, xml, error);
}

gboolean
run_snapshot_show (Cli *cli, GError **error)
{
  gboolean matches = FALSE;
  if (args_has (&cli->args, OPT_AS_XML))
    return export_it (cli, error);
  g_autoptr (RechainVm) vm = cli_look (cli, cli->words[0], error);
  g_autofree char *document =
      vm ? rechain_vm_show_snapshot (vm, cli->words[1], &matches, error) : NULL;
  if (document == NULL || !out_either (cli, document, show_snapshot, error))
    return FALSE;
  if (!matches)
    cli->exit_code = exit_code_of (SAID_NO);
  return TRUE;
}

/* The words after NAME: DISK,on-delete=HOW. */
static gboolean
edit_disk (Cli *cli, RechainVm *vm, const char *word, GError **error)
{
  static const char *const known[] = {"on-delete", NULL};
  g_autoptr (DiskArg) disk = disk_arg_parse (word, known, error);
  const char *direction = disk ? disk_arg_get (disk, "on-delete") : NULL;
  if (disk == NULL)
    return FALSE;
  if (direction == NULL) {
    fail (error, USAGE, "disk '%s': nothing is to be changed", disk->name);
    return hint (error, "write %s,on-delete=forward or %s,on-delete=backward", disk->name,
                 disk->name);
  }
  return rechain_vm_edit_snapshot (vm, cli->words[1], disk->name, direction, NULL, error);
}

gboolean
run_snapshot_edit (Cli *cli, GError **error)
{
  const char *direction = args_value (&cli->args, OPT_DIRECTION);
  const char *description = args_value (&cli->args, OPT_DESCRIPTION);
  if (cli->n_words == 2 && direction == NULL && description == NULL) {
    fail (error, USAGE, "nothing is to be changed");
    return hint (error, "add DISK,on-delete=HOW, --direction HOW or --description TEXT");
  }
  g_autoptr (RechainVm) vm = cli_vm (cli, cli->words[0], error);
  if (vm == NULL ||
      !rechain_vm_edit_snapshot (vm, cli->words[1], NULL, direction, description, error))
    return FALSE;
  for (guint i = 2; i < cli->n_words; i++)
    if (!edit_disk (cli, vm, cli->words[i], error))
      return FALSE;
  g_autofree char *document = rechain_vm_show_snapshot (vm, cli->words[1], NULL, error);
  return document != NULL && out_either (cli, document, show_snapshot, error);
}

static gboolean
forget (Cli *cli, GError **error)
{
  g_autoptr (RechainVm) vm = cli_vm (cli, cli->words[0], error);
  if (vm == NULL)
    return FALSE;
  g_autofree char *document = rechain_vm_show_snapshot (vm, cli->words[1], NULL, error);
  if (document == NULL || !rechain_vm_forget_snapshot (vm, cli->words[1], error))
    return FALSE;
  note (cli, "snapshot '%s' is off the record; its layers stay as they are", cli->words[1]);
  return cli->output != OUTPUT_JSON || out_document (cli, document, error);
}

static void
set_allow_shared (Cli *cli, RechainRequest *request)
{
  g_autoptr (GPtrArray) layers = g_ptr_array_new ();
  for (guint i = 0; i < cli->args.given->len; i++) {
    Given *given = &g_array_index (cli->args.given, Given, i);
    if (given->id == OPT_ALLOW_SHARED)
      g_ptr_array_add (layers, (char *)given->value);
  }
  g_ptr_array_add (layers, NULL);
  rechain_request_set_allow_shared (request, (const char *const *)layers->pdata);
}

gboolean
run_snapshot_delete (Cli *cli, GError **error)
{
  if (args_has (&cli->args, OPT_METADATA_ONLY))
    return forget (cli, error);
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_SNAPSHOT_DELETE);
  rechain_request_set_name (request, cli->words[1]);
  set_allow_shared (cli, request);
  return rechain_request_set_direction (request, args_value (&cli->args, OPT_DIRECTION), error) &&
         set_how (cli, request, error) && operate (cli, cli->words[0], request, error);
}
