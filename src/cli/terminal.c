/* SPDX-License-Identifier: Apache-2.0
 * What a conversation changes of the terminal, taken back however the program ends. */
#include "terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const char mark_pastes[] = "\033[?2004h", leave_pastes[] = "\033[?2004l";

/* For handlers of signals: what they call is safe there. */
static struct {
    volatile sig_atomic_t held;
    int fd;
    struct termios modes;
} terminal;

static void tell(const char *command, size_t n)
{
    const ssize_t written = write(terminal.fd, command, n);
    (void)written; /* a terminal that is gone needs nothing */
}

void cli_terminal_release(void)
{
    if (!terminal.held) return;
    terminal.held = 0;
    tell(leave_pastes, sizeof leave_pastes - 1);
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal.modes);
}

/* The signal's own action follows: SA_RESETHAND has put it back. */
static void on_end(int sig)
{
    cli_terminal_release();
    raise(sig);
}

/* Stops as if there were no handler, and takes the terminal again once it goes on. */
static void on_stop(int sig)
{
    const int saved = errno;
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    struct sigaction own;
    struct termios now;
    sigset_t only, before;
    const bool held = terminal.held && tcgetattr(STDIN_FILENO, &now) == 0;
    cli_terminal_release();
    sigaction(sig, &usual, &own);
    raise(sig);
    sigemptyset(&only);
    sigaddset(&only, sig);
    sigprocmask(SIG_UNBLOCK, &only, &before); /* here it stops */
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(sig, &own, NULL);
    if (held) {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
        tell(mark_pastes, sizeof mark_pastes - 1);
        terminal.held = 1;
    }
    errno = saved;
}

/* Where nobody, a sanitizer say, has other plans. */
static void handle(int sig, void (*handler)(int), int flags)
{
    struct sigaction action;
    if (sigaction(sig, NULL, &action) != 0 || action.sa_handler != SIG_DFL) return;
    action = (struct sigaction){.sa_handler = handler, .sa_flags = flags};
    sigaction(sig, &action, NULL);
}

void cli_terminal_hold(int fd)
{
    static bool known; /* to exit() and to the signals */
    static const int ends[] = {SIGHUP,  SIGTERM, SIGQUIT, SIGSEGV, SIGBUS,
                               SIGABRT, SIGFPE,  SIGILL,  SIGXCPU};
    const char *name = getenv("TERM");
    if (terminal.held || !isatty(fd) || !name || !name[0] || strcmp(name, "dumb") == 0) return;
    if (tcgetattr(STDIN_FILENO, &terminal.modes) != 0) return;
    terminal.fd = fd;
    if (!known) {
        known = true;
        atexit(cli_terminal_release);
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
            handle(ends[i], on_end, SA_RESETHAND | SA_NODEFER);
        handle(SIGTSTP, on_stop, SA_RESTART);
    }
    terminal.held = 1;
    tell(mark_pastes, sizeof mark_pastes - 1);
}
