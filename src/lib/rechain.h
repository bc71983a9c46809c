/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* librechain: change the backing chain of a running QEMU disk, and take it back when it fails.
 *
 * Three objects: a #RechainController owns the state directory with its journal, a #RechainVm is one
 * running QEMU, a #RechainOperation is one change over one or more disks of it: planned, run, undone.
 * All of them live in the thread-default main context in which they were made, and start no threads.
 * Each call that waits exists as x_async / x_finish and as a blocking x, which is the first two plus
 * iterating the context.
 *
 * Documents (`..._to_json`) are the ones of the interface contract; their JSON schemas are installed
 * with the library. Bytes are bytes and rates bytes per second everywhere. */
#pragma once

#include <rechain/rechain-error.h>
#include <rechain/rechain-values.h>
#include <rechain/rechain-request.h>
#include <rechain/rechain-controller.h>
#include <rechain/rechain-vm.h>
#include <rechain/rechain-snapshots.h>
#include <rechain/rechain-map.h>
#include <rechain/rechain-operation.h>
#include <rechain/rechain-storage.h>
#include <rechain/rechain-doctor.h>
#include <rechain/rechain-host.h>
#include <rechain/rechain-transfer.h>
