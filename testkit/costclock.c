/* SPDX-License-Identifier: Apache-2.0
 * A clock that goes on by what work is said to take. */
#include "testkit/costclock.h"

#include <stdio.h>
#include <string.h>

#include "engine/session.h"

static const double call = 5e-7; /* seconds between two looks at the clock: the host works, too */

/* Now and then other programs slow all work down, for a while: by as much as c->slow. */
static double slowness(const costclock *c)
{
    static const double spell = 0.3, part[] = {0, 0, 0.4, 1};
    const uint64_t which = (uint64_t)(c->seconds / spell);
    return 1 + (c->slow - 1) * part[which * 0x9E3779B97F4A7C15U >> 62];
}

static void work(costclock *c, double seconds)
{
    c->worked += seconds;
    c->seconds += seconds * slowness(c);
}

static double now(void *ctx)
{
    costclock *const c = ctx;
    work(c, call);
    return c->seconds;
}

double costclock_takes(const costclock *c, double rows)
{
    int i = 0;
    while (i + 2 < c->n && rows > c->rows[i + 1]) i++;
    const double part = (rows - c->rows[i]) / (c->rows[i + 1] - c->rows[i]);
    return c->takes[i] + part * (c->takes[i + 1] - c->takes[i]);
}

static void pass(void *ctx, double layers, int rows, double slot_rows, int n_logits)
{
    costclock *const c = ctx;
    const double run = layers / c->layers, output = c->output_weights / c->weights;
    work(c, run * ((1 - output) * costclock_takes(c, rows) + slot_rows * c->deep));
    if (n_logits > 0) work(c, output * costclock_takes(c, n_logits));
}

static void product(void *ctx, int n_out, int n_in, int rows)
{
    costclock *const c = ctx;
    work(c, costclock_takes(c, rows) * n_out * n_in / c->weights);
}

/* The costs that the words say; false: they are not understood. */
static bool read_table(costclock *c, char *words)
{
    char *at;
    for (char *word = strtok_r(words, " \t\n", &at); word; word = strtok_r(NULL, " \t\n", &at)) {
        double rows, value;
        if (sscanf(word, "deep:%lf", &value) == 1) {
            c->deep = value * 1e-6;
        } else if (sscanf(word, "slow:%lf", &value) == 1 && value >= 1) {
            c->slow = value;
        } else if (sscanf(word, "%lf:%lf", &rows, &value) == 2 && c->n < COSTCLOCK_POINTS) {
            c->rows[c->n] = rows;
            c->takes[c->n++] = value * 1e-3;
        } else {
            return false;
        }
    }
    return c->n >= 2;
}

bool costclock_make(costclock *c, const ftk_model *m, const char *table)
{
    char words[512];
    *c = (costclock){.clock = {now, pass, product, c}, .slow = 1, .layers = m->hp.n_layer};
    c->output_weights = (double)m->output.n_out * m->output.n_in;
    const double upper = ftk_target_share(m, m->hp.n_layer); /* the output's share */
    c->weights = c->output_weights / upper;
    const int n = snprintf(words, sizeof words, "%s", table);
    return n < (int)sizeof words && read_table(c, words);
}

bool costclock_open(costclock *c, const ftk_model *m, const char *path, const char *name)
{
    char line[512];
    const size_t n = strlen(name);
    FILE *const f = fopen(path, "r");
    if (!f) return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, f))
        found = strncmp(line, name, n) == 0 && (line[n] == ' ' || line[n] == '\t');
    fclose(f);
    return found && costclock_make(c, m, line + n);
}
