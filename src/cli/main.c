/* SPDX-License-Identifier: Apache-2.0
 * The foretoken program: which command, and help. */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "stage.h"

/* With a standard stream closed, the next file opened would take its place. */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

/* The word behind those that are known. */
static int too_many(const char *word)
{
    cli_say("unexpected argument \"%s\"; see foretoken help", word);
    return CLI_USAGE;
}

static int help(int argc, char **argv)
{
    if (argc > 1) return too_many(argv[1]);
    if (argc == 0) {
        cli_help(stdout);
        return cli_out_status();
    }
    const cli_command command = cli_command_find(argv[0]);
    if (command != CLI_N_COMMANDS) {
        cli_help_command(stdout, command);
        return cli_out_status();
    }
    cli_say("there is no command \"%s\"; see foretoken help", argv[0]);
    return CLI_USAGE;
}

static int run(const cli_options *o)
{
    switch (o->command) {
    case CLI_CHAT: return cmd_chat(o);
    case CLI_GENERATE: return cmd_generate(o);
    case CLI_TOKENIZE: return cmd_tokenize(o);
    case CLI_PERPLEXITY: return cmd_perplexity(o);
    case CLI_INSPECT: return cmd_inspect(o);
    case CLI_IMAGE: return cmd_image(o);
#ifdef FTK_HAVE_SERVE
    case CLI_SERVE: return cmd_serve(o);
#else
    case CLI_SERVE:
        return cli_say_usage(o->command, "this build has no server; install libmicrohttpd-dev and "
                                         "build again");
#endif
    case CLI_N_COMMANDS: break;
    }
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* a reader that left is seen as EPIPE */
    signal(SIGXFSZ, SIG_IGN); /* a file past the limit as EFBIG */
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        cli_help(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        if (argc > 2) return too_many(argv[2]);
        printf("foretoken %s\n", ftk_version());
        return cli_out_status();
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(argc - 2, argv + 2);
    const cli_command command = cli_command_find(name);
    if (command == CLI_N_COMMANDS) {
        cli_say("there is no command \"%s\"; see foretoken help", name);
        return CLI_USAGE;
    }
    cli_options o;
    if (!cli_options_parse(&o, command, argc - 2, argv + 2)) return CLI_USAGE;
    if (o.help) return help(1, argv + 1);
    int status = o.mpi ? cli_stage_open(&o) : CLI_DONE;
    if (status != CLI_DONE) return status;
    status = o.link && o.link->rank < o.link->size - 1 ? cli_stage_run(&o) : run(&o);
    cli_stage_close(status);
    return status;
}
