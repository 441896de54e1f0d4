/* SPDX-License-Identifier: Apache-2.0
 * The words by which chat templates frame a turn. */
#ifndef FTK_CHATWORDS_H
#define FTK_CHATWORDS_H

#include "foretoken.h"

/* True for the words by which the templates frame a turn, such as "<|im_start|>". A vocabulary may
 * call them user-defined; they are taken for control tokens all the same. */
bool ftk_chat_is_word(ftk_str text);

#endif
