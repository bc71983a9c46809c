/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long bytes take at a rate. */
#pragma once

#include <glib.h>

typedef struct {
  guint64 rate;      /* bytes per second; 0: as fast as it goes */
  gint64 paid_until; /* monotonic, us */
} Pace;

static inline void
pace_pay (Pace *pace, guint64 bytes)
{
  gint64 now = g_get_monotonic_time ();
  if (pace->rate > 0)
    pace->paid_until =
        MAX (pace->paid_until, now) + (gint64)((double)bytes * G_USEC_PER_SEC / (double)pace->rate);
}

/* Microseconds until more may pass. Some is let through at once, so that a loop need not wake for each piece. */
static inline gint64
pace_wait (const Pace *pace)
{
  gint64 ahead = pace->rate ? pace->paid_until - g_get_monotonic_time () : 0;
  return ahead > 20000 ? ahead - 10000 : 0;
}
