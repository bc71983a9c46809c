/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one error domain of rechain. Installed as <rechain/rechain-error.h>; the library sees both, and clang takes a
 * header and its copy for two. */
#ifndef RECHAIN_ERROR_H
#define RECHAIN_ERROR_H

#include <glib-object.h>

G_BEGIN_DECLS

/**
 * RECHAIN_ERROR:
 *
 * The error domain of every error that rechain reports; its codes are [enum@Rechain.Error].
 */
#define RECHAIN_ERROR (rechain_error_quark ())

/**
 * RechainError:
 * @RECHAIN_ERROR_FAILED: failed before anything was changed
 * @RECHAIN_ERROR_USAGE: malformed request, option, document or configuration
 * @RECHAIN_ERROR_NOT_FOUND: no such VM, disk, layer, snapshot, job, operation or volume
 * @RECHAIN_ERROR_REFUSED: a precondition does not hold: busy, in use, chain changed
 * @RECHAIN_ERROR_PERMISSION: not permitted: file, socket, allow-list
 * @RECHAIN_ERROR_UNREACHABLE: monitor, agent or host cannot be reached
 * @RECHAIN_ERROR_UNDONE: failed midway and undone: everything is as before
 * @RECHAIN_ERROR_STUCK: failed midway and not undone; `rechain recover` can be run again
 * @RECHAIN_ERROR_TIMEOUT: timed out while waiting; the job goes on
 * @RECHAIN_ERROR_NO: the answer to a yes/no question is no
 * @RECHAIN_ERROR_INTERRUPTED: interrupted by the user before anything was changed
 *
 * What the caller can do about it. The values 1 to 10 are also the exit codes of the command line
 * (interrupted exits with 130).
 */
typedef enum {
  RECHAIN_ERROR_FAILED = 1,
  RECHAIN_ERROR_USAGE,
  RECHAIN_ERROR_NOT_FOUND,
  RECHAIN_ERROR_REFUSED,
  RECHAIN_ERROR_PERMISSION,
  RECHAIN_ERROR_UNREACHABLE,
  RECHAIN_ERROR_UNDONE,
  RECHAIN_ERROR_STUCK,
  RECHAIN_ERROR_TIMEOUT,
  RECHAIN_ERROR_NO,
  RECHAIN_ERROR_INTERRUPTED,
} RechainError;

/**
 * rechain_error_quark:
 *
 * Returns: the quark of [error@Rechain.Error]
 */
__attribute__ ((visibility ("default"))) GQuark rechain_error_quark (void);

/**
 * rechain_error_get_cause:
 * @error: an error
 *
 * Returns: (nullable) (transfer none): the words of the program that failed (QEMU, qemu-img, the
 *   kernel), verbatim, or %NULL where there are none
 */
__attribute__ ((visibility ("default"))) const char *rechain_error_get_cause (const GError *error);

/**
 * rechain_error_get_hint:
 * @error: an error
 *
 * Returns: (nullable) (transfer none): what the user can do about it, or %NULL
 */
__attribute__ ((visibility ("default"))) const char *rechain_error_get_hint (const GError *error);

/**
 * rechain_error_get_operation:
 * @error: an error
 *
 * Returns: (nullable) (transfer none): the id of the operation that the error belongs to, or %NULL
 */
__attribute__ ((visibility ("default"))) const char *
rechain_error_get_operation (const GError *error);

/**
 * rechain_error_code_name:
 * @code: an error code
 *
 * Returns: (transfer none): the name of @code in JSON documents, for instance "refused"
 */
__attribute__ ((visibility ("default"))) const char *rechain_error_code_name (RechainError code);

G_END_DECLS

#endif
