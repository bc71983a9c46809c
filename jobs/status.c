/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs/status.h"

static const char *const names[] = {
#define X(id, word) [id] = word,
    JOB_STATUSES (X)
#undef X
};

JobStatus
job_status_parse (const char *word)
{
  for (guint i = 0; word != NULL && i < G_N_ELEMENTS (names); i++)
    if (g_str_equal (word, names[i]))
      return (JobStatus)i;
  return JOB_UNDEFINED;
}

const char *
job_status_name (JobStatus status)
{
  return (guint)status < G_N_ELEMENTS (names) ? names[status] : names[JOB_UNDEFINED];
}

gboolean
job_status_is_over (JobStatus status)
{
  return status == JOB_CONCLUDED || status == JOB_NULL;
}

gboolean
job_status_reached (JobStatus status, JobStatus wanted)
{
  /* A user may have paused a job that is ready: it is no less ready for that. */
  return status == wanted || (wanted == JOB_READY && status == JOB_STANDBY);
}
