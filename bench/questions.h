/* SPDX-License-Identifier: Apache-2.0
 * Question files for benchmarks: JSON lines with "turns" (Spec-Bench, MT-bench), "question" (GSM8K)
 * or "prompt" (HumanEval), or plain text with one prompt a line. */
#ifndef FTK_QUESTIONS_H
#define FTK_QUESTIONS_H

#include <stddef.h>

typedef struct question {
    long long id;   /* "question_id", or the number of the line */
    char *category; /* "category"; "math_reasoning" for GSM8K, "humaneval", else "prompt" */
    char **turns;   /* [n_turns] what the user says, n_turns >= 1 */
    size_t n_turns;
    size_t line; /* in the file, from 1 */
} question;

typedef struct questions {
    question *at;
    size_t n;
    size_t bad; /* lines that could not be read; each was named on stderr */
} questions;

/* Reads at most `limit` questions (0: all). A line that is no question is named on stderr and left
 * out; so is one whose id an earlier one has. Returns 0, or -1 with a line on stderr. */
int questions_read(questions *q, const char *file, size_t limit);
void questions_free(questions *q);

#endif
