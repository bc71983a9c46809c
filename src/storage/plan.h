/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Request + what is there -> an operation whose steps can run. Every precondition is checked first, and
 * nothing is changed. */
#pragma once

#include "src/storage/request.h"
#include "src/storage/volume.h"

/* Exactly one of @op (full) and @error (borrowed) is set; never from inside the call. */
typedef void (*VolumePlanReady) (Op *op, const GError *error, gpointer data);

/* @layers: [{"vm","disk","depth","file","node","size"}] of the VMs that run. An operation whose details name a
 * "vm" is to be done on that one: the caller calls op_set_vm(). All arguments are borrowed until the callback. */
void volume_plan_make (const Allow *allow, const char *state_dir, const VolumeRequest *request,
                       Json *layers, VolumePlanReady callback, gpointer data);
