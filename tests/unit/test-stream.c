/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "qmp/parser.h"
#include "qmp/stream.h"
#include "src/common/error.h"
#include "tests/unit/fake-qemu.h"

#define MiB (1u << 20)

/* Feeds @text in pieces of @piece bytes; returns the number of messages, or -1 and @error. */
static int
feed (const char *text, gsize length, gsize piece, gsize max, GError **error)
{
  g_autoptr (QmpParser) parser = qmp_parser_new (max);
  int messages = 0;
  for (gsize at = 0; at < length;) {
    g_autoptr (Json) message = NULL;
    gsize used;
    if (!qmp_parser_feed (parser, text + at, MIN (piece, length - at), &used, &message, error))
      return -1;
    assert_true (used > 0 && used <= piece);
    at += used;
    messages += message != NULL;
  }
  return messages;
}

static void
messages_are_the_same_in_pieces_of_any_size (void **state)
{
  static const char text[] =
      " \r\n{\"a\": \"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 }{ \\\" \\u00e4 \\ud83d\\ude00\", "
      "\"b\": [-1.5e+3, true, null, {}]}{\"c\":{}}\n\n\t{}";
  for (gsize piece = 1; piece <= sizeof text; piece++)
    assert_int_equal (feed (text, sizeof text - 1, piece, 1000, NULL), 3);
}

static void
what_is_no_json_object_is_refused_with_a_reason (void **state)
{
  static const struct {
    const char *text;
    gsize length;
    const char *words;
  } rows[] = {
      {"[1]", 3, "not a JSON object"},
      {"7", 1, "not a JSON object"},
      {"QEMU 7.2 monitor", 16, "not a JSON object"},
      {"\0", 1, "not a JSON object"},
      {"{\"a\":\"\0\"}", 9, "NUL"},
      {"{\0}", 3, "NUL"},
      {"{\"a\":\"\xff\"}", 9, "UTF-8"},
      {"{\"a\":\"\xc3(\"}", 10, "UTF-8"},
      {"{\"a\":\"\xed\xa0\x80\"}", 11, "UTF-8"},
      {"{\"a\":\"\xc0\x80\"}", 10, "UTF-8"},
      {"{\"a\":\"\xf4\x90\x80\x80\"}", 12, "UTF-8"},
      {"{\"a\":\"\n\"}", 9, "control character"},
      {"{\xc3\xa4}", 4, "not JSON"},
      {"{nonsense", 9, "not JSON"},
      {"{'a': 1}", 8, "not JSON"},
      {"{\"a\":1]", 7, "not JSON"},
      {"{\"a\" 1}", 7, "not JSON"},
      {"{} }", 4, "not a JSON object"},
      {"{/**/}", 6, "not JSON"},
      {"{\"a\":nan}", 9, "not JSON"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    for (gsize piece = 1; piece <= rows[i].length; piece++) {
      g_autoptr (GError) error = NULL;
      if (feed (rows[i].text, rows[i].length, piece, 1000, &error) != -1)
        fail_test ("row %zu was accepted in pieces of %zu", i, piece);
      assert_error (error, UNREACHABLE, rows[i].words);
    }
}

static int
feed_nested (int levels, GError **error)
{
  g_autoptr (GString) text = g_string_new ("{\"a\":");
  for (int i = 1; i < levels; i++)
    g_string_append_c (text, '[');
  g_string_append_c (text, '7');
  for (int i = 1; i < levels; i++)
    g_string_append_c (text, ']');
  g_string_append_c (text, '}');
  return feed (text->str, text->len, 100, MiB, error);
}

static void
messages_may_be_1024_levels_deep_and_no_deeper (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_int_equal (feed_nested (1024, NULL), 1);
  assert_int_equal (feed_nested (1025, &error), -1);
  assert_error (error, UNREACHABLE, "too deep");
}

static void
a_message_may_be_as_long_as_the_limit_and_no_longer (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_int_equal (feed ("{\"a\":1}", 7, 3, 7, NULL), 1);
  assert_int_equal (feed ("{\"a\":12}", 8, 3, 7, &error), -1);
  assert_error (error, UNREACHABLE, "too long");
}

static void
endless_white_space_costs_nothing (void **state)
{
  g_autofree char *space = g_malloc (MiB);
  memset (space, '\n', MiB);
  assert_int_equal (feed (space, MiB, 4096, 16, NULL), 0);
}

/* Two bytes of text can become 800 of memory. */
static void
a_message_that_would_eat_the_memory_is_refused (void **state)
{
  static const struct {
    const char *unit;
    const char *words;
  } rows[] = {{"{},", "objects"}, {"[],", "objects"}, {"1,", "members"}, {"9", "number"}};
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (GString) text = g_string_new ("{\"a\":[");
    while (text->len < 16 * MiB)
      g_string_append (text, rows[i].unit);
    assert_int_equal (feed (text->str, text->len, 65536, 64 * MiB, &error), -1);
    assert_error (error, UNREACHABLE, rows[i].words);
  }
}

static void
sixty_four_megabytes_in_small_pieces_take_linear_time (void **state)
{
  gsize length = 64 * MiB;
  g_autofree char *text = g_malloc (length);
  memset (text, 'x', length);
  memcpy (text, "{\"a\":\"", 6);
  memcpy (text + length - 2, "\"}", 2);
  gint64 start = g_get_monotonic_time ();
  assert_int_equal (feed (text, length, 512, length, NULL), 1);
  assert_true (g_get_monotonic_time () - start < 20 * G_USEC_PER_SEC);
}

/* ---- the stream ------------------------------------------------------------------------------ */

typedef struct {
  QmpStream *stream;
  int messages;
  char *end;
  gboolean free_at_message;
  gboolean iterate;
  int depth;
  int deepest;
} Owner;

static void
on_message (QmpStream *stream, Json *message, gpointer data)
{
  Owner *owner = data;
  owner->messages++;
  owner->deepest = MAX (owner->deepest, ++owner->depth);
  if (owner->free_at_message)
    g_clear_pointer (&owner->stream, qmp_stream_free);
  for (int i = 0; owner->iterate && i < 5; i++)
    g_main_context_iteration (NULL, FALSE);
  owner->depth--;
}

static void
on_ended (QmpStream *stream, const GError *error, gpointer data)
{
  Owner *owner = data;
  assert_null (owner->end);
  owner->end = g_strdup (error->message);
}

static const QmpStreamOwner callbacks = {.message = on_message, .ended = on_ended};

static Owner *
owner_new (FakeQemu *qemu, gsize max_queued)
{
  Owner *owner = g_new0 (Owner, 1);
  owner->stream = qmp_stream_new (fake_qemu_connection (qemu), g_main_context_default (), 65536,
                                  max_queued, &callbacks, owner);
  return owner;
}

static void
owner_free (Owner *owner)
{
  qmp_stream_free (owner->stream);
  g_free (owner->end);
  g_free (owner);
}

static void
several_messages_in_one_read_come_one_by_one_and_then_the_end (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  Owner *owner = owner_new (q, MiB);
  qemu_says (q, "{}{\"a\":1} {}");
  qemu_closes (q);
  assert_int_equal (owner->messages, 0);
  until (owner->end);
  assert_int_equal (owner->messages, 3);
  assert_string_equal (owner->end, "closed the connection");
  owner_free (owner);
  fake_qemu_free (q);
}

static void
the_owner_may_free_the_stream_in_its_callback (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  Owner *owner = owner_new (q, MiB);
  owner->free_at_message = TRUE;
  qemu_says (q, "{}{}{}");
  until (owner->messages == 1);
  fake_qemu_settle ();
  assert_int_equal (owner->messages, 1);
  assert_null (owner->end);
  owner_free (owner);
  fake_qemu_free (q);
}

static void
the_owner_may_iterate_the_main_context_in_its_callback (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  Owner *owner = owner_new (q, MiB);
  owner->iterate = TRUE;
  qemu_says (q, "{}{}{}");
  until (owner->messages == 3);
  assert_true (owner->deepest > 1);
  owner_free (owner);
  fake_qemu_free (q);
}

static void
bad_input_ends_the_stream_after_the_good_before_it (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  Owner *owner = owner_new (q, MiB);
  qemu_says (q, "{}\n{}\nrubbish{}");
  until (owner->end);
  assert_int_equal (owner->messages, 2);
  assert_non_null (strstr (owner->end, "not a JSON object"));
  owner_free (owner);
  fake_qemu_free (q);
}

static void
an_end_in_the_middle_is_called_so (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  Owner *owner = owner_new (q, MiB);
  qemu_says (q, "{\"a\":");
  qemu_closes (q);
  until (owner->end);
  assert_string_equal (owner->end, "closed the connection in the middle of a message");
  owner_free (owner);
  fake_qemu_free (q);
}

static void
a_peer_that_does_not_read_is_noticed_at_the_limit (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  qemu_stops_reading (q);
  Owner *owner = owner_new (q, MiB);
  g_autoptr (GError) error = NULL;
  g_autofree char *text = g_strnfill (100000, 'x');
  g_autoptr (Json) message = json_make ("a", json_str (text), NULL);
  int sent = 0;
  while (qmp_stream_send (owner->stream, message, &error) && sent++ < 1000)
    g_main_context_iteration (NULL, FALSE);
  assert_error (error, UNREACHABLE, "does not read");
  assert_true (sent >= 10 && sent < 100);
  owner_free (owner);
  fake_qemu_free (q);
}

static void
what_the_peer_said_before_it_went_is_read_though_writing_fails (void **state)
{
  FakeQemu *q = fake_qemu_new ();
  Owner *owner = owner_new (q, MiB);
  g_autoptr (Json) message = json_make ("execute", json_str ("quit"), NULL);
  qemu_says (q, "{}{}");
  qemu_closes (q);
  while (!qemu_is_done (q) || g_main_context_iteration (NULL, FALSE))
    g_main_context_iteration (NULL, FALSE);
  qmp_stream_send (owner->stream, message, NULL);
  until (owner->end);
  assert_int_equal (owner->messages, 2);
  owner_free (owner);
  fake_qemu_free (q);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (messages_are_the_same_in_pieces_of_any_size),
      cmocka_unit_test (what_is_no_json_object_is_refused_with_a_reason),
      cmocka_unit_test (messages_may_be_1024_levels_deep_and_no_deeper),
      cmocka_unit_test (a_message_may_be_as_long_as_the_limit_and_no_longer),
      cmocka_unit_test (endless_white_space_costs_nothing),
      cmocka_unit_test (a_message_that_would_eat_the_memory_is_refused),
      cmocka_unit_test (sixty_four_megabytes_in_small_pieces_take_linear_time),
      cmocka_unit_test (several_messages_in_one_read_come_one_by_one_and_then_the_end),
      cmocka_unit_test (the_owner_may_free_the_stream_in_its_callback),
      cmocka_unit_test (the_owner_may_iterate_the_main_context_in_its_callback),
      cmocka_unit_test (bad_input_ends_the_stream_after_the_good_before_it),
      cmocka_unit_test (an_end_in_the_middle_is_called_so),
      cmocka_unit_test (a_peer_that_does_not_read_is_noticed_at_the_limit),
      cmocka_unit_test (what_the_peer_said_before_it_went_is_read_though_writing_fails),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
