/* SPDX-License-Identifier: Apache-2.0
 * What is said to the model: one line, or several. */
#include "message.h"

#include <string.h>

#include "common.h"

static const char blanks[] = " \t\r\n\v\f", quotes[] = "\"\"\"";
enum { N_QUOTES = sizeof quotes - 1 };
static const char prompt[] = "> ", go_on[] = ". ";

typedef struct str {
    const char *p;
    size_t n;
} str;

static bool is_blank(char c)
{
    return c && strchr(blanks, c);
}

static str trim_end(str s)
{
    while (s.n > 0 && is_blank(s.p[s.n - 1])) s.n--;
    return s;
}

/* Without blank lines in front; a line alone also without its indent. */
static str trim(str s)
{
    s = trim_end(s);
    const bool several = s.n > 0 && memchr(s.p, '\n', s.n);
    size_t from = 0;
    for (size_t i = 0; i < s.n && is_blank(s.p[i]); i++)
        if (s.p[i] == '\n' || !several) from = i + 1;
    return trim_end((str){s.p + from, s.n - from});
}

static bool ends_in_quotes(str s)
{
    return s.n >= N_QUOTES && memcmp(s.p + s.n - N_QUOTES, quotes, N_QUOTES) == 0;
}

static bool goes_on(str s)
{
    size_t n = 0;
    while (n < s.n && s.p[s.n - 1 - n] == '\\') n++;
    return n % 2 == 1;
}

static cli_line_end next_line(cli_line *l, str *s)
{
    return cli_line_read(l, go_on, &s->p, &s->n);
}

/* Behind the quotes that opened it. */
static cli_line_end read_quoted(cli_line *l, cli_bytes *text, str s)
{
    for (;;) {
        const str line = trim_end(s);
        if (ends_in_quotes(line)) {
            cli_bytes_add(text, line.p, line.n - N_QUOTES);
            return CLI_LINE;
        }
        cli_bytes_add(text, s.p, s.n);
        cli_bytes_add(text, "\n", 1);
        const cli_line_end end = next_line(l, &s);
        if (end == CLI_LINE_EOF)
            cli_say("the %s that opened the last message were not closed: it is taken as far as it "
                    "came",
                    quotes);
        if (end != CLI_LINE) return end == CLI_LINE_EOF ? CLI_LINE : end;
    }
}

static cli_line_end read_continued(cli_line *l, cli_bytes *text, str s)
{
    while (goes_on(s)) {
        cli_bytes_add(text, s.p, s.n - 1);
        cli_bytes_add(text, "\n", 1);
        const cli_line_end end = next_line(l, &s);
        if (end != CLI_LINE) return end == CLI_LINE_EOF ? CLI_LINE : end;
        if (s.n > 0 && memchr(s.p, '\n', s.n)) break; /* as it stands */
    }
    cli_bytes_add(text, s.p, s.n);
    return CLI_LINE;
}

/* Several lines come back from the history as they stand, so that it needs no marks. */
static void remember(cli_line *l, const cli_message *m, str typed)
{
    cli_bytes entry = {0};
    const bool several = memchr(m->text.p, '\n', m->text.n) != NULL;
    cli_bytes_add(&entry, several ? m->text.p : typed.p, several ? m->text.n : typed.n);
    cli_line_remember(l, entry.p);
    cli_bytes_free(&entry);
}

cli_line_end cli_message_read(cli_line *l, cli_message *m)
{
    str s;
    cli_bytes raw = {0}, first = {0};
    cli_line_end end = cli_line_read(l, prompt, &s.p, &s.n);
    if (end != CLI_LINE) return end;
    s = trim(s);
    cli_bytes_add(&first, s.p, s.n); /* the next line takes its place */
    s.p = first.p;
    cli_bytes_add(&raw, "", 0);
    const bool quoted = s.n >= N_QUOTES && memcmp(s.p, quotes, N_QUOTES) == 0;
    if (s.n > 0 && memchr(s.p, '\n', s.n))
        cli_bytes_add(&raw, s.p, s.n);
    else if (quoted)
        end = read_quoted(l, &raw, (str){s.p + N_QUOTES, s.n - N_QUOTES});
    else
        end = read_continued(l, &raw, s);
    if (end == CLI_LINE) {
        const str text = trim((str){raw.p, raw.n});
        m->text.n = 0;
        cli_bytes_add(&m->text, text.p, text.n);
        m->verbatim = quoted || memchr(text.p, '\n', text.n) != NULL;
        remember(l, m, s);
    }
    cli_bytes_free(&raw);
    cli_bytes_free(&first);
    return end;
}
