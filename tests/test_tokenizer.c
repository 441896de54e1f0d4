/* SPDX-License-Identifier: Apache-2.0
 * Tests of the tokenizer: reference cases, control tokens, broken text, broken vocabularies. */
#include <math.h>
#include <time.h>

#include "model/sentencepiece_shim.h"
#include "smallvocab.h"

#define LLAMA_SPM FTK_SHARED_DIR "/tok-llamacpp-vocabs/ggml-vocab-llama-spm.gguf"

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
    ftk_tokenizer_free(t);
    check_cases(LLAMA_SPM, LLAMA_SPM ".inp", LLAMA_SPM ".out");
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

/* Of the processor: on a busy machine the others' time must not count. */
static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
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
    static const char *const texts[] = {"<s>", "</s>",  "<|im_start|>",   "x<|im_end|>y<|im",
                                        "Q",   "<unk>", "a<unk>b<unk> c", "<0x41>",
                                        "aQb", "QQ"};
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

/* ------------------------------------------------------------------ a good guest */

static ftk_err encode_and_chat(counting *c, void *with)
{
    (void)with;
    const ftk_host host = counting_host(c);
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
    if (err != FTK_OK) assert_non_null(strstr(c->line, "no memory"));
    return err;
}

static void test_memory(void **state)
{
    (void)state;
    vocab_init(&file, words);
    file.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}";
    counting c = {0};
    assert_true(fail_each(&c, "a tokenizer", encode_and_chat, NULL) > 11);
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
        cmocka_unit_test(test_reference_cases), cmocka_unit_test(test_same_as_sentencepiece),
        cmocka_unit_test(test_large_text),      cmocka_unit_test(test_plain),
        cmocka_unit_test(test_control_tokens),  cmocka_unit_test(test_decode),
        cmocka_unit_test(test_broken_text),     cmocka_unit_test(test_no_byte_tokens),
        cmocka_unit_test(test_settings),        cmocka_unit_test(test_unknown_by_id),
        cmocka_unit_test(test_unused),          cmocka_unit_test(test_memory),
        cmocka_unit_test(test_prints_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
