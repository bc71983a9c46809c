/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Another host, as ssh reaches it. */
#pragma once

#include <glib.h>

typedef struct {
  char *name;    /* what it is called here */
  char *address; /* [USER@]HOST, for ssh */
  char *config;  /* ssh's own configuration file; NULL: the usual ones */
  char *ciphers; /* in the order in which they are offered; NULL: as ssh does */
} Far;

/* @address: NULL: the same as @name. USAGE for what ssh could take for an option, or no host can be called. */
Far *far_new (const char *name, const char *address, const char *config, GError **error);
Far *far_copy (const Far *far);
void far_free (Far *far);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Far, far_free)
/* Full. The command line that begins a session; it is the same for every command. */
char **far_command (const Far *far);
