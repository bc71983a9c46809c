/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How an operation goes on, on stderr: a bar, lines for people, or objects for programs. */
#pragma once

#include "src/cli/cli.h"

typedef struct _Progress Progress;

/* @operation: NULL: one on another host, which is heard of through progress_feed(). */
Progress *
progress_new (Cli *cli, RechainOperation *operation);
/* Takes the bar off the screen. */
void
progress_free (Progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Progress, progress_free)
/* What the other host says of it; FALSE: that is no progress. */
gboolean
progress_feed (Progress *progress, const char *object);
/* Has it told anything yet? */
gboolean
progress_is_known (Progress *progress);
/* Five times a second. */
void
progress_tick (Progress *progress);
/* Right now, one line, whatever the mode (SIGUSR1). */
void
progress_say (Progress *progress);
/* Makes room for a line of somebody else. */
void
progress_clear (Progress *progress);
