/* SPDX-License-Identifier: Apache-2.0
 * Tokens of many lines against those of the vocabularies' own tokenizers: reference_tokens.py. */
#include "base/mem.h"
#include "hf_to_gguf_vocab.h"
#include "model/compose.h"
#include "reference_lines.h"
#include "tokenchecks.h"

#define VECTORS FTK_SHARED_DIR "/tok-llamacpp-vocabs/"

static ref_lines lines;

/* ------------------------------------------------------------------ lines there and back */

static int32_t *encode_line(const ftk_tokenizer *t, ftk_str line, size_t *n)
{
    const size_t cap = 2 * line.n + 8;
    int32_t *ids = malloc(cap * sizeof *ids);
    assert_non_null(ids);
    assert_int_equal(ftk_tokenizer_encode(t, line.p, line.n, 0, ids, cap, n), FTK_OK);
    return ids;
}

/* Text of its own tokens, at once and as a stream, is the line. */
static void check_back(const ftk_tokenizer *t, ftk_str line, const int32_t *ids, size_t n_ids)
{
    char *text = malloc(line.n + 1);
    size_t n = 0;
    assert_non_null(text);
    assert_int_equal(ftk_tokenizer_decode(t, ids, n_ids, 0, text, line.n, &n), FTK_OK);
    assert_int_equal(n, line.n);
    assert_memory_equal(text, line.p, n);
    free(text);
    const ftk_model m = {.tokenizer = (ftk_tokenizer *)t};
    ftk_stream *s = NULL;
    assert_int_equal(ftk_stream_open(&s, &m, false, NULL, 0), FTK_OK);
    size_t at = 0;
    for (size_t i = 0; i <= n_ids; i++) {
        const char *more = NULL;
        bool stopped = false;
        assert_int_equal(i < n_ids ? ftk_stream_push(s, ids[i], &more, &n, &stopped)
                                   : ftk_stream_flush(s, &more, &n),
                         FTK_OK);
        assert_true(at + n <= line.n);
        assert_memory_equal(more, line.p + at, n);
        at += n;
    }
    assert_int_equal(at, line.n);
    ftk_stream_free(s);
}

static bool holds(ftk_str line, const char *what)
{
    const size_t n = strlen(what);
    for (size_t i = 0; i + n <= line.n; i++)
        if (memcmp(line.p + i, what, n) == 0) return true;
    return false;
}

/* ------------------------------------------------------------------ the originals' tokens */

/* What a vocabulary does to text for good. */
enum { MARKS = 1, SQUEEZES = 2, COMPOSES = 4 };

/* The ids of a line against those of a line of the file. */
static void check_ids(const char *name, size_t i, const char *want, const int32_t *ids, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        char *after;
        const long id = strtol(want, &after, 10);
        if (after == want || id != ids[k])
            fail_msg("%s: line %zu, token %zu is %d, not %ld", name, i + 1, k, (int)ids[k],
                     after == want ? -1 : id);
        want = after;
    }
    if (want[strspn(want, " \n")]) fail_msg("%s: line %zu: %zu tokens are too few", name, i + 1, n);
}

static void check_vocabulary(const char *name, const char *vocab, unsigned does)
{
    static char want[1 << 14], file[512];
    snprintf(file, sizeof file, FTK_CASES_DIR "/reference/%s.ids", name);
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    ftk_tokenizer *t = NULL;
    assert_int_equal(vocab_open_file(&t, vocab, NULL), FTK_OK);
    uint32_t sum = 0;
    size_t n_back = 0;
    for (size_t i = 0; i < lines.n_given + REF_MADE; i++) {
        const ftk_str line = lines.v[i];
        size_t n = 0;
        int32_t *ids = encode_line(t, line, &n);
        const size_t made = i - lines.n_given; /* wraps round before the first one */
        if (i < lines.n_given) {
            assert_non_null(fgets(want, sizeof want, f));
            check_ids(name, i, want, ids, n);
        } else {
            sum = ref_checksum(made % REF_BLOCK == 0 ? 0 : sum, ids, n);
            if (made % REF_BLOCK == REF_BLOCK - 1) {
                assert_non_null(fgets(want, sizeof want, f));
                if (strtoul(want, NULL, 16) != sum)
                    fail_msg("%s: other tokens in one of the made lines %zu to %zu", name,
                             made + 1 - REF_BLOCK, made);
            }
        }
        char *composed = NULL;
        ftk_str back = line;
        if (does & COMPOSES)
            assert_int_equal(ftk_compose(NULL, line.p, line.n, &composed, &back.n), FTK_OK);
        if (composed) back.p = composed;
        if (!(does & SQUEEZES) && !((does & MARKS) && holds(line, "\xE2\x96\x81"))) {
            check_back(t, back, ids, n);
            n_back++;
        }
        ftk_release(NULL, composed);
        free(ids);
    }
    print_message("%s: %zu lines, of which %zu come back\n", name, lines.n_given + REF_MADE,
                  n_back);
    assert_null(fgets(want, sizeof want, f));
    fclose(f);
    ftk_tokenizer_free(t);
}

/* ------------------------------------------------------------------ vocabularies */

static void test_llama2(void **state)
{
    (void)state;
    skip_without(VECTORS "ggml-vocab-llama-spm.gguf");
    check_vocabulary("llama2", VECTORS "ggml-vocab-llama-spm.gguf", MARKS);
    static const char model[] = FTK_SHARED_DIR "/tok-llama2/tokenizer.model";
    skip_without(model);
    assert_true(hf_spm_to_gguf(model, FTK_BUILT_DIR "/vocab-llama2.gguf"));
    check_vocabulary("llama2", FTK_BUILT_DIR "/vocab-llama2.gguf", MARKS);
}

static void test_openllama(void **state)
{
    (void)state;
    static const char model[] = FTK_SHARED_DIR "/tok-openllama/tokenizer.model";
    skip_without(model);
    assert_true(hf_spm_to_gguf(model, FTK_BUILT_DIR "/vocab-openllama.gguf"));
    check_vocabulary("openllama", FTK_BUILT_DIR "/vocab-openllama.gguf", SQUEEZES);
}

static void test_gemma3(void **state)
{
    (void)state;
    static const char model[] = FTK_MODELS_DIR "/gemma-3-270m-Q4_K_M.gguf";
    skip_without(model);
    check_vocabulary("gemma3", model, MARKS);
}

static void test_smollm2(void **state)
{
    (void)state;
    static const char json[] = FTK_SHARED_DIR "/tok-smollm2/tokenizer.json.xz";
    skip_without(json);
    assert_true(hf_json_to_gguf(json, FTK_BUILT_DIR "/vocab-smollm2-too.gguf", "smollm"));
    check_vocabulary("smollm2", FTK_BUILT_DIR "/vocab-smollm2-too.gguf", 0);
}

static void test_smollm2_model(void **state)
{
    (void)state;
    static const char model[] = FTK_MODELS_DIR "/SmolLM2-135M-Instruct.Q4_1.gguf";
    skip_without(model);
    check_vocabulary("smollm2", model, 0);
}

static void test_gpt2(void **state)
{
    (void)state;
    skip_without(VECTORS "ggml-vocab-gpt-2.gguf");
    check_vocabulary("gpt2", VECTORS "ggml-vocab-gpt-2.gguf", 0);
}

static void test_qwen2(void **state)
{
    (void)state;
    static const char ranks[] = FTK_SHARED_DIR "/tok-qwen2/qwen.tiktoken";
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", NULL};
    skip_without(ranks);
    assert_true(hf_ranks_to_gguf(ranks, FTK_BUILT_DIR "/vocab-qwen2-too.gguf", "qwen2", specials));
    check_vocabulary("qwen2", FTK_BUILT_DIR "/vocab-qwen2-too.gguf", COMPOSES);
}

static void test_cl100k(void **state)
{
    (void)state;
    static const char ranks[] = FTK_SHARED_DIR "/tok-openai/cl100k_base.tiktoken";
    skip_without(ranks);
    assert_true(hf_ranks_to_gguf(ranks, FTK_BUILT_DIR "/vocab-cl100k-too.gguf", "llama-bpe", NULL));
    check_vocabulary("cl100k", FTK_BUILT_DIR "/vocab-cl100k-too.gguf", 0);
}

int main(void)
{
    if (!ref_lines_make(&lines, FTK_CASES_DIR "/reference_parts.txt")) {
        printf("reference_parts.txt cannot be read\n");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama2),        cmocka_unit_test(test_openllama),
        cmocka_unit_test(test_gemma3),        cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_smollm2_model), cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_qwen2),         cmocka_unit_test(test_cl100k),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ref_lines_free(&lines);
    return failed;
}
