/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk's backing chain, active layer first: from the live graph of a QEMU, or from image headers.
 *
 * It only looks. Nothing here changes a graph or a file. */
#pragma once

#include "qmp/client.h"
#include "qmp/features.h"

/* Longer chains are broken (live) or refused (offline): nobody means them, and every walk ends. */
#define CHAIN_MAX_LAYERS 200u

/* One image of a chain. Strings are owned by the layer; bytes everywhere; (nullable) as said. */
typedef struct {
  char *file;           /* absolute path, or the protocol's URI; nullable where QEMU hides it */
  char *format;         /* "qcow2", "raw", ...; a bare protocol node ("file") counts as raw */
  char *node;           /* node name of the format node; NULL offline */
  char *protocol_node;  /* node name of the protocol node below it; NULL offline or where there is none */
  gboolean read_only;
  gboolean file_read_only; /* its file was opened so by name, and stays so until it is opened again */
  gboolean encrypted;
  gboolean data_file;   /* the image keeps its data in an external data file */
  guint64 virtual_size; /* bytes */
  guint64 allocated;    /* bytes on disk */
  gboolean has_allocated;
  char *backing;        /* the string in the header, verbatim; nullable */
  char *backing_format; /* as in the header; nullable */
  GPtrArray *filters;   /* char*: node names of filters above this layer, outermost first; QEMU's own
                           unnamed job filters are not among them */
} ChainLayer;

/* One job that sits on a disk. */
typedef struct {
  char *id;
  char *type;   /* stream, commit, mirror, backup, create ... */
  char *status; /* QEMU's word */
  char *error;  /* nullable */
  gboolean ours; /* named rc-... */
  gboolean paused;
  guint64 current, total; /* bytes */
  guint64 speed;          /* bytes/s, 0 = unlimited */
  gboolean has_speed;
} ChainJob;

/* One disk of a VM. */
typedef struct {
  char *name;       /* what rechain calls it: qdev id, else drive name, else node name */
  char *qdev;       /* qdev id or QOM path, nullable */
  char *drive;      /* BlockBackend name, nullable */
  char *root_node;  /* node the guest device is attached to (a filter, or the active layer); QEMU's own
                       unnamed job filters are passed over, as in query-block */
  gboolean read_only;
  gboolean removable;
  gboolean inserted;    /* FALSE: an empty tray; layers is empty then */
  char *io_status;      /* "ok", "failed", "nospace"; nullable */
  GPtrArray *layers;    /* ChainLayer*, active first */
  GPtrArray *jobs;      /* ChainJob* whose nodes are in this disk's chain */
  /* char*: ids of block exports on nodes of this disk (or on filters over them) that may write. QEMU
   * does not tell, so it is read from the permissions in the graph; in doubt (no graph, several
   * exports or a job with write permission on the same node) an export counts as writable. */
  GPtrArray *writable_exports;
  GPtrArray *exports;   /* char*: ids of all block exports on nodes of this disk */
  char *broken;         /* why the chain could not be read in full (loop, hidden layer ...); nullable */
} ChainDisk;

/* All of one QEMU at one instant. */
typedef struct _World World;

/* Exactly one of @world (full) and @error (borrowed) is set. */
typedef void (*WorldReady) (World *world, const GError *error, gpointer data);

/* Asks QEMU (all queries pipelined): query-block, query-named-block-nodes flat,
 * x-debug-query-block-graph, query-jobs, query-block-jobs, query-block-exports, query-status,
 * query-migrate where there is one. Where the answers do not fit together (a job ended in between) it
 * asks again, up to three times. @features (nullable: ask for all of it) is borrowed until the
 * callback. Relative file names are read against the working directory of the peer process, if that
 * has the file open; otherwise the layer has no file, and the disk is broken. */
void world_query (QmpClient *client, QmpFeatures *features, WorldReady callback, gpointer data);
/* The same from recorded replies: {"query-block": [...], ...}; for tests. "cwd" (optional) is the
 * directory against which QEMU's relative file names are to be read. */
World *world_parse (Json *replies, GError **error);
void world_free (World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (World, world_free)

GPtrArray *world_disks (World *world);                /* ChainDisk*, borrowed */
GPtrArray *world_jobs (World *world);                 /* ChainJob*, all jobs, borrowed */
ChainJob *world_job (World *world, const char *id);   /* borrowed, nullable */
const char *world_run_state (World *world);           /* query-status: "running", "paused", "io-error" ... */
gboolean world_running (World *world);
/* A migration is under way, or has ended and left the images inactive (postmigrate). */
gboolean world_migrating (World *world);
/* What query-migrate says; borrowed, NULL where there is no such thing. */
Json *world_migration (World *world);

/* Nodes, also those that no disk shows. */
gboolean world_has_node (World *world, const char *node);
/* Driver name, file name; borrowed, nullable. */
const char *world_node_driver (World *world, const char *node);
const char *world_node_file (World *world, const char *node);
/* Node name of the child in @role ("backing", "file"); borrowed, nullable. */
const char *world_node_child (World *world, const char *node, const char *role);
/* How many parents (nodes, devices, exports, jobs) hold @node; the monitor's own reference is not
 * counted. A job, or an export, may count more than once. */
guint world_node_parents (World *world, const char *node);
/* How @node is opened, as blockdev-add options {"cache": {"direct","no-flush"}, "detect-zeroes"}, without
 * what is QEMU's default; full. */
Json *world_node_cache (World *world, const char *node);
/* Dirty bitmaps of @node as QEMU tells them (QMP: BlockDirtyInfo); borrowed, nullable. */
Json *world_node_bitmaps (World *world, const char *node);
/* From which byte on QEMU tells of a write to @node (QMP: block-set-write-threshold); 0: it does not. */
guint64 world_node_write_threshold (World *world, const char *node);
/* Node names that begin with @prefix: char*, full array of owned strings. */
GPtrArray *world_nodes_with_prefix (World *world, const char *prefix);
/* For each node from the active layer of @disk down, filters included, the index of the layer that it
 * shows: how an NBD export of the active layer counts depths (from 1). guint, full; NULL where QEMU's
 * count cannot be told. */
GArray *world_depths (World *world, ChainDisk *disk);
/* Disks (by ChainDisk.name) other than @except (nullable) whose chains contain @node; full. */
GPtrArray *world_users_of_node (World *world, const char *node, const char *except);

/* DISK of the interface contract: qdev id, drive name, node name of the active layer, or absolute
 * path of the active image. NOT_FOUND or REFUSED (ambiguous), listing the disks as the hint. */
ChainDisk *world_find_disk (World *world, const char *name, GError **error);
/* LAYER: file name as in the chain (absolute, or unique as a base name), or node name. Index into
 * layers, or -1 with NOT_FOUND / REFUSED (ambiguous) listing the layers as the hint. */
int chain_find_layer (GPtrArray *layers, const char *name, GError **error);
/* Chain by file names ("a <- b" is not used: top first), full, NULL-terminated. */
char **chain_files (GPtrArray *layers);

/* Reads the chain of an image from its headers only (own bounded reader for qcow2; other formats end
 * the chain unless asked through @format). @format of the top image (nullable: only qcow2 is
 * recognised by its magic; anything else is then REFUSED as "format must be named", since a raw
 * guest-controlled image must never be probed). GPtrArray of ChainLayer*, full. Never blocks on
 * anything but local file reads. Refused: loops, missing layers, json:/nbd:/... protocol references,
 * backing without a format, more than 200 layers; each says which layer. */
GPtrArray *chain_read_offline (const char *image, const char *format, GError **error);

ChainLayer *chain_layer_new (void); /* empty, with its filters array */
ChainLayer *chain_layer_copy (const ChainLayer *layer);
void chain_layer_free (ChainLayer *layer);
ChainJob *chain_job_copy (const ChainJob *job);
void chain_job_free (ChainJob *job);
ChainDisk *chain_disk_new (void); /* empty, with its arrays */
void chain_disk_free (ChainDisk *disk);
ChainDisk *chain_disk_copy (const ChainDisk *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ChainLayer, chain_layer_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ChainJob, chain_job_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ChainDisk, chain_disk_free)

/* For tools of this folder. Full. @name against directory @dir, "." and ".." removed where that
 * still names the same file (symlinks). */
char *chain_file_in (const char *dir, const char *name);
/* The file of this host that a "json:{...}" name leads to. Full; NULL where it is none. */
char *world_json_file (const char *name);
