/* SPDX-License-Identifier: Apache-2.0 */
#include "drafters/trained.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

bool ftk_weights_int(const ftk_weights *w, const char *key, int least, int most, int *out,
                     const ftk_host *host)
{
    char name[96];
    ftk_gguf_value v;
    snprintf(name, sizeof name, "foretoken.drafter.%s", key);
    int64_t i = -1;
    if (ftk_gguf_find(w->file, name, &v)) {
        const bool known =
            v.type <= FTK_GGUF_I32 || v.type == FTK_GGUF_U64 || v.type == FTK_GGUF_I64;
        const bool is_signed = v.type == FTK_GGUF_I8 || v.type == FTK_GGUF_I16 ||
                               v.type == FTK_GGUF_I32 || v.type == FTK_GGUF_I64;
        if (known) i = is_signed ? v.i : v.u > INT32_MAX ? -1 : (int64_t)v.u;
    }
    *out = (int)i;
    if (i >= least && i <= most) return true;
    ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is missing, or no whole number from %d to %d",
             w->path, name, least, most);
    return false;
}

const ftk_weight *ftk_weights_get(const ftk_weights *w, const char *name, int n_out, int n_in,
                                  const ftk_host *host)
{
    for (int i = 0; i < w->n; i++) {
        const ftk_weight *t = &w->items[i];
        if (strcmp(t->name, name) != 0) continue;
        if (t->n_in == n_in && (n_out == 0 ? t->vector != NULL : t->matrix && t->n_out == n_out))
            return t;
        ftk_fail(host, FTK_ERR_FORMAT, "%s: tensor %s has shape [%d, %d] instead of [%d, %d]",
                 w->path, name, t->n_in, t->n_out, n_in, n_out == 0 ? 1 : n_out);
        return NULL;
    }
    ftk_fail(host, FTK_ERR_FORMAT, "%s: tensor %s is missing", w->path, name);
    return NULL;
}
