/* SPDX-License-Identifier: Apache-2.0
 * What a request asks the model: a conversation, or texts to go on with, as tokens. */
#include "serve/prompts.h"

#include <string.h>

#include "serve/fields.h"

/* ---- conversations */

typedef struct talk {
    ftk_message *msgs;
    cli_bytes *texts; /* of those whose content came in parts */
    size_t n;
    json_t *members;           /* what the messages have beside, for the template */
    char *tools, *vars, *more; /* JSON, or NULL; more: the members */
} talk;

static void free_talk(talk *t)
{
    for (size_t i = 0; i < t->n; i++) cli_bytes_free(&t->texts[i]);
    free(t->msgs);
    free(t->texts);
    free(t->tools);
    free(t->vars);
    free(t->more);
    json_decref(t->members);
}

bool serve_read_parts(const json_t *parts, const char *field, cli_bytes *text, serve_error *e)
{
    cli_bytes_add(text, "", 0);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *const part = json_array_get(parts, i);
        const char *const type = json_string_value(json_object_get(part, "type"));
        const json_t *const words = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0 || !json_is_string(words))
            return serve_refuse(e, field,
                                "%s: a part of a content must be {\"type\": \"text\", "
                                "\"text\": ...}; this server reads text only",
                                field);
        cli_bytes_add(text, json_string_value(words), json_string_length(words));
    }
    return true;
}

/* Whether the template writes the message's calls, and not we into its text. */
static bool shows_calls(const serve_server *s, const cli_bytes *text)
{
    return s->shows_calls && (!s->calls_alone || text->n == 0);
}

/* What templates know of a message beside role and content. What a model thought may come under
 * any of three names, the first that is there counts, and templates read it under each of them. */
static bool read_members(const serve_server *s, const json_t *o, bool shown, talk *t,
                         serve_error *e)
{
    enum { OTHERS = 2 };
    static const char *const texts[] = {"tool_call_id", "name", "reasoning_content", "thinking",
                                        "reasoning"};
    const json_t *const calls = serve_field(o, "tool_calls");
    json_t *const own = json_object(), *thought = NULL;
    json_array_append_new(t->members, own);
    if (shown && json_array_size(calls) > 0) {
        json_object_set_new(own, "tool_calls", serve_template_calls(calls, s->calls_as_text));
        if (s->calls_alone) json_object_set_new(own, "content", json_null());
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *const v = json_object_get(o, texts[i]);
        if (!v || json_is_null(v)) continue;
        if (!json_is_string(v))
            return serve_refuse(e, "messages", "messages: %s must be a text", texts[i]);
        if (i < OTHERS) json_object_set(own, texts[i], v);
        if (i >= OTHERS && !thought) thought = v;
    }
    for (size_t i = OTHERS; thought && i < sizeof texts / sizeof *texts; i++)
        json_object_set(own, texts[i], thought);
    return true;
}

static bool read_message(const serve_server *s, const json_t *o, ftk_message *m, cli_bytes *text,
                         bool *shown, serve_error *e)
{
    const json_t *const content = serve_field(o, "content");
    m->role = json_string_value(json_object_get(o, "role"));
    if (!m->role || !m->role[0])
        return serve_refuse(e, "messages",
                            "messages: each must be an object with a role, a text that is not "
                            "empty");
    if (strcmp(m->role, "developer") == 0) m->role = "system"; /* its newer name */
    cli_bytes_add(text, "", 0);
    if (json_is_string(content))
        cli_bytes_add(text, json_string_value(content), json_string_length(content));
    else if (json_is_array(content) && !serve_read_parts(content, "messages", text, e))
        return false;
    else if (content && !json_is_array(content))
        return serve_refuse(e, "messages",
                            "messages: content must be a text or a list of text parts");
    if (!content && strcmp(m->role, "assistant") != 0)
        return serve_refuse(e, "messages",
                            "messages: one of the role %.40s has no content: give a text or a list "
                            "of text parts",
                            json_string_value(json_object_get(o, "role")));
    const json_t *const calls = serve_field(o, "tool_calls");
    if (calls && !serve_are_calls(calls))
        return serve_refuse(e, "messages",
                            "messages: tool_calls must be a list of {\"type\": \"function\", "
                            "\"function\": {\"name\": ..., \"arguments\": a text}}");
    *shown = shows_calls(s, text);
    if (calls && !*shown) serve_write_calls(s->call_form, calls, text);
    m->content = text->p;
    return true;
}

static bool read_messages(const serve_server *s, const json_t *o, talk *t, serve_error *e)
{
    const json_t *const list = serve_field(o, "messages");
    if (!json_is_array(list) || json_array_size(list) == 0)
        return serve_refuse(e, "messages", "messages must be a list with at least one message");
    const size_t n = json_array_size(list);
    t->msgs = cli_array(NULL, n, sizeof *t->msgs);
    t->texts = cli_array(NULL, n, sizeof *t->texts);
    memset(t->texts, 0, n * sizeof *t->texts);
    t->members = json_array();
    for (; t->n < n; t->n++) {
        const json_t *const one = json_array_get(list, t->n);
        bool shown = false;
        if (!read_message(s, one, &t->msgs[t->n], &t->texts[t->n], &shown, e) ||
            !read_members(s, one, shown, t, e)) {
            t->n++;
            return false;
        }
    }
    if (s->takes_members) t->more = json_dumps(t->members, JSON_COMPACT | JSON_REAL_PRECISION(17));
    return true;
}

static bool read_tools(const json_t *o, talk *t, serve_error *e)
{
    serve_tools tools;
    if (!serve_read_tools(o, &tools, e)) return false;
    if (tools.list) t->tools = json_dumps(tools.list, JSON_COMPACT);
    return true;
}

static bool read_vars(const json_t *o, talk *t, serve_error *e)
{
    const json_t *const vars = serve_field(o, "chat_template_kwargs");
    if (!vars) return true;
    if (!json_is_object(vars))
        return serve_refuse(e, "chat_template_kwargs", "chat_template_kwargs must be an object");
    t->vars = json_dumps(vars, JSON_COMPACT);
    return true;
}

static bool render(const serve_server *s, const talk *t, serve_prompt *p, serve_error *e)
{
    cli_world w = s->w;
    char why[400];
    w.chat.now = cli_local_now();
    w.chat.tools = t->tools;
    w.chat.members = t->more;
    if (t->vars) w.chat.vars = t->vars;
    cli_hush(why, sizeof why);
    const ftk_err err = cli_chat_tokenize(&w, t->msgs, t->n, &p->tokens, &p->n);
    cli_hush(NULL, 0);
    if (err == FTK_OK) return true;
    if (err == FTK_ERR_NOMEM) return serve_fail(e, 500, "server_error", NULL, "out of memory");
    return serve_refuse(e, t->tools ? "tools" : "messages",
                        "the model's chat template refuses this: %s",
                        why[0] ? why : ftk_strerror(err));
}

/* A template that passes over tools would leave the model without, and the client without a
 * word. */
static bool knows_tools(const serve_server *s, const talk *t, const serve_prompt *p, serve_error *e)
{
    if (!t->tools) return true;
    talk without = *t;
    serve_prompt plain = {0};
    without.tools = NULL;
    const bool same = render(s, &without, &plain, e) && plain.n == p->n &&
                      memcmp(plain.tokens, p->tokens, p->n * sizeof *p->tokens) == 0;
    free(plain.tokens);
    if (same) return serve_refuse(e, "tools", "tools: this model's chat template knows none");
    *e = (serve_error){0};
    return true;
}

static bool read_talk(const serve_server *s, const json_t *o, serve_prompt *p, serve_error *e)
{
    talk t = {0};
    const bool ok = read_messages(s, o, &t, e) && read_tools(o, &t, e) && read_vars(o, &t, e) &&
                    render(s, &t, p, e) && knows_tools(s, &t, p, e);
    free_talk(&t);
    return ok;
}

/* ---- completions */

static bool read_text(const serve_server *s, const json_t *v, serve_prompt *p, serve_error *e)
{
    cli_bytes_add(&p->text, json_string_value(v), json_string_length(v));
    if (cli_tokenize(&s->w, p->text.p, p->text.n, FTK_TOK_BOS, &p->tokens, &p->n) == FTK_OK)
        return true;
    return serve_fail(e, 500, "server_error", NULL, "the prompt could not be tokenized");
}

static bool read_ids(const serve_server *s, const json_t *v, serve_prompt *p, serve_error *e)
{
    if (!serve_field_ids(v, "prompt", s->w.info.n_vocab, &p->tokens, &p->n, e)) return false;
    size_t n = 0;
    ftk_detokenize(s->w.model, p->tokens, p->n, 0, NULL, 0, &n);
    char *text = cli_array(NULL, n, 1);
    const ftk_err err = ftk_detokenize(s->w.model, p->tokens, p->n, 0, text, n, &n);
    cli_bytes_add(&p->text, "", 0);
    if (err == FTK_OK) cli_bytes_add_utf8(&p->text, text, n);
    free(text);
    return err == FTK_OK ||
           serve_fail(e, 500, "server_error", NULL, "the prompt could not be turned into text");
}

static bool read_prompt(const serve_server *s, const json_t *v, serve_prompt *p, serve_error *e)
{
    if (json_is_string(v)) return read_text(s, v, p, e);
    if (json_is_array(v)) return read_ids(s, v, p, e);
    return serve_refuse(e, "prompt",
                        "prompt must be a text, a list of token ids, or a list of such");
}

static bool check_prompt(const serve_server *s, const serve_request *r, const serve_prompt *p,
                         serve_error *e)
{
    const char *const name = r->chat ? "messages" : "prompt";
    if (p->n == 0) return serve_refuse(e, name, "%s: there are no tokens to go on from", name);
    if (p->n < s->ctx || (p->n == s->ctx && r->max_tokens == 0)) return true;
    serve_refuse(e, name,
                 "%s: %zu tokens, and the context holds %zu with the answer; shorten it, or "
                 "start the server with a larger --ctx",
                 name, p->n, s->ctx);
    e->code = "context_length_exceeded";
    return false;
}

bool serve_read_prompts(const serve_server *s, const json_t *o, serve_request *r, serve_error *e)
{
    const json_t *const v = r->chat ? NULL : serve_field(o, "prompt");
    const json_t *const first = json_array_get(v, 0);
    const bool several = json_is_string(first) || json_is_array(first);
    const size_t n = several ? json_array_size(v) : 1;
    if (n > SERVE_MAX_CHOICES / r->n)
        return serve_refuse(e, "prompt",
                            "prompt: these are more than %d answers; send them in parts",
                            SERVE_MAX_CHOICES);
    r->prompts = cli_array(NULL, n, sizeof *r->prompts);
    memset(r->prompts, 0, n * sizeof *r->prompts);
    r->n_prompts = n;
    for (size_t i = 0; i < n; i++) {
        serve_prompt *const p = &r->prompts[i];
        const json_t *const one = several ? json_array_get(v, i) : v;
        if (!(r->chat ? read_talk(s, o, p, e) : read_prompt(s, one, p, e)) ||
            !check_prompt(s, r, p, e))
            return false;
    }
    return true;
}

/* ---- /tokenize, /detokenize */

static json_t *ids(const int32_t *tokens, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(tokens[i]));
    return list;
}

json_t *serve_tokenize(const serve_server *s, const char *body, size_t n, serve_error *e)
{
    json_t *o = serve_body(body, n, e);
    if (!o) return NULL;
    serve_prompt p = {0};
    const json_t *const text = serve_field(o, "prompt");
    /* control tokens are read in the text, as clients look up their ids so */
    bool special = true, parse = true;
    bool ok = serve_field_bool(o, "add_special_tokens", &special, e) &&
              serve_field_bool(o, "parse_special", &parse, e);
    const unsigned flags = (special ? FTK_TOK_BOS : 0) | (parse ? FTK_TOK_SPECIAL : 0);
    if (ok && serve_field(o, "messages"))
        ok = read_talk(s, o, &p, e);
    else if (ok && !json_is_string(text))
        ok = serve_refuse(e, "prompt", "prompt must be a text; or give messages");
    else if (ok && cli_tokenize(&s->w, json_string_value(text), json_string_length(text), flags,
                                &p.tokens, &p.n) != FTK_OK)
        ok = serve_fail(e, 500, "server_error", NULL, "the prompt could not be tokenized");
    json_t *j = NULL;
    if (ok) {
        j = json_object();
        json_object_set_new(j, "tokens", ids(p.tokens, p.n));
        json_object_set_new(j, "count", json_integer((json_int_t)p.n));
        json_object_set_new(j, "max_model_len", json_integer((json_int_t)s->ctx));
    }
    free(p.tokens);
    json_decref(o);
    return j;
}

json_t *serve_detokenize(const serve_server *s, const char *body, size_t n, serve_error *e)
{
    json_t *o = serve_body(body, n, e), *j = NULL;
    if (!o) return NULL;
    serve_prompt p = {0};
    const json_t *const tokens = serve_field(o, "tokens");
    if (!json_is_array(tokens)) {
        serve_refuse(e, "tokens", "tokens must be a list of token ids");
    } else if (serve_field_ids(tokens, "tokens", s->w.info.n_vocab, &p.tokens, &p.n, e)) {
        size_t len = 0;
        ftk_detokenize(s->w.model, p.tokens, p.n, FTK_TOK_SPECIAL, NULL, 0, &len);
        char *text = cli_array(NULL, len, 1);
        if (ftk_detokenize(s->w.model, p.tokens, p.n, FTK_TOK_SPECIAL, text, len, &len) == FTK_OK) {
            j = json_object();
            json_object_set_new(j, "prompt", cli_json_text(text, len));
        } else {
            serve_fail(e, 500, "server_error", NULL, "the tokens could not be turned into text");
        }
        free(text);
    }
    free(p.tokens);
    json_decref(o);
    return j;
}
