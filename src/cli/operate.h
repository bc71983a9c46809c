/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a request to its end: plan, print the plan or run it, with progress and signals, and say
 * what became of it. */
#pragma once

#include "src/cli/print.h"

/* @vm: NULL for an offline operation. */
gboolean
operate (Cli *cli, const char *vm, RechainRequest *request, GError **error);
/* What the options say that every operation takes. (cmd-change.c) */
gboolean
set_how (Cli *cli, RechainRequest *request, GError **error);
/* What the plan says beside its steps. */
void
operate_notes (Cli *cli, RechainOperation *operation);
/* From a plan on: prints it, or runs it. */
gboolean
operate_planned (Cli *cli, RechainOperation *operation, GError **error);
/* --bandwidth; [limits] bandwidth is the default, and the most that can be asked for. */
gboolean
bandwidth_wanted (Cli *cli, guint64 *ret_bytes, GError **error);
/* The exit code that the state in a document rechain.operation/1 stands for. */
int
exit_code_of_state (Json *operation);
