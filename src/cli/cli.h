/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all commands of the command line share. They contain no block-layer knowledge: a command
 * turns words into a request, asks the library, and prints the document that comes back. */
#pragma once

#include <rechain/rechain.h>

#include "src/cli/config.h"
#include "src/cli/options.h"
#include "src/common/error.h"
#include "src/common/json.h"
#include "src/common/size.h"

typedef enum { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_DOT } Output;

typedef enum {
  PROGRESS_AUTO, /* only until cli_setup() has looked at the terminal */
  PROGRESS_BAR,
  PROGRESS_PLAIN,
  PROGRESS_JSON,
  PROGRESS_NONE,
} ProgressMode;

typedef struct _Cli Cli;

/* One row of the command table. */
typedef struct {
  const char *name;                           /* one word, or family and verb */
  const char *synopsis;                       /* its arguments, as help shows them */
  const char *summary;                        /* one line, no full stop */
  gboolean (*run) (Cli *cli, GError **error); /* NULL: not built in this version */
  guint min_words, max_words;                 /* arguments; G_MAXUINT: any number */
  OptionSet options;                          /* OPTION_BITs, besides the global ones */
  const char *text;                           /* a paragraph for its help */
  const char *example;
  const char *exits; /* the exit codes that matter, joined by blanks */
} Command;

extern const Command commands[]; /* ends with a row without name */

/* One run of the program. */
struct _Cli {
  Args args;
  const Command *command;
  char **words; /* arguments of the command, borrowed from args */
  guint n_words;
  Output output;
  ProgressMode progress;
  gboolean quiet;
  gboolean colour_out, colour_err; /* colour on stdout, on stderr */
  gboolean tty_err;
  RechainServer *server; /* whom this is done for; NULL: for who started us */
  const char *config_file, *state_dir; /* as --config and --state-dir say; nullable */
  Config *config;        /* nullable until cli_config() */
  RechainController *controller;
  int exit_code; /* where a document said already what went wrong */
};

/* From the arguments to the end of the command, whose exit code is in @cli. (dispatch.c) */
gboolean
cli_run (Cli *cli, int argc, char **argv, GError **error);
/* The same with another host, as -H says. (remote.c) */
gboolean
cli_run_remote (Cli *cli, GError **error);
/* Full: the host that @name stands for. (remote.c) */
RechainHost *
cli_host (Cli *cli, const char *name, GError **error);
/* The command on @host, with other arguments, and one more option (nullable); its options of @less do not go
 * along. What it prints is printed. */
gboolean
cli_run_on (Cli *cli, RechainHost *host, const char *const *arguments, const char *more, OptionSet less,
            GError **error);
/* Takes commands from standard input until that ends. (serve.c) */
gboolean
cli_serve (Cli *cli, GError **error);
/* Full: what the file that is the value of @id holds, also where it lies on another host. */
char *
cli_document (Cli *cli, OptionId id, gsize *ret_length, GError **error);
/* -o, -q, --progress, --color: how to speak; first of all, since errors are spoken too. */
gboolean
cli_setup (Cli *cli, GError **error);
void
cli_clear (Cli *cli);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Cli, cli_clear)

/* Finds the command that @words begin with; *ret_used says how many they were. */
const Command *
command_find (const GPtrArray *words, guint *ret_used, GError **error);
/* One that only another rechain asks for, of two words; NULL: none. */
const Command *
session_command_find (const GPtrArray *words);
/* "vm [DISK]" of all commands that begin with @family and a blank: verbs joined by commas; full,
 * NULL where there is no such family. */
char *
command_verbs (const char *family);

/* Borrowed; read when it is first asked for. */
Config *
cli_config (Cli *cli, GError **error);
RechainController *
cli_controller (Cli *cli);
/* Borrowed: the monitor address that @vm stands for. */
const char *
cli_address (Cli *cli, const char *vm, GError **error);
/* Borrowed: address of the guest agent of @vm, from --agent or the configuration; NULL without an error
 * where none is known. */
const char *
cli_agent (Cli *cli, const char *vm, GError **error);
/* Full: the VM, not connected yet. */
RechainVm *
cli_vm (Cli *cli, const char *vm, GError **error);
/* Full: the VM, looked at. */
RechainVm *
cli_look (Cli *cli, const char *vm, GError **error);

/* ---- the commands ---- */
gboolean
run_info (Cli *cli, GError **error);
gboolean
run_chain (Cli *cli, GError **error);
gboolean
run_map (Cli *cli, GError **error);
gboolean
run_allocate (Cli *cli, GError **error);
gboolean
run_snapshot_create (Cli *cli, GError **error);
gboolean
run_snapshot_list (Cli *cli, GError **error);
gboolean
run_snapshot_show (Cli *cli, GError **error);
gboolean
run_snapshot_edit (Cli *cli, GError **error);
gboolean
run_snapshot_delete (Cli *cli, GError **error);
gboolean
run_move (Cli *cli, GError **error);
gboolean
run_pull (Cli *cli, GError **error);
gboolean
run_rebase (Cli *cli, GError **error);
gboolean
run_commit (Cli *cli, GError **error);
gboolean
run_merge (Cli *cli, GError **error);
gboolean
run_copy (Cli *cli, GError **error);
gboolean
run_quiesce (Cli *cli, GError **error);
gboolean
run_thaw (Cli *cli, GError **error);
gboolean
run_job_list (Cli *cli, GError **error);
gboolean
run_job_show (Cli *cli, GError **error);
gboolean
run_job_wait (Cli *cli, GError **error);
gboolean
run_job_cancel (Cli *cli, GError **error);
gboolean
run_job_pause (Cli *cli, GError **error);
gboolean
run_job_resume (Cli *cli, GError **error);
gboolean
run_job_speed (Cli *cli, GError **error);
gboolean
run_op_list (Cli *cli, GError **error);
gboolean
run_op_show (Cli *cli, GError **error);
gboolean
run_op_wait (Cli *cli, GError **error);
gboolean
run_op_undo (Cli *cli, GError **error);
gboolean
run_op_cancel (Cli *cli, GError **error);
gboolean
run_recover (Cli *cli, GError **error);
gboolean
run_vol_list (Cli *cli, GError **error);
gboolean
run_vol_info (Cli *cli, GError **error);
gboolean
run_vol_create (Cli *cli, GError **error);
gboolean
run_vol_clone (Cli *cli, GError **error);
gboolean
run_vol_copy (Cli *cli, GError **error);
gboolean
run_vol_offer (Cli *cli, GError **error);
gboolean
run_vol_lend (Cli *cli, GError **error);
gboolean
run_vol_send (Cli *cli, GError **error);
gboolean
run_vol_feed (Cli *cli, GError **error);
gboolean
run_vol_copy_contents (Cli *cli, GError **error);
gboolean
run_vol_resize (Cli *cli, GError **error);
gboolean
run_vol_snapshot (Cli *cli, GError **error);
gboolean
run_vol_delete (Cli *cli, GError **error);
gboolean
run_vol_growfs (Cli *cli, GError **error);
gboolean
run_vol_shrinkfs (Cli *cli, GError **error);
gboolean
run_vol_compress (Cli *cli, GError **error);
gboolean
run_vol_decompress (Cli *cli, GError **error);
gboolean
run_storage_info (Cli *cli, GError **error);
gboolean
run_doctor (Cli *cli, GError **error);
gboolean
run_config_check (Cli *cli, GError **error);
gboolean
run_version (Cli *cli, GError **error);
gboolean
run_help (Cli *cli, GError **error);
/* Help of the command or family that the words name; overview where there are none. */
gboolean
print_help (Cli *cli, GPtrArray *words, GError **error);
