/* SPDX-License-Identifier: Apache-2.0
 * What bench-rows measured. */
#include "rows_report.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "run.h"

const point *rows_report_single(const rows_report *r, const point *p)
{
    for (int i = 0; i < r->n_points; i++)
        if (r->points[i].depth == p->depth && r->points[i].rows == 1) return &r->points[i];
    return NULL;
}

/* GB/s of bytes in the median time, and at the quartiles. */
static spread gigabytes(double bytes, const spread *seconds)
{
    return (spread){bytes / seconds->median / 1e9, bytes / seconds->high / 1e9,
                    bytes / seconds->low / 1e9};
}

void rows_report_print(const rows_report *r)
{
    char cpu[128], path[256], name[128], note[512];
    run_cpu_name(cpu, sizeof cpu);
    const ftk_model_info *m = &r->model;
    printf("%s (%s)\n", run_shown(path, sizeof path, r->path),
           run_shown(name, sizeof name, m->name));
    printf("dim %d, layers %d, heads %d on %d, ffn %d, vocabulary %d; %.1f MB of weights read a "
           "pass\n",
           m->n_embd, m->n_layer, m->n_head, m->n_head_kv, m->n_ff, m->n_vocab,
           (double)m->weight_bytes / 1e6);
    printf("%s; %d threads, kernels %s, %d rounds%s%s\n\n", cpu, r->threads, m->kernels, r->rounds,
           r->note ? "; " : "", run_shown(note, sizeof note, r->note ? r->note : ""));
    printf("| depth | rows | ms, median (quartiles) | / 1 row | tokens/s |\n"
           "|---|---|---|---|---|\n");
    for (int i = 0; i < r->n_points; i++) {
        const point *p = &r->points[i], *single = rows_report_single(r, p);
        char ratio[32] = "-";
        if (single)
            snprintf(ratio, sizeof ratio, "%.2f", p->seconds.median / single->seconds.median);
        printf("| %d | %d | %.3f (%.3f-%.3f) | %s | %.1f |\n", p->depth, p->rows,
               p->seconds.median * 1e3, p->seconds.low * 1e3, p->seconds.high * 1e3, ratio,
               p->rows / p->seconds.median);
    }
    const spread read = gigabytes(r->read_bytes, &r->read_seconds);
    printf("\nplain reading of %.0f MB: %.2f GB/s (quartiles %.2f-%.2f)\n", r->read_bytes / 1e6,
           read.median, read.low, read.high);
    for (int i = 0; i < r->n_points; i++) {
        const point *p = &r->points[i];
        if (p->rows != 1) continue;
        const spread w = gigabytes((double)m->weight_bytes, &p->seconds);
        printf("one row at depth %d: %.2f GB/s of weights (quartiles %.2f-%.2f), %.0f %% of that\n",
               p->depth, w.median, w.low, w.high, 100 * w.median / read.median);
    }
}

static json_t *spread_json(const spread *s)
{
    return json_pack("{s:f, s:f, s:f}", "median", s->median, "low", s->low, "high", s->high);
}

static json_t *points_json(const rows_report *r)
{
    json_t *all = json_array();
    for (int i = 0; i < r->n_points; i++) {
        const point *p = &r->points[i], *single = rows_report_single(r, p);
        json_t *o =
            json_pack("{s:i, s:i, s:o, s:f}", "depth", p->depth, "rows", p->rows, "seconds",
                      spread_json(&p->seconds), "tokens_per_second", p->rows / p->seconds.median);
        if (single)
            json_object_set_new(o, "ratio", json_real(p->seconds.median / single->seconds.median));
        if (p->rows == 1) {
            const spread w = gigabytes((double)r->model.weight_bytes, &p->seconds);
            const spread read = gigabytes(r->read_bytes, &r->read_seconds);
            json_object_set_new(o, "weights_gb_per_second", spread_json(&w));
            json_object_set_new(o, "of_read", json_real(w.median / read.median));
        }
        json_array_append_new(all, o);
    }
    return all;
}

void rows_report_json(const rows_report *r, const char *path)
{
    char cpu[128];
    run_cpu_name(cpu, sizeof cpu);
    const ftk_model_info *m = &r->model;
    const spread read = gigabytes(r->read_bytes, &r->read_seconds);
    json_t *root = json_pack(
        "{s:s, s:s, s:{s:i, s:i, s:i, s:i, s:i, s:i}, s:I, s:s, s:s, s:i, s:i, s:{s:f, s:o}, s:o}",
        "model", r->path, "name", m->name, "shape", "dim", m->n_embd, "layers", m->n_layer, "heads",
        m->n_head, "kv_heads", m->n_head_kv, "ffn", m->n_ff, "vocab", m->n_vocab, "weight_bytes",
        (json_int_t)m->weight_bytes, "cpu", cpu, "kernels", m->kernels, "threads", r->threads,
        "rounds", r->rounds, "read", "bytes", r->read_bytes, "gb_per_second", spread_json(&read),
        "points", points_json(r));
    if (root && r->note) json_object_set_new(root, "note", json_string(r->note));
    if (!root || json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0)
        run_die("%s cannot be written", path);
    json_decref(root);
}

/* ---- plots */

bool rows_report_can_plot(const char *path)
{
    if (!gnuplot_can_write(path))
        run_refuse("--plot %s: give a name that ends in .png or .svg, without quotes", path);
    if (gnuplot_there()) return true;
    run_say("--plot %s: gnuplot is not installed: there will be no plot", path);
    return false;
}

/* A curve for each depth, with the quartiles as bars. */
void rows_report_plot(const rows_report *r, const char *path)
{
    FILE *f = gnuplot_open(path, 800, 500);
    if (!f) run_die("gnuplot cannot be started: %s", strerror(errno));
    fprintf(f,
            "set logscale x 2\nset grid\nset key left top\nset yrange [0:*]\n"
            "set xlabel 'rows'\nset ylabel 'ms a pass'\nset title '%d threads, %.1f MB of "
            "weights' noenhanced\nplot",
            r->threads, (double)r->model.weight_bytes / 1e6);
    for (int i = 0; i < r->n_points; i++)
        if (i == 0 || r->points[i].depth != r->points[i - 1].depth)
            fprintf(f, "%s '-' using 1:2:3:4 with yerrorlines title 'depth %d'", i ? "," : "",
                    r->points[i].depth);
    fprintf(f, "\n");
    for (int i = 0; i < r->n_points; i++) {
        const point *p = &r->points[i];
        fprintf(f, "%d %.6f %.6f %.6f\n", p->rows, p->seconds.median * 1e3, p->seconds.low * 1e3,
                p->seconds.high * 1e3);
        if (i + 1 == r->n_points || p[1].depth != p->depth) fprintf(f, "e\n");
    }
    if (!gnuplot_close(f)) run_die("gnuplot could not write %s", path);
}
