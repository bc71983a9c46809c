/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The runner: performs every table, forward or backward. The only place where steps happen.
 *
 * Per step: [look at the world] -> asks (data) -> intent durable -> ask, all disks in parallel, within a
 * disk in order -> barrier -> [look, verify] -> next. A failure before the pivot turns it round; a
 * failure in a finish or undo step makes the operation stuck. It looks at the current step and either
 * moves or returns to wait; callbacks store a fact and turn the runner. */
#pragma once

#include "jobs/journal.h"
#include "jobs/step.h"
#include "qmp/features.h"

typedef struct _Runner Runner;

/* The operation ended: op->state is done, undone or stuck; or it was let go of (detached), and keeps the
 * state it had. Comes once, from the main loop. */
typedef void (*RunnerEnded) (Runner *runner, gpointer data);
/* State, step or progress changed. */
typedef void (*RunnerChanged) (Runner *runner, gpointer data);

typedef enum { RUN_BACK, RUN_ON, RUN_BY_RECORD } RunDirection;

/* Takes @op and @journal. @client is ready, and NULL for an offline operation; @features is borrowed and
 * outlives the runner. */
Runner *runner_new (Op *op, Journal *journal, const char *state_dir, QmpClient *client,
                    QmpFeatures *features);
Runner *runner_ref (Runner *runner);
void runner_unref (Runner *runner);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Runner, runner_unref)

/* A new operation: records it, then runs. FALSE: nothing was changed, and the callbacks will not come. */
gboolean runner_start (Runner *runner, RunnerEnded ended, RunnerChanged changed, gpointer data,
                       GError **error);
/* An interrupted one, from the journal. Without a client: @op is offline, or its QEMU forgotten. RUN_BY_RECORD: back before the pivot, on after it. */
gboolean runner_recover (Runner *runner, RunDirection direction, RunnerEnded ended,
                         RunnerChanged changed, gpointer data, GError **error);

/* Does a process write to an active layer, the old one or the new one, of any disk? As image locks tell. */
gboolean op_layers_are_open (const Op *op);
/* Did its QEMU end? Its process did (a zombie counts), or no process has the layers open that it had open
 * under lock. FALSE where neither can be told. */
gboolean op_qemu_is_gone (Op *op);
/* From here on it is settled on the files; for runner_recover without a client. */
void op_forget_qemu (Op *op);

/* Turns round where it still can; @why reads as the cause of the failure. */
void runner_cancel (Runner *runner, const char *why);
/* Lets go, so that nobody is left standing: a guest that we have frozen is thawed, one that we hold is
 * continued. @at_once: waits neither for the agent nor for QEMU, also where the other is on its way. */
void runner_detach (Runner *runner, gboolean at_once);
/* REFUSED where nothing runs that could be paused or slowed down. */
gboolean runner_pause (Runner *runner, gboolean pause, GError **error);
gboolean runner_set_bandwidth (Runner *runner, guint64 bytes_per_second, GError **error);

/* Before recovery, also where QEMU cannot be reached: a guest that @op may have frozen is thawed, if its
 * agent can be. Then @done, perhaps at once. */
void runner_thaw_op (Op *op, void (*done) (gpointer data), gpointer data);

Op *runner_op (Runner *runner);
const char *runner_step_name (Runner *runner);      /* "" before the first */
gboolean runner_was_detached (Runner *runner);
/* Bytes of all jobs of this step, and the rate in bytes/s over the last seconds. */
void runner_progress (Runner *runner, guint64 *ret_done, guint64 *ret_total, double *ret_rate);
