/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Somebody who waits for replies to QMP commands, and for the end of a client. */
#pragma once

#include "tests/unit/unit.h"

#include "qmp/client.h"
#include "src/common/error.h"
#include "tests/unit/fake-qemu.h"

/* A waiter that remembers what it was told. */
typedef struct {
  int answers;
  char *ret;
  GError *error;
  GString *order; /* nullable; gets ->name */
  const char *name;
} Answer;

static inline void
on_reply (QmpClient *client, Json *ret, const GError *error, gpointer data)
{
  Answer *answer = data;
  assert_true ((ret == NULL) != (error == NULL));
  answer->answers++;
  if (ret != NULL)
    answer->ret = json_line (ret);
  if (error != NULL)
    answer->error = g_error_copy (error);
  if (answer->order != NULL)
    g_string_append (answer->order, answer->name);
}

static inline void
answer_clear (Answer *answer)
{
  g_free (answer->ret);
  g_clear_error (&answer->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Answer, answer_clear)

static inline void
assert_ends (QmpClient *client, const char *words)
{
  until (qmp_client_get_state (client) == QMP_CLOSED);
  assert_error (qmp_client_get_error (client), UNREACHABLE, words);
}
