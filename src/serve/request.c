/* SPDX-License-Identifier: Apache-2.0
 * A request's fields: how tokens are drawn, how many, and what is sent back. */
#include <float.h>
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "serve/fields.h"
#include "serve/prompts.h"

static bool read_sampling(const json_t *o, serve_request *r, serve_error *e)
{
    ftk_sampling *const s = &r->sampling;
    ftk_session_config defaults;
    ftk_session_config_init(&defaults);
    *s = defaults.sampling;
    s->temperature = 1;
    int64_t top_k = 0, min_tokens = 0;
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0) seed = (uint64_t)time(NULL);
    int64_t given = (int64_t)seed;
    if (!serve_field_real(o, "temperature", 0, FLT_MAX, &s->temperature, e) ||
        !serve_field_real(o, "top_p", 0, 1, &s->top_p, e) ||
        !serve_field_whole(o, "top_k", -1, INT32_MAX, &top_k, e) ||
        !serve_field_real(o, "min_p", 0, 1, &s->min_p, e) ||
        !serve_field_real(o, "repetition_penalty", FLT_MIN, FLT_MAX, &s->repeat_penalty, e) ||
        !serve_field_real(o, "presence_penalty", -2, 2, &s->presence_penalty, e) ||
        !serve_field_real(o, "frequency_penalty", -2, 2, &s->frequency_penalty, e) ||
        !serve_field_whole(o, "min_tokens", 0, INT32_MAX, &min_tokens, e) ||
        !serve_field_whole(o, "seed", INT64_MIN, INT64_MAX, &given, e))
        return false;
    /* 0 is in OpenAI's range, and means to llama-server what it does here: the likeliest alone */
    if (s->top_p < FLT_MIN) s->top_p = FLT_MIN;
    if (s->min_p > 1 - FLT_EPSILON) s->min_p = 1 - FLT_EPSILON;
    s->top_k = top_k < 0 ? 0 : (int)top_k; /* vLLM's -1: off */
    s->min_tokens = (uint64_t)min_tokens;
    s->seed = (uint64_t)given;
    return true;
}

static bool read_bias(const serve_server *s, const json_t *o, serve_request *r, serve_error *e)
{
    const json_t *const field = serve_field(o, "logit_bias");
    if (!field) return true;
    if (!json_is_object(field))
        return serve_refuse(e, "logit_bias", "logit_bias must be an object: token ids to numbers");
    r->biases = cli_array(NULL, json_object_size(field), sizeof *r->biases);
    const char *key;
    const json_t *v;
    json_object_foreach((json_t *)(uintptr_t)field, key, v)
    {
        char *end;
        const long long id = strtoll(key, &end, 10);
        const bool plain = key[0] >= '0' && key[0] <= '9' && (key[0] != '0' || !key[1]) && !*end;
        if (!plain || id >= s->w.info.n_vocab)
            return serve_refuse(e, "logit_bias",
                                "logit_bias names a token that is none; ids are 0 to %d",
                                s->w.info.n_vocab - 1);
        const double x = json_number_value(v);
        if (!json_is_number(v) || !(x >= -100 && x <= 100))
            return serve_refuse(e, "logit_bias",
                                "a bias in logit_bias must be a number, -100 to 100");
        r->biases[r->n_biases++] = (ftk_bias){(int32_t)id, (float)x};
    }
    return true;
}

static bool add_stop(const json_t *v, serve_request *r, serve_error *e)
{
    if (!json_is_string(v) || json_string_length(v) == 0)
        return serve_refuse(e, "stop",
                            "stop must be a text, or a list of texts, none of them empty");
    if (r->n_stops == SERVE_MAX_STOPS)
        return serve_refuse(e, "stop", "stop holds more than %d texts", SERVE_MAX_STOPS);
    r->stops[r->n_stops++] = json_string_value(v);
    return true;
}

static bool read_stops(const json_t *o, serve_request *r, serve_error *e)
{
    const json_t *const field = serve_field(o, "stop");
    if (!field) return true;
    if (!json_is_array(field)) return add_stop(field, r, e);
    for (size_t i = 0; i < json_array_size(field); i++)
        if (!add_stop(json_array_get(field, i), r, e)) return false;
    return true;
}

/* What OpenAI's completions have and this server has not: passed over, they would make another
 * answer than the one that was asked for. */
static bool refuse_unknown(const json_t *o, const serve_request *r, serve_error *e)
{
    int64_t best = 1;
    if (r->chat) return true;
    if (!serve_field_whole(o, "best_of", 0, INT32_MAX, &best, e)) return false;
    if (best > (int64_t)r->n)
        return serve_refuse(e, "best_of", "best_of: all that are made are sent; ask for n");
    if (json_string_length(serve_field(o, "suffix")) > 0)
        return serve_refuse(e, "suffix", "suffix: nothing can be put between two texts here");
    return true;
}

static bool read_limits(const json_t *o, serve_request *r, serve_error *e)
{
    int64_t most = r->chat ? -1 : 16, n = 1;                            /* OpenAI's defaults */
    if (!serve_field_whole(o, "max_tokens", -1, INT32_MAX, &most, e) || /* -1: llama.cpp's */
        !serve_field_whole(o, "max_completion_tokens", -1, INT32_MAX, &most, e) ||
        !serve_field_whole(o, "n", 1, 128, &n, e) ||
        !serve_field_bool(o, "ignore_eos", &r->ignore_eos, e) ||
        !serve_field_bool(o, "echo", &r->echo, e))
        return false;
    r->max_tokens = most < 0 ? SIZE_MAX : (size_t)most;
    if (r->sampling.min_tokens > r->max_tokens)
        return serve_refuse(e, "min_tokens",
                            "min_tokens is %llu; it must be at most max_tokens, %zu",
                            (unsigned long long)r->sampling.min_tokens, r->max_tokens);
    r->n = (size_t)n;
    r->echo = r->echo && !r->chat;
    return refuse_unknown(o, r, e);
}

/* Chats: whether, and how many beside; completions: how many. */
static bool read_logprobs(const json_t *o, serve_request *r, serve_error *e)
{
    int64_t most = -1;
    bool wanted = false;
    if (!r->chat) {
        const bool off = json_is_false(json_object_get(o, "logprobs")); /* as in a chat */
        if (!off && !serve_field_whole(o, "logprobs", 0, FTK_MAX_LOGPROBS, &most, e)) return false;
    } else {
        if (!serve_field_bool(o, "logprobs", &wanted, e) ||
            !serve_field_whole(o, "top_logprobs", 0, FTK_MAX_LOGPROBS, &most, e))
            return false;
        if (most > 0 && !wanted)
            return serve_refuse(e, "top_logprobs", "top_logprobs needs logprobs to be true");
        most = !wanted ? -1 : most < 0 ? 0 : most;
    }
    r->n_best = (int)most;
    return true;
}

static bool read_stream(const json_t *o, serve_request *r, serve_error *e)
{
    if (!serve_field_bool(o, "stream", &r->stream, e)) return false;
    const json_t *const options = serve_field(o, "stream_options");
    if (!options || !r->stream) return true;
    if (!json_is_object(options))
        return serve_refuse(e, "stream_options", "stream_options must be an object");
    return serve_field_bool(options, "include_usage", &r->include_usage, e) &&
           serve_field_bool(options, "continuous_usage_stats", &r->usage_always, e) &&
           serve_field_bool(options, "include_tokens", &r->include_tokens, e);
}

static bool read_model(const json_t *o, serve_error *e)
{
    const json_t *const model = serve_field(o, "model");
    return !model || json_is_string(model) || serve_refuse(e, "model", "model must be a text");
}

static bool read_all(serve_server *s, const json_t *o, serve_request *r, serve_error *e)
{
    return read_model(o, e) && read_sampling(o, r, e) && read_bias(s, o, r, e) &&
           read_stops(o, r, e) && read_limits(o, r, e) && read_logprobs(o, r, e) &&
           read_stream(o, r, e) && serve_read_format(s, o, r, e) &&
           serve_read_prediction(s, o, r, e) && serve_read_prompts(s, o, r, e);
}

static void make_id(serve_request *r)
{
    uint64_t word[2] = {0};
    if (getrandom(word, sizeof word, GRND_NONBLOCK) < 0) word[0] = (uint64_t)(uintptr_t)r;
    snprintf(r->id, sizeof r->id, "%s-%016llx", r->chat ? "chatcmpl" : "cmpl",
             (unsigned long long)(word[0] ^ word[1]));
}

static void make_choices(const serve_server *s, serve_request *r)
{
    r->n_choices = r->n_prompts * r->n;
    r->choices = cli_array(NULL, r->n_choices, sizeof *r->choices);
    for (size_t i = 0; i < r->n_choices; i++)
        r->choices[i] = (serve_choice){
            .request = r,
            .prompt = &r->prompts[i / r->n],
            .index = i,
            .model = s->w.model,
            .calls = {.form = r->tools.list ? s->call_form : NULL,
                      .tools = r->tools.list,
                      .one = !r->tools.parallel},
            .walk = {.g = r->format ? r->format->g : NULL, .start = r->prompts[i / r->n].n},
            .seed = r->sampling.seed + i % r->n};
}

serve_request *serve_request_read(serve_server *s, bool chat, const char *body, size_t n,
                                  serve_error *e)
{
    json_t *root = serve_body(body, n, e);
    if (!root) return NULL;
    serve_request *r = cli_array(NULL, 1, sizeof *r);
    *r = (serve_request){.root = root, .chat = chat, .fd = -1, .created = (int64_t)time(NULL)};
    atomic_init(&r->refs, 1);
    r->start = cli_now();
    if (!read_all(s, root, r, e)) {
        serve_request_unref(r);
        return NULL;
    }
    const char *const stop = chat ? cli_chat_stop(&s->w) : NULL;
    if (stop) r->stops[r->n_stops++] = stop;
    make_id(r);
    make_choices(s, r);
    return r;
}

void serve_request_unref(serve_request *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) > 1) return;
    for (size_t i = 0; i < r->n_choices; i++) serve_choice_free(&r->choices[i]);
    for (size_t i = 0; i < r->n_prompts; i++) {
        free(r->prompts[i].tokens);
        cli_bytes_free(&r->prompts[i].text);
    }
    free(r->choices);
    free(r->prompts);
    free(r->biases);
    free(r->predicted);
    serve_format_unref(r->format);
    cli_bytes_free(&r->out);
    json_decref(r->root);
    free(r);
}
