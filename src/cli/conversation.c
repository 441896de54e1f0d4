/* SPDX-License-Identifier: Apache-2.0
 * The messages of a chat, and what of them fits the context. */
#include "conversation.h"

#include <stdlib.h>
#include <string.h>

void cli_conversation_open(cli_conversation *c, const char *system)
{
    *c = (cli_conversation){0};
    if (!system) return;
    cli_conversation_add(c, "system", system);
    c->n_fixed = 1;
}

void cli_conversation_close(cli_conversation *c)
{
    c->n_fixed = 0;
    cli_conversation_reset(c);
    free(c->msgs);
}

void cli_conversation_add(cli_conversation *c, const char *role, const char *content)
{
    if (c->n == c->cap) {
        c->cap = 2 * c->cap + 16;
        c->msgs = cli_array(c->msgs, c->cap, sizeof *c->msgs);
    }
    const size_t size = strlen(content) + 1;
    char *copy = cli_array(NULL, size, 1);
    memcpy(copy, content, size);
    c->msgs[c->n++] = (ftk_message){.role = role, .content = copy};
}

void cli_conversation_pop(cli_conversation *c)
{
    c->n--;
    free((char *)c->msgs[c->n].content);
}

void cli_conversation_reset(cli_conversation *c)
{
    while (c->n > c->n_fixed) cli_conversation_pop(c);
}

static void drop_oldest(cli_conversation *c, size_t n)
{
    ftk_message *const oldest = c->msgs + c->n_fixed;
    for (size_t i = 0; i < n; i++) free((char *)oldest[i].content);
    c->n -= n;
    memmove(oldest, oldest + n, (c->n - c->n_fixed) * sizeof *oldest);
}

/* The tokens of the conversation without its oldest `skip` messages. */
static ftk_err tokens_without(const cli_conversation *c, const cli_world *w, size_t skip,
                              int32_t **tokens, size_t *n)
{
    ftk_message *msgs = cli_array(NULL, c->n, sizeof *msgs);
    if (c->n_fixed) msgs[0] = c->msgs[0];
    const size_t rest = c->n - c->n_fixed - skip;
    for (size_t i = 0; i < rest; i++) msgs[c->n_fixed + i] = c->msgs[c->n_fixed + skip + i];
    const ftk_err err = cli_chat_tokenize(w, msgs, c->n_fixed + rest, tokens, n);
    free(msgs);
    return err;
}

/* Keeps what the session and the tokens have in common at the front, and appends the rest. */
static ftk_err replace(ftk_session *s, const int32_t *tokens, size_t n)
{
    size_t have, same = 0;
    const int32_t *old = ftk_session_tokens(s, &have);
    while (same < have && same < n && old[same] == tokens[same]) same++;
    const ftk_err err = ftk_session_truncate(s, same);
    return err == FTK_OK ? ftk_session_append(s, tokens + same, n - same) : err;
}

ftk_err cli_conversation_sync(cli_conversation *c, const cli_world *w, const int32_t *extra,
                              size_t n_extra, size_t room, bool *dropped, size_t *need)
{
    const size_t context = ftk_session_context(w->session);
    for (size_t skip = 0;; skip += 2) { /* a turn is a question and its answer */
        int32_t *tokens;
        size_t n;
        ftk_err err = tokens_without(c, w, skip, &tokens, &n);
        *need = n + n_extra;
        if (err == FTK_OK && *need + room <= context) {
            tokens = cli_array(tokens, *need, sizeof *tokens);
            if (n_extra > 0) memcpy(tokens + n, extra, n_extra * sizeof *tokens);
            err = replace(w->session, tokens, *need);
            drop_oldest(c, skip);
            *dropped = *dropped || skip > 0;
            free(tokens);
            return err;
        }
        free(tokens);
        if (err != FTK_OK) return err;
        if (skip + 2 >= c->n - c->n_fixed) return FTK_ERR_CONTEXT;
    }
}
