/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A hostile answer to query-qmp-schema, and any path through it (the first line of the input). */
#include "qmp/features.h"
#include "qmp/schema.h"

#include <stdint.h>
#include <string.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autofree char *text = g_strndup ((const char *)data, size);
  char *schema_text = strchr (text, '\n');
  if (schema_text == NULL)
    return 0;
  *schema_text++ = '\0';
  g_autoptr (Json) json = json_parse (schema_text, -1);
  if (json == NULL)
    return 0;
  g_autoptr (GError) error = NULL;
  g_autoptr (QmpFeatures) features = qmp_features_parse (json, &error);
  g_assert_true ((features == NULL) != (error == NULL));
  g_autoptr (QmpSchema) schema = qmp_schema_new (json, NULL);
  if (schema != NULL)
    qmp_schema_has (schema, "blockdev-add", text);
  return 0;
}
