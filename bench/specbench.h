/* SPDX-License-Identifier: Apache-2.0
 * What the parts of specbench share. Main program: specbench.c; answering: specbench_run.c; one
 * answer: specbench_ask.c; what is measured on what: specbench_about.c; the folder of answers:
 * specbench_store.c; sums: specbench_report.c, which needs that folder alone; their tables and
 * pictures: specbench_table.c, specbench_plot.c. */
#ifndef FTK_SPECBENCH_H
#define FTK_SPECBENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "foretoken.h"
#include "questions.h"

enum {
    SPEC_MAX_METHODS = 16,
    SPEC_MAX_REPEAT = 100,
    SPEC_LEAST_ROOM = 64, /* a turn is asked where there is room for so many tokens, or max_new */
};

typedef struct spec_method {
    char name[64]; /* the drafter's, and "+verifier" where that is not "exact" */
    const char *drafter, *verifier;
} spec_method;

typedef struct spec_options {
    const char *model, *questions, *out, *peers, *report;
    const char *drafters, *verifiers; /* names with commas between them */
    const char *tmpl;                 /* chat template; NULL: the model's own */
    const char *device;
    int max_new, repeat, limit, threads, ctx, warmup;
    double temperature;
    long long seed;
    spec_method methods[SPEC_MAX_METHODS]; /* the first is plain decoding, the baseline */
    int n_methods;
} spec_options;

/* Answers all questions that the folder has no answer to yet. Exits with a line on stderr. */
void spec_run(const spec_options *o, const questions *q);

/* {"settings": what must not differ where a run goes on, "about": what else a reader wants to know:
 * which numbers are measured on what}. Exits where the model or the questions cannot be read. */
json_t *spec_settings(const spec_options *o, const questions *q, const ftk_model *m, int threads,
                      size_t n_skipped);
/* FNV-1a, to tell texts and files apart: start with SPEC_HASH, then feed bytes. */
#define SPEC_HASH 0xcbf29ce484222325u
uint64_t spec_hash(uint64_t h, const void *data, size_t n);

/* ---- the folder of answers */

typedef struct spec_store spec_store;

/* Makes the folder, or goes on in one made with the same settings; exits with a line on stderr
 * where that cannot be. settings: {"settings": what must not differ, "about": what else a reader
 * wants to know}. At the end all is read: a torn last line is cut off. */
spec_store *spec_store_open(const spec_options *o, const questions *q, const json_t *settings);
void spec_store_close(spec_store *s);
/* i: which of the questions, from 0. */
bool spec_store_has(const spec_store *s, int lap, int method, size_t i);
/* One line, in one write, on the disk when this returns. */
void spec_store_add(spec_store *s, int lap, int method, size_t i, const json_t *answer);
/* A file of the folder beside the answers, made anew; exits where it cannot be. */
void spec_store_write(const char *dir, const char *name, const char *text, size_t n);
/* run_1/lookup.jsonl in the folder; lap: the run, from 0. */
void spec_answers_path(char *out, size_t n, const char *dir, int lap, const char *method);
/* Calls each with every answer of a file, from its start; a missing file has none. Ends when there
 * is no whole line left; returns the bytes of whole lines. Exits at a line that is no answer. */
size_t spec_answers_read(const char *path,
                         void (*each)(void *ctx, const json_t *answer, const char *path,
                                      size_t line),
                         void *ctx);

/* ---- the report */

/* The family a category belongs to: "mt_bench" for those of MT-bench, else the category. */
const char *spec_family(const char *category);
/* Sums up the folder: to standard output, and files. peers: NULL, or a table to show beside. */
void spec_report(const char *dir, const char *peers);

#endif
