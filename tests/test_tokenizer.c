/* SPDX-License-Identifier: Apache-2.0
 * Tests of the tokenizer: reference cases, control tokens, broken text, broken vocabularies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/sentencepiece_shim.h"
#include "vocab.h"

#include <math.h>
#include <time.h>

#define LLAMA_SPM FTK_SHARED_DIR "/tok-llamacpp-vocabs/ggml-vocab-llama-spm.gguf"
#define MARK      "\xE2\x96\x81"

static const char *const words[] = {"!<|im_start|>",
                                    "!<|im_end|>",
                                    "!<|im",
                                    "!Q",
                                    "+<tool>",
                                    "+<tool>x",
                                    "he",
                                    "ll",
                                    "hell",
                                    "hello",
                                    MARK "hello",
                                    MARK "w",
                                    "or",
                                    "ld",
                                    "orld",
                                    MARK "world",
                                    MARK MARK,
                                    "<s",
                                    "im",
                                    "|>",
                                    NULL};

/* ------------------------------------------------------------------ helpers */

static char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *p = NULL;
    *n = 0;
    for (size_t got = 1; got > 0; *n += got) {
        p = realloc(p, *n + 65537);
        assert_non_null(p);
        got = fread(p + *n, 1, 65536, f);
    }
    p[*n] = '\0';
    fclose(f);
    return p;
}

static void skip_without(const char *path)
{
    if (access(path, R_OK) == 0) return;
    print_message("[  SKIPPED ] *** %s is not there: THIS WAS NOT TESTED ***\n", path);
    skip();
}

/* The ids of a text; the caller frees them. */
static int32_t *encode(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags,
                       size_t *n_ids)
{
    const ftk_err sized = ftk_tokenizer_encode(t, text, n, flags, NULL, 0, n_ids);
    assert_int_equal(sized, *n_ids > 0 ? FTK_ERR_SPACE : FTK_OK);
    int32_t *ids = malloc((*n_ids + 1) * sizeof *ids);
    assert_non_null(ids);
    ids[*n_ids] = -77;
    size_t again = 0;
    assert_int_equal(ftk_tokenizer_encode(t, text, n, flags, ids, *n_ids, &again), FTK_OK);
    assert_int_equal(again, *n_ids);
    assert_int_equal(ids[*n_ids], -77);
    return ids;
}

static void assert_decodes(const ftk_tokenizer *t, const int32_t *ids, size_t n_ids, unsigned flags,
                           const char *text, size_t n)
{
    char *out = malloc(n + 1);
    size_t n_out = 0;
    out[n] = '#';
    if (n > 0) {
        assert_int_equal(ftk_tokenizer_decode(t, ids, n_ids, flags, out, n - 1, &n_out),
                         FTK_ERR_SPACE);
        assert_int_equal(n_out, n);
    }
    assert_int_equal(ftk_tokenizer_decode(t, ids, n_ids, flags, out, n, &n_out), FTK_OK);
    assert_int_equal(n_out, n);
    if (n > 0) assert_memory_equal(out, text, n);
    assert_int_equal(out[n], '#');
    free(out);
}

static void assert_round_trip(const ftk_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    size_t n_ids;
    int32_t *ids = encode(t, text, n, flags, &n_ids);
    assert_decodes(t, ids, n_ids, flags & FTK_TOK_SPECIAL, text, n);
    free(ids);
}

static void assert_ids(const ftk_tokenizer *t, const char *text, unsigned flags,
                       const int32_t *want, size_t n_want)
{
    size_t n;
    int32_t *ids = encode(t, text, strlen(text), flags, &n);
    for (size_t i = 0; i < n || i < n_want; i++)
        if (i >= n || i >= n_want || ids[i] != want[i])
            fail_msg("\"%s\": token %zu is %d, not %d", text, i, i < n ? (int)ids[i] : -1,
                     i < n_want ? (int)want[i] : -1);
    free(ids);
}

#define ASSERT_IDS(t, text, flags, ...)                                                            \
    assert_ids(t, text, flags, (const int32_t[]){__VA_ARGS__},                                     \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static struct vocab_file file;

static ftk_tokenizer *open_small(void)
{
    ftk_tokenizer *t = NULL;
    vocab_init(&file, words);
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    return t;
}

static int32_t id(const char *text)
{
    const int32_t found = vocab_id(&file, text);
    assert_true(found >= 0);
    return found;
}

/* ------------------------------------------------------------------ reference cases */

static void test_reference_cases(void **state)
{
    (void)state;
    skip_without(LLAMA_SPM);
    ftk_tokenizer *t = NULL;
    assert_int_equal(vocab_open_file(&t, LLAMA_SPM, NULL), FTK_OK);
    assert_int_equal(ftk_tokenizer_n_vocab(t), 32000);
    assert_int_equal(ftk_tokenizer_bos(t), 1);
    assert_int_equal(ftk_tokenizer_eos(t), 2);
    assert_int_equal(ftk_tokenizer_eot(t), -1);
    assert_true(ftk_tokenizer_add_bos(t));
    static const char mark[] = "\n__ggml_vocab_test__\n";
    size_t n_in, n_out;
    char *in = read_all(LLAMA_SPM ".inp", &n_in), *out = read_all(LLAMA_SPM ".out", &n_out);
    assert_non_null(in);
    assert_non_null(out);
    int n_cases = 0;
    for (char *text = in, *line = out; text; n_cases++) {
        char *end = strstr(text, mark);
        const size_t n = end ? (size_t)(end - text) : strlen(text);
        size_t n_ids;
        int32_t *ids = encode(t, text, n, 0, &n_ids);
        char *eol = strchr(line, '\n');
        assert_true(eol || !end);
        if (eol) *eol = '\0';
        for (size_t i = 0; i < n_ids; i++) {
            char *after;
            const long want = strtol(line, &after, 10);
            if (after == line || want != ids[i])
                fail_msg("case %d, token %zu: %d, not %ld", n_cases, i, (int)ids[i], want);
            line = after;
        }
        while (*line == ' ') line++;
        if (*line) fail_msg("case %d: %zu tokens are too few", n_cases, n_ids);
        assert_decodes(t, ids, n_ids, 0, text, n);
        free(ids);
        line = eol ? eol + 1 : NULL;
        text = end ? end + strlen(mark) : NULL;
    }
    assert_int_equal(n_cases, 47);
    free(in);
    free(out);
    ftk_tokenizer_free(t);
}

struct ids {
    int32_t v[1 << 20];
    size_t n;
};

static ftk_err take(void *ctx, const int32_t *v, size_t n)
{
    struct ids *ids = ctx;
    assert_true(n <= sizeof ids->v / sizeof *ids->v);
    memcpy(ids->v, v, n * sizeof *v);
    ids->n = n;
    return FTK_OK;
}

/* The vocabulary rebuilt from the GGUF against the file it was once made of. */
static void test_same_as_sentencepiece(void **state)
{
    (void)state;
    static const char model[] = FTK_SHARED_DIR "/tok-llama2/tokenizer.model";
    static const char book[] = FTK_SHARED_DIR "/tok-sentencepiece/botchan.txt";
    skip_without(model);
    skip_without(book);
    skip_without(LLAMA_SPM);
    ftk_tokenizer *t = NULL;
    assert_int_equal(vocab_open_file(&t, LLAMA_SPM, NULL), FTK_OK);
    size_t n_model = 0, n_book = 0;
    char *proto = read_all(model, &n_model), *text = read_all(book, &n_book);
    ftk_spm *spm = NULL;
    char why[100];
    assert_int_equal(ftk_spm_open(&spm, proto, n_model, why, sizeof why), FTK_OK);
    static struct ids want;
    for (char *line = text; line && *line;) {
        char *eol = strchr(line, '\n');
        /* A few lines at a time, with the line ends in them. */
        for (int i = 0; eol && i < 3; i++) {
            char *more = strchr(eol + 1, '\n');
            if (more) eol = more;
        }
        const size_t n = eol ? (size_t)(eol - line) : strlen(line);
        assert_int_equal(ftk_spm_encode(spm, line, n, take, &want), FTK_OK);
        size_t n_ids;
        int32_t *ids = encode(t, line, n, 0, &n_ids);
        assert_int_equal(n_ids, want.n);
        assert_memory_equal(ids, want.v, n_ids * sizeof *ids);
        assert_decodes(t, ids, n_ids, 0, line, n);
        free(ids);
        line = eol ? eol + 1 : NULL;
    }
    ftk_spm_free(spm);
    free(proto);
    free(text);
    ftk_tokenizer_free(t);
}

static double seconds(void)
{
    struct timespec ts;
    timespec_get(&ts, TIME_UTC);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void test_large_text(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_small();
    const size_t n = 1 << 20;
    char *text = malloc(n);
    uint64_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        text[i] = "hello world\n"[(seed >> 33) % 12];
    }
    const double start = seconds();
    assert_round_trip(t, text, n, 0);
    memset(text, 'l', n);
    assert_round_trip(t, text, n, FTK_TOK_SPECIAL);
    memset(text, '\xFF', n);
    assert_round_trip(t, text, n, 0);
    print_message("encoded 6 MiB and decoded 3 in %.2f s\n", seconds() - start);
    free(text);
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ flags and control tokens */

static void test_plain(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_small();
    size_t n = 99;
    assert_int_equal(ftk_tokenizer_encode(t, "", 0, 0, NULL, 0, &n), FTK_OK);
    assert_int_equal(n, 0);
    assert_int_equal(ftk_tokenizer_encode(t, NULL, 0, 0, NULL, 0, &n), FTK_OK);
    ASSERT_IDS(t, "hello", 0, id(MARK "hello"));
    ASSERT_IDS(t, "hello", FTK_TOK_BOS, 1, id(MARK "hello"));
    ASSERT_IDS(t, "", FTK_TOK_BOS, 1);
    ASSERT_IDS(t, "hello world", 0, id(MARK "hello"), id(MARK "world"));
    ASSERT_IDS(t, " ", 0, id(MARK MARK));
    ASSERT_IDS(t, "\n", 0, id(MARK), 3 + '\n');
    const ftk_str piece = ftk_tokenizer_piece(t, id(MARK "hello"));
    assert_int_equal(piece.n, 6);
    assert_memory_equal(piece.p, " hello", 6);
    assert_int_equal(ftk_tokenizer_piece(t, 3 + 0xF0).n, 1);
    assert_int_equal((unsigned char)ftk_tokenizer_piece(t, 3 + 0xF0).p[0], 0xF0);
    assert_int_equal(ftk_tokenizer_piece(t, id("<|im_end|>")).n, 0);
    ftk_tokenizer_free(t);
}

static void test_control_tokens(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_small();
    assert_int_equal(ftk_tokenizer_eot(t), id("<|im_end|>"));
    const int32_t start = id("<|im_start|>"), end = id("<|im_end|>"), hello = id(MARK "hello");
    ASSERT_IDS(t, "<|im_end|>", FTK_TOK_SPECIAL, end);
    /* Longest first; a fragment on either side is encoded by itself. */
    ASSERT_IDS(t, "hello<|im_start|>hello<|imhello<|im_end|>", FTK_TOK_SPECIAL, hello, start, hello,
               id("<|im"), hello, end);
    ASSERT_IDS(t, "<s><s>hello</s>", FTK_TOK_SPECIAL | FTK_TOK_BOS, 1, 1, 1, hello, 2);
    ASSERT_IDS(t, "<tool>x<tool>hello", FTK_TOK_SPECIAL, id("<tool>x"), id("<tool>"), hello);
    ASSERT_IDS(t, "hello<tool>", 0, hello, id("<tool>"));
    /* Text of a user is never read as a control token, not even one of a single letter. */
    static const char *const texts[] = {
        "<s>", "</s>", "<|im_start|>", "x<|im_end|>y<|im", "Q", "<unk>", "<0x41>", "aQb", "QQ"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n;
        int32_t *ids = encode(t, texts[i], strlen(texts[i]), 0, &n);
        for (size_t k = 0; k < n; k++) {
            const uint32_t type = file.tokens[ids[k]].type;
            assert_true(type == VOCAB_NORMAL || type == VOCAB_BYTE);
        }
        assert_decodes(t, ids, n, 0, texts[i], strlen(texts[i]));
        free(ids);
        assert_round_trip(t, texts[i], strlen(texts[i]), FTK_TOK_SPECIAL);
    }
    ftk_tokenizer_free(t);
}

static void test_decode(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_small();
    const int32_t hello = id(MARK "hello"), end = id("<|im_end|>");
    const int32_t ids[] = {1, hello, end, hello, 2};
    assert_decodes(t, ids, 5, 0, "hello hello", 11);
    assert_decodes(t, ids, 5, FTK_TOK_SPECIAL, "<s>hello<|im_end|>hello</s>", 27);
    assert_decodes(t, ids, 0, 0, "", 0);
    assert_decodes(t, (const int32_t[]){0, 3 + 'a'}, 2, 0, " \xE2\x81\x87 a", 6);
    char text[8];
    size_t n;
    const int32_t below = -1, above = (int32_t)file.n;
    assert_int_equal(ftk_tokenizer_decode(t, &below, 1, 0, text, 8, &n), FTK_ERR_INVALID);
    assert_int_equal(ftk_tokenizer_decode(t, &above, 1, 0, text, 8, &n), FTK_ERR_INVALID);
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ any bytes */

static void test_broken_text(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_small();
    const int32_t hello = id(MARK "hello");
    ASSERT_IDS(t, "hello\xFFhello", 0, hello, 3 + 0xFF, id("hello"));
    ASSERT_IDS(t, "\xFF", 0, id(MARK), 3 + 0xFF);
    ASSERT_IDS(t, "hello\xE2\x96", 0, hello, 3 + 0xE2, 3 + 0x96);
    ASSERT_IDS(t, "hello\xC0\x80", 0, hello, 3 + 0xC0, 3 + 0x80);
    ASSERT_IDS(t, "hello\xEF\xBF\xBD", 0, hello, 3 + 0xEF, 3 + 0xBF, 3 + 0xBD);
    ASSERT_IDS(t, "\xF0\x9F\x98\x80", 0, id(MARK), 3 + 0xF0, 3 + 0x9F, 3 + 0x98, 3 + 0x80);
    assert_round_trip(t, "a\0b\0", 4, 0);
    assert_round_trip(t, "\0", 1, FTK_TOK_SPECIAL);
    uint64_t seed = 7;
    for (int round = 0; round < 3000; round++) {
        char text[40];
        const size_t n = (size_t)round % sizeof text;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            static const char likely[] = "\xF0\x9F\x98\x80\xE2\x81\x96 \xED\xA0\xC0\xF4\x90hel\xFF";
            text[i] = round % 2 ? (char)(seed >> 40) : likely[(seed >> 40) % (sizeof likely - 1)];
        }
        /* SentencePiece reads U+2581 as a space; that is the one thing it does not keep. */
        bool marked = false;
        for (size_t i = 0; i + 3 <= n; i++) marked |= memcmp(text + i, MARK, 3) == 0;
        if (!marked) assert_round_trip(t, text, n, 0);
    }
    ftk_tokenizer_free(t);
}

static void test_no_byte_tokens(void **state)
{
    (void)state;
    static const char *const few[] = {"hello", MARK "hello", "e", "l", NULL};
    vocab_init(&file, few);
    struct vocab_file *v = &file;
    for (size_t i = 3; i + 256 < v->n; i++) v->tokens[i] = v->tokens[i + 256];
    v->n -= 256;
    ftk_tokenizer *t = NULL;
    v->n -= '~' - '!' + 1 - 2; /* without the characters behind "▁" */
    assert_int_equal(vocab_open(&t, v, NULL), FTK_OK);
    ASSERT_IDS(t,
               "el\xC3\xA9"
               "e\xFFl",
               0, id(MARK), id("e"), id("l"), 0, id("e"), 0, id("l"));
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ settings */

static void test_settings(void **state)
{
    (void)state;
    ftk_tokenizer *t = NULL;
    vocab_init(&file, words);
    file.extra_bool = "tokenizer.ggml.add_space_prefix";
    file.extra_id = "tokenizer.ggml.eot_token_id";
    file.extra = 5;
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    assert_int_equal(ftk_tokenizer_eot(t), 5);
    ASSERT_IDS(t, "hello hello", FTK_TOK_BOS, 1, id("hello"), id(MARK "hello"));
    assert_round_trip(t, " hello\xFF hello", 13, 0);
    assert_round_trip(t, " hello<|im_end|> hello", 22, FTK_TOK_SPECIAL);
    bool has = true;
    assert_string_equal(ftk_tokenizer_chat_template(t, &has), "chatml");
    assert_false(has);
    ftk_tokenizer_free(t);
    file.extra_bool = "tokenizer.ggml.add_bos_token";
    file.extra_id = "tokenizer.ggml.bos_token_id";
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    assert_int_equal(ftk_tokenizer_bos(t), 5);
    ASSERT_IDS(t, "hello", FTK_TOK_BOS, id(MARK "hello"));
    ftk_tokenizer_free(t);
    file.extra_bool = NULL;
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    ASSERT_IDS(t, "hello", FTK_TOK_BOS, 5, id(MARK "hello"));
    ftk_tokenizer_free(t);
    /* A vocabulary without a BOS. */
    file.extra_id = NULL;
    strcpy(file.tokens[1].text, "<x>");
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    assert_int_equal(ftk_tokenizer_bos(t), -1);
    assert_int_equal(ftk_tokenizer_eos(t), 2);
    assert_false(ftk_tokenizer_add_bos(t));
    ASSERT_IDS(t, "hello", FTK_TOK_BOS, id(MARK "hello"));
    ftk_tokenizer_free(t);
}

/* A vocabulary that calls its unknown token a control token, but names it. */
static void test_unknown_by_id(void **state)
{
    (void)state;
    ftk_tokenizer *t = NULL;
    vocab_init(&file, words);
    file.tokens[0].type = VOCAB_CONTROL;
    file.extra_id = "tokenizer.ggml.unknown_token_id";
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    ASSERT_IDS(t, "hello", 0, id(MARK "hello"));
    ftk_tokenizer_free(t);
}

/* Tokens of type unused are split again into those they were made of. */
static void test_unused(void **state)
{
    (void)state;
    ftk_tokenizer *t = NULL;
    vocab_init(&file, words);
    file.tokens[id("hello")].type = VOCAB_UNUSED;
    file.tokens[id(MARK "hello")].type = VOCAB_UNUSED;
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    ASSERT_IDS(t, "hello", 0, id(MARK), id("hell"), id("o"));
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ refusals */

static void break_kind(struct vocab_file *v)
{
    v->kind = "bert";
}
static void break_no_kind(struct vocab_file *v)
{
    v->kind = NULL;
}
static void break_scores(struct vocab_file *v)
{
    v->fewer_scores = 1;
}
static void break_types(struct vocab_file *v)
{
    v->fewer_types = 1;
}
static void break_score_type(struct vocab_file *v)
{
    v->score_type = 5;
}
static void break_types_type(struct vocab_file *v)
{
    v->types_type = 6;
}
static void break_long(struct vocab_file *v)
{
    v->long_one = 300;
}
static void break_type(struct vocab_file *v)
{
    v->tokens[300].type = 7;
}
static void break_type_0(struct vocab_file *v)
{
    v->tokens[300].type = 256;
}
static void break_nan(struct vocab_file *v)
{
    v->tokens[300].score = NAN;
}
static void break_bytes(struct vocab_file *v)
{
    v->tokens[9].type = VOCAB_NORMAL;
}
static void break_byte_name(struct vocab_file *v)
{
    strcpy(v->tokens[13].text, "<0x0a>");
}
static void break_unknown_and_bytes(struct vocab_file *v)
{
    v->tokens[0].type = VOCAB_CONTROL;
    for (size_t i = 3; i < 3 + 256; i++) v->tokens[i].type = VOCAB_UNUSED;
}

static void break_user_zero(struct vocab_file *v)
{
    v->tokens[300].type = VOCAB_USER;
    memcpy(v->tokens[300].text, "a\0b", 4);
    v->tokens[300].n = 3;
}

static void break_bool(struct vocab_file *v)
{
    v->extra_id = "tokenizer.ggml.add_bos_token";
    v->extra = 1;
}

static void break_charsmap(struct vocab_file *v)
{
    v->extra_id = "tokenizer.ggml.precompiled_charsmap";
}

static void break_none(struct vocab_file *v)
{
    v->n = v->fewer_scores = v->fewer_types = 0;
}

/* 65 user-defined tokens that start one another. */
static void break_nesting(struct vocab_file *v)
{
    for (size_t i = 0; i < 65; i++) {
        struct vocab_token *t = &v->tokens[v->n++];
        memset(t, 0, sizeof *t);
        memset(t->text, '\n', i + 2);
        t->type = VOCAB_USER;
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        void (*spoil)(struct vocab_file *v);
        ftk_err err;
        const char *line;
    } cases[] = {
        {break_kind, FTK_ERR_UNSUPPORTED, "kind 'bert' is not supported yet"},
        {break_no_kind, FTK_ERR_FORMAT, "vocabulary is missing"},
        {break_scores, FTK_ERR_FORMAT, "scores has 372 elements, but there are 373"},
        {break_types, FTK_ERR_FORMAT, "token_type has 372 elements, but there are 373"},
        {break_score_type, FTK_ERR_FORMAT, "scores holds elements of type"},
        {break_types_type, FTK_ERR_FORMAT, "token_type holds elements of type"},
        {break_long, FTK_ERR_FORMAT, "token 300 has a text of 5000 bytes"},
        {break_type, FTK_ERR_FORMAT, "token 300 has type 7"},
        {break_type_0, FTK_ERR_FORMAT, "token 300 has type 256"},
        {break_nan, FTK_ERR_FORMAT, "token 300 has a score that is not a number"},
        {break_bytes, FTK_ERR_FORMAT, "255 of the 256 byte tokens"},
        {break_byte_name, FTK_ERR_FORMAT, "token 13 is a byte"},
        {break_user_zero, FTK_ERR_UNSUPPORTED, "token 300 is user-defined and holds a zero"},
        {break_bool, FTK_ERR_FORMAT, "add_bos_token is not a bool"},
        {break_charsmap, FTK_ERR_UNSUPPORTED, "precompiled_charsmap"},
        {break_none, FTK_ERR_FORMAT, "tokens is empty"},
        {break_nesting, FTK_ERR_UNSUPPORTED, "more than 64 user-defined"},
        {break_unknown_and_bytes, FTK_ERR_FORMAT, "no unknown token, and no byte tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vocab_init(&file, words);
        cases[i].spoil(&file);
        struct counting c = {0};
        const ftk_host host = counting_host(&c);
        ftk_tokenizer *t = NULL;
        const ftk_err err = vocab_open(&t, &file, &host);
        if (err != cases[i].err || !strstr(c.line, cases[i].line))
            fail_msg("case %zu: error %d, \"%s\"; expected %d, \"%s\"", i, err, c.line,
                     cases[i].err, cases[i].line);
        assert_null(t);
        assert_int_equal(c.live, 0);
    }
}

/* As many nested ones as are allowed do work. */
static void test_nesting(void **state)
{
    (void)state;
    vocab_init(&file, words);
    for (int i = 0; i < 64; i++) {
        struct vocab_token *t = &file.tokens[file.n++];
        memset(t, 0, sizeof *t);
        memset(t->text, '\n', (size_t)i + 2);
        t->type = VOCAB_USER;
    }
    ftk_tokenizer *t = NULL;
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    ASSERT_IDS(t, "hello\n\n\n\n\n", 0, id(MARK "hello"), id("\n\n\n\n\n"));
    assert_round_trip(t, "\n\n\n\nhello\n\n", 11, 0);
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ what is odd, but read */

/* Opens the vocabulary, which must give one warning with those words in it; "": none. */
static ftk_tokenizer *open_odd(const char *warning)
{
    struct counting c = {0};
    const ftk_host host = counting_host(&c);
    ftk_tokenizer *t = NULL;
    const ftk_err err = vocab_open(&t, &file, &host);
    if (err != FTK_OK || !strstr(c.line, warning) || c.lines != (warning[0] != 0))
        fail_msg("error %d, %ld lines, \"%s\"; expected \"%s\"", err, c.lines, c.line, warning);
    ftk_tokenizer_free(t);
    assert_int_equal(vocab_open(&t, &file, NULL), FTK_OK);
    return t;
}

/* The spaces of user-defined tokens stand plainly in files; runs of them are single tokens of
 * Gemma. */
static void test_user_spaces(void **state)
{
    (void)state;
    static const char *const few[] = {"hello",      MARK "hello", "+  ",         "+   ", "+      ",
                                      "+\n",        "+\n\n",      "+\t\t",       "+a b", "+ <tag>",
                                      "+" MARK "x", MARK MARK,    "+c" MARK "d", "he",   "ll",
                                      "hell",       NULL};
    for (int prefix = 0; prefix < 2; prefix++) {
        vocab_init(&file, few);
        file.extra_bool = "tokenizer.ggml.add_space_prefix";
        file.extra_true = prefix;
        /* "  " stands for both spellings, which the file tells apart. */
        ftk_tokenizer *t =
            open_odd("same text as another: 1, the first is token 270 (as token 261)");
        const int32_t two = id("  "), three = id("   "), six = id("      "), hello = id("hello");
        if (!prefix) {
            ASSERT_IDS(t, "hello  hello", 0, hello, two, hello);
            ASSERT_IDS(t, "hello   hello", 0, hello, three, hello);
            ASSERT_IDS(t, "hello hello", 0, hello, id(MARK "hello"));
            ASSERT_IDS(t, "    hello", 0, three, id(MARK "hello"));
            ASSERT_IDS(t, "          ", 0, six, three, id(MARK));
            ASSERT_IDS(t, "\n\n\n  \t\t\t", 0, id("\n\n"), id("\n"), two, id("\t\t"), 3 + '\t');
            ASSERT_IDS(t, "a bca b <tag> x", 0, id("a b"), id("c"), id("a b"), id(" <tag>"),
                       id(MARK "x"));
            ASSERT_IDS(t, "  <tag>", 0, two, id("<"), id("t"), id("a"), id("g"), id(">"));
            ASSERT_IDS(t, "c d c" MARK "d", 0, id("c" MARK "d"), id(MARK), id("c" MARK "d"));
        } else {
            ASSERT_IDS(t, " hello", 0, two, hello);
            ASSERT_IDS(t, "hello  hello", 0, id(MARK "hello"), two, hello);
        }
        const ftk_str piece = ftk_tokenizer_piece(t, six);
        assert_int_equal(piece.n, 6);
        assert_memory_equal(piece.p, "      ", 6);
        char text[48];
        for (size_t n = 1; n < sizeof text; n++) {
            memset(text, ' ', n);
            assert_round_trip(t, text, n, 0);
            if (!prefix) assert_round_trip(t, text, n, FTK_TOK_SPECIAL);
            text[n / 2] = 'x';
            assert_round_trip(t, text, n, 0);
        }
        ftk_tokenizer_free(t);
    }
}

/* Files of earlier converters mark names without a meaning as unknown. */
static void test_several_unknown(void **state)
{
    (void)state;
    vocab_init(&file, words);
    vocab_add(&file, "[PAD1]", VOCAB_UNKNOWN);
    vocab_add(&file, "[PAD2]", VOCAB_UNKNOWN);
    const int32_t pad = id("[PAD2]");
    for (int named = 0; named < 2; named++) {
        /* The true one is marked as unknown, or as a control token and named. */
        file.tokens[0].type = named ? VOCAB_CONTROL : VOCAB_UNKNOWN;
        file.extra_id = named ? "tokenizer.ggml.unknown_token_id" : NULL;
        ftk_tokenizer *t = open_odd("unknown beside token 0: 2, the first is token 373;");
        ASSERT_IDS(t, "hello[PAD2]", FTK_TOK_SPECIAL, id(MARK "hello"), pad);
        ASSERT_IDS(t, "<unk>", FTK_TOK_SPECIAL, 0);
        assert_round_trip(t, "hello[PAD2]<unk>", 16, FTK_TOK_SPECIAL);
        const int32_t ids[] = {pad, 0, 3 + 'a'};
        assert_decodes(t, ids, 3, 0, " \xE2\x81\x87 a", 6);
        assert_decodes(t, ids, 3, FTK_TOK_SPECIAL, "[PAD2]<unk>a", 12);
        size_t n;
        int32_t *text = encode(t, "hello[PAD2]", 11, 0, &n);
        for (size_t i = 0; i < n; i++) assert_true(text[i] != pad && text[i] != 0);
        free(text);
        ftk_tokenizer_free(t);
    }
}

/* What is marked as unknown and is no name is text, as it is elsewhere. */
static void test_unknown_text(void **state)
{
    (void)state;
    vocab_init(&file, words);
    const int32_t hello = id(MARK "hello");
    file.tokens[hello].type = VOCAB_UNKNOWN;
    ftk_tokenizer *t = open_odd("unknown beside token 0: 1, the first is token ");
    ASSERT_IDS(t, "hello", 0, hello);
    assert_round_trip(t, "hello hello", 11, 0);
    ftk_tokenizer_free(t);
}

/* Where all bytes are tokens, nothing needs the unknown one. */
static void test_no_unknown(void **state)
{
    (void)state;
    vocab_init(&file, words);
    file.tokens[0].type = VOCAB_CONTROL;
    ftk_tokenizer *t = open_odd("");
    ASSERT_IDS(t, "hello \xE2\x82\xAC", 0, id(MARK "hello"), id(MARK), 3 + 0xE2, 3 + 0x82,
               3 + 0xAC);
    assert_round_trip(t, "hello\xFF \xE2\x82\xAC<unk>", 15, 0);
    ftk_tokenizer_free(t);
}

static void set_token(int32_t i, const char *text, uint32_t type)
{
    snprintf(file.tokens[i].text, sizeof file.tokens[i].text, "%s", text);
    file.tokens[i].type = type;
}

static void test_equal_texts(void **state)
{
    (void)state;
    /* Of two words the last, as in llama.cpp's table; the other one still has its text. */
    vocab_init(&file, words);
    const int32_t hello = id(MARK "hello"), spare = id("orld"), q = id("Q");
    vocab_add(&file, MARK "hello", VOCAB_NORMAL);
    const int32_t again = (int32_t)file.n - 1;
    file.tokens[again].score = file.tokens[hello].score;
    ftk_tokenizer *t = open_odd("same text as another: 1, the first is token 269 (as token 373)");
    ASSERT_IDS(t, "hello", 0, again);
    assert_decodes(t, &hello, 1, 0, "hello", 5);
    ftk_tokenizer_free(t);
    /* A user-defined one before a normal one, which comes before a control token. */
    vocab_init(&file, words);
    set_token(spare, "<tool>", VOCAB_NORMAL);
    t = open_odd("same text as another: 1, the first is token 273 (as token 263)");
    ASSERT_IDS(t, "hello<tool>", 0, id(MARK "hello"), id("<tool>"));
    ftk_tokenizer_free(t);
    vocab_init(&file, words);
    set_token(spare, "Q", VOCAB_NORMAL);
    t = open_odd("same text as another: 1, the first is token 262 (as token 273)");
    ASSERT_IDS(t, "Q", 0, id(MARK), spare);
    ASSERT_IDS(t, "Q", FTK_TOK_SPECIAL, q);
    ftk_tokenizer_free(t);
    /* Two bytes, and a word with a byte's name. */
    vocab_init(&file, words);
    set_token(spare, "<0x41>", VOCAB_BYTE);
    set_token(id("or"), "<0x42>", VOCAB_NORMAL);
    t = open_odd("same text as another: 2, the first is token 68 (as token 273)");
    ASSERT_IDS(t, "\xFF<0x41>", 0, id(MARK), 3 + 0xFF, id("<"), id("0"), id("x"), id("4"), id("1"),
               id(">"));
    assert_decodes(t, (const int32_t[]){spare, 3 + 0x41, 3 + 0x42}, 3, 0, "AAB", 3);
    ftk_tokenizer_free(t);
}

static void test_empty_pieces(void **state)
{
    (void)state;
    vocab_init(&file, words);
    file.empty = id("or");
    ftk_tokenizer *t = open_odd("empty text: 1, the first is token 271; no text becomes one");
    ASSERT_IDS(t, "or", 0, id(MARK), id("o"), id("r"));
    assert_decodes(t, (const int32_t[]){id("he"), 271, id("ll")}, 3, 0, "hell", 4);
    assert_int_equal(ftk_tokenizer_piece(t, 271).n, 0);
    ftk_tokenizer_free(t);
}

static void test_ids_beyond(void **state)
{
    (void)state;
    static const char *const keys[] = {"bos", "eos", "eot", "eom", "unknown"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[64], line[128];
        vocab_init(&file, words);
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", keys[i]);
        file.extra_id = key;
        file.extra = i % 2 ? -1 : (int32_t)file.n;
        snprintf(line, sizeof line, "%s is %d, but there are only 373 tokens: it is passed over",
                 key, (int)file.extra);
        ftk_tokenizer *t = open_odd(line);
        assert_int_equal(ftk_tokenizer_bos(t), 1);
        assert_int_equal(ftk_tokenizer_eos(t), 2);
        assert_int_equal(ftk_tokenizer_eot(t), id("<|im_end|>"));
        assert_true(ftk_tokenizer_is_end(t, 2));
        ftk_tokenizer_free(t);
    }
}

/* Without types, tokens are what they are named; longer lists than there are tokens do no harm. */
static void test_lists(void **state)
{
    (void)state;
    vocab_init(&file, words);
    file.no_types = true;
    ftk_tokenizer *t = open_odd("token_type is missing");
    ASSERT_IDS(t, "hello\xFF</s>", FTK_TOK_SPECIAL | FTK_TOK_BOS, 1, id(MARK "hello"), 3 + 0xFF, 2);
    ASSERT_IDS(t, "<|im_end|>", FTK_TOK_SPECIAL, id("<|im_end|>"));
    size_t n;
    int32_t *ids = encode(t, "<s></s><unk><|im_end|><0x41>", 28, 0, &n);
    for (size_t i = 0; i < n; i++) assert_true(ids[i] > 2 && ids[i] != id("<|im_end|>"));
    assert_decodes(t, ids, n, 0, "<s></s><unk><|im_end|><0x41>", 28);
    free(ids);
    ftk_tokenizer_free(t);
    vocab_init(&file, words);
    file.more_scores = 3;
    t = open_odd("scores has 376 elements, but there are only 373 tokens: the rest is passed over");
    ASSERT_IDS(t, "hello world", 0, id(MARK "hello"), id(MARK "world"));
    ftk_tokenizer_free(t);
}

/* What frames a turn is a control token whatever the file calls it. */
static void test_unmarked_control(void **state)
{
    (void)state;
    vocab_init(&file, words);
    file.tokens[id("<|im_start|>")].type = VOCAB_USER;
    file.tokens[id("<|im_end|>")].type = VOCAB_NORMAL;
    ftk_tokenizer *t = open_odd("control tokens: 2, the first is token 259 (<|im_start|>)");
    size_t n;
    int32_t *ids = encode(t, "<|im_start|><|im_end|>", 22, 0, &n);
    for (size_t i = 0; i < n; i++)
        assert_true(ids[i] != id("<|im_start|>") && ids[i] != id("<|im_end|>"));
    free(ids);
    ASSERT_IDS(t, "<|im_end|>", FTK_TOK_SPECIAL, id("<|im_end|>"));
    assert_true(ftk_tokenizer_is_end(t, id("<|im_end|>")));
    ftk_tokenizer_free(t);
}

/* Phi-3's control tokens take the white space behind them. */
static void test_strips(void **state)
{
    (void)state;
    static const char *const few[] = {"!<|user|>",  "!<|end|>", "!<|assistant|>", "!<|endoftext|>",
                                      "he",         "ll",       "hell",           "hello",
                                      MARK "hello", NULL};
    vocab_init(&file, few);
    const int32_t hello = id(MARK "hello"), user = id("<|user|>"), end = id("<|end|>");
    const int32_t stop = id("<|endoftext|>");
    ftk_tokenizer *t = open_odd("");
    ASSERT_IDS(t, "<|user|>\nhello", FTK_TOK_SPECIAL, user, id(MARK), 3 + '\n', id("hello"));
    ftk_tokenizer_free(t);
    file.arch = "phi3";
    t = open_odd("");
    ASSERT_IDS(t, "<|user|>\nhello<|end|>\n\t <|user|>", FTK_TOK_SPECIAL, user, hello, end, user);
    ASSERT_IDS(t, "<|endoftext|> hello<s> hello", FTK_TOK_SPECIAL, stop, id(MARK), hello, 1,
               id(MARK), hello);
    ASSERT_IDS(t, "hello hello", 0, hello, hello);
    const ftk_message talk[] = {{"user", " hello"}};
    int32_t ids[16];
    size_t n = 0;
    assert_int_equal(vocab_chat(t, "phi3", talk, 1, ids, 16, &n), FTK_OK);
    const int32_t want[] = {1, user, hello, end, id("<|assistant|>")};
    assert_int_equal(n, 5);
    assert_memory_equal(ids, want, sizeof want);
    ftk_tokenizer_free(t);
}

/* Spaces are squeezed where the file says so. */
static void test_squeezing(void **state)
{
    (void)state;
    static const char *const few[] = {"he", "ll", "hell", "hello", MARK "hello", NULL};
    vocab_init(&file, few);
    file.extra_bool = "tokenizer.ggml.remove_extra_whitespaces";
    file.extra_true = true;
    ftk_tokenizer *t = open_odd("");
    const int32_t hello = id(MARK "hello");
    ASSERT_IDS(t, "  hello   hello  ", FTK_TOK_BOS, 1, hello, hello);
    ASSERT_IDS(t, "hello<s> hello", FTK_TOK_SPECIAL, hello, 1, hello);
    ftk_tokenizer_free(t);
    file.extra_true = false;
    t = open_odd("");
    ASSERT_IDS(t, " hello", 0, id(MARK), hello);
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ a good guest */

static void test_memory(void **state)
{
    (void)state;
    vocab_init(&file, words);
    file.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}";
    for (long at = 1;; at++) {
        struct counting c = {.fail_at = at};
        const ftk_host host = counting_host(&c);
        ftk_tokenizer *t = NULL;
        ftk_err err = vocab_open(&t, &file, &host);
        assert_int_equal(t != NULL, err == FTK_OK);
        int32_t ids[64];
        size_t n = 0;
        if (err == FTK_OK) {
            const unsigned flags = FTK_TOK_BOS | FTK_TOK_SPECIAL;
            err = ftk_tokenizer_encode(t, "hello<|im_end|>\xFFhello hello hello, hello again", 46,
                                       flags, ids, 64, &n);
        }
        if (err == FTK_OK) {
            const ftk_message msg = {"user", "hello"};
            err = vocab_chat(t, NULL, &msg, 1, ids, 64, &n);
        }
        ftk_tokenizer_free(t);
        assert_int_equal(c.live, 0);
        if (c.calls < at) {
            assert_int_equal(err, FTK_OK);
            assert_true(at > 12);
            break;
        }
        assert_int_equal(err, FTK_ERR_NOMEM);
        assert_true(strstr(c.line, "no memory") != NULL);
    }
}

static void test_prints_nothing(void **state)
{
    (void)state;
    fflush(NULL);
    FILE *printed_to = tmpfile();
    assert_non_null(printed_to);
    const int fd = fileno(printed_to), out = dup(1), err = dup(2);
    assert_true(fd >= 0 && out >= 0 && err >= 0);
    dup2(fd, 1);
    dup2(fd, 2);
    vocab_init(&file, words);
    ftk_tokenizer *t = NULL;
    const ftk_err opened = vocab_open(&t, &file, NULL);
    int32_t ids[64];
    size_t n = 0;
    if (opened == FTK_OK) ftk_tokenizer_encode(t, "hello\xFF", 6, FTK_TOK_BOS, ids, 64, &n);
    ftk_tokenizer_free(t);
    ftk_spm *spm = NULL;
    char why[100];
    const ftk_err garbage = ftk_spm_open(&spm, "\x0A\xFF garbage", 10, why, sizeof why);
    const ftk_err no_unknown = ftk_spm_open(&spm, "", 0, why, sizeof why);
    fflush(NULL);
    const off_t printed = lseek(fd, 0, SEEK_END);
    dup2(out, 1);
    dup2(err, 2);
    fclose(printed_to);
    close(out);
    close(err);
    assert_int_equal(opened, FTK_OK);
    assert_int_equal(garbage, FTK_ERR_FORMAT);
    assert_int_equal(no_unknown, FTK_ERR_FORMAT);
    assert_int_equal(printed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_cases),  cmocka_unit_test(test_same_as_sentencepiece),
        cmocka_unit_test(test_large_text),       cmocka_unit_test(test_plain),
        cmocka_unit_test(test_control_tokens),   cmocka_unit_test(test_decode),
        cmocka_unit_test(test_broken_text),      cmocka_unit_test(test_no_byte_tokens),
        cmocka_unit_test(test_settings),         cmocka_unit_test(test_unknown_by_id),
        cmocka_unit_test(test_unused),           cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nesting),          cmocka_unit_test(test_memory),
        cmocka_unit_test(test_user_spaces),      cmocka_unit_test(test_several_unknown),
        cmocka_unit_test(test_unknown_text),     cmocka_unit_test(test_no_unknown),
        cmocka_unit_test(test_equal_texts),      cmocka_unit_test(test_empty_pieces),
        cmocka_unit_test(test_ids_beyond),       cmocka_unit_test(test_lists),
        cmocka_unit_test(test_unmarked_control), cmocka_unit_test(test_strips),
        cmocka_unit_test(test_squeezing),        cmocka_unit_test(test_prints_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
