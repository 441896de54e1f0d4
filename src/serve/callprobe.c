/* SPDX-License-Identifier: Apache-2.0
 * How the model's template would have a tool called: it is shown a conversation with a call. */
#include <string.h>

#include "serve/serve.h"

/* A value that stands nowhere else. */
#define SIGN "forty-two-9"

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\","
    "\"description\":\"d\"}},\"required\":[\"x\"]}}}]";
#define MEMBERS(none, arguments)                                                                   \
    "[null,{" none "\"tool_calls\":[{\"id\":\"abcdefgh9\",\"type\":\"function\",\"function\":"     \
    "{\"name\":\"f\",\"arguments\":" arguments "}}]},{\"tool_call_id\":\"abcdefgh9\","             \
    "\"name\":\"f\"}]"
#define VALUE "{\"x\":\"" SIGN "\"}"
#define TEXT  "\"{\\\"x\\\":\\\"" SIGN "\\\"}\""
#define NONE  "\"content\":null,"

static const struct {
    const char *members;
    bool as_text, alone;
} ways[] = {{MEMBERS("", VALUE), false, false},
            {MEMBERS("", TEXT), true, false},
            {MEMBERS(NONE, VALUE), false, true},
            {MEMBERS(NONE, TEXT), true, true}};

/* With calls, or without where they are NULL. NULL where the template refuses it; to be freed. */
static char *render(const serve_server *s, const char *calls)
{
    enum { MOST = 1 << 16 };
    static const ftk_message talk[] = {{"user", "x"}, {"assistant", ""}, {"tool", "y"}};
    ftk_chat_config chat = s->w.chat;
    char why[8], *text = cli_array(NULL, MOST + 1, 1);
    size_t n;
    chat.tools = tools;
    chat.members = calls;
    cli_hush(why, sizeof why);
    const bool shown =
        ftk_chat_text(s->w.model, &chat, talk, calls ? 3 : 1, text, MOST, &n) == FTK_OK;
    cli_hush(NULL, 0);
    if (shown) text[n] = 0;
    if (!shown) free(text);
    return shown ? text : NULL;
}

/* Those of the form's words that are tokens, and would be left out of a text. */
static void find_words(serve_server *s)
{
    const ftk_model *const m = s->w.model;
    for (size_t i = 0; i < SERVE_CALL_WORDS && s->call_form->words[i]; i++) {
        const char *const word = s->call_form->words[i];
        int32_t token;
        size_t n = 0, shown = 0;
        if (ftk_tokenize(m, word, strlen(word), FTK_TOK_SPECIAL, &token, 1, &n) != FTK_OK || n != 1)
            continue;
        ftk_detokenize(m, &token, 1, 0, NULL, 0, &shown);
        if (shown == 0) s->call_words[s->n_call_words++] = (serve_call_word){token, word};
    }
}

/* What the template makes of a call, or else of tools alone; to be freed. NULL: built-in forms take
 * neither. */
static char *show(serve_server *s)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char *const text = render(s, ways[i].members);
        s->shows_calls = text && strstr(text, SIGN);
        s->calls_as_text = s->shows_calls && ways[i].as_text;
        s->calls_alone = s->shows_calls && ways[i].alone;
        if (s->shows_calls) return text;
        free(text);
    }
    return render(s, NULL);
}

void serve_find_call_form(serve_server *s)
{
    char *const text = show(s);
    s->takes_members = text != NULL;
    s->call_form = serve_call_form_of(text);
    free(text);
    find_words(s);
}

const char *serve_call_word_of(const serve_server *s, int32_t token)
{
    for (size_t i = 0; i < s->n_call_words; i++)
        if (s->call_words[i].token == token) return s->call_words[i].text;
    return NULL;
}
