/* SPDX-License-Identifier: Apache-2.0
 *
 * teach: has a model answer prompts, greedily, and read texts, many at once, and keeps what it
 * made of every token for the trainers of drafters: lessons.h says how. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/mem.h"
#include "bench/run.h"
#include "kernels/blocks.h"
#include "lessons.h"
#include "model/forward.h"
#include "teach_texts.h"

enum { ROWS = FTK_MAX_NODES, MOST_SESSIONS = FTK_PASS_SEQS, SAY_SECONDS = 10, MOST_STATES = 8 };

typedef struct options {
    const char *model, *folder;
    int threads, sessions, top, answer, longest, state;
    int n_states, states[MOST_STATES];
    double tokens, minutes;
    bool written;
} options;

/* A text that is being read or written. */
typedef struct slot {
    bool busy;
    lesson d;
    size_t left; /* tokens that are still to be written */
    ftk_kv_seq kv;
} slot;

typedef struct teacher {
    options o;
    const ftk_model *m;
    ftk_forward f;
    ftk_kv_pool pool;
    slot slots[MOST_SESSIONS];
    teach_texts texts;
    size_t next; /* text */
    lessons out;
    double began, said;
    int64_t began_at; /* row */
    size_t unusable;
    /* the pass */
    int n_seqs;
    ftk_pass_seq seq[MOST_SESSIONS];
    slot *of[MOST_SESSIONS];
    struct place {
        slot *s;
        size_t at;
    } place[ROWS];
    int n_rows;
} teacher;

/* ---- what a row of logits says */

/* The likeliest `top` in falling order by insertion: few of many are ever moved. */
static void likeliest(const float *logits, int n, int top, int32_t *best, float *value)
{
    int have = 0;
    for (int i = 0; i < n; i++) {
        if (have == top && !(logits[i] > value[top - 1])) continue;
        int k = have < top ? have++ : top - 1;
        for (; k > 0 && logits[i] > value[k - 1]; k--)
            best[k] = best[k - 1], value[k] = value[k - 1];
        best[k] = i;
        value[k] = logits[i];
    }
}

static void keep_halves(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = ftk_f32_f16(from[i]);
}

static void keep_row(const teacher *t, int row)
{
    const size_t n_embd = (size_t)t->m->hp.n_embd, top = (size_t)t->o.top;
    lesson *d = &t->place[row].s->d;
    const size_t at = t->place[row].at;
    const int n_vocab = t->m->hp.n_vocab;
    const float *logits = t->f.logits + (size_t)row * (size_t)n_vocab;
    float value[256];
    double sum = 0;
    likeliest(logits, n_vocab, t->o.top, d->best + at * top, value);
    for (int i = 0; i < n_vocab; i++) sum += expf(logits[i] - value[0]);
    for (size_t k = 0; k < top; k++)
        d->logp[at * top + k] = ftk_f32_f16(value[k] - value[0] - (float)log(sum));
    keep_halves(d->feature + at * n_embd, t->f.features + (size_t)row * n_embd, n_embd);
    if (d->state) keep_halves(d->state + at * n_embd, t->f.states + (size_t)row * n_embd, n_embd);
    const size_t k = (size_t)t->o.n_states;
    for (size_t i = 0; i < k; i++)
        keep_halves(d->states + (at * k + i) * n_embd,
                    t->f.tapped + (i * (size_t)t->f.max_rows + (size_t)row) * n_embd, n_embd);
}

static void keep_rows(void *ctx, int ith, int nth)
{
    const teacher *t = ctx;
    for (int row = ith; row < t->n_rows; row += nth) keep_row(t, row);
}

/* ---- a pass */

static void add_rows(teacher *t, slot *s, int most)
{
    const size_t left = s->d.n - s->d.n_rows;
    const int n = left < (size_t)most ? (int)left : most;
    if (n == 0) return;
    if (ftk_kv_reserve(&s->kv, n) != FTK_OK) run_die("no memory for keys and values");
    t->seq[t->n_seqs] =
        (ftk_pass_seq){.kv = &s->kv, .n_rows = n, .token = s->d.tokens + s->d.n_rows};
    t->of[t->n_seqs++] = s;
    for (int i = 0; i < n; i++) t->place[t->n_rows++] = (struct place){s, s->d.n_rows + (size_t)i};
}

/* One row of each text that is being written; the others share what is left of the pass. */
static void plan(teacher *t)
{
    t->n_seqs = t->n_rows = 0;
    for (int i = 0; i < t->o.sessions; i++)
        if (t->slots[i].busy && t->slots[i].d.n - t->slots[i].d.n_rows == 1)
            add_rows(t, &t->slots[i], 1);
    for (int i = 0; i < t->o.sessions && t->n_rows < ROWS; i++)
        if (t->slots[i].busy && t->slots[i].d.n - t->slots[i].d.n_rows > 1)
            add_rows(t, &t->slots[i], ROWS - t->n_rows);
}

/* The next token of a text that is being written, once all before it is read. */
static void write_on(teacher *t, slot *s)
{
    lesson *d = &s->d;
    if (s->left == 0 || d->n_rows < d->n) return;
    const int32_t token = d->best[(d->n - 1) * (size_t)t->o.top];
    d->mine[d->n] = 1;
    d->tokens[d->n++] = token;
    s->left = ftk_model_is_end(t->m, token) ? 0 : s->left - 1;
}

static void finish(teacher *t, slot *s)
{
    lessons_add(&t->out, &s->d);
    ftk_kv_seq_close(&s->kv);
    s->busy = false;
}

static void run_pass(teacher *t)
{
    ftk_forward_run(&t->f, t->seq, t->n_seqs);
    if (ftk_forward_check(&t->f) != FTK_OK) exit(RUN_FAILED);
    ftk_team_run(&t->f.team, keep_rows, t);
    for (int i = 0; i < t->n_seqs; i++) {
        slot *s = t->of[i];
        s->kv.len += t->seq[i].n_rows;
        s->d.n_rows += (size_t)t->seq[i].n_rows;
        write_on(t, s);
        if (s->d.n_rows == s->d.n) finish(t, s);
    }
}

/* ---- texts come and go */

static bool due(const teacher *t)
{
    return (t->o.tokens > 0 && (double)t->out.n_rows >= t->o.tokens * 1e6) ||
           (t->o.minutes > 0 && ftk_now() - t->began >= t->o.minutes * 60);
}

static bool begin(teacher *t, slot *s)
{
    const size_t cap = (size_t)t->o.longest, answer = t->o.written ? 0 : (size_t)t->o.answer;
    for (; t->next < t->texts.n; t->next++) {
        if (t->out.taken[t->next]) continue;
        if (!texts_lesson(t->m, &t->texts.at[t->next], t->o.written, &s->d, cap - answer)) {
            t->unusable++;
            continue;
        }
        s->d.source = (int64_t)t->next++;
        s->left = answer;
        if (ftk_kv_seq_open(&s->kv, &t->pool, (int)cap + ROWS) != FTK_OK) run_die("no memory");
        return s->busy = true;
    }
    return false;
}

static void say(teacher *t)
{
    const double now = ftk_now(), seconds = now - t->began;
    if (now - t->said < SAY_SECONDS) return;
    t->said = now;
    const int64_t rows = t->out.n_rows - t->began_at;
    const double share = (double)t->next / (double)t->texts.n;
    const double by_tokens = t->o.tokens > 0 ? (double)t->out.n_rows / (t->o.tokens * 1e6) : 0;
    const double by_time = t->o.minutes > 0 ? seconds / (t->o.minutes * 60) : 0;
    const double done = fmax(share, fmax(by_tokens, by_time));
    run_say("%lld texts, %.0f k tokens, %.0f a second, %.0f %% done", (long long)t->out.n_docs,
            (double)t->out.n_rows / 1e3, (double)rows / seconds, 100 * fmin(done, 1));
}

static void work(teacher *t)
{
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < t->o.sessions; i++) {
            slot *s = &t->slots[i];
            if (s->busy || (!due(t) && begin(t, s))) any = true;
        }
        if (!any) break;
        plan(t);
        run_pass(t);
        say(t);
    }
}

/* ---- */

static void *array(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) run_die("no memory");
    return p;
}

static void open_lesson(const teacher *t, lesson *d)
{
    const size_t cap = (size_t)t->o.longest, n_embd = (size_t)t->m->hp.n_embd,
                 top = (size_t)t->o.top;
    d->tokens = array(cap, sizeof *d->tokens);
    d->mine = array(cap, 1);
    d->feature = array(cap * n_embd, sizeof *d->feature);
    d->state = t->o.state > 0 ? array(cap * n_embd, sizeof *d->state) : NULL;
    d->states = array(cap * (size_t)t->o.n_states * n_embd, sizeof *d->states);
    d->best = array(cap * top, sizeof *d->best);
    d->logp = array(cap * top, sizeof *d->logp);
}

static void close_lesson(lesson *d)
{
    free(d->tokens);
    free(d->mine);
    free(d->feature);
    free(d->state);
    free(d->states);
    free(d->best);
    free(d->logp);
}

/* ", \"states\": [2, 15, 27]", or nothing. */
static void name_states(const options *o, char *out, size_t cap)
{
    out[0] = 0;
    for (int i = 0; i < o->n_states; i++) {
        const size_t n = strlen(out);
        snprintf(out + n, cap - n, "%s%d%s", i ? ", " : ", \"states\": [", o->states[i],
                 i + 1 == o->n_states ? "]" : "");
    }
}

static void open_output(teacher *t)
{
    ftk_model_info info;
    char about[1024], states[128];
    name_states(&t->o, states, sizeof states);
    ftk_model_get_info(t->m, &info);
    snprintf(about, sizeof about,
             "{\"model\": \"%s\", \"n_layer\": %d, \"n_embd\": %d, \"n_vocab\": %d, \"top\": %d, "
             "\"state\": %d,\n"
             " \"written\": %s, \"answer\": %d, \"longest\": %d, \"texts\": \"%016llx\"%s}\n",
             info.fingerprint, info.n_layer, info.n_embd, info.n_vocab, t->o.top, t->o.state,
             t->o.written ? "true" : "false", t->o.answer, t->o.longest,
             (unsigned long long)t->texts.sum, states);
    t->out = (lessons){.folder = t->o.folder,
                       .n_embd = (size_t)info.n_embd,
                       .top = (size_t)t->o.top,
                       .state = t->o.state > 0,
                       .n_states = (size_t)t->o.n_states,
                       .n_texts = (int64_t)t->texts.n};
    lessons_open(&t->out, about);
    if (t->out.n_docs > 0)
        run_say("going on behind %lld texts, %.0f k tokens", (long long)t->out.n_docs,
                (double)t->out.n_rows / 1e3);
    t->began_at = t->out.n_rows;
}

static void open_teacher(teacher *t)
{
    const options *o = &t->o;
    const int n_layer = t->m->hp.n_layer;
    if (o->longest > t->m->hp.n_ctx_train)
        run_refuse("--longest %d is more than the model's context, %d", o->longest,
                   t->m->hp.n_ctx_train);
    if (o->state > n_layer) run_refuse("--state %d: this model has %d layers", o->state, n_layer);
    if (o->top > t->m->hp.n_vocab) run_refuse("--top %d is more than the vocabulary has", o->top);
    const int slots = o->sessions * (o->longest + ROWS + FTK_PAGE);
    const int threads = o->threads ? o->threads : ftk_cpus();
    if (ftk_kv_pool_open(&t->pool, t->m, slots, FTK_TYPE_F16, NULL) != FTK_OK ||
        ftk_forward_open(&t->f, t->m, threads, ROWS, o->longest, o->longest + ROWS, FTK_TYPE_F16) !=
            FTK_OK ||
        (o->state > 0 && ftk_forward_keep(&t->f, o->state - 1) != FTK_OK))
        exit(RUN_FAILED);
    for (int i = 0, at; i < o->n_states; i++) {
        if (o->states[i] > n_layer)
            run_refuse("--states: this model has %d layers, so %d is none", n_layer, o->states[i]);
        if (ftk_forward_tap(&t->f, o->states[i], &at) != FTK_OK) exit(RUN_FAILED);
        if (at != i) run_refuse("--states: %d is there twice", o->states[i]);
    }
    for (int i = 0; i < o->sessions; i++) open_lesson(t, &t->slots[i].d);
}

static void close_teacher(teacher *t)
{
    for (int i = 0; i < t->o.sessions; i++) close_lesson(&t->slots[i].d);
    lessons_close(&t->out);
    ftk_forward_close(&t->f);
    ftk_kv_pool_close(&t->pool);
    texts_free(&t->texts);
}

static _Noreturn void usage(int status)
{
    fputs(
        "usage: teach -m MODEL.gguf -o FOLDER [options] TEXT...\n"
        "Has the model answer the prompts of TEXT, greedily, many at once, and keeps in FOLDER "
        "what the\n"
        "trainers of drafters learn from. TEXT: JSON lines of {messages}, {prompt, response} or "
        "{text}, or\n"
        "plain text, which the model goes on with. The same command goes on where it was stopped.\n"
        "  --written        read the texts as they are, answers and all, in place of answering "
        "them\n"
        "  --answer N       tokens of an answer, at most (256)\n"
        "  --longest N      tokens of a text, answer and all (1024); longer ones are left out\n"
        "  --tokens M       stop at so many million tokens\n"
        "  --minutes N      stop after so long\n"
        "  --state L        keep the states behind L layers too: FIRP\n"
        "  --states L,L,L   keep the states entering these layers too: EAGLE-3\n"
        "  --top K          the likeliest tokens that are kept of each place (32)\n"
        "  --sessions N     texts at once (24)\n"
        "  -t, --threads N  (all cores)\n",
        status ? stderr : stdout);
    exit(status);
}

static void read_states(options *o, const char *list)
{
    for (const char *at = list;; at++) {
        char *end;
        const long layer = strtol(at, &end, 10);
        if (*at < '0' || *at > '9' || (*end && *end != ',') || layer > 1 << 16)
            run_refuse("--states %s: give layers with commas between them, as in 2,15,27", list);
        if (o->n_states == MOST_STATES) run_refuse("--states %s: at most %d", list, MOST_STATES);
        o->states[o->n_states++] = (int)layer;
        if (!*(at = end)) return;
    }
}

static options parse(int argc, char **argv)
{
    enum { WRITTEN = 256, ANSWER, LONGEST, TOKENS, MINUTES, STATE, STATES, TOP, SESSIONS };
    static const struct option names[] = {{"model", required_argument, NULL, 'm'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"written", no_argument, NULL, WRITTEN},
                                          {"answer", required_argument, NULL, ANSWER},
                                          {"longest", required_argument, NULL, LONGEST},
                                          {"tokens", required_argument, NULL, TOKENS},
                                          {"minutes", required_argument, NULL, MINUTES},
                                          {"state", required_argument, NULL, STATE},
                                          {"states", required_argument, NULL, STATES},
                                          {"top", required_argument, NULL, TOP},
                                          {"sessions", required_argument, NULL, SESSIONS},
                                          {0}};
    options o = {.sessions = 24, .top = 32, .answer = 256, .longest = 1024, .state = 0};
    for (int c; (c = getopt_long(argc, argv, "m:o:t:h", names, NULL)) != -1;) switch (c) {
        case 'm': o.model = optarg; break;
        case 'o': o.folder = optarg; break;
        case 't': o.threads = (int)run_number("-t", optarg, 1, FTK_MAX_THREADS); break;
        case 'h': usage(0);
        case WRITTEN: o.written = true; break;
        case ANSWER: o.answer = (int)run_number("--answer", optarg, 1, 1 << 16); break;
        case LONGEST: o.longest = (int)run_number("--longest", optarg, 64, 1 << 17); break;
        case TOKENS: o.tokens = run_positive("--tokens", optarg); break;
        case MINUTES: o.minutes = run_positive("--minutes", optarg); break;
        case STATE: o.state = (int)run_number("--state", optarg, 1, 1 << 16); break;
        case STATES: read_states(&o, optarg); break;
        case TOP: o.top = (int)run_number("--top", optarg, 1, 256); break;
        case SESSIONS: o.sessions = (int)run_number("--sessions", optarg, 1, MOST_SESSIONS); break;
        default: usage(RUN_USAGE);
        }
    if (!o.model || !o.folder || optind == argc) usage(RUN_USAGE);
    if (!o.written && o.answer >= o.longest)
        run_refuse("--answer %d leaves no room for a prompt within --longest %d", o.answer,
                   o.longest);
    return o;
}

int main(int argc, char **argv)
{
    static teacher t;
    t.o = parse(argc, argv);
    texts_read(&t.texts, argv + optind, argc - optind);
    if (t.texts.n == 0) run_die("there is no text in the files given");
    ftk_model *m = run_model(t.o.model);
    t.m = m;
    open_teacher(&t);
    open_output(&t);
    t.began = t.said = ftk_now();
    work(&t);
    const double seconds = ftk_now() - t.began;
    const int64_t rows = t.out.n_rows - t.began_at;
    run_say("%lld texts, %lld tokens in %s; %lld tokens in %.1f minutes, %.0f a second; %zu texts "
            "were of no use",
            (long long)t.out.n_docs, (long long)t.out.n_rows, t.o.folder, (long long)rows,
            seconds / 60, (double)rows / seconds, t.unusable);
    const bool none = t.out.n_docs == 0;
    close_teacher(&t);
    ftk_model_free(m);
    if (none)
        run_die("no text could be used: they are too long for --longest, or hold no conversation");
    return 0;
}
