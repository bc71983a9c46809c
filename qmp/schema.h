/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The answer of query-qmp-schema as something that can be asked "does this command have this
 * argument?". QEMU masks the names of its types (numbers), so they are only ever followed, from the
 * command down. The schema may be hostile: cycles, missing types and wrong JSON types read as "no". */
#pragma once

#include "src/common/json.h"

typedef struct _QmpSchema QmpSchema;

/* References @json. */
QmpSchema *qmp_schema_new (Json *json, GError **error);
void qmp_schema_free (QmpSchema *schema);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpSchema, qmp_schema_free)

/* @path: members separated by dots; "tag=VARIANT" goes into a variant of a flat union; NULL: the
 * command itself. */
gboolean qmp_schema_has (QmpSchema *schema, const char *command, const char *path);
