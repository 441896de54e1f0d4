/* SPDX-License-Identifier: Apache-2.0
 * Chat templates: which one a file means, and conversations to tokens. */
#include "base/mem.h"
#include "model/text.h"

#include <string.h>

/* ------------------------------------------------------------------ recognising */

static bool contains(ftk_str text, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = text.p, *end = text.p + text.n; (size_t)(end - p) >= n; p++) {
        p = memchr(p, word[0], (size_t)(end - p) - n + 1);
        if (!p) return false;
        if (memcmp(p, word, n) == 0) return true;
    }
    return false;
}

const char *ftk_chat_recognise(ftk_str text)
{
    if (contains(text, "<|im_start|>")) return "chatml";
    if (contains(text, "<|start_header_id|>")) return "llama3";
    if (contains(text, "<start_of_turn>")) return "gemma";
    if (contains(text, "[INST]")) return contains(text, "<<SYS>>") ? "llama2" : "mistral";
    const bool ends = contains(text, "</s>") || contains(text, "eos_token");
    if (contains(text, "<|user|>")) {
        if (contains(text, "<|end|>")) return contains(text, "<|assistant|>") ? "phi3" : NULL;
        return ends ? "zephyr" : NULL;
    }
    if (contains(text, "USER:") && contains(text, "ASSISTANT:")) return "vicuna";
    if (contains(text, "User:") && contains(text, "Assistant:")) return "plain";
    return NULL;
}

bool ftk_chat_is_word(ftk_str text)
{
    static const char *const known[] = {
        "<|im_start|>",      "<|im_end|>",    "<|start_header_id|>",
        "<|end_header_id|>", "<|eot_id|>",    "<start_of_turn>",
        "<end_of_turn>",     "[INST]",        "[/INST]",
        "<|system|>",        "<|user|>",      "<|assistant|>",
        "<|end|>",           "<|endoftext|>", "<|begin_of_text|>",
        "<|end_of_text|>",   "<|eom_id|>",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == text.n && memcmp(known[i], text.p, text.n) == 0) return true;
    return false;
}

/* ------------------------------------------------------------------ putting tokens together */

/* Text waits until a control token or the end, so that what stands together is encoded together.
 * The first error stays; later calls do nothing. */
struct builder {
    const ftk_tokenizer *t;
    ftk_tokens list;
    char *text;
    size_t n, cap;
    bool strips; /* the last token takes the white space behind it */
    ftk_err err;
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void flush(struct builder *b)
{
    size_t at = 0;
    while (b->strips && at < b->n && is_space(b->text[at])) at++;
    if (b->err == FTK_OK && at < b->n)
        b->err = ftk_tokenizer_append(b->t, b->text + at, b->n - at, 0, &b->list);
    b->n = 0;
}

static void put_id(struct builder *b, int32_t id)
{
    flush(b);
    if (id >= 0) b->strips = ftk_tokenizer_strips(b->t, id);
    if (b->err == FTK_OK && id >= 0) b->err = ftk_tokens_push(&b->list, &id, 1);
}

static void put_text(struct builder *b, const char *p, size_t n)
{
    if (b->err != FTK_OK || n == 0) return;
    if (n > b->cap - b->n) {
        const ftk_host *h = b->list.host;
        const size_t cap = 2 * (b->n + n) + 256;
        char *text = ftk_alloc(h, cap, 1);
        if (!text) {
            b->err = ftk_fail(h, FTK_ERR_NOMEM, "no memory for a message of %zu bytes", n);
            return;
        }
        if (b->n > 0) memcpy(text, b->text, b->n);
        ftk_release(h, b->text);
        b->text = text;
        b->cap = cap;
    }
    memcpy(b->text + b->n, p, n);
    b->n += n;
}

static void put(struct builder *b, const char *s)
{
    put_text(b, s, strlen(s));
}

/* One of the template's own words: a control token, or its letters where the model has none. */
static void put_word(struct builder *b, const char *word)
{
    const int32_t id = ftk_tokenizer_special(b->t, word, strlen(word));
    if (id >= 0)
        put_id(b, id);
    else
        put(b, word);
}

static void put_eos(struct builder *b)
{
    put_id(b, ftk_tokenizer_eos(b->t));
}

enum { TRIM_END = 1, TRIM = 3 };

static void put_trimmed(struct builder *b, const char *s, int which)
{
    size_t n = strlen(s);
    for (; which == TRIM && is_space(*s); n--) s++;
    while ((which & TRIM_END) && n > 0 && is_space(s[n - 1])) n--;
    put_text(b, s, n);
}

/* ------------------------------------------------------------------ the templates */

/* What one turn's writer sees. systems are the system messages right before a user's message: the
 * templates that know no system turn put them into that message. */
struct turn {
    const char *role, *content;
    const ftk_message *systems;
    size_t n_systems;
    bool first; /* of the conversation */
};

static bool is(const struct turn *turn, const char *role)
{
    return strcmp(turn->role, role) == 0;
}

static void chatml_turn(struct builder *b, const struct turn *turn)
{
    put_word(b, "<|im_start|>");
    put(b, turn->role);
    put(b, "\n");
    put(b, turn->content);
    put_word(b, "<|im_end|>");
    put(b, "\n");
}

static void chatml_end(struct builder *b)
{
    put_word(b, "<|im_start|>");
    put(b, "assistant\n");
}

static void llama3_head(struct builder *b, const char *role)
{
    put_word(b, "<|start_header_id|>");
    put(b, role);
    put_word(b, "<|end_header_id|>");
    put(b, "\n\n");
}

static void llama3_turn(struct builder *b, const struct turn *turn)
{
    llama3_head(b, turn->role);
    put_trimmed(b, turn->content, TRIM);
    put_word(b, "<|eot_id|>");
}

static void llama3_end(struct builder *b)
{
    llama3_head(b, "assistant");
}

static void zephyr_turn(struct builder *b, const struct turn *turn)
{
    const bool system = is(turn, "system"), user = is(turn, "user");
    put_word(b, system ? "<|system|>" : user ? "<|user|>" : "<|assistant|>");
    put(b, "\n");
    put(b, turn->content);
    put_eos(b);
    put(b, "\n");
}

static void zephyr_end(struct builder *b)
{
    put_word(b, "<|assistant|>");
    put(b, "\n");
}

static void phi3_turn(struct builder *b, const struct turn *turn)
{
    const bool system = is(turn, "system"), user = is(turn, "user");
    put_word(b, system ? "<|system|>" : user ? "<|user|>" : "<|assistant|>");
    put(b, "\n");
    put(b, turn->content);
    put_word(b, "<|end|>");
    put(b, "\n");
}

/* Every exchange begins with a BOS of its own; the first one is there already. */
static void llama2_turn(struct builder *b, const struct turn *turn)
{
    if (is(turn, "assistant")) {
        put(b, " ");
        put_trimmed(b, turn->content, TRIM);
        put(b, " ");
        put_eos(b);
        return;
    }
    if (!turn->first && ftk_tokenizer_add_bos(b->t)) put_id(b, ftk_tokenizer_bos(b->t));
    put_word(b, "[INST]");
    put(b, " ");
    for (size_t i = 0; i < turn->n_systems; i++) {
        put(b, "<<SYS>>\n");
        put(b, turn->systems[i].content);
        put(b, "\n<</SYS>>\n\n");
    }
    put_trimmed(b, turn->content, turn->n_systems > 0 ? TRIM_END : TRIM);
    put(b, " ");
    put_word(b, "[/INST]");
}

static void put_systems(struct builder *b, const struct turn *turn)
{
    for (size_t i = 0; i < turn->n_systems; i++) {
        put(b, turn->systems[i].content);
        put(b, "\n\n");
    }
}

/* Where [INST] is a control token the tokenizer puts the spaces; else they are part of the text. */
static void mistral_turn(struct builder *b, const struct turn *turn)
{
    const char *space = ftk_tokenizer_special(b->t, "[INST]", 6) >= 0 ? "" : " ";
    if (is(turn, "assistant")) {
        put(b, space);
        put(b, turn->content);
        put_eos(b);
        return;
    }
    put_word(b, "[INST]");
    put(b, space);
    put_systems(b, turn);
    put(b, turn->content);
    put(b, space);
    put_word(b, "[/INST]");
}

static void gemma_turn(struct builder *b, const struct turn *turn)
{
    put_word(b, "<start_of_turn>");
    put(b, is(turn, "user") ? "user\n" : "model\n");
    put_systems(b, turn);
    put_trimmed(b, turn->content, TRIM);
    put_word(b, "<end_of_turn>");
    put(b, "\n");
}

static void gemma_end(struct builder *b)
{
    put_word(b, "<start_of_turn>");
    put(b, "model\n");
}

static void vicuna_turn(struct builder *b, const struct turn *turn)
{
    if (is(turn, "user")) put(b, "USER: ");
    if (is(turn, "assistant")) put(b, "ASSISTANT: ");
    put(b, turn->content);
    if (is(turn, "assistant"))
        put_eos(b);
    else
        put(b, " ");
}

static void vicuna_end(struct builder *b)
{
    put(b, "ASSISTANT:");
}

static void plain_turn(struct builder *b, const struct turn *turn)
{
    if (is(turn, "user")) put(b, "User: ");
    if (is(turn, "assistant")) put(b, "Assistant: ");
    put(b, turn->content);
    put(b, is(turn, "system") ? "\n\n" : "\n");
}

static void plain_end(struct builder *b)
{
    put(b, "Assistant:");
}

struct template
{
    void (*turn)(struct builder * b, const struct turn *turn);
    void (*end)(struct builder * b); /* where the assistant's answer starts; NULL: nothing more */
    bool folds_systems;              /* turn() writes the system messages with the user's */
    const char *stop;
};

static const char *const names[] = {"chatml",  "llama2", "llama3", "vicuna", "zephyr",
                                    "mistral", "gemma",  "phi3",   "plain",  NULL};

/* In the order of names. Sources: the chat_template in the tokenizer_config.json of Qwen/Qwen2-7B,
 * meta-llama/Llama-2-7b-chat-hf, meta-llama/Meta-Llama-3-8B-Instruct, HuggingFaceH4/zephyr-7b-beta,
 * mistralai/Mistral-7B-Instruct-v0.1 and v0.3, google/gemma-2-2b-it,
 * microsoft/Phi-3-mini-4k-instruct; FastChat's vicuna_v1.1. None of the system prompts that some of
 * them put in unasked. */
static const struct template templates[] = {
    {chatml_turn, chatml_end, false, NULL},    {llama2_turn, NULL, true, NULL},
    {llama3_turn, llama3_end, false, NULL},    {vicuna_turn, vicuna_end, false, "USER:"},
    {zephyr_turn, zephyr_end, false, NULL},    {mistral_turn, NULL, true, NULL},
    {gemma_turn, gemma_end, true, NULL},       {phi3_turn, zephyr_end, false, NULL},
    {plain_turn, plain_end, false, "\nUser:"},
};

_Static_assert(sizeof names / sizeof *names == sizeof templates / sizeof *templates + 1,
               "every template has a name");

static const struct template *find(const char *name)
{
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) return &templates[i];
    return NULL;
}

const char *const *ftk_chat_templates(void)
{
    return names;
}

const char *ftk_chat_stop(const char *tmpl)
{
    const struct template *k = tmpl ? find(tmpl) : NULL;
    return k ? k->stop : NULL;
}

/* ------------------------------------------------------------------ conversations */

static ftk_err check(const ftk_host *h, const ftk_message *msgs, size_t n_msgs)
{
    for (size_t i = 0; i < n_msgs; i++) {
        if (!msgs[i].role || !msgs[i].content)
            return ftk_fail(h, FTK_ERR_INVALID, "message %zu has no role or no content", i);
        if (strcmp(msgs[i].role, "system") != 0 && strcmp(msgs[i].role, "user") != 0 &&
            strcmp(msgs[i].role, "assistant") != 0)
            return ftk_fail(h, FTK_ERR_INVALID,
                            "message %zu has role \"%s\"; known are system, user and assistant", i,
                            msgs[i].role);
    }
    return FTK_OK;
}

/* System messages that no user's message follows get an empty one. */
static void put_folded(struct builder *b, const struct template *k, const ftk_message *msgs,
                       size_t n_msgs)
{
    bool first = true;
    for (size_t i = 0; i < n_msgs;) {
        size_t n = 0;
        while (i + n < n_msgs && strcmp(msgs[i + n].role, "system") == 0) n++;
        const bool ends = i + n == n_msgs || (n > 0 && strcmp(msgs[i + n].role, "user") != 0);
        struct turn turn = {"user", "", msgs + i, n, first};
        if (!ends) {
            turn.role = msgs[i + n].role;
            turn.content = msgs[i + n].content;
        }
        k->turn(b, &turn);
        i += n + !ends;
        first = false;
    }
}

ftk_err ftk_tokenizer_chat(const ftk_tokenizer *t, const char *tmpl, const ftk_message *msgs,
                           size_t n_msgs, int32_t *tokens, size_t cap, size_t *n_out)
{
    *n_out = 0;
    const ftk_host *h = ftk_tokenizer_host(t);
    bool has;
    const char *own = ftk_tokenizer_chat_template(t, &has);
    const struct template *k = find(tmpl ? tmpl : own ? own : "chatml");
    if (!k) return ftk_fail(h, FTK_ERR_INVALID, "there is no chat template \"%s\"", tmpl);
    const ftk_err err = check(h, msgs, n_msgs);
    if (err != FTK_OK) return err;
    struct builder b = {.t = t, .list = {.host = h}};
    if (ftk_tokenizer_add_bos(t)) put_id(&b, ftk_tokenizer_bos(t));
    if (k->folds_systems) {
        put_folded(&b, k, msgs, n_msgs);
    } else {
        for (size_t i = 0; i < n_msgs; i++)
            k->turn(&b, &(struct turn){.role = msgs[i].role, .content = msgs[i].content});
    }
    if (k->end) k->end(&b);
    flush(&b);
    ftk_release(h, b.text);
    return ftk_tokens_end(&b.list, b.err, tokens, cap, n_out);
}
