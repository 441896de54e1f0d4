/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of all kinds, the same ones that reference_tokens.py makes: change both or none. */
#include "reference_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 1024, MAX_MADE = 1 << 14 };

/* ------------------------------------------------------------------ the parts */

static size_t put_char(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

/* Replaces the escapes, in place; returns the length. */
static size_t unescape(char *line)
{
    size_t n = 0;
    for (const char *p = line; *p;) {
        if (*p != '\\') {
            line[n++] = *p++;
            continue;
        }
        const size_t digits = p[1] == 'u' ? 4 : p[1] == 'U' ? 8 : 0;
        if (digits > 0) {
            char number[9] = "";
            memcpy(number, p + 2, digits);
            n += put_char(line + n, (uint32_t)strtoul(number, NULL, 16));
        } else {
            line[n++] = p[1] == 'n'   ? '\n'
                        : p[1] == 'r' ? '\r'
                        : p[1] == 't' ? '\t'
                        : p[1] == 's' ? ' '
                                      : p[1];
        }
        p += 2 + digits;
    }
    return n;
}

static ftk_str keep(const char *p, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy) abort();
    memcpy(copy, p, n);
    copy[n] = '\0';
    return (ftk_str){copy, n};
}

/* ------------------------------------------------------------------ lines made of them */

static uint32_t below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % n);
}

#define PICK(seed, list) (list)[below(seed, sizeof(list) / sizeof *(list))]

static size_t put_run(char *to, uint64_t *seed)
{
    static const char *const repeated[] = {
        " ", " ", " ", "\t", "\n", "\r\n", "\xC2\xA0",    "\xE3\x80\x80", "\xE2\x96\x81",
        "-", "=", ".", "a",  "0",  "_",    "\xE2\x80\x8B"};
    const char *c = PICK(seed, repeated);
    const size_t size = strlen(c);
    size_t n = 0;
    for (uint32_t times = 1 + below(seed, 40); times > 0; times--, n += size)
        memcpy(to + n, c, size);
    return n;
}

static size_t put_number(char *to, uint64_t *seed)
{
    const uint32_t n = 1 + below(seed, 12);
    for (uint32_t i = 0; i < n; i++) to[i] = (char)('0' + below(seed, 10));
    return n;
}

static size_t put_foreign(char *to, uint64_t *seed)
{
    static const uint32_t ranges[][2] = {
        {0x21, 0x7E},     {0xA1, 0xFF},       {0x100, 0x17F},     {0x391, 0x3A1},
        {0x3B1, 0x3C9},   {0x400, 0x45F},     {0x5D0, 0x5EA},     {0x627, 0x63A},
        {0x64B, 0x652},   {0x905, 0x939},     {0xE01, 0xE30},     {0x300, 0x33F},
        {0x1E00, 0x1E95}, {0x2010, 0x2027},   {0x2190, 0x21FF},   {0x2500, 0x257F},
        {0x3041, 0x3096}, {0x30A1, 0x30FA},   {0x4E00, 0x9FA5},   {0xAC00, 0xD7A3},
        {0xFF01, 0xFF5E}, {0x1F600, 0x1F64F}, {0x1D400, 0x1D454}, {0x20000, 0x2A6D6},
    };
    const uint32_t *range = PICK(seed, ranges);
    size_t n = 0;
    for (uint32_t times = 1 + below(seed, 5); times > 0; times--)
        n += put_char(to + n, range[0] + below(seed, range[1] - range[0] + 1));
    return n;
}

static ftk_str make_line(const ref_lines *lines, uint64_t *seed)
{
    static char line[MAX_MADE];
    size_t n = 0;
    for (uint32_t times = 1 + below(seed, 10); times > 0; times--) {
        const uint32_t kind = below(seed, 8);
        if (kind == 0) {
            n += put_run(line + n, seed);
        } else if (kind == 1) {
            n += put_number(line + n, seed);
        } else if (kind == 2) {
            n += put_foreign(line + n, seed);
        } else {
            const ftk_str part = lines->v[below(seed, (uint32_t)lines->n_given)];
            memcpy(line + n, part.p, part.n);
            n += part.n;
        }
        if (below(seed, 2)) line[n++] = ' ';
    }
    return keep(line, n);
}

bool ref_lines_make(ref_lines *lines, const char *parts_file)
{
    FILE *f = fopen(parts_file, "r");
    if (!f) return false;
    char line[1024];
    lines->v = calloc(MAX_PARTS + REF_MADE, sizeof *lines->v);
    if (!lines->v) abort();
    lines->n_given = 0;
    while (lines->n_given < MAX_PARTS && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        lines->v[lines->n_given++] = keep(line, unescape(line));
    }
    fclose(f);
    uint64_t seed = 20261130;
    for (size_t i = 0; i < REF_MADE; i++) lines->v[lines->n_given + i] = make_line(lines, &seed);
    return true;
}

void ref_lines_free(ref_lines *lines)
{
    for (size_t i = 0; i < lines->n_given + REF_MADE; i++) free((char *)lines->v[i].p);
    free(lines->v);
}

/* ------------------------------------------------------------------ checksums */

static uint32_t add(uint32_t h, uint32_t u)
{
    for (int i = 0; i < 4; i++, u >>= 8) h = (h ^ (u & 0xFF)) * UINT32_C(16777619);
    return h;
}

uint32_t ref_checksum(uint32_t h, const int32_t *ids, size_t n)
{
    h = add(h == 0 ? UINT32_C(2166136261) : h, (uint32_t)n);
    for (size_t i = 0; i < n; i++) h = add(h, (uint32_t)ids[i]);
    return h;
}
