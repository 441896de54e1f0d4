/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target of the chat templates: the input up to its first NUL is a file's template, the
 * rest are messages, a role's letter and a text each, with NULs between. */
#include <stdlib.h>
#include <string.h>

#include "foretoken.h"
#include "model/text.h"
#include "vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_MESSAGES = 16, MAX_TOKENS = 1 << 16 };

static const ftk_tokenizer *tokenizer(void)
{
    static ftk_tokenizer *t;
    static struct vocab_file v;
    if (t) return t;
    vocab_init(&v, (const char *const[]){"!<|im_start|>", "!<|im_end|>", "!<|start_header_id|>",
                                         "!<|end_header_id|>", "!<|eot_id|>", "!<start_of_turn>",
                                         "!<end_of_turn>", "user", "assistant", "\n", NULL});
    if (vocab_open(&t, &v, NULL) != FTK_OK) abort();
    return t;
}

/* Cuts the first text off *at; false when nothing is left. */
static bool cut(char **at, const char *end, char **text)
{
    if (*at >= end) return false;
    *text = *at;
    *at += strlen(*at) + 1;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t tokens[MAX_TOKENS];
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    char *copy = malloc(size + 1), *at = copy, *text;
    if (!copy) abort();
    memcpy(copy, data, size);
    copy[size] = 0;
    const char *name = NULL;
    if (cut(&at, copy + size, &text)) name = ftk_chat_recognise((ftk_str){text, strlen(text)});
    ftk_message messages[MAX_MESSAGES];
    size_t n = 0, n_tokens;
    while (n < MAX_MESSAGES && cut(&at, copy + size, &text)) {
        const char *role = roles[(unsigned char)text[0] % 4];
        messages[n++] = (ftk_message){role, text[0] ? text + 1 : text};
    }
    const ftk_tokenizer *t = tokenizer();
    const ftk_err err = ftk_tokenizer_chat(t, name, messages, n, tokens, MAX_TOKENS, &n_tokens);
    if (err == FTK_OK && n_tokens > MAX_TOKENS) abort();
    free(copy);
    return 0;
}
