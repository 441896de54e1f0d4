/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FTK_LIB_DIR
#define FTK_LIB_DIR "lib"
#endif

static ftk_link stage_link;
static void *helper;

/* Which MPI has started this process, by what it leaves in the environment; NULL: none. */
static const char *started_by(void)
{
    if (getenv("OMPI_COMM_WORLD_SIZE")) return "openmpi";
    if (getenv("PMI_SIZE") || getenv("PMI_RANK")) return "mpich";
    return NULL;
}

/* Beside the program, as in a build folder, or where it was installed. */
static void *open_helper(const char *mpi)
{
    static const char *const places[] = {"", "../" FTK_LIB_DIR "/foretoken/"};
    char path[4096 + 128];
    const ssize_t n = readlink("/proc/self/exe", path, 4096);
    path[n > 0 ? n : 0] = 0;
    char *const slash = strrchr(path, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        snprintf(slash + 1, 128, "%sforetoken-%s.so", places[i], mpi);
        /* global: parts of an MPI look for names of others */
        void *const found = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (found) return found;
    }
    return NULL;
}

int cli_stage_open(cli_options *o)
{
    const char *mpi = started_by();
    if (!mpi)
        return cli_say_usage(
            o->command,
            "--mpi is for processes that mpirun has started: mpirun -n 2 foretoken %s "
            "--mpi ...",
            cli_command_name(o->command));
    helper = open_helper(mpi);
    bool (*open)(ftk_link *) = NULL;
    if (helper) *(void **)&open = dlsym(helper, "foretoken_mpi_open");
    if (!open) {
        cli_say("this build has no link over %s: install lib%s-dev and build again", mpi, mpi);
        return CLI_FAILED;
    }
    if (!open(&stage_link)) {
        cli_say("%s could not be started", mpi);
        return CLI_FAILED;
    }
    if (stage_link.size > 1) o->link = &stage_link;
    return CLI_DONE;
}

/* A server's last process is asked to end and tells the others once it has. */
static void outlast_signals(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

int cli_stage_run(const cli_options *o)
{
    if (o->command == CLI_SERVE) outlast_signals();
    cli_world w = {0};
    int status = cli_world_open_model(&w, o);
    if (status == CLI_DONE) {
        const ftk_err err = ftk_stage_run(w.model, o->link, (int)o->threads);
        if (err != FTK_OK) status = cli_fail(err, "a stage of the model");
    }
    cli_world_close(&w);
    return status;
}

void cli_stage_close(int status)
{
    void (*close)(void) = NULL;
    if (!helper || status != CLI_DONE) return; /* mpirun ends the others, as this one has failed */
    *(void **)&close = dlsym(helper, "foretoken_mpi_close");
    if (close) close();
}
