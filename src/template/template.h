/* SPDX-License-Identifier: Apache-2.0
 * Chat templates: the part of the Jinja language that they use, with the meaning that Python's
 * jinja2 gives it as the transformers package sets it up (blocks trimmed, immutable sandbox,
 * break and continue, {% generation %}).
 *
 * A template is not trusted: its parser and its runs are bounded in steps, memory and depth. Every
 * byte of what it renders is known to be the template's own, or to come from an input. */
#ifndef FTK_TEMPLATE_H
#define FTK_TEMPLATE_H

#include "foretoken.h"

typedef struct ftk_template ftk_template;

enum { FTK_TEMPLATE_MESSAGE = 320 };

/* Why something failed, cut at that length: a template may have put anything into it, so it is
 * shown through the log or ftk_show(). */
typedef struct ftk_template_error {
    int line; /* of the template, from 1; 0: not known */
    char message[FTK_TEMPLATE_MESSAGE];
} ftk_template_error;

/* Parses n bytes, which are copied. Errors: INVALID (no such syntax, or too deep), NOMEM; *out is
 * NULL then and *error filled. The template is read-only and may be shared between threads. */
ftk_err ftk_template_parse(ftk_template **out, const char *text, size_t n, const ftk_host *host,
                           ftk_template_error *error);
void ftk_template_free(ftk_template *t);

/* What a run is given. Texts are terminated. */
typedef struct ftk_template_input {
    const ftk_message *messages;
    size_t n_messages;
    bool add_generation_prompt;
    const char *tools;   /* JSON, or NULL: none */
    const char *members; /* JSON, or NULL: see ftk_chat_config */
    const char *vars;    /* a JSON object of further variables, which come last; or NULL */
    int64_t now;         /* seconds since 1970 of the clock that strftime_now() shows */
    /* Variables such as bos_token; the template's own words, as far as control tokens go. */
    const struct ftk_template_word {
        const char *name;
        ftk_str text;
    } * words;
    size_t n_words;
} ftk_template_input;

/* What a run gives. */
typedef struct ftk_rendered {
    char *text;
    unsigned char *input; /* [n], 1: this byte came from a message, from tools or from vars */
    size_t n;
} ftk_rendered;

/* Renders. A role that is one of the usual ones (system, user, assistant, tool, developer ...)
 * counts as the template's word, as templates make control tokens of them; any other role is
 * input. Errors: INVALID (the template raised, misused a value or reached a bound), UNSUPPORTED
 * (a part of the language that is not known here), NOMEM; *error is filled. */
ftk_err ftk_template_render(const ftk_template *t, const ftk_template_input *in,
                            const ftk_host *host, ftk_rendered *out, ftk_template_error *error);
void ftk_rendered_free(ftk_rendered *r, const ftk_host *host);

#endif
