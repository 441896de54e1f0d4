/* SPDX-License-Identifier: Apache-2.0
 * Text to words, by the rules that the makers of vocabularies used. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenizer.h"

#include "base/mem.h"
#include "model/compose.h"

#include <pcre2.h>
#include <string.h>

/* ------------------------------------------------------------------ rules */

/* Whether text is composed first stands in the tokenizer.json files; llama.cpp never does it. The
 * patterns are those of these files and of llama.cpp's list of names, written so
 * that PCRE2 needs no more than time in proportion to the text:
 *  - white space is spelled out, as PCRE2's \s holds U+180E, which Unicode has dropped from it;
 *  - where a pattern of the originals gives up at the end of a run, and would try again one
 *    character further, a lookbehind lets it try at the start of a run only.
 * Not here, as a pattern alone cannot say it in linear time, or at all: groups of three digits
 * counted from the right (superbpe, tiny_aya, afmoe), jais-2, kimi-k2, and the vocabularies that
 * do not work on bytes (gemma4, sarvam-moe). */

#define SPACE       "\\p{Z}\\t-\\r\\x{85}" /* within [] */
#define SPACES_LAST "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
#define LINES       "[" SPACE "]*[\\r\\n]+"
#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define HEAD        "[^\\r\\n\\p{L}\\p{N}]?"
#define SIGNS       " ?[^" SPACE "\\p{L}\\p{N}]+"
#define UPPER       "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER       "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" SIGNS "|" SPACES_LAST

/* The family of GPT-4's patterns: digits is "", "{1,3}" ... */
#define GPT4(digits)                                                                               \
    SHORT_FORMS "|" HEAD "\\p{L}+|\\p{N}" digits "|" SIGNS "[\\r\\n]*|" LINES "|" SPACES_LAST

/* Words are cut between lower and upper case. */
#define CASES(form, digits)                                                                        \
    HEAD UPPER "*" LOWER "+" form "|" HEAD UPPER "+" LOWER "*" form "|\\p{N}" digits "|" SIGNS     \
               "[\\r\\n/]*|" LINES "|" SPACES_LAST

/* The letters that have two cases, as DeepSeek lists them. */
#define CASED                                                                                      \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}" \
    "\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}"         \
    "\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}"  \
    "\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}"                 \
    "\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}"                 \
    "\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"         \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}"        \
    "\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}"                 \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}"         \
    "\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}"                   \
    "\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}"         \
    "\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}"                  \
    "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}"                 \
    "\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}"                 \
    "\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"           \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

#define CJK  "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+"

static const char *const gpt2[] = {GPT2, NULL};
static const char *const smollm[] = {"\\p{N}", GPT2, NULL};
static const char *const llama3[] = {GPT4("{1,3}"), NULL};
static const char *const qwen2[] = {GPT4(""), NULL};
static const char *const tekken[] = {CASES("", ""), NULL};
static const char *const gpt4o[] = {CASES(SHORT_FORMS "?", "{1,3}"), NULL};

static const char *const general[] = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]",
                                      NULL};
static const char *const falcon[] = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]", NULL};

static const char *const qwen35[] = {SHORT_FORMS "|" HEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^" SPACE
                                                 "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES
                                                 "|" SPACES_LAST,
                                     NULL};

static const char *const bailingmoe[] = {"'(?i:[sdmt]|ll|ve|re)|" HEAD "\\p{L}+|\\p{N}|" SIGNS
                                         "[\\r\\n]*|[" SPACE "]*[\\r\\n]|" SPACES_LAST,
                                         NULL};

static const char *const seed_coder[] = {SHORT_FORMS "|" HEAD "\\p{L}+|\\p{N}| ?[^" SPACE
                                                     "\\p{L}\\p{N}\\r\\n]+|" LINES "|" SPACES_LAST,
                                         NULL};

static const char *const exaone_moe[] = {
    SHORT_FORMS "|" HEAD "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}|" SIGNS
                "[\\r\\n/]?|[" SPACE "]*[\\r\\n]|" SPACES_LAST,
    NULL};

static const char *const deepseek_llm[] = {
    "[\\r\\n]",
    "[" SPACE "]?[" CASED "]+",
    "[" SPACE "]?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}"
    "\\x{3000}-\\x{3002}]+",
    "(?<![" SPACE "])[" SPACE "]++\\z",
    CJK,
    "\\p{N}+",
    NULL};

static const char *const deepseek_coder[] = {
    "[\\r\\n]", "[" SPACE "]?\\p{L}+", "[" SPACE "]?\\p{P}+", CJK, "\\p{N}", NULL};

static const char *const deepseek_v3[] = {
    "\\p{N}{1,3}", KANA,
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES "|" SPACES_LAST,
    NULL};

static const char *const youtu[] = {
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}"
    "\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|"
    "[\\x{3105}-\\x{312F}]+|" KANA,
    CASES(SHORT_FORMS "?", ""), NULL};

/* White space, round brackets, bars and some punctuation of several scripts end a word. */
#define BLOOM " ?[^(" SPACE "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
static const char *const bloom[] = {BLOOM, NULL};
static const char *const viking[] = {BLOOM, "\\p{N}", NULL};

static const char *const chameleon[] = {"<sentinel:[0-9]+>",
                                        "IMGIMG[A-I]{1,4}Z",
                                        "[\\t\\n]|    |  ",
                                        "\\p{N}",
                                        "[\\p{P}!-/:-@\\[-`{-~]",
                                        GPT2,
                                        NULL};

/* Of those with the same patterns and habits one row, with all their names. */
static const ftk_pre_rule rules[] = {
    {"default", general, false, false, false},
    {"gpt-2 phi-2 jais trillion granite-docling gigachat mellum a.x-4.0 exaone4 modern-bert "
     "roberta-bpe jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code",
     gpt2, false, false, false},
    {"mpt olmo", gpt2, false, false, true},
    {"smollm starcoder refact codeshell exaone minerva-7b", smollm, false, false, false},
    {"command-r", smollm, false, false, true},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", llama3, true,
     true, false},
    {"dbrx smaug-bpe chatglm-bpe glm4", llama3, false, false, false},
    {"qwen2 deepseek-r1-qwen f2llmv2", qwen2, false, false, true},
    {"stablelm2 megrez hunyuan solar-open grok-2 kormo", qwen2, false, false, false},
    {"qwen35", qwen35, false, false, true},
    {"tekken", tekken, true, true, false},
    {"gpt-4o llama4 kanana2 minimax-m2", gpt4o, false, false, false},
    {"youtu", youtu, true, false, false},
    {"deepseek-llm", deepseek_llm, false, false, false},
    {"deepseek-coder", deepseek_coder, false, false, false},
    {"deepseek-v3 hunyuan-dense joyai-llm", deepseek_v3, false, false, false},
    {"falcon", falcon, false, false, false},
    {"bailingmoe bailingmoe2 llada-moe", bailingmoe, false, false, false},
    {"seed-coder", seed_coder, false, false, false},
    {"exaone-moe", exaone_moe, false, false, false},
    {"bloom poro-chat gpt3-finnish", bloom, false, false, false},
    {"viking", viking, false, false, false},
    {"chameleon", chameleon, false, true, false},
};

const ftk_pre_rule *ftk_pre_find(ftk_str name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        for (const char *at = rules[i].names, *end; *at; at = end + (*end == ' ')) {
            end = at + strcspn(at, " ");
            if (name.n == (size_t)(end - at) && memcmp(name.p, at, name.n) == 0) return &rules[i];
        }
    return NULL;
}

/* ------------------------------------------------------------------ opening */

enum { MAX_STEPS = 8 };

struct ftk_pre {
    ftk_host host;
    pcre2_general_context *memory; /* the host's, for all that PCRE2 allocates */
    pcre2_code *steps[MAX_STEPS];
    size_t n_steps;
    bool composes;
};

static void *pre_alloc(size_t size, void *host)
{
    return ftk_alloc_raw(host, 1, size);
}

static void pre_release(void *p, void *host)
{
    ftk_release(host, p);
}

static ftk_err compile(ftk_pre *p, const char *pattern)
{
    pcre2_compile_context *context = pcre2_compile_context_create(p->memory);
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE offset = 0;
    if (context)
        p->steps[p->n_steps] = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                             PCRE2_UTF | PCRE2_UCP, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (p->steps[p->n_steps]) {
        p->n_steps++;
        return FTK_OK;
    }
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
        return ftk_fail(&p->host, FTK_ERR_NOMEM, "no memory for a pattern of the pre-tokenizer");
    char why[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return ftk_fail(&p->host, FTK_ERR_UNSUPPORTED,
                    "PCRE2 refuses a pattern of the pre-tokenizer, "
                    "at %zu: %s",
                    (size_t)offset, why);
}

ftk_err ftk_pre_open(ftk_pre **out, const ftk_pre_rule *rule, const ftk_host *host)
{
    *out = NULL;
    ftk_pre *p = ftk_alloc(host, 1, sizeof *p);
    if (!p) return ftk_fail(host, FTK_ERR_NOMEM, "no memory for a pre-tokenizer");
    if (host) p->host = *host;
    p->composes = rule->composes;
    p->memory = pcre2_general_context_create(pre_alloc, pre_release, &p->host);
    ftk_err err = FTK_OK;
    if (!p->memory) err = ftk_fail(host, FTK_ERR_NOMEM, "no memory for a pre-tokenizer");
    for (size_t i = 0; err == FTK_OK && rule->steps[i] && i < MAX_STEPS; i++)
        err = compile(p, rule->steps[i]);
    if (err == FTK_OK)
        *out = p;
    else
        ftk_pre_free(p);
    return err;
}

void ftk_pre_free(ftk_pre *p)
{
    if (!p) return;
    const ftk_host host = p->host;
    for (size_t i = 0; i < p->n_steps; i++) pcre2_code_free(p->steps[i]);
    pcre2_general_context_free(p->memory);
    ftk_release(&host, p);
}

/* ------------------------------------------------------------------ splitting */

struct walk {
    const ftk_pre *p;
    pcre2_match_data *found;
    pcre2_match_context *limits;
    ftk_pre_sink *sink;
    void *ctx;
};

static ftk_err refuse(const struct walk *w, int code, size_t n)
{
    const ftk_host *h = &w->p->host;
    if (code == PCRE2_ERROR_NOMEMORY)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory to cut a text of %zu bytes into words", n);
    char why[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return ftk_fail(h, FTK_ERR_INVALID, "a text of %zu bytes cannot be cut into words: PCRE2: %s",
                    n, why);
}

/* Steps from step on; each calls the next, which are few, so the stack stays small. */
static ftk_err split(const struct walk *w, size_t step, const char *text, size_t n)
{
    if (step == w->p->n_steps) return w->sink(w->ctx, text, n);
    ftk_err err = FTK_OK;
    size_t done = 0;
    while (err == FTK_OK && done < n) {
        /* The text was checked to be UTF-8 before. */
        const int code = pcre2_match(w->p->steps[step], (PCRE2_SPTR)text, n, done,
                                     PCRE2_NO_UTF_CHECK, w->found, w->limits);
        if (code == PCRE2_ERROR_NOMATCH) break;
        if (code < 0) return refuse(w, code, n);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(w->found);
        const size_t from = at[0], to = at[1];
        if (to <= from) break; /* no pattern here matches nothing */
        if (from > done) err = split(w, step + 1, text + done, from - done);
        if (err == FTK_OK) err = split(w, step + 1, text + from, to - from);
        done = to;
    }
    return err == FTK_OK && done < n ? split(w, step + 1, text + done, n - done) : err;
}

/* PCRE2 goes back over a run of characters once for an alternative: a few times the length. */
static uint32_t match_limit(size_t n)
{
    return n < (UINT32_MAX - 10000) / 16 ? (uint32_t)(16 * n + 10000) : UINT32_MAX;
}

static ftk_err split_all(const ftk_pre *p, const char *text, size_t n, ftk_pre_sink *sink,
                         void *ctx)
{
    enum { HEAP_KIB = 64 << 10 };
    struct walk w = {p, pcre2_match_data_create(1, p->memory),
                     pcre2_match_context_create(p->memory), sink, ctx};
    ftk_err err = FTK_ERR_NOMEM;
    if (w.found && w.limits) {
        pcre2_set_match_limit(w.limits, match_limit(n));
        pcre2_set_heap_limit(w.limits, HEAP_KIB);
        err = split(&w, 0, text, n);
    } else {
        refuse(&w, PCRE2_ERROR_NOMEMORY, n);
    }
    pcre2_match_context_free(w.limits);
    pcre2_match_data_free(w.found);
    return err;
}

ftk_err ftk_pre_split(const ftk_pre *p, const char *text, size_t n, ftk_pre_sink *sink, void *ctx)
{
    char *composed = NULL;
    size_t size = n;
    ftk_err err = p->composes ? ftk_compose(&p->host, text, n, &composed, &size) : FTK_OK;
    if (err == FTK_OK) err = split_all(p, composed ? composed : text, size, sink, ctx);
    ftk_release(&p->host, composed);
    return err;
}
