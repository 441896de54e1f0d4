/* SPDX-License-Identifier: Apache-2.0
 * What a trained family reads of its file. */
#ifndef FTK_TRAINED_H
#define FTK_TRAINED_H

#include "base/target.h"

/* The tensor `name` of shape [n_out][n_in]; NULL, with a message, if it is not there, of another
 * shape, or (for n_out 0, a vector of n_in) of another kind. */
const ftk_weight *ftk_weights_get(const ftk_weights *w, const char *name, int n_out, int n_in,
                                  const ftk_host *host);
/* The whole number under foretoken.drafter.KEY; false, with a message, when it is missing, no
 * number, or not in [least, most]. */
bool ftk_weights_int(const ftk_weights *w, const char *key, int least, int most, int *out,
                     const ftk_host *host);

#endif
