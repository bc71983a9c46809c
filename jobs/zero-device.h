/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The work of making new space of a device read as zeroes, so that nobody sees what lay there before: discard
 * that is known to zero, else the zero command of the device, else written zeroes; what the device can do, the
 * kernel knows. Doing it again is harmless. */
#pragma once

#include "jobs/work.h"

/* details: "zero-from", bytes: from there to the end of disk->part, where the disk has one, else of disk->to;
 * "in-place" says the latter. */
Work *zero_device_start (Op *op, OpDisk *disk, const WorkHost *host);
