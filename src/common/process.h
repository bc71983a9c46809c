/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes of this host, as /proc tells of them. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* This boot of the host; borrowed, nullable. */
const char *host_boot (void);
/* Start time of a process in clock ticks after boot, 0 where it does not exist or has died. */
guint64 process_start_time (pid_t pid);
/* SIGKILL is on its way to it, which nothing takes back. */
gboolean process_is_dying (pid_t pid);
