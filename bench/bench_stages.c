/* SPDX-License-Identifier: Apache-2.0
 * What a link's delay costs a model in two stages, plain and with drafts: bench-stages MODEL
 * [TOKENS] Both stages are threads here, one thread each, and messages take their time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "testkit/stagelinks.h"

enum { N_STAGES = 2, SLOTS = 2048 };

static const char prompt[] = "Once upon a time there was a king who had three sons, and";

static void say(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level == FTK_LOG_ERROR) fprintf(stderr, "bench-stages: %s\n", line);
}

/* Tokens a second, and tokens a step; 0: it failed, and that was said. */
static double measure(const ftk_model *m, ftk_engine *e, const char *drafter, size_t n,
                      double *per_step)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.ignore_end = true;
    ftk_session *s;
    int32_t tokens[64];
    size_t n_prompt;
    if (ftk_session_open(&s, e, &cfg) != FTK_OK) return 0;
    ftk_err err = ftk_tokenize(m, prompt, strlen(prompt), FTK_TOK_BOS, tokens, 64, &n_prompt);
    if (err == FTK_OK) err = ftk_session_append(s, tokens, n_prompt);
    ftk_session_limit(s, n);
    ftk_result r = {.finish = FTK_FINISH_NONE};
    while (err == FTK_OK && r.finish == FTK_FINISH_NONE) err = ftk_step(&s, 1, &r);
    ftk_stats stats;
    ftk_session_get_stats(s, &stats);
    ftk_session_free(s);
    if (err != FTK_OK) return 0;
    *per_step = (double)stats.emitted / (double)stats.steps;
    return (double)stats.emitted / stats.decode_seconds;
}

static bool row(const char *path, double delay, size_t n)
{
    stage_links links;
    if (!stage_links_open(&links, N_STAGES, delay)) return false;
    stage_thread below = {.end = {&links, 0}, .path = path, .log = say};
    stage_end last = {&links, 1};
    const ftk_link link = stage_link_of(&last);
    ftk_model *m;
    ftk_engine *e = NULL;
    if (stage_load(&m, path, 1, N_STAGES, say) != FTK_OK) return false;
    if (pthread_create(&below.thread, NULL, stage_main, &below) != 0) return false;
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 1;
    cfg.kv_slots = SLOTS;
    cfg.link = &link;
    int found;
    if (ftk_engine_open(&e, m, &cfg) != FTK_OK ||
        ftk_engine_find_drafters(e, path, &found) != FTK_OK)
        return false;
    static const char *const drafters[] = {"none", "lookup", "auto"};
    printf("%6.1f", delay * 1e3);
    for (size_t i = 0; i < sizeof drafters / sizeof drafters[0]; i++) {
        double per_step = 0;
        const double speed = measure(m, e, drafters[i], n, &per_step);
        if (speed == 0) return false;
        printf("  %-6s %8.1f tokens/s, %5.2f a step", drafters[i], speed, per_step);
        fflush(stdout);
    }
    printf("\n");
    ftk_engine_free(e);
    pthread_join(below.thread, NULL);
    ftk_model_free(m);
    stage_links_close(&links);
    return true;
}

static const char usage[] = "usage: bench-stages MODEL [TOKENS]";

int main(int argc, char **argv)
{
    run_help(argc, argv, usage);
    run_operands(argc, argv, 1);
    if (argc < 2 || argc > 3) run_refuse("%s", usage);
    const size_t n = argc > 2 ? (size_t)run_number("TOKENS", argv[2], 1, 1024) : 256;
    static const double delays[] = {0, 1e-3, 5e-3};
    printf("delay, ms, one way\n");
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++)
        if (!row(argv[1], delays[i], n)) return RUN_FAILED;
    return 0;
}
