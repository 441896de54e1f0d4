/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokens.h"

#include <string.h>

#include "base/mem.h"

ftk_err ftk_tokens_push(ftk_tokens *list, const int32_t *tokens, size_t n)
{
    if (!ftk_grow(list->host, &list->v, list->n, n, &list->cap, sizeof *list->v))
        return ftk_fail(list->host, FTK_ERR_NOMEM, "no memory for %zu more tokens", n);
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
