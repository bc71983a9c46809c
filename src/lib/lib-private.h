/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Behind rechain.h. The rim is GObject; inside are the plain structs of jobs/ and qmp/. */
#pragma once

#include "jobs/plan.h"
#include "jobs/run.h"
#include "src/remote/far.h"
#include "src/lib/rechain.h"

/* sync.c: x = x_async + iterating the object's own context until the result is there. */
typedef struct {
  GMainContext *context;
  GAsyncResult *result;
} Waiting;

void waiting_done (GObject *source, GAsyncResult *result, gpointer waiting);
/* Borrowed until waiting_clear(). */
GAsyncResult *waiting_result (Waiting *waiting);
void waiting_clear (Waiting *waiting);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Waiting, waiting_clear)

/* vm.c */
typedef struct {
  QmpClient *client;     /* NULL while not connected */
  QmpFeatures *features;
  World *world;          /* the last look */
  char *borrowed_from;   /* operation that holds the monitor, nullable */
  RechainController *controller;
  char **allowed, **allowed_groups; /* rechain_vm_set_allowed(); nullable */
} VmLink;

VmLink *rechain_vm_get_link (RechainVm *vm);
/* Only connects: recovery settles jobs before it asks for nodes. Ends with rechain_vm_look_finish(). */
void rechain_vm_connect_async (RechainVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                               gpointer user_data);
char *rechain_vm_normalize_address (const char *address);

/* operation.c: around a planned operation, or one of the journal. @vm: NULL where it is offline. Takes @op. */
RechainOperation *rechain_operation_wrap (RechainController *controller, RechainVm *vm, Op *op);
/* From its beginning, or as an operation of the journal is recovered. TRUE: @task is taken, and its end comes
 * from the runner. */
gboolean rechain_operation_start (RechainOperation *operation, const RunDirection *recover, GTask *task,
                                  GCancellable *cancellable, GError **error);
RechainVm *rechain_operation_get_vm (RechainOperation *operation); /* borrowed; NULL: offline */
/* Borrowed; the runner's while it runs. */
Op *rechain_operation_get_op (RechainOperation *operation);
/* What an operation of the kind map has read; borrowed, NULL before it is done. */
Map *rechain_operation_get_map (RechainOperation *operation);

/* operation-recover.c: connects, checks that it is the same QEMU, and settles it. */
void rechain_operation_recover_async (RechainOperation *operation, RechainDirection direction,
                                      GCancellable *cancellable, GAsyncReadyCallback callback,
                                      gpointer user_data);

/* storage.c; borrowed */
const struct _Allow *rechain_storage_get_allow (RechainStorage *storage);

/* host.c; borrowed */
const Far *rechain_host_get_far (RechainHost *host);

/* transfer.c: what was offered, as frames into @out, which is borrowed; then @done, once. What cannot be read
 * is said there. */
typedef struct _Sending Sending;
Sending *sending_start (RechainStorage *storage, Json *offer, guint64 from, guint64 rate, int out,
                        void (*done) (const GError *error, gpointer data), gpointer data);
void sending_free (Sending *sending);

/* feed.c: data for an operation on another host, from here or from a third one, through a session of its own. */
typedef struct _Feed Feed;
typedef struct {
  Json *offer;
  RechainStorage *storage; /* it lies here, */
  guint64 rate;
  RechainHost *host;       /* or there */
} FeedSource;
Feed *feed_start (const Far *to, const char *operation, const FeedSource *source, guint64 from);
void feed_free (Feed *feed);

/* documents.c; all full */
Json *document_chain (World *world, const char *address, ChainDisk *only);
Json *document_chain_offline (GPtrArray *layers);
Json *document_info (VmLink *link, const char *address);
Json *document_jobs (World *world, ChainJob *only);
Json *document_operation (Op *op);
Json *document_plan (Op *op);
char *print_document (Json *take_document);
/* standing.c: of an operation that has not ended; @lines: its journal. */
Json *document_standing (Op *op, Json *lines);
/* For operations whose QEMU is dead: per disk the file to start the guest from; NULL otherwise. */
Json *authoritative_files (Op *op);
