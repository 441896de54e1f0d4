/* SPDX-License-Identifier: Apache-2.0
 * Tools: what a client offers, how a model writes that it calls one, and calls read out of its
 * text. */
#ifndef FTK_SERVE_TOOLS_H
#define FTK_SERVE_TOOLS_H

#include <jansson.h>

#include "cli/common.h"

/* ---- callforms.c: how templates have models call */

typedef enum serve_call_kind {
    SERVE_CALL_JSON,  /* an object with name and arguments, or a list of such, between words */
    SERVE_CALL_BARE,  /* the same as the whole answer */
    SERVE_CALL_NAMED, /* a word, the name, what parts them, the arguments as an object */
    SERVE_CALL_TAGS,  /* a tag for the function, and in it one for each argument */
} serve_call_kind;

enum { SERVE_CALL_WORDS = 5 };

/* DeepSeek's words, with a wide bar and a low block in them. */
#define SERVE_DEEPSEEK_CALLS     "<\uFF5Ctool\u2581calls\u2581begin\uFF5C>"
#define SERVE_DEEPSEEK_CALL      "<\uFF5Ctool\u2581call\u2581begin\uFF5C>"
#define SERVE_DEEPSEEK_SEP       "<\uFF5Ctool\u2581sep\uFF5C>"
#define SERVE_DEEPSEEK_CALL_END  "<\uFF5Ctool\u2581call\u2581end\uFF5C>"
#define SERVE_DEEPSEEK_CALLS_END "<\uFF5Ctool\u2581calls\u2581end\uFF5C>"

typedef struct serve_call_form {
    const char *sign; /* in what a template makes of tools or calls: it wants this form */
    serve_call_kind kind;
    const char *opening, *closing;        /* "" where there is none */
    const char *without;                  /* how a call begins that lacks its opening, or NULL */
    const char *before, *after, *between; /* how an object with a call is written, and several */
    const char *arguments;                /* their key; the other one is read, too */
    const char *parting;                  /* SERVE_CALL_NAMED: between name and arguments */
    bool mistral; /* ids are nine letters and digits; both of its forms are read */
    const char *words[SERVE_CALL_WORDS]; /* what may be control tokens */
} serve_call_form;

/* By what the model's template says when it is shown a tool or a call. */
const serve_call_form *serve_call_form_of(const char *text);
/* Whether they are calls as OpenAI has them. */
bool serve_are_calls(const json_t *calls);
/* Calls of an assistant's message as its model writes them, added to out. */
void serve_write_calls(const serve_call_form *form, const json_t *calls, cli_bytes *out);
/* The same as templates want them: arguments as values, or as text. */
json_t *serve_template_calls(const json_t *calls, bool as_text);

/* ---- calls.c: an answer from which calls are read. All-zero: they are not looked for. */

typedef struct serve_calls {
    const serve_call_form *form;
    const json_t *tools; /* OpenAI's list: calls of others are text */
    bool one;            /* and what follows the first one is dropped */
    cli_bytes held;      /* what may yet be one, or space in front of one */
    json_t *list;        /* of calls, in OpenAI's form; NULL: none yet */
    size_t n_told;
    bool begun; /* some text has come that is none */
} serve_calls;

/* n more bytes, or the end; what is no call is added to text. */
void serve_calls_feed(serve_calls *c, const char *p, size_t n, bool ends, cli_bytes *text);
/* The one that was wanted is there. */
bool serve_calls_full(const serve_calls *c);
void serve_calls_free(serve_calls *c);

/* ---- callread.c */

typedef enum serve_found {
    SERVE_NONE,
    SERVE_FOUND,
    SERVE_UNDECIDED, /* it depends on what follows */
} serve_found;

/* Calls behind an opening, which p begins with, added to calls, and how many bytes they take with
 * it. ends: nothing follows. */
serve_found serve_read_calls(const serve_calls *c, const char *p, size_t n, bool ends,
                             json_t *calls, size_t *used);
/* Calls that are the whole text, and nothing else. */
bool serve_read_bare_calls(const serve_calls *c, const char *p, size_t n, json_t *calls);

/* The function of a list of tools that has that name, or NULL. */
const json_t *serve_tool_named(const json_t *tools, const char *name);

#endif
