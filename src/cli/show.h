/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's documents as text. Nothing is known here that is not in the document. */
#pragma once

#include "src/cli/print.h"

void
show_info (Cli *cli, Json *info, GString *out);
void
show_chain (Cli *cli, Json *chain, GString *out);
void
show_chain_dot (Cli *cli, Json *chain, GString *out);
void
show_jobs (Cli *cli, Json *list, GString *out);
void
show_job (Cli *cli, Json *list, GString *out);
/* What became of an operation, in a few lines. */
void
show_operation (Cli *cli, Json *operation, GString *out);
/* The same, with its journal. */
void
show_operation_full (Cli *cli, Json *operation, GString *out);
void
show_operations (Cli *cli, Json *list, GString *out);
/* Every operation that recovery looked at, and what became of it. */
void
show_recovered (Cli *cli, Json *list, GString *out);
void
show_plan (Cli *cli, Json *plan, GString *out);
void
show_doctor (Cli *cli, Json *document, GString *out);
void
show_volume (Cli *cli, Json *volume, GString *out);
void
show_volumes (Cli *cli, Json *list, GString *out);
void
show_storage (Cli *cli, Json *storage, GString *out);
/* As a tree, each with its disks. */
void
show_snapshots (Cli *cli, Json *document, GString *out);
void
show_snapshot (Cli *cli, Json *snapshot, GString *out);
