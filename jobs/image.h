/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qemu-img, and programs like it, as asynchronous, cancellable tools with limits. The only place that
 * starts them; they die with us.
 *
 * The argv is built by jobs/image-args (as data, so that a plan can print it); no shell; limits on
 * address space, CPU time and output, since images of tenants may be bombs (CVE-2015-5162). */
#pragma once

#include "src/common/json.h"

#include <gio/gio.h>

typedef struct _ImageRun ImageRun;

/* Success: (@out, NULL). Failure: (NULL, error) with the last lines of stderr, verbatim, as cause.
 * @out is stdout (borrowed, NUL-terminated). Exit code 0 with text on stderr counts as failure where
 * IMAGE_STDERR_FAILS was asked (qemu-img rebase returns 0 with data lost, qemu-facts hazard 0). */
typedef void (*ImageDone) (const char *out, const GError *error, gpointer data);

typedef enum {
  IMAGE_DEFAULT = 0,
  IMAGE_STDERR_FAILS = 1 << 0,
  IMAGE_QUESTION = 1 << 1, /* info, check, measure, map: may not burn CPU time as a copy may */
  IMAGE_LIVES_ON = 1 << 2, /* not killed, neither by image_cancel() nor when we die: it must not stop midway */
} ImageFlags;

/* Limits of each run. Address space: a check needs 2 bytes per cluster of the file, so this is enough
 * for 100 TiB; qemu-img itself needs less than 1 GiB. CPU time: a copy of many TiB takes hours, a
 * question takes seconds. No core dumps: guest data would be in them. */
#define IMAGE_MAX_MEMORY       (4ull << 30)   /* bytes */
#define IMAGE_MAX_CPU          (24u * 60 * 60) /* seconds */
#define IMAGE_MAX_CPU_QUESTION (5u * 60)       /* seconds */

#define IMAGE_MAX_OUTPUT (64u << 20) /* bytes */

/* Starts @argv (argv[0] is looked up in PATH, or $RECHAIN_QEMU_IMG replaces "qemu-img" and
 * $RECHAIN_QEMU_STORAGE_DAEMON "qemu-storage-daemon"). The callback
 * comes exactly once, never from inside this call. The returned handle is borrowed and valid until
 * then. NULL-terminated argv is copied. Environment: LC_ALL=C. stdin is /dev/null. */
ImageRun *image_run (const char *const *argv, ImageFlags flags, ImageDone callback, gpointer data);
/* The same for an output of any length: it is handed to @text as it comes, and @out is "". @text says
 * FALSE when it has seen enough; the run is then ended, which counts as a failure. */
typedef gboolean (*ImageText) (const char *text, gsize length, gpointer data);
ImageRun *image_run_streamed (const char *const *argv, ImageFlags flags, ImageText text,
                              ImageDone callback, gpointer data);
/* What goes beyond that: files for stdin and stdout, and how far it is. All borrowed until the callback. */
typedef struct {
  const char *from, *into; /* stdin, stdout (an existing file, written from its start); nullable */
  const char *fills; /* an existing file that it writes in order, and that is brought to the disk meanwhile; nullable */
  /* Of 10000, from "-p" of qemu-img or from what was read of @from; nullable. */
  void (*on_progress) (guint share, gpointer data);
  ImageText text; /* as image_run_streamed(); nullable */
  const int *fd;  /* inherited as descriptor 3, and closed here in any case; nullable */
  const char *busy; /* with IMAGE_LIVES_ON: a file, locked until the program has ended; nullable */
  int most_exit;  /* exit codes up to it are no failure: e2fsck says 1 where it mended something */
} ImageMore;

/* Ends when no program holds @busy any more, be it one that outlived whoever started it. */
ImageRun *image_wait_idle (const char *busy, ImageDone callback, gpointer data);
ImageRun *image_run_more (const char *const *argv, ImageFlags flags, const ImageMore *more,
                          ImageDone callback, gpointer data);
/* SIGTERM, then SIGKILL after 2 s; the callback still comes (INTERRUPTED). */
void image_cancel (ImageRun *run);

/* -- argv builders; each returns a full, NULL-terminated vector ------------------------------- */

/* How QEMU is to open @layers[from..to) together: every format named, the link below the last one cut; full. */
Json *image_chain_spec (GPtrArray *layers, guint from, guint to);
/* "json:{...}", a file name for every program of QEMU; full. */
char *image_spec_name (Json *spec);
/* "required" and "fully-allocated" of a measure reply, bytes. */
gboolean image_measure_parse (const char *out, guint64 *ret_required, guint64 *ret_full, GError **error);
/* qemu-img map -U --output=json "json:{...}" over the qcow2 image @file alone, without what backs it. */
char **image_map_args (const char *file);
/* qemu-img map --output=json over @layers together, every format named and the link below the last one cut.
 * From @start on, @length bytes. Fails where a process has it open for writing, unless @shared. */
char **image_chain_map_args (GPtrArray *layers, guint64 start, guint64 length, gboolean shared);
/* Does a map reply show anything that the layer itself holds, be it zeroes? */
gboolean image_map_parse (const char *out, gboolean *ret_empty, GError **error);
/* qemu-img info -f FORMAT --output=json FILE */
char **image_info_args (const char *file, const char *format);
/* qemu-img check -f FORMAT -r leaks FILE: errors are told, clusters that nothing refers to are freed. */
char **image_repair_args (const char *file, const char *format);
/* qemu-img rebase -u -f qcow2 -b BACKING [-F FORMAT] FILE: rewrites the header and nothing else; it opens no other
 * image. @backing NULL: none. */
char **image_resize_args (const char *file, const char *format, guint64 size, gboolean shrink);
char **image_repoint_args (const char *file, const char *backing, const char *format);
/* qemu-img commit -d -f FORMAT FILE: into the layer that its header names; FILE keeps what it holds. */
char **image_commit_args (const char *file, const char *format);
