/* SPDX-License-Identifier: Apache-2.0
 * Hyper-parameters and vocabularies that mean no model, and the one line that each gets. See
 * test_badfiles.c. */
#include <math.h>

#include "badfile.h"

/* ------------------------------------------------------------------ hyper-parameters */

/* A key of the good model, replaced by this value. */
typedef struct bad_key {
    const char *what, *key;
    int type; /* or MISSING */
    uint64_t u;
    double f;
    const char *s;
    ftk_err err;
    const char *line;
} bad_key;

#define NO_KEY(key)        "without " key, key, MISSING, 0, 0, NULL
#define UINT(what, key, v) what, key, FTK_GGUF_U32, v, 0, NULL
#define SINT(what, key, v) what, key, FTK_GGUF_I32, (uint64_t)(v), 0, NULL
#define LONG(what, key, v) what, key, FTK_GGUF_U64, v, 0, NULL
#define REAL(what, key, v) what, key, FTK_GGUF_F32, 0, v, NULL
#define TEXT(what, key, v) what, key, FTK_GGUF_STRING, 0, 0, v

static const bad_key keys[] = {
    {UINT("good: another key", "general.quantization_version", 2), FTK_OK, ""},
    {NO_KEY("general.architecture"), FTK_ERR_FORMAT, "key general.architecture is missing"},
    {UINT("architecture is a number", "general.architecture", 1), FTK_ERR_FORMAT,
     "key general.architecture is not a string"},
    {TEXT("architecture is empty", "general.architecture", ""), FTK_ERR_UNSUPPORTED,
     "architecture \"\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are"},
    {TEXT("another architecture", "general.architecture", "mamba"), FTK_ERR_UNSUPPORTED,
     "architecture \"mamba\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are"},
    {TEXT("architecture with an escape", "general.architecture", "\x1b[2Jx"), FTK_ERR_UNSUPPORTED,
     "architecture \"\\x1b[2Jx\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are"},
    {NO_KEY("general.name"), FTK_OK, ""},
    {UINT("name is a number", "general.name", 1), FTK_OK, ""},
    {LONG("one of two files", "split.count", 2), FTK_ERR_FORMAT,
     "it is one of 2 parts of a model, which are found by their names: they must end in "
     "-00001-of-00002.gguf and so on"},

    {NO_KEY("llama.block_count"), FTK_ERR_FORMAT, "key llama.block_count is missing"},
    {UINT("0 layers", "llama.block_count", 0), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {UINT("a layer too many", "llama.block_count", 3), FTK_ERR_FORMAT,
     "tensor blk.2.attn_q.weight is missing"},
    {UINT("513 layers", "llama.block_count", 513), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {UINT("2^31 layers", "llama.block_count", UINT32_C(1) << 31), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {SINT("-1 layers", "llama.block_count", -1), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {LONG("2^32 + 2 layers", "llama.block_count", (UINT64_C(1) << 32) + 2), FTK_ERR_FORMAT,
     "key llama.block_count is out of range: it must be 1 to 512"},
    {REAL("layers as a float", "llama.block_count", 2), FTK_ERR_FORMAT,
     "key llama.block_count is not an integer"},
    {TEXT("layers as a string", "llama.block_count", "2"), FTK_ERR_FORMAT,
     "key llama.block_count is not an integer"},
    {NO_KEY("llama.embedding_length"), FTK_ERR_FORMAT, "key llama.embedding_length is missing"},
    {UINT("embedding of 0", "llama.embedding_length", 0), FTK_ERR_FORMAT,
     "key llama.embedding_length is out of range: it must be 1 to 65536"},
    {UINT("embedding of 66", "llama.embedding_length", 66), FTK_ERR_FORMAT,
     "llama.embedding_length 66 is not a multiple of llama.attention.head_count 4"},
    {UINT("embedding of 2^31", "llama.embedding_length", UINT32_C(1) << 31), FTK_ERR_FORMAT,
     "key llama.embedding_length is out of range: it must be 1 to 65536"},
    {UINT("feed-forward of 0", "llama.feed_forward_length", 0), FTK_ERR_FORMAT,
     "key llama.feed_forward_length is out of range: it must be 1 to 1048576"},
    {UINT("feed-forward of 97", "llama.feed_forward_length", 97), FTK_ERR_FORMAT,
     "tensor blk.0.ffn_gate.weight has shape [64, 96] instead of [64, 97]"},
    {UINT("context of 0", "llama.context_length", 0), FTK_ERR_FORMAT,
     "key llama.context_length is out of range: it must be 1 to 134217728"},
    {LONG("context of 2^32", "llama.context_length", UINT64_C(1) << 32), FTK_ERR_FORMAT,
     "key llama.context_length is out of range: it must be 1 to 134217728"},
    {UINT("experts", "llama.expert_count", 8), FTK_ERR_UNSUPPORTED,
     "a mixture of experts (llama.expert_count 8) is not supported yet"},
    {UINT("experts: none", "llama.expert_count", 0), FTK_OK, ""},

    {UINT("0 heads", "llama.attention.head_count", 0), FTK_ERR_FORMAT,
     "key llama.attention.head_count is out of range: it must be 1 to 1024"},
    {UINT("6 heads", "llama.attention.head_count", 6), FTK_ERR_FORMAT,
     "llama.embedding_length 64 is not a multiple of llama.attention.head_count 6"},
    {UINT("64 heads", "llama.attention.head_count", 64), FTK_ERR_UNSUPPORTED,
     "head size 1 is not supported: it must be even and at most 256"},
    {UINT("2^31 heads", "llama.attention.head_count", UINT32_C(1) << 31), FTK_ERR_FORMAT,
     "key llama.attention.head_count is out of range: it must be 1 to 1024"},
    {UINT("0 KV heads", "llama.attention.head_count_kv", 0), FTK_ERR_FORMAT,
     "key llama.attention.head_count_kv is out of range: it must be 1 to 1024"},
    {UINT("3 KV heads", "llama.attention.head_count_kv", 3), FTK_ERR_FORMAT,
     "llama.attention.head_count 4 is not a multiple of head_count_kv 3"},
    {UINT("8 KV heads", "llama.attention.head_count_kv", 8), FTK_ERR_FORMAT,
     "llama.attention.head_count 4 is not a multiple of head_count_kv 8"},
    {UINT("1 KV head, tensors of 2", "llama.attention.head_count_kv", 1), FTK_ERR_FORMAT,
     "tensor blk.0.attn_k.weight has shape [64, 32] instead of [64, 16]"},
    {UINT("head size 0", "llama.attention.key_length", 0), FTK_ERR_FORMAT,
     "key llama.attention.key_length is out of range: it must be 1 to 256"},
    {UINT("head size 15", "llama.attention.key_length", 15), FTK_ERR_UNSUPPORTED,
     "head size 15 is not supported: it must be even and at most 256"},
    {UINT("head size 8", "llama.attention.key_length", 8), FTK_ERR_FORMAT,
     "key llama.rope.dimension_count is out of range: it must be 2 to 8"},
    {UINT("head size 18", "llama.attention.key_length", 18), FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight has shape [64, 64] instead of [64, 72]"},
    {UINT("head size 258", "llama.attention.key_length", 258), FTK_ERR_FORMAT,
     "key llama.attention.key_length is out of range: it must be 1 to 256"},
    {UINT("values of another size", "llama.attention.value_length", 32), FTK_ERR_UNSUPPORTED,
     "key length 16 and value length 32 differ: not supported yet"},

    {UINT("RoPE over 0", "llama.rope.dimension_count", 0), FTK_ERR_FORMAT,
     "key llama.rope.dimension_count is out of range: it must be 2 to 16"},
    {UINT("RoPE over 15", "llama.rope.dimension_count", 15), FTK_ERR_FORMAT,
     "llama.rope.dimension_count 15 is odd"},
    {UINT("RoPE over 18", "llama.rope.dimension_count", 18), FTK_ERR_FORMAT,
     "key llama.rope.dimension_count is out of range: it must be 2 to 16"},
    {REAL("RoPE base 0", "llama.rope.freq_base", 0), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {REAL("RoPE base -1", "llama.rope.freq_base", -1), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {REAL("RoPE base NaN", "llama.rope.freq_base", NAN), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {REAL("RoPE base infinite", "llama.rope.freq_base", INFINITY), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is out of range: it must be above 0 and at most 1e+12"},
    {UINT("RoPE base an integer", "llama.rope.freq_base", 10000), FTK_ERR_FORMAT,
     "key llama.rope.freq_base is not a float"},
    {TEXT("RoPE scaling yarn", "llama.rope.scaling.type", "yarn"), FTK_ERR_UNSUPPORTED,
     "llama.rope.scaling.type is not supported: only none, linear and the llama-3 tensor "
     "rope_freqs.weight are"},
    {TEXT("RoPE scaling none", "llama.rope.scaling.type", "none"), FTK_OK, ""},
    {TEXT("RoPE scaling without factor", "llama.rope.scaling.type", "linear"), FTK_ERR_FORMAT,
     "key llama.rope.scaling.factor is missing"},
    {REAL("RoPE scaling 0", "llama.rope.scale_linear", 0), FTK_ERR_FORMAT,
     "key llama.rope.scale_linear is out of range: it must be above 0 and at most 1e+06"},
    {REAL("RoPE scaling NaN", "llama.rope.scale_linear", NAN), FTK_ERR_FORMAT,
     "key llama.rope.scale_linear is out of range: it must be above 0 and at most 1e+06"},

    {NO_KEY("llama.attention.layer_norm_rms_epsilon"), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is missing"},
    {REAL("epsilon NaN", "llama.attention.layer_norm_rms_epsilon", NAN), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},
    {REAL("epsilon infinite", "llama.attention.layer_norm_rms_epsilon", INFINITY), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},
    {REAL("epsilon negative", "llama.attention.layer_norm_rms_epsilon", -1e-5), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},
    {REAL("epsilon 0", "llama.attention.layer_norm_rms_epsilon", 0), FTK_ERR_FORMAT,
     "key llama.attention.layer_norm_rms_epsilon is out of range: it must be above 0 and at "
     "most 1"},

    {NO_KEY("tokenizer.ggml.model"), FTK_ERR_FORMAT,
     "the vocabulary is missing: there is no key tokenizer.ggml.model"},
    {TEXT("vocabulary kind bert", "tokenizer.ggml.model", "bert"), FTK_ERR_UNSUPPORTED,
     "vocabulary kind 'bert' is not supported yet: only llama (SentencePiece) and gpt2 (byte "
     "pairs)"},
    {TEXT("vocabulary kind with an escape", "tokenizer.ggml.model", "\x1b[2J"), FTK_ERR_UNSUPPORTED,
     "vocabulary kind '\\x1b[2J' is not supported yet: only llama (SentencePiece) and gpt2 (byte "
     "pairs)"},
    {UINT("vocabulary kind a number", "tokenizer.ggml.model", 1), FTK_ERR_FORMAT,
     "tokenizer.ggml.model is not a string"},
    {NO_KEY("tokenizer.ggml.tokens"), FTK_ERR_FORMAT, "tokenizer.ggml.tokens is missing"},
    {NO_KEY("tokenizer.ggml.scores"), FTK_ERR_FORMAT, "tokenizer.ggml.scores is missing"},
    {NO_KEY("tokenizer.ggml.token_type"), FTK_OK, ""},
    {UINT("tokens are a number", "tokenizer.ggml.tokens", 300), FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens is not an array"},
    {UINT("BOS beyond the vocabulary", "tokenizer.ggml.bos_token_id", 300), FTK_OK, ""},
    {UINT("EOS beyond the vocabulary", "tokenizer.ggml.eos_token_id", UINT32_MAX), FTK_OK, ""},
    {SINT("EOS -1", "tokenizer.ggml.eos_token_id", -1), FTK_OK, ""},
    {UINT("EOT beyond the vocabulary", "tokenizer.ggml.eot_token_id", 300), FTK_OK, ""},
    {TEXT("BOS is a string", "tokenizer.ggml.bos_token_id", "<s>"), FTK_ERR_FORMAT,
     "tokenizer.ggml.bos_token_id is not an integer"},
    {UINT("unknown token beyond the vocabulary", "tokenizer.ggml.unknown_token_id", 300), FTK_OK,
     ""},
    {UINT("add_bos is a number", "tokenizer.ggml.add_bos_token", 1), FTK_ERR_FORMAT,
     "tokenizer.ggml.add_bos_token is not a bool"},
    {NO_KEY("tokenizer.ggml.bos_token_id"), FTK_OK, ""},
    {UINT("chat template is a number", "tokenizer.chat_template", 1), FTK_ERR_FORMAT,
     "tokenizer.chat_template is not a string"},
    {TEXT("chat template nobody knows", "tokenizer.chat_template", "{{ boo }}"), FTK_OK, ""},
};

static void test_keys(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = keys[i].key;
        gw_tiny_llama(&w);
        w.skip = NULL;
        put_key(&w, keys[i].key, keys[i].type, keys[i].u, keys[i].f, keys[i].s);
        failed += check_model(&w, keys[i].what, keys[i].err, keys[i].line);
    }
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ vocabulary */

/* One array of the vocabulary, changed by edit and cut to count elements. */
typedef struct bad_vocab {
    const char *what, *array;
    uint64_t count;
    ftk_gguf_type type;
    void (*edit)(gw_vocab *v);
    ftk_err err;
    const char *line;
} bad_vocab;

#define TOKENS "tokenizer.ggml.tokens"
#define SCORES "tokenizer.ggml.scores"
#define TYPES  "tokenizer.ggml.token_type"
static char long_piece[5000];

/* clang-format off */
static void score_nan(gw_vocab *v) { v->scores[270] = NAN; }
static void type_0(gw_vocab *v) { v->types[270] = 0; }
static void type_7(gw_vocab *v) { v->types[270] = 7; }
static void byte_missing(gw_vocab *v) { v->types[10] = 1; }
static void byte_twice(gw_vocab *v) { v->tokens[10] = v->tokens[11]; }
static void byte_zz(gw_vocab *v) { v->tokens[10] = (ftk_str){"<0xZZ>", 6}; }
static void byte_negative(gw_vocab *v) { v->tokens[10] = (ftk_str){"<0x-1>", 6}; }
static void byte_plain(gw_vocab *v) { v->types[270] = 6; }
static void unknown_twice(gw_vocab *v) { v->types[270] = 2; }
static void piece_empty(gw_vocab *v) { v->tokens[270].n = 0; }
static void piece_twice(gw_vocab *v) { v->tokens[270] = v->tokens[271]; }
static void piece_broken(gw_vocab *v) { v->tokens[270] = (ftk_str){"\xC3(", 2}; }
static void piece_nul(gw_vocab *v) { v->tokens[270] = (ftk_str){"a\0b", 3}; }
static void piece_long(gw_vocab *v) { v->tokens[270] = (ftk_str){long_piece, sizeof long_piece}; }
/* clang-format on */

static const bad_vocab vocabularies[] = {
    {"no tokens", TOKENS, 0, FTK_GGUF_STRING, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens is empty"},
    {"a token less", TOKENS, 299, FTK_GGUF_STRING, NULL, FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [64, 300] instead of [64, 299]"},
    {"tokens that are numbers", TOKENS, 300, FTK_GGUF_F32, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.tokens holds elements of type f32, not string"},
    {"a score less", SCORES, 299, FTK_GGUF_F32, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores has 299 elements, but there are 300 tokens"},
    {"scores in one byte", SCORES, 300, FTK_GGUF_U8, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores holds elements of type u8, not f32"},
    {"scores in eight bytes", SCORES, 150, FTK_GGUF_F64, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.scores holds elements of type f64, not f32"},
    {"a type less", TYPES, 299, FTK_GGUF_I32, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.token_type has 299 elements, but there are 300 tokens"},
    {"types in one byte", TYPES, 300, FTK_GGUF_U8, NULL, FTK_ERR_FORMAT,
     "tokenizer.ggml.token_type holds elements of type u8, not i32"},
    {"types without a sign", TYPES, 300, FTK_GGUF_U32, NULL, FTK_OK, ""},
    {"score NaN", SCORES, 300, FTK_GGUF_F32, score_nan, FTK_ERR_FORMAT,
     "token 270 has a score that is not a number"},
    {"type 0", TYPES, 300, FTK_GGUF_I32, type_0, FTK_ERR_FORMAT,
     "token 270 has type 0; known are 1 to 6"},
    {"type 7", TYPES, 300, FTK_GGUF_I32, type_7, FTK_ERR_FORMAT,
     "token 270 has type 7; known are 1 to 6"},
    {"a byte is missing", TYPES, 300, FTK_GGUF_I32, byte_missing, FTK_ERR_FORMAT,
     "the vocabulary has 255 of the 256 byte tokens"},
    {"a byte twice", TOKENS, 300, FTK_GGUF_STRING, byte_twice, FTK_ERR_FORMAT,
     "the vocabulary has 255 of the 256 byte tokens"},
    {"byte ZZ", TOKENS, 300, FTK_GGUF_STRING, byte_zz, FTK_ERR_FORMAT,
     "token 10 is a byte, but is not named <0x00> to <0xFF>"},
    {"byte -1", TOKENS, 300, FTK_GGUF_STRING, byte_negative, FTK_ERR_FORMAT,
     "token 10 is a byte, but is not named <0x00> to <0xFF>"},
    {"a letter as a byte", TYPES, 300, FTK_GGUF_I32, byte_plain, FTK_ERR_FORMAT,
     "token 270 is a byte, but is not named <0x00> to <0xFF>"},
    {"two unknown tokens", TYPES, 300, FTK_GGUF_I32, unknown_twice, FTK_OK, ""},
    {"empty piece", TOKENS, 300, FTK_GGUF_STRING, piece_empty, FTK_OK, ""},
    {"a piece twice", TOKENS, 300, FTK_GGUF_STRING, piece_twice, FTK_OK, ""},
    {"piece of broken UTF-8", TOKENS, 300, FTK_GGUF_STRING, piece_broken, FTK_OK, ""},
    {"piece with NUL", TOKENS, 300, FTK_GGUF_STRING, piece_nul, FTK_OK, ""},
    {"piece of 5000 bytes", TOKENS, 300, FTK_GGUF_STRING, piece_long, FTK_ERR_FORMAT,
     "token 270 has a text of 5000 bytes; at most 4096 are allowed"},
};

static void put_vocab(gw *w, const bad_vocab *b, const gw_vocab *v)
{
    if (b->type == FTK_GGUF_STRING)
        gw_str_array(w, b->array, b->count, v->tokens);
    else if (strcmp(b->array, TYPES) == 0)
        gw_array(w, b->array, b->type, b->count, v->types);
    else
        gw_array(w, b->array, b->type, b->count, v->scores);
}

static void test_vocabularies(void **state)
{
    (void)state;
    int failed = 0;
    memset(long_piece, 'x', sizeof long_piece);
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++) {
        const bad_vocab *b = &vocabularies[i];
        gw_vocab v;
        gw_tiny_vocab(&v);
        if (b->edit) b->edit(&v);
        gw w;
        gw_init(&w);
        w.skip = b->array;
        gw_tiny_llama(&w);
        w.skip = NULL;
        put_vocab(&w, b, &v);
        failed += check_model(&w, b->what, b->err, b->line);
    }
    assert_int_equal(failed, 0);
}

/* 10 MiB of template, and merges a SentencePiece vocabulary has no use for. */
static void test_ballast(void **state)
{
    (void)state;
    enum { SIZE = 10 << 20 };
    char *template = malloc(SIZE + 1);
    assert_non_null(template);
    memset(template, '{', SIZE);
    template[SIZE] = '\0';
    gw w;
    gw_init(&w);
    gw_tiny_llama(&w);
    gw_str(&w, "tokenizer.chat_template", template);
    gw_str_array(&w, "tokenizer.ggml.merges", 2, (const ftk_str[]){{"no such", 7}, {"", 0}});
    free(template);
    assert_int_equal(check_model(&w, "template of 10 MiB", FTK_OK, ""), 0);
}

int main(void)
{
    choose_path();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_ballast),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
