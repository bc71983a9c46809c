/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options of all commands, in one table, and the words of a command line. Which command takes
 * which option stands in the command table. */
#pragma once

#include <glib.h>

typedef enum {
  OPTION_GLOBAL = 1 << 0,    /* every command takes it */
  OPTION_NOT_BUILT = 1 << 1, /* of the contract, refused in this version */
  OPTION_HIDDEN = 1 << 2,    /* not shown in help */
  OPTION_OPTIONAL = 1 << 3,  /* its value may be left out, and is given only as --name=VALUE */
} OptionFlags;

/* X (id, letter, name, value or NULL for a flag, flags, what it does) */
#define OPTIONS(X)                                                                                 \
  X (OUTPUT, 'o', "output", "FORMAT", OPTION_GLOBAL,                                               \
     "text (default) or json; dot where there is a picture")                                       \
  X (QUIET, 'q', "quiet", NULL, OPTION_GLOBAL, "no progress, no notes, no summary")                \
  X (VERBOSE, 'v', "verbose", NULL, OPTION_GLOBAL, "say more; -vv: everything")                    \
  X (PROGRESS, 0, "progress", "MODE", OPTION_GLOBAL,                                               \
     "auto (default: a bar on a terminal), bar, plain, json or none")                              \
  X (NO_PROGRESS, 0, "no-progress", NULL, OPTION_GLOBAL, "the same as --progress none")            \
  X (COLOR, 0, "color", "WHEN", OPTION_GLOBAL, "auto (default), always or never; see NO_COLOR")    \
  X (CONFIG, 0, "config", "FILE", OPTION_GLOBAL, "read FILE and no other configuration")           \
  X (STATE_DIR, 0, "state-dir", "DIR", OPTION_GLOBAL, "where the journal is")                      \
  X (HOST, 'H', "host", "[USER@]HOST", OPTION_GLOBAL, "do it on another host, through ssh")           \
  X (STDIO, 0, "stdio", NULL, OPTION_GLOBAL | OPTION_HIDDEN,                                       \
     "take commands from standard input, as 'rechain -H' sends them")                              \
  X (VERSION, 0, "version", NULL, OPTION_GLOBAL, "print the version")                              \
  X (HELP, 'h', "help", NULL, OPTION_GLOBAL, "print help; with a command, its help")               \
  X (TO, 0, "to", "FILE", 0, "the file to create (one disk; as DISK,to=FILE)")                     \
  X (BASE, 0, "base", "LAYER", 0,                                                                  \
     "lower layer of the operation, or none (one disk; as DISK,base=LAYER)")                       \
  X (TOP, 0, "top", "LAYER", 0,                                                                    \
     "upper layer of the operation; default: the active one (one disk; as DISK,top=LAYER)")        \
  X (SOURCE, 0, "source", "LAYER", 0, "layer that is merged (one disk; as DISK,source=LAYER)")     \
  X (DEST, 0, "dest", "LAYER", 0, "layer that receives it (one disk; as DISK,dest=LAYER)")         \
  X (ALLOW_SHARED, 0, "allow-shared", "LAYER", 0,                                                  \
     "change this layer although others use it (one disk; as DISK,allow-shared=LAYER)")            \
  X (SHALLOW, 0, "shallow", NULL, 0, "copy only the active layer; keep what backs it")             \
  X (NO_PIVOT, 0, "no-pivot", NULL, 0, "leave a copy of one moment; the guest stays where it is")  \
  X (FORMAT, 0, "format", "FORMAT", 0, "image format (one disk; as DISK,format=FORMAT)")           \
  X (NAME, 0, "name", "NAME", 0, "name of the snapshot; default: made from the time")              \
  X (XML, 0, "xml", "FILE", 0, "read what is wanted from a document; - is standard input")         \
  X (AS_XML, 0, "xml", NULL, 0, "print it as a document that --xml FILE reads")                    \
  X (REDEFINE, 0, "redefine", NULL, 0, "only record the snapshot of --xml, which was taken before") \
  X (DESCRIPTION, 0, "description", "TEXT", 0, "what the record says of the snapshot")             \
  X (ON_DELETE, 0, "on-delete", "HOW", 0,                                                          \
     "how it is merged one day: forward or backward (one disk; as DISK,on-delete=HOW)")            \
  X (METHOD, 0, "method", "METHOD", 0,                                                             \
     "how it is taken: qemu, lvm or btrfs (one disk; as DISK,method=METHOD)")                      \
  X (DEVICE, 0, "device", "PATH", 0,                                                               \
     "the volume or the file that lvm or btrfs makes (one disk; as DISK,device=PATH)")             \
  X (SUBVOLUME, 0, "subvolume", "PATH", 0,                                                         \
     "btrfs: the snapshot of the whole subvolume (one disk; as DISK,subvolume=PATH)")              \
  X (SIZE, 0, "size", "SIZE", 0,                                                                   \
     "lvm: room for what changes since (one disk; as DISK,size=SIZE)")                             \
  X (DIRECTION, 0, "direction", "HOW", 0, "forward or backward, for all disks")                    \
  X (METADATA_ONLY, 0, "metadata-only", NULL, 0, "drop the record and leave the layers alone")     \
  X (OFFLINE, 0, "offline", NULL, 0, "work on image files that no process has open; there is no VM") \
  X (START, 0, "start", "SIZE", 0, "from this byte of the disk on")                                \
  X (LENGTH, 0, "length", "SIZE", 0, "so many bytes from there on")                                \
  X (OFFSET, 0, "offset", "SIZE", 0, "a region begins at this byte; can be repeated")              \
  X (FILL, 0, "fill", "WHAT", 0,                                                                   \
     "backing (default: copy what backing layers hold) or full (zeros too)")                       \
  X (DETACH, 0, "detach-backing", NULL, 0, "then drop the link to the backing layers")             \
  X (REGIONS, 0, "regions", "FILE", 0,                                                             \
     "regions as JSON: a list of {start, length}, or a map; - is stdin")                           \
  X (FOREIGN, 0, "foreign", NULL, 0, "also where the job is not one of rechain's")                 \
  X (OP, 0, "op", "OP", 0, "only this operation")                                                  \
  X (UNDO, 0, "undo", NULL, 0, "back; refused where the pivot took effect")                        \
  X (FINISH, 0, "finish", NULL, 0, "on, to the new chain")                                         \
  X (DRY_RUN, 'n', "dry-run", NULL, 0, "check everything, print the plan, change nothing")         \
  X (BANDWIDTH, 0, "bandwidth", "RATE", 0, "bytes per second over all disks; 0 = unlimited")       \
  X (TIMEOUT, 0, "timeout", "DURATION", 0, "give up after so long, for instance 5m")               \
  X (MAX_PAUSE, 0, "max-pause", "DURATION", 0,                                                     \
     "longest stop of the guest around a pivot (default 500ms)")                                   \
  X (PIVOT, 0, "pivot", "HOW", 0,                                                                  \
     "quiesced (default) or live; live never stops the guest, and if QEMU dies in that instant "   \
     "nobody can tell which layer is newer")                                                       \
  X (DELETE, 0, "delete", NULL, 0, "remove layers that fall out of the chain (default: kept)")     \
  X (NO_UNDO, 0, "no-undo", NULL, 0, "on failure leave everything as it is, for inspection")       \
  X (REUSE, 0, "reuse", NULL, 0, "the target file exists already")                                 \
  X (RELATIVE, 0, "relative", NULL, 0, "write relative backing names")                             \
  X (GROW_LV, 0, "grow-lv", "SIZE", OPTION_OPTIONAL,                                              \
     "extend the logical volumes of qcow2 images by so much (default 1G) when they fill up")       \
  X (QUIESCE, 0, "quiesce", NULL, 0,                                                               \
     "freeze the guest's filesystems around the snapshot; refused where its agent cannot")         \
  X (QUIESCE_BEST_EFFORT, 0, "quiesce-best-effort", NULL, 0,                                       \
     "the same, but where the agent cannot, the snapshot is taken without it")                     \
  X (MAX_FREEZE, 0, "max-freeze", "DURATION", 0,                                                   \
     "longest freeze; then the guest is thawed and everything taken back (default 10s)")           \
  X (AGENT, 0, "agent", "ADDRESS", 0, "socket of the guest agent, if not configured")              \
  X (YES, 'y', "yes", NULL, 0, "answer yes to every question")                                     \
  X (CAPACITY, 0, "capacity", "SIZE", 0, "bytes that a guest is to see")                           \
  X (ALLOCATION, 0, "allocation", "HOW", 0, "sparse (default), metadata, falloc or full")          \
  X (BACKING, 0, "backing", "VOL", 0, "the new volume keeps only what differs from VOL")           \
  X (BACKING_FORMAT, 0, "backing-format", "FORMAT", 0, "format of the backing volume")             \
  X (SOURCE_FORMAT, 0, "source-format", "FORMAT", 0,                                               \
     "format of what is read or changed; default: qcow2 by its header, else raw")                  \
  X (MODE, 0, "mode", "MODE", 0, "permissions of the new file, octal")                             \
  X (OWNER, 0, "owner", "ID", 0, "numeric owner of the new file")                                  \
  X (GROUP, 0, "group", "ID", 0, "numeric group of the new file")                                  \
  X (SHRINK, 0, "shrink", NULL, 0, "also where the end is cut off")                                \
  X (OVERWRITE, 0, "overwrite", NULL, 0, "replace what stands there")                              \
  X (ARCHIVE, 0, "archive", "CODEC", OPTION_OPTIONAL,                                              \
     "compress: zstd (default), gzip, xz, lz4 or lzop")                                            \
  X (SNAPSHOT, 0, "snapshot", NULL, 0, "take a snapshot of the source first, and copy that")       \
  X (POOL, 0, "pool", "LV", 0, "thin pool that the new logical volume is made in")                 \
  X (FORCE, 0, "force", "REASONS", 0,                                                              \
     "also where it is open, mounted or backing (joined by commas)")                               \
  X (REPAIR, 0, "repair", NULL, 0, "settle what was interrupted, and remove what rechain left behind")  \
  X (OFFER, 0, "offer", NULL, OPTION_HIDDEN, "the source is what the other side offers")           \
  X (FROM, 0, "from", "N", OPTION_HIDDEN, "from this byte on")                                     \
  X (COMPLETION, 0, "completion", NULL, OPTION_HIDDEN, "print the bash completion")

typedef enum {
#define X(id, letter, name, value, flags, help) OPT_##id,
  OPTIONS (X)
#undef X
      N_OPTIONS
} OptionId;

/* A set of options. */
__extension__ typedef unsigned __int128 OptionSet;
#define OPTION_BIT(id) ((OptionSet)1 << (id))
G_STATIC_ASSERT (N_OPTIONS <= 8 * sizeof (OptionSet));

typedef struct {
  char letter; /* 0: none */
  const char *name;
  const char *value; /* what to call its value; NULL: it takes none */
  OptionFlags flags;
  const char *help;
} Option;

extern const Option options[N_OPTIONS];

/* One command line, taken apart. Strings are borrowed from argv. */
typedef struct {
  OptionId id;
  const char *value;
} Given;

typedef struct {
  GArray *given;                 /* Given: all options with values, in their order */
  const char *values[N_OPTIONS]; /* the last one given */
  guint counts[N_OPTIONS];
  GPtrArray *words; /* char*: what is no option */
} Args;

/* Reads all of @argv, also after an error, so that -o json counts wherever it stands; the first
 * error is the one reported. Options stand anywhere; "--" ends them. */
gboolean
args_parse (Args *args, int argc, char **argv, GError **error);
void
args_clear (Args *args);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Args, args_clear)
gboolean
args_has (const Args *args, OptionId id);
/* The global options that choose how to speak; NULL where not given. */
const char *
args_value (const Args *args, OptionId id);

/* The one of @names (NULL-terminated) that was probably meant by @text, borrowed; NULL: none. */
const char *
nearest_name (const char *text, const char *const *names);
