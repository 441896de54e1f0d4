/* SPDX-License-Identifier: Apache-2.0
 * A link over MPI. */
#include "mpilink.h"

#include <mpi.h>
#include <time.h>

enum { MOST = 1 << 30 }; /* bytes of a message: MPI counts in int */

/* What an MPI of its own accord would do is spin; a stage waits for most of the time, and others
 * may want its cores. It spins for a moment, and then looks now and then. */
static bool wait_for(int from, MPI_Status *status)
{
    enum { SPINS = 2000, NAP_NS = 20000 };
    for (int i = 0;; i++) {
        int there;
        if (MPI_Iprobe(from, 0, MPI_COMM_WORLD, &there, status) != MPI_SUCCESS) return false;
        if (there) return true;
        if (i >= SPINS) nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

static bool send_bytes(void *ctx, int to, const void *data, size_t n)
{
    (void)ctx;
    const char *p = data;
    for (size_t done = 0; done < n;) {
        const size_t part = n - done < MOST ? n - done : MOST;
        if (MPI_Send(p + done, (int)part, MPI_BYTE, to, 0, MPI_COMM_WORLD) != MPI_SUCCESS)
            return false;
        done += part;
    }
    return true;
}

static bool receive_bytes(void *ctx, int from, void *data, size_t n)
{
    (void)ctx;
    char *p = data;
    for (size_t done = 0; done < n;) {
        const size_t part = n - done < MOST ? n - done : MOST;
        MPI_Status status;
        int came;
        if (!wait_for(from, &status) ||
            MPI_Recv(p + done, (int)part, MPI_BYTE, from, 0, MPI_COMM_WORLD, &status) !=
                MPI_SUCCESS ||
            MPI_Get_count(&status, MPI_BYTE, &came) != MPI_SUCCESS || came != (int)part)
            return false;
        done += part;
    }
    return true;
}

bool foretoken_mpi_open(ftk_link *link)
{
    int level;
    *link = (ftk_link){.send = send_bytes, .receive = receive_bytes};
    return MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) == MPI_SUCCESS &&
           MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN) == MPI_SUCCESS &&
           MPI_Comm_rank(MPI_COMM_WORLD, &link->rank) == MPI_SUCCESS &&
           MPI_Comm_size(MPI_COMM_WORLD, &link->size) == MPI_SUCCESS;
}

void foretoken_mpi_close(void)
{
    MPI_Finalize();
}
