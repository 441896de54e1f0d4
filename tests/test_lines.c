/* SPDX-License-Identifier: Apache-2.0
 * What is typed and pasted into a terminal, a pseudo one: which messages come of it, and that the
 * terminal is left as it was, however the program ends. Built twice: with libedit, and without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>
#include <unistd.h>

#include "cli/common.h"
#include "cli/message.h"

enum { PATIENCE_MS = 60000, MOMENT_MS = 300 };

#define START "\033[200~"
#define END   "\033[201~"
#define ON    "\033[?2004h"
#define OFF   "\033[?2004l"

#ifdef FTK_HAVE_EDIT
static const bool edited = true;
#else
static const bool edited = false;
#endif

/* ---- the child: reads messages, and tells of each through a pipe */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

typedef struct head {
    int end, verbatim;
    size_t n;
} head;

static void tell(int fd, const void *p, size_t n)
{
    for (const char *at = p; n > 0;) {
        const ssize_t done = write(fd, at, n);
        if (done <= 0) _exit(9);
        at += done;
        n -= (size_t)done;
    }
}

/* How often a message was asked for: before that Ctrl-C is for the message before. */
static _Atomic int *asked;

static void read_messages(int out)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    static const int usual[] = {SIGTERM, SIGHUP, SIGQUIT,
                                SIGABRT}; /* in the background some are ignored */
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) signal(usual[i], SIG_DFL);
    sigaction(SIGINT, &action, NULL);
    cli_line *l = cli_line_open(&interrupted);
    cli_message m = {0};
    for (cli_line_end end = CLI_LINE; end == CLI_LINE || end == CLI_LINE_INTERRUPT;) {
        interrupted = 0;
        ++*asked;
        end = cli_message_read(l, &m);
        const head h = {(int)end, m.verbatim, end == CLI_LINE ? m.text.n : 0};
        tell(out, &h, sizeof h);
        tell(out, m.text.p, h.n);
    }
    cli_line_close(l);
    cli_bytes_free(&m.text);
    exit(0); /* not _exit(): what is left to do at the end is looked at, too */
}

/* ---- the shell: it has the terminal, and tells how its only job is doing. Without it the job's
 * end would be the terminal's, and Ctrl-Z would do nothing. */

static void run_shell(int slave, int results, int states, int goodbye)
{
    if (login_tty(slave) != 0) _exit(9);
    signal(SIGTTOU, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    const pid_t job = fork();
    if (job == 0) {
        close(states);
        close(goodbye);
        setpgid(0, 0);
        tcsetpgrp(STDIN_FILENO, getpid());
        signal(SIGTTOU, SIG_DFL);
        read_messages(results);
    }
    close(results);
    tell(states, &job, sizeof job);
    for (int status = 0x7f; WIFSTOPPED(status);) {
        if (waitpid(job, &status, WUNTRACED) != job) _exit(9);
        tell(states, &status, sizeof status);
    }
    char c;
    if (read(goodbye, &c, 1) < 0) _exit(9);
    _exit(0);
}

/* ---- the parent: the terminal */

typedef struct session {
    int master, slave, results, states, goodbye;
    pid_t shell, job;
    struct termios before;
    int n_results;
    char shown[1 << 22];
    size_t n_shown;
} session;

static session s;

static void open_terminal(const char *term)
{
    int results[2], states[2], goodbye[2];
    s.n_shown = 0;
    s.n_results = 0;
    asked = mmap(NULL, sizeof *asked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(asked != MAP_FAILED);
    assert_int_equal(openpty(&s.master, &s.slave, NULL, NULL, &(struct winsize){24, 80, 0, 0}), 0);
    assert_int_equal(tcgetattr(s.slave, &s.before), 0);
    assert_true(pipe(results) == 0 && pipe(states) == 0 && pipe(goodbye) == 0);
    s.shell = fork();
    assert_true(s.shell >= 0);
    if (s.shell == 0) {
        close(results[0]);
        close(states[0]);
        close(goodbye[1]);
        close(s.master);
        setenv("TERM", term, 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        run_shell(s.slave, results[1], states[1], goodbye[0]);
    }
    close(results[1]);
    close(states[1]);
    close(goodbye[0]);
    s.results = results[0];
    s.states = states[0];
    s.goodbye = goodbye[1];
    assert_int_equal(read(s.states, &s.job, sizeof s.job), sizeof s.job);
    fcntl(s.master, F_SETFL, O_NONBLOCK);
}

/* Takes what the terminal shows, and types on, for a while; false: nothing happened. */
static bool turn(const char **keys, size_t *n, int ms)
{
    struct pollfd at = {.fd = s.master, .events = (short)(POLLIN | (*n > 0 ? POLLOUT : 0))};
    const int ready = poll(&at, 1, ms);
    if (at.revents & POLLIN) {
        if (s.n_shown > sizeof s.shown / 2) s.n_shown = 0;
        const ssize_t got = read(s.master, s.shown + s.n_shown, sizeof s.shown - 1 - s.n_shown);
        if (got > 0) s.n_shown += (size_t)got;
        s.shown[s.n_shown] = 0;
    }
    if (at.revents & POLLOUT) {
        const ssize_t done = write(s.master, *keys, *n < 512 ? *n : 512);
        if (done > 0) *keys += done, *n -= (size_t)done;
    }
    return ready > 0;
}

static void look(int ms)
{
    const char *none = "";
    size_t n = 0;
    turn(&none, &n, ms);
}

static void until_shown(const char *text)
{
    for (int i = 0; i < PATIENCE_MS / 50; i++) {
        if (memmem(s.shown, s.n_shown, text, strlen(text))) return;
        look(50);
    }
    fail_msg("\"%s\" was not shown, but \"%.*s\"", text, (int)s.n_shown, s.shown);
}

/* Until the line behind the last one that was read is asked for: keys that come before are the
 * terminal's. */
static void until_asked(void)
{
    struct termios now;
    for (int i = 0; i < PATIENCE_MS / 10; i++) {
        assert_int_equal(tcgetattr(s.slave, &now), 0);
        if (*asked > s.n_results && (!edited || !(now.c_lflag & ICANON))) return;
        look(10);
    }
    fail_msg("no line is asked for; shown: \"%.*s\"", (int)s.n_shown, s.shown);
}

static void type_bytes(const char *keys, size_t n)
{
    for (int idle = 0; n > 0 && idle < PATIENCE_MS / 100;) idle += !turn(&keys, &n, 100);
    assert_int_equal(n, 0);
}

static void type(const char *keys)
{
    type_bytes(keys, strlen(keys));
}

/* Whether something came of what was typed. */
static bool came(int ms)
{
    struct pollfd at = {.fd = s.results, .events = POLLIN};
    for (int i = 0; i < ms / 10; i++) {
        if (poll(&at, 1, 0) > 0) return true;
        look(10);
    }
    return poll(&at, 1, 0) > 0;
}

static void read_result(void *p, size_t n)
{
    for (char *at = p; n > 0;) {
        if (!came(PATIENCE_MS)) fail_msg("nothing came of it; shown: \"%s\"", s.shown);
        const ssize_t got = read(s.results, at, n);
        assert_true(got > 0);
        at += got;
        n -= (size_t)got;
    }
}

static void read_head(head *h)
{
    read_result(h, sizeof *h);
    s.n_results++;
}

static void expect_end(cli_line_end end)
{
    head h;
    read_head(&h);
    assert_int_equal(h.end, end);
}

static void expect_bytes(bool verbatim, const char *text, size_t n)
{
    head h;
    read_head(&h);
    assert_int_equal(h.end, CLI_LINE);
    char *got = calloc(1, h.n + 1);
    assert_non_null(got);
    if (h.n > 0) read_result(got, h.n);
    if (h.n != n || memcmp(got, text, n) != 0)
        fail_msg("expected \"%.200s\" (%zu)\n got \"%.200s\" (%zu)", text, n, got, h.n);
    assert_int_equal(h.verbatim, verbatim);
    free(got);
}

static void expect_line(const char *text)
{
    expect_bytes(false, text, strlen(text));
}

static void expect_lines(const char *text)
{
    expect_bytes(true, text, strlen(text));
}

/* How the job is doing, once that has changed. */
static int next_state(void)
{
    int status = -1;
    struct pollfd at = {.fd = s.states, .events = POLLIN};
    for (int i = 0; i < PATIENCE_MS / 10 && poll(&at, 1, 0) == 0; i++) look(10);
    assert_int_equal(read(s.states, &status, sizeof status), sizeof status);
    while (poll(&(struct pollfd){.fd = s.master, .events = POLLIN}, 1, 0) > 0) look(0);
    return status;
}

static const char *last(const char *text)
{
    const char *at = NULL;
    for (const char *p = s.shown; (p = strstr(p, text)); p++) at = p;
    return at;
}

/* Nothing that was changed of the terminal is left. */
static void expect_released(void)
{
    struct termios after;
    assert_int_equal(tcgetattr(s.slave, &after), 0);
    assert_int_equal(after.c_lflag, s.before.c_lflag);
    assert_int_equal(after.c_iflag, s.before.c_iflag);
    assert_int_equal(after.c_oflag, s.before.c_oflag);
    assert_memory_equal(after.c_cc, s.before.c_cc, sizeof after.c_cc);
    assert_true(last(OFF) && (!last(ON) || last(OFF) > last(ON)));
}

static void forget_terminal(void)
{
    close(s.goodbye);
    waitpid(s.shell, NULL, 0);
    close(s.master);
    close(s.slave);
    close(s.results);
    close(s.states);
    munmap(asked, sizeof *asked);
}

/* Its exit status, once it has ended. */
static int close_terminal(void)
{
    const int status = next_state();
    expect_released();
    forget_terminal();
    return status;
}

static void end_terminal(void)
{
    until_asked(); /* before that it is the terminal's, and lost */
    type("\004");
    expect_end(CLI_LINE_EOF);
    const int status = close_terminal();
    if (status != 0) fail_msg("status %d; shown: \"%s\"", status, s.shown);
}

/* ---- the tests */

static void test_lines(void **state)
{
    (void)state;
    open_terminal("xterm");
    until_shown(ON);
    type("hello\r");
    expect_line("hello");
    type("  na\u00efve \u4e2d  \r\r");
    expect_line("na\u00efve \u4e2d");
    expect_line("");
    type("/help\r");
    expect_line("/help");
    type("one\\\rtwo\\\rthree\r");
    expect_lines("one\ntwo\nthree");
    type("two backslashes\\\\\r");
    expect_line("two backslashes\\\\");
    type("/no command\\\r\r");
    expect_line("/no command");
    type("\"\"\"\r  indented\r\r\\\rlast \"\"\"\r");
    expect_lines("  indented\n\n\\\nlast");
    type("\"\"\"/help\"\"\"\r");
    expect_lines("/help");
    type("\"\"\"a\rb\r\"\"\"\r");
    expect_lines("a\nb");
    type("\"\"\"\"\"\"\r");
    expect_lines("");
    end_terminal();
}

static void test_pastes(void **state)
{
    (void)state;
    open_terminal("xterm");
    until_asked();
    /* Nothing is sent before Enter, whatever the paste ends in. */
    type(START "def f():\r    return 1\r\r" END);
    assert_false(came(MOMENT_MS));
    type("\r");
    expect_lines("def f():\n    return 1");
    type("say: " START "a\nb" END " end\r");
    expect_lines("say: a\nb end");
    type(START "\r\r    x\r  y" END "\r");
    expect_lines("    x\n  y");
    type(START "one" END START "two\rthree" END "\r");
    expect_lines("onetwo\nthree");
    type(START "one line" END "\r");
    expect_line("one line");
    type(START "/help\r" END "\r");
    expect_line("/help");
    type(START "/help\rme" END "\r");
    expect_lines("/help\nme");
    type(START "\"\"\"doc\"\"\"\rimport x \\" END "\r");
    expect_lines("\"\"\"doc\"\"\"\nimport x \\");
    type(START END "\r");
    expect_line("");
    if (edited) {
        until_asked();
        type(START "a\r\nb\r\n\r\nc" END "\r");
        expect_lines("a\nb\n\nc");
    }
    end_terminal();
}

/* Keys and commands in what is pasted are text. */
static void test_pasted_controls(void **state)
{
    (void)state;
    if (!edited) skip(); /* the terminal itself takes them while it edits the lines */
    open_terminal("xterm");
    until_asked();
    static const char text[] = "a\x03"
                               "b\x04"
                               "c\x1a"
                               "d\x1c"
                               "e\x13"
                               "f\x11"
                               "g\x16"
                               "h\x0f"
                               "i\x15\x17\x08\x7f\x01"
                               "j\033[31mk\033]0;title\007\033[A\033\tl\xc2\x9b";
    type(START);
    type(text);
    type("\rm" END "\r");
    char wanted[sizeof text + 2];
    snprintf(wanted, sizeof wanted, "%s\nm", text);
    expect_lines(wanted);
    assert_null(memmem(s.shown, s.n_shown, "\033]0;title", 9)); /* nor are they for the terminal */
    assert_null(memmem(s.shown, s.n_shown, "\033[31m", 5));
    type_bytes(START "x\0y\xff\rz" END "\r", 19);
    expect_lines("xy\ufffd\nz");
    end_terminal();
}

static void test_long_pastes(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *text = malloc(N + 1);
    assert_non_null(text);
    open_terminal("xterm");
    until_asked();
    for (int lines = 1; lines >= (edited ? 0 : 1); lines--) {
        for (int i = 0; i < N; i++)
            text[i] = lines && i % 100 == 99 ? '\n' : (char)('a' + (i * 7 + i / 100) % 26);
        text[N - 1] = '.';
        until_asked();
        type(START);
        type_bytes(text, N);
        type(END);
        assert_false(came(MOMENT_MS));
        type("\r");
        expect_bytes(lines, text, N);
    }
    end_terminal();
    free(text);
}

static void test_keys(void **state)
{
    (void)state;
    if (!edited) skip();
    open_terminal("xterm");
    until_asked();
    type("a\033\rb\033\nc\r");
    expect_lines("a\nb\nc");
    /* One entry of several lines, and one that was quoted. */
    type("\033[A\r");
    expect_lines("a\nb\nc");
    type("one\\\rtwo\r");
    expect_lines("one\ntwo");
    type("\"\"\"/x\"\"\"\r");
    expect_lines("/x");
    type("\033[A\r");
    expect_lines("/x");
    type("\033[A\033[A\033[A!\r"); /* repeated entries are kept once in a row by nobody */
    expect_lines("one\ntwo!");
    end_terminal();
}

static void test_interrupts(void **state)
{
    (void)state;
    open_terminal("xterm");
    until_asked();
    type("half a line\003");
    expect_end(CLI_LINE_INTERRUPT);
    until_asked();
    s.n_shown = 0;
    type("begun\\\r");
    until_shown(". ");
    type("\003");
    expect_end(CLI_LINE_INTERRUPT);
    until_asked();
    s.n_shown = 0;
    type("\"\"\"\r");
    until_shown(". ");
    type("quoted\003");
    expect_end(CLI_LINE_INTERRUPT);
    until_asked();
    type(START "a paste whose end was lost\r");
    assert_false(came(MOMENT_MS));
    type("\003");
    expect_end(CLI_LINE_INTERRUPT);
    type("whole\r");
    expect_line("whole");
    end_terminal();
}

static void test_ends(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGHUP, SIGQUIT, SIGABRT};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        open_terminal("xterm");
        until_asked();
        type("half");
        assert_false(came(MOMENT_MS));
        kill(s.job, signals[i]);
        const int status = close_terminal();
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
    }
    if (edited) { /* the key, in a line that is edited */
        open_terminal("xterm");
        until_asked();
        type("half\034");
        const int status = close_terminal();
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGQUIT);
    }
    /* A terminal that goes away in the middle of a paste. */
    open_terminal("xterm");
    until_asked();
    type(START "unfinished");
    assert_false(came(MOMENT_MS));
    close(s.master);
    int status = 0;
    assert_int_equal(read(s.states, &status, sizeof status), sizeof status);
    assert_true(WIFSIGNALED(status) || WIFEXITED(status));
    forget_terminal();
    /* One that knows no commands is told none. */
    open_terminal("dumb");
    until_asked();
    type("hello\r");
    expect_line("hello");
    until_asked();
    type("\004");
    expect_end(CLI_LINE_EOF);
    assert_int_equal(next_state(), 0);
    assert_true(!last(ON) && !last(OFF));
    forget_terminal();
}

/* Ctrl-Z gives the terminal back, and fg takes it again. */
static void test_stops(void **state)
{
    (void)state;
    open_terminal("xterm");
    until_asked();
    for (int i = 0; i < 2; i++) {
        type("half\x1a");
        int status = next_state();
        assert_true(WIFSTOPPED(status));
        assert_int_equal(WSTOPSIG(status), SIGTSTP);
        expect_released();
        s.n_shown = 0;
        kill(s.job, SIGCONT);
        until_shown(ON);
        if (edited) until_shown("half");
        type(edited ? " whole\r" : "whole\r");
        expect_line(edited ? "half whole" : "whole");
        s.n_shown = 0;
        type("again\r");
        expect_line("again");
        until_asked();
    }
    end_terminal();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_pastes),
        cmocka_unit_test(test_pasted_controls),
        cmocka_unit_test(test_long_pastes),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_interrupts),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
