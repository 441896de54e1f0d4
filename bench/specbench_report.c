/* SPDX-License-Identifier: Apache-2.0
 * Sums up a folder of answers. It needs that folder alone. */
#include "specbench_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "run.h"

enum { PATH = 4096 };

const char *spec_family(const char *category)
{
    static const char *const mt_bench[] = {"writing", "roleplay",   "reasoning", "math",
                                           "coding",  "extraction", "stem",      "humanities"};
    for (size_t i = 0; i < sizeof mt_bench / sizeof *mt_bench; i++)
        if (strcmp(category, mt_bench[i]) == 0) return "mt_bench";
    return category;
}

/* ---- reading */

/* The benchmark's families keep its order, others come behind them as they are met. */
static int find_family(spec_result *r, const char *category)
{
    char name[sizeof r->family[0]];
    snprintf(name, sizeof name, "%s", spec_family(category));
    for (int i = 0; i < r->n_families; i++)
        if (strcmp(r->family[i], name) == 0) return i;
    if (r->n_families == SPEC_MAX_FAMILIES) return SPEC_MAX_FAMILIES - 1;
    const bool room = r->n_families + 1 < SPEC_MAX_FAMILIES;
    snprintf(r->family[r->n_families], sizeof r->family[0], "%s", room ? name : "others");
    return r->n_families++;
}

static double sum_of(const json_t *array)
{
    double sum = 0;
    for (size_t i = 0; i < json_array_size(array); i++)
        sum += json_number_value(json_array_get(array, i));
    return sum;
}

static uint64_t hash_texts(uint64_t h, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text) h = spec_hash(h, text, strlen(text) + 1);
    }
    return h;
}

typedef struct place {
    spec_result *r;
    int lap, method;
} place;

static size_t at_most(json_int_t i, size_t most)
{
    return i < 0 ? 0 : (size_t)i > most ? most : (size_t)i;
}

/* Adds one answer to the sums of its family, or of all. */
static void add(spec_sum *s, const spec_answer *a, const json_t *choice, const json_t *more)
{
    s->answers++;
    s->tokens += a->tokens;
    s->steps += a->steps;
    s->seconds += a->seconds;
    s->prefill += json_number_value(json_object_get(more, "prefill_time"));
    s->draft += json_number_value(json_object_get(more, "draft_time"));
    s->forward += json_number_value(json_object_get(more, "forward_time"));
    s->judge += json_number_value(json_object_get(more, "judge_time"));
    s->left_out += at_most(json_integer_value(json_object_get(more, "turns_left_out")), 1 << 20);
    s->n[a->lap]++;
    s->rate[a->lap] += (double)a->tokens / a->seconds;
    s->text_rate[a->lap] += sum_of(json_object_get(more, "text_tokens")) / a->seconds;
    s->run_seconds[a->lap] += a->seconds;
    s->run_tokens[a->lap] += (double)a->tokens;
    const json_t *finish = json_object_get(more, "finish");
    for (size_t i = 0; i < json_array_size(finish); i++) {
        const char *text = json_string_value(json_array_get(finish, i));
        s->cut += text && strcmp(text, "context") == 0;
    }
    const json_t *lengths = json_object_get(choice, "accept_lengths");
    for (size_t i = 0; i < json_array_size(lengths); i++)
        s->lengths[at_most(json_integer_value(json_array_get(lengths, i)), SPEC_LENGTHS - 1)]++;
    const json_t *rows = json_object_get(more, "rows_steps");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *pair = json_array_get(rows, i);
        s->rows[at_most(json_integer_value(json_array_get(pair, 0)), SPEC_LENGTHS - 1)] +=
            (size_t)json_integer_value(json_array_get(pair, 1));
    }
}

static void take(void *ctx, const json_t *o, const char *path, size_t line)
{
    const place *p = ctx;
    spec_result *r = p->r;
    const json_t *choice = json_array_get(json_object_get(o, "choices"), 0);
    const json_t *more = json_object_get(o, "foretoken");
    const char *category = json_string_value(json_object_get(o, "category"));
    const double seconds = sum_of(json_object_get(choice, "wall_time"));
    const double tokens = sum_of(json_object_get(choice, "new_tokens"));
    if (!category || !choice || !more || !(seconds > 0) || !(tokens >= 0))
        run_die("%s: line %zu is no answer of specbench: remove the line, it will be asked again",
                path, line);
    if (r->n_answers == r->cap) {
        r->cap = 2 * r->cap + 1024;
        spec_answer *all = realloc(r->answers, r->cap * sizeof *all);
        if (!all) run_die("no memory for the answers");
        r->answers = all;
    }
    spec_answer *a = &r->answers[r->n_answers++];
    *a = (spec_answer){
        .id = json_integer_value(json_object_get(o, "question_id")),
        .lap = p->lap,
        .method = p->method,
        .family = find_family(r, category),
        .hash = hash_texts(hash_texts(SPEC_HASH, json_object_get(more, "token_ids_hash")),
                           json_object_get(choice, "turns")),
        .tokens = (size_t)tokens,
        .steps = json_array_size(json_object_get(choice, "accept_lengths")),
        .seconds = seconds,
    };
    snprintf(a->category, sizeof a->category, "%s", category);
    spec_sum *sums = r->sums + (size_t)p->method * SPEC_MAX_FAMILIES;
    add(&sums[0], a, choice, more);
    add(&sums[a->family], a, choice, more);
    const double stamp = json_number_value(json_object_get(o, "tstamp"));
    if (r->first == 0 || stamp < r->first) r->first = stamp;
    if (stamp > r->last) r->last = stamp;
}

static int by_question(const void *x, const void *y)
{
    const spec_answer *a = x, *b = y;
    if (a->lap != b->lap) return a->lap - b->lap;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return a->method - b->method;
}

/* Sorted, the baseline's answer stands before the others to the same question. */
static void compare(spec_result *r)
{
    qsort(r->answers, r->n_answers, sizeof *r->answers, by_question);
    const spec_answer *plain = NULL;
    for (size_t i = 0; i < r->n_answers; i++) {
        spec_answer *a = &r->answers[i];
        if (a->method == 0) plain = a;
        a->compared = plain && plain->lap == a->lap && plain->id == a->id;
        a->equal = a->compared && plain->hash == a->hash;
        for (int k = 0; k < 2; k++) {
            spec_sum *s = r->sums + (size_t)a->method * SPEC_MAX_FAMILIES + (k ? a->family : 0);
            s->compared += a->compared;
            s->equal += a->equal;
            if (k == 0 && a->family == 0) break;
        }
    }
}

static void read_settings(spec_result *r)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/settings.json", r->dir);
    json_error_t e;
    r->root = json_load_file(path, 0, &e);
    r->settings = json_object_get(r->root, "settings");
    r->about = json_object_get(r->root, "about");
    const json_t *methods = json_object_get(r->about, "methods");
    r->n_methods = (int)json_array_size(methods);
    r->repeat = (int)json_integer_value(json_object_get(r->settings, "repeat"));
    bool good = r->n_methods >= 1 && r->n_methods <= SPEC_MAX_METHODS && r->repeat >= 1 &&
                r->repeat <= SPEC_MAX_REPEAT;
    for (int i = 0; good && i < r->n_methods; i++) {
        const json_t *m = json_array_get(methods, (size_t)i);
        r->method[i] = json_string_value(json_object_get(m, "name"));
        r->drafter[i] = json_string_value(json_object_get(m, "drafter"));
        r->verifier[i] = json_string_value(json_object_get(m, "verifier"));
        r->lossless[i] = json_is_true(json_object_get(m, "lossless"));
        good = r->method[i] && r->drafter[i] && r->verifier[i] && !strchr(r->method[i], '/');
    }
    if (!good) run_die("%s is no settings file of specbench: give a folder that it made", path);
}

void spec_result_read(spec_result *r, const char *dir)
{
    *r = (spec_result){.dir = dir, .n_families = 1, .family = {"overall"}};
    read_settings(r);
    r->sums = calloc((size_t)r->n_methods * SPEC_MAX_FAMILIES, sizeof *r->sums);
    if (!r->sums) run_die("no memory for the sums");
    for (int lap = 0; lap < r->repeat; lap++)
        for (int m = 0; m < r->n_methods; m++) {
            char path[PATH];
            spec_answers_path(path, sizeof path, dir, lap, r->method[m]);
            spec_answers_read(path, take, &(place){.r = r, .lap = lap, .method = m});
        }
    if (r->n_answers == 0) run_die("%s holds no answers yet", dir);
    compare(r);
}

void spec_result_free(spec_result *r)
{
    free(r->answers);
    free(r->sums);
    json_decref(r->root);
}

/* ---- figures */

const spec_sum *spec_sum_of(const spec_result *r, int method, int family)
{
    return r->sums + (size_t)method * SPEC_MAX_FAMILIES + family;
}

int spec_family_at(const spec_result *r, int i)
{
    static const char *const order[] = {"mt_bench", "translation",    "summarization",
                                        "qa",       "math_reasoning", "rag"};
    enum { KNOWN = sizeof order / sizeof *order };
    int at = 0;
    for (int k = 0; k < KNOWN; k++)
        for (int f = 1; f < r->n_families; f++)
            if (strcmp(r->family[f], order[k]) == 0 && at++ == i) return f;
    for (int f = 1; f < r->n_families; f++) {
        bool known = false;
        for (int k = 0; k < KNOWN; k++) known = known || strcmp(r->family[f], order[k]) == 0;
        if (!known && at++ == i) return f;
    }
    return 0;
}

static spec_ratio over_runs(const double *x, int n)
{
    spec_ratio r = {.deviation = NAN, .low = INFINITY, .high = -INFINITY};
    double squares = 0;
    for (int i = 0; i < n; i++) {
        r.mean += x[i] / n;
        if (x[i] < r.low) r.low = x[i];
        if (x[i] > r.high) r.high = x[i];
    }
    for (int i = 0; i < n; i++) squares += (x[i] - r.mean) * (x[i] - r.mean);
    if (n > 1) r.deviation = sqrt(squares / (n - 1));
    if (n == 0) r = (spec_ratio){NAN, NAN, NAN, NAN};
    return r;
}

enum kind { OFFICIAL, EMITTED, TOTAL };

static spec_ratio speedup(const spec_result *r, int method, int family, enum kind kind)
{
    const spec_sum *s = spec_sum_of(r, method, family), *plain = spec_sum_of(r, 0, family);
    double x[SPEC_MAX_REPEAT];
    int n = 0;
    for (int lap = 0; lap < r->repeat; lap++) {
        if (s->n[lap] == 0 || plain->n[lap] == 0) continue;
        const double rate = s->rate[lap] / (double)s->n[lap];
        const double base =
            (kind == OFFICIAL ? plain->text_rate[lap] : plain->rate[lap]) / (double)plain->n[lap];
        x[n++] = kind != TOTAL ? rate / base
                               : s->run_tokens[lap] / s->run_seconds[lap] /
                                     (plain->run_tokens[lap] / plain->run_seconds[lap]);
    }
    return over_runs(x, n);
}

spec_ratio spec_speedup(const spec_result *r, int method, int family)
{
    return speedup(r, method, family, OFFICIAL);
}

spec_ratio spec_speedup_emitted(const spec_result *r, int method, int family)
{
    return speedup(r, method, family, EMITTED);
}

spec_ratio spec_speedup_total(const spec_result *r, int method, int family)
{
    return speedup(r, method, family, TOTAL);
}

double spec_mean_accepted(const spec_sum *s)
{
    return s->steps > 0 ? (double)s->tokens / (double)s->steps : NAN;
}

double spec_reached(const spec_sum *s, int d)
{
    size_t n = 0;
    for (int k = d + 1; k < SPEC_LENGTHS; k++) n += s->lengths[k];
    return s->steps > 0 ? (double)n / (double)s->steps : NAN;
}

void spec_glance(const spec_result *r, char *out, size_t n)
{
    const char *const names[] = {"model", "commit", "kernels", "CPU"};
    const char *text[4];
    for (int i = 0; i < 4; i++) {
        text[i] = json_string_value(json_object_get(r->settings, names[i]));
        if (!text[i]) text[i] = "unknown";
    }
    const char *weights = json_string_value(json_object_get(r->about, "weights"));
    const char *date = json_string_value(json_object_get(r->about, "date"));
    snprintf(out, n, "%s, %s; commit %s; %d threads, kernels %s; %s; %.10s", text[0],
             weights ? weights : "unknown", text[1],
             (int)json_integer_value(json_object_get(r->settings, "threads")), text[2], text[3],
             date ? date : "unknown");
}
