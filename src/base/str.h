/* SPDX-License-Identifier: Apache-2.0
 * Texts by their length. */
#ifndef FTK_STR_H
#define FTK_STR_H

#include <string.h>

#include "foretoken.h"

static inline ftk_str ftk_str_of(const char *text)
{
    return (ftk_str){text, strlen(text)};
}

static inline bool ftk_str_is(ftk_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

#endif
