/* SPDX-License-Identifier: Apache-2.0
 * Tools: what a client offers, how a model writes that it calls one, and calls read out of its
 * text. */
#ifndef FTK_SERVE_TOOLS_H
#define FTK_SERVE_TOOLS_H

#include <jansson.h>

#include "cli/common.h"

/* How templates have models call: a JSON object with the name and the arguments, and words
 * around it. */
typedef struct serve_call_form {
    const char *before, *after; /* "": it is the whole answer */
    const char *arguments;      /* their key; the other one is read, too */
    const char *sign;           /* in a template's text: it wants this form */
} serve_call_form;

/* By what the model's template says when it is shown a tool. */
const serve_call_form *serve_call_form_of(const char *text);
/* The calls of an assistant's message as its model writes them, added to out; false: they are
 * none. */
bool serve_write_calls(const serve_call_form *form, const json_t *calls, cli_bytes *out);

/* An answer from which calls are read. All-zero: they are not looked for. */
typedef struct serve_calls {
    const serve_call_form *form;
    const json_t *tools; /* OpenAI's list: calls of others are text */
    cli_bytes held;      /* what may yet be one, or space in front of one */
    json_t *list;        /* of calls, in OpenAI's form; NULL: none yet */
    size_t n_told;
    bool begun; /* some text has come that is none */
} serve_calls;

/* n more bytes, or the end; what is no call is added to text. */
void serve_calls_feed(serve_calls *c, const char *p, size_t n, bool ends, cli_bytes *text);
void serve_calls_free(serve_calls *c);

/* Whether a list of tools has one of that name. */
const json_t *serve_tool_named(const json_t *tools, const char *name);

#endif
