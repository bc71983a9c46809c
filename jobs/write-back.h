/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file that a program writes from its beginning to its end is written out to the disk meanwhile, so that the sync
 * in the end finds little to do. The kernel by itself begins when a tenth of the memory is dirty. */
#pragma once

typedef struct _WriteBack WriteBack;

/* NULL where there is no such file: then all is left to the sync. */
WriteBack *write_back_start (const char *path);
void write_back_stop (WriteBack *back);
