/* SPDX-License-Identifier: Apache-2.0
 * The sizes of a llama model. */
#include "shape.h"

#include <stddef.h>
#include <string.h>

#include "run.h"

static const struct {
    const char *name;
    shape s;
} named[] = {
    {"15m",
     {.dim = 288,
      .layers = 6,
      .heads = 6,
      .heads_kv = 6,
      .ffn = 768,
      .vocab = 32000,
      .tied = true}},
    {"110m",
     {.dim = 768,
      .layers = 12,
      .heads = 12,
      .heads_kv = 4,
      .ffn = 2048,
      .vocab = 32000,
      .tied = true}},
    {"135m",
     {.dim = 576,
      .layers = 30,
      .heads = 9,
      .heads_kv = 3,
      .ffn = 1536,
      .vocab = 49152,
      .tied = true}},
    {"1b", {.dim = 2048, .layers = 22, .heads = 32, .heads_kv = 4, .ffn = 5632, .vocab = 32000}},
    {"7b", {.dim = 4096, .layers = 32, .heads = 32, .heads_kv = 32, .ffn = 11008, .vocab = 32000}},
    {"13b", {.dim = 5120, .layers = 40, .heads = 40, .heads_kv = 40, .ffn = 13824, .vocab = 32000}},
};
enum { N_NAMED = sizeof named / sizeof named[0] };

/* The ranges are those the loader accepts. */
static const struct {
    const char *option;
    size_t at;
    int least, most;
} numbers[] = {
    {"--dim", offsetof(shape, dim), 32, 1 << 16},
    {"--layers", offsetof(shape, layers), 1, 512},
    {"--heads", offsetof(shape, heads), 1, 1 << 10},
    {"--kv-heads", offsetof(shape, heads_kv), 1, 1 << 10},
    {"--ffn", offsetof(shape, ffn), 32, 1 << 20},
    {"--vocab", offsetof(shape, vocab), 512, 1 << 19},
    {"--head-dim", offsetof(shape, head_dim), 2, 256},
};

static void take_named(shape *s, const char *name)
{
    for (int i = 0; i < N_NAMED; i++)
        if (strcmp(named[i].name, name) == 0) {
            *s = named[i].s;
            return;
        }
    run_refuse("shape %s is unknown: there are 15m, 110m, 135m, 1b, 7b and 13b", name);
}

bool shape_option(shape *s, const char *option, const char *value)
{
    if (strcmp(option, "--shape") == 0) {
        take_named(s, value);
        return true;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(option, numbers[i].option) != 0) continue;
        *(int *)((char *)s + numbers[i].at) =
            (int)run_number(option, value, numbers[i].least, numbers[i].most);
        return true;
    }
    return false;
}

void shape_print_names(FILE *f)
{
    fprintf(f, "shape    dim  layers  heads  kv heads    ffn   vocab\n");
    for (int i = 0; i < N_NAMED; i++) {
        const shape *s = &named[i].s;
        fprintf(f, "%-5s %6d %7d %6d %9d %6d %7d%s\n", named[i].name, s->dim, s->layers, s->heads,
                s->heads_kv, s->ffn, s->vocab, s->tied ? "  tied" : "");
    }
}
