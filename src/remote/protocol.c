/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "src/remote/protocol.h"

#include <glib.h>
#include <string.h>

const char *
remote_piece (const char *text)
{
  gsize length = strnlen (text, REMOTE_PIECE + 1);
  return length <= REMOTE_PIECE ? text + length : g_utf8_find_prev_char (text, text + REMOTE_PIECE);
}
