/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by model-qemu.c (what the model is and shows) and model-change.c (what changes it). */
#pragma once

#include "tests/unit/model-qemu.h"

ModelDevice *model_device_on (Model *model, const char *node);
/* What the guest reads through the node. */
int model_value_of (Model *model, const char *node);
void model_replace (char **field, const char *value);
/* Only the first time counts. */
void model_is_sorry (Model *model, const char *why);

/* Names of the commands that change something; NULL behind the last. */
const char *model_command (guint i);
/* One of these. NULL, or why not. */
const char *model_perform (Model *model, const char *command, Json *arguments);
