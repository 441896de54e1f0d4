/* SPDX-License-Identifier: Apache-2.0
 * One question asked by one method.
 *
 * As in the benchmark's evaluation/eval.py, every turn is a call of its own: the whole conversation
 * is read again, and the time of a turn is that of opening, reading and decoding, while making
 * tokens of text and text of tokens is not part of it. */
#include "specbench_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "run.h"

enum { MAX_TURNS = 64 };

typedef struct turn {
    char *text; /* [n] terminated */
    size_t n, cap;
    size_t tokens;  /* emitted, the one that ended the answer among them */
    uint64_t ids;   /* their hash */
    double seconds; /* of everything the library did */
    ftk_stats stats;
    const char *finish;
} turn;

typedef struct record {
    turn turns[MAX_TURNS];
    size_t prompt[MAX_TURNS]; /* tokens read for each */
    size_t n, left_out;
    int *accepted; /* [steps] tokens emitted by each step of all turns */
    size_t steps, cap;
    unsigned rows[FTK_MAX_NODES + 2]; /* [rows] passes of so many rows, prompts not counted */
} record;

static void *grown(void *p, size_t n, size_t size)
{
    void *more = realloc(p, n * size);
    if (!more) run_die("no memory for an answer");
    return more;
}

size_t spec_prompt(const spec_world *w, const question *q, size_t turns, char *const *answers)
{
    ftk_message msgs[2 * MAX_TURNS];
    size_t n = 0, n_tokens;
    for (size_t t = 0; t < turns; t++) {
        msgs[n++] = (ftk_message){"user", q->turns[t]};
        if (t + 1 < turns) msgs[n++] = (ftk_message){"assistant", answers[t]};
    }
    const ftk_err err =
        ftk_chat_tokenize(w->model, w->o->tmpl, msgs, n, w->prompt, (size_t)w->o->ctx, &n_tokens);
    if (err != FTK_OK && err != FTK_ERR_SPACE)
        run_die("question %lld cannot be made tokens of: %s", q->id, ftk_strerror(err));
    return n_tokens;
}

bool spec_fits(const spec_options *o, size_t n)
{
    const size_t least = o->max_new < SPEC_LEAST_ROOM ? (size_t)o->max_new : SPEC_LEAST_ROOM;
    return n + least <= (size_t)o->ctx;
}

/* A zero byte, which a message cannot hold, becomes U+FFFD. */
static void add_text(turn *t, const char *text, size_t n)
{
    if (t->cap - t->n <= 3 * n) {
        t->cap = 2 * t->n + 3 * n + 256;
        t->text = grown(t->text, t->cap, 1);
    }
    for (size_t i = 0; i < n; i++) {
        const char *bytes = text[i] ? text + i : "\xEF\xBF\xBD";
        const size_t size = text[i] ? 1 : 3;
        memcpy(t->text + t->n, bytes, size);
        t->n += size;
    }
    t->text[t->n] = 0;
}

static void add_step(record *r, const ftk_result *step, int emitted, bool first)
{
    if (r->steps == r->cap) {
        r->cap = 2 * r->cap + 256;
        r->accepted = grown(r->accepted, r->cap, sizeof *r->accepted);
    }
    r->accepted[r->steps++] = emitted;
    if (!first) r->rows[step->drafted + 1]++;
}

/* Takes in what a step emitted, up to a stop text; returns the number of tokens. */
static int take(turn *t, ftk_stream *text, const ftk_result *r, bool *stopped)
{
    int n = 0;
    while ((size_t)n < r->n_tokens && !*stopped) {
        const char *piece;
        size_t length;
        if (ftk_stream_push(text, r->tokens[n], &piece, &length, stopped) != FTK_OK)
            run_die("no memory for an answer");
        add_text(t, piece, length);
        t->ids = spec_hash(t->ids, &r->tokens[n], sizeof r->tokens[n]);
        n++;
    }
    return n;
}

static ftk_session *open_session(const spec_world *w, ftk_engine *e, const spec_method *m,
                                 size_t n_prompt, int max_new)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = m->drafter;
    cfg.verifier = m->verifier;
    cfg.sampling.temperature = (float)w->o->temperature;
    cfg.sampling.seed = (uint64_t)w->o->seed;
    ftk_session *s;
    if (ftk_session_open(&s, e, &cfg) != FTK_OK) exit(RUN_FAILED);
    ftk_session_limit(s, (size_t)max_new);
    if (ftk_session_append(s, w->prompt, n_prompt) != FTK_OK) exit(RUN_FAILED);
    return s;
}

/* The answer to w->prompt. */
static void answer(const spec_world *w, ftk_engine *e, const spec_method *m, size_t n_prompt,
                   int max_new, record *r, turn *t)
{
    static const char *const names[] = {"", "end", "limit", "context"};
    ftk_stream *text;
    if (ftk_stream_open(&text, w->model, false, &w->stop, w->stop ? 1 : 0) != FTK_OK)
        run_die("no memory for an answer");
    t->ids = SPEC_HASH;
    add_text(t, "", 0);
    double start = run_now();
    ftk_session *s = open_session(w, e, m, n_prompt, max_new);
    t->seconds = run_now() - start;
    for (bool stopped = false; !t->finish;) {
        ftk_result step;
        start = run_now();
        if (ftk_step(&s, 1, &step) != FTK_OK) exit(RUN_FAILED);
        t->seconds += run_now() - start;
        const int n = take(t, text, &step, &stopped);
        if (n > 0) add_step(r, &step, n, t->tokens == 0);
        t->tokens += (size_t)n;
        if (stopped)
            t->finish = "stop";
        else if (step.finish != FTK_FINISH_NONE)
            t->finish = names[step.finish];
    }
    const char *rest;
    size_t n;
    if (ftk_stream_flush(text, &rest, &n) != FTK_OK) run_die("no memory for an answer");
    add_text(t, rest, n);
    ftk_session_get_stats(s, &t->stats);
    ftk_session_free(s);
    ftk_stream_free(text);
}

/* Without white space at the ends, as the benchmark keeps answers. */
static void strip(turn *t)
{
    static const char white[] = " \t\n\v\f\r";
    while (t->n > 0 && strchr(white, t->text[t->n - 1])) t->n--;
    t->text[t->n] = 0;
    const size_t front = strspn(t->text, white);
    memmove(t->text, t->text + front, t->n - front + 1);
    t->n -= front;
}

/* ---- the record */

/* The tokens that the benchmark's speed.py counts for the baseline: the text's, less the one that
 * it takes for BOS, whether there is one or not. */
static json_int_t text_tokens(const spec_world *w, const turn *t)
{
    size_t n;
    const ftk_err err = ftk_tokenize(w->model, t->text, t->n, FTK_TOK_BOS, NULL, 0, &n);
    if (err != FTK_OK && err != FTK_ERR_SPACE)
        run_die("an answer cannot be made tokens of: %s", ftk_strerror(err));
    return (json_int_t)n - 1;
}

static json_t *answer_id(void)
{
    static const char letters[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    unsigned char bytes[22] = {0};
    char text[23] = {0};
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        run_die("no random numbers from the system");
    for (size_t i = 0; i < sizeof bytes; i++) text[i] = letters[bytes[i] % (sizeof letters - 1)];
    return json_string(text);
}

static void put(json_t *o, const char *key, json_t *array)
{
    if (json_object_set_new(o, key, array) != 0) run_die("no memory for an answer");
}

static json_t *choice_json(const record *r)
{
    json_t *texts = json_array(), *steps = json_array(), *tokens = json_array(),
           *seconds = json_array(), *accepted = json_array(), *o = json_pack("{s:i}", "index", 0);
    for (size_t i = 0; i < r->n; i++) {
        json_array_append_new(texts, json_stringn(r->turns[i].text, r->turns[i].n));
        json_array_append_new(steps, json_integer((json_int_t)r->turns[i].stats.steps));
        json_array_append_new(tokens, json_integer((json_int_t)r->turns[i].tokens));
        json_array_append_new(seconds, json_real(r->turns[i].seconds));
    }
    for (size_t i = 0; i < r->steps; i++)
        json_array_append_new(accepted, json_integer(r->accepted[i]));
    put(o, "turns", texts);
    put(o, "decoding_steps", steps);
    put(o, "new_tokens", tokens);
    put(o, "wall_time", seconds);
    put(o, "accept_lengths", accepted);
    return o;
}

/* What the benchmark does not ask for: under a name of its own, which its scripts pass over. */
static json_t *more_json(const spec_world *w, const record *r)
{
    json_t *finish = json_array(), *prompt = json_array(), *text = json_array(),
           *ids = json_array(), *rows = json_array(), *o = json_object();
    double read = 0, draft = 0, forward = 0, judge = 0;
    for (size_t i = 0; i < r->n; i++) {
        const turn *t = &r->turns[i];
        char hex[17];
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)t->ids);
        json_array_append_new(finish, json_string(t->finish));
        json_array_append_new(prompt, json_integer((json_int_t)r->prompt[i]));
        json_array_append_new(text, json_integer(text_tokens(w, t)));
        json_array_append_new(ids, json_string(hex));
        read += t->stats.prefill_seconds;
        draft += t->stats.draft_seconds;
        forward += t->stats.forward_seconds;
        judge += t->stats.judge_seconds;
    }
    for (int i = 1; i <= FTK_MAX_NODES; i++)
        if (r->rows[i] > 0)
            json_array_append_new(rows, json_pack("[i, I]", i, (json_int_t)r->rows[i]));
    put(o, "finish", finish);
    put(o, "turns_left_out", json_integer((json_int_t)r->left_out));
    put(o, "prompt_tokens", prompt);
    put(o, "text_tokens", text);
    put(o, "token_ids_hash", ids);
    put(o, "prefill_time", json_real(read));
    put(o, "draft_time", json_real(draft));
    put(o, "forward_time", json_real(forward));
    put(o, "judge_time", json_real(judge));
    put(o, "rows_steps", rows);
    return o;
}

static json_t *record_json(const spec_world *w, const spec_method *m, const question *q,
                           const record *r)
{
    char model[256];
    snprintf(model, sizeof model, "%s-%s", w->id, m->name);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    json_t *o = json_pack(
        "{s:I, s:s, s:o, s:s, s:[o], s:f, s:o}", "question_id", (json_int_t)q->id, "category",
        q->category, "answer_id", answer_id(), "model_id", model, "choices", choice_json(r),
        "tstamp", (double)t.tv_sec + 1e-9 * (double)t.tv_nsec, "foretoken", more_json(w, r));
    if (!o) run_die("no memory for an answer");
    return o;
}

json_t *spec_ask(const spec_world *w, ftk_engine *e, const spec_method *m, const question *q,
                 double *seconds)
{
    static record r;
    r = (record){.accepted = r.accepted, .cap = r.cap};
    char *answers[MAX_TURNS];
    const size_t most = q->n_turns < MAX_TURNS ? q->n_turns : MAX_TURNS;
    *seconds = 0;
    while (r.n < most) {
        const size_t n = spec_prompt(w, q, r.n + 1, answers);
        if (!spec_fits(w->o, n)) break;
        turn *t = &r.turns[r.n];
        r.prompt[r.n] = n;
        answer(w, e, m, n, w->o->max_new, &r, t);
        strip(t);
        *seconds += t->seconds;
        answers[r.n++] = t->text;
    }
    r.left_out = q->n_turns - r.n;
    json_t *o = record_json(w, m, q, &r);
    for (size_t i = 0; i < r.n; i++) free(r.turns[i].text);
    return o;
}

void spec_warm_up(const spec_world *w, ftk_engine *e, const spec_method *m, const question *q,
                  int n)
{
    record r = {0};
    answer(w, e, m, spec_prompt(w, q, 1, NULL), n, &r, &r.turns[0]);
    free(r.turns[0].text);
    free(r.accepted);
}
