/* SPDX-License-Identifier: Apache-2.0
 * Growing byte strings: whole files, clean UTF-8, JSON texts. */
#include "bytes.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

enum { MAX_FILE = 256 << 20 };

void *cli_array(void *old, size_t n, size_t size)
{
    void *p = n > SIZE_MAX / 2 / size ? NULL : realloc(old, n ? n * size : 1);
    if (!p) {
        cli_say("out of memory");
        exit(CLI_FAILED);
    }
    return p;
}

void cli_bytes_add(cli_bytes *b, const char *p, size_t n)
{
    if (b->cap - b->n <= n) {
        b->cap = 2 * (b->n + n) + 64;
        b->p = cli_array(b->p, b->cap, 1);
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

void cli_bytes_free(cli_bytes *b)
{
    free(b->p);
    *b = (cli_bytes){0};
}

static bool read_stream(cli_bytes *b, FILE *f, const char *path)
{
    char part[65536];
    for (size_t n = 1; n > 0 && b->n <= MAX_FILE;) {
        n = fread(part, 1, sizeof part, f);
        cli_bytes_add(b, part, n);
    }
    if (ferror(f)) {
        cli_say("cannot read %s: %s", path, strerror(errno));
        return false;
    }
    if (b->n > MAX_FILE) {
        cli_say("%s is larger than %d MiB; give a smaller part of it", path, MAX_FILE >> 20);
        return false;
    }
    return true;
}

bool cli_bytes_read(cli_bytes *b, const char *path)
{
    if (strcmp(path, "-") == 0) return read_stream(b, stdin, "standard input");
    FILE *f = fopen(path, "rb");
    if (!f) {
        cli_say("cannot open %s: %s", path, strerror(errno));
        return false;
    }
    const bool ok = read_stream(b, f, path);
    fclose(f);
    return ok;
}

/* Length of the well-formed UTF-8 character at p, or 0. (Unicode 15, table 3-7.) */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    const size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    const bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    const bool outside = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || outside ? 0 : len;
}

void cli_bytes_add_utf8(cli_bytes *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        const size_t len = utf8_length((const unsigned char *)p + i, n - i);
        if (len)
            cli_bytes_add(b, p + i, len);
        else
            cli_bytes_add(b, "\xef\xbf\xbd", 3);
        i += len ? len : 1;
    }
}

void cli_bytes_add_shown(cli_bytes *b, const char *p, size_t n)
{
    const size_t most = 4 * n + 8;
    char *shown = cli_array(NULL, most, 1);
    const size_t len = ftk_show(p, n, 0, shown, most);
    cli_bytes_add(b, shown, len);
    free(shown);
}

json_t *cli_json_text(const char *p, size_t n)
{
    cli_bytes b = {0};
    cli_bytes_add_utf8(&b, p, n);
    json_t *text = json_stringn(b.p ? b.p : "", b.n);
    cli_bytes_free(&b);
    return text;
}

json_t *cli_json_real(double v)
{
    if (isfinite(v)) return json_real(v);
    return json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

json_t *cli_json_unsigned(unsigned long long v)
{
    if (v <= INT64_MAX) return json_integer((json_int_t)v);
    char text[24];
    snprintf(text, sizeof text, "%llu", v);
    return json_string(text);
}
