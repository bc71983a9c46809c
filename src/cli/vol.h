/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of the families vol and storage share. */
#pragma once

#include "src/cli/cli.h"

/* Full: the storage, with the limits and the VMs of the configuration. */
RechainStorage *
cli_storage (Cli *cli, GError **error);
