/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XML documents that come from anywhere, and those that we write; libxml2 stays behind this header.
 *
 * A document is read whole, at most 1 MiB of UTF-8, without DTD, entities or network, and is
 * validated against one of the schemas in schemas/ before anybody sees it. Every error is USAGE, and
 * begins with "FILE:LINE: ". */
#pragma once

#include <glib.h>

#define XML_MAX_SIZE     (1024 * 1024)
#define XML_MAX_DEPTH    32
#define XML_MAX_ELEMENTS 8192 /* libxml2 takes 10 s to validate 40000 */

typedef struct _Xml Xml;
typedef struct _xmlNode XmlNode;

typedef enum { XML_DOMAINSNAPSHOT, XML_MERGE, XML_VOLUME } XmlSchema;

/* @path: "-" is standard input. */
Xml *xml_read_file (const char *path, XmlSchema schema, GError **error);
/* @origin: what messages call it. */
Xml *xml_read_memory (const char *text, gsize length, const char *origin, XmlSchema schema,
                      GError **error);
void xml_free (Xml *xml);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Xml, xml_free)

/* All text of @path ("-": standard input) that can be a document; full. */
char *xml_slurp (const char *path, gsize *ret_length, GError **error);

/* ---- a cursor over what was read ----------------------------------------------------------------- */

/* Borrowed elements; NULL where there is none, and of NULL there is nothing. */
XmlNode *xml_root (Xml *xml);
XmlNode *xml_child (XmlNode *node, const char *name); /* the first one */
XmlNode *xml_next (XmlNode *node);                    /* the next one of the same name */
/* Full, nullable: an attribute; the text of an element without blanks around it. */
char *xml_attribute (XmlNode *node, const char *name);
char *xml_text (XmlNode *node);
char *xml_child_text (XmlNode *node, const char *name);
/* What parse_size() takes of <... unit='GiB'>20</...>: libvirt's "bytes" is our nothing, its other units are
 * ours too; NULL where @node is. */
char *xml_size_text (XmlNode *node);
/* A path in any of libvirt's ways: attribute file or dev, or the element's text. Full, nullable. */
char *xml_path (XmlNode *node);
/* "FILE:LINE: ..." as USAGE; returns FALSE. */
gboolean xml_complain (Xml *xml, XmlNode *node, GError **error, const char *format, ...)
    G_GNUC_PRINTF (4, 5);

/* ---- writing -------------------------------------------------------------------------------------- */

Xml *xml_new (const char *root);
/* The new element. @text: nullable. */
XmlNode *xml_add (Xml *xml, XmlNode *parent, const char *name, const char *text);
void xml_set (Xml *xml, XmlNode *node, const char *attribute, const char *value);
/* Full. FAILED where a text holds what XML cannot (control characters, other than UTF-8). */
char *xml_print (Xml *xml, GError **error);
