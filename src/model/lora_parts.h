/* SPDX-License-Identifier: Apache-2.0
 * What lora.c, which opens adapters, hands to lora_add.c, which adds them. */
#ifndef FTK_LORA_PARTS_H
#define FTK_LORA_PARTS_H

#include "base/str.h"
#include "lora.h"

typedef struct ftk_lora_adapter {
    const ftk_host *host;
    const char *path;
    ftk_gguf *file;
    double alpha, scale; /* scale: the caller's */
} ftk_lora_adapter;

/* What one adapter adds to one tensor. */
typedef struct ftk_lora_part {
    const ftk_lora_adapter *from;
    ftk_tensor_info a, b; /* of a norm, a alone: the values that take its place */
    float scale;
    struct ftk_lora_part *next; /* of the same tensor, in the order of the adapters */
} ftk_lora_part;

typedef struct ftk_lora_change {
    ftk_tensor_info base; /* in the model's file */
    ftk_tensor_info now;  /* of a matrix: in m->adapted, and of the type it gets */
    bool is_norm;
    float *vector; /* a norm as the loader has read it */
    ftk_lora_part *first, *last;
} ftk_lora_change;

struct ftk_lora {
    ftk_model *m;
    size_t n_adapters, n_parts, n_changes;
    ftk_lora_adapter *adapters; /* [n_adapters] */
    ftk_lora_part *parts;
    ftk_lora_change *changes;
};

/* The embeddings, whose pair is written the other way round. */
static inline bool ftk_lora_is_embd(const ftk_tensor_info *base)
{
    return ftk_str_is(base->name, "token_embd.weight");
}

#endif
