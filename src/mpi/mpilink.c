/* SPDX-License-Identifier: Apache-2.0
 * A link over MPI. */
#include "mpilink.h"

#include <mpi.h>
#include <time.h>

enum { MOST = 1 << 30 }; /* bytes of a message: MPI counts in int */

static int n_processes;

/* MPI's first process gets the input of mpirun, and is the one that people look for; the engine
 * is with the last stage. So they are counted from the other end. */
static int process_of(int stage)
{
    return n_processes - 1 - stage;
}

/* What an MPI of its own accord would do is spin; a stage waits for most of the time, and others
 * may want its cores. It spins for a moment, and then looks now and then, the less often the
 * longer nothing has come. */
static bool wait_for(int from, MPI_Status *status)
{
    enum { SPINS = 2000, NAPS = 20000, NAP_NS = 20000, LONG_NAP_NS = 500000 };
    for (int i = 0;; i++) {
        int there;
        if (MPI_Iprobe(process_of(from), 0, MPI_COMM_WORLD, &there, status) != MPI_SUCCESS)
            return false;
        if (there) return true;
        if (i < SPINS) continue;
        const long nap = i < NAPS ? NAP_NS : LONG_NAP_NS;
        nanosleep(&(struct timespec){.tv_nsec = nap}, NULL);
        if (i == NAPS) i--; /* it stays there */
    }
}

static bool send_bytes(void *ctx, int to, const void *data, size_t n)
{
    (void)ctx;
    const char *p = data;
    for (size_t done = 0; done < n;) {
        const size_t part = n - done < MOST ? n - done : MOST;
        if (MPI_Send(p + done, (int)part, MPI_BYTE, process_of(to), 0, MPI_COMM_WORLD) !=
            MPI_SUCCESS)
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
            MPI_Recv(p + done, (int)part, MPI_BYTE, process_of(from), 0, MPI_COMM_WORLD, &status) !=
                MPI_SUCCESS ||
            MPI_Get_count(&status, MPI_BYTE, &came) != MPI_SUCCESS || came != (int)part)
            return false;
        done += part;
    }
    return true;
}

bool foretoken_mpi_open(ftk_link *link)
{
    int level, process;
    *link = (ftk_link){.send = send_bytes, .receive = receive_bytes};
    /* one at a time, but not always the same one: a server steps in a thread of its own */
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS ||
        level < MPI_THREAD_SERIALIZED ||
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN) != MPI_SUCCESS ||
        MPI_Comm_rank(MPI_COMM_WORLD, &process) != MPI_SUCCESS ||
        MPI_Comm_size(MPI_COMM_WORLD, &n_processes) != MPI_SUCCESS)
        return false;
    link->size = n_processes;
    link->rank = process_of(process);
    return true;
}

void foretoken_mpi_close(void)
{
    MPI_Finalize();
}
