/* SPDX-License-Identifier: Apache-2.0
 * One question asked by one method: all turns, in the benchmark's protocol. */
#ifndef FTK_SPECBENCH_ASK_H
#define FTK_SPECBENCH_ASK_H

#include "specbench.h"

/* What all answers share. */
typedef struct spec_world {
    const spec_options *o; /* its ctx and tmpl are set */
    ftk_model *model;
    const char *stop; /* a text that ends an answer under the template, or NULL */
    const char *id;   /* of the model, in the records */
    int32_t *prompt;  /* [o->ctx] work space */
} spec_world;

/* The tokens of the first `turns` turns of a question with the answers in between; more than
 * o->ctx: they do not fit, and w->prompt holds nothing. Exits on errors. */
size_t spec_prompt(const spec_world *w, const question *q, size_t turns, char *const *answers);
/* Whether a prompt of n tokens leaves room for an answer. */
bool spec_fits(const spec_options *o, size_t n);
/* Asks all turns; those that do not fit are left out, which the record says. *seconds: the time it
 * took. Exits on errors. */
json_t *spec_ask(const spec_world *w, ftk_engine *e, const spec_method *m, const question *q,
                 double *seconds);
/* Answers the first turn with up to n tokens, for no record. */
void spec_warm_up(const spec_world *w, ftk_engine *e, const spec_method *m, const question *q,
                  int n);

#endif
