/* SPDX-License-Identifier: Apache-2.0
 * Answers as JSON, whole or as server-sent events. */
#include <string.h>

#include "serve/serve.h"

static _Noreturn void out_of_memory(void)
{
    cli_say("out of memory");
    exit(CLI_FAILED);
}

/* How JSON writes the sign at `at`, where Unicode ends a line with it: clients that take events
 * apart by such lines would cut a string in two. NULL: it is another sign. */
static const char *escape_of(const char *at, size_t *bytes)
{
    static const struct {
        const char *sign, *escape;
    } ends[] = {{"\xc2\x85", "\\u0085"}, {"\xe2\x80\xa8", "\\u2028"}, {"\xe2\x80\xa9", "\\u2029"}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        *bytes = strlen(ends[i].sign);
        if (strncmp(at, ends[i].sign, *bytes) == 0) return ends[i].escape;
    }
    return NULL;
}

char *serve_dump(json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(j);
    char *const out = text ? malloc(3 * strlen(text) + 1) : NULL, *to = out; /* 2 bytes become 6 */
    if (!out) out_of_memory();
    for (const char *at = text; *at;) {
        size_t bytes;
        const char *const escape = (unsigned char)*at > 127 ? escape_of(at, &bytes) : NULL;
        if (!escape) {
            *to++ = *at++;
            continue;
        }
        to = stpcpy(to, escape);
        at += bytes;
    }
    *to = 0;
    free(text);
    return out;
}

json_t *serve_reply_error(const serve_error *e)
{
    json_t *inner = json_object(), *j = json_object();
    json_object_set_new(inner, "message", cli_json_text(e->message, strlen(e->message)));
    json_object_set_new(inner, "type", json_string(e->type));
    json_object_set_new(inner, "param", e->param[0] ? json_string(e->param) : json_null());
    json_object_set_new(inner, "code", e->code ? json_string(e->code) : json_null());
    json_object_set_new(j, "error", inner);
    return j;
}

static json_t *whole(size_t n)
{
    return json_integer((json_int_t)n);
}

static json_t *usage(const serve_request *r)
{
    size_t prompt = 0, came = 0, cached = 0;
    uint64_t rejected = 0, accepted = 0;
    for (size_t i = 0; i < r->n_prompts; i++) prompt += r->prompts[i].n;
    for (size_t i = 0; i < r->n_choices; i++) {
        const serve_choice *const c = &r->choices[i];
        came += c->n_tokens - c->prompt->n;
        if (i % r->n == 0) cached += c->cached; /* each prompt counts once */
        if (r->n_predicted == 0) {
            rejected += c->drafted - c->accepted;
            accepted += c->accepted;
        } else { /* OpenAI's meaning: what of it stands in the answer, and what does not */
            rejected += r->n_predicted - c->n_right;
            accepted += c->n_right;
        }
    }
    json_t *of_prompt = json_object(), *of_answer = json_object(), *j = json_object();
    json_object_set_new(of_prompt, "cached_tokens", whole(cached));
    json_object_set_new(of_answer, "accepted_prediction_tokens", whole(accepted));
    json_object_set_new(of_answer, "rejected_prediction_tokens", whole(rejected));
    json_object_set_new(j, "prompt_tokens", whole(prompt));
    json_object_set_new(j, "completion_tokens", whole(came));
    json_object_set_new(j, "total_tokens", whole(prompt + came));
    json_object_set_new(j, "prompt_tokens_details", of_prompt);
    json_object_set_new(j, "completion_tokens_details", of_answer);
    return j;
}

static json_t *head(const serve_server *s, const serve_request *r, const char *object,
                    json_t *choices)
{
    json_t *j = json_object();
    json_object_set_new(j, "id", json_string(r->id));
    json_object_set_new(j, "object", json_string(object));
    json_object_set_new(j, "created", json_integer(r->created));
    json_object_set_new(j, "model", json_string(s->name));
    json_object_set_new(j, "choices", choices);
    return j;
}

static json_t *choice_json(const serve_choice *c, json_t *logprobs, bool ended)
{
    json_t *j = json_object();
    json_object_set_new(j, "index", whole(c->index));
    json_object_set_new(j, "logprobs", logprobs);
    json_object_set_new(j, "finish_reason", ended ? json_string(c->finish) : json_null());
    return j;
}

json_t *serve_reply(const serve_server *s, const serve_request *r)
{
    json_t *choices = json_array();
    for (size_t i = 0; i < r->n_choices; i++) {
        const serve_choice *const c = &r->choices[i];
        size_t offset = 0;
        json_t *j = choice_json(c, serve_logprobs(s, c, c->n_told, c->n_tokens, &offset), true);
        json_t *text = cli_json_text(c->text.p, c->text.n);
        if (r->chat) {
            json_t *message = json_object();
            json_object_set_new(message, "role", json_string("assistant"));
            const bool silent = c->calls.list && c->text.n == 0;
            json_object_set_new(message, "content", silent ? json_null() : json_incref(text));
            json_decref(text);
            if (c->calls.list) json_object_set(message, "tool_calls", c->calls.list);
            json_object_set_new(message, "refusal", json_null());
            json_object_set_new(j, "message", message);
        } else {
            json_object_set_new(j, "text", text);
        }
        json_array_append_new(choices, j);
    }
    json_t *j = head(s, r, r->chat ? "chat.completion" : "text_completion", choices);
    json_object_set_new(j, "usage", usage(r));
    return j;
}

/* ---- events */

static void add_event(const serve_server *s, const serve_request *r, json_t *choice, json_t *used,
                      cli_bytes *out)
{
    json_t *choices = json_array();
    if (choice) json_array_append_new(choices, choice);
    json_t *j = head(s, r, r->chat ? "chat.completion.chunk" : "text_completion", choices);
    if (!used && r->usage_always) used = usage(r);
    if (used || r->include_usage) json_object_set_new(j, "usage", used ? used : json_null());
    char *text = serve_dump(j);
    cli_bytes_add(out, "data: ", 6);
    cli_bytes_add(out, text, strlen(text));
    cli_bytes_add(out, "\n\n", 2);
    free(text);
}

/* role and text may be NULL. */
static json_t *delta(const serve_choice *c, const char *role, json_t *text, json_t *logprobs,
                     bool ended)
{
    json_t *j = choice_json(c, logprobs, ended);
    if (!c->request->chat) {
        json_object_set_new(j, "text", text ? text : json_string(""));
        return j;
    }
    json_t *d = json_object();
    if (role) json_object_set_new(d, "role", json_string(role));
    if (text) json_object_set_new(d, "content", text);
    json_object_set_new(j, "delta", d);
    return j;
}

/* Those that were not sent yet, each whole. */
static void add_calls(const serve_server *s, serve_choice *c, cli_bytes *out)
{
    for (; c->calls.n_told < json_array_size(c->calls.list); c->calls.n_told++) {
        json_t *call = json_copy(json_array_get(c->calls.list, c->calls.n_told));
        json_object_set_new(call, "index", whole(c->calls.n_told));
        json_t *j = delta(c, NULL, NULL, json_null(), false);
        json_object_set_new(json_object_get(j, "delta"), "tool_calls", json_pack("[o]", call));
        add_event(s, c->request, j, NULL, out);
    }
}

/* The piece token by token. What waited for one, as it may have been a stop, comes with the
 * next. */
static json_t *tokens(const serve_choice *c)
{
    json_t *list = json_array();
    size_t from = 0;
    if (c->n_marks == 0)
        json_array_append_new(list, json_pack("{s:o,s:b}", "text",
                                              cli_json_text(c->text.p, c->text.n), "drafted", 0));
    for (size_t i = 0; i < c->n_marks; i++) {
        const size_t end = i + 1 == c->n_marks ? c->text.n : c->marks[i].end;
        json_t *text = cli_json_text(c->text.p ? c->text.p + from : "", end - from);
        json_array_append_new(list,
                              json_pack("{s:o,s:b}", "text", text, "drafted", c->marks[i].drafted));
        from = end;
    }
    return list;
}

void serve_reply_piece(const serve_server *s, serve_choice *c, cli_bytes *out)
{
    const serve_request *const r = c->request;
    if (r->chat && c->first == 0)
        add_event(s, r, delta(c, "assistant", json_string(""), json_null(), false), NULL, out);
    const bool words = r->n_best >= 0 && c->n_told < c->n_tokens;
    if (c->text.n == 0 && !words && c->n_marks == 0) {
        add_calls(s, c, out);
        return;
    }
    json_t *logprobs =
        words ? serve_logprobs(s, c, c->n_told, c->n_tokens, &c->offset) : json_null();
    json_t *text = cli_json_text(c->text.p ? c->text.p : "", c->text.n);
    json_t *piece = delta(c, NULL, text, logprobs, false);
    if (r->include_tokens) json_object_set_new(piece, "tokens", tokens(c));
    add_event(s, r, piece, NULL, out);
    c->text.n = c->n_marks = 0;
    c->n_told = c->n_tokens;
    add_calls(s, c, out);
}

void serve_reply_end(const serve_server *s, serve_choice *c, cli_bytes *out)
{
    add_event(s, c->request, delta(c, NULL, NULL, json_null(), true), NULL, out);
}

void serve_reply_close(const serve_server *s, const serve_request *r, cli_bytes *out)
{
    static const char end[] = "data: [DONE]\n\n";
    if (r->error.status) {
        char *text = serve_dump(serve_reply_error(&r->error));
        cli_bytes_add(out, "data: ", 6);
        cli_bytes_add(out, text, strlen(text));
        cli_bytes_add(out, "\n\n", 2);
        free(text);
    } else if (r->include_usage) {
        add_event(s, r, NULL, usage(r), out);
    }
    cli_bytes_add(out, end, sizeof end - 1);
}

/* ---- models */

json_t *serve_reply_model(const serve_server *s)
{
    json_t *j = json_object();
    json_object_set_new(j, "id", json_string(s->name));
    json_object_set_new(j, "object", json_string("model"));
    json_object_set_new(j, "created", json_integer(s->begun));
    json_object_set_new(j, "owned_by", json_string("foretoken"));
    json_object_set_new(j, "max_model_len", whole(s->ctx));
    return j;
}

json_t *serve_reply_models(const serve_server *s)
{
    json_t *list = json_array(), *j = json_object();
    json_array_append_new(list, serve_reply_model(s));
    json_object_set_new(j, "object", json_string("list"));
    json_object_set_new(j, "data", list);
    return j;
}
