/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration (docs: interface contract, "Configuration"): /etc/rechain/rechain.conf,
 * drop-ins, then the user's own file; a later file wins. */
#pragma once

#include <glib.h>

typedef struct {
  char *name;
  char *qmp;   /* address of the monitor, nullable */
  char *agent; /* address of the guest agent, nullable */
} ConfigVm;

/* Another host, as ssh reaches it. */
typedef struct {
  char *name;
  char *ssh;        /* [USER@]HOST; NULL: as it is called */
  char *ssh_config; /* ssh -F; nullable */
} ConfigHost;

typedef struct {
  GPtrArray *files;  /* char*: what was read, in order */
  GPtrArray *vms;    /* ConfigVm*, in the order of their first mention */
  GPtrArray *hosts;  /* ConfigHost* */
  char **allow;      /* directories that storage commands may touch; NULL: all */
  char **allow_vg;   /* volume groups likewise */
  guint64 bandwidth; /* bytes per second; 0: no limit */
} Config;

/* @file: the only one to read; NULL: the usual ones, as far as they exist. */
Config *
config_load (const char *file, GError **error);
/* The same from text; @name is what errors call it. Adds to @config. */
gboolean
config_read (Config *config, const char *name, const char *text, gsize length, GError **error);
Config *
config_new (void);
void
config_free (Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Config, config_free)

/* Borrowed, nullable. */
ConfigVm *
config_vm (Config *config, const char *name);
/* Borrowed, nullable. */
ConfigHost *
config_host (Config *config, const char *name);
/* Is this a monitor address, rather than a name? */
gboolean
is_address (const char *text);
