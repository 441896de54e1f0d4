/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of what the server reads: the first byte chooses the path, the rest is a body, or
 * bytes of which fuzzjson.h makes one. It becomes a request, or an answer that says what is
 * wrong, on one line of clean text. The second path of bodies is a model's answer with calls of
 * tools in it. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

#include "fuzzjson.h"
#include "serve/serve.h"

static const char *const vocabulary[] = {"messages",
                                         "role",
                                         "user",
                                         "assistant",
                                         "tool",
                                         "system",
                                         "content",
                                         "type",
                                         "text",
                                         "prompt",
                                         "Once upon",
                                         "tool_calls",
                                         "function",
                                         "name",
                                         "arguments",
                                         "{}",
                                         "f",
                                         "tools",
                                         "parameters",
                                         "object",
                                         "tool_choice",
                                         "required",
                                         "auto",
                                         "none",
                                         "response_format",
                                         "json_schema",
                                         "json_object",
                                         "schema",
                                         "properties",
                                         "stream",
                                         "stream_options",
                                         "include_usage",
                                         "include_tokens",
                                         "n",
                                         "max_tokens",
                                         "temperature",
                                         "seed",
                                         "stop",
                                         "logprobs",
                                         "top_logprobs",
                                         "logit_bias",
                                         "5",
                                         "echo",
                                         "prediction",
                                         "tokens",
                                         "chat_template_kwargs",
                                         "messages",
                                         "role",
                                         "content",
                                         "prompt",
                                         "user"};

enum { CHAT, COMPLETION, TOKENIZE, DETOKENIZE, CALLS, N_KINDS, MADE = 128 };

/* Of each form of calls. */
static const char *const signs[] = {"<tool_call>",      "{\"name\": function name, \"parameters\":",
                                    "[TOOL_CALLS]",     "[ARGS]",
                                    "<function=",       "<|tool_call|>",
                                    SERVE_DEEPSEEK_SEP, "function" SERVE_DEEPSEEK_SEP,
                                    "<TOOLCALL>"};

enum { N_SIGNS = sizeof signs / sizeof *signs };

static serve_server *open_server(void)
{
    static serve_server s;
    static cli_options o;
    if (s.w.model) return &s;
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    if (ftk_model_load(&s.w.model, FTK_MODELS_DIR "/foretoken-demo-q8_0.gguf", &cfg) != FTK_OK)
        abort();
    ftk_model_get_info(s.w.model, &s.w.info);
    ftk_chat_config_init(&s.w.chat);
    s.w.chat.source =
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>"
        "{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}";
    s.o = &o;
    s.ctx = 512;
    s.call_form = serve_call_form_of(NULL);
    pthread_mutex_init(&s.lock, NULL);
    return &s;
}

static void check_error(const serve_error *e)
{
    if (e->status < 400 || e->status > 599 || !e->type || !e->message[0]) abort();
    char *text = serve_dump(serve_reply_error(e));
    json_t *j = json_loads(text, 0, NULL);
    if (!j || strchr(text, '\n')) abort();
    json_decref(j);
    free(text);
}

/* What a request that was taken promises. */
static void check_request(const serve_server *s, serve_request *r)
{
    if (r->n_choices == 0 || r->n_prompts == 0 || r->n_choices != r->n * r->n_prompts) abort();
    for (size_t i = 0; i < r->n_prompts; i++)
        if (r->prompts[i].n == 0 || r->prompts[i].n > s->ctx) abort();
    if (r->format) {
        uint32_t *allowed = calloc((size_t)s->w.info.n_vocab / 32 + 1, sizeof *allowed);
        grammar_allow(&r->choices[0].walk, r->prompts[0].tokens, r->prompts[0].n, allowed);
        free(allowed);
    }
    char *text = serve_dump(serve_reply(s, r));
    free(text);
}

/* However an answer is cut up, what comes out is the same, and no byte is lost that is no part
 * of a call. */
static void check_calls(const char *p, size_t n)
{
    static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\","
                                "\"parameters\":{\"properties\":{\"b\":{"
                                "\"type\":\"string\"}}}}}]";
    json_t *list = json_loads(tools, 0, NULL);
    cli_bytes texts[2] = {0};
    size_t n_calls[2];
    for (size_t i = 0; i < 2 * N_SIGNS; i++) {
        serve_calls c = {.form = serve_call_form_of(signs[i / 2]), .tools = list};
        const size_t piece = i % 2 ? 3 : n + 1;
        cli_bytes *const text = &texts[i % 2];
        text->n = 0;
        cli_bytes_add(text, "", 0);
        for (size_t at = 0; at < n; at += piece)
            serve_calls_feed(&c, p + at, n - at < piece ? n - at : piece, false, text);
        serve_calls_feed(&c, "", 0, true, text);
        n_calls[i % 2] = json_array_size(c.list);
        if (n_calls[i % 2] == 0 && (text->n != n || memcmp(text->p, p, n) != 0)) abort();
        if (i % 2 && (n_calls[0] != n_calls[1] || texts[0].n != texts[1].n)) abort();
        serve_calls_free(&c);
    }
    cli_bytes_free(&texts[0]);
    cli_bytes_free(&texts[1]);
    json_decref(list);
}

/* A body of bytes, in a chat with a message of its own. */
static char *made_body(const uint8_t *p, size_t n)
{
    json_t *j = fuzz_json(p, n, vocabulary, sizeof vocabulary / sizeof *vocabulary);
    if (json_is_object(j) && n % 4)
        json_object_set_new(j, "messages",
                            json_pack("[{s:s,s:s}]", "role", "user", "content", "x"));
    char *text = json_dumps(j, JSON_ENCODE_ANY);
    json_decref(j);
    return text;
}

static void try_body(int kind, const char *body, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const int kind = data[0] % MADE % N_KINDS;
    if (data[0] < MADE) {
        try_body(kind, (const char *)data + 1, size - 1);
        return 0;
    }
    char *text = made_body(data + 1, size - 1);
    if (text) try_body(kind, text, strlen(text));
    free(text);
    return 0;
}

static void try_body(int kind, const char *body, size_t n)
{
    serve_server *const s = open_server();
    serve_error e = {0};
    s->call_form = serve_call_form_of(signs[n % N_SIGNS]);
    s->shows_calls = n / N_SIGNS % 2;
    if (kind == CALLS) {
        check_calls(body, n);
    } else if (kind <= COMPLETION) {
        serve_request *r = serve_request_read(s, kind == CHAT, body, n, &e);
        if (r)
            check_request(s, r);
        else
            check_error(&e);
        serve_request_unref(r);
    } else {
        json_t *j =
            kind == TOKENIZE ? serve_tokenize(s, body, n, &e) : serve_detokenize(s, body, n, &e);
        if (!j) check_error(&e);
        json_decref(j);
    }
}

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const struct {
        unsigned char kind;
        const char *body;
    } seeds[] = {
        {CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"Be "
               "brief.\"},{\"role\":\"user\",\"content\":"
               "[{\"type\":\"text\",\"text\":\"Hi\"}]}],\"temperature\":0.5,\"top_p\":0.9,\"top_"
               "k\":5,\"min_p\":0.1,\"seed\":7,"
               "\"n\":2,\"stop\":[\"a\",\"bc\"],\"logit_bias\":{\"5\":-1.5},\"max_tokens\":9,"
               "\"logprobs\":true,\"top_logprobs\":2}"},
        {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"response_format\":{"
               "\"type\":\"json_schema\","
               "\"json_schema\":{\"name\":\"n\",\"strict\":true,\"schema\":{\"type\":\"object\","
               "\"properties\":{\"a\":{\"type\":"
               "\"integer\"}},\"required\":[\"a\"]}}},\"stream\":true,\"stream_options\":{"
               "\"include_usage\":true}}"},
        {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\","
               "\"content\":null,\"tool_calls\":[{\"id\":"
               "\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{"
               "\"role\":\"tool\",\"content\":\"y\"}],"
               "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{"
               "\"type\":\"object\"}}}],"
               "\"tool_choice\":\"required\",\"parallel_tool_calls\":true}"},
        {CHAT,
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"prediction\":{\"type\":"
         "\"content\",\"content\":\"abc\"},"
         "\"response_format\":{\"type\":\"json_object\"},\"chat_template_kwargs\":{\"x\":1}}"},
        {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":"
               "\"function\",\"function\":{\"name\":\"f\"}}],"
               "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}"},
        {COMPLETION, "{\"prompt\":[[1,2,3],[4]],\"echo\":true,\"logprobs\":3,\"max_tokens\":0,"
                     "\"presence_penalty\":1,"
                     "\"frequency_penalty\":-1,\"repetition_penalty\":1.1,\"min_tokens\":2,"
                     "\"ignore_eos\":true}"},
        {COMPLETION, "{\"prompt\":[\"Once upon\",\"a\"],\"max_tokens\":5}"},
        {TOKENIZE, "{\"prompt\":\"The sky\",\"add_special_tokens\":false,\"parse_special\":true}"},
        {TOKENIZE, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"},
        {DETOKENIZE, "{\"tokens\":[1,300,42]}"},
        {CALLS, "Yes. <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call> and "
                "<tool_call>x"},
        {CALLS, "{\"name\": \"f\", \"parameters\": {\"a\": [1]}}"},
        {CALLS,
         "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}, \"id\": \"abcdefgh1\"}] [TOOL_CALLS]f"
         "[CALL_ID]a1b2c3d4e[ARGS]{\"a\": [1]}"},
        {CALLS,
         "So "
         "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx</parameter>"
         "\n</function>\n</tool_call> <function=f></function>"},
        {CALLS,
         "So" SERVE_DEEPSEEK_CALLS SERVE_DEEPSEEK_CALL "f" SERVE_DEEPSEEK_SEP
         "{}" SERVE_DEEPSEEK_CALL_END SERVE_DEEPSEEK_CALLS_END SERVE_DEEPSEEK_CALL
         "function" SERVE_DEEPSEEK_SEP "f\n```json\n{\"a\": 1}\n```" SERVE_DEEPSEEK_CALL_END},
        {CALLS, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>"},
    };
    enum { N = sizeof seeds / sizeof *seeds, N_MADE = 40 };
    if (i >= N + N_MADE) return false;
    if (i >= N) { /* bytes for fuzzjson.h: an object with several fields */
        uint32_t r = (uint32_t)i * 2654435761u;
        const unsigned char head[] = {(unsigned char)(MADE + i % 2), 0x5A};
        gw_put(out, head, 2);
        for (int k = 0; k < 80; k++) {
            const unsigned char byte = (unsigned char)((r = r * 1664525u + 1013904223u) >> 24);
            gw_put(out, &byte, 1);
        }
        return true;
    }
    gw_put(out, &seeds[i].kind, 1);
    gw_put(out, seeds[i].body, strlen(seeds[i].body));
    return true;
}
