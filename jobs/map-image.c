/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qemu-img prints one list of flat objects, whose members are numbers, true, false and file names.
 * They are read byte by byte as they come, so that nothing of the text is held: 100,000 extents are
 * 12 MB of it. json-c's tokener, object by object, took as much CPU time as qemu-img itself: 0.37 s
 * for both, where this needs 0.26 (tests/bench/run map-1t). */
#include "jobs/map-image.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_WORD 20u /* of a key or value that means something; longer ones are not ours */

typedef enum {
  BEFORE_LIST,
  IN_LIST,   /* between objects */
  IN_OBJECT, /* before a key, a comma or the end */
  IN_KEY,
  BEFORE_COLON,
  BEFORE_VALUE,
  IN_WORD,   /* a number, true or false */
  IN_STRING, /* a value that is not ours */
  IN_ESCAPE, /* behind a backslash of it */
  AFTER_LIST,
} Where;

/* One object, as far as it has come. */
typedef struct {
  guint64 start, length, depth;
  gboolean present, zero, data;
  guint has; /* 1 << the row of its key */
} Extent;

static const struct {
  const char *key;
  gsize offset;
  gboolean is_flag;
} members[] = {
    {"start", G_STRUCT_OFFSET (Extent, start), FALSE},
    {"length", G_STRUCT_OFFSET (Extent, length), FALSE},
    {"depth", G_STRUCT_OFFSET (Extent, depth), FALSE},
    {"present", G_STRUCT_OFFSET (Extent, present), TRUE},
    {"zero", G_STRUCT_OFFSET (Extent, zero), TRUE},
    {"data", G_STRUCT_OFFSET (Extent, data), TRUE},
};

#define REQUIRED (1u << 0 | 1u << 1 | 1u << 2 | 1u << 5)
#define PRESENT  (1u << 3)

struct _MapParser {
  Map *map;
  Region region;
  guint64 at; /* where the next extent has to begin */
  Where where;
  Extent extent;
  char key[MAX_WORD], word[MAX_WORD];
  gsize key_length, word_length; /* MAX_WORD: it was longer */
};

MapParser *
map_parser_new (GPtrArray *layers, guint64 size, Region region)
{
  MapParser *parser = g_new0 (MapParser, 1);
  parser->map = map_new (layers, size, region.start);
  parser->region = region;
  parser->at = region.start;
  return parser;
}

void
map_parser_free (MapParser *parser)
{
  if (parser == NULL)
    return;
  map_unref (parser->map);
  g_free (parser);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void
keep (char *word, gsize *length, char c)
{
  if (*length < MAX_WORD)
    word[(*length)++] = c;
}

static gboolean
is_word (const char *word, gsize length, const char *wanted)
{
  return length == strlen (wanted) && memcmp (word, wanted, length) == 0;
}

static gboolean
set_flag (MapParser *parser, gboolean *flag)
{
  *flag = is_word (parser->word, parser->word_length, "true");
  return *flag || is_word (parser->word, parser->word_length, "false");
}

static gboolean
set_number (MapParser *parser, guint64 *number)
{
  char *end = NULL;
  char digits[MAX_WORD + 4] = {0};
  if (parser->word_length == 0 || parser->word_length >= MAX_WORD)
    return FALSE;
  memcpy (digits, parser->word, parser->word_length);
  *number = g_ascii_strtoull (digits, &end, 10);
  return g_ascii_isdigit (digits[0]) && *end == '\0';
}

/* A key that is not ours may have any number or flag. */
static gboolean
take_value (MapParser *parser)
{
  for (guint i = 0; i < G_N_ELEMENTS (members); i++) {
    void *member = (char *)&parser->extent + members[i].offset;
    if (!is_word (parser->key, parser->key_length, members[i].key))
      continue;
    parser->extent.has |= 1u << i;
    return members[i].is_flag ? set_flag (parser, member) : set_number (parser, member);
  }
  return TRUE;
}

/* Depth is told also of what no layer has. "present" is missing before qemu-img 6.1. */
static gboolean
take_extent (MapParser *parser, GError **error)
{
  Extent *extent = &parser->extent;
  guint64 end = parser->region.start + parser->region.length;
  gboolean present = extent->has & PRESENT ? extent->present : extent->data;
  if ((extent->has & REQUIRED) != REQUIRED || extent->length == 0 ||
      extent->length > G_MAXINT64 - parser->at || extent->start != parser->at ||
      extent->depth >= MAP_NOBODY)
    return fail (error, FAILED, "qemu-img map: extent %u is malformed",
                 parser->map->extents->len + 1);
  parser->at += extent->length;
  guint64 length = MIN (parser->at, end) - MIN (extent->start, end);
  guint depth = present ? (guint)extent->depth : MAP_NOBODY;
  gboolean ok = map_add (parser->map, length, depth, extent->data, extent->zero, error);
  *extent = (Extent){0};
  return ok;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static Where
value_begins (MapParser *parser, char c)
{
  parser->word_length = 0;
  if (c == '"')
    return IN_STRING;
  keep (parser->word, &parser->word_length, c);
  return IN_WORD;
}

/* FALSE: it has no place here. *ret_ended: the object is whole. */
static gboolean
take_byte (MapParser *parser, char c, gboolean *ret_ended)
{
  gboolean blank = c == ' ' || c == '\n' || c == '\r' || c == '\t';
  switch (parser->where) {
  case BEFORE_LIST:
    parser->where = c == '[' ? IN_LIST : BEFORE_LIST;
    return blank || c == '[';
  case IN_LIST:
    parser->where = c == '{' ? IN_OBJECT : c == ']' ? AFTER_LIST : IN_LIST;
    return blank || c == ',' || c == '{' || c == ']';
  case IN_OBJECT:
    *ret_ended = c == '}';
    parser->key_length = 0;
    parser->where = c == '"' ? IN_KEY : c == '}' ? IN_LIST : IN_OBJECT;
    return blank || c == ',' || c == '"' || c == '}';
  case IN_KEY:
    if (c == '"')
      parser->where = BEFORE_COLON;
    else
      keep (parser->key, &parser->key_length, c);
    return c != '\\';
  case BEFORE_COLON:
    parser->where = c == ':' ? BEFORE_VALUE : BEFORE_COLON;
    return blank || c == ':';
  case BEFORE_VALUE:
    parser->where = blank ? BEFORE_VALUE : value_begins (parser, c);
    return blank || c == '"' || g_ascii_isalnum (c) || c == '-';
  case IN_WORD:
    if (g_ascii_isalnum (c) || c == '.' || c == '+' || c == '-') {
      keep (parser->word, &parser->word_length, c);
      return TRUE;
    }
    *ret_ended = c == '}';
    parser->where = c == '}' ? IN_LIST : IN_OBJECT;
    return (blank || c == ',' || c == '}') && take_value (parser);
  case IN_STRING:
    parser->where = c == '"' ? IN_OBJECT : c == '\\' ? IN_ESCAPE : IN_STRING;
    return TRUE;
  case IN_ESCAPE:
    parser->where = IN_STRING;
    return TRUE;
  case AFTER_LIST:
    return blank;
  }
  return FALSE;
}

static gboolean
malformed (GError **error)
{
  return fail (error, FAILED, "qemu-img map: the answer is no list of extents");
}

gboolean
map_parser_feed (MapParser *parser, const char *text, gsize length, GError **error)
{
  for (gsize i = 0; i < length; i++) {
    gboolean ended = FALSE;
    if (!take_byte (parser, text[i], &ended))
      return malformed (error);
    if (ended && !take_extent (parser, error))
      return FALSE;
  }
  return TRUE;
}

Map *
map_parser_end (MapParser *parser, GError **error)
{
  if (parser->where != AFTER_LIST ||
      map_end (parser->map) != parser->region.start + parser->region.length) {
    malformed (error);
    return NULL;
  }
  return g_steal_pointer (&parser->map);
}

/* ---- the run --------------------------------------------------------------------------------- */

typedef struct {
  MapParser *parser;
  GError *error; /* of the parser */
  MapImageReady ready;
  gpointer data;
} MapRun;

static gboolean
on_text (const char *text, gsize length, gpointer data)
{
  MapRun *run = data;
  return map_parser_feed (run->parser, text, length, &run->error);
}

static void
on_done (const char *out, const GError *error, gpointer data)
{
  MapRun *run = data;
  g_autoptr (GError) told = g_steal_pointer (&run->error);
  if (told == NULL && error != NULL)
    told = g_error_copy (error);
  Map *map = told ? NULL : map_parser_end (run->parser, &told);
  run->ready (map, told, run->data);
  map_parser_free (run->parser);
  g_free (run);
}

ImageRun *
map_image (GPtrArray *layers, Region region, MapImageReady ready, gpointer data)
{
  MapRun *run = g_new0 (MapRun, 1);
  ChainLayer *active = layers->pdata[0];
  g_auto (GStrv) argv = image_chain_map_args (layers, region.start, region.length);
  *run = (MapRun){.parser = map_parser_new (layers, active->virtual_size, region),
                  .ready = ready,
                  .data = data};
  return image_run_streamed ((const char *const *)argv, IMAGE_QUESTION, on_text, on_done, run);
}
