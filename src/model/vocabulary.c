/* SPDX-License-Identifier: Apache-2.0
 * Reading a vocabulary: what is checked for every kind, and which tokens have a meaning. */
#include "model/vocabulary.h"

#include "base/mem.h"
#include "base/sort.h"
#include "base/str.h"
#include "model/gguf.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ messages */

static void message(const ftk_vocab *v, ftk_log_level level, const char *fmt, va_list args)
{
    char line[512];
    if (vsnprintf(line, sizeof line, fmt, args) < 0) line[0] = '\0';
    ftk_log(&v->t->host, level, "%s: %s", v->path, line);
}

ftk_err ftk_vocab_fail(const ftk_vocab *v, ftk_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    message(v, FTK_LOG_ERROR, fmt, args);
    va_end(args);
    return err;
}

void ftk_vocab_warn(const ftk_vocab *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    message(v, FTK_LOG_WARN, fmt, args);
    va_end(args);
}

void ftk_oddity_count(ftk_oddity *o, size_t where)
{
    if (o->n++ == 0 || where < o->first) o->first = where;
}

/* ------------------------------------------------------------------ tokens by their text */

int ftk_keys_compare(const ftk_key *a, const ftk_key *b)
{
    const int order = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

/* Of tokens with the same text the one with the highest rank is what text becomes. */
static int rank(const ftk_piece *p)
{
    switch (p->type) {
    case FTK_TOKEN_BYTE: return 4; /* its text is no more than the name of a byte */
    case FTK_TOKEN_USER_DEFINED: return 3;
    case FTK_TOKEN_NORMAL: return 2;
    case FTK_TOKEN_UNUSED: return 1;
    default: return 0;
    }
}

static int compare(const void *a, const void *b, const void *ctx)
{
    const ftk_key *x = a, *y = b;
    const ftk_piece *pieces = ctx;
    int order = ftk_keys_compare(x, y);
    if (order == 0) order = rank(&pieces[x->id]) - rank(&pieces[y->id]);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

void ftk_keys_settle(ftk_keys *keys, ftk_piece *pieces)
{
    ftk_sort(keys->v, keys->n, sizeof *keys->v, compare, pieces);
    size_t n = 0;
    for (size_t i = 0; i < keys->n; i++) {
        if (n > 0 && ftk_keys_compare(&keys->v[n - 1], &keys->v[i]) == 0)
            pieces[keys->v[--n].id].shadowed = true;
        keys->v[n++] = keys->v[i];
    }
    keys->n = n;
}

int32_t ftk_keys_find(const ftk_keys *keys, const char *p, size_t n)
{
    if (n > UINT32_MAX) return -1;
    const ftk_key wanted = {p, (uint32_t)n, -1};
    size_t lo = 0, hi = keys->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (ftk_keys_compare(&keys->v[mid], &wanted) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    const bool found = lo < keys->n && ftk_keys_compare(&keys->v[lo], &wanted) == 0;
    return found ? keys->v[lo].id : -1;
}

/* First of the sorted keys [lo, hi) whose byte at d is at least c; all share the d bytes before,
 * and have a byte there. */
static size_t lower_bound(const ftk_key *keys, size_t lo, size_t hi, size_t d, unsigned c)
{
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if ((unsigned char)keys[mid].p[d] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int32_t ftk_keys_longest(const ftk_keys *keys, const char *p, size_t n, size_t *len)
{
    int32_t found = -1;
    size_t lo = 0, hi = keys->n;
    for (size_t d = 0; lo < hi; d++) {
        for (; lo < hi && keys->v[lo].n == d; lo++) {
            found = keys->v[lo].id;
            *len = d;
        }
        if (d == n) break;
        const unsigned c = (unsigned char)p[d];
        lo = lower_bound(keys->v, lo, hi, d, c);
        hi = lower_bound(keys->v, lo, hi, d, c + 1);
    }
    return found;
}

/* ------------------------------------------------------------------ single keys */

ftk_err ftk_vocab_id(const ftk_vocab *v, const char *key, int32_t *id)
{
    ftk_gguf_value value;
    if (!ftk_gguf_find(v->g, key, &value)) return FTK_OK;
    int64_t i;
    if (!ftk_gguf_whole(&value, &i))
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s is not an integer", key);
    if (i < 0 || i >= v->t->n_vocab)
        ftk_vocab_warn(v, "%s is %" PRId64 ", but there are only %d tokens: it is passed over", key,
                       i, v->t->n_vocab);
    else
        *id = (int32_t)i;
    return FTK_OK;
}

ftk_err ftk_vocab_bool(const ftk_vocab *v, const char *key, bool *b)
{
    ftk_gguf_value value;
    if (!ftk_gguf_find(v->g, key, &value)) return FTK_OK;
    if (value.type != FTK_GGUF_BOOL)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s is not a bool", key);
    *b = value.u != 0;
    return FTK_OK;
}

static ftk_err read_kind(const ftk_vocab *v)
{
    static const ftk_vocab_kind *const kinds[] = {&ftk_vocab_spm, &ftk_vocab_bpe};
    ftk_gguf_value kind;
    if (!ftk_gguf_find(v->g, "tokenizer.ggml.model", &kind))
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "the vocabulary is missing: there is no key tokenizer.ggml.model");
    if (kind.type != FTK_GGUF_STRING)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "tokenizer.ggml.model is not a string");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (ftk_str_is(kind.s, kinds[i]->name)) v->t->kind = kinds[i];
    if (!v->t->kind)
        return ftk_vocab_fail(v, FTK_ERR_UNSUPPORTED,
                              "vocabulary kind '%s' is not supported yet: only llama "
                              "(SentencePiece) and gpt2 (byte pairs)",
                              FTK_SHOW(kind.s));
    if (ftk_gguf_find(v->g, "tokenizer.ggml.precompiled_charsmap", &kind))
        return ftk_vocab_fail(v, FTK_ERR_UNSUPPORTED,
                              "a vocabulary that rewrites characters (tokenizer.ggml."
                              "precompiled_charsmap) is not supported yet");
    return FTK_OK;
}

/* ------------------------------------------------------------------ lists */

ftk_err ftk_vocab_array(const ftk_vocab *v, const char *key, ftk_gguf_type elem,
                        ftk_gguf_value *value)
{
    if (!ftk_gguf_find(v->g, key, value))
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s is missing", key);
    if (value->type != FTK_GGUF_ARRAY)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s is not an array", key);
    const bool signs_differ = elem == FTK_GGUF_I32 && value->elem == FTK_GGUF_U32;
    if (value->elem != elem && !signs_differ)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s holds elements of type %s, not %s", key,
                              ftk_gguf_type_name(value->elem), ftk_gguf_type_name(elem));
    return FTK_OK;
}

/* One element for each token; what stands behind those is passed over. */
static ftk_err read_list(const ftk_vocab *v, const char *key, ftk_gguf_type elem, bool needed,
                         ftk_gguf_value *value)
{
    ftk_gguf_value there;
    value->data = NULL;
    if (!needed && !ftk_gguf_find(v->g, key, &there)) return FTK_OK;
    const ftk_err err = ftk_vocab_array(v, key, elem, value);
    if (err != FTK_OK || value->count == (uint64_t)v->t->n_vocab) return err;
    if (value->count < (uint64_t)v->t->n_vocab)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "%s has %" PRIu64 " elements, but there are %d tokens", key,
                              value->count, v->t->n_vocab);
    ftk_vocab_warn(v,
                   "%s has %" PRIu64 " elements, but there are only %d tokens: the rest is "
                   "passed over",
                   key, value->count, v->t->n_vocab);
    return FTK_OK;
}

static ftk_err read_lists(ftk_vocab *v)
{
    ftk_err err = ftk_vocab_array(v, "tokenizer.ggml.tokens", FTK_GGUF_STRING, &v->tokens);
    if (err != FTK_OK) return err;
    if (v->tokens.count == 0)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "tokenizer.ggml.tokens is empty");
    if (v->tokens.count > INT32_MAX)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "tokenizer.ggml.tokens has %" PRIu64
                              " elements, more than an id can count",
                              v->tokens.count);
    v->t->n_vocab = (int)v->tokens.count;
    err = read_list(v, "tokenizer.ggml.scores", FTK_GGUF_F32, v->t->kind->needs_scores, &v->scores);
    if (err == FTK_OK)
        err = read_list(v, "tokenizer.ggml.token_type", FTK_GGUF_I32, false, &v->types);
    return err;
}

/* ------------------------------------------------------------------ pieces */

static uint32_t read_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool ftk_vocab_is_name(const ftk_piece *p)
{
    const char first = p->n > 2 ? p->p[0] : 0, last = p->n > 2 ? p->p[p->n - 1] : 0;
    return (first == '<' && last == '>') || (first == '[' && last == ']');
}

int ftk_vocab_byte(const ftk_piece *p)
{
    static const char digits[] = "0123456789ABCDEF";
    if (p->n != 6 || memcmp(p->p, "<0x", 3) != 0 || p->p[5] != '>') return -1;
    const char *hi = memchr(digits, p->p[3], 16);
    const char *lo = memchr(digits, p->p[4], 16);
    return hi && lo ? (int)(hi - digits) * 16 + (int)(lo - digits) : -1;
}

static ftk_err check_piece(const ftk_vocab *v, int32_t id, const ftk_piece *p)
{
    if (p->n > FTK_MAX_PIECE)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "token %d has a text of %" PRIu32 " bytes; at most %d are allowed",
                              (int)id, p->n, FTK_MAX_PIECE);
    if (p->type < FTK_TOKEN_NORMAL || p->type > FTK_TOKEN_BYTE)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "token %d has type %" PRIu32 "; known are 1 to 6",
                              (int)id, read_u32(v->types.data + 4 * (size_t)id));
    if (v->scores.data && (read_u32(v->scores.data + 4 * (size_t)id) & 0x7FFFFFFF) > 0x7F800000)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT, "token %d has a score that is not a number",
                              (int)id);
    if (p->type == FTK_TOKEN_BYTE && ftk_vocab_byte(p) < 0)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "token %d is a byte, but is not named <0x00> to <0xFF>", (int)id);
    return FTK_OK;
}

/* The type of a token where the file has no list of types. */
static uint8_t type_by_name(const ftk_vocab *v, ftk_str text)
{
    if (v->t->kind != &ftk_vocab_spm) return FTK_TOKEN_NORMAL;
    if (ftk_vocab_byte(&(ftk_piece){.p = text.p, .n = text.n < 7 ? (uint32_t)text.n : 7}) >= 0)
        return FTK_TOKEN_BYTE;
    if (ftk_str_is(text, "<unk>")) return FTK_TOKEN_UNKNOWN;
    return ftk_str_is(text, "<s>") || ftk_str_is(text, "</s>") ? FTK_TOKEN_CONTROL
                                                               : FTK_TOKEN_NORMAL;
}

/* Whether the text is a word by which chat templates frame a turn. A vocabulary may call such
 * user-defined; they are taken for control tokens all the same. */
static bool frames_turns(ftk_str text)
{
    static const char *const known[] = {
        "<|im_start|>",      "<|im_end|>",    "<|start_header_id|>",
        "<|end_header_id|>", "<|eot_id|>",    "<start_of_turn>",
        "<end_of_turn>",     "[INST]",        "[/INST]",
        "<|system|>",        "<|user|>",      "<|assistant|>",
        "<|end|>",           "<|endoftext|>", "<|begin_of_text|>",
        "<|end_of_text|>",   "<|eom_id|>",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ftk_str_is(text, known[i])) return true;
    return false;
}

/* A token that frames a turn or ends an answer must not come out of a user's text, whatever the
 * file calls it. 0: the type is not known. */
static uint8_t type_of(const ftk_vocab *v, size_t i, ftk_str text)
{
    const uint32_t type = v->types.data ? read_u32(v->types.data + 4 * i) : type_by_name(v, text);
    const bool loose = type == FTK_TOKEN_USER_DEFINED || type == FTK_TOKEN_NORMAL;
    if (loose && frames_turns(text)) return FTK_TOKEN_CONTROL;
    return type > FTK_TOKEN_BYTE ? 0 : (uint8_t)type;
}

/* SentencePiece marks the spaces of all its pieces, but files have them plain where the piece is
 * user-defined. */
static bool has_plain_spaces(const ftk_vocab *v, uint8_t type)
{
    return v->t->kind->marks_space && type == FTK_TOKEN_USER_DEFINED;
}

/* The bytes that a token's text takes once it is copied. */
static size_t copied_size(const ftk_vocab *v, size_t i, ftk_str s)
{
    size_t n = s.n;
    if (n > 0 && memchr(s.p, ' ', n) && has_plain_spaces(v, type_of(v, i, s)))
        for (size_t k = 0; k < s.n; k++) n += s.p[k] == ' ' ? strlen(FTK_SPACE_MARK) - 1 : 0;
    return n;
}

static char *copy_text(const ftk_vocab *v, char *to, ftk_str s, uint8_t type)
{
    if (!has_plain_spaces(v, type)) {
        if (s.n > 0) memcpy(to, s.p, s.n);
        return to + s.n;
    }
    for (size_t i = 0; i < s.n; i++) {
        const bool space = s.p[i] == ' ';
        const size_t n = space ? strlen(FTK_SPACE_MARK) : 1;
        memcpy(to, space ? FTK_SPACE_MARK : s.p + i, n);
        to += n;
    }
    return to;
}

/* Copies the tokens' texts, with marks for all spaces where the kind wants them, and checks them
 * one by one. */
static ftk_err read_pieces(ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    const size_t n = (size_t)t->n_vocab;
    const unsigned char *cursor = v->tokens.data;
    for (size_t i = 0; i < n; i++) v->text_size += copied_size(v, i, ftk_gguf_next_str(&cursor));
    t->pieces = ftk_alloc(&t->host, n, sizeof *t->pieces);
    t->text = ftk_alloc(&t->host, v->text_size, 1);
    v->keys.v = ftk_alloc(&t->host, n, sizeof *v->keys.v);
    if (!t->pieces || !t->text || !v->keys.v)
        return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for a vocabulary of %zu tokens", n);
    cursor = v->tokens.data;
    char *text = t->text;
    for (size_t i = 0; i < n; i++) {
        const ftk_str s = ftk_gguf_next_str(&cursor);
        ftk_piece p = {
            .p = s.p, .n = s.n > UINT32_MAX ? UINT32_MAX : (uint32_t)s.n, .type = type_of(v, i, s)};
        const ftk_err err = check_piece(v, (int32_t)i, &p);
        if (err != FTK_OK) return err;
        p.p = text;
        text = copy_text(v, text, s, p.type);
        p.n = (uint32_t)(text - p.p);
        t->pieces[i] = p;
        if (p.n > 0) v->keys.v[v->keys.n++] = (ftk_key){p.p, p.n, (int32_t)i};
    }
    ftk_keys_settle(&v->keys, t->pieces);
    return FTK_OK;
}

/* What is read all the same, and how. */
static void say_what_is_odd(const ftk_vocab *v)
{
    ftk_oddity empty = {0}, twins = {0}, unmarked = {0};
    const unsigned char *cursor = v->tokens.data;
    for (size_t i = 0; i < (size_t)v->t->n_vocab; i++) {
        const ftk_str s = ftk_gguf_next_str(&cursor);
        const ftk_piece *p = &v->t->pieces[i];
        if (p->n == 0) ftk_oddity_count(&empty, i);
        if (p->shadowed) ftk_oddity_count(&twins, i);
        if (v->types.data && p->type != read_u32(v->types.data + 4 * i) && frames_turns(s))
            ftk_oddity_count(&unmarked, i);
    }
    if (!v->types.data && v->t->kind == &ftk_vocab_spm)
        ftk_vocab_warn(v, "tokenizer.ggml.token_type is missing: bytes, <unk>, <s> and </s> are "
                          "told by their names, and all other tokens are taken for plain text");
    if (empty.n > 0)
        ftk_vocab_warn(v,
                       "tokens with an empty text: %zu, the first is token %zu; no text becomes "
                       "one of them",
                       empty.n, empty.first);
    if (twins.n > 0) {
        const ftk_piece *p = &v->t->pieces[twins.first];
        ftk_vocab_warn(v,
                       "tokens with the same text as another: %zu, the first is token %zu (as "
                       "token %d); text becomes the other one",
                       twins.n, twins.first, (int)ftk_keys_find(&v->keys, p->p, p->n));
    }
    if (unmarked.n > 0) {
        const ftk_piece *p = &v->t->pieces[unmarked.first];
        ftk_vocab_warn(v,
                       "tokens that frame turns but are not marked as control tokens: %zu, the "
                       "first is token %zu (%s); they are read as such",
                       unmarked.n, unmarked.first, FTK_SHOW(((ftk_str){p->p, p->n})));
    }
}

ftk_err ftk_vocab_read(ftk_vocab *v)
{
    ftk_err err = read_kind(v);
    if (err == FTK_OK) err = read_lists(v);
    if (err == FTK_OK) err = read_pieces(v);
    if (err == FTK_OK) say_what_is_odd(v);
    return err;
}

/* ------------------------------------------------------------------ tokens with a meaning */

ftk_err ftk_vocab_collect(const ftk_vocab *v, unsigned types, ftk_keys *keys)
{
    ftk_tokenizer *t = v->t;
    size_t n = 0;
    for (int i = 0; i < t->n_vocab; i++) n += types >> t->pieces[i].type & 1;
    keys->v = ftk_alloc(&t->host, n, sizeof *keys->v);
    if (!keys->v) return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for %zu tokens", n);
    for (int32_t i = 0; i < t->n_vocab; i++) {
        const ftk_piece *p = &t->pieces[i];
        if ((types >> p->type & 1) && p->n > 0) keys->v[keys->n++] = (ftk_key){p->p, p->n, i};
    }
    ftk_keys_settle(keys, t->pieces);
    return FTK_OK;
}

static ftk_err collect_specials(const ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    const unsigned control = 1u << FTK_TOKEN_CONTROL | 1u << FTK_TOKEN_UNKNOWN;
    const unsigned user = 1u << FTK_TOKEN_USER_DEFINED;
    const ftk_err err = ftk_vocab_collect(v, control | user, &t->specials);
    if (err != FTK_OK || t->kind->finds_user) return err;
    return ftk_vocab_collect(v, user, &t->user);
}

int32_t ftk_tokenizer_special(const ftk_tokenizer *t, const char *text, size_t n)
{
    return ftk_keys_find(&t->specials, text, n);
}

bool ftk_tokenizer_is_end(const ftk_tokenizer *t, int32_t token)
{
    for (size_t i = 0; i < t->n_ends; i++)
        if (t->ends[i] == token) return true;
    return false;
}

/* The first of the names that is a special token, or -1. */
static int32_t first_special(const ftk_tokenizer *t, const char *const *names)
{
    int32_t id = -1;
    for (; *names && id < 0; names++) id = ftk_tokenizer_special(t, *names, strlen(*names));
    return id;
}

static void add_end(ftk_tokenizer *t, int32_t id)
{
    if (id >= 0 && !ftk_tokenizer_is_end(t, id) && t->n_ends < FTK_MAX_ENDS)
        t->ends[t->n_ends++] = id;
}

/* Where a vocabulary has parts within one answer, <|end|> ends such a part and not the whole. */
static bool answers_have_parts(const ftk_tokenizer *t)
{
    return ftk_tokenizer_special(t, "<|return|>", 10) >= 0 &&
           ftk_tokenizer_special(t, "<|call|>", 8) >= 0;
}

/* The tokens that end an answer by their names alone. */
static void add_named_ends(ftk_tokenizer *t)
{
    static const char *const names[] = {
        "</s>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<|return|>",
        "<|call|>",
        "<EOT>",
        "[EOT]",
        "<\357\275\234end\342\226\201of\342\226\201sentence\357\275\234>", /* DeepSeek's */
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const int32_t id = ftk_tokenizer_special(t, names[i], strlen(names[i]));
        if (id >= 0 && t->pieces[id].type == FTK_TOKEN_CONTROL) add_end(t, id);
    }
    if (!answers_have_parts(t)) add_end(t, ftk_tokenizer_special(t, "<|end|>", 7));
}

static ftk_err read_ids(const ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    const char *const ends_of_turn[] = {"<|im_end|>", "<|eot_id|>", "<end_of_turn>",
                                        answers_have_parts(t) ? NULL : "<|end|>", NULL};
    static const char *const begin[] = {"<s>", NULL}, *const end[] = {"</s>", NULL};
    int32_t eom = -1;
    t->bos = first_special(t, begin);
    t->eos = first_special(t, end);
    t->eot = first_special(t, ends_of_turn);
    ftk_err err = ftk_vocab_id(v, "tokenizer.ggml.bos_token_id", &t->bos);
    if (err == FTK_OK) err = ftk_vocab_id(v, "tokenizer.ggml.eos_token_id", &t->eos);
    if (err == FTK_OK) err = ftk_vocab_id(v, "tokenizer.ggml.eot_token_id", &t->eot);
    if (err == FTK_OK) err = ftk_vocab_id(v, "tokenizer.ggml.eom_token_id", &eom);
    if (err == FTK_OK) err = ftk_vocab_id(v, "tokenizer.ggml.padding_token_id", &t->padding);
    if (err != FTK_OK) return err;
    add_end(t, t->eos);
    add_end(t, t->eot);
    add_end(t, eom);
    add_named_ends(t);
    return FTK_OK;
}

/* Files do not say which tokens take the white space behind them. Those of Phi-3 do. */
static void find_strips(const ftk_vocab *v)
{
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    ftk_tokenizer *t = v->t;
    if (t->kind != &ftk_vocab_spm ||
        !ftk_str_is(ftk_gguf_text(v->g, "general.architecture"), "phi3"))
        return;
    for (size_t i = 0; i < t->specials.n; i++) t->pieces[t->specials.v[i].id].strips = true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const int32_t id = ftk_tokenizer_special(t, others[i], strlen(others[i]));
        if (id >= 0) t->pieces[id].strips = false;
    }
}

static ftk_err read_flags(const ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    ftk_err err = ftk_vocab_bool(v, "tokenizer.ggml.add_bos_token", &t->add_bos);
    if (err == FTK_OK) err = ftk_vocab_bool(v, "tokenizer.ggml.add_eos_token", &t->add_eos);
    t->add_bos = t->add_bos && t->bos >= 0;
    t->add_eos = t->add_eos && t->eos >= 0;
    return err;
}

/* ------------------------------------------------------------------ chat templates */

static const char chat_key[] = "tokenizer.chat_template";

/* The name of the template under a key, in *name; false if it is no template's. */
static bool is_chat_key(ftk_str key, ftk_str *name)
{
    const size_t n = sizeof chat_key - 1;
    if (key.n < n || memcmp(key.p, chat_key, n) != 0) return false;
    *name = key.n > n + 1 ? (ftk_str){key.p + n + 1, key.n - n - 1} : (ftk_str){"default", 7};
    return key.n == n || (key.n > n + 1 && key.p[n] == '.');
}

/* One that cannot be read is no reason to refuse a model: it is said when it is asked for. */
static ftk_err read_template(const ftk_vocab *v, ftk_str name, ftk_str text)
{
    ftk_own_chat *chat = &v->t->chats[v->t->n_chats];
    chat->name = ftk_alloc(&v->t->host, name.n + 1, 1);
    if (!chat->name) return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for a chat template");
    memcpy(chat->name, name.p, name.n);
    v->t->n_chats++;
    chat->err = ftk_template_parse(&chat->t, text.p, text.n, &v->t->host, &chat->error);
    return chat->err == FTK_ERR_NOMEM
               ? ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for a chat template")
               : FTK_OK;
}

static ftk_err read_chats(const ftk_vocab *v)
{
    ftk_str key, name;
    ftk_gguf_value value;
    size_t n = 0;
    for (size_t i = 0; i < ftk_gguf_n_keys(v->g); i++) {
        ftk_gguf_key(v->g, i, &key, &value);
        if (!is_chat_key(key, &name)) continue;
        if (value.type != FTK_GGUF_STRING)
            return ftk_vocab_fail(v, FTK_ERR_FORMAT, "%s is not a string", chat_key);
        n++;
    }
    if (n == 0) return FTK_OK;
    v->t->chats = ftk_alloc(&v->t->host, n, sizeof *v->t->chats);
    if (!v->t->chats)
        return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for %zu chat templates", n);
    ftk_err err = FTK_OK;
    for (size_t i = 0; err == FTK_OK && i < ftk_gguf_n_keys(v->g); i++) {
        ftk_gguf_key(v->g, i, &key, &value);
        if (is_chat_key(key, &name)) err = read_template(v, name, value.s);
    }
    return err;
}

ftk_err ftk_vocab_settle(ftk_vocab *v)
{
    ftk_err err = collect_specials(v);
    if (err == FTK_OK) find_strips(v);
    if (err == FTK_OK) err = read_ids(v);
    if (err == FTK_OK) err = read_flags(v);
    if (err == FTK_OK) err = read_chats(v);
    return err;
}
