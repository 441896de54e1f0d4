/* SPDX-License-Identifier: Apache-2.0
 * A clock that goes on by what work is said to take. */
#include "costclock.h"

#include <stdio.h>
#include <stdlib.h>
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

/* Of a whole pass, or of as much work. */
static double takes(const costclock *c, double rows)
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
    work(c, run * ((1 - output) * takes(c, rows) + slot_rows * c->deep));
    if (n_logits > 0) work(c, output * takes(c, n_logits));
}

static void product(void *ctx, int n_out, int n_in, int rows)
{
    costclock *const c = ctx;
    work(c, takes(c, rows) * n_out * n_in / c->weights);
}

/* The costs of a line; false: it is another's. */
static bool read_line(costclock *c, char *line, const char *name)
{
    char *at, *word = strtok_r(line, " \t\n", &at);
    if (!word || strcmp(word, name) != 0) return false;
    while ((word = strtok_r(NULL, " \t\n", &at)) && c->n < COSTCLOCK_POINTS) {
        double rows, value;
        if (sscanf(word, "deep:%lf", &value) == 1) {
            c->deep = value * 1e-6;
        } else if (sscanf(word, "slow:%lf", &value) == 1 && value >= 1) {
            c->slow = value;
        } else if (sscanf(word, "%lf:%lf", &rows, &value) == 2) {
            c->rows[c->n] = rows;
            c->takes[c->n++] = value * 1e-3;
        } else {
            return false;
        }
    }
    return c->n >= 2;
}

bool costclock_open(costclock *c, const ftk_model *m, const char *path, const char *name)
{
    char line[512];
    bool found = false;
    FILE *const f = fopen(path, "r");
    if (!f) return false;
    *c = (costclock){.clock = {now, pass, product, c}, .slow = 1, .layers = m->hp.n_layer};
    while (!found && fgets(line, sizeof line, f)) found = read_line(c, line, name);
    fclose(f);
    c->output_weights = (double)m->output.n_out * m->output.n_in;
    const double upper = ftk_target_share(m, m->hp.n_layer); /* the output's share */
    c->weights = c->output_weights / upper;
    return found;
}
