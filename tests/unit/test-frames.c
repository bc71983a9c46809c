/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/ciphers.h"
#include "src/remote/far.h"
#include "src/remote/frames.h"
#include "src/remote/protocol.h"

#include "src/common/error.h"
#include "tests/unit/unit.h"

#include <string.h>

/* ---- a stream -------------------------------------------------------------------------------- */

static void
add_data (GByteArray *stream, FrameSums *sums, guint64 offset, const char *text)
{
  guint8 head[FRAME_HEAD];
  Frame frame = {.kind = FRAME_DATA, .length = (guint32)strlen (text), .offset = offset};
  frame_write (sums, &frame, text, head);
  g_byte_array_append (stream, head, sizeof head);
  g_byte_array_append (stream, (const guint8 *)text, frame.length);
}

static void
add_end (GByteArray *stream, FrameSums *sums, guint64 size)
{
  guint8 bytes[FRAME_HEAD + FRAME_DIGEST];
  g_byte_array_append (stream, bytes, (guint)frame_write_end (sums, size, bytes));
}

/* "one" at 0 and "three" at 100 of 200 bytes. */
static GByteArray *
small_stream (void)
{
  GByteArray *stream = g_byte_array_new ();
  FrameSums *sums = frame_sums_new ();
  add_data (stream, sums, 0, "one");
  add_data (stream, sums, 100, "three");
  add_end (stream, sums, 200);
  frame_sums_free (sums);
  return stream;
}

typedef struct {
  char bytes[256];
  gboolean ended;
  GError *error;
} Got;

/* Reads @piece bytes at a time. */
static Got
read_stream (const GByteArray *stream, gsize piece, guint64 from, guint64 size)
{
  Got got = {0};
  FrameReader *reader = frame_reader_new (from, size);
  for (gsize at = 0; at < stream->len && !got.ended && got.error == NULL;) {
    gsize wanted;
    guint8 *room = frame_reader_room (reader, &wanted);
    gsize n = MIN (MIN (wanted, piece), stream->len - at);
    gboolean whole = FALSE;
    Frame frame;
    const guint8 *payload;
    memcpy (room, stream->data + at, n);
    at += n;
    if (!frame_reader_take (reader, n, &whole, &frame, &payload, &got.error) || !whole)
      continue;
    got.ended = frame.kind == FRAME_END;
    if (!got.ended)
      memcpy (got.bytes + frame.offset, payload, frame.length);
  }
  frame_reader_free (reader);
  return got;
}

static void
what_is_sent_arrives_in_pieces_of_any_size (void **state)
{
  g_autoptr (GByteArray) stream = small_stream ();
  for (gsize piece = 1; piece < 80; piece++) {
    Got got = read_stream (stream, piece, 0, 200);
    assert_null (got.error);
    assert_true (got.ended);
    assert_memory_equal (got.bytes, "one", 4);
    assert_memory_equal (got.bytes + 100, "three", 6);
  }
}

static void
every_flipped_bit_is_noticed (void **state)
{
  g_autoptr (GByteArray) stream = small_stream ();
  for (guint bit = 0; bit < stream->len * 8; bit++) {
    stream->data[bit / 8] ^= (guint8)(1u << bit % 8);
    Got got = read_stream (stream, 64, 0, 200);
    assert_true (got.error != NULL || !got.ended);
    g_clear_error (&got.error);
    stream->data[bit / 8] ^= (guint8)(1u << bit % 8);
  }
}

static void
a_frame_that_is_missing_is_missed (void **state)
{
  g_autoptr (GByteArray) stream = small_stream ();
  g_byte_array_remove_range (stream, 0, FRAME_HEAD + 3);
  Got got = read_stream (stream, 64, 0, 200);
  assert_non_null (got.error);
  assert_int_equal (got.error->code, UNREACHABLE);
  g_clear_error (&got.error);
}

static void
places_only_grow_and_end_with_the_volume (void **state)
{
  const struct {
    guint64 first, second, size;
  } cases[] = {
      {10, 5, 200}, {10, 10, 200}, {0, 198, 200}, {0, 300, 200}, {0, G_MAXUINT64 - 2, 200}};
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (GByteArray) stream = g_byte_array_new ();
    FrameSums *sums = frame_sums_new ();
    add_data (stream, sums, cases[i].first, "one");
    add_data (stream, sums, cases[i].second, "two");
    add_end (stream, sums, cases[i].size);
    frame_sums_free (sums);
    Got got = read_stream (stream, 64, 0, cases[i].size);
    assert_non_null (got.error);
    g_clear_error (&got.error);
  }
  g_autoptr (GByteArray) stream = small_stream ();
  Got got = read_stream (stream, 64, 0, 100);
  assert_non_null (got.error);
  g_clear_error (&got.error);
}

static void
a_sender_that_gives_up_says_why (void **state)
{
  g_autoptr (GByteArray) stream = g_byte_array_new ();
  FrameSums *sums = frame_sums_new ();
  guint8 head[FRAME_HEAD];
  Frame frame = {.kind = FRAME_ABORT, .length = 4};
  frame_write (sums, &frame, "disk", head);
  g_byte_array_append (stream, head, sizeof head);
  g_byte_array_append (stream, (const guint8 *)"disk", 4);
  frame_sums_free (sums);
  Got got = read_stream (stream, 64, 0, 200);
  assert_int_equal (got.error->code, FAILED);
  assert_string_equal (rechain_error_get_cause (got.error), "disk");
  g_clear_error (&got.error);
}

/* ---- names and pieces ------------------------------------------------------------------------ */

static void
names_that_ssh_could_take_for_more_are_refused (void **state)
{
  const char *const bad[] = {"",         "-x",   "-oProxyCommand=x",
                             "u@-x",     "-u@h", "@h",
                             "u@",       "a b",  "a;b",
                             "a$b",      "a`b",  "a\nb",
                             "a/b",      "a'b",  "a\"b",
                             "\xc3\xbc", "a&b",  "a|b",
                             "a(b)",     "a=b",  NULL};
  const char *const good[] = {"h",        "u@h",     "10.0.0.1", "[::1]", "fe80::1%eth0",
                              "DOM\\u@h", "a-b_c.d", NULL};
  for (gsize i = 0; bad[i] != NULL; i++) {
    g_autoptr (GError) error = NULL;
    assert_null (far_new (bad[i], NULL, NULL, &error));
    assert_int_equal (error->code, USAGE);
    g_autoptr (GError) other = NULL;
    assert_null (far_new ("name", bad[i], NULL, &other));
  }
  for (gsize i = 0; good[i] != NULL; i++) {
    g_autoptr (Far) far = far_new (good[i], NULL, NULL, NULL);
    assert_non_null (far);
    g_auto (GStrv) argv = far_command (far);
    guint n = g_strv_length (argv);
    assert_string_equal (argv[n - 4], "--");
    assert_string_equal (argv[n - 3], good[i]);
    assert_string_equal (argv[n - 2], "rechain");
    assert_string_equal (argv[n - 1], "--stdio");
  }
}

#define USUAL                                                                                      \
  "chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com,aes128-gcm@openssh.com"

/* ssh itself judges what the configuration says. */
static void
ciphers_change_their_order_where_nobody_chose_one (void **state)
{
  const struct {
    const char *configuration, *standard, *list;
  } cases[] = {
      {"host b\nciphers " USUAL "\nmacs x", "ciphers " USUAL "\n",
       "aes256-gcm@openssh.com,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"},
      {"ciphers aes128-ctr,aes256-gcm@openssh.com\n", "ciphers " USUAL "\n", NULL},
      {"ciphers aes256-gcm@openssh.com,aes256-ctr\n", "ciphers aes256-gcm@openssh.com,aes256-ctr",
       NULL},
      {"ciphers aes128-ctr", "ciphers aes128-ctr", NULL},
      {"ciphers \nhost b\n", "ciphers \n", NULL},
      {"host ciphers\nciphersuites aes128-gcm@openssh.com\n", "", NULL},
      {"ciphers " USUAL, "", NULL},
      {"", "", NULL},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *list = ciphers_of (cases[i].configuration, cases[i].standard);
    assert_int_equal (list != NULL, cases[i].list != NULL);
    if (list != NULL)
      assert_string_equal (list, cases[i].list);
  }
}

static void
ciphers_are_told_to_ssh_before_the_host (void **state)
{
  g_autoptr (Far) far = far_new ("b", NULL, NULL, NULL);
  far->ciphers = g_strdup ("one,two");
  g_autoptr (Far) copy = far_copy (far);
  g_auto (GStrv) argv = far_command (copy);
  guint n = g_strv_length (argv);
  assert_string_equal (argv[n - 6], "-o");
  assert_string_equal (argv[n - 5], "Ciphers=one,two");
  assert_string_equal (argv[n - 4], "--");
}

static void
a_text_is_cut_between_characters (void **state)
{
  g_autoptr (GString) text = g_string_new ("x");
  while (text->len < 3 * REMOTE_PIECE)
    g_string_append (text, "\xe2\x82\xac");
  gsize sum = 0;
  for (const char *rest = text->str; *rest != 0;) {
    const char *stop = remote_piece (rest);
    assert_true (stop > rest && (gsize)(stop - rest) <= REMOTE_PIECE);
    assert_true (g_utf8_validate (rest, stop - rest, NULL));
    sum += (gsize)(stop - rest);
    rest = stop;
  }
  assert_int_equal (sum, text->len);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (what_is_sent_arrives_in_pieces_of_any_size),
      cmocka_unit_test (every_flipped_bit_is_noticed),
      cmocka_unit_test (a_frame_that_is_missing_is_missed),
      cmocka_unit_test (places_only_grow_and_end_with_the_volume),
      cmocka_unit_test (a_sender_that_gives_up_says_why),
      cmocka_unit_test (names_that_ssh_could_take_for_more_are_refused),
      cmocka_unit_test (ciphers_change_their_order_where_nobody_chose_one),
      cmocka_unit_test (ciphers_are_told_to_ssh_before_the_host),
      cmocka_unit_test (a_text_is_cut_between_characters),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
