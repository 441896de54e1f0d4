/* SPDX-License-Identifier: Apache-2.0
 *
 * Small models of every architecture, made of a recipe that tests/reference_logits.py follows too.
 *
 * The weights of a tensor come from a generator that its name starts:
 *     s = 1; for each byte c of the name: s = 31 s + c
 *     for each element: s = 1664525 s + 1013904223; u = (s >> 8) / 2^24 - 1/2       (s mod 2^32)
 * An element, rounded to float, is 1 + u/2 in a norm (names ending in norm.weight), u/2 in a
 * bias, 2u in token_embd.weight and class_embd.weight, and 4u / sqrt(n_in) in all other tensors.
 * Elements lie in the order of the GGUF file, rows of n_in one after the other. */
#ifndef FTK_TESTS_ARCHMODELS_H
#define FTK_TESTS_ARCHMODELS_H

#include "testkit/ggufwriter.h"

enum {
    AM_CONTEXT = 4096,
    AM_ORIGINAL = 24, /* context from which phi3-long takes its long factors */
    AM_TOKENS = 100,  /* of the sequence in test_arch */
};

typedef struct am_model {
    const char *name, *arch;
    int layers, embd, heads, heads_kv, head_dim, ff;
    int n_rot;  /* 0: head_dim */
    int window; /* 0: no key */
    double rope_base;
    double linear;     /* factor of linear RoPE scaling; 0: none */
    double attn_scale; /* 0: no key */
    bool tied, biases, llama3, longrope, pattern;
} am_model;

extern const am_model am_models[];
extern const int am_n_models;
const am_model *am_find(const char *name);

/* x[n], a tensor of that name whose rows have n_in elements. */
void am_fill(const char *name, int n_in, size_t n, float *x);
/* All keys and tensors of the model, with the vocabulary of gw_tiny_vocab(). */
void am_write(gw *w, const am_model *m);
/* Of all tensors. */
size_t am_n_params(const am_model *m);

#endif
