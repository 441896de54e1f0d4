/* SPDX-License-Identifier: Apache-2.0
 * --mpi: a model over the processes that mpirun has started. */
#ifndef FTK_CLI_STAGE_H
#define FTK_CLI_STAGE_H

#include "common.h"

/* Sets o->link, which is NULL still where there is one process alone. Returns an exit status. */
int cli_stage_open(cli_options *o);
/* What a process does that is not the last one. Returns an exit status. */
int cli_stage_run(const cli_options *o);
/* After a command that returned status. */
void cli_stage_close(int status);

#endif
