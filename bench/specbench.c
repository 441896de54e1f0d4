/* SPDX-License-Identifier: Apache-2.0
 *
 * specbench: the questions of Spec-Bench over any drafters, verifiers and model, in the benchmark's
 * own protocol (github.com/hemingkx/Spec-Bench) and answer format. A client of foretoken.h alone.
 */
#include "specbench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

static void help(void)
{
    printf("specbench -m MODEL --questions FILE --out DIR [options]: Spec-Bench's protocol\n"
           "specbench --report DIR: sums up what is there, without a model\n\n"
           "  --drafters LIST   names with commas between them (default "
           "none,jacobi,lookup,recycle,auto);\n"
           "                    none, the baseline, is always measured\n"
           "  --verifiers LIST  each with each drafter but none (default exact)\n"
           "  --max-new N       tokens of an answer at most (default 1024)\n"
           "  --repeat N        runs over all questions (default 3)\n"
           "  --limit N         the first N questions of each family (default: all)\n"
           "  --temp X          temperature (default 0: the likeliest token)\n"
           "  --seed N          of the random numbers above that (default 0)\n"
           "  -t N              threads (default: all cores)\n"
           "  --device NAME     who runs the passes: cpu (default), cuda, cuda:N or auto\n"
           "  --lora FILE       LoRA adapter; may be given up to 8 times\n"
           "  --draft-model FILE  small model for drafter draft-model\n"
           "  --drafter-file FILE trained drafter, or a head, beside those lying with the model\n"
           "  --drafter-layers LIST  layers whose entering states that head reads\n"
           "  --ctx N           context in tokens (default: the model's, at most 4096)\n"
           "  --template NAME   chat template (default: the model's own)\n"
           "  --warmup N        answers of each method before it counts (default 3)\n"
           "  --peers FILE      CSV of other programs' results to show beside; bench/peers.md\n\n"
           "A run that was interrupted goes on when it is started again with the same options.\n");
}

static void take_option(spec_options *o, const char *option, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        int *number;
        int lowest, highest;
    } known[] = {
        {"-m", &o->model, NULL, 0, 0},
        {"--questions", &o->questions, NULL, 0, 0},
        {"--out", &o->out, NULL, 0, 0},
        {"--report", &o->report, NULL, 0, 0},
        {"--peers", &o->peers, NULL, 0, 0},
        {"--drafters", &o->drafters, NULL, 0, 0},
        {"--verifiers", &o->verifiers, NULL, 0, 0},
        {"--template", &o->tmpl, NULL, 0, 0},
        {"--device", &o->device, NULL, 0, 0},
        {"--max-new", NULL, &o->max_new, 1, 1 << 20},
        {"--repeat", NULL, &o->repeat, 1, SPEC_MAX_REPEAT},
        {"--limit", NULL, &o->limit, 1, 1 << 20},
        {"-t", NULL, &o->threads, 1, 256},
        {"--ctx", NULL, &o->ctx, 16, 1 << 24},
        {"--warmup", NULL, &o->warmup, 0, 100},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(option, known[i].name) != 0) continue;
        if (known[i].text)
            *known[i].text = value;
        else
            *known[i].number = (int)run_number(option, value, known[i].lowest, known[i].highest);
        return;
    }
    if (run_take_option(option, value)) return;
    if (strcmp(option, "--temp") == 0)
        o->temperature = run_real(option, value, 0, 100);
    else if (strcmp(option, "--seed") == 0)
        o->seed = run_number(option, value, 0, INT64_MAX);
    else
        run_refuse("%s is unknown: see specbench --help", option);
}

static void add_method(spec_options *o, const char *drafter, const char *verifier)
{
    spec_method m = {.drafter = drafter, .verifier = verifier};
    const bool exact = strcmp(verifier, "exact") == 0;
    snprintf(m.name, sizeof m.name, "%s%s%s", drafter, exact ? "" : "+", exact ? "" : verifier);
    for (int i = 0; i < o->n_methods; i++)
        if (strcmp(o->methods[i].name, m.name) == 0) return;
    if (o->n_methods == SPEC_MAX_METHODS)
        run_refuse("more than %d methods: give fewer --drafters or --verifiers", SPEC_MAX_METHODS);
    o->methods[o->n_methods++] = m;
}

static void make_methods(spec_options *o)
{
    const char *drafters[SPEC_MAX_METHODS], *verifiers[SPEC_MAX_METHODS];
    const int n = run_names("--drafters", o->drafters, ftk_drafters(), drafters, SPEC_MAX_METHODS);
    const int k =
        run_names("--verifiers", o->verifiers, ftk_verifiers(), verifiers, SPEC_MAX_METHODS);
    add_method(o, "none", "exact");
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k && strcmp(drafters[i], "none") != 0; j++)
            add_method(o, drafters[i], verifiers[j]);
}

/* Families take turns, question by question, so that a run that is ended early has seen all alike;
 * of each the first `limit` are kept (0: all). */
static void by_turns(questions *q, size_t limit)
{
    questions dealt = {.at = calloc(q->n, sizeof *dealt.at), .bad = q->bad};
    size_t *turn = calloc(q->n, sizeof *turn), turns = 0, left = 0;
    if (!dealt.at || !turn) run_die("no memory for %zu questions", q->n);
    for (size_t i = 0; i < q->n; i++) {
        const char *family = spec_family(q->at[i].category);
        for (size_t j = 0; j < i; j++)
            turn[i] += strcmp(spec_family(q->at[j].category), family) == 0;
        if (turn[i] >= turns) turns = turn[i] + 1;
    }
    if (limit == 0 || limit > turns) limit = turns;
    for (size_t t = 0; t < limit; t++)
        for (size_t i = 0; i < q->n; i++)
            if (turn[i] == t) dealt.at[dealt.n++] = q->at[i];
    for (size_t i = 0; i < q->n; i++)
        if (turn[i] >= limit) q->at[left++] = q->at[i];
    free(turn);
    q->n = left;
    questions_free(q);
    *q = dealt;
}

int main(int argc, char **argv)
{
    spec_options o = {.drafters = "none,jacobi,lookup,recycle,auto",
                      .verifiers = "exact",
                      .device = "cpu",
                      .max_new = 1024,
                      .repeat = 3,
                      .warmup = 3};
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return 0;
        }
        if (i + 1 >= argc)
            run_refuse("%s needs a value, or is unknown: see specbench --help", argv[i]);
        take_option(&o, argv[i], argv[i + 1]);
    }
    if (o.peers && access(o.peers, R_OK) != 0) /* now, not after hours */
        run_die("--peers %s: %s: give a CSV file; bench/peers.md tells more", o.peers,
                strerror(errno));
    if (o.report) {
        spec_report(o.report, o.peers);
        return 0;
    }
    if (!o.model || !o.questions || !o.out)
        run_refuse("usage: specbench -m MODEL --questions FILE --out DIR [options]; "
                   "specbench --help tells more");
    make_methods(&o);
    questions q;
    if (questions_read(&q, o.questions, 0) != 0) return RUN_FAILED;
    by_turns(&q, (size_t)o.limit);
    spec_run(&o, &q);
    spec_report(o.out, o.peers);
    questions_free(&q);
    return 0;
}
