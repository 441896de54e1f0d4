/* SPDX-License-Identifier: Apache-2.0
 * One answer: steps until it ends, its text shown as it comes. */
#ifndef FTK_CLI_ANSWER_H
#define FTK_CLI_ANSWER_H

#include <signal.h>

#include "common.h"

typedef struct cli_answer_config {
    const char *drafter; /* the session's */
    bool continues;      /* the text goes on from the prompt: a leading space is kept */
    bool show;           /* on standard output */
    bool dim;            /* drafted words in faint letters */
    int64_t limit;       /* most tokens; -1: none */
    const volatile sig_atomic_t *interrupt; /* ends the answer once it is not 0; may be NULL */
} cli_answer_config;

typedef enum cli_ending {
    CLI_ENDED_ITSELF, /* an end token */
    CLI_ENDED_STOP,   /* a stop text */
    CLI_ENDED_LIMIT,
    CLI_ENDED_CONTEXT,
    CLI_ENDED_INTERRUPT,
    CLI_ENDED_OUTPUT, /* standard output is gone */
} cli_ending;

typedef struct cli_answer {
    cli_answer_config cfg;
    ftk_session *session;
    bool lossless;
    ftk_stream *stream;
    cli_bytes text;
    /* As generated, up to the one that ended the answer: the end token, or the one with which a
     * stop text was whole. What the last step emitted behind it counts nowhere. */
    int32_t *tokens;
    size_t n_tokens, cap;
    uint64_t accepted; /* of them, drafted */
    cli_ending ending;
    ftk_stats before;
    size_t n_first; /* tokens that came with passes over the prompt */
} cli_answer;

/* What an answer took. */
typedef struct cli_speed {
    uint64_t steps, drafted, accepted, prompt;
    double tokens_per_step;   /* the bonus token included */
    double tokens_per_second; /* of those after the prompt's pass; 0 without any */
    double prefill_seconds, decode_seconds;
} cli_speed;

/* The session holds the prompt. extra_stop may be NULL. cli_answer_close() is due in any case. */
ftk_err cli_answer_open(cli_answer *a, const cli_world *w, const cli_options *o,
                        const char *extra_stop, const cli_answer_config *cfg);
/* Runs until a->ending. After CLI_ENDED_CONTEXT it may be called again, if the session was made
 * shorter meanwhile. */
ftk_err cli_answer_run(cli_answer *a);
/* Shows what waited in the stream. */
ftk_err cli_answer_finish(cli_answer *a);
cli_speed cli_answer_speed(const cli_answer *a);
/* "end", "stop", "limit" or "context"; "interrupt" or "output" for what ends the program, too. */
const char *cli_answer_finish_name(const cli_answer *a);
/* One line on standard error. */
void cli_answer_say_speed(const cli_answer *a);
void cli_answer_close(cli_answer *a);

#endif
