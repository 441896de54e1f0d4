/* SPDX-License-Identifier: Apache-2.0
 * The sums as pictures. */
#include "specbench_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "run.h"

enum { PATH = 4096, WIDTH = 1000, HEIGHT = 560, SHOWN_LENGTHS = 16 };

/* A text for gnuplot, in its double quotes. */
static void quote(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            fprintf(f, "\\%c", *text);
        else
            fputc((unsigned char)*text < ' ' ? ' ' : *text, f);
    fputc('"', f);
}

static void title(const spec_result *r, FILE *f, const char *what)
{
    char glance[512];
    spec_glance(r, glance, sizeof glance);
    fprintf(f, "set grid ytics\nset key outside bottom center horizontal noenhanced\nset title ");
    quote(f, what);
    fprintf(f, " . \"\\n\" . ");
    quote(f, glance);
    fprintf(f, " noenhanced font ',11'\n");
}

static void plot_speedup(const spec_result *r, FILE *f)
{
    title(r, f, "Speed-up, tokens counted alike; bars: standard deviation of the runs");
    fprintf(f, "set style data histograms\nset style histogram errorbars gap 1 lw 1\n"
               "set style fill solid 0.8\nset boxwidth 0.9\nset yrange [0:*]\n"
               "set ylabel 'times plain decoding'\nset xtics noenhanced\n"
               "set arrow from graph 0, first 1 to graph 1, first 1 nohead dashtype 2\n");
    fprintf(f, "$data << EOD\n");
    for (int i = 0; i < r->n_families; i++) {
        const int k = spec_family_at(r, i);
        quote(f, r->family[k]);
        for (int m = 1; m < r->n_methods; m++) {
            const spec_ratio x = spec_speedup_emitted(r, m, k);
            fprintf(f, " %.6f %.6f", isnan(x.mean) ? 0 : x.mean,
                    isnan(x.deviation) ? 0 : x.deviation);
        }
        fprintf(f, "\n");
    }
    fprintf(f, "EOD\nplot");
    for (int m = 1; m < r->n_methods; m++) {
        fprintf(f, "%s $data using %d:%d:xtic(1) title ", m > 1 ? "," : "", 2 * m, 2 * m + 1);
        quote(f, r->method[m]);
    }
    fprintf(f, "\n");
}

static void plot_accepted(const spec_result *r, FILE *f)
{
    title(r, f, "Tokens emitted by a step");
    fprintf(f, "set style data histograms\nset style histogram clustered gap 1\n"
               "set style fill solid 0.8\nset yrange [0:*]\nset ylabel '%% of steps'\n"
               "set xlabel 'tokens, the one after the draft among them'\n$data << EOD\n");
    for (int k = 1; k <= SHOWN_LENGTHS; k++) {
        fprintf(f, "\"%d%s\"", k, k == SHOWN_LENGTHS ? "+" : "");
        for (int m = 1; m < r->n_methods; m++) {
            const spec_sum *s = spec_sum_of(r, m, 0);
            size_t n = s->lengths[k];
            for (int j = k + 1; k == SHOWN_LENGTHS && j < SPEC_LENGTHS; j++) n += s->lengths[j];
            fprintf(f, " %.6f", s->steps > 0 ? 100.0 * (double)n / (double)s->steps : 0);
        }
        fprintf(f, "\n");
    }
    fprintf(f, "EOD\nplot");
    for (int m = 1; m < r->n_methods; m++) {
        fprintf(f, "%s $data using %d:xtic(1) title ", m > 1 ? "," : "", m + 1);
        quote(f, r->method[m]);
    }
    fprintf(f, "\n");
}

/* Seconds of a pass by its rows, [1 .. FTK_MAX_NODES]; false where they are not there. */
static bool read_costs(const spec_result *r, double *seconds)
{
    char path[PATH], line[64];
    snprintf(path, sizeof path, "%s/rowcost.csv", r->dir);
    FILE *in = fopen(path, "r");
    int n = 0;
    while (in && fgets(line, sizeof line, in)) {
        int rows;
        double x;
        if (sscanf(line, "%d,%lf", &rows, &x) == 2 && rows == n + 1 && rows <= FTK_MAX_NODES)
            seconds[++n] = x;
    }
    if (in) fclose(in);
    return n == FTK_MAX_NODES;
}

/* The curve; on it, a circle for each number of rows a method chose: its area is the share. */
static void plot_rows(const spec_result *r, FILE *f, const double *seconds)
{
    title(r, f,
          "Cost of a pass, and the rows that were chosen; circles: share of a method's passes");
    fprintf(f, "set logscale x 2\nset logscale y\nset xrange [0.8:150]\nset xlabel 'rows'\n"
               "set ylabel 'ms a pass'\n$cost << EOD\n");
    for (int k = 1; k <= FTK_MAX_NODES; k++) fprintf(f, "%d %.6f\n", k, 1e3 * seconds[k]);
    fprintf(f, "EOD\n");
    for (int m = 1; m < r->n_methods; m++) {
        const spec_sum *s = spec_sum_of(r, m, 0);
        size_t all = 0;
        for (int k = 1; k <= FTK_MAX_NODES; k++) all += s->rows[k];
        fprintf(f, "$m%d << EOD\n", m);
        for (int k = 1; k <= FTK_MAX_NODES; k++)
            if (s->rows[k] > 0)
                fprintf(f, "%d %.6f %.4f\n", k, 1e3 * seconds[k] * (1 + 0.06 * (m - 1)),
                        0.4 + 6 * sqrt((double)s->rows[k] / (double)all));
        fprintf(f, "1 NaN 0\nEOD\n");
    }
    fprintf(f, "plot $cost using 1:2 with lines lc 'black' title 'pass'");
    for (int m = 1; m < r->n_methods; m++) {
        fprintf(f, ", $m%d using 1:2:3 with points pt 6 ps variable title ", m);
        quote(f, r->method[m]);
    }
    fprintf(f, "\n");
}

static void draw(const spec_result *r, const char *name, const char *end, const double *seconds)
{
    char path[PATH];
    const int n = snprintf(path, sizeof path, "%s/%s.%s", r->dir, name, end);
    FILE *f = n < PATH && gnuplot_can_write(path) ? gnuplot_open(path, WIDTH, HEIGHT) : NULL;
    if (!f) {
        run_say("%s: gnuplot cannot write there: this picture is left out", path);
        return;
    }
    if (seconds)
        plot_rows(r, f, seconds);
    else if (strcmp(name, "speedup") == 0)
        plot_speedup(r, f);
    else
        plot_accepted(r, f);
    if (!gnuplot_close(f)) run_say("%s: gnuplot could not write it", path);
}

void spec_plot(const spec_result *r)
{
    static const char *const ends[] = {"png", "svg"};
    double seconds[FTK_MAX_NODES + 1];
    const bool costs = read_costs(r, seconds);
    if (r->n_methods < 2) {
        run_say("plain decoding alone: there is nothing to draw");
        return;
    }
    for (int i = 0; i < 2; i++) {
        draw(r, "speedup", ends[i], NULL);
        draw(r, "accepted", ends[i], NULL);
        if (costs) draw(r, "rows", ends[i], seconds);
    }
}
