/* SPDX-License-Identifier: Apache-2.0
 * What the program opens at run time, built once for each MPI that there is. */
#ifndef FTK_MPILINK_H
#define FTK_MPILINK_H

#include "foretoken.h"

/* Starts MPI and fills the link. False: it could not. */
bool foretoken_mpi_open(ftk_link *link);
/* Ends it, once all is well; a program that fails leaves it alone, and mpirun ends the others. */
void foretoken_mpi_close(void);

#endif
