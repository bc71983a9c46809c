/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What there is: the documents rechain.volume/1, rechain.volume-list/1 and rechain.storage/1. */
#pragma once

#include "src/storage/place.h"
#include "src/storage/volume.h"

/* Exactly one of @document (full) and @error (borrowed) is set; never from inside the call. @allow is borrowed
 * until then. */
typedef void (*ReportReady) (Json *document, const GError *error, gpointer data);

/* @where: a directory or a volume group; NULL: all that is allowed. */
void report_list (const Allow *allow, const char *where, ReportReady callback, gpointer data);
/* @format nullable. @layers: [{"vm","disk","depth","file"}] of the VMs that are known; borrowed, nullable. */
void report_volume (const Allow *allow, const char *path, const char *format, Json *layers,
                    ReportReady callback, gpointer data);
void report_storage (const Allow *allow, ReportReady callback, gpointer data);

/* Those of @layers that are @volume; full. */
Json *layers_of_volume (Json *layers, Volume *volume);
