/* SPDX-License-Identifier: Apache-2.0
 * UTF-8, as what is shown needs it; ftk_show() itself is public. */
#ifndef FTK_SHOW_H
#define FTK_SHOW_H

#include "foretoken.h"

/* Bytes of the UTF-8 character at the start of the text, 0 when it is broken: overlong, a surrogate,
 * above U+10FFFF or cut short. left must not be 0. */
size_t ftk_utf8_length(const char *text, size_t left);

#endif
