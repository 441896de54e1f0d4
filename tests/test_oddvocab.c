/* SPDX-License-Identifier: Apache-2.0
 * Vocabularies of SentencePiece that are refused, and those that are odd, but read. */
#include <math.h>

#include "smallvocab.h"

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
        counting c = {0};
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
    counting c = {0};
    const ftk_host host = counting_host(&c);
    ftk_tokenizer *t = NULL;
    const ftk_err err = vocab_open(&t, &file, &host);
    if (err != FTK_OK || !strstr(c.line, warning) || c.warnings != (warning[0] != 0))
        fail_msg("error %d, %d lines, \"%s\"; expected \"%s\"", err, c.warnings, c.line, warning);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_user_spaces),      cmocka_unit_test(test_several_unknown),
        cmocka_unit_test(test_unknown_text),     cmocka_unit_test(test_no_unknown),
        cmocka_unit_test(test_equal_texts),      cmocka_unit_test(test_empty_pieces),
        cmocka_unit_test(test_ids_beyond),       cmocka_unit_test(test_lists),
        cmocka_unit_test(test_unmarked_control), cmocka_unit_test(test_strips),
        cmocka_unit_test(test_squeezing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
