/* SPDX-License-Identifier: Apache-2.0
 * The messages of a chat, and what of them fits the context. */
#ifndef FTK_CLI_CONVERSATION_H
#define FTK_CLI_CONVERSATION_H

#include "common.h"

typedef struct cli_conversation {
    ftk_message *msgs; /* contents are owned */
    size_t n, cap;
    size_t n_fixed; /* 1 with a system message, which always stays */
} cli_conversation;

void cli_conversation_open(cli_conversation *c, const char *system);
void cli_conversation_close(cli_conversation *c);
/* role must outlive the conversation; content is copied. */
void cli_conversation_add(cli_conversation *c, const char *role, const char *content);
void cli_conversation_pop(cli_conversation *c);
void cli_conversation_reset(cli_conversation *c); /* all but the system message */

/* Makes the session hold the conversation, then extra[0..n_extra), so that at least `room` tokens
 * are left. What the session has computed already is kept. Where it does not fit, the oldest turns
 * are dropped for good and *dropped is set; if even the last message alone does not fit, nothing is
 * changed, *need is the tokens it takes, and the error is CONTEXT. */
ftk_err cli_conversation_sync(cli_conversation *c, const cli_world *w, const int32_t *extra,
                              size_t n_extra, size_t room, bool *dropped, size_t *need);

#endif
