/* SPDX-License-Identifier: Apache-2.0
 * The sums as tables: Markdown for people, CSV for programs. */
#include "specbench_report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "run.h"

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "unknown";
}

static long long int_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void print_date(FILE *f, double stamp)
{
    char text[32];
    const time_t t = (time_t)stamp;
    strftime(text, sizeof text, "%Y-%m-%d %H:%M", localtime(&t));
    fputs(text, f);
}

/* "2.31", or "2.31 ± 0.04" */
static void print_ratio(FILE *f, spec_ratio x)
{
    if (isnan(x.mean))
        fprintf(f, " - |");
    else if (isnan(x.deviation))
        fprintf(f, " %.2f |", x.mean);
    else
        fprintf(f, " %.2f ± %.2f |", x.mean, x.deviation);
}

static void print_share(FILE *f, double part, double all)
{
    fprintf(f, " %.1f %% |", all > 0 ? 100 * part / all : 0);
}

/* ---- what was measured */

static void heading(const spec_result *r, FILE *f)
{
    const json_t *s = r->settings, *a = r->about;
    const long long skipped = int_of(a, "skipped");
    fprintf(f, "# Spec-Bench: %s\n\n", text_of(a, "name"));
    fprintf(f, "| | |\n|---|---|\n| model | %s (%s, %.1f million weights) |\n| weights | %s |\n",
            text_of(s, "model"), text_of(a, "architecture"), (double)int_of(a, "parameters") / 1e6,
            text_of(a, "weights"));
    fprintf(f,
            "| commit | %s |\n| processor | %s |\n| threads, kernels | %lld, %s |\n| measured | ",
            text_of(s, "commit"), text_of(s, "CPU"), int_of(s, "threads"), text_of(s, "kernels"));
    print_date(f, r->first);
    fprintf(f, " to ");
    print_date(f, r->last);
    fprintf(
        f,
        " |\n| questions | %s: %lld, of them %lld skipped, as they do not fit the context of %lld; "
        "%lld bad lines |\n",
        text_of(s, "questions"), int_of(a, "questions"), skipped, int_of(s, "context"),
        int_of(a, "bad lines"));
    fprintf(f,
            "| protocol | %d runs, at most %lld tokens a turn, temperature %g, seed %lld, template "
            "%s; whole conversation read again in each turn, its time counted |\n",
            r->repeat, int_of(s, "max-new"), json_number_value(json_object_get(s, "temperature")),
            int_of(s, "seed"), text_of(s, "template"));
    const size_t all =
        (size_t)(int_of(a, "questions") - skipped) * (size_t)r->n_methods * (size_t)r->repeat;
    if (r->n_answers < all)
        fprintf(f, "| **unfinished** | %zu of %zu answers: go on with the same options |\n",
                r->n_answers, all);
    fprintf(f, "\n");
}

/* ---- tables */

/* A row a method, a column a family. */
static void family_rows(const spec_result *r, FILE *f, const char *more,
                        spec_ratio (*ratio)(const spec_result *r, int method, int family))
{
    fprintf(f, "| method |");
    for (int i = 0; i < r->n_families; i++) fprintf(f, " %s |", r->family[spec_family_at(r, i)]);
    fprintf(f, "%s\n|---|", more);
    int columns = r->n_families;
    for (const char *p = more; *p; p++) columns += *p == '|';
    for (int i = 0; i < columns; i++) fprintf(f, "---|");
    fprintf(f, "\n");
    for (int m = 0; m < r->n_methods; m++) {
        const spec_sum *s = spec_sum_of(r, m, 0);
        fprintf(f, "| %s |", r->method[m]);
        for (int i = 0; i < r->n_families; i++) print_ratio(f, ratio(r, m, spec_family_at(r, i)));
        if (*more)
            fprintf(f, " %.2f | %s | %zu of %zu |", spec_mean_accepted(s),
                    r->lossless[m] ? "yes" : "NO", s->equal, s->compared);
        fprintf(f, "\n");
    }
}

static void families(const spec_result *r, FILE *f)
{
    fprintf(f, "## Speed-up as Spec-Bench computes it\n\n"
               "Mean over questions of tokens per second, over that of plain decoding; mean and "
               "standard deviation of\nthe runs. evaluation/speed.py counts a method's tokens as "
               "they were emitted, but plain decoding's by its\ntext, without the end token and "
               "what has no text. So `none` is above 1 here, the more so the shorter\nthe answers, "
               "and all others with it.\n\n");
    family_rows(r, f, " mean accepted tokens | lossless | equal to none |", spec_speedup);
    fprintf(f, "\n## Speed-up, tokens of both sides counted alike\n\n");
    family_rows(r, f, "", spec_speedup_emitted);
}

static void times(const spec_result *r, FILE *f)
{
    fprintf(
        f,
        "\n## Where the time goes, all questions\n\nTotal time: time per token of plain decoding "
        "over "
        "the method's, all questions together.\n\n| method | tokens/s | speed-up, total time | "
        "reading prompts | drafting | verifying | other | answers cut by the context | turns left "
        "out |\n|---|---|---|---|---|---|---|---|---|\n");
    for (int m = 0; m < r->n_methods; m++) {
        const spec_sum *s = spec_sum_of(r, m, 0);
        const double verify = s->forward + s->judge;
        fprintf(f, "| %s | %.1f |", r->method[m], (double)s->tokens / s->seconds);
        print_ratio(f, spec_speedup_total(r, m, 0));
        print_share(f, s->prefill, s->seconds);
        print_share(f, s->draft, s->seconds);
        print_share(f, verify, s->seconds);
        print_share(f, s->seconds - s->prefill - s->draft - verify, s->seconds);
        fprintf(f, " %zu | %zu |\n", s->cut, s->left_out);
    }
}

static void depths(const spec_result *r, FILE *f)
{
    fprintf(
        f, "\n## Steps that accepted drafts to a depth, all questions\n\n| method | tokens/step |");
    for (int d = 1; d <= SPEC_DEPTHS; d++) fprintf(f, " %d |", d);
    fprintf(f, "\n|---|---|");
    for (int d = 1; d <= SPEC_DEPTHS; d++) fprintf(f, "---|");
    for (int m = 0; m < r->n_methods; m++) {
        const spec_sum *s = spec_sum_of(r, m, 0);
        fprintf(f, "\n| %s | %.2f |", r->method[m], spec_mean_accepted(s));
        for (int d = 1; d <= SPEC_DEPTHS; d++) fprintf(f, " %.3f |", spec_reached(s, d));
    }
    fprintf(f, "\n");
}

static void lossy(const spec_result *r, FILE *f)
{
    const bool greedy = json_number_value(json_object_get(r->settings, "temperature")) <= 0;
    bool any = false, differ = false, drawn = false;
    for (int m = 0; m < r->n_methods; m++) {
        const spec_sum *s = spec_sum_of(r, m, 0);
        any = any || !r->lossless[m];
        if (!r->lossless[m] || s->equal == s->compared) continue;
        const bool same = greedy || strcmp(r->verifier[m], "exact") == 0;
        differ = differ || same;
        drawn = drawn || !same;
    }
    if (any)
        fprintf(f, "\nMethods that are not lossless say other things than the model would: their "
                   "speed is not comparable.\n");
    if (drawn)
        fprintf(
            f,
            "\nAbove temperature 0 lossless verifiers other than `exact` draw other texts of the "
            "same distribution.\n");
    if (differ)
        fprintf(f,
                "\n**A lossless method differs from plain decoding: that is an error. answers.csv "
                "says where.**\n");
}

/* ---- other programs */

/* The next field of a line, which is changed; NULL behind the last. */
static char *field(char **at)
{
    char *start = *at;
    if (!start) return NULL;
    char *end = start + strcspn(start, ",\r\n");
    *at = *end == ',' ? end + 1 : NULL;
    *end = 0;
    return start;
}

static bool number(const char *text, double *x)
{
    char *end;
    *x = text ? strtod(text, &end) : NAN;
    return text && end != text && !*end && isfinite(*x);
}

static void print_peer(const spec_result *r, FILE *f, char *line, const char *path, size_t at)
{
    char *name = field(&line), *family = field(&line);
    const char *rate = field(&line), *base = field(&line), *accepted = field(&line);
    const char *note = line ? field(&line) : "";
    double speed, plain, mean = NAN;
    if (!name || !family || !number(rate, &speed) || !number(base, &plain) || !(plain > 0) ||
        (accepted && *accepted && !number(accepted, &mean))) {
        run_say("%s: line %zu is not peer,family,tokens_per_second,"
                "baseline_tokens_per_second,mean_accepted,note: left out",
                path, at);
        return;
    }
    int k = -1;
    for (int i = 0; i < r->n_families; i++)
        if (strcmp(r->family[i], family) == 0) k = i;
    const spec_sum *s = k >= 0 ? spec_sum_of(r, 0, k) : NULL;
    char ratio[32] = "-", length[32] = "-";
    if (s && s->seconds > 0) {
        double ours = 0;
        int runs = 0;
        for (int lap = 0; lap < r->repeat; lap++)
            if (s->n[lap] > 0) ours += s->rate[lap] / (double)s->n[lap], runs++;
        snprintf(ratio, sizeof ratio, "%.2f", speed / (ours / runs));
    }
    if (!isnan(mean)) snprintf(length, sizeof length, "%.2f", mean);
    fprintf(f, "| %s | %s | %.1f | %.2f | %s | %s | %s |\n", name, family, speed, speed / plain,
            ratio, length, note ? note : "");
}

static void peers(const spec_result *r, const char *path, FILE *f)
{
    FILE *in = fopen(path, "r");
    if (!in) run_die("--peers %s cannot be read: %s", path, strerror(errno));
    fprintf(f,
            "\n## Other programs (%s)\n\nAs their user measured them; see bench/peers.md.\n\n"
            "| program | family | tokens/s | over its own plain decoding | over our none | mean "
            "accepted tokens | note |\n|---|---|---|---|---|---|---|\n",
            strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    char *line = NULL;
    size_t cap = 0;
    for (size_t at = 1; getline(&line, &cap, in) >= 0; at++)
        if (line[0] != '#' && line[0] != '\n' && !(at == 1 && strncmp(line, "peer,", 5) == 0))
            print_peer(r, f, line, path, at);
    free(line);
    fclose(in);
}

void spec_table(const spec_result *r, const char *peers_path, FILE *f)
{
    heading(r, f);
    families(r, f);
    times(r, f);
    depths(r, f);
    lossy(r, f);
    if (peers_path) peers(r, peers_path, f);
}

/* ---- CSV */

static void csv_number(FILE *f, double x)
{
    if (isfinite(x))
        fprintf(f, ",%.9g", x);
    else
        fputc(',', f);
}

static void csv_ratio(FILE *f, spec_ratio x)
{
    csv_number(f, x.mean);
    csv_number(f, x.deviation);
    csv_number(f, x.low);
    csv_number(f, x.high);
}

/* Names of ours have no commas or quotes; categories and model names may. */
static void csv_text(FILE *f, const char *text, bool first)
{
    if (!first) fputc(',', f);
    const bool quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (quoted) fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    if (quoted) fputc('"', f);
}

static double mean_rate(const spec_result *r, const spec_sum *s, const double *rate)
{
    double sum = 0;
    int runs = 0;
    for (int lap = 0; lap < r->repeat; lap++)
        if (s->n[lap] > 0) sum += rate[lap] / (double)s->n[lap], runs++;
    return runs > 0 ? sum / runs : NAN;
}

void spec_csv(const spec_result *r, FILE *f)
{
    fprintf(f, "method,drafter,verifier,lossless,family,answers,tokens,steps,mean_accepted,"
               "tokens_per_second,baseline_text_tokens_per_second,speedup,speedup_deviation,"
               "speedup_low,speedup_high,speedup_same_count,speedup_same_count_deviation,"
               "speedup_same_count_low,speedup_same_count_high,speedup_total_time,"
               "speedup_total_time_deviation,speedup_total_time_low,speedup_total_time_high,"
               "seconds,prefill_seconds,draft_seconds,verify_seconds,other_seconds,equal,compared,"
               "cut,turns_left_out");
    for (int d = 1; d <= SPEC_DEPTHS; d++) fprintf(f, ",reached_%d", d);
    fprintf(f, ",model,weights,commit,threads,kernels,cpu,date\n");
    for (int m = 0; m < r->n_methods; m++)
        for (int i = 0; i < r->n_families; i++) {
            const int k = spec_family_at(r, i);
            const spec_sum *s = spec_sum_of(r, m, k), *plain = spec_sum_of(r, 0, k);
            const double verify = s->forward + s->judge;
            fprintf(f, "%s,%s,%s,%d,", r->method[m], r->drafter[m], r->verifier[m], r->lossless[m]);
            csv_text(f, r->family[k], true);
            fprintf(f, ",%zu,%zu,%zu", s->answers, s->tokens, s->steps);
            csv_number(f, spec_mean_accepted(s));
            csv_number(f, mean_rate(r, s, s->rate));
            csv_number(f, mean_rate(r, plain, plain->text_rate));
            csv_ratio(f, spec_speedup(r, m, k));
            csv_ratio(f, spec_speedup_emitted(r, m, k));
            csv_ratio(f, spec_speedup_total(r, m, k));
            csv_number(f, s->seconds);
            csv_number(f, s->prefill);
            csv_number(f, s->draft);
            csv_number(f, verify);
            csv_number(f, s->seconds - s->prefill - s->draft - verify);
            fprintf(f, ",%zu,%zu,%zu,%zu", s->equal, s->compared, s->cut, s->left_out);
            for (int d = 1; d <= SPEC_DEPTHS; d++) csv_number(f, spec_reached(s, d));
            csv_text(f, text_of(r->settings, "model"), false);
            csv_text(f, text_of(r->about, "weights"), false);
            csv_text(f, text_of(r->settings, "commit"), false);
            fprintf(f, ",%lld", int_of(r->settings, "threads"));
            csv_text(f, text_of(r->settings, "kernels"), false);
            csv_text(f, text_of(r->settings, "CPU"), false);
            csv_text(f, text_of(r->about, "date"), false);
            fprintf(f, "\n");
        }
}

void spec_csv_answers(const spec_result *r, FILE *f)
{
    fprintf(f, "run,question_id,category,method,tokens,steps,seconds,tokens_per_second,"
               "mean_accepted,equal_to_none\n");
    for (size_t i = 0; i < r->n_answers; i++) {
        const spec_answer *a = &r->answers[i];
        fprintf(f, "%d,%lld", a->lap + 1, a->id);
        csv_text(f, a->category, false);
        fprintf(f, ",%s,%zu,%zu,%.9g,%.9g,", r->method[a->method], a->tokens, a->steps, a->seconds,
                (double)a->tokens / a->seconds);
        if (a->steps > 0) fprintf(f, "%.9g", (double)a->tokens / (double)a->steps);
        fprintf(f, ",%s\n", !a->compared ? "" : a->equal ? "1" : "0");
    }
}
