/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands on other hosts, both ends of a session. */
#pragma once

#include <rechain/rechain-values.h>

G_BEGIN_DECLS

#define RECHAIN_TYPE_HOST (rechain_host_get_type ())
/**
 * RechainHost:
 *
 * Another host, on which commands of rechain are run through `ssh HOST rechain --stdio`: one session, begun
 * with the first command. What the command line there would do is done there, with the configuration and the
 * journal of that host.
 *
 * Signals: "note" and "say" (a line for people), "print" (a piece of what rechain_host_get_output() has),
 * "progress" (an object as rechain_operation_progress_to_json() makes it).
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainHost, rechain_host, RECHAIN, HOST, GObject)

/**
 * rechain_host_new:
 * @name: what it is called in messages
 * @address: (nullable): [USER@]HOST for ssh; %NULL: @name
 * @ssh_config: (nullable): configuration file for ssh (ssh -F)
 * @error: return location: %RECHAIN_ERROR_USAGE for what is no name of a host
 *
 * Returns: (transfer full): the host, not connected yet
 */
RECHAIN_API RechainHost *rechain_host_new (const char *name, const char *address,
                                           const char *ssh_config, GError **error);
/**
 * rechain_host_get_name:
 * @host: a host
 *
 * Returns: (transfer none): what it is called
 */
RECHAIN_API const char *rechain_host_get_name (RechainHost *host);
/**
 * rechain_host_set_document:
 * @host: a host
 * @option: "--xml" or "--regions"
 * @text: (nullable): UTF-8 contents of the file that the option names in the next command; %NULL: none
 */
RECHAIN_API void rechain_host_set_document (RechainHost *host, const char *option, const char *text);
/**
 * rechain_host_run_async:
 * @host: a host
 * @argv: (array zero-terminated=1): command, options and arguments, as on the command line
 * @cancellable: (nullable): cancelling it abandons the session; what runs there is cancelled and undone there
 * @callback: called when the command ended
 * @user_data: data of @callback
 *
 * Runs one command; one at a time.
 */
RECHAIN_API void rechain_host_run_async (RechainHost *host, const char *const *argv,
                                         GCancellable *cancellable, GAsyncReadyCallback callback,
                                         gpointer user_data);
/**
 * rechain_host_run_finish:
 * @host: a host
 * @result: the result
 * @error: return location: what the command failed with there; %RECHAIN_ERROR_UNREACHABLE where the host
 *   cannot be reached or the connection was lost before anything began, %RECHAIN_ERROR_STUCK where it was lost
 *   in the middle of an operation
 *
 * Returns: the exit code of the command, -1 with @error
 */
RECHAIN_API int rechain_host_run_finish (RechainHost *host, GAsyncResult *result, GError **error);
/**
 * rechain_host_run:
 * @host: a host
 * @argv: (array zero-terminated=1): command, options and arguments, as on the command line
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: the exit code of the command, -1 with @error
 */
RECHAIN_API int rechain_host_run (RechainHost *host, const char *const *argv,
                                  GCancellable *cancellable, GError **error);
/**
 * rechain_host_get_output:
 * @host: a host
 *
 * Returns: (transfer none): what the last command printed; with "-o", "json" that is one document
 */
RECHAIN_API const char *rechain_host_get_output (RechainHost *host);
/**
 * rechain_host_interrupt:
 * @host: a host
 *
 * What Ctrl-C does to the command: the first time it is cancelled and undone, the second time the operation
 * is left to `recover`.
 */
RECHAIN_API void rechain_host_interrupt (RechainHost *host);
/**
 * rechain_host_ask_status:
 * @host: a host
 *
 * Asks for one line of progress, which comes through the signal "say".
 */
RECHAIN_API void rechain_host_ask_status (RechainHost *host);

/**
 * rechain_host_give_back:
 * @host: a host
 *
 * What the command "vol lend" lends is not needed any more: it ends.
 */
RECHAIN_API void rechain_host_give_back (RechainHost *host);

#define RECHAIN_TYPE_SERVER (rechain_server_get_type ())
/**
 * RechainServer:
 *
 * The other end of a #RechainHost: takes commands from a pair of descriptors and answers on it, one at a
 * time. The peer may be hostile: everything is bounded. It knows no commands itself.
 *
 * Signals: "interrupted" (the peer asks for the command to be cancelled, or is gone), "status-wanted", "released"
 * (the peer does not need any more what the command lends).
 */
RECHAIN_API G_DECLARE_FINAL_TYPE (RechainServer, rechain_server, RECHAIN, SERVER, GObject)

/**
 * rechain_server_new:
 * @input: descriptor of a pipe or socket to read from; it is not closed
 * @output: descriptor to write to, may be the same
 * @error: return location: %RECHAIN_ERROR_USAGE for something else
 *
 * Returns: (transfer full): a server that has sent its greeting
 */
RECHAIN_API RechainServer *rechain_server_new (int input, int output, GError **error);
/**
 * rechain_server_next:
 * @server: a server
 * @error: return location: %RECHAIN_ERROR_UNREACHABLE where the peer breaks the rules
 *
 * Waits for the next command.
 *
 * Returns: (transfer full) (nullable) (array zero-terminated=1): its words; %NULL without an error: the peer
 *   has hung up
 */
RECHAIN_API char **rechain_server_next (RechainServer *server, GError **error);
/**
 * rechain_server_get_document:
 * @server: a server
 * @option: for instance "--xml"
 *
 * Returns: (transfer none) (nullable): the contents of the file that the option names on the peer's side
 */
RECHAIN_API const char *rechain_server_get_document (RechainServer *server, const char *option);
/**
 * rechain_server_tell:
 * @server: a server
 * @event: "print", "note" or "say"
 * @text: what
 *
 * Tells the peer; waits while it does not read.
 */
RECHAIN_API void rechain_server_tell (RechainServer *server, const char *event, const char *text);
/**
 * rechain_server_tell_progress:
 * @server: a server
 * @object: as rechain_operation_progress_to_json() makes it
 *
 * Tells the peer, unless it is slow in reading.
 */
RECHAIN_API void rechain_server_tell_progress (RechainServer *server, const char *object);
/**
 * rechain_server_reply:
 * @server: a server
 * @exit_code: of the command
 * @error: (nullable): what it failed with
 *
 * Ends the command.
 */
RECHAIN_API void rechain_server_reply (RechainServer *server, int exit_code, const GError *error);

/**
 * rechain_server_want_feed:
 * @server: a server
 * @operation: id of the operation that the command runs
 * @from: from this byte of the stream on
 *
 * Asks the peer for the data that it has offered, through another session and the command "vol feed".
 */
RECHAIN_API void rechain_server_want_feed (RechainServer *server, const char *operation, guint64 from);
/**
 * rechain_server_hand_over:
 * @server: a server whose command has succeeded
 * @ret_input: (out): the descriptor it has read from
 * @ret_output: (out): the descriptor it has written to
 *
 * Ends the session, so that its descriptors can be used for something else.
 *
 * Returns: %FALSE where the peer is gone
 */
RECHAIN_API gboolean rechain_server_hand_over (RechainServer *server, int *ret_input, int *ret_output);

G_END_DECLS
