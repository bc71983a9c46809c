/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by report.c (volumes) and pools.c (storage info). */
#pragma once

#include "src/storage/report.h"

typedef struct {
  const Allow *allow;
  Json *document;
  GError *error;
  guint pending;
  Volume *volume; /* of a report on one */
  ReportReady callback;
  gpointer data;
} Report;

/* Owned by what is asked: each question counts @pending up and ends with report_one_ended(), and so does the
 * function that began it. */
Report *report_begin (const Allow *allow, const char *schema, ReportReady callback, gpointer data);
void report_one_ended (Report *report);
void report_keep_error (Report *report, const GError *error);
