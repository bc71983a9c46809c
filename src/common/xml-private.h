/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between xml.c and xml-explain.c. */
#pragma once

#include "src/common/xml.h"

#include <libxml/tree.h>

/* Why @document does not fit the schema @grammar (RELAX NG, itself read as a document): sets @error,
 * naming @origin, line and what was expected. FALSE where nothing is found wrong. */
gboolean xml_explain (xmlDoc *document, xmlDoc *grammar, const char *origin, GError **error);
