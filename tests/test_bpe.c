/* SPDX-License-Identifier: Apache-2.0
 * Tests of byte-pair vocabularies: reference cases, a small vocabulary in all respects, any bytes,
 * long lines, memory that runs out. */
#include "hf_to_gguf_vocab.h"
#include "model/pretokenizer.h"
#include "testkit/ggufwriter.h"
#include "tokenchecks.h"

#include <time.h>

#define VECTORS FTK_SHARED_DIR "/tok-llamacpp-vocabs/"
#define GPT2    VECTORS "ggml-vocab-gpt-2.gguf"
#define G       "\xC4\xA0" /* a space as GPT-2 writes it */

static char path[256]; /* of the file a test writes */
static gw_bpe small;

/* ------------------------------------------------------------------ helpers */

/* The small vocabulary and one more key, through a file. */
static ftk_err open_with(ftk_tokenizer **t, const ftk_host *host, void (*more)(gw *w))
{
    gw w;
    gw_init(&w);
    if (more) more(&w);
    gw_put_bpe(&w, &small);
    gw_bytes file = gw_finish(&w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(&w);
    return vocab_open_file(t, path, host);
}

static ftk_tokenizer *open_small(void (*more)(gw *w))
{
    ftk_tokenizer *t = NULL;
    assert_int_equal(open_with(&t, NULL, more), FTK_OK);
    return t;
}

static ftk_tokenizer *open_fresh(void)
{
    gw_tiny_bpe(&small);
    return open_small(NULL);
}

static int32_t id(const char *text)
{
    const int32_t found = gw_bpe_id(&small, text);
    assert_true(found >= 0);
    return found;
}

static void set_text(const char *old, const char *text, int32_t type)
{
    const int32_t i = id(old);
    snprintf(small.text[i], sizeof small.text[i], "%s", text);
    small.tokens[i].n = strlen(text);
    small.types[i] = type;
}

/* ------------------------------------------------------------------ reference cases */

static void test_gpt2(void **state)
{
    (void)state;
    skip_without(GPT2);
    check_cases(GPT2, GPT2 ".inp", GPT2 ".out");
}

static void test_qwen2(void **state)
{
    (void)state;
    static const char ranks[] = FTK_SHARED_DIR "/tok-qwen2/qwen.tiktoken";
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", NULL};
    skip_without(ranks);
    skip_without(VECTORS "ggml-vocab-qwen2.gguf.out");
    assert_true(hf_ranks_to_gguf(ranks, FTK_BUILT_DIR "/vocab-qwen2.gguf", "qwen2", specials));
    check_cases(FTK_BUILT_DIR "/vocab-qwen2.gguf", GPT2 ".inp",
                VECTORS "ggml-vocab-qwen2.gguf.out");
}

/* The ids of these two were made once with the Python package tokenizers 0.23.3. */
static void test_smollm2(void **state)
{
    (void)state;
    static const char json[] = FTK_SHARED_DIR "/tok-smollm2/tokenizer.json.xz";
    skip_without(json);
    skip_without(GPT2 ".inp");
    assert_true(hf_json_to_gguf(json, FTK_BUILT_DIR "/vocab-smollm2.gguf", "smollm"));
    check_cases(FTK_BUILT_DIR "/vocab-smollm2.gguf", GPT2 ".inp", FTK_CASES_DIR "/smollm2.out");
    ftk_tokenizer *t = NULL;
    assert_int_equal(vocab_open_file(&t, FTK_BUILT_DIR "/vocab-smollm2.gguf", NULL), FTK_OK);
    assert_int_equal(ftk_tokenizer_eot(t), 2);
    assert_true(ftk_tokenizer_is_end(t, 0) && ftk_tokenizer_is_end(t, 2));
    assert_false(ftk_tokenizer_is_end(t, 1) || ftk_tokenizer_is_end(t, -1));
    ASSERT_IDS(t, "<|im_start|>Hello world<|im_end|>", FTK_TOK_SPECIAL, 1, 19556, 905, 2);
    /* This one has no token for the byte 4. */
    ASSERT_IDS(t, "Hello\x04 world", 0, 19556, 905);
    ftk_tokenizer_free(t);
}

/* Llama 3's rules on another vocabulary of ranks, as its own is not at hand. */
static void test_llama3_rules(void **state)
{
    (void)state;
    static const char ranks[] = FTK_SHARED_DIR "/tok-openai/cl100k_base.tiktoken";
    skip_without(ranks);
    skip_without(GPT2 ".inp");
    assert_true(hf_ranks_to_gguf(ranks, FTK_BUILT_DIR "/vocab-cl100k.gguf", "llama-bpe", NULL));
    check_cases(FTK_BUILT_DIR "/vocab-cl100k.gguf", GPT2 ".inp", FTK_CASES_DIR "/cl100k.out");
}

/* ------------------------------------------------------------------ a small vocabulary */

static void test_merges(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_fresh();
    size_t n = 99;
    assert_int_equal(ftk_tokenizer_encode(t, NULL, 0, 0, NULL, 0, &n), FTK_OK);
    assert_int_equal(n, 0);
    ASSERT_IDS(t, "hello world", 0, id("hello"), id(G "world"));
    ASSERT_IDS(t, " the thing", 0, id(G "the"), id(G "t"), id("h"), id("ing"));
    /* "er" comes before "re", "h e" before both; of equal ones the leftmost. */
    ASSERT_IDS(t, "here", 0, id("he"), id("re"));
    ASSERT_IDS(t, "ere", 0, id("er"), id("e"));
    ASSERT_IDS(t, "aaaaaaa", 0, id("aaaa"), id("aa"), id("a"));
    ASSERT_IDS(t, "hellohello", 0, id("hello"), id("hello"));
    ASSERT_IDS(t, "\n", 0, id("\xC4\x8A"));
    ASSERT_IDS(t, "\xC3\xA9", 0, id("\xC3\x83"), id("\xC2\xA9"));
    const ftk_str piece = ftk_tokenizer_piece(t, id(G "world"));
    assert_int_equal(piece.n, 6);
    assert_memory_equal(piece.p, " world", 6);
    assert_int_equal(ftk_tokenizer_piece(t, id("<|im_end|>")).n, 0);
    assert_int_equal(ftk_tokenizer_piece(t, id("<tool>")).n, 6);
    ftk_tokenizer_free(t);
}

/* Merges may name pieces that are no tokens, a byte without one among them: they join all the same,
 * and fall into bytes where they are left. */
static void test_strange_merges(void **state)
{
    (void)state;
    counting c = {0};
    const ftk_host host = counting_host(&c);
    gw_tiny_bpe(&small);
    set_text("[PAD290]", "quiz", 1);
    set_text("z", "[none]", 1);
    small.merges[20] = (ftk_str){"q u", 3};
    small.merges[21] = (ftk_str){"i z", 3};
    small.merges[22] = (ftk_str){"qu iz", 5};
    small.merges[23] = (ftk_str){"\xC4\xA0 qu", 5};
    ftk_tokenizer *t = NULL;
    assert_int_equal(open_with(&t, &host, NULL), FTK_OK);
    assert_int_equal(c.warnings, 2); /* and "z" is missing */
    assert_non_null(strstr(c.line, "is no token: 4, the first is element 20 ('q u')"));
    ASSERT_IDS(t, "quiz", 0, 290);
    ASSERT_IDS(t, "que iz", 0, id("q"), id("u"), id("e"), id(G), id("i"));
    ASSERT_IDS(t, " qu", 0, id(G), id("q"), id("u"));
    assert_round_trip(t, " quick quiz, hello", 18, 0);
    ftk_tokenizer_free(t);
    assert_int_equal(c.live, 0);
    gw_tiny_bpe(&small);
    set_text("[PAD290]", "quix", 1);
    small.merges[20] = (ftk_str){"q u", 3};
    small.merges[21] = (ftk_str){"i x", 3};
    small.merges[22] = (ftk_str){"qu ix", 5};
    small.merges[23] = (ftk_str){"h e", 3};
    c = (counting){0};
    assert_int_equal(open_with(&t, &host, NULL), FTK_OK);
    assert_int_equal(c.warnings, 2); /* and "h e" is there again */
    assert_non_null(strstr(c.line, "there again: 1, the first is element 23; they do nothing"));
    ASSERT_IDS(t, "quix", 0, id("quix"));
    ASSERT_IDS(t, "quixqui", 0, id("quix"), id("q"), id("u"), id("i"));
    ASSERT_IDS(t, "hello", 0, id("hello"));
    ftk_tokenizer_free(t);
}

/* Of tokens with the same text the last is what text becomes, but no control token. */
static void test_equal_texts(void **state)
{
    (void)state;
    counting c = {0};
    const ftk_host host = counting_host(&c);
    ftk_tokenizer *t = NULL;
    gw_tiny_bpe(&small);
    const int32_t hello = id("hello"), tool = id("<tool>");
    set_text("[PAD290]", "hello", 1);
    set_text("[PAD291]", "world", 3);
    set_text("[PAD292]", "world", 1);
    set_text("[PAD293]", "<tool>", 1);
    assert_int_equal(open_with(&t, &host, NULL), FTK_OK);
    assert_int_equal(c.warnings, 1);
    assert_non_null(strstr(c.line, "same text as another: 3, the first is token"));
    ASSERT_IDS(t, "hello", 0, 290);
    ASSERT_IDS(t, "hello<tool>", 0, 290, tool);
    ASSERT_IDS(t, "world", FTK_TOK_SPECIAL, 291);
    assert_decodes(t, (const int32_t[]){hello, 290, 292}, 3, 0, "hellohelloworld", 15);
    ftk_tokenizer_free(t);
}

static void test_specials(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_fresh();
    const int32_t start = id("<|im_start|>"), end = id("<|im_end|>"), hello = id("hello");
    ASSERT_IDS(t, "<|im_start|>hello<|im_end|>", FTK_TOK_SPECIAL, start, hello, end);
    ASSERT_IDS(t, "hello<tool>hello", 0, hello, id("<tool>"), hello);
    ASSERT_IDS(t, "<|endoftext|>", FTK_TOK_SPECIAL, id("<|endoftext|>"));
    /* Text of a user never becomes a control token; all of it comes back. */
    static const char *const texts[] = {"<|im_end|>", "a<|endoftext|>b", "<tool><|im_start|>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n;
        int32_t *ids = encode(t, texts[i], strlen(texts[i]), 0, &n);
        for (size_t k = 0; k < n; k++) assert_int_not_equal(small.types[ids[k]], 3);
        assert_decodes(t, ids, n, 0, texts[i], strlen(texts[i]));
        free(ids);
        assert_round_trip(t, texts[i], strlen(texts[i]), FTK_TOK_SPECIAL);
    }
    ftk_tokenizer_free(t);
    /* Nor where the file calls it normal, or makes it by merges. */
    gw_tiny_bpe(&small);
    small.types[id("<|im_end|>")] = 1;
    small.types[id("<|im_start|>")] = 4;
    set_text("hello", "<->", 3);
    small.merges[16] = (ftk_str){"< ->", 4};
    set_text("hell", "->", 1);
    small.merges[15] = (ftk_str){"- >", 3};
    t = open_small(NULL);
    ASSERT_IDS(t, "<->", 0, id("<"), id("->"));
    ASSERT_IDS(t, "<-><|im_start|><|im_end|>", FTK_TOK_SPECIAL, id("<->"), start, end);
    assert_int_equal(ftk_tokenizer_piece(t, start).n, 0);
    size_t n;
    int32_t *ids = encode(t, "<|im_start|><|im_end|>", 22, 0, &n);
    for (size_t k = 0; k < n; k++) assert_true(ids[k] != start && ids[k] != end);
    free(ids);
    ftk_tokenizer_free(t);
}

static void test_decode(void **state)
{
    (void)state;
    gw_tiny_bpe(&small);
    small.tokens[id("[PAD290]")].n = 0; /* a token of no text */
    set_text("[PAD291]", "a\xE2\x82\xAC " G, 1);
    set_text("[PAD292]", "\xC4\xA0x", 4);
    ftk_tokenizer *t = open_small(NULL);
    const int32_t ids[] = {id("hello"), id("<|im_end|>"), 290, id(G "world")};
    assert_decodes(t, ids, 4, 0, "hello world", 11);
    assert_decodes(t, ids, 4, FTK_TOK_SPECIAL, "hello<|im_end|> world", 21);
    /* What means no byte stands for itself; user-defined tokens are plain text. */
    assert_decodes(t, (const int32_t[]){291, 292}, 2, 0, "a\xE2\x82\xAC  \xC4\xA0x", 9);
    ASSERT_IDS(t, "\xC4\xA0x", 0, 292);
    char text[8];
    size_t n;
    assert_int_equal(ftk_tokenizer_decode(t, (const int32_t[]){300}, 1, 0, text, 8, &n),
                     FTK_ERR_INVALID);
    ftk_tokenizer_free(t);
}

/* A character that falls into three tokens comes out whole. */
static void test_stream(void **state)
{
    (void)state;
    gw_tiny_bpe(&small);
    ftk_model m = {0};
    assert_int_equal(open_with(&m.tokenizer, NULL, NULL), FTK_OK);
    size_t n_ids, n = 0;
    int32_t *ids = encode(m.tokenizer, "a\xE2\x82\xAC", 4, 0, &n_ids);
    assert_int_equal(n_ids, 4);
    ftk_stream *s = NULL;
    const char *text;
    bool stopped;
    static const size_t want[] = {1, 0, 0, 3};
    assert_int_equal(ftk_stream_open(&s, &m, false, NULL, 0), FTK_OK);
    for (size_t i = 0; i < n_ids; i++) {
        assert_int_equal(ftk_stream_push(s, ids[i], &text, &n, &stopped), FTK_OK);
        assert_int_equal(n, want[i]);
    }
    assert_memory_equal(text, "\xE2\x82\xAC", 3);
    ftk_stream_free(s);
    free(ids);
    ftk_tokenizer_free(m.tokenizer);
}

/* ------------------------------------------------------------------ settings */

static void add_all(gw *w)
{
    gw_bool(w, "tokenizer.ggml.add_bos_token", true);
    gw_bool(w, "tokenizer.ggml.add_eos_token", true);
    gw_bool(w, "tokenizer.ggml.add_space_prefix", true);
    gw_u32(w, "tokenizer.ggml.eot_token_id", 270);
    gw_u32(w, "tokenizer.ggml.eom_token_id", 271);
}

static void no_bos(gw *w)
{
    gw_bool(w, "tokenizer.ggml.add_bos_token", false);
}

static void test_settings(void **state)
{
    (void)state;
    ftk_tokenizer *t = open_fresh();
    const int32_t end = id("<|endoftext|>"), hello = id("hello");
    const unsigned both = FTK_TOK_BOS | FTK_TOK_EOS;
    assert_false(ftk_tokenizer_add_bos(t));
    ASSERT_IDS(t, "hello", both, hello);
    assert_int_equal(ftk_tokenizer_eot(t), id("<|im_end|>"));
    assert_true(ftk_tokenizer_is_end(t, end) && ftk_tokenizer_is_end(t, id("<|im_end|>")));
    ftk_tokenizer_free(t);
    t = open_small(add_all);
    ASSERT_IDS(t, "world", both, end, id(G "world"), end);
    ASSERT_IDS(t, "world", FTK_TOK_BOS, end, id(G "world"));
    ASSERT_IDS(t, "", both, end, end);
    assert_round_trip(t, " world", 6, 0);
    assert_int_equal(ftk_tokenizer_eot(t), 270);
    for (int32_t i = 0; i < GW_VOCAB; i++)
        assert_int_equal(ftk_tokenizer_is_end(t, i),
                         i == end || i == id("<|im_end|>") || i == 270 || i == 271);
    ftk_tokenizer_free(t);
    /* Llama 3's rules put a BOS unless the file says no. */
    small.pre = "llama-bpe";
    t = open_small(NULL);
    ASSERT_IDS(t, "hello", FTK_TOK_BOS, end, hello);
    ftk_tokenizer_free(t);
    t = open_small(no_bos);
    ASSERT_IDS(t, "hello", FTK_TOK_BOS, hello);
    ftk_tokenizer_free(t);
}

/* A word that is a token, but that no merges lead to. */
static void test_whole_words(void **state)
{
    (void)state;
    gw_tiny_bpe(&small);
    set_text("[PAD290]", "xyz", 1);
    set_text("[PAD291]", "<|xyz|>", 3);
    ftk_tokenizer *t = open_small(NULL);
    ASSERT_IDS(t, "xyz", 0, id("x"), id("y"), id("z"));
    ftk_tokenizer_free(t);
    small.pre = "llama3";
    t = open_small(NULL);
    ASSERT_IDS(t, "xyz", 0, id("xyz"));
    ASSERT_IDS(t, "xyzx", 0, id("x"), id("y"), id("z"), id("x"));
    ftk_tokenizer_free(t);
}

static void test_ends_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"<|eot_id|>",    "<|eom_id|>",      "<|end|>",
                                        "<end_of_turn>", "<|end_of_text|>", "</s>"};
    gw_tiny_bpe(&small);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char pad[16];
        snprintf(pad, sizeof pad, "[PAD%zu]", 290 + i);
        set_text(pad, names[i], 3);
    }
    ftk_tokenizer *t = open_small(NULL);
    for (int32_t i = 290; i < 296; i++) assert_true(ftk_tokenizer_is_end(t, i));
    assert_false(ftk_tokenizer_is_end(t, 296));
    ftk_tokenizer_free(t);
    /* <|end|> does not end an answer that is made of parts. */
    set_text("<|eot_id|>", "<|return|>", 3);
    set_text("<|eom_id|>", "<|call|>", 3);
    set_text("<|im_end|>", "<|x|>", 3);
    set_text("<end_of_turn>", "<|y|>", 3);
    t = open_small(NULL);
    assert_true(ftk_tokenizer_is_end(t, 290) && ftk_tokenizer_is_end(t, 291));
    assert_false(ftk_tokenizer_is_end(t, 292));
    assert_int_equal(ftk_tokenizer_eot(t), -1);
    ftk_tokenizer_free(t);
}

static void test_missing_bytes(void **state)
{
    (void)state;
    counting c = {0};
    const ftk_host host = counting_host(&c);
    ftk_tokenizer *t = NULL;
    gw_tiny_bpe(&small);
    set_text("\xC3\xBF", "[none]", 1); /* the byte FF */
    assert_int_equal(open_with(&t, &host, NULL), FTK_OK);
    ASSERT_IDS(t, "hello\xFFhello", 0, id("hello"), id("hello"));
    ASSERT_IDS(t, "\xF0\xFF", 0, id("\xC3\xB0"));
    assert_string_equal(c.line, "");
    ftk_tokenizer_free(t);
    set_text("[PAD290]", "<0xFF>", 6);
    t = open_small(NULL);
    ASSERT_IDS(t, "hello\xFFhello", 0, id("hello"), 290, id("hello"));
    assert_round_trip(t, "\xFFhello\xFF", 7, 0);
    ftk_tokenizer_free(t);
    set_text("<0xFF>", "<unk>", 2);
    set_text("q", "[nor this]", 1);
    assert_int_equal(open_with(&t, &host, NULL), FTK_OK);
    ASSERT_IDS(t, "hello\xFFq", 0, id("hello"), 290, 290);
    assert_non_null(strstr(c.line, path));
    assert_non_null(strstr(c.line, "lacks 1 of the 95 printable"));
    ftk_tokenizer_free(t);
    assert_int_equal(c.live, 0);
}

/* ------------------------------------------------------------------ rules */

static const char *const rules[] = {
    "default",    "gpt-2",        "smollm",         "starcoder",   "refact", "command-r",
    "mpt",        "olmo",         "llama-bpe",      "llama3",      "dbrx",   "chatglm-bpe",
    "qwen2",      "stablelm2",    "qwen35",         "tekken",      "gpt-4o", "llama4",
    "youtu",      "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "bailingmoe",
    "seed-coder", "exaone-moe",   "bloom",          "poro-chat",   "viking", "chameleon",
    "phi-2"};

/* What a rule makes of a text, with bars between the words. */
static ftk_err show_word(void *ctx, const char *word, size_t n)
{
    char *out = ctx;
    const size_t at = strlen(out);
    snprintf(out + at, 256 - at, "%s%.*s", at > 0 ? "|" : "", (int)n, word);
    return FTK_OK;
}

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *text, *words;
    } cases[] = {
        {"gpt-2", "It's 1234 fun,  isn't\n it?", "It|'s| 1234| fun|,| | isn|'t|\n| it|?"},
        {"smollm", "in 1234, a", "in| |1|2|3|4|,| a"},
        {"llama-bpe", "IT'S 1234 (fun)\n\n\n  x", "IT|'S| |123|4| (|fun|)\n\n\n| | x"},
        {"qwen2", "a 12\r\n\tb", "a| |1|2|\r\n|\tb"},
        {"gpt-4o", "HelloWorld isn't//", "Hello|World| isn't|//"},
        {"tekken", "HelloWORLD 12", "Hello|WORLD| |1|2"},
        {"deepseek-llm", "a 123\nb  ", "a| |123|\n|b|  "},
        {"deepseek-coder", "int x=12;", "int| x|=|1|2|;"},
        {"deepseek-v3", "x.format(1234)", "x|.format|(|123|4|)"},
        {"falcon", "a`b 1234", "a|`|b| |123|4"},
        {"default", "a$b 12345", "a|$|b| |123|45"},
        {"bloom", "a b,c", "a| b|,|c"},
        {"viking", "a 12,c", "a| |1|2|,|c"},
        {"exaone-moe", "one two 34", "one two| |3|4"},
        {"chameleon", "a  b", "a|  |b"},
        {"qwen2", "a\341\240\216b", "a|\341\240\216b"}, /* U+180E is no white space */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const ftk_str name = {cases[i].rule, strlen(cases[i].rule)};
        ftk_pre *p = NULL;
        char out[256] = "";
        assert_int_equal(ftk_pre_open(&p, ftk_pre_find(name), NULL), FTK_OK);
        assert_int_equal(ftk_pre_split(p, cases[i].text, strlen(cases[i].text), show_word, out),
                         FTK_OK);
        assert_string_equal(out, cases[i].words);
        ftk_pre_free(p);
    }
    assert_null(ftk_pre_find((ftk_str){"gpt", 3}));
    assert_null(ftk_pre_find((ftk_str){"", 0}));
}

static bool rule_composes(const char *name)
{
    return ftk_pre_find((ftk_str){name, strlen(name)})->composes;
}

/* Of a text that a rule composes its composed form comes back. */
static void assert_settles(const ftk_tokenizer *t, const char *text, size_t n)
{
    char composed[256];
    size_t n_ids, n_out = 0;
    int32_t *ids = encode(t, text, n, 0, &n_ids);
    assert_int_equal(ftk_tokenizer_decode(t, ids, n_ids, 0, composed, sizeof composed, &n_out),
                     FTK_OK);
    free(ids);
    assert_round_trip(t, composed, n_out, 0);
}

/* Any bytes come back, under every rule. */
static void test_any_bytes(void **state)
{
    (void)state;
    static const char likely[] = "\xF0\x9F\x98\x80\xE2\x81\x96 \n\r\t\xED\xA0\xC0\xF4\x90hel'sS"
                                 "12345\xFF\0.,\xE6\xBC\xA2\xCC\x81  ";
    gw_tiny_bpe(&small);
    uint64_t seed = 7;
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        small.pre = rules[r];
        ftk_tokenizer *t = open_small(NULL);
        for (int round = 0; round < 400; round++) {
            char text[60];
            const size_t n = (size_t)round % sizeof text;
            for (size_t i = 0; i < n; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                text[i] =
                    round % 2 ? (char)(seed >> 40) : likely[(seed >> 40) % (sizeof likely - 1)];
            }
            if (rule_composes(rules[r]))
                assert_settles(t, text, n);
            else
                assert_round_trip(t, text, n, 0);
        }
        ftk_tokenizer_free(t);
    }
}

/* Letters and the marks on them become one character where the original tokenizer does that. */
static void test_composing(void **state)
{
    (void)state;
    static const char apart[] = "e\xCC\x81 o\xCC\x82\xCC\x81 s\xCC\x87\xCC\xA3 "
                                "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB \xE2\x84\xAB q\xCC\x81";
    static const char one[] = "\xC3\xA9 \xE1\xBB\x91 \xE1\xB9\xA9 \xED\x95\x9C \xC3\x85 q\xCC\x81";
    static const char *const names[] = {"qwen2", "qwen35", "deepseek-r1-qwen", "mpt",
                                        "olmo",  "gpt-2",  "llama-bpe"};
    gw_tiny_bpe(&small);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        small.pre = names[i];
        ftk_tokenizer *t = open_small(NULL);
        const bool composes = i < 5;
        size_t n, n_one;
        int32_t *ids = encode(t, apart, strlen(apart), 0, &n);
        int32_t *ids_one = encode(t, one, strlen(one), 0, &n_one);
        assert_int_equal(n == n_one && memcmp(ids, ids_one, n * sizeof *ids) == 0, composes);
        assert_decodes(t, ids, n, 0, composes ? one : apart, strlen(composes ? one : apart));
        free(ids_one);
        free(ids);
        ftk_tokenizer_free(t);
    }
}

/* The rule is replaced by "default", and that is said. */
static void test_unknown_rule(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2", "sing\x1b[2J", NULL};
    static const char *const lines[] = {"", "tokenizer.ggml.pre is 'sing\\x1b[2J', which is not",
                                        "tokenizer.ggml.pre is missing"};
    gw_tiny_bpe(&small);
    for (size_t i = 0; i < 3; i++) {
        counting c = {0};
        const ftk_host host = counting_host(&c);
        ftk_tokenizer *t = NULL;
        small.pre = names[i];
        assert_int_equal(open_with(&t, &host, NULL), FTK_OK);
        if (!strstr(c.line, lines[i]) || (i > 0 && strncmp(c.line, path, strlen(path)) != 0))
            fail_msg("\"%s\" does not hold \"%s\"", c.line, lines[i]);
        if (i == 0) assert_string_equal(c.line, "");
        ASSERT_IDS(t, "1234", 0, id("1"), id("2"), id("3"), id("4"));
        ftk_tokenizer_free(t);
    }
}

/* ------------------------------------------------------------------ chats */

static void check_chat(const char *tmpl, const int32_t *want, size_t n_want)
{
    static const ftk_message talk[] = {
        {"system", "he"}, {"user", "hello"}, {"assistant", "on"}, {"user", "in"}};
    ftk_tokenizer *t = open_small(NULL);
    int32_t ids[128];
    size_t n = 0;
    assert_int_equal(vocab_chat(t, tmpl, talk, 4, ids, 128, &n), FTK_OK);
    char got[512], wanted[512];
    size_t n_got = 0, n_wanted = 0;
    assert_int_equal(ftk_tokenizer_decode(t, ids, n, FTK_TOK_SPECIAL, got, sizeof got - 1, &n_got),
                     FTK_OK);
    assert_int_equal(ftk_tokenizer_decode(t, want, n_want, FTK_TOK_SPECIAL, wanted,
                                          sizeof wanted - 1, &n_wanted),
                     FTK_OK);
    got[n_got] = wanted[n_wanted] = '\0';
    assert_string_equal(got, wanted);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
    ftk_tokenizer_free(t);
}

#define CHAT(tmpl, ...)                                                                            \
    check_chat(tmpl, (const int32_t[]){__VA_ARGS__},                                               \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void chatml_template(gw *w)
{
    gw_str(w, "tokenizer.chat_template",
           "{% for m in messages %}{{'<|im_start|>' + m.role + '\\n'}}{{ m.content }}{% endfor %}");
}

static void test_chat(void **state)
{
    (void)state;
    gw_tiny_bpe(&small);
    const int32_t nl = id("\xC4\x8A");
    const int32_t is = id("<|im_start|>"), ie = id("<|im_end|>");
#define SYSTEM    id("s"), id("y"), id("s"), id("t"), id("e"), id("m")
#define USER      id("u"), id("s"), id("er")
#define ASSISTANT id("a"), id("s"), id("s"), id("i"), id("s"), id("t"), id("an"), id("t")
    CHAT("chatml", is, SYSTEM, nl, id("he"), ie, nl, is, USER, nl, id("hello"), ie, nl, is,
         ASSISTANT, nl, id("on"), ie, nl, is, USER, nl, id("in"), ie, nl, is, ASSISTANT, nl);
    ftk_tokenizer *t = open_small(chatml_template);
    bool has = false;
    assert_string_equal(ftk_tokenizer_chat_template(t, &has), "default");
    assert_true(has);
    ftk_tokenizer_free(t);

    set_text("[PAD290]", "<|start_header_id|>", 3);
    set_text("[PAD291]", "<|end_header_id|>", 3);
    set_text("[PAD292]", "<|eot_id|>", 3);
    small.pre = "llama-bpe";
    const int32_t bos = id("<|endoftext|>"), sh = 290, eh = 291, eot = 292;
    CHAT("llama3", bos, sh, SYSTEM, eh, nl, nl, id("he"), eot, sh, USER, eh, nl, nl, id("hello"),
         eot, sh, ASSISTANT, eh, nl, nl, id("on"), eot, sh, USER, eh, nl, nl, id("in"), eot, sh,
         ASSISTANT, eh, nl, nl);

    set_text("<|start_header_id|>", "<|system|>", 3);
    set_text("<|end_header_id|>", "<|user|>", 3);
    set_text("<|eot_id|>", "<|assistant|>", 3);
    set_text("[PAD293]", "<|end|>", 3);
    small.pre = "gpt-2";
    const int32_t s = 290, u = 291, a = 292, e = 293;
    CHAT("phi3", s, nl, id("he"), e, nl, u, nl, id("hello"), e, nl, a, nl, id("on"), e, nl, u, nl,
         id("in"), e, nl, a, nl);
}

/* ------------------------------------------------------------------ long lines, little memory */

/* Of the processor: on a busy machine the others' time must not count. */
static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* Lines of 1 MiB that would take hours if anything were quadratic. The bound is for slow and busy
 * machines, and for sanitizers; it takes about 0.2 seconds. */
static void test_long_lines(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "a",  " ",  "7",     "'",    "\xE6\xBC\xA2",  "\xCC\x81",        "\x01",
        "aA", "a ", "<tool", "\xFF", "hello world, ", "\xCC\x81\xCC\xA3"};
    static const char *const used[] = {"gpt-2", "llama-bpe", "gpt-4o", "deepseek-llm", "qwen2"};
    const size_t n = 1 << 20;
    char *text = malloc(n + 1);
    assert_non_null(text);
    gw_tiny_bpe(&small);
    double slowest = 0;
    for (size_t r = 0; r < sizeof used / sizeof *used; r++) {
        small.pre = used[r];
        ftk_tokenizer *t = open_small(NULL);
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            const size_t len = strlen(parts[p]);
            for (size_t i = 0; i < n; i++) text[i] = parts[p][i % len];
            text[n] = 'x'; /* white space that something follows */
            size_t n_ids;
            const double start = seconds();
            int32_t *ids = encode(t, text, n + 1, 0, &n_ids);
            const double took = seconds() - start;
            if (took > slowest) slowest = took;
            if (took > 10) fail_msg("%s: \"%s\": %.1f s", used[r], parts[p], took);
            if (!rule_composes(used[r])) assert_decodes(t, ids, n_ids, 0, text, n + 1);
            free(ids);
        }
        ftk_tokenizer_free(t);
    }
    print_message("the slowest line of 1 MiB took %.2f s\n", slowest);
    free(text);
}

enum { TEXT = 300 };

static ftk_err encode_and_chat(counting *c, void *text)
{
    const ftk_host host = counting_host(c);
    ftk_tokenizer *t = NULL;
    ftk_err err = open_with(&t, &host, chatml_template);
    assert_int_equal(t != NULL, err == FTK_OK);
    int32_t ids[400];
    size_t n = 0;
    const unsigned flags = FTK_TOK_BOS | FTK_TOK_SPECIAL;
    if (err == FTK_OK) err = ftk_tokenizer_encode(t, text, TEXT, flags, ids, 400, &n);
    const ftk_message msg = {"user", "hello"};
    if (err == FTK_OK) err = vocab_chat(t, NULL, &msg, 1, ids, 400, &n);
    ftk_tokenizer_free(t);
    if (err != FTK_OK) assert_non_null(strstr(c->line, "no memory"));
    return err;
}

/* Each allocation fails once, PCRE2's too. */
static void test_memory(void **state)
{
    (void)state;
    char text[TEXT] = "hello<|im_end|>\xFF world 12 e\xCC\x81 ";
    const size_t n = strlen(text);
    memset(text + n, 'a', sizeof text - n);
    gw_tiny_bpe(&small);
    small.pre = "qwen2";
    small.merges[23] = (ftk_str){"q u", 3};
    counting c = {0};
    const long calls = fail_each(&c, "a tokenizer", encode_and_chat, text);
    assert_true(calls > 19);
    print_message("%ld allocations, each failed once\n", calls);
}

int main(void)
{
    snprintf(path, sizeof path, "%s/test-bpe-%ld.gguf", FTK_BUILT_DIR, (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),         cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_smollm2),      cmocka_unit_test(test_llama3_rules),
        cmocka_unit_test(test_merges),       cmocka_unit_test(test_strange_merges),
        cmocka_unit_test(test_equal_texts),  cmocka_unit_test(test_specials),
        cmocka_unit_test(test_decode),       cmocka_unit_test(test_stream),
        cmocka_unit_test(test_settings),     cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_ends_by_name), cmocka_unit_test(test_missing_bytes),
        cmocka_unit_test(test_rules),        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_composing),    cmocka_unit_test(test_unknown_rule),
        cmocka_unit_test(test_chat),         cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_memory),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
