/* SPDX-License-Identifier: Apache-2.0 */
#include "model/chatwords.h"

#include "base/str.h"

bool ftk_chat_is_word(ftk_str text)
{
    static const char *const known[] = {
        "<|im_start|>",      "<|im_end|>",    "<|start_header_id|>",
        "<|end_header_id|>", "<|eot_id|>",    "<start_of_turn>",
        "<end_of_turn>",     "[INST]",        "[/INST]",
        "<|system|>",        "<|user|>",      "<|assistant|>",
        "<|end|>",           "<|endoftext|>", "<|begin_of_text|>",
        "<|end_of_text|>",   "<|eom_id|>",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ftk_str_is(text, known[i])) return true;
    return false;
}
