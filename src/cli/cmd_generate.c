/* SPDX-License-Identifier: Apache-2.0
 * foretoken generate: completes one text. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"

static int check(const cli_options *o)
{
    if (o->prompt && o->file)
        return cli_say_usage(o->command, "-p and -f exclude each other; give one of them");
    if (!o->prompt && !o->file)
        return cli_say_usage(o->command, "there is nothing to complete; give -p TEXT or -f FILE");
    const char *needs_chat = o->system          ? "--system"
                             : o->template_name ? "--template"
                             : o->template_file ? "--template-file"
                             : o->template_vars ? "--template-vars"
                                                : NULL;
    if (!o->chat && needs_chat)
        return cli_say_usage(o->command, "%s needs --chat; add it", needs_chat);
    return CLI_DONE;
}

/* The prompt's tokens, in the template or as they are. */
static int tokenize(const cli_world *w, const cli_options *o, const cli_bytes *text,
                    int32_t **tokens, size_t *n)
{
    ftk_err err;
    if (o->chat) {
        if (strlen(text->p) != text->n) {
            cli_say("the prompt holds a NUL byte, and --chat takes text only; leave out --chat");
            return CLI_FAILED;
        }
        ftk_message msgs[2] = {{"system", o->system}, {"user", text->p}};
        err = cli_chat_tokenize(w, o->system ? msgs : msgs + 1, o->system ? 2 : 1, tokens, n);
    } else {
        err = cli_tokenize(w, text->p, text->n, FTK_TOK_BOS, tokens, n);
    }
    if (err != FTK_OK) return cli_fail(err, "the prompt could not be tokenized");
    if (*n == 0) {
        cli_say("the prompt is empty and this model has no BOS token to start from");
        return CLI_FAILED;
    }
    const size_t room = ftk_session_context(w->session);
    if (*n > room) {
        cli_say("the prompt has %zu tokens, the context holds %zu; shorten it or raise -c", *n,
                room);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

static json_t *report(const cli_world *w, const cli_options *o, const cli_answer *a,
                      size_t n_prompt)
{
    const cli_speed s = cli_answer_speed(a);
    json_t *tokens = json_array();
    for (size_t i = 0; i < a->n_tokens; i++)
        json_array_append_new(tokens, json_integer(a->tokens[i]));
    json_t *j = json_object();
    json_object_set_new(j, "text", cli_json_text(a->text.p, a->text.n));
    json_object_set_new(j, "tokens", tokens);
    json_object_set_new(j, "finish", json_string(cli_answer_finish_name(a)));
    json_object_set_new(j, "prompt_tokens", json_integer((json_int_t)n_prompt));
    json_object_set_new(j, "steps", json_integer((json_int_t)s.steps));
    json_object_set_new(j, "drafted", json_integer((json_int_t)s.drafted));
    json_object_set_new(j, "accepted", json_integer((json_int_t)s.accepted));
    json_object_set_new(j, "tokens_per_step", cli_json_real(s.tokens_per_step));
    json_object_set_new(j, "prefill_seconds", cli_json_real(s.prefill_seconds));
    json_object_set_new(j, "decode_seconds", cli_json_real(s.decode_seconds));
    json_object_set_new(j, "tokens_per_second", cli_json_real(s.tokens_per_second));
    json_object_set_new(j, "drafter", json_string(o->drafter));
    json_object_set_new(j, "verifier", json_string(o->verifier));
    json_object_set_new(j, "lossless", json_boolean(cli_lossless(o->drafter, o->verifier)));
    json_object_set_new(j, "kernels", json_string(w->info.kernels));
    json_object_set_new(j, "device", json_string(ftk_engine_device(w->engine)));
    json_object_set_new(j, "threads", json_integer(ftk_engine_threads(w->engine)));
    return j;
}

static int complete(const cli_world *w, const cli_options *o, bool continues, size_t n_prompt)
{
    const cli_answer_config cfg = {
        .drafter = o->drafter, .continues = continues, .show = !o->json, .limit = o->n};
    cli_answer a;
    ftk_err err = cli_answer_open(&a, w, o, o->chat ? cli_chat_stop(w) : NULL, &cfg);
    if (err == FTK_OK) err = cli_answer_run(&a);
    if (err == FTK_OK) err = cli_answer_finish(&a);
    if (err == FTK_OK && o->json)
        cli_out_json(report(w, o, &a, n_prompt));
    else if (!o->json)
        cli_out("\n", 1);
    if (err == FTK_OK && o->stats) cli_answer_say_speed(&a);
    int status = cli_out_status();
    if (err != FTK_OK) {
        status = cli_fail(err, "the text could not be completed");
    } else if (a.ending == CLI_ENDED_CONTEXT && status == CLI_DONE) {
        cli_say("the context of %zu tokens is full; %zu were generated, a larger -c allows more",
                ftk_session_context(w->session), a.n_tokens);
        status = CLI_FAILED;
    }
    cli_answer_close(&a);
    return status;
}

static int generate(cli_world *w, const cli_options *o, const cli_bytes *text)
{
    const bool speculates = strcmp(o->drafter, "none") != 0 && o->budget < 0;
    int status = cli_world_open_model(w, o);
    if (status == CLI_DONE) status = cli_world_open_engine(w, o, (int)o->ctx, speculates);
    if (status == CLI_DONE) status = cli_world_open_session(w, o);
    if (status == CLI_DONE && o->chat) status = cli_world_open_chat(w, o);
    if (status != CLI_DONE) return status;
    int32_t *tokens = NULL;
    size_t n = 0;
    status = tokenize(w, o, text, &tokens, &n);
    if (status == CLI_DONE) {
        const ftk_err err = ftk_session_append(w->session, tokens, n);
        status = err == FTK_OK ? complete(w, o, !o->chat && text->n > 0, n)
                               : cli_fail(err, "the prompt could not be read");
    }
    free(tokens);
    return status;
}

int cmd_generate(const cli_options *o)
{
    int status = check(o);
    if (status != CLI_DONE) return status;
    cli_bytes text = {0};
    cli_bytes_add(&text, "", 0);
    if (o->prompt) cli_bytes_add(&text, o->prompt, strlen(o->prompt));
    if (o->file && !cli_bytes_read(&text, o->file)) status = CLI_FAILED;
    cli_world w = {0};
    if (status == CLI_DONE) status = generate(&w, o, &text);
    cli_world_close(&w);
    cli_bytes_free(&text);
    return status;
}
