/* SPDX-License-Identifier: Apache-2.0
 * What is said while a model is loaded slowly, on a terminal and elsewhere. The clock and the
 * loading are this test's own (the linker's --wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <pty.h>
#include <time.h>
#include <unistd.h>

#include "cli/common.h"

enum { MIB = 100 };

typedef struct step {
    double at;
    int percent;
} step;

static double now;
static const step *steps;
static bool library_speaks;

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
ftk_err __wrap_ftk_model_load(ftk_model **m, const char *path, const ftk_model_config *cfg);

int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    (void)clock;
    *t = (struct timespec){.tv_sec = (time_t)now,
                           .tv_nsec = (long)((now - (double)(time_t)now) * 1e9)};
    return 0;
}

/* Goes through the steps, then fails: nothing else is needed of a model. */
ftk_err __wrap_ftk_model_load(ftk_model **m, const char *path, const ftk_model_config *cfg)
{
    const uint64_t total = (uint64_t)MIB << 20;
    const double began = now;
    for (const step *s = steps; s->at > 0; s++) {
        now = began + s->at;
        cfg->progress(cfg->host.ctx, total * (uint64_t)s->percent / 100, total);
    }
    if (library_speaks) cfg->host.log(cfg->host.ctx, FTK_LOG_ERROR, "it broke");
    *m = NULL;
    (void)path;
    return FTK_ERR_IO;
}

/* What comes out at fd's other end, where fd stands for standard error meanwhile. */
static void load(int fd, int other, char *text, size_t cap)
{
    const int saved = dup(STDERR_FILENO);
    const cli_options o = {.command = CLI_GENERATE, .model = "x.gguf"};
    cli_world w = {0};
    dup2(fd, STDERR_FILENO);
    now = 1000;
    const int status = cli_world_open_model(&w, &o);
    dup2(saved, STDERR_FILENO);
    close(saved);
    cli_world_close(&w);
    assert_int_equal(status, CLI_FAILED);
    close(fd);
    size_t n = 0;
    for (ssize_t got; n < cap - 1 && (got = read(other, text + n, cap - 1 - n)) > 0;)
        n += (size_t)got; /* a terminal's other end hands it over in pieces */
    text[n] = 0;
    close(other);
}

/* before: what is said before the line about the failure, which ends in `end`. */
static void expect(int fd, int other, const step *list, const char *before, const char *end)
{
    char text[1024], last[128];
    steps = list;
    load(fd, other, text, sizeof text);
    snprintf(last, sizeof last, "foretoken: x.gguf: %s%s", ftk_strerror(FTK_ERR_IO), end);
    const size_t n = strlen(before);
    if (strncmp(text, before, n) != 0 || strcmp(text + n, library_speaks ? "" : last) != 0)
        fail_msg("said:\n%s\nwanted:\n%s%s", text, before, last);
}

static void said(const step *list, const char *before)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    expect(ends[1], ends[0], list, before, "\n");
}

static void shown(const step *list, const char *before)
{
    int terminal, end;
    assert_int_equal(openpty(&terminal, &end, NULL, NULL, NULL), 0);
    expect(end, terminal, list, before, "\r\n");
}

#define DONE(percent) "foretoken: preparing 100 MiB of weights, " #percent " % done\n"
#define LIVE(percent) "\rforetoken: preparing 100 MiB of weights: " #percent " %\x1b[K"
#define GONE          "\r\x1b[K"

static const step quick[] = {{0.4, 40}, {0.8, 80}, {0.9, 100}, {0, 0}};
static const step late[] = {{0.4, 40}, {0.8, 80}, {1.5, 100}, {0, 0}};
static const step slow[] = {{0.5, 3},   {1.2, 7}, {1.3, 8},  {5, 30}, {7, 40},
                            {11.5, 60}, {12, 99}, {12, 100}, {0, 0}};
static const step broken[] = {{0.5, 3}, {1.2, 7}, {0, 0}};

static void test_elsewhere(void **state)
{
    (void)state;
    said(quick, "");
    said(late, "");
    said(slow, DONE(7) DONE(60) DONE(100));
    said(broken, DONE(7));
}

static void test_terminal(void **state)
{
    (void)state;
    shown(quick, "");
    shown(late, "");
    shown(slow, LIVE(7) LIVE(30) LIVE(40) LIVE(60) LIVE(99) GONE);
    shown(broken, LIVE(7) GONE);
    library_speaks = true;
    shown(broken, LIVE(7) GONE "foretoken: it broke\r\n");
    library_speaks = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
