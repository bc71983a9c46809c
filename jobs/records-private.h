/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the three files of the records. */
#pragma once

#include "jobs/journal-private.h"
#include "jobs/records.h"

/* What the file is now; {0} where it is none of this host. */
FileId layer_id (const char *file);
Record *records_named (GPtrArray *records, const char *name); /* borrowed, nullable */
/* NOT_FOUND, listing what there is; returns FALSE. */
gboolean records_unknown (GPtrArray *records, const char *name, GError **error);

/* A transaction, which journal_commit() ends. */
gboolean records_begin (Journal *journal, GError **error);
/* Within one: */
gboolean record_write (Journal *journal, Record *record);
gboolean record_write_disks (Journal *journal, Record *record);
gboolean record_drop (Journal *journal, const char *id);
