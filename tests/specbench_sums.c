/* SPDX-License-Identifier: Apache-2.0
 * Computes the figures of a specbench folder again, from its answers alone and line by line of its
 * summary.csv: specbench_sums DIR RUNS. Says how many agree, fails where one does not, where a
 * question was answered twice, or where a record contradicts itself. */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 64, MOST = 4096 };

static int failed, agreed;

static void agree(const char *what, const char *name, double is, const char *said)
{
    const double x = strtod(said, NULL);
    if (*said && fabs(x - is) <= 1e-6 * fabs(is) + 1e-9) {
        agreed++;
        return;
    }
    printf("%s: %s is said to be \"%s\", but is %.9g\n", what, name, said, is);
    failed++;
}

static double sum(const json_t *array)
{
    double x = 0;
    for (size_t i = 0; i < json_array_size(array); i++)
        x += json_number_value(json_array_get(array, i));
    return x;
}

typedef struct sums {
    double n, tokens, seconds, steps, rate, text_rate;
} sums;

static bool in_family(const char *category, const char *family)
{
    static const char mt_bench[] =
        " writing roleplay reasoning math coding extraction stem humanities ";
    char word[64];
    snprintf(word, sizeof word, " %s ", category);
    if (strcmp(family, "overall") == 0) return true;
    return strcmp(family, "mt_bench") == 0 ? strstr(mt_bench, word) != NULL
                                           : strcmp(family, category) == 0;
}

static sums sums_of(const char *dir, int lap, const char *method, const char *family)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/run_%d/%s.jsonl", dir, lap, method);
    FILE *f = fopen(path, "r");
    sums s = {0};
    json_int_t seen[MOST];
    size_t n_seen = 0;
    json_t *o;
    while (f && (o = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL))) {
        const json_t *c = json_array_get(json_object_get(o, "choices"), 0);
        const json_t *lengths = json_object_get(c, "accept_lengths");
        const json_t *more = json_object_get(o, "foretoken");
        const double tokens = sum(json_object_get(c, "new_tokens"));
        const double seconds = sum(json_object_get(c, "wall_time"));
        const json_int_t id = json_integer_value(json_object_get(o, "question_id"));
        bool good = sum(lengths) == tokens &&
                    sum(json_object_get(c, "decoding_steps")) == (double)json_array_size(lengths) &&
                    json_array_size(json_object_get(c, "turns")) ==
                        json_array_size(json_object_get(c, "wall_time"));
        for (size_t i = 0; i < n_seen; i++) good = good && seen[i] != id;
        if (!good || n_seen == MOST) {
            printf("%s: the answer to question %lld is there twice, or does not add up\n", path,
                   (long long)id);
            failed++;
            break;
        }
        seen[n_seen++] = id;
        if (in_family(json_string_value(json_object_get(o, "category")), family)) {
            s.n++;
            s.tokens += tokens;
            s.seconds += seconds;
            s.steps += (double)json_array_size(lengths);
            s.rate += tokens / seconds;
            s.text_rate += sum(json_object_get(more, "text_tokens")) / seconds;
        }
        json_decref(o);
    }
    if (f) fclose(f);
    return s;
}

static size_t split(char *line, char **field)
{
    size_t n = 0;
    for (char *p = line; p && n < FIELDS; n++) {
        field[n] = p;
        p = strpbrk(p, ",\n");
        if (p) *p++ = 0;
    }
    return n;
}

static const char *named(char **names, char **field, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return field[i];
    return "";
}

static void check(const char *dir, int laps, char **names, char **field, size_t n)
{
    const char *method = named(names, field, n, "method"),
               *family = named(names, field, n, "family");
    double tokens = 0, steps = 0, official = 0, alike = 0, total = 0, answers = 0;
    for (int lap = 1; lap <= laps; lap++) {
        const sums s = sums_of(dir, lap, method, family), base = sums_of(dir, lap, "none", family);
        answers += s.n;
        tokens += s.tokens;
        steps += s.steps;
        official += s.rate / s.n / (base.text_rate / base.n) / laps;
        alike += s.rate / s.n / (base.rate / base.n) / laps;
        total += s.tokens / s.seconds / (base.tokens / base.seconds) / laps;
    }
    char what[128];
    snprintf(what, sizeof what, "%s, %s", method, family);
    agree(what, "answers", answers, named(names, field, n, "answers"));
    agree(what, "tokens", tokens, named(names, field, n, "tokens"));
    agree(what, "mean_accepted", tokens / steps, named(names, field, n, "mean_accepted"));
    agree(what, "speedup", official, named(names, field, n, "speedup"));
    agree(what, "speedup_same_count", alike, named(names, field, n, "speedup_same_count"));
    agree(what, "speedup_total_time", total, named(names, field, n, "speedup_total_time"));
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    char path[1024], header[4096], line[4096], *names[FIELDS], *field[FIELDS];
    snprintf(path, sizeof path, "%s/summary.csv", argv[1]);
    FILE *f = fopen(path, "r");
    if (!f || !fgets(header, sizeof header, f)) return 2;
    const size_t n_names = split(header, names);
    while (fgets(line, sizeof line, f)) {
        const size_t n = split(line, field);
        check(argv[1], atoi(argv[2]), names, field, n < n_names ? n : n_names);
    }
    fclose(f);
    printf("%d figures agree\n", agreed);
    return failed > 0 || agreed == 0;
}
