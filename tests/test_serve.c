/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve: what it answers. */
#include "support.h"

#include <math.h>

#include "serveclient.h"

static server shared;

#define SKY "Why is the sky blue?"

static int start_shared(void **state)
{
    (void)state;
    shared = server_start((const char *[]){"--budget", "6", "--metrics-names", "vllm", NULL});
    return 0;
}

/* Of a prompt's words nothing is said. */
static int stop_shared(void **state)
{
    (void)state;
    char *said = server_said(&shared);
    const bool quiet = !strstr(said, "sky");
    if (!quiet) fprintf(stderr, "%s", said);
    free(said);
    return server_stop(&shared) || !quiet;
}

static int64_t number_at(const reply *r, const char *a, const char *b, const char *c)
{
    const json_t *const v = json_at(r, a, b, c);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

static void assert_same_text(char *a, char *b)
{
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static char *sky(const char *n)
{
    return generate((const char *[]){"--chat", "-p", SKY, "-n", n, NULL});
}

static void test_chat(void **state)
{
    (void)state;
    reply r = post(&shared, "/v1/chat/completions",
                   "{\"model\":\"any\",\"temperature\":0,\"max_tokens\":40,\"store\":false,"
                   "\"messages\":[{\"role\":\"user\",\"content\":\"" SKY "\"}]}");
    assert_int_equal(r.status, 200);
    assert_same_text(text_of(&r, 0), sky("40"));
    assert_string_equal(text_at(&r, "object", NULL, NULL), "chat.completion");
    assert_string_equal(text_at(&r, "model", NULL, NULL), "foretoken-demo-q8_0");
    assert_string_equal(text_at(&r, "choices", "finish_reason", NULL), "stop");
    assert_string_equal(text_at(&r, "choices", "message", "role"), "assistant");
    const int64_t prompt = number_at(&r, "usage", "prompt_tokens", NULL);
    assert_int_equal(number_at(&r, "usage", "total_tokens", NULL),
                     prompt + number_at(&r, "usage", "completion_tokens", NULL));
    reply_free(&r);
    /* the same without /v1, in parts, with a limit; most of the prompt is there already */
    r = post(&shared, "/chat/completions",
             "{\"temperature\":0,\"max_completion_tokens\":5,\"messages\":[{\"role\":\"user\","
             "\"content\":[{\"type\":\"text\",\"text\":\"Why is the\"},{\"type\":\"text\","
             "\"text\":\" sky blue?\"}]}]}");
    assert_same_text(text_of(&r, 0), sky("5"));
    assert_string_equal(text_at(&r, "choices", "finish_reason", NULL), "length");
    assert_int_equal(number_at(&r, "usage", "completion_tokens", NULL), 5);
    assert_int_equal(number_at(&r, "usage", "prompt_tokens_details", "cached_tokens"), prompt - 1);
    assert_true(strstr(r.head, "X-Request-Id: chatcmpl-") != NULL);
    reply_free(&r);
}

static void test_stream(void **state)
{
    (void)state;
    reply r = post(&shared, "/v1/chat/completions",
                   "{\"temperature\":0,\"max_tokens\":40,\"stream\":true,\"stream_options\":"
                   "{\"include_usage\":true},\"messages\":[{\"role\":\"user\",\"content\":\"" SKY
                   "\"}]}");
    assert_int_equal(r.status, 200);
    assert_true(strstr(r.head, "Content-Type: text/event-stream") != NULL);
    assert_same_text(streamed_text(&r, 0, true), sky("40"));
    assert_true(strstr(r.body, "\"finish_reason\":\"stop\"") != NULL);
    assert_true(strstr(r.body, "\"choices\":[],\"usage\":{\"prompt_tokens\":") != NULL);
    assert_string_equal(r.body + r.n - 14, "data: [DONE]\n\n");
    reply_free(&r);
    r = post(&shared, "/v1/completions",
             "{\"temperature\":0,\"max_tokens\":12,\"stream\":true,\"echo\":true,\"n\":2,"
             "\"prompt\":\"Once upon a time\"}");
    char *expected = generate((const char *[]){"-p", "Once upon a time", "-n", "12", NULL});
    char all[512];
    snprintf(all, sizeof all, "Once upon a time%s", expected);
    free(expected);
    assert_same_text(streamed_text(&r, 0, false), strdup(all));
    assert_same_text(streamed_text(&r, 1, false), strdup(all));
    assert_null(strstr(r.body, "usage"));
    reply_free(&r);
}

/* Answers that begin with what may be a stop, and such as have control tokens alone. */
static void test_stream_of_silence(void **state)
{
    (void)state;
    static const char *const fields[] = {"\"stop\":\", the moon\"", "\"logit_bias\":{\"3\":100}"};
    for (size_t i = 0; i < 2; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"prompt\":\"The sky\",\"temperature\":0,\"max_tokens\":90,%s}", fields[i]);
        reply whole = post(&shared, "/v1/completions", body);
        snprintf(body + strlen(body) - 1, sizeof body - strlen(body), ",\"stream\":true}");
        reply r = post(&shared, "/v1/completions", body);
        assert_int_equal(r.status, 200);
        assert_same_text(streamed_text(&r, 0, false), text_of(&whole, 0));
        assert_string_equal(r.body + r.n - 14, "data: [DONE]\n\n");
        assert_int_equal(strncmp(text_at(&whole, "choices", "text", NULL), ", ", 2) == 0, i == 0);
        reply_free(&whole);
        reply_free(&r);
    }
}

static void test_stop(void **state)
{
    (void)state;
    char *expected = generate((const char *[]){"--chat", "-p", SKY, "--stop", "blue light", NULL});
    const char *const stops[] = {"\"blue light\"", "[\"nothing such\",\"blue light\"]"};
    for (size_t i = 0; i < 2; i++) {
        char body[512];
        snprintf(
            body, sizeof body,
            "{\"temperature\":0,\"stop\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"" SKY
            "\"}]}",
            stops[i]);
        reply r = post(&shared, "/v1/chat/completions", body);
        assert_same_text(text_of(&r, 0), strdup(expected));
        assert_string_equal(text_at(&r, "choices", "finish_reason", NULL), "stop");
        reply_free(&r);
    }
    free(expected);
}

/* n answers are those of n requests whose seeds follow each other. */
static void test_several(void **state)
{
    (void)state;
    reply all = post(&shared, "/v1/completions",
                     "{\"prompt\":[\"Once upon\",\"The sky\"],\"n\":3,\"seed\":7,"
                     "\"max_tokens\":10,\"ignore_eos\":true,\"presence_penalty\":0.5,\"logit_"
                     "bias\":{\"300\":-100}}");
    assert_int_equal(json_array_size(json_object_get(all.json, "choices")), 6);
    assert_int_equal(number_at(&all, "usage", "completion_tokens", NULL), 60);
    bool differ = false;
    for (size_t i = 0; i < 6; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"prompt\":\"%s\",\"seed\":%zu,\"max_tokens\":10,\"ignore_eos\":true,\"presence_"
                 "penalty\":0.5,"
                 "\"logit_bias\":{\"300\":-100},\"temperature\":1}",
                 i < 3 ? "Once upon" : "The sky", 7 + i % 3);
        reply one = post(&shared, "/v1/completions", body);
        char *text = text_of(&one, 0), *other = text_of(&all, i ? 0 : 1);
        differ |= strcmp(text, other) != 0;
        free(other);
        assert_same_text(text, text_of(&all, i));
        reply_free(&one);
    }
    assert_true(differ);
    reply_free(&all);
}

static const json_t *logprobs(const reply *r, const char *list)
{
    return json_at(r, "choices", "logprobs", list);
}

/* As lm-eval asks for it. What comes has the library's bits. */
static void test_echo(void **state)
{
    (void)state;
    ftk_model *m = load_model(DEMO);
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    int32_t tokens[64];
    size_t n;
    assert_int_equal(ftk_tokenize(m, "The sky is blue", 15, FTK_TOK_BOS, tokens, 64, &n), FTK_OK);
    char body[512] =
        "{\"max_tokens\":1,\"logprobs\":2,\"echo\":true,\"temperature\":0,\"prompt\":[[";
    for (size_t i = 0; i < n; i++)
        snprintf(body + strlen(body), sizeof body - strlen(body), "%s%d", i ? "," : "", tokens[i]);
    strcat(body, "]]}");
    reply r = post(&shared, "/v1/completions", body);
    assert_int_equal(r.status, 200);
    const json_t *own = logprobs(&r, "token_logprobs"), *top = logprobs(&r, "top_logprobs");
    assert_int_equal(json_array_size(own), n + 1);
    assert_true(json_is_null(json_array_get(own, 0)));

    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    ftk_session *s;
    ftk_result result;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_set_logprobs(s, 1, true), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    assert_int_equal(ftk_step(&s, 1, &result), FTK_OK);
    double sum = 0, score;
    for (size_t i = 1; i <= n; i++) {
        float known;
        const ftk_logprob *best;
        assert_true(ftk_session_logprobs(s, i, &known, &best));
        const double v = json_number_value(json_array_get(own, i));
        assert_true((float)v == known);
        if (i < n) sum += v;
        const char *word;
        json_t *p;
        double most = -INFINITY;
        json_object_foreach(json_array_get(top, i), word, p) most =
            fmax(most, json_number_value(p));
        assert_true((float)most == best[0].logprob);
        assert_int_equal(v == most, known == best[0].logprob);
    }
    ftk_session_free(s);
    assert_int_equal(ftk_score(e, tokens, n, &score), FTK_OK);
    assert_true(fabs(sum - score) < 1e-4);
    assert_string_equal(json_string_value(json_array_get(logprobs(&r, "tokens"), 1)), "The");
    assert_int_equal(json_integer_value(json_array_get(logprobs(&r, "text_offset"), 2)), 3);
    reply_free(&r);
    ftk_engine_free(e);
    ftk_model_free(m);

    /* a prompt alone */
    r = post(&shared, "/v1/completions",
             "{\"max_tokens\":0,\"logprobs\":0,\"echo\":true,\"prompt\":\"The sky is blue\"}");
    assert_string_equal(text_at(&r, "choices", "text", NULL), "The sky is blue");
    assert_int_equal(json_array_size(logprobs(&r, "token_logprobs")), n);
    assert_true(json_is_real(json_array_get(logprobs(&r, "token_logprobs"), n - 1)));
    assert_int_equal(number_at(&r, "usage", "completion_tokens", NULL), 0);
    reply_free(&r);
}

static void test_chat_logprobs(void **state)
{
    (void)state;
    reply r = post(&shared, "/v1/chat/completions",
                   "{\"temperature\":0,\"max_tokens\":6,\"logprobs\":true,\"top_logprobs\":3,"
                   "\"messages\":[{\"role\":\"user\",\"content\":\"" SKY "\"}]}");
    const json_t *const content = logprobs(&r, "content");
    char text[256] = "";
    assert_int_equal(json_array_size(content), 6);
    for (size_t i = 0; i < 6; i++) {
        const json_t *const word = json_array_get(content, i);
        const json_t *const top = json_object_get(word, "top_logprobs");
        assert_int_equal(json_array_size(top), 3);
        assert_true(json_number_value(json_object_get(word, "logprob")) ==
                    json_number_value(json_object_get(json_array_get(top, 0), "logprob")));
        strcat(text, json_string_value(json_object_get(word, "token")));
    }
    assert_same_text(text_of(&r, 0), strdup(text));
    reply_free(&r);
}

static void test_tokens(void **state)
{
    (void)state;
    reply r = post(&shared, "/tokenize", "{\"prompt\":\"The sky\"}");
    char *tokens = json_dumps(json_object_get(r.json, "tokens"), 0), body[256];
    assert_int_equal(number_at(&r, "count", NULL, NULL),
                     json_array_size(json_object_get(r.json, "tokens")));
    reply_free(&r);
    snprintf(body, sizeof body, "{\"tokens\":%s}", tokens);
    free(tokens);
    r = post(&shared, "/v1/detokenize", body);
    assert_true(strstr(text_at(&r, "prompt", NULL, NULL), "The sky") != NULL);
    reply_free(&r);
}

static void test_rest(void **state)
{
    (void)state;
    reply r = ask(&shared, "GET", "/v1/models", "");
    assert_string_equal(text_at(&r, "data", "id", NULL), "foretoken-demo-q8_0");
    reply_free(&r);
    r = ask(&shared, "GET", "/v1/models/foretoken-demo-q8_0", "");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    r = ask(&shared, "GET", "/version", "");
    assert_string_equal(text_at(&r, "version", NULL, NULL), ftk_version());
    reply_free(&r);
    r = ask(&shared, "GET", "/health", "");
    assert_string_equal(text_at(&r, "status", NULL, NULL), "ok");
    reply_free(&r);
    r = ask(&shared, "GET", "/metrics", "");
    assert_true(strstr(r.body, "\nvllm:spec_decode_num_drafts_total{") != NULL);
    reply_free(&r);
    const double drafts = figure(&shared, "spec_decode_num_draft_tokens_total");
    assert_true(drafts > 0);
    assert_true(figure(&shared, "spec_decode_num_accepted_tokens_total") <= drafts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_of_silence),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_chat_logprobs),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_rest),
    };
    return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
