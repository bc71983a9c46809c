/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A volume that another host copies: its snapshot stands until it is given back. */
#pragma once

#include "jobs/step.h"

/* Waits; op->lent says that it does. */
Work *lend_start (Op *op, OpDisk *disk, const WorkHost *host);
/* It is not needed any more. Without effect where nothing is lent. */
void lend_give_back (Op *op);
