/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "Tell me when job X reaches Y." Events are wake-ups; the truth is query-jobs, which is asked once per
 * burst of events, however many jobs are watched. */
#pragma once

#include "jobs/status.h"
#include "qmp/client.h"

typedef struct _JobWatch JobWatch;

/* The job reached @status, which is what was waited for, or JOB_CONCLUDED, or JOB_NULL: it is gone
 * without a record. @job_error: QEMU's words, nullable. Comes exactly once per wait, unless the watch
 * is freed or the wait cancelled first. */
typedef void (*JobReached) (const char *job, JobStatus status, const char *job_error, gpointer data);
/* After every look: job's progress in bytes. */
typedef void (*JobProgress) (const char *job, JobStatus status, guint64 current, guint64 total,
                             gpointer data);

JobWatch *job_watch_new (QmpClient *client);
void job_watch_free (JobWatch *watch);

/* The job must exist already: one that query-jobs does not show counts as gone. */
void job_watch_wait (JobWatch *watch, const char *job, JobStatus wanted, JobReached callback,
                     gpointer data);
void job_watch_cancel (JobWatch *watch, const char *job);
/* Looks every @ms milliseconds for progress while something is waited for (QEMU has no progress
 * event). */
void job_watch_set_progress (JobWatch *watch, guint ms, JobProgress callback, gpointer data);
