/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/common/xml.h"

#include "src/common/error.h"
#include "src/common/fs.h"
#include "src/common/rng-domainsnapshot.h"
#include "src/common/rng-merge.h"
#include "src/common/xml-private.h"
#include "src/common/rng-volume.h"

#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include <string.h>
#include <unistd.h>

struct _Xml {
  xmlDoc *document;
  char *origin;
  char *unwritable; /* where a text was given that XML cannot hold; nullable */
};

static const struct {
  const char *grammar;
  int length;
} schemas[] = {
    [XML_DOMAINSNAPSHOT] = {rng_domainsnapshot, sizeof rng_domainsnapshot - 1},
    [XML_MERGE] = {rng_merge, sizeof rng_merge - 1},
    [XML_VOLUME] = {rng_volume, sizeof rng_volume - 1},
};

void
xml_free (Xml *xml)
{
  if (xml == NULL)
    return;
  xmlFreeDoc (xml->document);
  g_free (xml->origin);
  g_free (xml->unwritable);
  g_free (xml);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static gboolean
too_big (const char *origin, GError **error)
{
  return fail (error, USAGE, "%s: the document is over 1 MiB", origin);
}

char *
xml_slurp (const char *path, gsize *ret_length, GError **error)
{
  g_autofree char *text = file_slurp (path, XML_MAX_SIZE, ret_length, error);
  if (text == NULL || *ret_length <= XML_MAX_SIZE)
    return g_steal_pointer (&text);
  too_big (path, error);
  return NULL;
}

/* ---- parsing --------------------------------------------------------------------------------- */

/* Where a document type begins the parser stops: nothing of it is looked at. */
static void
on_doctype (void *data, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
  xmlParserCtxt *parser = data;
  *(gboolean *)parser->_private = TRUE;
  xmlStopParser (parser);
}

static void
ignore_error (void *data, xmlError *problem)
{
}

static gboolean
say_malformed (const char *origin, const xmlError *problem, GError **error)
{
  g_autofree char *words = g_strdup (problem && problem->message ? problem->message : "");
  fail (error, USAGE, "%s:%d: this is not well-formed XML", origin, problem ? problem->line : 1);
  return *g_strstrip (words) ? because (error, "%s", words) : FALSE;
}

static guint
depth_of (xmlNode *node)
{
  guint depth = 0;
  for (; node != NULL && node->type == XML_ELEMENT_NODE; node = node->parent)
    depth++;
  return depth;
}

/* In document order, without recursion. */
static xmlNode *
node_after (xmlNode *node)
{
  if (node->children != NULL && node->type == XML_ELEMENT_NODE)
    return node->children;
  while (node != NULL && node->next == NULL)
    node = node->parent;
  return node && node->type != XML_DOCUMENT_NODE ? node->next : NULL;
}

/* Before the validator, whose time grows with the square of some shapes. */
static gboolean
check_shape (Xml *xml, GError **error)
{
  guint n = 0;
  for (xmlNode *node = xmlDocGetRootElement (xml->document); node != NULL;
       node = node_after (node)) {
    if (depth_of (node) > XML_MAX_DEPTH)
      return fail (error, USAGE, "%s:%ld: elements lie more than %d deep in each other",
                   xml->origin, xmlGetLineNo (node), XML_MAX_DEPTH);
    if (node->type == XML_ELEMENT_NODE && ++n > XML_MAX_ELEMENTS)
      return fail (error, USAGE, "%s:%ld: there are more than %d elements", xml->origin,
                   xmlGetLineNo (node), XML_MAX_ELEMENTS);
  }
  return TRUE;
}

static gboolean
check_encoding (Xml *xml, GError **error)
{
  const char *encoding = (const char *)xml->document->encoding;
  if (encoding == NULL || g_ascii_strcasecmp (encoding, "UTF-8") == 0 ||
      g_ascii_strcasecmp (encoding, "US-ASCII") == 0)
    return TRUE;
  fail (error, USAGE, "%s:1: the document says that its encoding is '%.40s'", xml->origin,
        encoding);
  return hint (error, "write it in UTF-8, and say so or nothing");
}

static gboolean
parse (Xml *xml, const char *text, gsize length, GError **error)
{
  gboolean doctype = FALSE;
  xmlParserCtxt *parser = xmlNewParserCtxt ();
  parser->_private = &doctype;
  parser->sax->internalSubset = on_doctype;
  parser->sax->serror = ignore_error;
  /* Neither NOENT, DTDLOAD nor HUGE: no entity is replaced, no limit of the parser lifted. */
  xml->document = xmlCtxtReadMemory (parser, text, (int)length, NULL, NULL,
                                     XML_PARSE_NONET | XML_PARSE_NOCDATA | XML_PARSE_NOERROR |
                                         XML_PARSE_NOWARNING | XML_PARSE_BIG_LINES);
  gboolean ok = FALSE;
  if (doctype) {
    fail (error, USAGE, "%s:%d: a document type (<!DOCTYPE ...>) is not allowed", xml->origin,
          parser->input ? parser->input->line : 1);
    hint (error, "entities and external files have no place in these documents");
  } else if (xml->document == NULL || !parser->wellFormed)
    say_malformed (xml->origin, xmlCtxtGetLastError (parser), error);
  else
    ok = check_encoding (xml, error) && check_shape (xml, error);
  xmlFreeParserCtxt (parser);
  return ok;
}

/* ---- validating ------------------------------------------------------------------------------ */

/* The first thing that the validator says; the rest follows from it. */
static void
on_invalid (void *data, xmlError *problem)
{
  char **first = data;
  if (*first == NULL && problem->message != NULL)
    *first = g_strstrip (g_strdup (problem->message));
}

static gboolean
explain (Xml *xml, XmlSchema schema, const char *words, GError **error)
{
  xmlDoc *grammar = xmlReadMemory (schemas[schema].grammar, schemas[schema].length, NULL, NULL,
                                   XML_PARSE_NONET | XML_PARSE_NOBLANKS);
  if (!xml_explain (xml->document, grammar, xml->origin, error))
    fail (error, USAGE, "%s: the document does not fit its schema", xml->origin);
  xmlFreeDoc (grammar);
  return words ? because (error, "%s", words) : FALSE;
}

static gboolean
validate (Xml *xml, XmlSchema schema, GError **error)
{
  g_autofree char *words = NULL;
  xmlRelaxNGParserCtxt *reader =
      xmlRelaxNGNewMemParserCtxt (schemas[schema].grammar, schemas[schema].length);
  xmlRelaxNG *grammar = xmlRelaxNGParse (reader);
  xmlRelaxNGValidCtxt *validator = xmlRelaxNGNewValidCtxt (grammar);
  xmlRelaxNGSetValidStructuredErrors (validator, on_invalid, &words);
  int rc = xmlRelaxNGValidateDoc (validator, xml->document);
  xmlRelaxNGFreeValidCtxt (validator);
  xmlRelaxNGFree (grammar);
  xmlRelaxNGFreeParserCtxt (reader);
  return rc == 0 || explain (xml, schema, words, error);
}

static Xml *
xml_take (xmlDoc *document, const char *origin)
{
  Xml *xml = g_new0 (Xml, 1);
  xml->document = document;
  xml->origin = g_strdup (origin);
  return xml;
}

Xml *
xml_read_memory (const char *text, gsize length, const char *origin, XmlSchema schema,
                 GError **error)
{
  g_autoptr (Xml) xml = xml_take (NULL, origin);
  const char *end;
  if (length > XML_MAX_SIZE)
    too_big (origin, error);
  else if (length == 0)
    fail (error, USAGE, "%s: the document is empty", origin);
  else if (!g_utf8_validate_len (text, length, &end)) {
    guint line = 1;
    for (const char *c = text; c < end; c++)
      line += *c == '\n';
    fail (error, USAGE, "%s:%u: this is not UTF-8 text", origin, line);
  } else if (parse (xml, text, length, error) && validate (xml, schema, error))
    return g_steal_pointer (&xml);
  return NULL;
}

Xml *
xml_read_file (const char *path, XmlSchema schema, GError **error)
{
  gsize length = 0;
  g_autofree char *text = xml_slurp (path, &length, error);
  return text ? xml_read_memory (text, length, path, schema, error) : NULL;
}

/* ---- the cursor ------------------------------------------------------------------------------ */

XmlNode *
xml_root (Xml *xml)
{
  return xmlDocGetRootElement (xml->document);
}

static XmlNode *
find (xmlNode *node, const xmlChar *name)
{
  for (; node != NULL; node = node->next)
    if (node->type == XML_ELEMENT_NODE && xmlStrEqual (node->name, name))
      return node;
  return NULL;
}

XmlNode *
xml_child (XmlNode *node, const char *name)
{
  return node ? find (node->children, BAD_CAST name) : NULL;
}

XmlNode *
xml_next (XmlNode *node)
{
  return node ? find (node->next, node->name) : NULL;
}

/* Full, nullable. */
static char *
take_text (xmlChar *text)
{
  char *copy = g_strdup ((const char *)text);
  xmlFree (text);
  return copy ? g_strstrip (copy) : NULL;
}

char *
xml_attribute (XmlNode *node, const char *name)
{
  return node ? take_text (xmlGetNoNsProp (node, BAD_CAST name)) : NULL;
}

char *
xml_text (XmlNode *node)
{
  return node ? take_text (xmlNodeGetContent (node)) : NULL;
}

char *
xml_child_text (XmlNode *node, const char *name)
{
  return xml_text (xml_child (node, name));
}

char *
xml_size_text (XmlNode *node)
{
  g_autofree char *number = xml_text (node);
  g_autofree char *unit = xml_attribute (node, "unit");
  const char *suffix = g_strcmp0 (unit, "bytes") == 0 ? NULL : unit;
  return node ? g_strconcat (number ? number : "", suffix, NULL) : NULL;
}

char *
xml_path (XmlNode *node)
{
  char *path = xml_attribute (node, "file");
  if (path == NULL)
    path = xml_attribute (node, "dev");
  return path ? path : xml_text (node);
}

gboolean
xml_complain (Xml *xml, XmlNode *node, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  return fail (error, USAGE, "%s:%ld: %s", xml->origin, xmlGetLineNo (node), what);
}

/* ---- writing --------------------------------------------------------------------------------- */

Xml *
xml_new (const char *root)
{
  Xml *xml = xml_take (xmlNewDoc (BAD_CAST "1.0"), root);
  xmlDocSetRootElement (xml->document, xmlNewNode (NULL, BAD_CAST root));
  return xml;
}

/* Tab, line break and carriage return are the only control characters of XML 1.0. */
static gboolean
can_hold (const char *text)
{
  if (!g_utf8_validate (text, -1, NULL))
    return FALSE;
  for (const char *c = text; *c != '\0'; c = g_utf8_next_char (c)) {
    gunichar u = g_utf8_get_char (c);
    if ((u < 0x20 && strchr ("\t\n\r", (int)u) == NULL) || u == 0xfffe || u == 0xffff)
      return FALSE;
  }
  return TRUE;
}

static gboolean
check_text (Xml *xml, XmlNode *node, const char *text)
{
  if (text == NULL || can_hold (text))
    return TRUE;
  if (xml->unwritable == NULL)
    xml->unwritable = g_strdup ((const char *)node->name);
  return FALSE;
}

XmlNode *
xml_add (Xml *xml, XmlNode *parent, const char *name, const char *text)
{
  XmlNode *node = xmlNewChild (parent, NULL, BAD_CAST name, NULL);
  if (text != NULL && check_text (xml, node, text))
    xmlNodeAddContent (node, BAD_CAST text);
  return node;
}

void
xml_set (Xml *xml, XmlNode *node, const char *attribute, const char *value)
{
  if (value != NULL && check_text (xml, node, value))
    xmlNewProp (node, BAD_CAST attribute, BAD_CAST value);
}

char *
xml_print (Xml *xml, GError **error)
{
  xmlChar *text = NULL;
  int length = 0;
  if (xml->unwritable != NULL) {
    fail (error, FAILED, "what stands in <%s> cannot be written as XML", xml->unwritable);
    hint (error, "it holds control characters, or is not UTF-8; -o json can show it");
    return NULL;
  }
  xmlDocDumpFormatMemoryEnc (xml->document, &text, &length, "UTF-8", 1);
  char *copy = g_strndup ((const char *)text, (gsize)length);
  xmlFree (text);
  return copy;
}
