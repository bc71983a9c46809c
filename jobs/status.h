/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's job statuses (QEMU QMP: JobStatus) and what our verbs may expect of them.
 *
 * Observed, never set: after a reconnect events are missing, and newer QEMUs change their tables, so
 * no transition is ever asserted, and an unknown word reads as JOB_UNDEFINED. */
#pragma once

#include <glib.h>

#define JOB_STATUSES(X)                                                                            \
  X (JOB_UNDEFINED, "undefined")                                                                   \
  X (JOB_CREATED, "created")                                                                       \
  X (JOB_RUNNING, "running")                                                                       \
  X (JOB_PAUSED, "paused")                                                                         \
  X (JOB_READY, "ready")                                                                           \
  X (JOB_STANDBY, "standby")                                                                       \
  X (JOB_WAITING, "waiting")                                                                       \
  X (JOB_PENDING, "pending")                                                                       \
  X (JOB_ABORTING, "aborting")                                                                     \
  X (JOB_CONCLUDED, "concluded")                                                                   \
  X (JOB_NULL, "null")

typedef enum {
#define X(id, word) id,
  JOB_STATUSES (X)
#undef X
    N_JOB_STATUSES
} JobStatus;

JobStatus job_status_parse (const char *word);
const char *job_status_name (JobStatus status);
/* Is the job at an end, whatever end? */
gboolean job_status_is_over (JobStatus status);
/* Has a job that was waited for at @wanted got there (or past it, where a job passes through)? */
gboolean job_status_reached (JobStatus status, JobStatus wanted);
