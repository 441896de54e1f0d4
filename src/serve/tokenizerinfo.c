/* SPDX-License-Identifier: Apache-2.0
 * /tokenizer_info: what clients that tokenize by themselves want to know. */
#include <string.h>

#include "serve/serve.h"

/* A token's text; null: there is none. */
static json_t *token_text(const serve_server *s, int32_t token)
{
    enum { MOST = 256 };
    char text[MOST];
    size_t n = 0;
    const ftk_model *const m = s->w.model;
    if (token < 0 || token >= s->w.info.n_vocab ||
        ftk_detokenize(m, &token, 1, FTK_TOK_SPECIAL, text, MOST, &n) != FTK_OK)
        return json_null();
    return cli_json_text(text, n);
}

static int32_t padding(const ftk_gguf *g)
{
    ftk_gguf_value v;
    if (!ftk_gguf_find(g, "tokenizer.ggml.padding_token_id", &v)) return -1;
    return v.type == FTK_GGUF_U32 && v.u <= INT32_MAX ? (int32_t)v.u : -1;
}

/* The one in use, where it is a template and no built-in form. */
static json_t *chat_template(const serve_server *s, const ftk_gguf *g)
{
    const ftk_chat_config *const chat = &s->w.chat;
    ftk_gguf_value v;
    char key[300];
    if (chat->source) return cli_json_text(chat->source, strlen(chat->source));
    for (const char *const *form = ftk_chat_templates(); chat->tmpl && *form; form++)
        if (strcmp(*form, chat->tmpl) == 0) return json_null();
    const bool named = chat->tmpl && strcmp(chat->tmpl, "default") != 0;
    snprintf(key, sizeof key, "tokenizer.chat_template%s%.200s", named ? "." : "",
             named ? chat->tmpl : "");
    if (!g || !ftk_gguf_find(g, key, &v) || v.type != FTK_GGUF_STRING) return json_null();
    return cli_json_text(v.s.p, v.s.n);
}

json_t *serve_tokenizer_info(const serve_server *s)
{
    ftk_gguf *g = NULL;
    if (ftk_gguf_open(&g, s->w.path, NULL) != FTK_OK) g = NULL;
    json_t *const j = json_object();
    json_object_set_new(j, "tokenizer_class", json_string("foretoken"));
    json_object_set_new(j, "vocab_size", json_integer(s->w.info.n_vocab));
    json_object_set_new(j, "model_max_length", json_integer((json_int_t)s->ctx));
    json_object_set_new(j, "add_bos_token", json_boolean(s->w.info.add_bos));
    json_object_set_new(j, "bos_token", token_text(s, s->w.info.bos));
    json_object_set_new(j, "eos_token", token_text(s, s->w.info.eos));
    json_object_set_new(j, "pad_token", token_text(s, g ? padding(g) : -1));
    json_object_set_new(j, "chat_template", chat_template(s, g));
    ftk_gguf_free(g);
    return j;
}
