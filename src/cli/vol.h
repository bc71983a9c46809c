/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of the families vol and storage share. */
#pragma once

#include "src/cli/cli.h"

/* Full: the storage, with the limits and the VMs of the configuration. */
RechainStorage *
cli_storage (Cli *cli, GError **error);
/* Full: what the options and arguments of a command ask for. @names: what the arguments are, in their order. */
RechainVolumeRequest *
vol_request (Cli *cli, RechainVolumeKind kind, const char *const *names, GError **error);
/* Full. */
RechainOperation *
vol_plan (RechainStorage *storage, RechainVolumeRequest *request, GError **error);
/* Plans it, and prints the plan or does it. */
gboolean
vol_operate (Cli *cli, RechainStorage *storage, RechainVolumeRequest *request, GError **error);
