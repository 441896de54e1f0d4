/* SPDX-License-Identifier: Apache-2.0
 * UTF-8 that may be broken. */
#ifndef FTK_UTF8_H
#define FTK_UTF8_H

#include <stddef.h>

/* One step through text that may be broken UTF-8; n must not be 0. Positive: a character of that
 * many bytes. Negative: so many bytes that can start no character (a maximal ill-formed part, as
 * in the Unicode standard, chapter 3.9: overlong forms, surrogates and values above U+10FFFF fall
 * apart into single bytes). 0: the n bytes are the unfinished start of a character. */
static inline int ftk_utf8_step(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return -1;
    const int len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    const unsigned char lo = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    const unsigned char hi = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n) return 0;
        if (p[i] < (i == 1 ? lo : 0x80) || p[i] > (i == 1 ? hi : 0xBF)) return -i;
    }
    return len;
}

#endif
