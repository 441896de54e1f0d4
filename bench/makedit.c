/* SPDX-License-Identifier: Apache-2.0
 *
 * makedit: a diffusion transformer of any shape with seeded random weights, for measuring what a
 * shape costs. Its samples are noise. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "modelfile.h"
#include "run.h"
#include "weights.h"

enum { FREQ = 256 };

/* The published ones, over latents of pictures of 256 x 256. */
typedef struct dit_shape {
    const char *name;
    int layers, dim, heads, patch, side, channels, classes;
} dit_shape;

static const dit_shape shapes[] = {
    {"xl2", 28, 1152, 16, 2, 32, 4, 1000}, {"l2", 24, 1024, 16, 2, 32, 4, 1000},
    {"b2", 12, 768, 12, 2, 32, 4, 1000},   {"s2", 12, 384, 6, 2, 32, 4, 1000},
    {"s4", 12, 384, 6, 4, 32, 4, 1000},    {"s8", 12, 384, 6, 8, 32, 4, 1000},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct job {
    dit_shape s;
    const weight_type *type;
    uint64_t seed;
    uint64_t n_weights;
} job;

static void put_keys(gw *w, const job *j)
{
    const dit_shape *s = &j->s;
    char name[96];
    snprintf(name, sizeof name, "random %d/%d/%d/%d, seed %llu", s->dim, s->layers, s->heads,
             s->patch, (unsigned long long)j->seed);
    gw_str(w, "general.architecture", "dit");
    gw_str(w, "general.name", name);
    gw_u32(w, "dit.block_count", (uint32_t)s->layers);
    gw_u32(w, "dit.embedding_length", (uint32_t)s->dim);
    gw_u32(w, "dit.attention.head_count", (uint32_t)s->heads);
    gw_u32(w, "dit.feed_forward_length", (uint32_t)(4 * s->dim));
    gw_f32(w, "dit.attention.layer_norm_epsilon", 1e-6f);
    gw_u32(w, "dit.patch_size", (uint32_t)s->patch);
    gw_u32(w, "dit.input_size", (uint32_t)s->side);
    gw_u32(w, "dit.in_channels", (uint32_t)s->channels);
    gw_bool(w, "dit.learned_variance", true);
    gw_u32(w, "dit.class_count", (uint32_t)s->classes);
    gw_u32(w, "dit.timestep_frequency_length", FREQ);
    gw_u32(w, "dit.diffusion.steps", 1000);
    gw_f32(w, "dit.diffusion.beta_start", 1e-4f);
    gw_f32(w, "dit.diffusion.beta_end", 0.02f);
}

typedef void each_tensor(modelfile *m, job *j, const char *name, int n_in, int n_out);

/* A weight matrix, and its bias, a vector: n_out 0. */
static void pair(modelfile *m, job *j, each_tensor *f, const char *stem, int n_in, int n_out)
{
    char name[64];
    snprintf(name, sizeof name, "%s.weight", stem);
    f(m, j, name, n_in, n_out);
    snprintf(name, sizeof name, "%s.bias", stem);
    f(m, j, name, n_out, 0);
}

static void for_tensors(modelfile *m, job *j, each_tensor *f)
{
    const dit_shape *s = &j->s;
    const int c = s->dim, cells = s->patch * s->patch;
    static const struct {
        const char *name;
        int in, out; /* multiples of the width */
    } parts[] = {{"ada", 1, 6},
                 {"attn_qkv", 1, 3},
                 {"attn_output", 1, 1},
                 {"ffn_up", 1, 4},
                 {"ffn_down", 4, 1}};
    pair(m, j, f, "patch_embd", cells * s->channels, c);
    pair(m, j, f, "time_embd.0", FREQ, c);
    pair(m, j, f, "time_embd.2", c, c);
    f(m, j, "class_embd.weight", c, s->classes + 1);
    for (int i = 0; i < s->layers; i++) {
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            char stem[48];
            snprintf(stem, sizeof stem, "blk.%d.%s", i, parts[p].name);
            pair(m, j, f, stem, parts[p].in * c, parts[p].out * c);
        }
    }
    pair(m, j, f, "output_ada", c, 2 * c);
    pair(m, j, f, "output", c, cells * 2 * s->channels);
}

/* Rows that are no whole blocks are F32. */
static const weight_type *type_of(const job *j, int n_in)
{
    const bool whole = n_in % (int)ftk_type_block(weights_type(j->type)) == 0;
    return whole ? j->type : weights_named("F32");
}

static void plan(modelfile *m, job *j, const char *name, int n_in, int n_out)
{
    modelfile_plan(m, name, n_in, n_out, n_out ? weights_type(type_of(j, n_in)) : FTK_TYPE_F32);
    j->n_weights += (uint64_t)n_in * (uint64_t)(n_out ? n_out : 1);
}

static void stream(modelfile *m, job *j, const char *name, int n_in, int n_out)
{
    const weight_type *t = n_out ? type_of(j, n_in) : weights_named("F32");
    const size_t n = (size_t)n_in, bytes = ftk_type_bytes(weights_type(t), n);
    void *row = malloc(bytes);
    if (!row) run_die("no memory for a row of %d weights", n_in);
    uint64_t state = 0xcbf29ce484222325u ^ j->seed; /* FNV-1a over the name */
    for (const char *c = name; *c; c++) state = (state ^ (unsigned char)*c) * 0x100000001b3u;
    for (int i = 0; i < (n_out ? n_out : 1); i++) {
        weights_random(t, &state, n_out ? 1 / sqrt((double)n_in) : 0.1, n, row);
        modelfile_write(m, row, bytes);
    }
    modelfile_align(m);
    free(row);
}

static void help(void)
{
    printf("makedit [options] OUT.gguf: a diffusion transformer with random weights\n\n"
           "  --shape NAME  one of:");
    for (int i = 0; i < N_SHAPES; i++) printf(" %s", shapes[i].name);
    printf(" (default s4)\n"
           "  --layers N    another number of layers\n"
           "  --type T      of all matrices: %s (default Q8_0)\n"
           "  --seed N      default 1\n",
           weights_names());
}

static void take_option(job *j, const char *option, const char *value)
{
    if (strcmp(option, "--shape") == 0) {
        int i = 0;
        while (i < N_SHAPES && strcmp(shapes[i].name, value) != 0) i++;
        if (i == N_SHAPES) run_refuse("--shape %s is unknown: see makedit --help", value);
        j->s = shapes[i];
    } else if (strcmp(option, "--type") == 0) {
        j->type = weights_named(value);
        if (!j->type) run_refuse("--type %s: give one of %s", value, weights_names());
    } else if (strcmp(option, "--seed") == 0) {
        j->seed = (uint64_t)run_number(option, value, 0, INT64_MAX);
    } else if (strcmp(option, "--layers") == 0) {
        j->s.layers = (int)run_number(option, value, 1, 512);
    } else {
        run_refuse("%s is unknown: see makedit --help", option);
    }
}

int main(int argc, char **argv)
{
    job j = {.s = shapes[4], .type = weights_named("Q8_0"), .seed = 1};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return 0;
        }
        if (i + 1 >= argc)
            run_refuse("%s needs a value, or is unknown: see makedit --help", argv[i]);
        take_option(&j, argv[i], argv[i + 1]);
    }
    if (i + 1 != argc) run_refuse("usage: makedit [options] OUT.gguf; makedit --help tells more");
    modelfile m;
    modelfile_init(&m);
    put_keys(&m.head, &j);
    for_tensors(&m, &j, plan);
    modelfile_begin(&m, argv[i]);
    for_tensors(&m, &j, stream);
    const uint64_t bytes = modelfile_end(&m);
    char path[256];
    printf("%s: %.1f million weights in %s, %llu MiB\n", run_shown(path, sizeof path, argv[i]),
           (double)j.n_weights / 1e6, ftk_type_name(weights_type(j.type)),
           (unsigned long long)(bytes >> 20));
    return 0;
}
