/* SPDX-License-Identifier: Apache-2.0
 * How the drafts of a pass are sized together, and the account that covers them: by direct calls,
 * on costs and guesses that are made up. */
#include "support.h"

#include <limits.h>
#include <math.h>

#include "archmodels.h"
#include "engine/session.h"
#include "testkit/statistics.h"

enum { N = 3, NODES = 6 };

static const char *const path = FTK_BUILT_DIR "/size-llama.gguf";
static ftk_model *model;

static int write_model(void **state)
{
    (void)state;
    gw w;
    gw_init(&w);
    am_write(&w, am_find("llama"));
    if (!gw_end(&w, path)) return -1;
    model = load_model(path);
    return 0;
}

static int free_model(void **state)
{
    (void)state;
    ftk_model_free(model);
    return 0;
}

/* An engine with N sessions, each of which is to draft in the pass that is being planned. */
typedef struct {
    ftk_engine *e;
    ftk_session *s[N];
} planned;

static planned plan(void)
{
    planned p;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "lookup";
    p.e = open_engine(model, 1, 512, FTK_TYPE_F16);
    p.e->credit = 1000;
    for (int i = 0; i < N; i++) assert_int_equal(ftk_session_open(&p.s[i], p.e, &cfg), FTK_OK);
    /* no pass is made wider, to see what that takes */
    for (int i = 0; i < FTK_COST_POINTS; i++) p.e->next_width[i] = INT_MAX;
    return p;
}

static void end(planned *p)
{
    for (int i = 0; i < N; i++) ftk_session_free(p->s[i]);
    ftk_engine_free(p->e);
}

/* Milliseconds of 1, 2, 4 ... rows; n sessions decode. */
static void set_costs(planned *p, const double *ms, int n)
{
    const ftk_width rows = ftk_width_of(n, 0);
    for (int i = 0; i < FTK_COST_POINTS; i++) p->e->cost.seconds[i] = ms[i] * 1e-3;
    p->e->cost.slot = p->e->cost.slot_row = 0;
    p->e->company = ftk_company_of(&p->e->cost, n, rows, rows);
}

/* A draft of nodes that are so likely, best first, whose size is open. */
static void set_draft(ftk_session *s, int nodes, const float *prob)
{
    ftk_tree_init(&s->tree, 0);
    for (int k = 0; k < nodes; k++) ftk_tree_add(&s->tree, k, k + 1, prob[k]);
    s->open_draft = true;
    s->drafting = 0;
    s->family.idle = 0;
}

static void check_sizes(const planned *p, int a, int b, int c)
{
    const int want[N] = {a, b, c};
    for (int i = 0; i < N; i++) assert_int_equal(p->s[i]->tree.n - 1, want[i]);
}

static bool about(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

/* A row more costs a tenth of a pass; rows are free; those beyond 8 are dear; each costs a pass;
 * they come in eights, so that more pay where fewer do not. */
static const double curves[][FTK_COST_POINTS] = {
    {1, 1.1, 1.3, 1.7, 2.5, 4.1, 7.3, 13.7},  {1, 1, 1, 1, 1, 1, 1, 1},
    {1, 1.1, 1.3, 1.7, 3.9, 9, 20.6, 47.4},   {1, 2, 4, 8, 16, 32, 64, 128},
    {1, 1.5, 2.2, 2.25, 2.3, 4.6, 9.2, 18.4},
};

/* Of all ways to take leading parts of the drafts, the one that gives the most expected tokens a
 * second of the whole pass. */
static void best_by_trying(const planned *p, float prob[N][NODES], int *best)
{
    const ftk_company *const with = &p->e->company;
    double most = with->n / with->plain;
    int at[N];
    memset(best, 0, N * sizeof *best);
    for (at[0] = 0; at[0] <= NODES; at[0]++)
        for (at[1] = 0; at[1] <= NODES; at[1]++)
            for (at[2] = 0; at[2] <= NODES; at[2]++) {
                double tokens = with->n;
                for (int i = 0; i < N; i++)
                    for (int k = 0; k < at[i]; k++) tokens += (double)prob[i][k];
                const int rows = with->rows.rows + at[0] + at[1] + at[2];
                const double more = ftk_cost_at(&p->e->cost, rows, 0) - with->seconds;
                if (tokens / (with->plain + more) <= most * (1 + 1e-12)) continue;
                most = tokens / (with->plain + more);
                memcpy(best, at, sizeof at);
            }
}

static void test_merged(void **state)
{
    (void)state;
    planned p = plan();
    uint64_t r = 7;
    int none = 0, all = 0, some = 0;
    for (size_t c = 0; c < sizeof curves / sizeof *curves; c++)
        for (int round = 0; round < 50; round++) {
            float prob[N][NODES];
            int want[N], nodes = 0;
            for (int i = 0; i < N; i++)
                for (int k = 0; k < NODES; k++)
                    prob[i][k] = (k ? prob[i][k - 1] : 1) *
                                 (0.3f + 0.69f * (float)next_random(&r) / 2147483648.0f);
            set_costs(&p, curves[c], N);
            for (int i = 0; i < N; i++) set_draft(p.s[i], NODES, prob[i]);
            best_by_trying(&p, prob, want);
            ftk_size_drafts(p.s, N);
            check_sizes(&p, want[0], want[1], want[2]);
            for (int i = 0; i < N; i++) nodes += want[i];
            const double more =
                ftk_cost_at(&p.e->cost, N + nodes, 0) - ftk_cost_at(&p.e->cost, N, 0);
            for (int i = 0; i < N; i++)
                assert_true(nodes ? about(p.s[i]->row_seconds, more / nodes)
                                  : p.s[i]->row_seconds == 0);
            none += nodes == 0;
            all += nodes == N * NODES;
            some += nodes > 0 && nodes < N * NODES;
        }
    assert_true(none > 20 && all > 20 && some > 50); /* else this would say little */
    end(&p);
}

/* What pays but is not covered is left out, the less likely nodes first, whosesoever they are; what
 * drafts took counts. */
static void test_covered(void **state)
{
    (void)state;
    static const float prob[N][2] = {{0.9f, 0.8f}, {0.85f, 0.6f}, {0.7f, 0.1f}};
    planned p = plan();
    set_costs(&p, curves[0], N);
    for (int i = 0; i < N; i++) set_draft(p.s[i], 2, prob[i]);
    p.e->credit = 0.35;
    ftk_size_drafts(p.s, N);
    check_sizes(&p, 2, 1, 0);
    assert_true(about(p.s[2]->family.saving, 0.1)); /* what its one node would need */
    assert_true(p.s[0]->family.saving == 0);
    set_costs(&p, curves[0], N);
    for (int i = 0; i < N; i++) set_draft(p.s[i], 2, prob[i]);
    p.s[2]->drafting = 0.1e-3;
    ftk_size_drafts(p.s, N);
    check_sizes(&p, 1, 1, 0);
    assert_true(about(p.s[2]->family.saving, 0.2));
    end(&p);
}

/* A draft whose size is given stays, and the others are sized in its company. */
static void test_given(void **state)
{
    (void)state;
    static const float prob[5] = {0.9f, 0.8f, 0.7f, 0.6f, 0.5f}, likely[1] = {0.95f};
    static const double ms[FTK_COST_POINTS] = {1, 1.1, 1.3, 1.7, 6, 12, 24, 48};
    for (int given = 0; given < 2; given++) {
        planned p = plan();
        set_costs(&p, ms, N);
        set_draft(p.s[0], 5, prob);
        p.s[0]->open_draft = !given;
        for (int i = 1; i < N; i++) set_draft(p.s[i], 1, likely);
        ftk_size_drafts(p.s, N);
        check_sizes(&p, given ? 5 : 3, !given, !given);
        for (int i = 0; i < N; i++) assert_true(about(p.s[i]->row_seconds, 0.1e-3));
        end(&p);
    }
}

/* However much a draft took, the account is never deeper in debt than two plain steps: another
 * program had the core. Nor does it hold more than four. */
static void test_debt(void **state)
{
    (void)state;
    planned p = plan();
    set_costs(&p, curves[0], 1);
    p.e->credit = 1;
    ftk_ledger_book(p.s[0], -0.5);
    assert_true(about(p.e->credit, 0.5));
    p.s[0]->drafting = 10; /* seconds, of which a plain step takes a thousandth */
    ftk_ledger_settle(p.s[0], 0, 1);
    assert_true(p.e->credit == -2);
    ftk_ledger_book(p.s[0], 2.5);
    assert_true(about(p.e->credit, 0.5));
    ftk_ledger_book(p.s[0], 1000);
    assert_true(p.e->credit == 4);
    end(&p);
}

/* Half of what steps gave and cost is forgotten in 46 of them, of the engine's pace and of what is
 * measured of a drafter. */
static void test_memory(void **state)
{
    (void)state;
    planned p = plan();
    set_costs(&p, curves[0], 1);
    p.s[0]->drafting = p.s[0]->row_seconds = 0;
    for (int k = 0; k < 2000; k++) ftk_ledger_settle(p.s[0], 0, 3);
    assert_true(fabs(ftk_session_pace(p.s[0]) - 3) < 0.01);
    for (int k = 0; k < 46; k++) ftk_ledger_settle(p.s[0], 0, 1);
    const ftk_measured *const m = p.s[0]->family.measured;
    assert_true(fabs(ftk_session_pace(p.s[0]) - 2) < 0.05);
    assert_true(fabs(m->tokens / m->spent - 2) < 0.05);
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged), cmocka_unit_test(test_covered), cmocka_unit_test(test_given),
        cmocka_unit_test(test_debt),   cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, write_model, free_model);
}
