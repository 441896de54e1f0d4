/* SPDX-License-Identifier: Apache-2.0
 * The paged KV cache. */
#include "kv.h"

#include <string.h>

#include "base/mem.h"
#include "device.h"
#include "stages.h"

static int pages_for(int slots)
{
    return (slots + FTK_PAGE - 1) / FTK_PAGE;
}

size_t ftk_kv_pool_bytes(const ftk_model *m, int slots, ftk_type type)
{
    return (size_t)pages_for(slots) * FTK_PAGE * 2 * (size_t)m->hp.n_layer *
           (size_t)m->hp.n_head_kv * ftk_type_bytes(type, (size_t)m->hp.head_dim);
}

ftk_err ftk_kv_pool_open(ftk_kv_pool *p, const ftk_model *m, int slots, ftk_type type,
                         ftk_device *device)
{
    *p = (ftk_kv_pool){.host = &m->host,
                       .device = device,
                       .end = m->hp.n_layer,
                       .n_layer = m->hp.n_layer,
                       .n_head_kv = m->hp.n_head_kv,
                       .head_dim = m->hp.head_dim,
                       .row = ftk_type_bytes(type, (size_t)m->hp.head_dim),
                       .n_pages = pages_for(slots)};
    p->head_bytes = (size_t)FTK_PAGE * p->row;
    p->plane = p->head_bytes * (size_t)p->n_head_kv;
    p->free_list = ftk_alloc(p->host, (size_t)p->n_pages, sizeof *p->free_list);
    p->refs = ftk_alloc(p->host, (size_t)p->n_pages, sizeof *p->refs);
    p->data = device ? device->ops->mem_alloc(device, (size_t)p->n_pages * ftk_kv_page_bytes(p))
                     : ftk_alloc_raw(p->host, (size_t)p->n_pages, ftk_kv_page_bytes(p));
    if (!p->free_list || !p->refs || !p->data)
        return ftk_fail(p->host, FTK_ERR_NOMEM,
                        "the KV cache of %d tokens needs %zu MiB: use a smaller context", slots,
                        (size_t)p->n_pages * ftk_kv_page_bytes(p) >> 20);
    for (int i = 0; i < p->n_pages; i++) p->free_list[p->n_free++] = p->n_pages - 1 - i;
    return FTK_OK;
}

void ftk_kv_pool_close(ftk_kv_pool *p)
{
    if (p->device)
        p->device->ops->mem_free(p->device, p->data);
    else
        ftk_release(p->host, p->data);
    ftk_release(p->host, p->refs);
    ftk_release(p->host, p->free_list);
    *p = (ftk_kv_pool){0};
}

ftk_err ftk_kv_seq_open(ftk_kv_seq *s, ftk_kv_pool *pool, int max_slots)
{
    *s = (ftk_kv_seq){.pool = pool, .max_pages = pages_for(max_slots)};
    s->page = ftk_alloc(pool->host, (size_t)s->max_pages, sizeof *s->page);
    s->plane =
        ftk_alloc(pool->host, (size_t)s->max_pages * 2 * (size_t)pool->n_layer, sizeof *s->plane);
    if (!s->page || !s->plane)
        return ftk_fail(pool->host, FTK_ERR_NOMEM, "no memory for a session's page table");
    return FTK_OK;
}

void ftk_kv_seq_close(ftk_kv_seq *s)
{
    if (!s->pool) return;
    ftk_kv_truncate(s, 0);
    ftk_release(s->pool->host, s->plane);
    ftk_release(s->pool->host, s->page);
    *s = (ftk_kv_seq){0};
}

void ftk_kv_see(ftk_kv_seq *s, int i, int32_t page)
{
    const ftk_kv_pool *p = s->pool;
    s->page[i] = page;
    const char *at = p->data + (size_t)page * ftk_kv_page_bytes(p);
    for (int j = 0; j < 2 * p->n_layer; j++)
        s->plane[(size_t)j * (size_t)s->max_pages + (size_t)i] = at + (size_t)j * p->plane;
}

void ftk_kv_copy_page(const ftk_kv_pool *p, int32_t to, int32_t from)
{
    const size_t at = 2 * p->plane * (size_t)p->begin;
    char *dst = p->data + (size_t)to * ftk_kv_page_bytes(p) + at;
    const char *src = p->data + (size_t)from * ftk_kv_page_bytes(p) + at;
    const size_t n = 2 * p->plane * (size_t)(p->end - p->begin);
    if (p->device)
        p->device->ops->kv_copy(p->device, dst, src, n);
    else
        memcpy(dst, src, n);
}

static void unref(ftk_kv_pool *p, int32_t page)
{
    if (--p->refs[page] == 0) p->free_list[p->n_free++] = page;
}

/* The first page that will be written belongs to others, too. */
static bool must_copy(const ftk_kv_seq *s)
{
    const int first = s->len / FTK_PAGE;
    return first < s->n_pages && s->pool->refs[s->page[first]] > 1;
}

int ftk_kv_lacks(const ftk_kv_seq *s, int slots)
{
    if (slots <= s->len) return 0;
    const int more = pages_for(slots) - s->n_pages;
    return (more > 0 ? more : 0) + must_copy(s);
}

ftk_err ftk_kv_reserve(ftk_kv_seq *s, int n)
{
    ftk_kv_pool *p = s->pool;
    const int need = pages_for(s->len + n);
    const int first = s->len / FTK_PAGE;
    if (need > s->max_pages)
        return ftk_fail(p->host, FTK_ERR_CONTEXT, "the context of %d tokens is full",
                        s->max_pages * FTK_PAGE);
    if (need > p->n_pages)
        return ftk_fail(p->host, FTK_ERR_CONTEXT,
                        "the KV cache of %d tokens is too small: open the engine with more slots",
                        p->n_pages * FTK_PAGE);
    if (ftk_kv_lacks(s, s->len + n) > p->n_free)
        return ftk_fail(
            p->host, FTK_ERR_NO_ROOM,
            "the KV cache of %d tokens is full just now: step again once other sessions "
            "are closed or cut, or open the engine with more slots",
            p->n_pages * FTK_PAGE);
    if (must_copy(s)) {
        const int32_t old = s->page[first], page = p->free_list[--p->n_free];
        ftk_kv_copy_page(p, page, old);
        if (p->stages) ftk_stages_copy(p->stages, page, old);
        p->refs[page] = 1;
        unref(p, old);
        ftk_kv_see(s, first, page);
    }
    while (s->n_pages < need) {
        const int32_t page = p->free_list[--p->n_free];
        p->refs[page] = 1;
        ftk_kv_see(s, s->n_pages++, page);
    }
    return FTK_OK;
}

void *ftk_kv_at(const ftk_kv_seq *s, int layer, int value, int head, int slot)
{
    const ftk_kv_pool *p = s->pool;
    const size_t in_page = ((size_t)layer * 2 + (size_t)value) * p->plane +
                           (size_t)head * p->head_bytes + (size_t)(slot % FTK_PAGE) * p->row;
    return p->data + (size_t)s->page[slot / FTK_PAGE] * ftk_kv_page_bytes(p) + in_page;
}

static void move_slot(const ftk_kv_seq *s, int from, int to)
{
    const ftk_kv_pool *p = s->pool;
    const size_t bytes = p->row;
    for (int layer = p->begin; layer < p->end; layer++)
        for (int value = 0; value < 2; value++)
            for (int head = 0; head < p->n_head_kv; head++)
                memcpy(ftk_kv_at(s, layer, value, head, to), ftk_kv_at(s, layer, value, head, from),
                       bytes);
}

/* path[i] >= i and rising: a source is never overwritten early */
void ftk_kv_move(const ftk_kv_seq *s, const int16_t *path, int n)
{
    for (int i = 0; i < n; i++)
        if (path[i] != i) move_slot(s, s->len + path[i], s->len + i);
}

void ftk_kv_commit(ftk_kv_seq *s, const int16_t *path, int n)
{
    ftk_device *const device = s->pool->device;
    int stays = 0; /* slots that are where they should be */
    while (stays < n && path[stays] == stays) stays++;
    if (stays < n) {
        if (device)
            device->ops->kv_move(device, s, path, n);
        else
            ftk_kv_move(s, path, n);
        if (s->pool->stages) ftk_stages_move(s->pool->stages, s, path, n);
    }
    ftk_kv_truncate(s, s->len + n);
}

void ftk_kv_truncate(ftk_kv_seq *s, int n)
{
    while (s->n_pages > pages_for(n)) unref(s->pool, s->page[--s->n_pages]);
    s->len = n;
}

void ftk_kv_fork(ftk_kv_seq *dst, const ftk_kv_seq *src)
{
    const int n = pages_for(src->len);
    for (int i = 0; i < n; i++) {
        src->pool->refs[src->page[i]]++;
        ftk_kv_see(dst, i, src->page[i]);
    }
    dst->n_pages = n;
    dst->len = src->len;
}
