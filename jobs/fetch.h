/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The work of filling a new volume with what another host has: frames (src/remote/frames.h) come in, and go into
 * the unfinished file, or through a program that decompresses them. A connection that is lost is made again, and
 * the data goes on where it stopped, a few times.
 *
 * details "stream" of the disk:
 *   offer    what the other host said of the volume, and is told again (src/storage/offer.h)
 *   name     of it, for people
 *   size, data, bytes   of it: in all, without holes, of what comes (-1: not known)
 *   from     {"name","address","config"}: the host, of which it is asked for
 *   socket   or: a unix socket, through which somebody hands over a descriptor to read from
 *   through  argv: a program that it goes through */
#pragma once

#include "jobs/work.h"

Work *fetch_start (Op *op, OpDisk *disk, const WorkHost *host);
/* Hands over @fd to whoever waits at @socket. Returns the connection, which ends when the data is no longer
 * wanted; -1 with an error. */
int fetch_feed (const char *socket, int fd, GError **error);
