/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Undoing an operation that is done: another operation, which leads back. */
#pragma once

#include "jobs/request.h"

/* Full. What leads back from @op, to be planned against the VM as it is then; REFUSED with the reason
 * where nothing does. */
Request *request_to_undo (Op *op, GError **error);
