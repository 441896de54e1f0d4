/* SPDX-License-Identifier: Apache-2.0
 * Byte-pair vocabularies, as GPT-2 has them: bytes are joined pair by pair, first those that the
 * file's list of merges names first. */
#include "model/vocabulary.h"

#include "base/mem.h"
#include "base/sort.h"
#include "model/gguf.h"
#include "model/pretokenizer.h"

#include <inttypes.h>
#include <string.h>

/* Two pieces that become a third. */
struct merge {
    int32_t left, right, rank, to;
};

/* Pieces are tokens and, from n_vocab on, texts that only merges name: other pieces may be made of
 * them, and those that are left in the end fall into bytes. */
struct bpe {
    ftk_pre *pre;
    struct merge *merges; /* by left, then right */
    size_t n_merges;
    uint32_t *first;    /* [n_pieces + 1]: merges[first[left]..first[left + 1]) */
    ftk_keys strangers; /* the pieces that are no tokens, by text */
    char *strange_text;
    int n_pieces;
    int32_t byte_pieces[256]; /* -1: there is no piece of this byte alone */
    ftk_keys words;           /* tokens that a whole word may be, if those come before merges */
    bool ignores_merges;
};

/* ------------------------------------------------------------------ bytes as characters */

/* GPT-2 writes each byte as one character: itself where Latin-1 has something to see there, else
 * one of those from U+0100 on, in order. */
enum { LAST_CHAR = 0x143 };

static bool is_visible(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
}

static void byte_chars(uint16_t chars[256])
{
    uint16_t next = 0x100;
    for (int b = 0; b < 256; b++) chars[b] = is_visible(b) ? (uint16_t)b : next++;
}

/* The same the other way round: -1 for what is no byte. */
static void char_bytes(int16_t bytes[LAST_CHAR + 1])
{
    uint16_t chars[256];
    byte_chars(chars);
    for (int c = 0; c <= LAST_CHAR; c++) bytes[c] = -1;
    for (int b = 0; b < 256; b++) bytes[chars[b]] = (int16_t)b;
}

/* The byte that the character at p, of `len` bytes, means, or -1; n: bytes that there are. */
static int byte_at(const char *p, uint32_t n, const int16_t bytes[LAST_CHAR + 1], uint32_t *len)
{
    const unsigned char c = (unsigned char)p[0], next = n > 1 ? (unsigned char)p[1] : 0;
    const bool two = c >= 0xC2 && c <= 0xC5 && (next & 0xC0) == 0x80;
    const int code = two ? (c & 0x1F) << 6 | (next & 0x3F) : c;
    *len = two ? 2 : 1;
    return (two || c < 0x80) && code <= LAST_CHAR ? bytes[code] : -1;
}

/* Replaces the characters of a piece by the bytes they mean, in place: that is never longer. Some
 * files have plain text where the characters should be; what means no byte stays as it is. */
static void decode_piece(ftk_tokenizer *t, ftk_piece *p, const int16_t bytes[LAST_CHAR + 1])
{
    char *const text = t->text + (p->p - t->text);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n;) {
        uint32_t len;
        const int byte = byte_at(text + i, p->n - i, bytes, &len);
        if (byte >= 0)
            text[n++] = (char)byte;
        else
            for (uint32_t j = 0; j < len; j++) text[n++] = text[i + j];
        i += len;
    }
    p->n = n;
}

static void decode_pieces(ftk_tokenizer *t)
{
    int16_t bytes[LAST_CHAR + 1];
    char_bytes(bytes);
    for (int i = 0; i < t->n_vocab; i++) {
        ftk_piece *p = &t->pieces[i];
        if (p->type == FTK_TOKEN_NORMAL || p->type == FTK_TOKEN_UNUSED) {
            decode_piece(t, p, bytes);
        } else if (p->type == FTK_TOKEN_BYTE) {
            t->text[p->p - t->text] = (char)ftk_vocab_byte(p);
            p->n = 1;
        }
    }
}

/* ------------------------------------------------------------------ opening */

/* The unknown token is a control token here: text of a user does not turn into it by its name.
 * What is marked as unknown and is no name is text. */
static void find_unknown(const ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    ftk_oddity texts = {0};
    for (int32_t i = t->n_vocab - 1; i >= 0; i--) {
        if (t->pieces[i].type != FTK_TOKEN_UNKNOWN) continue;
        if (ftk_vocab_is_name(&t->pieces[i])) {
            t->pieces[i].type = FTK_TOKEN_CONTROL;
            t->unknown = i;
        } else {
            t->pieces[i].type = FTK_TOKEN_NORMAL;
            ftk_oddity_count(&texts, (size_t)i);
        }
    }
    if (texts.n > 0)
        ftk_vocab_warn(v,
                       "tokens marked as unknown that are no names: %zu, the first is token %zu; "
                       "they are read as text",
                       texts.n, texts.first);
}

/* The byte that a token is, or -1, and how fit the token is to stand for it. A user-defined
 * token is plain text, which is the byte in ASCII alone. */
static int byte_of(const ftk_piece *p, const int16_t bytes[LAST_CHAR + 1], int *fitness)
{
    uint32_t len = 0;
    int byte = p->n > 0 ? byte_at(p->p, p->n, bytes, &len) : -1;
    if (len != p->n) byte = -1; /* more than one character */
    switch (p->type) {
    case FTK_TOKEN_NORMAL:
    case FTK_TOKEN_UNUSED: *fitness = 3; return byte;
    case FTK_TOKEN_USER_DEFINED: *fitness = 2; return p->n == 1 ? byte : -1;
    case FTK_TOKEN_BYTE: *fitness = 1; return ftk_vocab_byte(p);
    default: return -1;
    }
}

static ftk_err find_bytes(const ftk_vocab *v)
{
    int16_t bytes[LAST_CHAR + 1];
    int best[256] = {0}, n = 0, n_printable = 0;
    char_bytes(bytes);
    for (int32_t i = 0; i < v->t->n_vocab; i++) {
        int fitness = 0;
        const int byte = byte_of(&v->t->pieces[i], bytes, &fitness);
        if (byte < 0 || fitness < best[byte]) continue;
        n += best[byte] == 0;
        n_printable += best[byte] == 0 && byte >= ' ' && byte <= '~';
        best[byte] = fitness;
        v->t->byte_ids[byte] = i;
    }
    if (n == 0)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "tokenizer.ggml.tokens has no token of a single "
                              "byte, from which a vocabulary of kind gpt2 builds all others");
    if (n_printable < '~' - ' ' + 1)
        ftk_vocab_warn(v,
                       "tokenizer.ggml.tokens lacks %d of the 95 printable ASCII characters; "
                       "text will lose them",
                       '~' - ' ' + 1 - n_printable);
    return FTK_OK;
}

static ftk_err find_rule(const ftk_vocab *v, const ftk_pre_rule **rule)
{
    static const ftk_str fallback = {"default", 7};
    ftk_gguf_value pre;
    *rule = ftk_pre_find(fallback);
    if (!ftk_gguf_find(v->g, "tokenizer.ggml.pre", &pre)) {
        ftk_vocab_warn(v, "tokenizer.ggml.pre is missing: text is cut into words as for "
                          "'default', which the model may not have been trained with");
        return FTK_OK;
    }
    if (pre.type != FTK_GGUF_STRING)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "tokenizer.ggml.pre is not a string");
    const ftk_pre_rule *known = ftk_pre_find(pre.s);
    if (known)
        *rule = known;
    else
        ftk_vocab_warn(v,
                       "tokenizer.ggml.pre is '%s', which is not known: text is cut into words "
                       "as for 'default', which the model may not have been trained with",
                       FTK_SHOW(pre.s));
    return FTK_OK;
}

/* ------------------------------------------------------------------ merges */

static const char merges_key[] = "tokenizer.ggml.merges";

static int compare_merges(const void *a, const void *b, const void *ctx)
{
    const struct merge *x = a, *y = b;
    (void)ctx;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    if (x->right != y->right) return x->right < y->right ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* The texts of one merge. */
struct parts {
    ftk_str left, right, joined;
    char room[2 * FTK_MAX_PIECE];
};

/* Cuts "left right". */
static ftk_err cut_merge(const ftk_vocab *v, size_t i, ftk_str s, struct parts *parts)
{
    const char *space = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 2) : NULL;
    if (!space)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "%s: element %zu ('%s') is not two pieces with a space between them",
                              merges_key, i, FTK_SHOW(s));
    parts->left = (ftk_str){s.p, (size_t)(space - s.p)};
    parts->right = (ftk_str){space + 1, s.n - parts->left.n - 1};
    if (parts->left.n > FTK_MAX_PIECE || parts->right.n > FTK_MAX_PIECE)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "%s: element %zu ('%s') names a piece of more than %d bytes",
                              merges_key, i, FTK_SHOW(s), FTK_MAX_PIECE);
    memcpy(parts->room, parts->left.p, parts->left.n);
    memcpy(parts->room + parts->left.n, parts->right.p, parts->right.n);
    parts->joined = (ftk_str){parts->room, s.n - 1};
    return FTK_OK;
}

static bool is_token(const ftk_vocab *v, ftk_str s)
{
    return ftk_keys_find(&v->keys, s.p, s.n) >= 0;
}

static bool is_strange(const ftk_vocab *v, const struct parts *parts)
{
    return !is_token(v, parts->left) || !is_token(v, parts->right) || !is_token(v, parts->joined);
}

static int compare_strangers(const void *a, const void *b, const void *ctx)
{
    (void)ctx;
    return ftk_keys_compare(a, b);
}

/* Numbers the strangers, each once. */
static void number_strangers(struct bpe *b, int n_vocab)
{
    ftk_keys *keys = &b->strangers;
    ftk_sort(keys->v, keys->n, sizeof *keys->v, compare_strangers, NULL);
    size_t n = 0;
    for (size_t i = 0; i < keys->n; i++) {
        if (n > 0 && ftk_keys_compare(&keys->v[n - 1], &keys->v[i]) == 0) continue;
        keys->v[n] = keys->v[i];
        keys->v[n].id = n_vocab + (int32_t)n;
        n++;
    }
    keys->n = n;
    b->n_pieces = n_vocab + (int)n;
}

/* Collects the pieces that merges name and that are no tokens. */
static ftk_err find_strangers(const ftk_vocab *v, struct bpe *b, const ftk_gguf_value *list)
{
    const ftk_host *h = &v->t->host;
    struct parts parts;
    ftk_oddity odd = {0};
    size_t size = 0;
    ftk_str first = {0};
    b->n_pieces = v->t->n_vocab;
    const unsigned char *cursor = list->data;
    for (size_t i = 0; i < (size_t)list->count; i++) {
        const ftk_str s = ftk_gguf_next_str(&cursor);
        const ftk_err err = cut_merge(v, i, s, &parts);
        if (err != FTK_OK) return err;
        if (!is_strange(v, &parts)) continue;
        ftk_oddity_count(&odd, i);
        if (odd.n == 1) first = s;
        size += parts.joined.n;
    }
    if (odd.n == 0) return FTK_OK;
    if (odd.n > (size_t)(INT32_MAX - v->t->n_vocab) / 3)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s: too many elements name no token", merges_key);
    b->strangers.v = ftk_alloc(h, 3 * odd.n, sizeof *b->strangers.v);
    b->strange_text = ftk_alloc(h, size, 1);
    if (!b->strangers.v || !b->strange_text)
        return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for %zu merges", odd.n);
    char *text = b->strange_text;
    cursor = list->data;
    for (size_t i = 0; i < (size_t)list->count; i++) {
        cut_merge(v, i, ftk_gguf_next_str(&cursor), &parts);
        if (!is_strange(v, &parts)) continue;
        memcpy(text, parts.room, parts.joined.n);
        const ftk_str named[3] = {
            {text, parts.left.n}, {text + parts.left.n, parts.right.n}, {text, parts.joined.n}};
        for (int k = 0; k < 3; k++)
            if (!is_token(v, named[k]))
                b->strangers.v[b->strangers.n++] = (ftk_key){named[k].p, (uint32_t)named[k].n, -1};
        text += parts.joined.n;
    }
    number_strangers(b, v->t->n_vocab);
    ftk_vocab_warn(v,
                   "%s: elements that name a piece which is no token: %zu, the first is element "
                   "%zu ('%s'); such a piece falls into bytes where it is left",
                   merges_key, odd.n, odd.first, FTK_SHOW(first));
    return FTK_OK;
}

static int32_t find_piece(const ftk_vocab *v, const struct bpe *b, ftk_str s)
{
    const int32_t id = ftk_keys_find(&v->keys, s.p, s.n);
    return id >= 0 ? id : ftk_keys_find(&b->strangers, s.p, s.n);
}

static bool is_control(const ftk_tokenizer *t, int32_t piece)
{
    return piece < t->n_vocab && t->pieces[piece].type == FTK_TOKEN_CONTROL;
}

/* Merges with a control token in them are dropped: text of a user must not become one. */
static void read_merge(const ftk_vocab *v, struct bpe *b, size_t i, ftk_str s)
{
    struct parts parts;
    cut_merge(v, i, s, &parts);
    const struct merge m = {find_piece(v, b, parts.left), find_piece(v, b, parts.right), (int32_t)i,
                            find_piece(v, b, parts.joined)};
    if (is_control(v->t, m.left) || is_control(v->t, m.right) || is_control(v->t, m.to)) return;
    b->merges[b->n_merges++] = m;
}

/* Sorts them; of those that are there twice the first counts. */
static void index_merges(const ftk_vocab *v, struct bpe *b)
{
    ftk_oddity twice = {0};
    ftk_sort(b->merges, b->n_merges, sizeof *b->merges, compare_merges, NULL);
    size_t n = 0;
    for (size_t i = 0; i < b->n_merges; i++) {
        const struct merge *m = &b->merges[i];
        if (n > 0 && b->merges[n - 1].left == m->left && b->merges[n - 1].right == m->right)
            ftk_oddity_count(&twice, (size_t)m->rank);
        else
            b->merges[n++] = *m;
    }
    b->n_merges = n;
    for (size_t i = 0; i < n; i++) b->first[b->merges[i].left + 1]++;
    for (int i = 0; i < b->n_pieces; i++) b->first[i + 1] += b->first[i];
    if (twice.n > 0)
        ftk_vocab_warn(v,
                       "%s: elements that are there again: %zu, the first is element %zu; they do "
                       "nothing",
                       merges_key, twice.n, twice.first);
}

/* A byte begins as its token, or as its character that only merges know. */
static void find_byte_pieces(const ftk_vocab *v, struct bpe *b)
{
    uint16_t chars[256];
    byte_chars(chars);
    for (int i = 0; i < 256; i++) {
        const uint16_t c = chars[i];
        const char utf8[2] = {(char)(c < 0x80 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        const int32_t id = v->t->byte_ids[i];
        b->byte_pieces[i] = id >= 0 ? id : ftk_keys_find(&b->strangers, utf8, c < 0x80 ? 1 : 2);
    }
}

static ftk_err read_merges(const ftk_vocab *v, struct bpe *b)
{
    const ftk_host *h = &v->t->host;
    ftk_gguf_value list;
    ftk_err err = ftk_vocab_array(v, merges_key, FTK_GGUF_STRING, &list);
    if (err != FTK_OK) return err;
    /* A token of n bytes can be cut in n - 1 places. */
    if (list.count > v->text_size || list.count > INT32_MAX)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "%s has %" PRIu64 " elements, more than there are "
                              "ways to make %d tokens of %zu bytes",
                              merges_key, list.count, v->t->n_vocab, v->text_size);
    err = find_strangers(v, b, &list);
    if (err != FTK_OK) return err;
    const size_t n = (size_t)list.count;
    b->merges = ftk_alloc_raw(h, n, sizeof *b->merges);
    b->first = ftk_alloc(h, (size_t)b->n_pieces + 1, sizeof *b->first);
    if (!b->merges || !b->first)
        return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for %zu merges", n);
    const unsigned char *cursor = list.data;
    for (size_t i = 0; i < n; i++) read_merge(v, b, i, ftk_gguf_next_str(&cursor));
    index_merges(v, b);
    find_byte_pieces(v, b);
    return FTK_OK;
}

static ftk_err bpe_open(ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    struct bpe *b = t->state = ftk_alloc(&t->host, 1, sizeof *b);
    if (!b) return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for a vocabulary");
    const ftk_pre_rule *rule = NULL;
    int32_t unused = -1;
    ftk_err err = ftk_vocab_id(v, "tokenizer.ggml.unknown_token_id", &unused);
    if (err != FTK_OK) return err;
    find_unknown(v);
    err = find_bytes(v);
    if (err == FTK_OK) err = read_merges(v, b);
    if (err == FTK_OK) err = find_rule(v, &rule);
    if (err == FTK_OK) err = ftk_pre_open(&b->pre, rule, &t->host);
    if (err != FTK_OK) return err;
    t->add_bos = rule->adds_bos;
    b->ignores_merges = rule->ignores_merges;
    decode_pieces(t);
    return b->ignores_merges ? ftk_vocab_collect(v, 1u << FTK_TOKEN_NORMAL, &b->words) : FTK_OK;
}

static void bpe_free(ftk_tokenizer *t)
{
    struct bpe *b = t->state;
    if (!b) return;
    ftk_pre_free(b->pre);
    ftk_release(&t->host, b->words.v);
    ftk_release(&t->host, b->strange_text);
    ftk_release(&t->host, b->strangers.v);
    ftk_release(&t->host, b->first);
    ftk_release(&t->host, b->merges);
    ftk_release(&t->host, b);
}

/* ------------------------------------------------------------------ joining bytes */

/* Symbols are numbered by the place of their first byte, so a number stays when they grow. */
static const uint32_t none = UINT32_MAX;

struct symbol {
    int32_t id;          /* of the piece; -1: a byte without one */
    int32_t rank, to;    /* of the merge with the next one; rank -1: there is none */
    uint32_t next, prev; /* none at the ends */
};

/* A word on its way. The heap holds rank << 32 | place, the least on top: of equal merges the
 * leftmost goes first. Each merge takes one entry off and puts two at most there, of n - 1 at the
 * start, so 2 n will do; entries that no longer hold are passed over. */
struct word {
    const ftk_tokenizer *t;
    struct symbol *symbols; /* [n] */
    uint64_t *heap;         /* [2 n] */
    size_t n, n_heap;
};

static const struct merge *find_merge(const struct bpe *b, int32_t left, int32_t right)
{
    if (left < 0 || right < 0) return NULL;
    uint32_t lo = b->first[left], hi = b->first[left + 1];
    const uint32_t end = hi;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (b->merges[mid].right < right)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < end && b->merges[lo].right == right ? &b->merges[lo] : NULL;
}

static void sift_down(struct word *w, size_t at)
{
    const uint64_t moved = w->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= moved) break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    w->heap[at] = moved;
}

static void push(struct word *w, uint64_t entry)
{
    size_t at = w->n_heap++;
    for (; at > 0 && w->heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        w->heap[at] = w->heap[(at - 1) / 2];
    w->heap[at] = entry;
}

static uint64_t pop(struct word *w)
{
    const uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap > 0) sift_down(w, 0);
    return top;
}

/* Looks up the merge of a symbol with the next one. */
static bool pair(struct word *w, uint32_t at)
{
    struct symbol *s = &w->symbols[at];
    const struct merge *m =
        s->next == none ? NULL : find_merge(w->t->state, s->id, w->symbols[s->next].id);
    s->rank = m ? m->rank : -1;
    s->to = m ? m->to : -1;
    return m != NULL;
}

static uint64_t entry(const struct word *w, uint32_t at)
{
    return (uint64_t)(uint32_t)w->symbols[at].rank << 32 | at;
}

static void start_word(struct word *w, const char *text)
{
    const struct bpe *b = w->t->state;
    for (size_t i = 0; i < w->n; i++)
        w->symbols[i] = (struct symbol){
            .id = b->byte_pieces[(unsigned char)text[i]],
            .next = i + 1 < w->n ? (uint32_t)i + 1 : none,
            .prev = i > 0 ? (uint32_t)i - 1 : none,
        };
    w->n_heap = 0;
    for (size_t i = 0; i < w->n; i++)
        if (pair(w, (uint32_t)i)) w->heap[w->n_heap++] = entry(w, (uint32_t)i);
    for (size_t i = w->n_heap / 2; i-- > 0;) sift_down(w, i);
}

static void join_next(struct word *w, uint32_t at)
{
    struct symbol *s = &w->symbols[at];
    struct symbol *gone = &w->symbols[s->next];
    s->id = s->to;
    s->next = gone->next;
    gone->rank = -1;
    if (s->next != none) w->symbols[s->next].prev = at;
    if (pair(w, at)) push(w, entry(w, at));
    if (s->prev != none && pair(w, s->prev)) push(w, entry(w, s->prev));
}

static ftk_err join_all(struct word *w, const char *text, ftk_tokens *list)
{
    start_word(w, text);
    while (w->n_heap > 0) {
        const uint64_t top = pop(w);
        const uint32_t at = (uint32_t)top;
        if (w->symbols[at].rank == (int32_t)(top >> 32)) join_next(w, at);
    }
    ftk_err err = FTK_OK;
    for (uint32_t at = 0; err == FTK_OK && at != none; at = w->symbols[at].next) {
        const struct symbol *s = &w->symbols[at];
        const size_t end = s->next == none ? w->n : s->next;
        if (s->id >= 0 && s->id < w->t->n_vocab)
            err = ftk_tokens_push(list, &s->id, 1);
        else
            for (size_t i = at; err == FTK_OK && i < end; i++)
                err = ftk_tokenizer_append_byte(w->t, (unsigned char)text[i], list);
    }
    return err;
}

/* ------------------------------------------------------------------ encoding */

struct encoding {
    const ftk_tokenizer *t;
    ftk_tokens *list;
};

static ftk_err encode_long(struct word *w, const char *text, ftk_tokens *list)
{
    const ftk_host *h = &w->t->host;
    w->symbols = ftk_alloc_raw(h, w->n, sizeof *w->symbols);
    w->heap = ftk_alloc_raw(h, 2 * w->n, sizeof *w->heap);
    const ftk_err err = w->symbols && w->heap
                            ? join_all(w, text, list)
                            : ftk_fail(h, FTK_ERR_NOMEM, "no memory for a word of %zu bytes", w->n);
    ftk_release(h, w->heap);
    ftk_release(h, w->symbols);
    return err;
}

static ftk_err encode_word(void *ctx, const char *text, size_t n)
{
    enum { SHORT = 64 };
    const struct encoding *e = ctx;
    const struct bpe *b = e->t->state;
    const int32_t whole = b->ignores_merges ? ftk_keys_find(&b->words, text, n) : -1;
    if (whole >= 0) return ftk_tokens_push(e->list, &whole, 1);
    struct word w = {.t = e->t, .n = n};
    if (n > SHORT) return encode_long(&w, text, e->list);
    struct symbol symbols[SHORT];
    uint64_t heap[2 * SHORT];
    w.symbols = symbols;
    w.heap = heap;
    return join_all(&w, text, e->list);
}

static ftk_err bpe_encode(const ftk_tokenizer *t, const char *text, size_t n, ftk_tokens *list)
{
    const struct bpe *b = t->state;
    struct encoding e = {t, list};
    return ftk_pre_split(b->pre, text, n, encode_word, &e);
}

const ftk_vocab_kind ftk_vocab_bpe = {
    .name = "gpt2",
    .open = bpe_open,
    .free = bpe_free,
    .encode = bpe_encode,
};
