/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokens.h"

#include <string.h>

#include "base/mem.h"

ftk_err ftk_tokens_push(ftk_tokens *list, const int32_t *tokens, size_t n)
{
    if (n > list->cap - list->n) {
        if (n > SIZE_MAX / 4 - list->n)
            return ftk_fail(list->host, FTK_ERR_NOMEM, "a text of too many tokens");
        const size_t cap = 2 * (list->n + n) + 16;
        int32_t *v = ftk_alloc(list->host, cap, sizeof *v);
        if (!v) return ftk_fail(list->host, FTK_ERR_NOMEM, "no memory for %zu tokens", cap);
        if (list->n > 0) memcpy(v, list->v, list->n * sizeof *v);
        ftk_release(list->host, list->v);
        list->v = v;
        list->cap = cap;
    }
    if (n > 0) memcpy(list->v + list->n, tokens, n * sizeof *tokens);
    list->n += n;
    return FTK_OK;
}

ftk_err ftk_tokens_end(ftk_tokens *list, ftk_err err, int32_t *tokens, size_t cap, size_t *n_out)
{
    *n_out = err == FTK_OK ? list->n : 0;
    if (err == FTK_OK && list->n > cap) err = FTK_ERR_SPACE;
    if (err == FTK_OK && list->n > 0) memcpy(tokens, list->v, list->n * sizeof *tokens);
    ftk_release(list->host, list->v);
    list->v = NULL;
    return err;
}
