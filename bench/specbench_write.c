/* SPDX-License-Identifier: Apache-2.0
 * Writes all that a folder of answers comes to: the table, which is printed too, lists, and
 * pictures. */
#include <stdlib.h>
#include <string.h>

#include "gnuplot.h"
#include "run.h"
#include "specbench_report.h"

static void write_file(const spec_result *r, const char *name,
                       void (*fill)(const spec_result *r, FILE *f))
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) run_die("no memory for %s", name);
    fill(r, f);
    fclose(f);
    spec_store_write(r->dir, name, text, n);
    free(text);
}

static const char *peers_file; /* for table(), which write_file() calls */

/* What it quotes, of the model and of the questions, must harm no terminal that it is shown on. */
static void table(const spec_result *r, FILE *f)
{
    char *text = NULL;
    size_t n = 0;
    FILE *all = open_memstream(&text, &n);
    if (!all) run_die("no memory for the table");
    spec_table(r, peers_file, all);
    fclose(all);
    char *shown = malloc(4 * n + 8);
    if (!shown) run_die("no memory for the table");
    fwrite(shown, 1, ftk_show(text, n, FTK_SHOW_TEXT, shown, 4 * n + 8), f);
    free(shown);
    free(text);
}

void spec_report(const char *dir, const char *peers)
{
    spec_result r;
    peers_file = peers;
    spec_result_read(&r, dir);
    table(&r, stdout);
    fflush(stdout);
    write_file(&r, "summary.md", table);
    write_file(&r, "summary.csv", spec_csv);
    write_file(&r, "answers.csv", spec_csv_answers);
    if (gnuplot_there())
        spec_plot(&r);
    else
        fprintf(stderr, "gnuplot is not installed: there will be no pictures, all else is there\n");
    spec_result_free(&r);
}
