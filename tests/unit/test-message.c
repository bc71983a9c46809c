/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "qmp/message.h"
#include "src/common/error.h"

static void
messages_are_told_apart (void **state)
{
  static const struct {
    const char *text;
    QmpMessageKind kind;
  } rows[] = {
      {"{\"QMP\": {}}", MESSAGE_GREETING},
      {"{\"return\": {}, \"id\": 1}", MESSAGE_RETURN},
      {"{\"return\": []}", MESSAGE_RETURN},
      {"{\"error\": {\"class\": \"X\", \"desc\": \"y\"}}", MESSAGE_ERROR},
      {"{\"error\": {\"desc\": \"y\"}}", MESSAGE_ERROR},
      {"{\"event\": \"STOP\"}", MESSAGE_EVENT},
      {"{}", MESSAGE_MALFORMED},
      {"{\"execute\": \"stop\"}", MESSAGE_MALFORMED},
      {"{\"return\": {}, \"error\": {\"desc\": \"y\"}}", MESSAGE_MALFORMED},
      {"{\"return\": null}", MESSAGE_MALFORMED},
      {"{\"error\": \"y\"}", MESSAGE_MALFORMED},
      {"{\"error\": {\"class\": \"X\"}}", MESSAGE_MALFORMED},
      {"{\"error\": {\"desc\": 7}}", MESSAGE_MALFORMED},
      {"{\"event\": {}}", MESSAGE_MALFORMED},
      {"{\"event\": \"A\\u0000B\"}", MESSAGE_MALFORMED},
      {"{\"QMP\": 3}", MESSAGE_MALFORMED},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (Json) json = json_parse (rows[i].text, -1);
    QmpMessage message = qmp_message_read (json);
    if (message.kind != rows[i].kind)
      fail_test ("%s is of kind %d", rows[i].text, (int)message.kind);
    assert_int_equal (message.reason != NULL, message.kind == MESSAGE_MALFORMED);
  }
}

static void
a_command_has_only_the_members_it_needs (void **state)
{
  g_autoptr (Json) plain = qmp_message_command ("stop", NULL, NULL);
  g_autoptr (Json) full =
      qmp_message_command ("a", json_make ("b", json_int (1), NULL), json_int (7));
  assert_string_equal (json_object_to_json_string_ext (plain, 0), "{\"execute\":\"stop\"}");
  assert_string_equal (json_object_to_json_string_ext (full, 0),
                       "{\"execute\":\"a\",\"arguments\":{\"b\":1},\"id\":7}");
}

static void
a_refusal_names_the_command_and_keeps_the_words_of_qemu_as_cause (void **state)
{
  static const struct {
    const char *class;
    RechainError code;
  } rows[] = {{"GenericError", FAILED},       {"DeviceNotFound", NOT_FOUND},
              {"DeviceNotActive", NOT_FOUND}, {"CommandNotFound", REFUSED},
              {"KVMMissingCap", FAILED},      {"", FAILED}};
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (Json) json = qmp_message_error (rows[i].class, "Node 'x' is 100% busy", NULL);
    QmpMessage message = qmp_message_read (json);
    assert_false (qmp_message_fail (&message, "block-stream", &error));
    assert_string_equal (error->message, "block-stream");
    assert_int_equal (error->code, rows[i].code);
    assert_string_equal (rechain_error_get_cause (error), "Node 'x' is 100% busy");
  }
}

static void
the_words_of_a_hostile_qemu_are_shortened_between_characters (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) text = g_string_new ("x");
  while (text->len < 20000)
    g_string_append (text, "\xc3\xa4");
  g_autoptr (Json) json = qmp_message_error ("GenericError", text->str, NULL);
  QmpMessage message = qmp_message_read (json);
  qmp_message_fail (&message, "stop", &error);
  const char *cause = rechain_error_get_cause (error);
  assert_true (strlen (cause) < 5000 && g_str_has_suffix (cause, "..."));
  assert_true (g_utf8_validate (cause, -1, NULL));
}

static void
the_log_shows_no_secrets_and_no_novels (void **state)
{
  g_autoptr (GString) text = g_string_new (NULL);
  while (text->len < 5000)
    g_string_append (text, "0123456789");
  g_autoptr (Json) secret =
      qmp_message_command ("set_password", json_make ("password", json_str ("geheim"), NULL), NULL);
  g_autoptr (Json) novel =
      qmp_message_command ("a", json_make ("b", json_str (text->str), NULL), NULL);
  g_autofree char *secret_line = qmp_message_for_log (secret);
  g_autofree char *novel_line = qmp_message_for_log (novel);
  assert_null (strstr (secret_line, "geheim"));
  assert_true (strlen (novel_line) <= 503);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (messages_are_told_apart),
      cmocka_unit_test (a_command_has_only_the_members_it_needs),
      cmocka_unit_test (a_refusal_names_the_command_and_keeps_the_words_of_qemu_as_cause),
      cmocka_unit_test (the_words_of_a_hostile_qemu_are_shortened_between_characters),
      cmocka_unit_test (the_log_shows_no_secrets_and_no_novels),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
