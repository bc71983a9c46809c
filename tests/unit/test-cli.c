/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"

#include "src/cli/config.h"
#include "src/cli/disks.h"
#include "src/cli/options.h"
#include "src/common/error.h"

/* ---- command lines --------------------------------------------------------------------------- */

static gboolean
parse (Args *args, GError **error, const char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", -1);
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  g_ptr_array_add (argv, (gpointer) "rechain");
  for (char **word = words; *word != NULL; word++)
    g_ptr_array_add (argv, (gpointer)g_intern_string (*word));
  g_ptr_array_add (argv, NULL);
  return args_parse (args, (int)argv->len - 1, (char **)argv->pdata, error);
}

static void
options_stand_anywhere (void **state)
{
  g_auto (Args) args = {0};
  assert_true (parse (&args, NULL, "-qo json move --to=/a vm -v vda -nv --bandwidth 5M"));
  assert_int_equal (args.words->len, 3);
  assert_string_equal (args.words->pdata[2], "vda");
  assert_string_equal (args_value (&args, OPT_OUTPUT), "json");
  assert_string_equal (args_value (&args, OPT_TO), "/a");
  assert_string_equal (args_value (&args, OPT_BANDWIDTH), "5M");
  assert_true (args_has (&args, OPT_DRY_RUN) && args_has (&args, OPT_QUIET));
  assert_int_equal (args.counts[OPT_VERBOSE], 2);
}

static void
two_dashes_end_options (void **state)
{
  g_auto (Args) args = {0};
  assert_true (parse (&args, NULL, "chain -- --offline -x -"));
  assert_int_equal (args.words->len, 4);
  assert_false (args_has (&args, OPT_OFFLINE));
}

static void
bad_options_are_named (void **state)
{
  static const struct {
    const char *line, *words;
  } cases[] = {
      {"move --bandwith 1", "'--bandwith'"},
      {"move --bandwidth", "needs a value"},
      {"move --delete=yes", "takes no value"},
      {"move --to=", "is empty"},
      {"move -o", "needs a value"},
      {"move -z", "'-z'"},
      {"move  vda", "is empty"},
      {"move -q\xff", "unknown option"},
      {"move --=x", "unknown option"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_auto (Args) args = {0};
    g_autoptr (GError) error = NULL;
    assert_false (parse (&args, &error, cases[i].line));
    assert_error (error, USAGE, cases[i].words);
  }
}

static void
output_is_known_even_after_an_error (void **state)
{
  g_auto (Args) args = {0};
  g_autoptr (GError) error = NULL;
  assert_false (parse (&args, &error, "move --nonsense --rubbish -o json"));
  assert_error (error, USAGE, "nonsense");
  assert_string_equal (args_value (&args, OPT_OUTPUT), "json");
}

static void
a_slip_finds_its_word (void **state)
{
  static const char *const names[] = {"move", "snapshot", "to", NULL};
  assert_string_equal (nearest_name ("mvoe", names), "move");
  assert_string_equal (nearest_name ("snaphsot", names), "snapshot");
  assert_null (nearest_name ("nope", names));
  assert_null (nearest_name ("", names));
  assert_null (nearest_name ("elephant", names));
}

/* ---- disks ----------------------------------------------------------------------------------- */

static const char *const known[] = {"to", "base", NULL};

static void
a_doubled_comma_is_a_comma (void **state)
{
  g_autoptr (DiskArg) disk = disk_arg_parse ("a,,b,to=/x,,y=z,base=,,", known, NULL);
  assert_string_equal (disk->name, "a,b");
  assert_string_equal (disk_arg_get (disk, "to"), "/x,y=z");
  assert_string_equal (disk_arg_get (disk, "base"), ",");
}

static void
bytes_pass_through (void **state)
{
  g_autoptr (DiskArg) disk = disk_arg_parse ("vda,to=/\xff\n\x01", known, NULL);
  assert_string_equal (disk_arg_get (disk, "to"), "/\xff\n\x01");
}

static void
bad_disks_are_refused (void **state)
{
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"", "names no disk"},      {",to=x", "names no disk"},      {"vda,", "is empty"},
      {"vda,to", "no value"},     {"vda,to=", "no value"},         {"vda,too=x", "'too'"},
      {"vda,to=a,to=b", "twice"}, {"vda,=x", "unknown option ''"}, {"vda,to=a,/b", "'/b'"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (GError) error = NULL;
    assert_null (disk_arg_parse (cases[i].text, known, &error));
    assert_error (error, USAGE, cases[i].words);
  }
}

/* ---- configuration --------------------------------------------------------------------------- */

static Config *
read_config (const char *text, GError **error)
{
  g_autoptr (Config) config = config_new ();
  return config_read (config, "x.conf", text, strlen (text), error) ? g_steal_pointer (&config)
                                                                    : NULL;
}

static void
a_configuration_is_read (void **state)
{
  g_autoptr (Config) config = read_config ("# c\n\n[ vm  web1 ]\r\n qmp = /run/a=b.qmp\n"
                                           "[limits]\nbandwidth=400M\n[storage]\nallow=/a; /b;\n"
                                           "[vm web2]\nqmp=tcp:h:1\n[vm web1]\nagent=unix:/x",
                                           NULL);
  assert_int_equal (config->vms->len, 2);
  assert_string_equal (config_vm (config, "web1")->qmp, "/run/a=b.qmp");
  assert_string_equal (config_vm (config, "web1")->agent, "unix:/x");
  assert_null (config_vm (config, "web3"));
  assert_int_equal (config->bandwidth, 400 << 20);
  assert_string_equal (config->allow[1], "/b");
  assert_null (config->allow[2]);
}

static void
bad_configurations_name_the_line (void **state)
{
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"\n[nonsense]\n", "x.conf:2: unknown group [nonsense]"},
      {"[vm a]\n\nqpm=/x\n", "x.conf:3: unknown key 'qpm'"},
      {"qmp=/x\n", "x.conf:1: key 'qmp' stands before"},
      {"[vm a]\nqmp=relative\n", "x.conf:2: qmp: 'relative'"},
      {"[vm a]\nqmp=\n", "x.conf:2: key 'qmp' has no value"},
      {"[vm]\n", "x.conf:1: a vm needs a name"},
      {"[vm /a]\n", "reads as an address"},
      {"[limits]\nbandwidth=fast\n", "x.conf:2: bandwidth: 'fast' is not a size"},
      {"[storage]\nallow=a\n", "no absolute path"},
      {"[storage\n", "closing bracket"},
      {"[", "closing bracket"},
      {"[]", "unknown group []"},
      {"[limits x]", "unknown group [limits x]"},
      {"[limits]\nwhat\n", "x.conf:2: 'what' is neither"},
      {"[vm \xff]", "is not UTF-8"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (GError) error = NULL;
    assert_null (read_config (cases[i].text, &error));
    assert_error (error, USAGE, cases[i].words);
  }
}

static void
addresses_are_told_from_names (void **state)
{
  assert_true (is_address ("/run/a") && is_address ("./a") && is_address ("unix:a") &&
               is_address ("tcp:h:1"));
  assert_false (is_address ("web1") || is_address ("http:x"));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test (options_stand_anywhere),
      cmocka_unit_test (two_dashes_end_options),
      cmocka_unit_test (bad_options_are_named),
      cmocka_unit_test (output_is_known_even_after_an_error),
      cmocka_unit_test (a_slip_finds_its_word),
      cmocka_unit_test (a_doubled_comma_is_a_comma),
      cmocka_unit_test (bytes_pass_through),
      cmocka_unit_test (bad_disks_are_refused),
      cmocka_unit_test (a_configuration_is_read),
      cmocka_unit_test (bad_configurations_name_the_line),
      cmocka_unit_test (addresses_are_told_from_names),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
