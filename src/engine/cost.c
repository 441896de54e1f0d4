/* SPDX-License-Identifier: Apache-2.0
 * The cost model. */
#include "cost.h"

#include "base/clock.h"

static const double budget = 0.12; /* seconds of measuring, about */
static const double quick = 0.006; /* a pass that is timed as it is */
/* Variances of relative errors: of the machine's speed, which was that of the moment when points
 * were timed; of a point that was timed, and of one that was drawn through others; of a single
 * pass; and what each pass adds, to all points together, as other programs and the clock rate
 * change the machine's speed, and to each point. With the last two a change of speed is followed
 * within some passes, and a change of shape within some dozens. */
static const double of_moment = 0.25, when_timed = 0.01, when_drawn = 0.25, noise = 0.0025;
static const double drift_of_all = 0.001, drift_of_each = 3e-6;
/* More than 2, as wider passes may be run another way: some machines take 2.3 times as long for
 * twice the rows. */
static const double STEEPEST = 2.5;

enum {
    DEEP = 512, /* tokens before the rows, to see what depth costs */
    MANY_POINT = 4,
    MANY = 1 << MANY_POINT, /* rows, for that and for what logits cost */
};
static const double MOST_LOGITS = 0.9; /* of a pass's time */

void ftk_cost_flat(ftk_cost *c)
{
    for (int i = 0; i < FTK_COST_POINTS; i++) c->seconds[i] = 1.0;
}

/* Twice the rows take no less time, and no more than STEEPEST times as much. Point i is
 * believed, then its neighbours: widths that are never run would else stay as wrong as they were
 * measured, and so never be run. */
static void keep_shape(ftk_cost *c, int i)
{
    double *const s = c->seconds;
    for (int j = i + 1; j < FTK_COST_POINTS; j++)
        s[j] = ftk_between(s[j - 1], s[j], STEEPEST * s[j - 1]);
    for (int j = i - 1; j >= 0; j--) s[j] = ftk_between(s[j + 1] / STEEPEST, s[j], s[j + 1]);
}

/* The fastest pass so far of each width: what disturbs a pass only ever adds to it. A large model's
 * layers are all alike, so passes over one and over some of them tell what all would take. */
typedef struct {
    ftk_forward *f;
    ftk_pass_seq pass;
    int some;                                                        /* layers */
    int next;                                                        /* layer */
    double one_layer[FTK_COST_POINTS], some_layers[FTK_COST_POINTS]; /* 0: not timed */
} timing;

/* Of some layers others each time, as in a whole pass the caches hold none of them. They run
 * over any states: of what comes out nothing is used. */
static double time_pass(timing *t, int layers)
{
    ftk_forward *const f = t->f;
    const int all = f->layers;
    ftk_pass_seq pass = t->pass;
    int first = 0;
    if (layers < all) {
        first = t->next + layers <= all ? t->next : 0;
        t->next = first + layers;
        pass.token = NULL;
        pass.states = f->norm;
    }
    f->layers = first + layers;
    const double start = ftk_clock_now(f->clock);
    ftk_forward_run_above(f, &pass, 1, first);
    const double seconds = ftk_clock_now(f->clock) - start;
    f->layers = all;
    return seconds;
}

static void keep_least(double *least, double seconds)
{
    if (*least == 0 || seconds < *least) *least = seconds;
}

static double fastest_layer(timing *t)
{
    double least = 0;
    for (int i = 0; i < 3; i++) keep_least(&least, time_pass(t, 1));
    return least;
}

/* Starts the threads, warms the caches, finds out whether a core is taken by another program, and
 * chooses how many layers to time: all, if that is quick. */
static void warm_up(timing *t)
{
    const int all = t->f->layers;
    double each = fastest_layer(t);
    ftk_team_give_way(&t->f->team, true);
    const double fewer = fastest_layer(t);
    if (fewer < 0.9 * each)
        each = fewer;
    else
        ftk_team_give_way(&t->f->team, false);
    t->some = each * all < quick ? all : 1 + (int)(quick / 2 / each);
    if (t->some < 2) t->some = 2;
    if (t->some >= all) t->some = all;
    time_pass(t, t->some);
}

static void time_width(timing *t, int i)
{
    t->pass.n_rows = 1 << i;
    keep_least(&t->some_layers[i], time_pass(t, t->some));
    if (t->some < t->f->layers) keep_least(&t->one_layer[i], time_pass(t, 1));
}

/* What timing a width will take, from the widest one below it that was timed. */
static double expected(const timing *t, int i)
{
    int known = i;
    while (known > 0 && t->some_layers[known] == 0) known--;
    const double seconds = t->some_layers[known] + t->one_layer[known];
    return known == i || known == 0 ? seconds : seconds * (1 << (i - known));
}

/* Rounds over all widths, as far as time allows, those first that say most about the curve. */
static void time_widths(timing *t, int most)
{
    static const int order[FTK_COST_POINTS] = {0, 4, 2, 6, 1, 3, 5, 7};
    const ftk_clock *const clock = t->f->clock;
    const double start = ftk_clock_now(clock);
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < FTK_COST_POINTS; i++)
            if (1 << order[i] <= most &&
                expected(t, order[i]) < budget - (ftk_clock_now(clock) - start))
                time_width(t, order[i]);
}

/* Seconds of all layers; 0: not timed. */
static double whole(const timing *t, int i)
{
    if (t->some == t->f->layers || t->some_layers[i] == 0) return t->some_layers[i];
    const double more = (t->some_layers[i] - t->one_layer[i]) / (t->some - 1);
    return t->some_layers[i] + (t->f->layers - t->some) * (more > 0 ? more : 0);
}

/* Widths that were not timed lie on the line through their neighbours; beyond the last one a row
 * costs what it did before, but twice the rows never more than twice as much. */
static void draw(ftk_cost *c, const timing *t)
{
    int last = 0; /* timed */
    c->seconds[0] = whole(t, 0);
    c->variance[0][0] = when_timed;
    for (int i = 1; i < FTK_COST_POINTS; i++) {
        c->seconds[i] = whole(t, i);
        c->variance[i][i] = c->seconds[i] > 0 ? when_timed : when_drawn;
        if (c->seconds[i] == 0) continue;
        for (int j = last; j >= 0 && c->seconds[j] > c->seconds[i]; j--)
            c->seconds[j] = c->seconds[i];
        const double step = (c->seconds[i] - c->seconds[last]) / ((1 << i) - (1 << last));
        for (int j = last + 1; j < i; j++)
            c->seconds[j] = c->seconds[last] + step * ((1 << j) - (1 << last));
        last = i;
    }
    for (int i = last + 1; i < FTK_COST_POINTS; i++) {
        const double before = c->seconds[i - 1];
        const double step = i >= 2 ? 2 * (before - c->seconds[i - 2]) : before;
        c->seconds[i] = before + (step < before ? step : before);
    }
    keep_shape(c, 0);
}

/* The rows of t's pass with and without DEEP tokens before them, over the same layers: what one
 * of those tokens adds in all layers. What the cache holds there does not matter. */
static double slot_seconds(timing *t, ftk_kv_seq *seq, int rows)
{
    double deep = 0, flat = 0;
    t->pass.n_rows = rows;
    for (int i = 0; i < 3; i++) {
        seq->len = DEEP;
        keep_least(&deep, time_pass(t, t->some));
        seq->len = 0;
        keep_least(&flat, time_pass(t, t->some));
    }
    const double seconds = (deep - flat) / DEEP * t->f->layers / t->some;
    return seconds > 0 ? seconds : 0;
}

/* What is left of a pass without them. */
static void measure_logits(ftk_cost *c, timing *t)
{
    const double with = t->some_layers[MANY_POINT];
    double without = 0;
    t->pass.n_rows = t->pass.first_logits = MANY;
    for (int i = 0; i < 3; i++) keep_least(&without, time_pass(t, t->some));
    t->pass.first_logits = 0;
    c->logits = ftk_between(0, (with - without) / c->seconds[MANY_POINT], MOST_LOGITS);
}

static void measure_depth(ftk_cost *c, timing *t, ftk_kv_seq *seq)
{
    const double one = slot_seconds(t, seq, 1), many = slot_seconds(t, seq, MANY);
    c->slot_row = many > one ? (many - one) / (MANY - 1) : 0;
    c->slot = one > c->slot_row ? one - c->slot_row : 0;
    /* the small difference of two times: */
    c->variance[FTK_COST_POINTS][FTK_COST_POINTS] = when_drawn;
}

ftk_err ftk_cost_measure(ftk_cost *c, ftk_forward *f, ftk_kv_pool *pool)
{
    static const int32_t tokens[FTK_MAX_NODES]; /* any tokens will do: all are id 0 */
    const int slots = pool->n_pages * FTK_PAGE;
    const int most = slots < FTK_MAX_NODES ? slots : FTK_MAX_NODES;
    const bool deep = slots >= DEEP + MANY;
    const int taken = deep ? DEEP + MANY : most;
    ftk_kv_seq seq;
    ftk_err err = ftk_kv_seq_open(&seq, pool, taken);
    if (err == FTK_OK) err = ftk_kv_reserve(&seq, taken);
    if (err != FTK_OK) {
        ftk_kv_seq_close(&seq);
        return err;
    }
    timing t = {.f = f, .pass = {.kv = &seq, .n_rows = 1, .token = tokens}};
    warm_up(&t);
    time_widths(&t, most);
    draw(c, &t);
    if (t.some_layers[MANY_POINT] > 0) measure_logits(c, &t);
    if (deep) measure_depth(c, &t, &seq);
    for (int i = 0; i <= FTK_COST_POINTS; i++)
        for (int j = 0; j <= FTK_COST_POINTS; j++) c->variance[i][j] += of_moment;
    ftk_kv_seq_close(&seq);
    return FTK_OK;
}

/* rows = 2^i + part of the way to 2^(i + 1) */
static int locate(int rows, double *part)
{
    int i = 0;
    while (i + 1 < FTK_COST_POINTS && 1 << (i + 1) <= rows) i++;
    *part = (double)(rows - (1 << i)) / (1 << i);
    return i;
}

int ftk_cost_point(int rows)
{
    int i = 0;
    while (i + 1 < FTK_COST_POINTS && 2 * rows >= 3 << i) i++;
    return i;
}

static double deep_seconds(const ftk_cost *c, ftk_width w)
{
    return w.slots * c->slot + w.slot_rows * c->slot_row;
}

/* Of rows on empty sequences, all with logits. */
static double curve(const ftk_cost *c, int rows)
{
    double part;
    const int i = locate(rows, &part);
    const double *const s = c->seconds + i;
    const bool last = i == FTK_COST_POINTS - 1;
    return s[0] + part * (last ? 2 * (s[0] - s[-1]) : s[1] - s[0]);
}

/* Of the curve at `rows`, the seconds that are spent with that many: the others have logits. */
static double layers_of(const ftk_cost *c, ftk_width w)
{
    return curve(c, w.rows) * (w.mute > 0 ? 1 - c->logits : 1);
}

static double logits_of(const ftk_cost *c, ftk_width w)
{
    return w.mute > 0 && w.mute < w.rows ? curve(c, w.rows - w.mute) * c->logits : 0;
}

double ftk_cost_of(const ftk_cost *c, ftk_width w)
{
    if (w.rows < 1) w.rows = 1;
    return layers_of(c, w) + logits_of(c, w) + deep_seconds(c, w);
}

double ftk_cost_at(const ftk_cost *c, int rows, int depth)
{
    return ftk_cost_of(c, ftk_width_of(rows, depth));
}

/* A Kalman filter's step. Errors of points have much in common, the machine's speed: so passes of
 * one width tell what others take, too. share[j]: the part of the pass's time that is point j's,
 * then what depth adds. */
static void correct(ftk_cost *c, const double *share, double news)
{
    enum { ALL = FTK_COST_POINTS + 1 };
    double with[ALL] = {0}, spread = noise; /* covariance with the pass; the pass's variance */
    for (int i = 0; i < ALL; i++) {
        c->variance[i][i] += drift_of_each;
        for (int j = 0; j < ALL; j++) {
            c->variance[i][j] += drift_of_all;
            with[i] += c->variance[i][j] * share[j];
        }
        spread += with[i] * share[i];
    }
    for (int i = 0; i < ALL; i++) {
        const double by = 1 + with[i] / spread * news;
        for (int j = 0; j < ALL; j++) c->variance[i][j] -= with[i] * with[j] / spread;
        if (i < FTK_COST_POINTS) {
            c->seconds[i] *= by;
        } else {
            c->slot *= by;
            c->slot_row *= by;
        }
    }
}

/* Which points the curve at `rows` goes by, where it makes up `whole` of a pass's time. Returns the
 * nearest one. */
static int share_out(const ftk_cost *c, int rows, double whole, double *share)
{
    double part;
    const int i = locate(rows, &part);
    if (i == FTK_COST_POINTS - 1) {
        share[i] += whole;
        return i;
    }
    const double first = (1 - part) * c->seconds[i], second = part * c->seconds[i + 1];
    share[i] += whole * first / (first + second);
    share[i + 1] += whole * second / (first + second);
    return part < 0.5 ? i : i + 1;
}

void ftk_cost_update(ftk_cost *c, ftk_width w, double seconds)
{
    const double expected = ftk_cost_of(c, w);
    /* Twice as long: a core was taken away for a moment, which is not the machine's cost. */
    const double news = ftk_between(0.25, seconds / expected, 2) - 1;
    double share[FTK_COST_POINTS + 1] = {0};
    share[FTK_COST_POINTS] = deep_seconds(c, w) / expected;
    if (w.mute < w.rows) share_out(c, w.rows - w.mute, logits_of(c, w) / expected, share);
    const int point = share_out(c, w.rows, layers_of(c, w) / expected, share);
    correct(c, share, news);
    keep_shape(c, point);
}

double ftk_cost_of_draft(double *usually, double seconds, double plain)
{
    const double most = 4 * *usually > 2 * plain ? 4 * *usually : 2 * plain;
    if (seconds > most) seconds = most;
    *usually += 0.1 * (seconds - *usually);
    return seconds;
}

ftk_company ftk_company_of(const ftk_cost *c, int n, ftk_width decoding, ftk_width rows)
{
    return (ftk_company){.n = n,
                         .rows = rows,
                         .seconds = ftk_cost_of(c, rows),
                         .plain = ftk_cost_of(c, decoding),
                         .alone = ftk_cost_at(c, 1, (int)(decoding.slots / n))};
}

double ftk_cost_more(const ftk_cost *c, const ftk_company *with, int rows, int depth)
{
    return ftk_cost_of(c, ftk_width_with(with->rows, rows, depth)) - with->seconds;
}

int ftk_cost_best(const ftk_cost *c, const ftk_company *with, const float *prob, int nodes,
                  int depth)
{
    int best = 0;
    double tokens = with->n, best_rate = tokens / with->plain;
    for (int n = 1; n <= nodes; n++) {
        tokens += prob[n - 1];
        const double rate = tokens / (with->plain + ftk_cost_more(c, with, n, depth));
        if (rate > best_rate) {
            best_rate = rate;
            best = n;
        }
    }
    return best;
}
