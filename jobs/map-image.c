/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qemu-img prints one list of flat objects, whose members are numbers, true, false and file names.
 * They are read object by object as they come, so that nothing of the text is held but the part of
 * an object: 100,000 extents are 11 MB of it. Reading them with json-c took as much CPU time as
 * qemu-img itself: 0.2 s for each, where this needs 0.02 (tests/bench/run map-1t). */
#include "jobs/map-image.h"

#include "src/common/error.h"

#include <string.h>

#define MAX_OBJECT (64u << 10) /* bytes: of numbers and two file names */
#define MAX_DIGITS 19u         /* of a number that fits into 64 bits */

typedef enum { BEFORE_LIST, IN_LIST, AFTER_LIST } Where;

/* One object. */
typedef struct {
  guint64 start, length, depth, offset;
  gboolean present, zero, data;
  guint has;  /* 1 << the row of its key */
  guint next; /* the row that comes next: they come in their order */
} Extent;

#define MEMBER(name, is_flag)                                                                      \
  {                                                                                                \
#name, sizeof #name - 1, G_STRUCT_OFFSET(Extent, name), is_flag                                \
  }

static const struct {
  const char *key;
  gsize length, offset;
  gboolean is_flag;
} members[] = {
    MEMBER (start, FALSE), MEMBER (length, FALSE), MEMBER (depth, FALSE),  MEMBER (present, TRUE),
    MEMBER (zero, TRUE),   MEMBER (data, TRUE),    MEMBER (offset, FALSE),
};

#define REQUIRED (1u << 0 | 1u << 1 | 1u << 2 | 1u << 5)
#define OFFSET   (1u << 6) /* missing where data is compressed */
#define PRESENT  (1u << 3)

struct _MapParser {
  Map *map;
  Region region;
  guint64 at; /* where the next extent has to begin */
  Where where;
  gboolean in_place;
  GString *rest; /* what came and is not read yet */
};

MapParser *
map_parser_new (GPtrArray *layers, guint64 size, Region region, gboolean in_place)
{
  MapParser *parser = g_new0 (MapParser, 1);
  parser->map = map_new (layers, size, region.start);
  parser->region = region;
  parser->at = region.start;
  parser->in_place = in_place;
  parser->rest = g_string_new (NULL);
  return parser;
}

void
map_parser_free (MapParser *parser)
{
  if (parser == NULL)
    return;
  map_unref (parser->map);
  g_string_free (parser->rest, TRUE);
  g_free (parser);
}

/* ---- text ------------------------------------------------------------------------------------ */

typedef enum { TAKEN, SHORT, WRONG } Taken; /* SHORT: the text ends before it does */

typedef struct {
  const char *at, *end;
} Cursor;

typedef struct {
  const char *text;
  gsize length;
} Word;

static gboolean
is_blank (char c)
{
  return (guchar)c <= ' ';
}

/* The next byte that is no blank; 0 at the end. */
static char
peek (Cursor *cursor)
{
  while (cursor->at < cursor->end && is_blank (*cursor->at))
    cursor->at++;
  return cursor->at < cursor->end ? *cursor->at : '\0';
}

static Taken
take_sign (Cursor *cursor, char sign)
{
  if (peek (cursor) != sign)
    return cursor->at == cursor->end ? SHORT : WRONG;
  cursor->at++;
  return TAKEN;
}

static Taken
take_string (Cursor *cursor, Word *ret_word)
{
  Taken taken = take_sign (cursor, '"');
  if (taken != TAKEN)
    return taken;
  const char *at = cursor->at;
  while (at < cursor->end && *at != '"')
    at += *at == '\\' && at + 1 < cursor->end ? 2 : 1;
  if (at >= cursor->end)
    return SHORT;
  *ret_word = (Word){cursor->at, (gsize)(at - cursor->at)};
  cursor->at = at + 1;
  return TAKEN;
}

/* A number, true or false: up to what ends it. */
static Taken
take_bare (Cursor *cursor, Word *ret_word)
{
  const char *at = cursor->at;
  while (at < cursor->end && *at != ',' && *at != '}' && !is_blank (*at))
    at++;
  *ret_word = (Word){cursor->at, (gsize)(at - cursor->at)};
  cursor->at = at;
  return at == cursor->end ? SHORT : ret_word->length > 0 ? TAKEN : WRONG;
}

/* ---- one extent ------------------------------------------------------------------------------ */

static gboolean
is_word (Word word, const char *wanted, gsize length)
{
  return word.length == length && memcmp (word.text, wanted, length) == 0;
}

static gboolean
set_flag (Word word, gboolean *flag)
{
  *flag = is_word (word, "true", 4);
  return *flag || is_word (word, "false", 5);
}

static gboolean
set_number (Word word, guint64 *number)
{
  *number = 0;
  if (word.length == 0 || word.length > MAX_DIGITS)
    return FALSE;
  for (gsize i = 0; i < word.length; i++) {
    guint digit = (guint)(word.text[i] - '0');
    if (digit > 9)
      return FALSE;
    *number = *number * 10 + digit;
  }
  return TRUE;
}

/* A key that is not ours may have any number, flag or name. */
static gboolean
set_member (Extent *extent, Word key, Word value, gboolean is_string)
{
  for (guint n = 0; n < G_N_ELEMENTS (members); n++, extent->next++) {
    guint i = extent->next % G_N_ELEMENTS (members);
    if (!is_word (key, members[i].key, members[i].length))
      continue;
    void *member = (char *)extent + members[i].offset;
    extent->has |= 1u << i;
    extent->next++;
    return !is_string &&
           (members[i].is_flag ? set_flag (value, member) : set_number (value, member));
  }
  return TRUE;
}

static Taken
take_member (Cursor *cursor, Extent *extent)
{
  Word key, value;
  Taken taken = take_string (cursor, &key);
  if (taken == TAKEN)
    taken = take_sign (cursor, ':');
  if (taken != TAKEN)
    return taken;
  gboolean is_string = peek (cursor) == '"';
  taken = is_string ? take_string (cursor, &value) : take_bare (cursor, &value);
  return taken != TAKEN || set_member (extent, key, value, is_string) ? taken : WRONG;
}

static Taken
take_object (Cursor *cursor, Extent *extent)
{
  Taken taken = take_sign (cursor, '{');
  while (taken == TAKEN && peek (cursor) != '}') {
    taken = take_member (cursor, extent);
    if (taken == TAKEN && peek (cursor) != '}')
      taken = take_sign (cursor, ',');
  }
  return taken == TAKEN ? take_sign (cursor, '}') : taken;
}

/* Depth is told also of what no layer has. "present" is missing before qemu-img 6.1. */
static gboolean
add_extent (MapParser *parser, const Extent *extent, GError **error)
{
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
  gboolean data = extent->data && (extent->has & OFFSET || !parser->in_place);
  return map_add (parser->map, length, depth, data, extent->zero, error);
}

/* ---- the list -------------------------------------------------------------------------------- */

static gboolean
malformed (GError **error)
{
  return fail (error, FAILED, "qemu-img map: the answer is no list of extents");
}

/* One piece of the list: a sign, or an object. *@error only where an object tells nonsense. */
static Taken
take_piece (MapParser *parser, Cursor *cursor, GError **error)
{
  char next = peek (cursor);
  Extent extent = {0};
  if (cursor->at == cursor->end)
    return SHORT;
  if (parser->where == BEFORE_LIST && next == '[')
    parser->where = IN_LIST;
  else if (parser->where == IN_LIST && next == ']')
    parser->where = AFTER_LIST;
  else if (parser->where == IN_LIST && next == '{') {
    Taken taken = take_object (cursor, &extent);
    return taken != TAKEN || add_extent (parser, &extent, error) ? taken : WRONG;
  } else if (parser->where != IN_LIST || next != ',')
    return WRONG;
  cursor->at++;
  return TAKEN;
}

gboolean
map_parser_feed (MapParser *parser, const char *text, gsize length, GError **error)
{
  GString *rest = parser->rest;
  g_string_append_len (rest, text, (gssize)length);
  Cursor cursor = {rest->str, rest->str + rest->len};
  const char *read = cursor.at;
  GError *wrong = NULL;
  Taken taken;
  while ((taken = take_piece (parser, &cursor, &wrong)) == TAKEN)
    read = cursor.at;
  if (wrong != NULL) {
    g_propagate_error (error, wrong);
    return FALSE;
  }
  g_string_erase (rest, 0, read - rest->str);
  return (taken == SHORT && rest->len <= MAX_OBJECT) || malformed (error);
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
map_image (const MapSource *source, MapImageReady ready, gpointer data)
{
  MapRun *run = g_new0 (MapRun, 1);
  guint to = source->to > 0 ? source->to : source->layers->len;
  Region region = source->region;
  g_autoptr (GPtrArray) layers = g_ptr_array_new ();
  for (guint i = source->from; i < to; i++)
    g_ptr_array_add (layers, source->layers->pdata[i]);
  g_auto (GStrv) argv = image_chain_map_args (layers, region.start, region.length, source->shared);
  ChainLayer *uppermost = layers->pdata[0];
  *run =
      (MapRun){.parser = map_parser_new (layers, uppermost->virtual_size, region, source->in_place),
               .ready = ready,
               .data = data};
  return image_run_streamed ((const char *const *)argv, IMAGE_QUESTION, on_text, on_done, run);
}
