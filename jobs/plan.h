/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Request + the world -> an operation whose steps can run; every precondition is checked first, and
 * nothing is changed. Printing a plan is printing the asks of its table. */
#pragma once

#include "jobs/records.h"
#include "jobs/request.h"
#include "jobs/step.h"

/* What the plan is made against. All borrowed; they must outlive the callback. */
typedef struct {
  QmpClient *client; /* NULL: offline; then there are no features and no world either */
  QmpFeatures *features;
  World *world;
  const char *state_dir; /* where other operations are looked up */
  const char *vm;        /* offline: the address of a VM that is off, whose snapshot is deleted; nullable */
} PlanContext;

/* Exactly one of @op (full) and @error (borrowed) is set. */
typedef void (*PlanReady) (Op *op, const GError *error, gpointer data);

void plan_make (const PlanContext *context, const Request *request, PlanReady callback, gpointer data);

/* {"step","kind","says","qmp":[...],"argv":[...],"undo"} for each step, full. */
Json *plan_steps_to_json (Op *op);

/* The name of a snapshot. */
gboolean plan_check_name (const char *name, GError **error);
