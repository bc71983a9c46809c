/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hostile client can say to `rechain --stdio`. Every command that gets through is answered,
 * with some words; checked: it ends, and a command is never anything but a list of words. */
#include <rechain/rechain.h>

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const char hello[] = "{\"execute\":\"hello\",\"arguments\":{\"protocol\":2},\"id\":1}\n";
  int fds[2];
  if (size == 0 || size > 60000 || socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return 0;
  if ((data[0] & 1) && write (fds[1], hello, strlen (hello)) < 0)
    abort ();
  if (write (fds[1], data + 1, size - 1) < 0)
    abort ();
  shutdown (fds[1], SHUT_WR);
  g_autoptr (RechainServer) server = rechain_server_new (fds[0], fds[0], NULL);
  for (;;) {
    g_autoptr (GError) error = NULL;
    g_auto (GStrv) words = rechain_server_next (server, &error);
    if (words == NULL)
      break;
    for (char **word = words; *word != NULL; word++)
      rechain_server_tell (server, "print", *word);
    rechain_server_get_document (server, "--xml");
    rechain_server_reply (server, 0, NULL);
  }
  g_clear_object (&server);
  close (fds[0]);
  close (fds[1]);
  return 0;
}
