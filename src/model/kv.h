/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV cache: a pool of pages of FTK_PAGE slots, shared by all sequences. A page holds the keys
 * and values of all layers for its slots. Keys are stored with RoPE applied, so moving a slot needs
 * no arithmetic. A page may belong to several sequences (fork); it is copied before it is written.
 *
 * A sequence has `len` committed slots; a pass writes its rows to provisional slots behind them,
 * and commit or the next pass decides what stays.
 */
#ifndef FTK_KV_H
#define FTK_KV_H

#include "model.h"

typedef struct ftk_device ftk_device; /* device.h */
typedef struct ftk_stages ftk_stages; /* stages.h */

typedef struct ftk_kv_pool {
    const ftk_host *host;
    ftk_device *device; /* whose memory data is; NULL: the host's */
    ftk_stages *stages; /* that hold the same pages for layers below; NULL: none */
    int begin, end;     /* layers whose keys and values are here: all, but in stages */
    int n_layer, n_head_kv, head_dim;
    size_t row;        /* bytes of a slot's key or value in one head */
    size_t head_bytes; /* [FTK_PAGE][head_dim] */
    size_t plane;      /* bytes of one page's keys (or values) of one layer */
    int n_pages, n_free;
    int32_t *free_list; /* [n_pages] */
    uint16_t *refs;     /* [n_pages] */
    char *data;         /* [n_pages][n_layer][2][n_head_kv][FTK_PAGE][head_dim] */
} ftk_kv_pool;

static inline size_t ftk_kv_page_bytes(const ftk_kv_pool *p)
{
    return p->plane * 2 * (size_t)p->n_layer;
}

typedef struct ftk_kv_seq {
    ftk_kv_pool *pool;
    int len;     /* committed slots */
    int n_pages; /* pages held */
    int max_pages;
    int32_t *page;      /* [max_pages] */
    const void **plane; /* [n_layer][2][max_pages]: where each page's keys and values begin */
} ftk_kv_seq;

/* In the memory of a device, which outlives the pool, if it is not NULL. Errors: NOMEM (the line
 * says how much). */
ftk_err ftk_kv_pool_open(ftk_kv_pool *pool, const ftk_model *m, int slots, ftk_type type,
                         ftk_device *device);
/* Bytes of a cache. */
size_t ftk_kv_pool_bytes(const ftk_model *m, int slots, ftk_type type);
void ftk_kv_pool_close(ftk_kv_pool *pool);

/* Errors: NOMEM; then seq is to be closed all the same. */
ftk_err ftk_kv_seq_open(ftk_kv_seq *seq, ftk_kv_pool *pool, int max_slots);
void ftk_kv_seq_close(ftk_kv_seq *seq);
/* Makes slots [len, len + n) writable. Nothing is lost with an error: CONTEXT (more than the
 * sequence or the whole pool can ever have), NO_ROOM (other sequences hold the pages). */
ftk_err ftk_kv_reserve(ftk_kv_seq *seq, int n);
/* Free pages that it takes to have slots [len, slots) writable: those that are not held, and one
 * for a page that is shared. */
int ftk_kv_lacks(const ftk_kv_seq *seq, int slots);
/* Keeps n provisional slots: path[i], counted from len and rising, becomes slot len + i. Then
 * pages past the new end are given back. */
void ftk_kv_commit(ftk_kv_seq *seq, const int16_t *path, int n);
/* The parts of these that another stage has to follow: slots, and a page that is copied. */
void ftk_kv_move(const ftk_kv_seq *seq, const int16_t *path, int n);
void ftk_kv_copy_page(const ftk_kv_pool *pool, int32_t to, int32_t from);
/* Page i of a sequence is that one, which it does not hold. */
void ftk_kv_see(ftk_kv_seq *seq, int i, int32_t page);
/* Keeps the first n slots. */
void ftk_kv_truncate(ftk_kv_seq *seq, int n);
/* dst, just opened on the same pool, sees src's committed slots. */
void ftk_kv_fork(ftk_kv_seq *dst, const ftk_kv_seq *src);

/* Pages of one layer, for the attention entry. */
static inline const void *const *ftk_kv_keys(const ftk_kv_seq *s, int layer)
{
    return s->plane + (size_t)layer * 2 * (size_t)s->max_pages;
}

static inline const void *const *ftk_kv_values(const ftk_kv_seq *s, int layer)
{
    return s->plane + ((size_t)layer * 2 + 1) * (size_t)s->max_pages;
}

/* Where the key (value 0) or value (1) vector of a slot and head lies: [head_dim]. */
void *ftk_kv_at(const ftk_kv_seq *s, int layer, int value, int head, int slot);

#endif
