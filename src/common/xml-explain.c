/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a validator says of an invalid document helps nobody ("Element disks failed to validate
 * content"), so the schema, read as a document, is held against it once more: what can stand here?
 * It knows the part of RELAX NG that schemas/ uses, and decides nothing: that did the validator. */
#include "src/common/xml-private.h"

#include "src/common/error.h"

#include <string.h>

#define ANNOTATION "urn:rechain"

/* What a pattern lets stand in an element. */
typedef struct {
  xmlNode *pattern; /* <element>, <attribute>, <data>, <value> or <text> */
  char *name;       /* of the element or attribute */
  gboolean required, repeats;
  gboolean either; /* one of several of which exactly one must be there */
} Part;

typedef struct {
  xmlDoc *grammar;
  const char *origin;
  GError **error;
} Explain;

static void
part_free (gpointer data)
{
  g_free (((Part *)data)->name);
  g_free (data);
}

static gboolean
is (const xmlNode *node, const char *name)
{
  return node->type == XML_ELEMENT_NODE && g_str_equal (node->name, name);
}

/* Full, nullable. */
static char *
attribute (xmlNode *node, const char *name)
{
  xmlChar *value = xmlGetNoNsProp (node, BAD_CAST name);
  char *copy = g_strdup ((const char *)value);
  xmlFree (value);
  return copy;
}

static char *
text_of (xmlNode *node)
{
  xmlChar *value = xmlNodeGetContent (node);
  char *copy = g_strdup (value ? (const char *)value : "");
  xmlFree (value);
  return copy;
}

static xmlNode *
definition (xmlDoc *grammar, const char *name)
{
  for (xmlNode *node = xmlDocGetRootElement (grammar)->children; node; node = node->next) {
    g_autofree char *defined = is (node, "define") ? attribute (node, "name") : NULL;
    if (g_strcmp0 (defined, name) == 0)
      return node;
  }
  return NULL;
}

/* Appends to @parts what the patterns inside @pattern let stand. */
static void
collect (xmlDoc *grammar, xmlNode *pattern, Part how, GPtrArray *parts)
{
  static const char *const leaves[] = {"element", "attribute", "data", "value", "text", NULL};
  for (xmlNode *node = pattern->children; node != NULL; node = node->next) {
    Part inner = how;
    if (node->type != XML_ELEMENT_NODE)
      continue;
    if (g_strv_contains (leaves, (const char *)node->name)) {
      Part *part = g_memdup2 (&how, sizeof how);
      part->pattern = node;
      part->name = attribute (node, "name");
      g_ptr_array_add (parts, part);
      continue;
    }
    if (is (node, "ref")) {
      g_autofree char *name = attribute (node, "name");
      xmlNode *defined = definition (grammar, name);
      if (defined != NULL)
        collect (grammar, defined, how, parts);
      continue;
    }
    inner.repeats |= is (node, "zeroOrMore") || is (node, "oneOrMore");
    inner.either |= is (node, "choice");
    inner.required &= !inner.either && !is (node, "optional") && !is (node, "zeroOrMore");
    collect (grammar, node, inner, parts);
  }
}

static GPtrArray *
parts_of (Explain *explain, xmlNode *pattern)
{
  GPtrArray *parts = g_ptr_array_new_with_free_func (part_free);
  collect (explain->grammar, pattern, (Part){.required = TRUE}, parts);
  return parts;
}

static Part *
find_part (GPtrArray *parts, const char *kind, const xmlChar *name)
{
  for (guint i = 0; i < parts->len; i++) {
    Part *part = parts->pdata[i];
    if (is (part->pattern, kind) && g_strcmp0 (part->name, (const char *)name) == 0)
      return part;
  }
  return NULL;
}

static gboolean
is_text (Part *part)
{
  return is (part->pattern, "data") || is (part->pattern, "value") || is (part->pattern, "text");
}

/* Full: the names of all of @kind, joined. */
static char *
names_of (GPtrArray *parts, const char *kind)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (guint i = 0; i < parts->len; i++) {
    Part *part = parts->pdata[i];
    if (is (part->pattern, kind))
      g_string_append_printf (names, "%s%s", names->len ? ", " : "", part->name);
  }
  return g_string_free (g_steal_pointer (&names), FALSE);
}

static gboolean
say (Explain *explain, xmlNode *node, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* Always TRUE: something was found. */
static gboolean
say (Explain *explain, xmlNode *node, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  fail (explain->error, USAGE, "%s:%ld: %s", explain->origin, xmlGetLineNo (node), what);
  return TRUE;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static gboolean
fits_data (xmlNode *data, const char *text)
{
  for (xmlNode *param = data->children; param != NULL; param = param->next) {
    if (!is (param, "param"))
      continue;
    g_autofree char *name = attribute (param, "name");
    g_autofree char *value = text_of (param);
    g_autofree char *anchored = g_strdup_printf ("^(?:%s)$", value);
    if (g_str_equal (name, "minLength") && text[0] == '\0')
      return FALSE;
    if (g_str_equal (name, "pattern") &&
        !g_regex_match_simple (anchored, text, G_REGEX_DOLLAR_ENDONLY, 0))
      return FALSE;
  }
  return TRUE;
}

/* @what: "<name>" or "attribute 'name' of <disk>". */
static gboolean
explain_text (Explain *explain, xmlNode *node, const char *what, const char *text, GPtrArray *parts)
{
  g_autoptr (GString) expected = g_string_new (NULL);
  gboolean texts = FALSE;
  for (guint i = 0; i < parts->len; i++) {
    Part *part = parts->pdata[i];
    g_autofree char *value = is (part->pattern, "value") ? text_of (part->pattern) : NULL;
    xmlChar *says = xmlGetNsProp (part->pattern, BAD_CAST "says", BAD_CAST ANNOTATION);
    gboolean fits = is (part->pattern, "text") || g_strcmp0 (value, text) == 0 ||
                    (is (part->pattern, "data") && fits_data (part->pattern, text));
    if (is_text (part))
      g_string_append_printf (expected, "%s%s", expected->len ? ", " : "",
                              value  ? value
                              : says ? (const char *)says
                                     : "text");
    xmlFree (says);
    texts |= is_text (part);
    if (fits)
      return FALSE;
  }
  if (!texts)
    return FALSE;
  if (text[0] == '\0')
    say (explain, node, "%s is empty", what);
  else
    say (explain, node, "%s is '%.100s'", what, text);
  hint (explain->error, "expected: %s", expected->str);
  return TRUE;
}

/* ---- elements -------------------------------------------------------------------------------- */

static gboolean
explain_element (Explain *explain, xmlNode *node, xmlNode *pattern);

static gboolean
explain_attributes (Explain *explain, xmlNode *node, GPtrArray *parts)
{
  for (xmlAttr *attr = node->properties; attr != NULL; attr = attr->next) {
    Part *part = attr->ns == NULL ? find_part (parts, "attribute", attr->name) : NULL;
    if (part == NULL) {
      g_autofree char *known = names_of (parts, "attribute");
      say (explain, node, "<%s> cannot have the attribute '%.100s'", node->name, attr->name);
      hint (explain->error, *known ? "it can have: %s" : "it has none%s", known);
      return TRUE;
    }
    g_autoptr (GPtrArray) values = parts_of (explain, part->pattern);
    g_autofree char *text = attribute (node, part->name);
    g_strstrip (text);
    g_autofree char *what = g_strdup_printf ("attribute '%s' of <%s>", part->name, node->name);
    if (explain_text (explain, node, what, text, values))
      return TRUE;
  }
  return FALSE;
}

static gboolean
explain_children (Explain *explain, xmlNode *node, GPtrArray *parts)
{
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  for (xmlNode *child = node->children; child != NULL; child = child->next) {
    if (child->type != XML_ELEMENT_NODE)
      continue;
    Part *part = child->ns == NULL ? find_part (parts, "element", child->name) : NULL;
    if (part == NULL) {
      g_autofree char *known = names_of (parts, "element");
      say (explain, child, "<%.100s> cannot stand in <%s>", child->name, node->name);
      hint (explain->error, *known ? "expected: %s" : "nothing can stand in it%s", known);
      return TRUE;
    }
    if (!part->repeats && !g_hash_table_add (seen, part->name))
      return say (explain, child, "<%s> has a second <%s>", node->name, part->name);
    if (explain_element (explain, child, part->pattern))
      return TRUE;
  }
  return FALSE;
}

static gboolean
has_part (xmlNode *node, Part *part, gboolean has_text)
{
  if (is (part->pattern, "attribute"))
    return xmlHasProp (node, BAD_CAST part->name) != NULL;
  if (is_text (part))
    return has_text;
  for (xmlNode *child = node->children; child != NULL; child = child->next)
    if (is (child, part->name))
      return TRUE;
  return FALSE;
}

/* What must be there and is not, and what excludes each other. */
static gboolean
explain_missing (Explain *explain, xmlNode *node, GPtrArray *parts, gboolean has_text)
{
  g_autoptr (GString) either = g_string_new (NULL);
  guint had = 0;
  for (guint i = 0; i < parts->len; i++) {
    Part *part = parts->pdata[i];
    gboolean has = has_part (node, part, has_text), attr = is (part->pattern, "attribute");
    if (part->required && !has && part->name != NULL)
      return say (explain, node, attr ? "<%s> lacks the attribute '%s'" : "<%s> lacks <%s>",
                  node->name, part->name);
    if (!part->either || is (part->pattern, "value"))
      continue;
    had += has;
    g_string_append_printf (either, "%s%s%s", either->len ? ", " : "",
                            attr             ? "attribute "
                            : is_text (part) ? "text"
                                             : "",
                            part->name ? part->name : "");
  }
  if (either->len == 0 || had == 1)
    return FALSE;
  say (explain, node, had ? "<%s> says it twice" : "<%s> says nothing", node->name);
  hint (explain->error, "expected is one of: %s", either->str);
  return TRUE;
}

/* Its text is one of several ways to say a thing; which one was taken is known already. */
static gboolean
is_alternative (GPtrArray *parts)
{
  Part *data = find_part (parts, "data", NULL);
  return data != NULL && data->either;
}

static gboolean
explain_element (Explain *explain, xmlNode *node, xmlNode *pattern)
{
  g_autoptr (GPtrArray) parts = parts_of (explain, pattern);
  g_autofree char *what = g_strdup_printf ("<%s>", node->name);
  g_autofree char *text = text_of (node);
  gboolean children = xmlFirstElementChild (node) != NULL, takes_text = FALSE;
  g_strstrip (text);
  for (guint i = 0; i < parts->len; i++)
    takes_text |= is_text (parts->pdata[i]);
  if (explain_attributes (explain, node, parts) || explain_children (explain, node, parts))
    return TRUE;
  if (!takes_text && !children && *text != '\0')
    return say (explain, node, "<%s> cannot hold text", node->name);
  if (explain_missing (explain, node, parts, *text != '\0'))
    return TRUE;
  return takes_text && !is_alternative (parts) && explain_text (explain, node, what, text, parts);
}

gboolean
xml_explain (xmlDoc *document, xmlDoc *grammar, const char *origin, GError **error)
{
  Explain explain = {.grammar = grammar, .origin = origin, .error = error};
  xmlNode *root = xmlDocGetRootElement (document);
  for (xmlNode *node = xmlDocGetRootElement (grammar)->children; node != NULL; node = node->next) {
    if (!is (node, "start"))
      continue;
    xmlNode *top = xmlFirstElementChild (node);
    g_autofree char *name = attribute (top, "name");
    if (root->ns == NULL && g_strcmp0 (name, (const char *)root->name) == 0)
      return explain_element (&explain, root, top);
    return say (&explain, root, "the document is a <%.100s> and not a <%s>", root->name, name);
  }
  return FALSE;
}
