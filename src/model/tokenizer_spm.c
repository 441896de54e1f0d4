/* SPDX-License-Identifier: Apache-2.0
 * SentencePiece vocabularies: the ModelProto is rebuilt from the file's lists. */
#include "model/vocabulary.h"

#include "base/mem.h"
#include "model/sentencepiece_shim.h"

#include <inttypes.h>
#include <string.h>

enum {
    MAX_NESTED = 64,      /* user-defined tokens that start one another: its matcher's buffer */
    MAX_PROTO = INT32_MAX /* protobuf's own limit */
};

/* ------------------------------------------------------------------ checks */

static bool starts_with(const ftk_key *k, const ftk_key *prefix)
{
    return k->n >= prefix->n && memcmp(k->p, prefix->p, prefix->n) == 0;
}

static ftk_err check_user_defined(const ftk_vocab *v)
{
    for (int i = 0; i < v->t->n_vocab; i++) {
        const ftk_piece *p = &v->t->pieces[i];
        if (p->type == FTK_TOKEN_USER_DEFINED && memchr(p->p, 0, p->n))
            return ftk_vocab_fail(v, FTK_ERR_UNSUPPORTED,
                                  "token %d is user-defined and holds a zero byte", i);
    }
    return FTK_OK;
}

/* libsentencepiece's matcher writes down at most 64 of the user-defined tokens that start at one
 * place, but reads as many as there are. keys must be sorted. */
static ftk_err check_nesting(const ftk_vocab *v)
{
    const ftk_key *open[MAX_NESTED];
    size_t depth = 0;
    for (size_t i = 0; i < v->keys.n; i++) {
        const ftk_key *k = &v->keys.v[i];
        if (v->t->pieces[k->id].type != FTK_TOKEN_USER_DEFINED) continue;
        while (depth > 0 && !starts_with(k, open[depth - 1])) depth--;
        if (depth == MAX_NESTED)
            return ftk_vocab_fail(v, FTK_ERR_UNSUPPORTED,
                                  "more than %d user-defined tokens "
                                  "start one another (the last is token %d)",
                                  MAX_NESTED, (int)k->id);
        open[depth++] = k;
    }
    return FTK_OK;
}

static ftk_err check_bytes(const ftk_vocab *v, bool *has_bytes)
{
    ftk_tokenizer *t = v->t;
    int n = 0;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        const ftk_piece *p = &t->pieces[i];
        if (p->type != FTK_TOKEN_BYTE || p->shadowed) continue;
        t->byte_ids[ftk_vocab_byte(p)] = i;
        n++;
    }
    *has_bytes = n == 256;
    if (n == 0 || n == 256) return FTK_OK;
    return ftk_vocab_fail(v, FTK_ERR_FORMAT, "the vocabulary has %d of the 256 byte tokens", n);
}

/* Finds the one unknown token that SentencePiece knows: the one that the file names, else the
 * first that is marked as such and has a name, else the first. Others that are marked are
 * control tokens, if they are names that nobody gave a meaning, or text. Where text falls into
 * bytes there need be none. */
static ftk_err settle_unknown(const ftk_vocab *v, bool has_bytes)
{
    ftk_tokenizer *t = v->t;
    ftk_oddity others = {0};
    int32_t named = -1;
    const ftk_err err = ftk_vocab_id(v, "tokenizer.ggml.unknown_token_id", &named);
    if (err != FTK_OK) return err;
    for (int named_ones = 0; named_ones < 2; named_ones++)
        for (int32_t i = t->n_vocab - 1; i >= 0; i--)
            if (t->pieces[i].type == FTK_TOKEN_UNKNOWN &&
                (!named_ones || ftk_vocab_is_name(&t->pieces[i])))
                t->unknown = i;
    if (named >= 0 &&
        (t->pieces[named].type == FTK_TOKEN_UNKNOWN || t->pieces[named].type == FTK_TOKEN_CONTROL))
        t->unknown = named;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        if (t->pieces[i].type != FTK_TOKEN_UNKNOWN || i == t->unknown) continue;
        t->pieces[i].type = ftk_vocab_is_name(&t->pieces[i]) ? FTK_TOKEN_CONTROL : FTK_TOKEN_NORMAL;
        ftk_oddity_count(&others, (size_t)i);
    }
    if (others.n > 0)
        ftk_vocab_warn(v,
                       "tokens marked as unknown beside token %d: %zu, the first is token %zu; "
                       "names among them are read as control tokens, the others as text",
                       (int)t->unknown, others.n, others.first);
    if (t->unknown >= 0)
        t->pieces[t->unknown].type = FTK_TOKEN_UNKNOWN;
    else if (!has_bytes)
        return ftk_vocab_fail(v, FTK_ERR_FORMAT,
                              "the vocabulary has no unknown token, and no byte "
                              "tokens that would do in its place");
    return FTK_OK;
}

/* ------------------------------------------------------------------ the ModelProto */

/* Protobuf's wire format: a tag is field number * 8 + 0 (varint), 2 (bytes) or 5 (32 bits). */
enum { VARINT = 0, BYTES = 2, FIXED32 = 5 };

static unsigned char *put_varint(unsigned char *out, uint64_t u)
{
    for (; u >= 0x80; u >>= 7) *out++ = (unsigned char)(u | 0x80);
    *out++ = (unsigned char)u;
    return out;
}

static unsigned char *put_number(unsigned char *out, unsigned field, uint64_t u)
{
    return put_varint(put_varint(out, field * 8 + VARINT), u);
}

static unsigned char *put_bytes(unsigned char *out, unsigned field, const void *p, size_t n)
{
    out = put_varint(put_varint(out, field * 8 + BYTES), n);
    memcpy(out, p, n);
    return out + n;
}

enum {
    PIECE_ROOM = 24, /* most that put_piece() adds to a name */
    NAME_SIZE = 9,   /* of the names it makes up */
    SPECS_ROOM = 128
};

/* Tokens that text of a user can never turn into. */
static bool is_hidden(const ftk_piece *p)
{
    if (p->type == FTK_TOKEN_UNKNOWN) return false;
    return p->type == FTK_TOKEN_CONTROL || p->n == 0 || p->shadowed;
}

/* SentencePiece { piece = 1, score = 2, type = 3 }. Hidden and unknown tokens get a name that no
 * valid UTF-8 text holds, as names must differ and not be empty. */
static unsigned char *put_piece(unsigned char *out, const ftk_piece *p, int32_t id,
                                const unsigned char score[4])
{
    unsigned char body[3 * FTK_MAX_PIECE + PIECE_ROOM], *end = body;
    const bool hidden = is_hidden(p);
    if (hidden || p->type == FTK_TOKEN_UNKNOWN) {
        char name[NAME_SIZE] = "\xFF";
        for (int i = 1; i < NAME_SIZE; i++)
            name[i] = (char)('a' + ((uint32_t)id >> 4 * (i - 1)) % 16);
        end = put_bytes(end, 1, name, NAME_SIZE);
    } else {
        end = put_bytes(end, 1, p->p, p->n);
    }
    end = put_varint(end, 2 * 8 + FIXED32);
    memcpy(end, score, 4);
    end = put_number(end + 4, 3, hidden ? FTK_TOKEN_CONTROL : p->type);
    return put_bytes(out, 1, body, (size_t)(end - body));
}

/* The unknown token of a vocabulary that has none: behind all others, and never used. */
static unsigned char *put_unknown(unsigned char *out, const ftk_tokenizer *t)
{
    static const unsigned char score[4] = {0};
    const ftk_piece p = {.p = "", .type = FTK_TOKEN_UNKNOWN};
    return t->unknown >= 0 ? out : put_piece(out, &p, t->n_vocab, score);
}

/* TrainerSpec { model_type = 3 (BPE), vocab_size = 4, byte_fallback = 35, unk_id = 40 } and
 * NormalizerSpec { name = 1, add_dummy_prefix = 3, remove_extra_whitespaces = 4,
 * escape_whitespaces = 5 }. The space in front is put by append_plain(), unless all spaces in front
 * are taken away first. */
static unsigned char *put_specs(unsigned char *out, const ftk_tokenizer *t, bool has_bytes)
{
    unsigned char body[SPECS_ROOM / 2], *end = body;
    end = put_number(end, 3, 2);
    const int32_t unknown = t->unknown >= 0 ? t->unknown : t->n_vocab;
    end = put_number(end, 4, (uint64_t)t->n_vocab + (t->unknown < 0));
    end = put_number(end, 35, has_bytes);
    end = put_number(end, 40, (uint64_t)unknown);
    out = put_bytes(out, 2, body, (size_t)(end - body));
    end = put_bytes(body, 1, "identity", 8);
    end = put_number(end, 3, t->squeezes && t->add_prefix);
    end = put_number(end, 4, t->squeezes);
    end = put_number(end, 5, 1);
    return put_bytes(out, 3, body, (size_t)(end - body));
}

/* SentencePiece of the ModelProto { pieces = 1, trainer_spec = 2, normalizer_spec = 3 }. */
static ftk_err build(const ftk_vocab *v, bool has_bytes)
{
    ftk_tokenizer *t = v->t;
    const uint64_t size =
        v->text_size + ((uint64_t)t->n_vocab + 1) * (PIECE_ROOM + NAME_SIZE) + SPECS_ROOM;
    if (size > MAX_PROTO)
        return ftk_vocab_fail(v, FTK_ERR_UNSUPPORTED, "the vocabulary's text is over 2 GiB");
    unsigned char *proto = ftk_alloc(&t->host, (size_t)size, 1);
    if (!proto)
        return ftk_vocab_fail(v, FTK_ERR_NOMEM, "no memory for the vocabulary (%" PRIu64 " bytes)",
                              size);
    unsigned char *end = proto;
    for (int32_t i = 0; i < t->n_vocab; i++)
        end = put_piece(end, &t->pieces[i], i, v->scores.data + 4 * (size_t)i);
    end = put_unknown(end, t);
    end = put_specs(end, t, has_bytes);
    char why[200] = "";
    ftk_spm *spm = NULL;
    const ftk_err err = ftk_spm_open(&spm, proto, (size_t)(end - proto), why, sizeof why);
    ftk_release(&t->host, proto);
    t->state = spm;
    if (err == FTK_OK) return FTK_OK;
    return ftk_vocab_fail(v, err, "SentencePiece refuses the vocabulary: %s", why);
}

/* ------------------------------------------------------------------ the kind */

/* Replaces a piece's text by what it stands for, in place: that is never longer. */
static void decode_piece(ftk_tokenizer *t, ftk_piece *p)
{
    char *const text = t->text + (p->p - t->text);
    if (p->type == FTK_TOKEN_BYTE) {
        text[0] = (char)ftk_vocab_byte(p);
        p->n = 1;
    } else if (p->type != FTK_TOKEN_CONTROL && p->type != FTK_TOKEN_UNKNOWN) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < p->n; n++) {
            const bool space = p->n - i >= 3 && memcmp(text + i, FTK_SPACE_MARK, 3) == 0;
            text[n] = space ? ' ' : text[i];
            i += space ? 3 : 1;
        }
        p->n = n;
    }
}

static ftk_err spm_open(ftk_vocab *v)
{
    ftk_tokenizer *t = v->t;
    bool has_bytes = false;
    ftk_err err = ftk_vocab_bool(v, "tokenizer.ggml.remove_extra_whitespaces", &t->squeezes);
    if (err == FTK_OK) err = check_user_defined(v);
    if (err == FTK_OK) err = check_nesting(v);
    if (err == FTK_OK) err = check_bytes(v, &has_bytes);
    if (err == FTK_OK) err = settle_unknown(v, has_bytes);
    if (err == FTK_OK) err = build(v, has_bytes);
    for (int i = 0; err == FTK_OK && i < t->n_vocab; i++) decode_piece(t, &t->pieces[i]);
    return err;
}

static void spm_free(ftk_tokenizer *t)
{
    ftk_spm_free(t->state);
}

static ftk_err push_ids(void *ctx, const int32_t *ids, size_t n)
{
    return ftk_tokens_push(ctx, ids, n);
}

static ftk_err spm_encode(const ftk_tokenizer *t, const char *text, size_t n, ftk_tokens *list)
{
    const ftk_err err = ftk_spm_encode(t->state, text, n, push_ids, list);
    if (err == FTK_OK) return FTK_OK;
    const char *why = err == FTK_ERR_NOMEM ? "no memory to" : "SentencePiece cannot";
    return ftk_fail(&t->host, err, "%s encode a text of %zu bytes", why, n);
}

const ftk_vocab_kind ftk_vocab_spm = {
    .name = "llama",
    .needs_scores = true,
    .adds_bos = true,
    .adds_prefix = true,
    .finds_user = true,
    .marks_space = true,
    .open = spm_open,
    .free = spm_free,
    .encode = spm_encode,
};
