/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmocka in the order it wants its headers, and what every test needs on top. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

/* The name is taken by us (src/common/error.h); a test says fail_test. */
#undef fail
#undef fail_msg
#define fail_test(...) (print_error (__VA_ARGS__), print_error ("\n"), _fail (__FILE__, __LINE__))

/* The error is set, has @code, and its message contains @words. */
#define assert_error(error, expected_code, words)                                                  \
  do {                                                                                             \
    assert_non_null (error);                                                                       \
    assert_int_equal ((error)->code, expected_code);                                               \
    if (strstr ((error)->message, words) == NULL)                                                  \
      fail_test ("'%s' does not say '%s'", (error)->message, words);                                \
  } while (0)
