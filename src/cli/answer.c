/* SPDX-License-Identifier: Apache-2.0
 * One answer: steps until it ends, its text shown as it comes. */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

ftk_err cli_answer_open(cli_answer *a, const cli_world *w, const cli_options *o,
                        const char *extra_stop, const cli_answer_config *cfg)
{
    *a = (cli_answer){.cfg = *cfg, .session = w->session};
    a->lossless = cli_lossless(cfg->drafter, o->verifier);
    const char *stops[CLI_MAX_STOPS + 1];
    size_t n_stops = o->n_stops;
    memcpy(stops, o->stops, sizeof o->stops);
    if (extra_stop) stops[n_stops++] = extra_stop;
    ftk_session_get_stats(w->session, &a->before);
    ftk_session_limit(w->session, cfg->limit < 0 ? SIZE_MAX : (size_t)cfg->limit);
    if (cfg->limit == 0) a->ending = CLI_ENDED_LIMIT;
    return ftk_stream_open(&a->stream, w->model, cfg->continues, stops, n_stops);
}

static bool show(cli_answer *a, const char *text, size_t n, bool dim)
{
    cli_bytes_add(&a->text, text, n);
    if (!a->cfg.show || n == 0) return true;
    if (!dim) return cli_out_model(text, n);
    return cli_out("\033[2m", 4) && cli_out_model(text, n) && cli_out("\033[22m", 5);
}

static void keep(cli_answer *a, int32_t token)
{
    if (a->n_tokens == a->cap) {
        a->cap = 2 * a->cap + 256;
        a->tokens = cli_array(a->tokens, a->cap, sizeof *a->tokens);
    }
    a->tokens[a->n_tokens++] = token;
}

/* Takes in what a step emitted. *ended: a stop text was found, or standard output is gone. */
static ftk_err take(cli_answer *a, const ftk_result *r, bool *ended)
{
    for (size_t i = 0; i < r->n_tokens && !*ended; i++) {
        const char *text;
        size_t n;
        bool stopped;
        const ftk_err err = ftk_stream_push(a->stream, r->tokens[i], &text, &n, &stopped);
        if (err != FTK_OK) return err;
        keep(a, r->tokens[i]);
        const bool drafted = i < (size_t)r->accepted;
        a->accepted += drafted;
        const bool shown = show(a, text, n, a->cfg.dim && drafted);
        a->ending = !shown ? CLI_ENDED_OUTPUT : stopped ? CLI_ENDED_STOP : CLI_ENDED_ITSELF;
        *ended = stopped || !shown;
    }
    return FTK_OK;
}

static cli_ending ending(ftk_finish finish)
{
    return finish == FTK_FINISH_LIMIT     ? CLI_ENDED_LIMIT
           : finish == FTK_FINISH_CONTEXT ? CLI_ENDED_CONTEXT
                                          : CLI_ENDED_ITSELF;
}

static double decode_seconds(const cli_answer *a)
{
    ftk_stats now;
    ftk_session_get_stats(a->session, &now);
    return now.decode_seconds;
}

/* One step. Tokens that come with a pass over the prompt cost no decoding time. */
static ftk_err step(cli_answer *a, ftk_result *r, bool *ended)
{
    const double before = decode_seconds(a);
    const size_t n = a->n_tokens;
    ftk_err err = ftk_step(&a->session, 1, r);
    if (err == FTK_OK) err = take(a, r, ended);
    if (decode_seconds(a) <= before) a->n_first += a->n_tokens - n;
    return err;
}

ftk_err cli_answer_run(cli_answer *a)
{
    if (a->cfg.limit == 0) return FTK_OK;
    for (bool ended = false; !ended;) {
        if (a->cfg.interrupt && *a->cfg.interrupt) {
            a->ending = CLI_ENDED_INTERRUPT;
            break;
        }
        ftk_result r;
        const ftk_err err = step(a, &r, &ended);
        if (err != FTK_OK) return err;
        if (!ended && r.finish != FTK_FINISH_NONE) {
            a->ending = ending(r.finish);
            ended = true;
        }
    }
    return FTK_OK;
}

ftk_err cli_answer_finish(cli_answer *a)
{
    const char *text;
    size_t n;
    const ftk_err err = ftk_stream_flush(a->stream, &text, &n);
    if (err != FTK_OK) return err;
    if (!show(a, text, n, false)) a->ending = CLI_ENDED_OUTPUT;
    return FTK_OK;
}

cli_speed cli_answer_speed(const cli_answer *a)
{
    ftk_stats now;
    ftk_session_get_stats(a->session, &now);
    cli_speed s = {
        .steps = now.steps - a->before.steps,
        .drafted = now.drafted - a->before.drafted,
        .accepted = a->accepted,
        .prompt = now.prompt - a->before.prompt,
        .prefill_seconds = now.prefill_seconds - a->before.prefill_seconds,
        .decode_seconds = now.decode_seconds - a->before.decode_seconds,
    };
    if (s.steps > 0) s.tokens_per_step = (double)a->n_tokens / (double)s.steps;
    if (s.decode_seconds > 0 && a->n_tokens > a->n_first)
        s.tokens_per_second = (double)(a->n_tokens - a->n_first) / s.decode_seconds;
    return s;
}

const char *cli_answer_finish_name(const cli_answer *a)
{
    static const char *const names[] = {
        [CLI_ENDED_ITSELF] = "end",          [CLI_ENDED_STOP] = "stop",
        [CLI_ENDED_LIMIT] = "limit",         [CLI_ENDED_CONTEXT] = "context",
        [CLI_ENDED_INTERRUPT] = "interrupt", [CLI_ENDED_OUTPUT] = "output",
    };
    return names[a->ending];
}

void cli_answer_say_speed(const cli_answer *a)
{
    const cli_speed s = cli_answer_speed(a);
    fprintf(stderr,
            "[%zu tokens, %.1f tokens/s, %.2f tokens per step, %llu of %llu drafted accepted, "
            "prompt %llu tokens in %.3f s%s]\n",
            a->n_tokens, s.tokens_per_second, s.tokens_per_step, (unsigned long long)s.accepted,
            (unsigned long long)s.drafted, (unsigned long long)s.prompt, s.prefill_seconds,
            a->lossless ? "" : ", lossy");
}

void cli_answer_close(cli_answer *a)
{
    ftk_stream_free(a->stream);
    cli_bytes_free(&a->text);
    free(a->tokens);
    *a = (cli_answer){0};
}
