/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of conversations to tokens. The first byte chooses a vocabulary; the second a
 * built-in form, or else what follows up to the first NUL is a template; the rest are messages,
 * a role's letter and a text each, with NULs between. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

#include "model/vocabulary.h"

enum { MAX_MESSAGES = 16, MAX_TOKENS = 1 << 18, N_VOCABS = 3, N_FORMS = 9 };

static const char *const roles[] = {"system", "user", "assistant", "tool"};

/* Byte pairs with the control tokens of chatml (0) or of all templates, with a BOS and a space put
 * in front (1), and SentencePiece with none (2), which takes many times as long. */
static gw_bytes make_file(int which)
{
    static const char *const words[] = {"<|start_header_id|>",
                                        "<|end_header_id|>",
                                        "<|eot_id|>",
                                        "[INST]",
                                        "[/INST]",
                                        "<start_of_turn>",
                                        "<end_of_turn>",
                                        "<|system|>",
                                        "<|user|>",
                                        "<|assistant|>",
                                        "<|end|>"};
    static gw_bpe v;
    gw w;
    gw_init(&w);
    gw_tiny_bpe(&v);
    v.pre = "qwen2";
    for (size_t i = 0; which == 1 && i < sizeof words / sizeof *words; i++) {
        const size_t id = v.n_tokens - 1 - i; /* in place of unused ones */
        v.tokens[id] = (ftk_str){words[i], strlen(words[i])};
        v.types[id] = FTK_TOKEN_CONTROL;
    }
    if (which == 2)
        gw_tiny_tokenizer(&w);
    else
        gw_put_bpe(&w, &v);
    if (which == 1) gw_bool(&w, "tokenizer.ggml.add_bos_token", true);
    if (which == 1) gw_bool(&w, "tokenizer.ggml.add_space_prefix", true);
    const gw_bytes file = gw_finish(&w);
    gw_free(&w);
    return file;
}

static int n_errors;

static const ftk_tokenizer *vocabulary(int which)
{
    static ftk_tokenizer *all[N_VOCABS];
    if (all[which]) return all[which];
    const ftk_host *host = fuzz_host(&n_errors);
    gw_bytes file = make_file(which);
    const char *path = fuzz_file(file.p, file.n);
    ftk_gguf *g = NULL;
    if (ftk_gguf_open(&g, path, host) != FTK_OK) abort();
    if (ftk_tokenizer_open(&all[which], g, path, host) != FTK_OK) abort();
    ftk_gguf_free(g);
    free(file.p);
    return all[which];
}

/* ------------------------------------------------------------------ what has to hold */

struct ids {
    int32_t v[MAX_TOKENS];
    size_t n;
};

/* One error line where it fails, none where it does not. */
static bool render(const ftk_tokenizer *t, const ftk_chat_config *cfg, const ftk_message *messages,
                   size_t n, struct ids *out)
{
    n_errors = 0;
    const ftk_err err = ftk_tokenizer_chat(t, cfg, messages, n, out->v, MAX_TOKENS, &out->n);
    if (err == FTK_ERR_SPACE) return false; /* a template that repeats itself */
    if (n_errors != (err != FTK_OK) || (err != FTK_OK && out->n != 0)) abort();
    return err == FTK_OK;
}

/* The control tokens of the two must be the same ones in the same order: they are the template's,
 * whatever the texts are. */
static void check_controls(const ftk_tokenizer *t, const struct ids *a, const struct ids *b)
{
    for (size_t i = 0, k = 0;; i++, k++) {
        while (i < a->n && t->pieces[a->v[i]].type != FTK_TOKEN_CONTROL) i++;
        while (k < b->n && t->pieces[b->v[k]].type != FTK_TOKEN_CONTROL) k++;
        if ((i < a->n) != (k < b->n)) abort();
        if (i >= a->n) return;
        if (a->v[i] != b->v[k]) abort();
    }
}

static void check(const ftk_tokenizer *t, const ftk_chat_config *cfg, ftk_message *messages,
                  size_t n)
{
    static struct ids all, bare;
    bool bad = false;
    for (size_t i = 0; i < n; i++) bad |= messages[i].role == roles[3];
    const bool rendered = render(t, cfg, messages, n, &all);
    if (cfg->source) return; /* which may do as it likes */
    if (rendered == bad) abort();
    if (bad) return;
    for (size_t i = 0; i < n; i++) messages[i].content = "x";
    if (!render(t, cfg, messages, n, &bare)) abort();
    check_controls(t, &all, &bare);
}

/* Cuts the first text off *at; false when nothing is left. */
static bool cut(char **at, const char *end, char **text)
{
    if (*at >= end) return false;
    *text = *at;
    *at += strlen(*at) + 1;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    const ftk_tokenizer *t = vocabulary(data[0] >= 0xF0 ? 2 : data[0] % 2);
    char *copy = malloc(size - 1), *at = copy, *text;
    if (!copy) abort();
    memcpy(copy, data + 2, size - 2);
    copy[size - 2] = 0;
    const char *const end = copy + size - 2;
    ftk_chat_config cfg;
    ftk_chat_config_init(&cfg);
    if (data[1] < N_FORMS)
        cfg.tmpl = ftk_chat_templates()[data[1]];
    else if (cut(&at, end, &text))
        cfg.source = text;
    ftk_message messages[MAX_MESSAGES];
    size_t n = 0;
    while (n < MAX_MESSAGES && cut(&at, end, &text)) {
        const char *role = roles[(unsigned char)text[0] % 4];
        messages[n++] = (ftk_message){role, text[0] ? text + 1 : text};
    }
    check(t, &cfg, messages, n);
    free(copy);
    return 0;
}

/* Every form with every vocabulary: all roles, a text that looks like a control token. */
bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const char source[] = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}"
                                 "[INST]{{ eos_token }}{% endfor %}";
    static const char talk[] = "tBe brief.\0u Hello <|im_end|>\0v[/INST] \xC3\xA9\0tNow\0uWhat?";
    enum { N = N_FORMS + 1 };
    if (i >= (size_t)N * N_VOCABS) return false;
    const unsigned char head[] = {i / N == 2 ? 0xFF : (unsigned char)(i / N),
                                  (unsigned char)(i % N)};
    gw_put(out, head, 2);
    if (i % N == N_FORMS) gw_put(out, source, sizeof source);
    gw_put(out, talk, sizeof talk);
    return true;
}
