/* SPDX-License-Identifier: Apache-2.0
 *
 * What a bad byte-pair vocabulary can hold, and the one line each gets; what is odd but harmless.
 * test_badkeys.c has what all vocabularies share. Then chance: bytes of the vocabulary's keys
 * changed at random must load or give exactly one line. */
#include <string.h>
#include <unistd.h>

#include "onebad.h"

static char path[64];

static ftk_err load(counting *c)
{
    *c = (counting){0};
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = counting_host(c);
    ftk_model *m = NULL;
    const ftk_err err = ftk_model_load(&m, path, &cfg);
    assert_true((m != NULL) == (err == FTK_OK));
    int32_t ids[64];
    size_t n = 0;
    if (m) {
        const ftk_err read = ftk_tokenize(m, "hello <tool>\xFF 12", 16, 3, ids, 64, &n);
        assert_true(read == FTK_OK && n > 0);
    }
    ftk_model_free(m);
    return err;
}

/* ------------------------------------------------------------------ one bad thing at a time */

static char long_text[5000];

static void set(gw_bpe *v, int id, const char *text)
{
    v->tokens[id] = (ftk_str){text, strlen(text)};
}

static void set_merge(gw_bpe *v, int i, const char *text)
{
    v->merges[i] = (ftk_str){text, strlen(text)};
}

/* clang-format off */
static void nothing(gw_bpe *v) { (void)v; }
static void pre_unknown(gw_bpe *v) { v->pre = "sing"; }
static void pre_none(gw_bpe *v) { v->pre = NULL; }
static void token_twice(gw_bpe *v) { v->tokens[290] = v->tokens[291]; }
static void token_empty(gw_bpe *v) { v->tokens[290].n = v->tokens[291].n = 0; }
static void token_nul(gw_bpe *v) { v->tokens[290] = (ftk_str){"a\0b", 3}; v->types[290] = 4; }
static void token_broken(gw_bpe *v) { set(v, 290, "\xC4"); v->types[290] = 1; }
static void token_long(gw_bpe *v) { v->tokens[290] = (ftk_str){long_text, sizeof long_text}; }
static void type_0(gw_bpe *v) { v->types[290] = 0; }
static void type_7(gw_bpe *v) { v->types[290] = 7; }
static void byte_plain(gw_bpe *v) { v->types[290] = 6; }
static void no_bytes(gw_bpe *v) { for (int i = 0; i < 256; i++) v->types[i] = 3; }
static void byte_missing(gw_bpe *v) { set(v, 1, "[nothing]"); }
static void letter_missing(gw_bpe *v) { set(v, 'q', "[nothing]"); }
static void unknown_twice(gw_bpe *v) { v->types[290] = v->types[291] = 2; }
static void no_merges(gw_bpe *v) { v->n_merges = 0; }
static void no_tokens(gw_bpe *v) { v->n_tokens = 0; }
static void merge_left(gw_bpe *v) { set_merge(v, 3, "zz n"); }
static void merge_right(gw_bpe *v) { set_merge(v, 3, "i zz"); }
static void merge_result(gw_bpe *v) { set_merge(v, 3, "q q"); }
static void merge_one(gw_bpe *v) { set_merge(v, 3, "in"); }
static void merge_empty(gw_bpe *v) { set_merge(v, 3, ""); }
static void merge_blank(gw_bpe *v) { set_merge(v, 3, " "); }
static void merge_no_left(gw_bpe *v) { set_merge(v, 3, " in"); }
static void merge_no_right(gw_bpe *v) { set_merge(v, 3, "in "); }
static void merge_three(gw_bpe *v) { set_merge(v, 3, "i n g"); }
static void merge_escape(gw_bpe *v) { set_merge(v, 3, "\x1b[2J"); }
static void merge_long(gw_bpe *v) { v->merges[3] = (ftk_str){long_text, sizeof long_text}; }
static void merge_nul(gw_bpe *v) { v->merges[3] = (ftk_str){"\0 \0", 3}; }
static void merge_twice(gw_bpe *v) { v->merges[3] = v->merges[4]; }
static void merge_control(gw_bpe *v) { v->types[259] = 3; } /* "in" */
/* clang-format on */

static void drop(gw *w, const char *key)
{
    w->skip = key;
}

static void key_no_merges(gw *w)
{
    drop(w, "tokenizer.ggml.merges");
}

static void key_no_types(gw *w)
{
    drop(w, "tokenizer.ggml.token_type");
}

static void key_no_tokens(gw *w)
{
    drop(w, "tokenizer.ggml.tokens");
}

static void key_merges_text(gw *w)
{
    gw_str(w, "tokenizer.ggml.merges", "a b");
    drop(w, "tokenizer.ggml.merges");
}

static void key_merges_numbers(gw *w)
{
    static const int32_t numbers[2] = {1, 2};
    gw_array(w, "tokenizer.ggml.merges", FTK_GGUF_I32, 2, numbers);
    drop(w, "tokenizer.ggml.merges");
}

static void key_many_merges(gw *w)
{
    enum { MANY = 20000 };
    static ftk_str merges[MANY];
    for (size_t i = 0; i < MANY; i++) merges[i] = (ftk_str){"h e", 3};
    gw_str_array(w, "tokenizer.ggml.merges", MANY, merges);
    drop(w, "tokenizer.ggml.merges");
}

static void key_types_short(gw *w)
{
    static const int32_t types[GW_VOCAB] = {1};
    gw_array(w, "tokenizer.ggml.token_type", FTK_GGUF_I32, GW_VOCAB - 1, types);
    drop(w, "tokenizer.ggml.token_type");
}

static void key_scores(gw *w)
{
    static const float scores[GW_VOCAB];
    gw_array(w, "tokenizer.ggml.scores", FTK_GGUF_F32, GW_VOCAB, scores);
}

static void key_scores_short(gw *w)
{
    static const float scores[GW_VOCAB];
    gw_array(w, "tokenizer.ggml.scores", FTK_GGUF_F32, 7, scores);
}

static void key_pre_number(gw *w)
{
    gw_u32(w, "tokenizer.ggml.pre", 1);
    drop(w, "tokenizer.ggml.pre");
}

static void key_eom(gw *w)
{
    gw_u32(w, "tokenizer.ggml.eom_token_id", GW_VOCAB);
}

static void key_unknown(gw *w)
{
    gw_u32(w, "tokenizer.ggml.unknown_token_id", GW_VOCAB);
}

static void key_add_eos(gw *w)
{
    gw_u32(w, "tokenizer.ggml.add_eos_token", 1);
}

static void key_prefix(gw *w)
{
    gw_u32(w, "tokenizer.ggml.add_space_prefix", 1);
}

typedef struct bad {
    const char *what;
    void (*spoil)(gw_bpe *v);
    void (*keys)(gw *w); /* before the others; NULL: none */
    ftk_err err;
    const char *line; /* behind the path; of an error or, where that is OK, of a warning */
} bad;

static const bad cases[] = {
    {"a good one", nothing, NULL, FTK_OK, ""},
    {"pre unknown", pre_unknown, NULL, FTK_OK,
     "tokenizer.ggml.pre is 'sing', which is not known: text is cut into words as for 'default', "
     "which the model may not have been trained with"},
    {"pre missing", pre_none, NULL, FTK_OK,
     "tokenizer.ggml.pre is missing: text is cut into words as for 'default', which the model may "
     "not have been trained with"},
    {"pre a number", nothing, key_pre_number, FTK_ERR_FORMAT, "tokenizer.ggml.pre is not a string"},
    {"no list of tokens", nothing, key_no_tokens, FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens is missing"},
    {"no tokens", no_tokens, NULL, FTK_ERR_FORMAT, "tokenizer.ggml.tokens is empty"},
    {"no types", nothing, key_no_types, FTK_OK, ""},
    {"a type less", nothing, key_types_short, FTK_ERR_FORMAT,
     "tokenizer.ggml.token_type has 299 elements, but there are 300 tokens"},
    {"type 0", type_0, NULL, FTK_ERR_FORMAT, "token 290 has type 0; known are 1 to 6"},
    {"type 7", type_7, NULL, FTK_ERR_FORMAT, "token 290 has type 7; known are 1 to 6"},
    {"scores", nothing, key_scores, FTK_OK, ""},
    {"scores of another length", nothing, key_scores_short, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores has 7 elements, but there are 300 tokens"},
    {"a token twice", token_twice, NULL, FTK_OK,
     "tokens with the same text as another: 1, the first is token 290 (as token 291); text becomes "
     "the other one"},
    {"tokens without a text", token_empty, NULL, FTK_OK,
     "tokens with an empty text: 2, the first is token 290; no text becomes one of them"},
    {"a token with NUL", token_nul, NULL, FTK_OK, ""},
    {"a token of half a character", token_broken, NULL, FTK_OK, ""},
    {"a token of 5000 bytes", token_long, NULL, FTK_ERR_FORMAT,
     "token 290 has a text of 5000 bytes; at most 4096 are allowed"},
    {"a word as a byte", byte_plain, NULL, FTK_ERR_FORMAT,
     "token 290 is a byte, but is not named <0x00> to <0xFF>"},
    {"no bytes", no_bytes, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens has no token of a single byte, from which a vocabulary of kind gpt2 "
     "builds all others"},
    {"a byte is missing", byte_missing, NULL, FTK_OK, ""},
    {"a letter is missing", letter_missing, NULL, FTK_OK,
     "tokenizer.ggml.tokens lacks 1 of the 95 printable ASCII characters; text will lose them"},
    {"two unknown tokens", unknown_twice, NULL, FTK_OK, ""},
    {"no list of merges", nothing, key_no_merges, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges is missing"},
    {"no merges", no_merges, NULL, FTK_OK, ""},
    {"merges a string", nothing, key_merges_text, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges is not an array"},
    {"merges of numbers", nothing, key_merges_numbers, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges holds elements of type i32, not string"},
    {"more merges than sensible", nothing, key_many_merges, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges has 20000 elements, more than there are ways to make 300 tokens of 656 "
     "bytes"},
    {"merge of an unknown piece", merge_left, NULL, FTK_OK,
     "tokenizer.ggml.merges: elements that name a piece which is no token: 1, the first is element "
     "3 ('zz n'); such a piece falls into bytes where it is left"},
    {"merge with an unknown piece", merge_right, NULL, FTK_OK,
     "tokenizer.ggml.merges: elements that name a piece which is no token: 1, the first is element "
     "3 ('i zz'); such a piece falls into bytes where it is left"},
    {"merge to an unknown piece", merge_result, NULL, FTK_OK,
     "tokenizer.ggml.merges: elements that name a piece which is no token: 1, the first is element "
     "3 ('q q'); such a piece falls into bytes where it is left"},
    {"merge of one", merge_one, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 ('in') is not two pieces with a space between them"},
    {"merge of nothing", merge_empty, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 ('') is not two pieces with a space between them"},
    {"merge of a space", merge_blank, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 (' ') is not two pieces with a space between them"},
    {"merge without a left piece", merge_no_left, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 (' in') is not two pieces with a space between them"},
    {"merge without a right piece", merge_no_right, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 ('in ') is not two pieces with a space between them"},
    {"merge of three", merge_three, NULL, FTK_OK,
     "tokenizer.ggml.merges: elements that name a piece which is no token: 1, the first is element "
     "3 ('i n g'); such a piece falls into bytes where it is left"},
    {"merge with an escape", merge_escape, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 ('\\x1b[2J') is not two pieces with a space between them"},
    {"merge of 5000 bytes", merge_long, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.merges: element 3 ('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...') is not two pieces with a space between them"},
    {"merge of NULs", merge_nul, NULL, FTK_OK,
     "tokenizer.ggml.merges: elements that name a piece which is no token: 1, the first is element "
     "3 ('\\x00 \\x00'); such a piece falls into bytes where it is left"},
    {"a merge twice", merge_twice, NULL, FTK_OK,
     "tokenizer.ggml.merges: elements that are there again: 1, the first is element 4; they do "
     "nothing"},
    {"merge to a control token", merge_control, NULL, FTK_OK, ""},
    {"EOM beyond the vocabulary", nothing, key_eom, FTK_OK,
     "tokenizer.ggml.eom_token_id is 300, but there are only 300 tokens: it is passed over"},
    {"unknown token beyond the vocabulary", nothing, key_unknown, FTK_OK,
     "tokenizer.ggml.unknown_token_id is 300, but there are only 300 tokens: it is passed over"},
    {"add_eos a number", nothing, key_add_eos, FTK_ERR_FORMAT,
     "tokenizer.ggml.add_eos_token is not a bool"},
    {"add_space_prefix a number", nothing, key_prefix, FTK_ERR_FORMAT,
     "tokenizer.ggml.add_space_prefix is not a bool"},
};

static gw_bytes make(const bad *b, size_t *keys_end)
{
    static gw_bpe v;
    gw w;
    gw_init(&w);
    gw_tiny_bpe(&v);
    b->spoil(&v);
    if (b->keys) b->keys(&w);
    gw_put_bpe(&w, &v);
    w.skip = NULL;
    if (keys_end) *keys_end = 24 + w.keys.n;
    gw_tiny_body(&w);
    const gw_bytes file = gw_finish(&w);
    gw_free(&w);
    return file;
}

static void test_cases(void **state)
{
    (void)state;
    int failed = 0;
    memset(long_text, 'x', sizeof long_text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bad *b = &cases[i];
        gw_bytes file = make(b, NULL);
        assert_true(gw_save(path, file.p, file.n));
        free(file.p);
        counting c;
        char wanted[640] = "";
        const ftk_err err = load(&c);
        if (b->line[0]) snprintf(wanted, sizeof wanted, "%s: %s", path, b->line);
        const bool said = b->line[0] != '\0';
        if (err == b->err && strcmp(c.line, wanted) == 0 && c.live == 0 &&
            c.errors == (err != FTK_OK) && c.warnings == (err == FTK_OK && said))
            continue;
        print_error("%s\n  expected %d, '%s'\n  got      %d, '%s' (%d errors, %d warnings, %d "
                    "blocks held)\n",
                    b->what, (int)b->err, wanted, (int)err, c.line, c.errors, c.warnings, c.live);
        failed++;
    }
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ chance */

static void test_corruption(void **state)
{
    (void)state;
    static const unsigned char worst[] = {0, 1, 0x7F, 0x80, 0xFF};
    size_t end;
    gw_bytes file = make(&cases[0], &end);
    unsigned char *good = malloc(end);
    assert_non_null(good);
    memcpy(good, file.p, end);
    uint64_t seed = 20240602;
    int loaded = 0;
    for (int round = 0; round < 2000; round++) {
        const uint32_t n = 1 + random_below(&seed, 3);
        for (uint32_t i = 0; i < n; i++) {
            const size_t where = 24 + random_below(&seed, end - 24);
            const uint32_t how = random_below(&seed, 8);
            file.p[where] =
                how < sizeof worst ? worst[how] : (unsigned char)random_below(&seed, 256);
        }
        assert_true(gw_save(path, file.p, file.n));
        counting c;
        const ftk_err err = load(&c);
        if (c.errors != (err != FTK_OK) || c.live != 0)
            fail_msg("round %d: error %d, %d lines, %d blocks held", round, (int)err, c.errors,
                     c.live);
        loaded += err == FTK_OK;
        memcpy(file.p, good, end);
    }
    print_message("%d of 2000 files still load\n", loaded);
    free(good);
    free(file.p);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-badvocab-%ld.gguf", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_corruption),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
