/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sources of the thread's own main context. A slot holds one of them, or NULL; what sets it replaces what
 * was set before. */
#pragma once

#include <gio/gio.h>

/* Nothing comes of it any more. */
void source_clear (GSource **slot);

void source_after (GSource **slot, guint ms, GSourceFunc callback, gpointer data);
/* Once nothing else is to be done. */
void source_idle (GSource **slot, GSourceFunc callback, gpointer data);
/* @cancellable: nullable; then nothing is set. */
void source_on_cancel (GSource **slot, GCancellable *cancellable, GCancellableSourceFunc callback,
                       gpointer data);

/* In the next turn of the loop, before what is merely idle; cannot be taken back. @free: nullable. */
void source_soon (GSourceFunc callback, gpointer data, GDestroyNotify free);
