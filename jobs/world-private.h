/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The block graph of one QEMU as a table of nodes; shared by the files that read it, in this order:
 * world-graph.c (nodes and what refers to them; world-node.c tells what one node is), world-disks.c
 * (the chains of disks), world-jobs.c (jobs and exports). world.c calls them and answers questions.
 *
 * Everything here comes from a peer that may be hostile:
 * 1. Each array is read up to a limit, so one reply cannot cost more than its size allows.
 * 2. Each walk has a limit of steps; a graph that loops ends it.
 * 3. Edges to nodes that nobody described are dropped; where that cuts a chain, the disk is
 * *broken* and says so. A chain is never silently shorter than QEMU's. */
#pragma once

#include "jobs/world.h"

#define MAX_NESTING 64u /* of a json: name; of filters between a layer and its protocol node */

typedef struct _Node Node;
typedef struct _Filter Filter; /* in world-node.c */

typedef struct {
  const char *role; /* in the replies */
  Node *node;
} Child;

struct _Node {
  const char *name; /* strings are borrowed from the replies, as they live with the world */
  const char *driver;
  const Filter *filter; /* nullable */
  Json *info;           /* its row of query-named-block-nodes */
  char *file;           /* where its bytes are; nullable */
  GArray *children;     /* Child */
  GPtrArray *disks;     /* ChainDisk* whose chain holds it */
  guint parents;
  gboolean job_filter; /* a job calls it its main node */
  gboolean written;    /* by an unnamed block backend: an export or a job */
};

typedef enum { PARENT_NODE, PARENT_BACKEND, PARENT_JOB, N_PARENTS } ParentType;

typedef struct {
  ParentType type;
  const char *name;
  Node *node;       /* of PARENT_NODE */
  Node *root;       /* of PARENT_BACKEND */
  GPtrArray *nodes; /* Node*, of PARENT_JOB */
} Parent;

struct _World {
  Json *replies;
  WorldFiles files;
  GHashTable *nodes;    /* name -> Node */
  GHashTable *parents;  /* id in the graph -> Parent */
  GHashTable *backends; /* name -> Parent */
  GPtrArray *disks;     /* ChainDisk */
  GPtrArray *jobs;      /* ChainJob */
  GHashTable *job_ids;  /* id -> ChainJob */
  gboolean has_graph;   /* with devices and jobs, not only the children of nodes */
  guint n_layers;
};

/* world.c */
gboolean is_one_of (const char *word, const char *const *words);
const char *get_name (Json *object, const char *key); /* NULL: absent, empty or too long */
Json *world_reply (World *world, const char *command);
Node *world_find_node (World *world, const char *name); /* nullable, both */

/* world-node.c */
Node *node_new (const char *name, const char *driver, Json *info);
void node_free (Node *node);
Node *node_child (const Node *node, const char *role);
Node *node_storage (const Node *node);
/* What @node shows, if it is a filter; else where it stores; nullable. */
Node *node_below (const Node *node, gboolean *ret_is_filter);
/* Follows storage children, and what lies behind filters, down to the node that has none. */
Node *node_protocol (Node *node);
guint64 node_size (const Node *node);
/* QEMU's own filters of jobs, made without filter-node-name: it hides them too. */
gboolean node_is_implicit (const Node *node);

/* What a walk down a chain does at @node; *ret_below is what a filter shows. */
typedef enum { IS_LAYER, IS_FILTER, IS_OPAQUE } NodeKind;
NodeKind node_kind (Node *node, Node **ret_below);

/* world-graph.c */
void parent_free (Parent *parent);
void world_read_graph (World *world);

/* world-disks.c */
gboolean world_read_disks (World *world, GError **error);

/* world-jobs.c */
void world_read_jobs (World *world);    /* after the disks */
void world_read_exports (World *world); /* after the disks */
