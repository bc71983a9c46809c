/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp/parser.h"

#include "src/common/error.h"

/* What json-c allocates for a message is bounded by these, whatever its text is: an empty
 * object of two bytes costs about 800. The largest replies of a real QEMU (9 MiB, 200 layers)
 * have a tenth. */
#define MAX_CONTAINERS (512u << 10)
#define MAX_COMMAS     (4u << 20)
/* json-c looks through a number again for each piece of it that arrives. */
#define MAX_WORD 4096u
/* Above this the tokener's own buffer is given back after the message. */
#define KEEP_TOKENER (1u << 20)

struct _QmpParser {
  struct json_tokener *tokener;
  gsize max_message;
  gsize size; /* bytes of the message so far; 0: between messages */
  guint depth;
  guint containers;
  guint commas;
  guint word; /* bytes of the number or literal so far */
  gboolean in_string;
  gboolean escaped;
  guint utf8_left; /* continuation bytes still to come */
  guchar utf8_low; /* range of the next one */
  guchar utf8_high;
};

static struct json_tokener *
tokener_new (void)
{
  /* One level more, since json-c counts the scalar in the innermost object as a level. Its own
   * UTF-8 check forgets its state between pieces (0.16), ours does not. */
  struct json_tokener *tokener = json_tokener_new_ex (JSON_MAX_DEPTH + 1);
  json_tokener_set_flags (tokener, JSON_TOKENER_STRICT);
  return tokener;
}

QmpParser *
qmp_parser_new (gsize max_message)
{
  QmpParser *parser = g_new0 (QmpParser, 1);
  parser->tokener = tokener_new ();
  parser->max_message = MIN (max_message, G_MAXINT);
  return parser;
}

void
qmp_parser_free (QmpParser *parser)
{
  if (parser == NULL)
    return;
  json_tokener_free (parser->tokener);
  g_free (parser);
}

gboolean
qmp_parser_is_inside (const QmpParser *parser)
{
  return parser->size > 0;
}

/* RFC 3629, table of well-formed sequences. Returns FALSE for a byte that starts none. */
static gboolean
utf8_begin (QmpParser *parser, guchar c)
{
  parser->utf8_low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
  parser->utf8_high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
  parser->utf8_left = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
  return c >= 0xc2 && c <= 0xf4;
}

static gboolean
utf8_continue (QmpParser *parser, guchar c)
{
  gboolean valid = c >= parser->utf8_low && c <= parser->utf8_high;
  parser->utf8_low = 0x80;
  parser->utf8_high = 0xbf;
  parser->utf8_left--;
  return valid;
}

static const char *
scan_in_string (QmpParser *parser, guchar c)
{
  if (c < 0x20)
    return "a control character in a string";
  if (parser->escaped)
    parser->escaped = FALSE;
  else if (c == '\\')
    parser->escaped = TRUE;
  else if (c == '"')
    parser->in_string = FALSE;
  return NULL;
}

static const char *
scan_between_strings (QmpParser *parser, guchar c)
{
  gboolean in_word = g_ascii_isalnum (c) || c == '-' || c == '+' || c == '.';
  parser->word = in_word ? parser->word + 1 : 0;
  if (parser->word > MAX_WORD)
    return "a number of absurd length";
  switch (c) {
  case '"':
    parser->in_string = TRUE;
    return NULL;
  case '{':
  case '[':
    if (++parser->depth > JSON_MAX_DEPTH)
      return "a message that is nested too deep";
    return ++parser->containers > MAX_CONTAINERS ? "a message of too many objects" : NULL;
  case '}':
  case ']':
    parser->depth--;
    return NULL;
  case ',':
    return ++parser->commas > MAX_COMMAS ? "a message of too many members" : NULL;
  case ':':
  case ' ':
  case '\t':
  case '\n':
  case '\r':
    return NULL;
  default: /* json-c alone would take 'single quotes' and comments in some versions */
    return in_word ? NULL : "something that is not JSON";
  }
}

/* Returns what is wrong with @c, or NULL. */
static const char *
scan_byte (QmpParser *parser, guchar c)
{
  if (c == 0)
    return "a NUL byte";
  if (parser->utf8_left > 0)
    return utf8_continue (parser, c) ? NULL : "invalid UTF-8";
  if (c >= 0x80 && !parser->in_string)
    return "something that is not JSON";
  if (c >= 0x80) {
    parser->escaped = FALSE;
    return utf8_begin (parser, c) ? NULL : "invalid UTF-8";
  }
  return parser->in_string ? scan_in_string (parser, c) : scan_between_strings (parser, c);
}

/* Scans to the end of the message or of @bytes. */
static const char *
scan (QmpParser *parser, const char *bytes, gsize length, gsize *ret_end, gboolean *ret_whole)
{
  gsize room = parser->max_message - parser->size;
  *ret_whole = FALSE;
  for (gsize i = 0; i < length; i++) {
    if (i >= room)
      return "a message that is too long";
    const char *wrong = scan_byte (parser, (guchar)bytes[i]);
    if (wrong != NULL)
      return wrong;
    *ret_end = i + 1;
    if (parser->depth == 0) {
      *ret_whole = TRUE;
      return NULL;
    }
  }
  return NULL;
}

/* White space between messages costs nothing, however much of it comes. */
static gsize
skip_space (const char *bytes, gsize length)
{
  gsize i = 0;
  while (i < length &&
         (bytes[i] == ' ' || bytes[i] == '\t' || bytes[i] == '\n' || bytes[i] == '\r'))
    i++;
  return i;
}

static void
next_message (QmpParser *parser)
{
  if (parser->size > KEEP_TOKENER) {
    json_tokener_free (parser->tokener);
    parser->tokener = tokener_new ();
  } else {
    json_tokener_reset (parser->tokener);
  }
  *parser = (QmpParser){.tokener = parser->tokener, .max_message = parser->max_message};
}

gboolean
qmp_parser_feed (QmpParser *parser, const char *bytes, gsize length, gsize *ret_used,
                 Json **ret_message, GError **error)
{
  gsize start = parser->size == 0 ? skip_space (bytes, length) : 0;
  gsize end = 0;
  gboolean whole;
  *ret_message = NULL;
  *ret_used = start;
  if (start == length)
    return TRUE;
  if (parser->size == 0 && bytes[start] != '{')
    return fail (error, UNREACHABLE, "sent something that is not a JSON object");
  const char *wrong = scan (parser, bytes + start, MIN (length - start, G_MAXINT), &end, &whole);
  if (wrong != NULL)
    return fail (error, UNREACHABLE, "sent %s", wrong);

  Json *message = json_tokener_parse_ex (parser->tokener, bytes + start, (int)end);
  enum json_tokener_error status = json_tokener_get_error (parser->tokener);
  gboolean agreed = whole ? message != NULL && json_object_is_type (message, json_type_object)
                          : message == NULL && status == json_tokener_continue;
  if (!agreed || json_tokener_get_parse_end (parser->tokener) != end) {
    json_object_put (message);
    fail (error, UNREACHABLE, "sent something that is not JSON");
    return because (error, "%s", json_tokener_error_desc (status));
  }
  parser->size += end;
  *ret_used = start + end;
  *ret_message = message;
  if (whole)
    next_message (parser);
  return TRUE;
}
