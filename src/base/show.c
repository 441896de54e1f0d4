/* SPDX-License-Identifier: Apache-2.0
 * Text from outside, made harmless for whoever looks at it. */
#include "base/utf8.h"
#include "foretoken.h"

#include <string.h>

/* Of a character of n bytes. U+0080 to U+009F are control characters too. */
static bool is_control(const unsigned char *p, size_t n)
{
    return n == 1 ? p[0] < 0x20 || p[0] == 0x7F : n == 2 && p[0] == 0xC2 && p[1] < 0xA0;
}

/* What ends a line, or turns the order of the letters behind it round: U+2028 and U+2029, U+061C,
 * U+200E and U+200F, U+202A to U+202E, U+2066 to U+2069. */
static bool misleads(const unsigned char *p, size_t n)
{
    if (n == 2) return p[0] == 0xD8 && p[1] == 0x9C;
    if (n != 3 || p[0] != 0xE2) return false;
    return p[1] == 0x80 ? p[2] == 0x8E || p[2] == 0x8F || (p[2] >= 0xA8 && p[2] <= 0xAE)
                        : p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9;
}

/* What stands for the n bytes at p, in out; 0: a broken byte. Returns its length. */
static size_t in_text(const unsigned char *p, size_t n, char out[16])
{
    const bool stays = p[0] == '\n' || p[0] == '\t' || !is_control(p, n);
    if (n == 0) memcpy(out, "\xEF\xBF\xBD", 3);
    if (n == 0 || !stays) return n == 0 ? 3 : 0;
    memcpy(out, p, n);
    return n;
}

static size_t in_line(const unsigned char *p, size_t n, char out[16])
{
    static const char hex[] = "0123456789abcdef";
    if (n > 0 && !is_control(p, n) && !misleads(p, n)) {
        memcpy(out, p, n);
        return n;
    }
    size_t at = 0;
    for (size_t i = 0; i < (n ? n : 1); i++) {
        const char escaped[4] = {'\\', 'x', hex[p[i] >> 4], hex[p[i] & 15]};
        memcpy(out + at, escaped, 4);
        at += 4;
    }
    return at;
}

size_t ftk_show(const char *text, size_t n, unsigned flags, char *buf, size_t cap)
{
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        char part[16];
        const int step = ftk_utf8_step(text + i, n - i);
        const size_t len = step > 0 ? (size_t)step : 0;
        const size_t m =
            (flags & FTK_SHOW_TEXT ? in_text : in_line)((const unsigned char *)text + i, len, part);
        if (cap - out < m + 4) { /* room for the dots, too */
            memcpy(buf + out, "...", 3);
            out += 3;
            break;
        }
        memcpy(buf + out, part, m);
        out += m;
        i += len ? len : 1;
    }
    buf[out] = '\0';
    return out;
}
