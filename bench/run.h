/* SPDX-License-Identifier: Apache-2.0
 * What the benchmark programs share: opening things, answering one prompt, medians. */
#ifndef FTK_BENCH_RUN_H
#define FTK_BENCH_RUN_H

#include "foretoken.h"

enum { RUN_MAX = 4096, RUN_TOGETHER = 64 };

/* Exit statuses, as the program's: 0 done, 1 something failed, 2 the command line was not
 * understood. */
enum { RUN_FAILED = 1, RUN_USAGE = 2 };

typedef struct run {
    int32_t tokens[RUN_MAX]; /* emitted */
    size_t n;
    double seconds; /* decoding, prefill not counted */
    ftk_stats stats;
} run;

/* Prints errors and warnings of the library to stderr. */
void run_log(void *ctx, ftk_log_level level, const char *line);
/* The tokens of a prompt in the model's chat template; returns their number, or exits. */
size_t run_prompt(const ftk_model *m, const char *text, int32_t *tokens, size_t cap);
/* Feeds a prompt to a fresh session and takes up to n tokens. Returns the first error. */
ftk_err run_answer(ftk_session *s, const int32_t *prompt, size_t n_prompt, size_t n, run *r);
/* Takes up to n tokens of each of 1 to RUN_TOGETHER sessions that hold their prompts and share
 * passes. Returns the first error. */
ftk_err run_together(ftk_session *const *sessions, size_t n_sessions, size_t n, run *r);
/* Seconds; never runs backwards. */
double run_now(void);
/* The numbers 0..n-1 in another order each time; the orders of a program's runs are the same. */
void run_shuffle(int *order, int n);
/* The q-quantile (0..1) of n values; sorts them. */
double run_quantile(double *x, size_t n, double q);
/* A line on stderr, harmless for a terminal whatever it quotes. */
void run_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A text from outside as one such line, for what is printed; returns buf. */
const char *run_shown(char *buf, size_t cap, const char *text);
/* Exits with such a line: something failed. */
_Noreturn void run_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Exits with such a line: the command line was not understood, or asks for what cannot be. */
_Noreturn void run_refuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Exits, where the library has said why. named: what may be INVALID stands on the command line. */
_Noreturn void run_exit(ftk_err err, bool named);
/* Where --help or -h stands on the command line: prints the usage and exits. */
void run_help(int argc, char **argv, const char *usage);
/* Refuses what looks like an option among the files argv[i..argc). */
void run_operands(int argc, char **argv, int i);
/* Exits where one of the files argv[i..argc) cannot be read: now, not after the others' hours. */
void run_files(int argc, char **argv, int i);
/* The whole number in text, lowest to highest, or exits with a line that names the option. */
long long run_number(const char *option, const char *text, long long lowest, long long highest);
/* The whole numbers of a list with commas, each lowest to highest, at most cap; returns how many,
 * at least 1, or exits likewise. */
int run_numbers(const char *option, const char *list, int lowest, int highest, int *out, int cap);
/* The names of a list with commas, each of them one of known (up to NULL), none twice, at most
 * cap; returns how many, at least 1, or exits likewise. */
int run_names(const char *option, const char *list, const char *const *known, const char **out,
              int cap);
/* The number in text, lowest to highest, or exits likewise. */
double run_real(const char *option, const char *text, double lowest, double highest);
/* The number in text, above 0, or exits likewise. */
double run_positive(const char *option, const char *text);
/* What /proc/cpuinfo calls the processor, or "unknown". */
void run_cpu_name(char *out, size_t n);
/* Where the option is --lora, --draft-model, --drafter-file, --drafter-layers or --kernels: keeps
 * its value for run_model() or run_add_drafters(), and returns true. */
bool run_take_option(const char *option, const char *value);
/* Adds those drafters, then what lies beside that file. */
void run_add_drafters(ftk_engine *e, const char *beside);
/* That of --draft-model, or NULL. */
const char *run_draft_model(void);
/* Those of --drafter-file, and the list of --drafter-layers as it was given, or NULL;
 * returns the number of files. */
size_t run_drafter_files(const char *const **paths, const char **given);
/* Those that were kept; returns their number. */
size_t run_loras(const ftk_adapter **list);
/* Opens or exits, with those adapters. threads 0: all cores. */
ftk_model *run_model(const char *path);
/* With the trained drafters beside the model's file, if a path is given. kv_slots 0: the model's
 * context; device NULL: the CPU. */
ftk_engine *run_engine(const ftk_model *m, int threads, int kv_slots, const char *device,
                       const char *path);

#endif
