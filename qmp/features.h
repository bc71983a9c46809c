/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one QEMU can do, read from query-qmp-schema: asked for features, never for versions. */
#pragma once

#include "qmp/client.h"

typedef struct _QmpFeatures QmpFeatures;

/* One row per feature: name for people and code, command, path of the argument (dots descend into
 * members, "type=VARIANT" selects a variant of a flat union, NULL: the command itself). */
#define QMP_FEATURES(X)                                                                            \
  X (FEATURE_BLOCK_STREAM, "block-stream", "block-stream", NULL)                                   \
  X (FEATURE_STREAM_BOTTOM, "stream-bottom", "block-stream", "bottom")                             \
  X (FEATURE_STREAM_MASK_PROTOCOL, "backing-mask-protocol", "block-stream", "backing-mask-protocol") \
  X (FEATURE_STREAM_FINALIZE, "auto-finalize", "block-stream", "auto-finalize")                    \
  X (FEATURE_BLOCK_COMMIT, "block-commit", "block-commit", "base-node")                            \
  X (FEATURE_COMMIT_FINALIZE, "commit-auto-finalize", "block-commit", "auto-finalize")             \
  X (FEATURE_BLOCKDEV_ADD, "blockdev-add", "blockdev-add", NULL)                                   \
  X (FEATURE_BLOCKDEV_SNAPSHOT, "blockdev-snapshot", "blockdev-snapshot", NULL)                    \
  X (FEATURE_BLOCKDEV_REOPEN, "blockdev-reopen", "blockdev-reopen", NULL)                          \
  X (FEATURE_BLOCKDEV_MIRROR, "blockdev-mirror", "blockdev-mirror", NULL)                          \
  X (FEATURE_BLOCK_JOB_CHANGE, "block-job-change", "block-job-change", NULL)                       \
  X (FEATURE_JOB_VERBS, "jobs", "job-finalize", NULL)                                              \
  X (FEATURE_QUERY_JOBS, "query-jobs", "query-jobs", NULL)                                         \
  X (FEATURE_TRANSACTION, "transaction", "transaction", NULL)                                      \
  X (FEATURE_DEBUG_GRAPH, "block-graph", "x-debug-query-block-graph", NULL)                        \
  X (FEATURE_NODES_FLAT, "flat-nodes", "query-named-block-nodes", "flat")                          \
  X (FEATURE_BLOCK_EXPORTS, "block-exports", "query-block-exports", NULL)                          \
  X (FEATURE_BLOCK_EXPORT_ADD, "block-export-add", "block-export-add", NULL)                       \
  X (FEATURE_NBD_SERVER, "nbd-server", "nbd-server-start", NULL)                                   \
  X (FEATURE_ALLOCATION_DEPTH, "allocation-depth", "block-export-add", "type=nbd.allocation-depth") \
  X (FEATURE_HMP, "human-monitor-command", "human-monitor-command", NULL)                          \
  X (FEATURE_COPY_ON_READ_BOTTOM, "copy-on-read-bottom", "blockdev-add", "driver=copy-on-read.bottom")

typedef enum {
#define X(id, name, command, argument) id,
  QMP_FEATURES (X)
#undef X
    N_FEATURES
} QmpFeature;

/* Exactly one of @features (full) and @error (borrowed) is set. */
typedef void (*QmpFeaturesReady) (QmpFeatures *features, const GError *error, gpointer data);

/* Asks once per connection. @cache_dir (nullable): where answers are kept by version string and
 * binary (path, inode, size, mtime of /proc/PID/exe of the peer), so that a second run need not make
 * QEMU print its schema again; a cache that cannot be read or written, or is malformed, is no
 * error. @cache_dir is never created for reading; with @may_write FALSE nothing is written. */
void qmp_features_query (QmpClient *client, const char *cache_dir, gboolean may_write,
                         QmpFeaturesReady callback, gpointer data);
/* From the "return" of query-qmp-schema; NULL where it is malformed. */
QmpFeatures *qmp_features_parse (Json *schema, GError **error);
/* Keeps @features in @cache_dir, for a caller that first looked without leave to write; nothing is
 * written where they came from there. */
void qmp_features_save (QmpFeatures *features, QmpClient *client, const char *cache_dir);
void qmp_features_free (QmpFeatures *features);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (QmpFeatures, qmp_features_free)

gboolean qmp_features_has (QmpFeatures *features, QmpFeature feature);
const char *qmp_feature_name (QmpFeature feature);
/* REFUSED, naming the feature, the QEMU and what it is needed for. */
gboolean qmp_features_require (QmpFeatures *features, QmpClient *client, QmpFeature feature,
                               const char *what_for, GError **error);
