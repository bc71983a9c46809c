/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A qemu-storage-daemon of our own: QEMU's block layer without a guest, which performs the jobs of
 * offline operations. Its monitor is a socket pair, so that nobody else can reach it, and it dies with us.
 *
 * Why not qemu-img: a job has a rate limit, progress, pause and, above all, PENDING, where what was
 * copied can be flushed before any header names it (qemu-facts, hazard 0); and it is faster
 * (docs/qemu-findings.md). */
#pragma once

#include "qmp/client.h"

typedef struct _Engine Engine;

/* Both come from the main loop, each at most once, and none after engine_free(). */
typedef struct {
  void (*ready) (Engine *engine, gpointer data); /* its monitor takes commands */
  /* The process ended: @error NULL where it was asked to quit and had nothing to complain about. It may come
   * without ready. The engine is only good for engine_free() then. */
  void (*ended) (Engine *engine, const GError *error, gpointer data);
  gpointer data;
} EngineHost;

/* What is started, for plans; full. */
char **engine_args (void);
/* qemu-storage-daemon --version */
char **engine_version_args (void);
/* FAILED where there are no descriptors left; that it cannot be started comes through ended(). */
Engine *engine_new (const EngineHost *host, GError **error);
/* Borrowed. */
QmpClient *engine_get_client (Engine *engine);
/* Where it still runs, it is ended without mercy. */
void engine_free (Engine *engine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Engine, engine_free)
