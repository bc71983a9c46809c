/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Setting errors in one statement: `return fail (error, CODE, "...")`, `return prefix (error, ...)`.
 *
 * A message reads from intent to cause; each level adds one phrase. The words of another program go
 * into the cause, advice goes into the hint, so that the three lines a user sees are kept apart. */
#pragma once

#include "src/common/rechain-error.h"

/* Short names inside; RECHAIN_ERROR_ outside. */
#define FAILED      RECHAIN_ERROR_FAILED
#define USAGE       RECHAIN_ERROR_USAGE
#define NOT_FOUND   RECHAIN_ERROR_NOT_FOUND
#define REFUSED     RECHAIN_ERROR_REFUSED
#define PERMISSION  RECHAIN_ERROR_PERMISSION
#define UNREACHABLE RECHAIN_ERROR_UNREACHABLE
#define UNDONE      RECHAIN_ERROR_UNDONE
#define STUCK       RECHAIN_ERROR_STUCK
#define TIMED_OUT   RECHAIN_ERROR_TIMEOUT
#define SAID_NO     RECHAIN_ERROR_NO
#define INTERRUPTED RECHAIN_ERROR_INTERRUPTED

/* Sets @error; always returns FALSE. */
gboolean fail (GError **error, RechainError code, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* Sets @error from errno value @errnum: EACCES and EPERM become PERMISSION, ENOENT NOT_FOUND, the
 * rest FAILED; strerror becomes the cause. Always returns FALSE. */
gboolean fail_errno (GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* Puts "PHRASE: " before the message of @error, if set; always returns FALSE. */
gboolean prefix (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* Attach to an error that is set (@error may be NULL or point to NULL: nothing happens).
 * Each returns FALSE, so that it can end a function. The first cause set wins: it is the deepest. */
gboolean because (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);
gboolean hint (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);
gboolean of_operation (GError **error, const char *operation);
/* Replaces the code, keeping message, cause and hint. */
gboolean recode (GError **error, RechainError code);
