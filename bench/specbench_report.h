/* SPDX-License-Identifier: Apache-2.0
 * The sums of a folder of answers, for the tables and pictures. */
#ifndef FTK_SPECBENCH_REPORT_H
#define FTK_SPECBENCH_REPORT_H

#include <stdio.h>

#include "specbench.h"

enum {
    SPEC_MAX_FAMILIES = 64,
    SPEC_DEPTHS = 8, /* shown */
    SPEC_LENGTHS = FTK_MAX_NODES + 2,
};

/* Over the runs. Where there is one run, deviation is NAN. */
typedef struct spec_ratio {
    double mean, deviation, low, high;
} spec_ratio;

/* A method's answers to one family, or to all. */
typedef struct spec_sum {
    size_t answers, tokens, steps, drafted_rows;
    size_t equal, compared; /* answers equal to those of "none": token ids and text */
    size_t cut;             /* answers that the context ended */
    size_t left_out;        /* turns that did not fit */
    double seconds, prefill, draft, forward, judge;
    double rate[SPEC_MAX_REPEAT];      /* mean over questions of tokens / second, by run */
    double text_rate[SPEC_MAX_REPEAT]; /* the same of the text's tokens, as for the baseline */
    size_t n[SPEC_MAX_REPEAT];         /* questions of each run */
    double run_seconds[SPEC_MAX_REPEAT], run_tokens[SPEC_MAX_REPEAT];
    size_t lengths[SPEC_LENGTHS]; /* [k] steps that emitted k tokens */
    size_t rows[SPEC_LENGTHS];    /* [k] passes over k rows */
} spec_sum;

typedef struct spec_answer {
    long long id;
    int lap, method, family; /* lap: the run, from 0 */
    char category[48];
    uint64_t hash; /* of its token ids and texts */
    size_t tokens, steps;
    double seconds;
    bool equal, compared; /* with "none" of the same run */
} spec_answer;

typedef struct spec_result {
    const char *dir;
    json_t *settings, *about, *root;
    int n_methods, repeat, n_families; /* family 0 is "overall" */
    const char *method[SPEC_MAX_METHODS];
    const char *drafter[SPEC_MAX_METHODS], *verifier[SPEC_MAX_METHODS];
    bool lossless[SPEC_MAX_METHODS];
    char family[SPEC_MAX_FAMILIES][48];
    spec_sum *sums; /* [n_methods][SPEC_MAX_FAMILIES] */
    spec_answer *answers;
    size_t n_answers, cap;
    double first, last; /* time stamps */
} spec_result;

/* Of the answers in a folder; whatever is wrong with it ends the program. */
void spec_result_read(spec_result *r, const char *dir);
void spec_result_free(spec_result *r);
const spec_sum *spec_sum_of(const spec_result *r, int method, int family);
/* Families in the order they are shown in: 0 ... n_families - 1; the last is 0, overall. */
int spec_family_at(const spec_result *r, int i);
/* As evaluation/speed.py has it: the method's tokens per second over those of the baseline's text,
 * both the mean over questions. */
spec_ratio spec_speedup(const spec_result *r, int method, int family);
/* The same with the tokens of both counted as they were emitted. */
spec_ratio spec_speedup_emitted(const spec_result *r, int method, int family);
/* Seconds per token of the baseline over the method's, all questions together. */
spec_ratio spec_speedup_total(const spec_result *r, int method, int family);
double spec_mean_accepted(const spec_sum *s);
/* The share of steps that accepted a path of depth d at least, 1 ... */
double spec_reached(const spec_sum *s, int d);
/* "demo.gguf, Q8_0; commit ...": what all of it was measured on, in one line. */
void spec_glance(const spec_result *r, char *out, size_t n);

/* Markdown, for people. */
void spec_table(const spec_result *r, const char *peers, FILE *f);
/* A line per method and family; a line per answer. */
void spec_csv(const spec_result *r, FILE *f);
void spec_csv_answers(const spec_result *r, FILE *f);
/* speedup, accepted and rows as .png and .svg in the folder. */
void spec_plot(const spec_result *r);

#endif
