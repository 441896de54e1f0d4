/* SPDX-License-Identifier: Apache-2.0
 * Conversations to tokens: through the template that a file carries, or through a built-in form. */
#include "base/config.h"
#include "base/mem.h"
#include "model/vocabulary.h"

#include <string.h>
#include <time.h>

/* ------------------------------------------------------------------ built-in forms */

/* The forms that know no system turn put the system messages right before a user's message into
 * it; those that no user's message follows get an empty one. Each turn is written by turn(role,
 * content, systems, number). */
#define FOLDED(turn)                                                                               \
    "{%- macro turn(role, content, systems, number) -%}" turn "{%- endmacro -%}"                   \
    "{%- set ns = namespace(systems=[], number=0) -%}"                                             \
    "{%- for m in messages -%}"                                                                    \
    "{%- if m.role == 'system' -%}{%- set ns.systems = ns.systems + [m.content] -%}"               \
    "{%- else -%}"                                                                                 \
    "{%- if m.role != 'user' and ns.systems -%}"                                                   \
    "{{- turn('user', '', ns.systems, ns.number) -}}"                                              \
    "{%- set ns.number = ns.number + 1 -%}{%- set ns.systems = [] -%}"                             \
    "{%- endif -%}"                                                                                \
    "{{- turn(m.role, m.content, ns.systems, ns.number) -}}"                                       \
    "{%- set ns.number = ns.number + 1 -%}{%- set ns.systems = [] -%}"                             \
    "{%- endif -%}"                                                                                \
    "{%- endfor -%}"                                                                               \
    "{%- if ns.systems -%}{{- turn('user', '', ns.systems, ns.number) -}}{%- endif -%}"

#define PROMPT(text) "{%- if add_generation_prompt -%}{{- " text " -}}{%- endif -%}"

struct form {
    const char *source;
    const char *stop;
};

static const char *const names[] = {"chatml",  "llama2", "llama3", "vicuna", "zephyr",
                                    "mistral", "gemma",  "phi3",   "plain",  NULL};

/* In the order of names. Sources: the chat_template in the tokenizer_config.json of Qwen/Qwen2-7B,
 * meta-llama/Llama-2-7b-chat-hf, meta-llama/Meta-Llama-3-8B-Instruct, HuggingFaceH4/zephyr-7b-beta,
 * mistralai/Mistral-7B-Instruct-v0.1 and v0.3, google/gemma-2-2b-it,
 * microsoft/Phi-3-mini-4k-instruct; FastChat's vicuna_v1.1. None of the system prompts that some of
 * them put in unasked. bos_token is empty where the model asks for none; space is one where [INST]
 * is text, as its tokenizer would put it in else. */
static const struct form forms[] = {
    {"{%- for m in messages -%}"
     "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}"
     "{%- endfor -%}" PROMPT("'<|im_start|>assistant\n'"),
     NULL},
    {FOLDED("{%- if role == 'assistant' -%}{{- ' ' + content.strip() + ' ' + eos_token -}}"
            "{%- else -%}"
            "{{- (bos_token if number else '') + '[INST] ' -}}"
            "{%- for s in systems -%}{{- '<<SYS>>\n' + s + '\n<</SYS>>\n\n' -}}{%- endfor -%}"
            "{{- (content.rstrip() if systems else content.strip()) + ' [/INST]' -}}"
            "{%- endif -%}"),
     NULL},
    {"{%- for m in messages -%}"
     "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content.strip() -}}"
     "{{- '<|eot_id|>' -}}"
     "{%- endfor -%}" PROMPT("'<|start_header_id|>assistant<|end_header_id|>\n\n'"),
     NULL},
    {"{%- for m in messages -%}"
     "{{- {'user': 'USER: ', 'assistant': 'ASSISTANT: ', 'system': ''}[m.role] + m.content -}}"
     "{{- eos_token if m.role == 'assistant' else ' ' -}}"
     "{%- endfor -%}" PROMPT("'ASSISTANT:'"),
     "USER:"},
    {"{%- for m in messages -%}"
     "{{- '<|' + m.role + '|>\n' + m.content + eos_token + '\n' -}}"
     "{%- endfor -%}" PROMPT("'<|assistant|>\n'"),
     NULL},
    {FOLDED("{%- if role == 'assistant' -%}{{- space + content + eos_token -}}"
            "{%- else -%}"
            "{{- '[INST]' + space -}}"
            "{%- for s in systems -%}{{- s + '\n\n' -}}{%- endfor -%}"
            "{{- content + space + '[/INST]' -}}"
            "{%- endif -%}"),
     NULL},
    {FOLDED("{{- '<start_of_turn>' + ('user' if role == 'user' else 'model') + '\n' -}}"
            "{%- for s in systems -%}{{- s + '\n\n' -}}{%- endfor -%}"
            "{{- content.strip() + '<end_of_turn>\n' -}}") PROMPT("'<start_of_turn>model\n'"),
     NULL},
    {"{%- for m in messages -%}"
     "{{- '<|' + m.role + '|>\n' + m.content + '<|end|>\n' -}}"
     "{%- endfor -%}" PROMPT("'<|assistant|>\n'"),
     NULL},
    {"{%- for m in messages -%}"
     "{{- {'user': 'User: ', 'assistant': 'Assistant: ', 'system': ''}[m.role] + m.content -}}"
     "{{- '\n\n' if m.role == 'system' else '\n' -}}"
     "{%- endfor -%}" PROMPT("'Assistant:'"),
     "\nUser:"},
};

_Static_assert(sizeof names / sizeof *names == sizeof forms / sizeof *forms + 1,
               "every form has a name");

static const struct form *find_form(const char *name)
{
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) return &forms[i];
    return NULL;
}

const char *const *ftk_chat_templates(void)
{
    return names;
}

const char *ftk_chat_stop(const char *tmpl)
{
    const struct form *form = tmpl ? find_form(tmpl) : NULL;
    return form ? form->stop : NULL;
}

/* ------------------------------------------------------------------ configurations */

static const ftk_chat_config defaults = {.add_generation_prompt = true, .now = -1};

void ftk_chat_config_fill(ftk_chat_config *cfg, size_t size)
{
    ftk_config_give(cfg, size, &defaults, sizeof defaults);
}

/* ------------------------------------------------------------------ rendering */

struct rendering {
    const ftk_tokenizer *t;
    const ftk_host *h;
    ftk_chat_config cfg;
    const ftk_template *tmpl;
    ftk_template *parsed; /* the same, if it was parsed for this call */
    bool built_in;
    ftk_rendered out;
};

static ftk_err say(const struct rendering *r, ftk_err err, const ftk_template_error *error)
{
    if (error->line > 0)
        return ftk_fail(r->h, err, "the chat template, line %d: %s", error->line, error->message);
    return ftk_fail(r->h, err, "the chat template: %s", error->message);
}

static ftk_err parse(struct rendering *r, const char *source)
{
    ftk_template_error error;
    const ftk_err err = ftk_template_parse(&r->parsed, source, strlen(source), r->h, &error);
    r->tmpl = r->parsed;
    return err == FTK_OK ? FTK_OK : say(r, err, &error);
}

static const ftk_own_chat *find_own(const ftk_tokenizer *t, const char *name)
{
    for (size_t i = 0; i < t->n_chats; i++)
        if (strcmp(t->chats[i].name, name) == 0) return &t->chats[i];
    return NULL;
}

static ftk_err choose(struct rendering *r)
{
    bool has;
    const char *name = r->cfg.tmpl;
    if (r->cfg.source) return parse(r, r->cfg.source);
    if (!name && r->cfg.tools && find_own(r->t, "tool_use")) name = "tool_use";
    if (!name) name = ftk_tokenizer_chat_template(r->t, &has);
    const ftk_own_chat *own = find_own(r->t, name);
    const struct form *form = find_form(name);
    r->built_in = form != NULL;
    if (form) return parse(r, form->source);
    if (!own) return ftk_fail(r->h, FTK_ERR_INVALID, "there is no chat template \"%s\"", name);
    r->tmpl = own->t;
    return own->t ? FTK_OK : say(r, own->err, &own->error);
}

static ftk_err check(const struct rendering *r, const ftk_message *msgs, size_t n_msgs)
{
    if (r->built_in && (r->cfg.tools || r->cfg.members))
        return ftk_fail(r->h, FTK_ERR_UNSUPPORTED,
                        "a built-in chat template knows no tools; give the model's own one");
    for (size_t i = 0; i < n_msgs; i++) {
        if (!msgs[i].role || !msgs[i].content)
            return ftk_fail(r->h, FTK_ERR_INVALID, "message %zu has no role or no content", i);
        if (r->built_in && strcmp(msgs[i].role, "system") != 0 &&
            strcmp(msgs[i].role, "user") != 0 && strcmp(msgs[i].role, "assistant") != 0)
            return ftk_fail(r->h, FTK_ERR_INVALID,
                            "message %zu has role \"%s\"; known are system, user and assistant", i,
                            msgs[i].role);
    }
    return FTK_OK;
}

/* A token by its name, as it stands in the file. */
static ftk_str name_of(const ftk_tokenizer *t, int32_t id)
{
    return id < 0 ? (ftk_str){"", 0} : (ftk_str){t->pieces[id].p, t->pieces[id].n};
}

/* What is rendered has to be cut into tokens, which takes time of its own. */
static ftk_err check_size(const struct rendering *r, const ftk_message *msgs, size_t n_msgs)
{
    enum {
        OWN = 256 << 10,
        TIMES = 8
    }; /* bytes of its own, and how often it may say what it got */
    size_t given = (r->cfg.tools ? strlen(r->cfg.tools) : 0) +
                   (r->cfg.vars ? strlen(r->cfg.vars) : 0) +
                   (r->cfg.members ? strlen(r->cfg.members) : 0);
    for (size_t i = 0; i < n_msgs; i++) given += strlen(msgs[i].content);
    if (r->out.n == 0 && !r->built_in)
        return ftk_fail(r->h, FTK_ERR_INVALID,
                        "the chat template renders nothing of this conversation");
    if (r->out.n / TIMES <= given + OWN / TIMES) return FTK_OK;
    return ftk_fail(r->h, FTK_ERR_INVALID,
                    "the chat template makes %zu bytes of a conversation of %zu; no sane one does",
                    r->out.n, given);
}

static ftk_err render(struct rendering *r, const ftk_message *msgs, size_t n_msgs)
{
    const ftk_tokenizer *t = r->t;
    const bool text_inst = ftk_tokenizer_special(t, "[INST]", 6) < 0;
    const bool no_bos = r->built_in && !t->add_bos;
    const struct ftk_template_word words[] = {
        {"bos_token", name_of(t, no_bos ? -1 : t->bos)},
        {"eos_token", name_of(t, t->eos)},
        {"unk_token", name_of(t, t->unknown)},
        {"pad_token", name_of(t, t->padding)},
        {"space", {" ", text_inst}},
    };
    const ftk_template_input in = {
        .messages = msgs,
        .n_messages = n_msgs,
        .add_generation_prompt = r->cfg.add_generation_prompt,
        .tools = r->cfg.tools,
        .members = r->cfg.members,
        .vars = r->cfg.vars,
        .now = r->cfg.now >= 0 ? r->cfg.now : (int64_t)time(NULL),
        .words = words,
        .n_words = 4 + r->built_in,
    };
    ftk_template_error error;
    const ftk_err err = ftk_template_render(r->tmpl, &in, r->h, &r->out, &error);
    return err == FTK_OK ? check_size(r, msgs, n_msgs) : say(r, err, &error);
}

/* The text of a conversation, in r->out; free_rendering() is due in any case. */
static ftk_err make(struct rendering *r, const ftk_tokenizer *t, const ftk_chat_config *cfg,
                    const ftk_message *msgs, size_t n_msgs)
{
    *r = (struct rendering){.t = t, .h = ftk_tokenizer_host(t)};
    r->cfg = defaults;
    ftk_err err = cfg ? ftk_config_take(&r->cfg, sizeof r->cfg, cfg, "chat", r->h) : FTK_OK;
    if (err == FTK_OK) err = choose(r);
    if (err == FTK_OK) err = check(r, msgs, n_msgs);
    if (err == FTK_OK) err = render(r, msgs, n_msgs);
    return err;
}

static void free_rendering(struct rendering *r)
{
    ftk_rendered_free(&r->out, r->h);
    ftk_template_free(r->parsed);
}

/* ------------------------------------------------------------------ conversations */

/* Whether the template itself has written BOS where the text starts; the built-in forms do not. */
static bool starts_with_bos(const struct rendering *r)
{
    const ftk_tokenizer *t = r->t;
    const ftk_rendered *out = &r->out;
    size_t at = 0, end = 0, len;
    if (r->built_in) return false;
    while (end < out->n && !out->input[end]) end++;
    while (at < end && (out->text[at] == ' ' || out->text[at] == '\n')) at++;
    return at < end && ftk_tokenizer_special_at(t, out->text + at, end - at, &len) == t->bos;
}

ftk_err ftk_tokenizer_chat(const ftk_tokenizer *t, const ftk_chat_config *cfg,
                           const ftk_message *msgs, size_t n_msgs, int32_t *tokens, size_t cap,
                           size_t *n_out)
{
    struct rendering r;
    ftk_tokens list = {.host = ftk_tokenizer_host(t)};
    ftk_err err = make(&r, t, cfg, msgs, n_msgs);
    if (err == FTK_OK && t->add_bos && !starts_with_bos(&r))
        err = ftk_tokens_push(&list, &t->bos, 1);
    if (err == FTK_OK)
        err = ftk_tokenizer_append_marked(t, r.out.text, r.out.input, r.out.n, &list);
    free_rendering(&r);
    return ftk_tokens_end(&list, err, tokens, cap, n_out);
}

ftk_err ftk_tokenizer_chat_text(const ftk_tokenizer *t, const ftk_chat_config *cfg,
                                const ftk_message *msgs, size_t n_msgs, char *text, size_t cap,
                                size_t *n_out)
{
    struct rendering r;
    ftk_err err = make(&r, t, cfg, msgs, n_msgs);
    *n_out = err == FTK_OK ? r.out.n : 0;
    if (err == FTK_OK && r.out.n > cap) err = FTK_ERR_SPACE;
    if (err == FTK_OK && r.out.n > 0) memcpy(text, r.out.text, r.out.n);
    free_rendering(&r);
    return err;
}
