/* SPDX-License-Identifier: Apache-2.0
 * The command line: one table of options, clear refusals, help made from the same table. */
#ifndef FTK_CLI_OPTIONS_H
#define FTK_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "foretoken.h"

typedef enum cli_command {
    CLI_CHAT,
    CLI_GENERATE,
    CLI_TOKENIZE,
    CLI_PERPLEXITY,
    CLI_INSPECT,
    CLI_SERVE,
    CLI_IMAGE,
    CLI_N_COMMANDS
} cli_command;

enum {
    CLI_MAX_STOPS = 16,
    CLI_MAX_DRAFTER_FILES = 8,
    CLI_MAX_LORAS = 8,
    CLI_MAX_BIASES = 64,
    CLI_MAX_LAYERS = 16
};

/* A file that is the first n bytes of path. */
typedef struct cli_lora {
    const char *path;
    size_t n;
    double scale;
} cli_lora;

/* Strings point into argv. NULL and 0 mean: not given, the library's default. */
typedef struct cli_options {
    cli_command command;
    const char *model, *operand;
    const char *prompt, *file, *system;
    const char *template_name, *template_file, *template_vars;
    const char *draft_model;
    int layers[CLI_MAX_LAYERS]; /* --drafter-layers */
    size_t n_layers;
    const char *drafter, *verifier, *tree, *kernels, *kv, *device;
    const char *stops[CLI_MAX_STOPS];
    size_t n_stops;
    const char *drafter_files[CLI_MAX_DRAFTER_FILES];
    size_t n_drafter_files;
    cli_lora loras[CLI_MAX_LORAS];
    size_t n_loras;
    ftk_bias biases[CLI_MAX_BIASES];
    size_t n_biases;
    int64_t threads, ctx;
    int64_t n; /* -1: no limit */
    int64_t budget, top_k;
    uint64_t seed;
    const char *host, *api_key, *api_key_file, *allow_origin, *metrics_names;
    int64_t port, parallel, queue, cache, max_body, timeout, drain;
    double temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    bool demo, chat, ignore_eos, json, stats, special, decode, full, chunks, wide_prefill, mpi;
    const ftk_link *link; /* set behind reading: to the other stages of the model, or NULL */
    bool help;
    /* of images; NAN, -1, NULL: not given */
    const char *classes, *output, *npy, *sampler, *image_cache, *cache_metric, *cache_tokens;
    int64_t steps, batch, scale, cache_order, cache_min_run, cache_max_run;
    double cfg, cache_interval, cache_threshold, cache_decay, cache_floor, cache_fresh;
    double cache_step_weight, cache_layer_weight, cache_stale, cache_bonus, cache_l2c_threshold;
    bool trace, cache_redo, cache_once;
} cli_options;

/* The values of --cache-metric and --cache-tokens, in the order of the library's enums. */
const char *const *cli_cache_metrics(void);
const char *const *cli_cache_tokens(void);

/* The command of that name, or CLI_N_COMMANDS. */
cli_command cli_command_find(const char *name);
const char *cli_command_name(cli_command command);
/* "foretoken COMMAND: ...", about what stands on the command line. Returns CLI_USAGE. */
int cli_say_usage(cli_command command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Reads argv[0..argc), the words behind the command. On a mistake says so in one line on standard
 * error and returns false. */
bool cli_options_parse(cli_options *o, cli_command command, int argc, char **argv);

/* "auto, none, jacobi, lookup, recycle, s4c or firp", in buf. */
const char *cli_name_list(const char *const *names, char *buf, size_t cap);

/* The list of commands, and the options of one. */
void cli_help(FILE *f);
void cli_help_command(FILE *f, cli_command command);

#endif
