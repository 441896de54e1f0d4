/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target without libFuzzer: on its seeds, then on inputs made from them, each from its
 * number alone. It does not learn from what an input reaches, but runs with every compiler and
 * sanitizer.
 *   fuzz_NAME N [FROM]      the seeds and N made inputs, the first of them number FROM
 *   fuzz_NAME FILE...       these inputs
 *   fuzz_NAME --seeds DIR   writes the seeds into an existing folder */
#include "fuzzing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_SEEDS = 64,
    MAX_INPUT = 1 << 17,
    MAX_EDITS = 8,
    MAX_SECONDS = 20 /* for one input */
};

static struct {
    gw_bytes at[MAX_SEEDS];
    size_t n;
} seeds;

/* Of the process that runs the inputs; the one that waits for it says which was the last. */
static struct progress {
    long number; /* -1: none yet */
    size_t size;
    uint8_t input[MAX_INPUT];
} * now;

/* ------------------------------------------------------------------ inputs */

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 0 to n - 1; n > 0. */
static size_t below(uint64_t *r, size_t n)
{
    return (size_t)(draw(r) % n);
}

/* Most edits are small ones. */
static size_t length(uint64_t *r, size_t most)
{
    const size_t n = (size_t)1 << below(r, 10);
    return n < most ? n : most;
}

/* Opens a gap of n bytes at a place, or as much of it as there is room for. */
static size_t open_gap(struct progress *p, size_t at, size_t n)
{
    if (n > MAX_INPUT - p->size) n = MAX_INPUT - p->size;
    memmove(p->input + at + n, p->input + at, p->size - at);
    p->size += n;
    return n;
}

static void put_number(struct progress *p, uint64_t *r, size_t at)
{
    static const uint64_t edges[] = {0,          1,         2,          0x7F,       0x80,
                                     0xFF,       0x100,     0xFFFF,     0x7FFFFFFF, 0x80000000,
                                     UINT32_MAX, INT64_MAX, UINT64_MAX, 1u << 20,   1ull << 40};
    uint64_t v = edges[below(r, sizeof edges / sizeof *edges)] + below(r, 3) - 1;
    for (size_t n = (size_t)1 << below(r, 4); n > 0 && at < p->size; n--, v >>= 8)
        p->input[at++] = (uint8_t)v;
}

static void edit(struct progress *p, uint64_t *r)
{
    const gw_bytes *other = &seeds.at[below(r, seeds.n)];
    const size_t kind = below(r, 8), at = below(r, p->size + 1), left = p->size - at;
    const size_t from = below(r, other->n), chunk = length(r, other->n - from);
    if (kind == 0 && left > 0) {
        p->input[at] ^= (uint8_t)(1u << below(r, 8));
    } else if (kind == 1 && left > 0) {
        p->input[at] = (uint8_t)draw(r);
    } else if (kind == 2) {
        put_number(p, r, at);
    } else if (kind == 3) {
        const size_t n = length(r, left);
        memmove(p->input + at, p->input + at + n, left - n);
        p->size -= n;
    } else if (kind == 4) {
        const size_t n = open_gap(p, at, chunk);
        memcpy(p->input + at, other->p + from, n);
    } else if (kind == 5) {
        memcpy(p->input + at, other->p + from, chunk < left ? chunk : left);
    } else if (kind == 6) {
        const size_t n = open_gap(p, at, length(r, 64));
        for (size_t i = 0; i < n; i++) p->input[at + i] = (uint8_t)draw(r);
    } else if (below(r, 8) == 0) {
        p->size = at;
    }
}

static void make_input(struct progress *p, uint64_t number)
{
    uint64_t r = number;
    const gw_bytes *seed = &seeds.at[below(&r, seeds.n)];
    p->size = seed->n;
    memcpy(p->input, seed->p, seed->n);
    for (size_t n = 1 + below(&r, MAX_EDITS); n > 0; n--) edit(p, &r);
}

/* ------------------------------------------------------------------ running them */

/* Of the processor: a process that others hold up is not to blame. 0: any number of seconds. */
static void allow(int seconds)
{
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

/* On a copy of its very size: the sanitizer sees what lies behind. */
static void run_one(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (!copy) abort();
    memcpy(copy, p, n);
    allow(MAX_SECONDS);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void run_all(long n_made, long from)
{
    for (now->number = 0; now->number < (long)seeds.n + n_made; now->number++) {
        const size_t i = (size_t)now->number;
        if (i >= seeds.n) {
            make_input(now, i + (size_t)from);
        } else {
            now->size = seeds.at[i].n;
            memcpy(now->input, seeds.at[i].p, seeds.at[i].n);
        }
        run_one(now->input, now->size);
    }
    allow(0);
}

static int failed(const char *name, int status)
{
    char path[256];
    snprintf(path, sizeof path, "%s-%ld.input", name, now->number);
    const bool kept = gw_save(path, now->input, now->size);
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: input %ld: signal %d%s\n", name, now->number, WTERMSIG(status),
                WTERMSIG(status) == SIGPROF ? " (it took too long)" : "");
    else
        fprintf(stderr, "%s: input %ld or what is left at the end: exit status %d\n", name,
                now->number, WEXITSTATUS(status));
    fprintf(stderr, kept ? "%s: see it again: give %s\n" : "%s: %s cannot be written\n", name,
            path);
    return 1;
}

/* In a process of their own, so that there is somebody to name the input that ends it. */
static int run_in_child(const char *name, long n_made, long from)
{
    now = mmap(NULL, sizeof *now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (now == MAP_FAILED) return 1;
    now->number = -1;
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        run_all(n_made, from);
        exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 1;
    if (status != 0) return failed(name, status);
    printf("%s: %zu seeds and %ld inputs made from them\n", name, seeds.n, n_made);
    return 0;
}

static int run_file(const char *path)
{
    static uint8_t bytes[MAX_INPUT];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    run_one(bytes, n);
    return 0;
}

static int write_seeds(const char *folder)
{
    for (size_t i = 0; i < seeds.n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%zu", folder, i);
        if (!gw_save(path, seeds.at[i].p, seeds.at[i].n)) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

static int use(void)
{
    fprintf(stderr, "give a number of inputs to make and which is the first, files of inputs, or "
                    "--seeds FOLDER\n");
    return 2;
}

int main(int argc, char **argv)
{
    while (seeds.n < MAX_SEEDS && fuzz_seed(seeds.n, &seeds.at[seeds.n])) {
        if (seeds.at[seeds.n].n == 0 || seeds.at[seeds.n].n > MAX_INPUT) abort();
        seeds.n++;
    }
    if (argc < 2 || seeds.n == 0) return use();
    const char *slash = strrchr(argv[0], '/');
    char *end;
    const long n = strtol(argv[1], &end, 10), from = argc == 3 ? atol(argv[2]) : 0;
    int result = 0;
    if (strcmp(argv[1], "--seeds") == 0)
        result = argc == 3 ? write_seeds(argv[2]) : use();
    else if (*end == 0 && argc <= 3 && n >= 0 && from >= 0)
        result = run_in_child(slash ? slash + 1 : argv[0], n, from);
    else
        for (int i = 1; i < argc; i++) result |= run_file(argv[i]);
    for (size_t i = 0; i < seeds.n; i++) free(seeds.at[i].p);
    return result;
}
