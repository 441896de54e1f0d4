/* SPDX-License-Identifier: Apache-2.0
 * Numbers as text and back. The C library's functions look at the locale of the process: what is
 * written here has a point in it, and what is read has none. */
#include "template/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whatever stands between two digits becomes a point. */
static size_t put_point(char *buf, size_t n)
{
    size_t at = 0, to = 0;
    while (at < n && (buf[at] == '-' || (buf[at] >= '0' && buf[at] <= '9'))) at++;
    to = at;
    while (to < n && buf[to] != 'e' && !(buf[to] >= '0' && buf[to] <= '9')) to++;
    if (to == at) return n;
    buf[at] = '.';
    memmove(buf + at + 1, buf + to, n - to + 1);
    return n - (to - at) + 1;
}

static size_t show_special(char *buf, double f)
{
    strcpy(buf, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
    return strlen(buf);
}

size_t ftk_tmpl_format_real(char buf[FTK_TMPL_DIGITS], double f, char type, int decimals, bool alt)
{
    if (!isfinite(f)) return show_special(buf, f);
    const char fmt[] = {'%', alt ? '#' : '-', '.', '*', type, '\0'};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int n = snprintf(buf, FTK_TMPL_DIGITS, fmt, decimals, f);
#pragma GCC diagnostic pop
    return n > 0 ? put_point(buf, (size_t)n) : 0;
}

/* The fewest digits that give the number back, and its power of ten. */
static int shortest(double f, char digits[32], int *exponent)
{
    char buf[FTK_TMPL_DIGITS];
    for (int n = 0; n < 17; n++) {
        const size_t len = ftk_tmpl_format_real(buf, f, 'e', n, false);
        double back;
        if (n < 16 && !(ftk_tmpl_read_real(buf, len, &back) && back == f)) continue;
        int count = 0;
        const char *e = memchr(buf, 'e', len);
        for (const char *c = buf; c < e; c++)
            if (*c >= '0' && *c <= '9') digits[count++] = *c;
        *exponent = atoi(e + 1);
        return count;
    }
    return 0;
}

size_t ftk_tmpl_show_real(char buf[FTK_TMPL_DIGITS], double f)
{
    if (!isfinite(f)) return show_special(buf, f);
    char digits[32];
    int exponent;
    const int n = shortest(fabs(f), digits, &exponent);
    const char *sign = signbit(f) ? "-" : "";
    if (exponent < -4 || exponent >= 16)
        return (size_t)snprintf(buf, FTK_TMPL_DIGITS, "%s%c%s%.*se%c%02d", sign, digits[0],
                                n > 1 ? "." : "", n - 1, digits + 1, exponent < 0 ? '-' : '+',
                                abs(exponent));
    if (exponent < 0)
        return (size_t)snprintf(buf, FTK_TMPL_DIGITS, "%s0.%.*s%.*s", sign, -exponent - 1, "0000",
                                n, digits);
    if (n <= exponent + 1)
        return (size_t)snprintf(buf, FTK_TMPL_DIGITS, "%s%.*s%.*s.0", sign, n, digits,
                                exponent + 1 - n, "0000000000000000");
    return (size_t)snprintf(buf, FTK_TMPL_DIGITS, "%s%.*s.%.*s", sign, exponent + 1, digits,
                            n - exponent - 1, digits + exponent + 1);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool read_exponent(const char *p, size_t n, long *exponent)
{
    const bool negative = n > 0 && p[0] == '-';
    size_t at = n > 0 && (p[0] == '-' || p[0] == '+');
    if (at == n) return false;
    long e = 0;
    for (; at < n; at++) {
        if (!is_digit(p[at])) return false;
        if (e < 100000) e = 10 * e + (p[at] - '0');
    }
    *exponent += negative ? -e : e;
    return true;
}

/* Digits without a point and a power of ten, which strtod() reads alike in every locale. More than
 * 400 digits cannot change the result by more than its last bit. */
bool ftk_tmpl_read_real(const char *p, size_t n, double *f)
{
    char text[440];
    size_t len = 0, at = 0;
    long exponent = 0;
    bool point = false, any = false;
    if (n > 0 && (p[0] == '-' || p[0] == '+')) text[len++] = p[at++];
    for (; at < n && (is_digit(p[at]) || (p[at] == '.' && !point)); at++) {
        if (p[at] == '.') {
            point = true;
            continue;
        }
        any = true;
        if (len < 400)
            text[len++] = p[at];
        else
            exponent++;
        exponent -= point;
    }
    if (!any) return false;
    if (at < n && (p[at] == 'e' || p[at] == 'E')) {
        if (!read_exponent(p + at + 1, n - at - 1, &exponent)) return false;
        at = n;
    }
    if (at < n) return false;
    snprintf(text + len, sizeof text - len, "e%ld", exponent);
    *f = strtod(text, NULL);
    return true;
}

static int digit_value(char c)
{
    if (is_digit(c)) return c - '0';
    const char low = (char)(c | 32);
    return low >= 'a' && low <= 'z' ? low - 'a' + 10 : 99;
}

bool ftk_tmpl_read_whole(const char *p, size_t n, int base, int64_t *i)
{
    size_t at = 0;
    bool negative = false;
    if (n > 0 && (p[0] == '-' || p[0] == '+')) negative = p[at++] == '-';
    if (n - at > 2 && p[at] == '0') {
        const char low = (char)(p[at + 1] | 32);
        const int prefixed = low == 'x' ? 16 : low == 'o' ? 8 : low == 'b' ? 2 : 0;
        if (prefixed != 0 && (base == 0 || base == prefixed)) {
            base = prefixed;
            at += p[at + 2] == '_' ? 3 : 2;
        }
    }
    if (base == 0) base = 10;
    if (at == n) return false;
    uint64_t u = 0;
    bool digit = false;
    for (; at < n; at++) {
        if (p[at] == '_' && digit && at + 1 < n) {
            digit = false;
            continue;
        }
        const int d = digit_value(p[at]);
        if (d >= base || u > (UINT64_MAX - (uint64_t)d) / (uint64_t)base) return false;
        u = u * (uint64_t)base + (uint64_t)d;
        digit = true;
    }
    if (u > (uint64_t)INT64_MAX + negative) return false;
    *i = negative ? (int64_t)(0 - u) : (int64_t)u;
    return digit;
}
