/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What passes over `ssh HOST rechain --stdio`: JSON objects, one a line, shaped like QMP.
 *
 *   server   {"rechain":{"protocol":2,"version":"0.1.0"}}               first of all
 *   client   {"execute":"hello","arguments":{"protocol":2},"id":1}
 *            {"execute":"document","arguments":{"option":"--xml","text":PIECE}}    before the "run"
 *            {"execute":"run","arguments":{"argv":["chain","web1"]},"id":2}
 *            {"execute":"interrupt"}  {"execute":"status"}  {"execute":"release"}
 *                                                                       while a command runs; not answered
 *   server   {"event":"print","data":{"text":TEXT}}                     a piece of standard output
 *            {"event":"note" or "say","data":{"text":LINE}}             for standard error
 *            {"event":"progress","data":{...}}                          as --progress json
 *            {"event":"feed","data":{"operation":ID,"from":N}}          the data of a copy is wanted
 *            {"return":{"exit":N},"id":2}  {"error":{"class":...,"desc":...,...},"id":2}
 *
 * One command at a time, as many as wanted one after the other. The words are those of the command line; only
 * what a session must not choose is refused (-H, --config, --state-dir, --stdio). After the reply to a "run" of
 * "vol send" or "vol feed" the connection carries frames (frames.h) instead. */
#pragma once

#define REMOTE_PROTOCOL    2
#define REMOTE_MAX_MESSAGE (1u << 20)   /* bytes of a line, either way */
#define REMOTE_MAX_QUEUED  (8u << 20)   /* what a peer may leave unread */
#define REMOTE_PIECE       (96u << 10)  /* of a text, so that no escaping makes it too long for a line */
#define REMOTE_MAX_TEXT    (64u << 20)  /* of all that a command prints */
#define REMOTE_MAX_DOCUMENTS (4u << 20) /* of all documents of a command */
#define REMOTE_MAX_WORDS   4096u
#define REMOTE_GREETING_MS 30000u

/* Where the first piece of @text ends. */
const char *remote_piece (const char *text);
