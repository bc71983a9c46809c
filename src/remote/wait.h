/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* How much a transfer moves before the rest of the world has its turn, in bytes. */
#define WAIT_TURN (2u << 20)

/* The one thing that somebody waits for. A new wait takes the place of the last one; @turn is called
 * once, and may wait again. */
typedef struct {
  GSourceFunc turn; /* what it returns is not looked at */
  gpointer data;
  GSource *source; /* NULL: nothing is waited for */
} Wait;

/* Also for an error or the end of what is behind @fd. */
void
wait_for_fd (Wait *wait, int fd, GIOCondition condition);
void
wait_for_ms (Wait *wait, guint ms);
/* Until all else that is ready has been done. */
void
wait_for_turn (Wait *wait);
void
wait_stop (Wait *wait);
