/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of the question files: any bytes are read as one. Every bad line is named on standard
 * error, once. */
#include "fuzzing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/questions.h"

/* What questions_read() writes on standard error goes here instead. */
static char said[1 << 16];

/* Its lines; SIZE_MAX if there was no room for all. */
static size_t count_lines(FILE *f)
{
    const bool whole = fflush(f) == 0;
    const long n = ftell(f);
    size_t lines = 0;
    clearerr(f);
    if (!whole || n < 0 || n >= (long)sizeof said) return SIZE_MAX;
    for (long i = 0; i < n; i++) {
        if (said[i] == '\n')
            lines++;
        else if ((unsigned char)said[i] < 0x20 || said[i] == 0x7F)
            abort();
    }
    return lines;
}

static void walk(const questions *q, size_t size)
{
    size_t sum = 0;
    for (size_t i = 0; i < q->n; i++) {
        if (q->at[i].n_turns == 0 || strlen(q->at[i].category) > size + 16) abort();
        for (size_t t = 0; t < q->at[i].n_turns; t++) sum += strlen(q->at[i].turns[t]);
        for (size_t k = 0; k < i; k++)
            if (q->at[i].id == q->at[k].id) abort();
    }
    if (q->n == 0 || sum > size) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *quiet;
    if (!quiet && !(quiet = fmemopen(said, sizeof said, "w"))) abort();
    rewind(quiet);
    FILE *const loud = stderr;
    questions q;
    stderr = quiet;
    const int err = questions_read(&q, fuzz_file(data, size), 0);
    stderr = loud;
    const size_t lines = count_lines(quiet);
    if (err == 0) walk(&q, size);
    if (err == 0 ? lines != SIZE_MAX && lines != q.bad : lines == 0) abort();
    questions_free(&q);
    return 0;
}

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const char spec[] =
        "{\"question_id\": 81, \"category\": \"writing\", \"turns\": [\"a\", \"b\\u00e9\"]}\n"
        "{\"question\": \"c\", \"answer\": \"7\"}\n{\"task_id\": \"H/0\", \"prompt\": \"def\"}\n";
    static const char bad[] = "{\"turns\": []}\n{\"turns\": [1]}\n{\nlast\n"
                              "{\"question_id\": \"x\", \"question\": \"y\"}";
    static const char twice[] = "{\"question_id\": 3, \"question\": \"a\"}\n"
                                "{\"question_id\": 3, \"question\": \"b\"}\n";
    static const char *const files[] = {spec, bad, twice, "plain\r\n\nWhat is it?\n"};
    if (i >= sizeof files / sizeof *files) return false;
    gw_put(out, files[i], strlen(files[i]));
    return true;
}
