/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In which order ssh should offer its ciphers for much data. Its own order begins with the one that is fast on every
 * machine; where the processor has instructions for AES, AES-GCM takes half the time, on both sides. Only the order is
 * ours, and only where the configuration of ssh says nothing of ciphers. */
#pragma once

#include "src/remote/far.h"

typedef struct _Ciphers Ciphers;

/* Asks ssh for its configuration. @done comes once, never from inside this call, with the value for Ciphers (NULL: as
 * they are); then there is no more to stop. NULL: nothing is to be asked. */
Ciphers *ciphers_ask (const Far *far, void (*done) (const char *list, gpointer data), gpointer data);
void ciphers_stop (Ciphers *ciphers);

/* The list out of what `ssh -G` prints, in our order; full. NULL where that is the order already, or is another than
 * in @standard, which it prints without any configuration. */
char *ciphers_of (const char *configuration, const char *standard);
