/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LVM through its own program, whose reports are JSON. */
#pragma once

#include "src/common/json.h"

/* Exactly one of @rows (borrowed) and @error (borrowed) is set. */
typedef void (*LvmReady) (Json *rows, const GError *error, gpointer data);

/* FAILED, and why, where this host has no LVM: no program, or no device-mapper in its kernel. */
gboolean lvm_is_usable (GError **error);
/* Logical volumes of @vg, or one of them (@lv nullable), or all (@vg NULL). Keys are those of lvs(8);
 * all values are strings, sizes in bytes. The callback never comes from inside this call. */
void lvm_lvs (const char *vg, const char *lv, LvmReady callback, gpointer data);
void lvm_vgs (const char *vg, LvmReady callback, gpointer data);
/* lvm(8): a-z A-Z 0-9 + _ . -, not beginning with a hyphen. */
gboolean lvm_name_is_valid (const char *name);

/* The row of a volume; borrowed, NULL where there is none. */
Json *lvm_row (Json *rows, const char *lv);
/* A value that is a number; 0 where it is empty. */
guint64 lvm_bytes (Json *row, const char *key);
/* Values of a row; NULL where they are empty. The numbers are full. */
const char *lvm_word (Json *row, const char *key);
Json *lvm_number (Json *row, const char *key);
Json *lvm_percent (Json *row, const char *key);
