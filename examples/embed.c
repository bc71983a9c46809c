/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One idea: move a disk from within a program that has a main loop of its own, and be told.
 *
 *   ./build/examples/embed /run/vm/qmp.sock vda /fast/new.qcow2 */
#include <rechain/rechain.h>

#include <locale.h>

static void
on_step (RechainOperation *operation, GParamSpec *spec, gpointer data)
{
  g_autofree char *step = NULL;
  g_object_get (operation, "step", &step, NULL);
  g_print ("%s: %s\n", rechain_operation_get_id (operation), step);
}

static void
on_ended (GObject *source, GAsyncResult *result, gpointer loop)
{
  g_autoptr (GError) error = NULL;
  if (rechain_operation_run_finish (RECHAIN_OPERATION (source), result, &error))
    g_print ("done\n");
  else
    g_printerr ("%s\n", error->message);
  g_main_loop_quit (loop);
}

int
main (int argc, char **argv)
{
  setlocale (LC_ALL, "");
  if (argc != 4) {
    g_printerr ("usage: %s MONITOR DISK FILE\n", argv[0]);
    return 2;
  }
  g_autoptr (GError) error = NULL;
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (RechainController) controller = rechain_controller_new (NULL);
  g_autoptr (RechainVm) vm = rechain_vm_new (controller, argv[1], &error);
  g_autoptr (RechainRequest) request = rechain_request_new (RECHAIN_KIND_MOVE);
  g_autoptr (RechainOperation) operation = NULL;

  rechain_request_add_disk (request, argv[2]);
  if (vm != NULL && rechain_request_set_disk_option (request, argv[2], "to", argv[3], &error))
    operation = rechain_operation_plan (vm, request, NULL, &error);
  if (operation == NULL) {
    g_printerr ("%s\n", error->message);
    return error->code;
  }
  g_signal_connect (operation, "notify::step", G_CALLBACK (on_step), NULL);
  rechain_operation_run_async (operation, NULL, on_ended, loop);
  g_main_loop_run (loop);
  return rechain_operation_get_state (operation) == RECHAIN_STATE_DONE ? 0 : 1;
}
