/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot of a volume, here or on another host, for as long as it takes to copy it: an operation there, which
 * recover takes back whoever dies. */
#pragma once

#include "src/cli/cli.h"

typedef struct _Loan Loan;

/* Full: it stands. @host: NULL: here; borrowed for as long as the loan lives. @ret_offer: full. With --dry-run
 * there is none: only *ret_offer, and NULL without an error. */
Loan *
loan_take (Cli *cli, RechainStorage *storage, RechainHost *host, RechainVolumeRequest *request,
           const char *const *argv, char **ret_offer, GError **error);
/* Until the peer of this session gives it back. */
void
loan_wait (Loan *loan);
/* The snapshot goes; takes @loan. STUCK where it is left. */
gboolean
loan_end (Loan *loan, GError **error);
