/* SPDX-License-Identifier: Apache-2.0
 * A template's text to tokens: data, and what stands between {{ and }} or {% and %}. White space
 * round blocks is dealt with here, with trim_blocks and lstrip_blocks on. */
#include "template/parts.h"

#include <string.h>

typedef struct lexer {
    ftk_tmpl_job *j;
    ftk_tmpl_str s; /* with newlines of one kind */
    size_t at;
    int line;
    bool line_start; /* what came last ended with a newline, or nothing came yet */
    ftk_tmpl_tokens tokens;
} lexer;

static void push(lexer *l, ftk_tmpl_token token)
{
    ftk_tmpl_tokens *t = &l->tokens;
    if (t->n == t->cap) {
        t->cap = 2 * t->cap + 64;
        ftk_tmpl_token *grown = ftk_tmpl_alloc(l->j, t->cap, sizeof *grown);
        if (t->n > 0) memcpy(grown, t->v, t->n * sizeof *grown);
        t->v = grown;
    }
    t->v[t->n++] = token;
}

static void push_kind(lexer *l, ftk_tmpl_token_kind kind)
{
    push(l, (ftk_tmpl_token){.kind = kind, .line = l->line});
}

static _Noreturn void refuse(lexer *l, const char *why)
{
    l->j->line = l->line;
    ftk_tmpl_fail(l->j, FTK_ERR_INVALID, "%s", why);
}

/* Newlines become \n, and one at the very end goes away. */
static ftk_tmpl_str normalize(ftk_tmpl_job *j, const char *text, size_t n)
{
    char *p = ftk_tmpl_alloc(j, n + 1, 1);
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        p[to++] = text[i] == '\r' ? '\n' : text[i];
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n') i++;
    }
    if (to > 0 && p[to - 1] == '\n') to--;
    p[to] = '\0';
    return (ftk_tmpl_str){.p = p, .n = to};
}

static bool stands(const lexer *l, size_t at, const char *word)
{
    const size_t n = strlen(word);
    return l->s.n - at >= n && memcmp(l->s.p + at, word, n) == 0;
}

static void advance(lexer *l, size_t to)
{
    for (; l->at < to; l->at++) l->line += l->s.p[l->at] == '\n';
}

static size_t skip_spaces(const lexer *l, size_t at)
{
    while (at < l->s.n && ftk_tmpl_is_space(ftk_tmpl_code(&l->s, at)))
        at += ftk_tmpl_char(&l->s, at);
    return at;
}

/* Behind the end of a tag, where sign is what stood before it: '-' takes all white space, a block
 * takes one newline unless there is a '+'. */
static void after_tag(lexer *l, size_t to, char sign, bool trims)
{
    advance(l, to);
    if (sign == '-')
        advance(l, skip_spaces(l, to));
    else if (trims && sign != '+' && to < l->s.n && l->s.p[to] == '\n')
        advance(l, to + 1);
    l->line_start = l->at > 0 && l->s.p[l->at - 1] == '\n';
}

/* ------------------------------------------------------------------ data */

/* The data before a tag, without the white space that the tag takes away. */
static void push_data(lexer *l, size_t to, char sign, bool is_print)
{
    size_t end = to;
    if (sign == '-') {
        const ftk_tmpl_str data = {.p = l->s.p + l->at, .n = to - l->at};
        end = l->at + ftk_tmpl_strip(l->j, &data, NULL, TMPL_STRIP_RIGHT).s->n;
    } else if (sign != '+' && !is_print) {
        size_t line = to;
        while (line > l->at && l->s.p[line - 1] != '\n') line--;
        if ((line > l->at || l->line_start) && skip_spaces(l, line) >= to) end = line;
    }
    if (end > l->at)
        push(l, (ftk_tmpl_token){
                    .kind = TOKEN_DATA, .line = l->line, .text = {l->s.p + l->at, end - l->at}});
    advance(l, to);
}

/* Where the next tag begins; the end of the text if there is none. */
static size_t find_tag(const lexer *l)
{
    for (size_t at = l->at; at + 1 < l->s.n; at++)
        if (l->s.p[at] == '{' && strchr("{%#", l->s.p[at + 1]) && l->s.p[at + 1]) return at;
    return l->s.n;
}

static char sign_at(const lexer *l, size_t at)
{
    return at < l->s.n && (l->s.p[at] == '-' || l->s.p[at] == '+') ? l->s.p[at] : 0;
}

static void lex_comment(lexer *l)
{
    const char *end = memmem(l->s.p + l->at + 2, l->s.n - l->at - 2, "#}", 2);
    if (!end) refuse(l, "Missing end of comment tag");
    const size_t at = (size_t)(end - l->s.p);
    const char sign = at > l->at + 2 ? sign_at(l, at - 1) : 0;
    after_tag(l, at + 2, sign, true);
}

/* Of {% word %} at `at`: the position behind it, and the signs of its two ends; 0 if it is not. */
static size_t tag_of(const lexer *l, size_t at, const char *word, char signs[2])
{
    if (!stands(l, at, "{%")) return 0;
    at += 2;
    signs[0] = sign_at(l, at);
    at = skip_spaces(l, at + (signs[0] != 0));
    if (!stands(l, at, word)) return 0;
    at = skip_spaces(l, at + strlen(word));
    signs[1] = sign_at(l, at);
    at += signs[1] != 0;
    return stands(l, at, "%}") ? at + 2 : 0;
}

static bool lex_raw(lexer *l)
{
    char signs[2];
    const size_t begin = tag_of(l, l->at, "raw", signs);
    if (begin == 0 || signs[1] == '+') return false;
    after_tag(l, begin, signs[1], false);
    for (size_t at = l->at; at < l->s.n; at++) {
        const size_t end = l->s.p[at] == '{' ? tag_of(l, at, "endraw", signs) : 0;
        if (end == 0) continue;
        push_data(l, at, signs[0], false);
        after_tag(l, end, signs[1], true);
        return true;
    }
    refuse(l, "Missing end of raw directive");
}

/* ------------------------------------------------------------------ tokens in a tag */

static bool is_name(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digits_end(const lexer *l, size_t at)
{
    while (at < l->s.n && (is_digit(l->s.p[at]) ||
                           (l->s.p[at] == '_' && at + 1 < l->s.n && is_digit(l->s.p[at + 1]))))
        at++;
    return at;
}

/* Number without underscores. */
static size_t copy_digits(const lexer *l, size_t to, char *b, size_t cap)
{
    size_t n = 0;
    for (size_t at = l->at; at < to && n < cap; at++)
        if (l->s.p[at] != '_') b[n++] = l->s.p[at];
    return n;
}

static void lex_number(lexer *l)
{
    size_t to = digits_end(l, l->at), n;
    char b[128];
    ftk_tmpl_token token = {.kind = TOKEN_INT, .line = l->line, .value = {.kind = TMPL_INT}};
    const char prefix =
        to == l->at + 1 && l->s.p[l->at] == '0' && to < l->s.n ? (char)(l->s.p[to] | 32) : 0;
    const bool based = prefix == 'x' || prefix == 'o' || prefix == 'b';
    const bool follows_dot = l->at > 0 && l->s.p[l->at - 1] == '.';
    if (based)
        for (to++; to < l->s.n && (is_name(l->s.p[to], false));) to++;
    const size_t whole = to;
    if (!based && !follows_dot && to + 1 < l->s.n && l->s.p[to] == '.' && is_digit(l->s.p[to + 1]))
        to = digits_end(l, to + 1);
    if (!based && !follows_dot && to + 1 < l->s.n && (l->s.p[to] | 32) == 'e') {
        const size_t sign = to + 1 + (sign_at(l, to + 1) != 0);
        if (sign < l->s.n && is_digit(l->s.p[sign])) to = digits_end(l, sign);
    }
    n = copy_digits(l, to, b, sizeof b);
    if (to > whole) {
        token.kind = TOKEN_REAL;
        token.value.kind = TMPL_FLOAT;
        if (!ftk_tmpl_read_real(b, n, &token.value.f)) refuse(l, "a number that cannot be read");
    } else if (!ftk_tmpl_read_whole(b, n, based ? 0 : 10, &token.value.i)) {
        refuse(l, "a whole number that is too large");
    }
    token.text = (ftk_str){l->s.p + l->at, to - l->at};
    push(l, token);
    advance(l, to);
}

/* The code behind a \x, \u or \U, or an octal one; *at is moved behind it. */
static uint32_t escape_code(lexer *l, size_t *at, size_t end, int base, size_t digits)
{
    size_t n = 0;
    int64_t code = 0;
    while (n < digits && *at + n < end && ftk_tmpl_read_whole(l->s.p + *at + n, 1, base, &code))
        n++;
    if (base == 16 && n < digits) refuse(l, "a truncated escape in a string");
    ftk_tmpl_read_whole(l->s.p + *at, n, base, &code);
    *at += n;
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) code = 0xFFFD;
    return (uint32_t)code;
}

static void lex_escape(lexer *l, ftk_tmpl_text *t, size_t *at, size_t end)
{
    static const char names[] = "\\'\"abfnrtv", chars[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = l->s.p[(*at)++];
    const char *known = strchr(names, c);
    if (c == '\n') return;
    if (c && known)
        ftk_tmpl_add_bytes(l->j, t, chars + (known - names), 1, false);
    else if (c == 'x' || c == 'u' || c == 'U')
        ftk_tmpl_add_code(l->j, t,
                          escape_code(l, at, end, 16,
                                      c == 'x'   ? 2
                                      : c == 'u' ? 4
                                                 : 8),
                          false);
    else if (c >= '0' && c <= '7') {
        (*at)--;
        ftk_tmpl_add_code(l->j, t, escape_code(l, at, end, 8, 3), false);
    } else if (c == 'N') {
        refuse(l, "characters by name (\\N) are not known here");
    } else {
        const char b[] = {'\\', c};
        ftk_tmpl_add_bytes(l->j, t, b, 2, false);
    }
}

static void lex_string(lexer *l)
{
    const char quote = l->s.p[l->at];
    size_t end = l->at + 1;
    while (end < l->s.n && l->s.p[end] != quote) end += l->s.p[end] == '\\' ? 2 : 1;
    if (end >= l->s.n) refuse(l, "a string without an end");
    ftk_tmpl_text t = {0};
    for (size_t at = l->at + 1; at < end;) {
        if (l->s.p[at] != '\\') {
            ftk_tmpl_add_bytes(l->j, &t, l->s.p + at++, 1, false);
            continue;
        }
        at++;
        lex_escape(l, &t, &at, end);
    }
    push(l, (ftk_tmpl_token){.kind = TOKEN_STRING,
                             .line = l->line,
                             .text = {l->s.p + l->at, end + 1 - l->at},
                             .value = ftk_tmpl_text_end(l->j, &t)});
    advance(l, end + 1);
}

static void lex_sign(lexer *l, char *brackets, size_t *depth)
{
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    enum { MAX_BRACKETS = 250 };
    size_t n = 1;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (stands(l, l->at, two[i])) n = 2;
    const char c = l->s.p[l->at];
    if (n == 1 && (!c || !strchr("+-/*%~[](){}><=.:|,;", c))) {
        char why[] = "unexpected char 'x'";
        why[17] = c;
        refuse(l, why);
    }
    if (c == '(' || c == '[' || c == '{') {
        if (*depth == MAX_BRACKETS) refuse(l, "brackets are nested too deeply");
        brackets[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    }
    if (c == ')' || c == ']' || c == '}') {
        char why[] = "unexpected 'x', expected 'x'";
        why[12] = c;
        why[26] = *depth > 0 ? brackets[*depth - 1] : 0;
        if (*depth == 0) why[14] = '\0';
        if (*depth == 0 || brackets[--*depth] != c) refuse(l, why);
    }
    push(l, (ftk_tmpl_token){.kind = TOKEN_SIGN, .line = l->line, .text = {l->s.p + l->at, n}});
    advance(l, l->at + n);
}

/* The end of the tag at l->at, if it is one; only outside of brackets. */
static bool lex_end(lexer *l, const char *end, ftk_tmpl_token_kind kind)
{
    const char sign = sign_at(l, l->at);
    if (sign == '+' && kind == TOKEN_PRINT_END) return false;
    const size_t at = l->at + (sign != 0);
    if (!stands(l, at, end)) return false;
    push_kind(l, kind);
    after_tag(l, at + 2, sign, kind == TOKEN_BLOCK_END);
    return true;
}

static void lex_tag(lexer *l, const char *end, ftk_tmpl_token_kind end_kind)
{
    char brackets[256];
    size_t depth = 0;
    for (;;) {
        advance(l, skip_spaces(l, l->at));
        if (l->at >= l->s.n) refuse(l, "unexpected end of template");
        if (depth == 0 && lex_end(l, end, end_kind)) return;
        const char c = l->s.p[l->at];
        if (is_name(c, true)) {
            size_t to = l->at;
            while (to < l->s.n && is_name(l->s.p[to], false)) to++;
            push(l, (ftk_tmpl_token){
                        .kind = TOKEN_NAME, .line = l->line, .text = {l->s.p + l->at, to - l->at}});
            advance(l, to);
        } else if (is_digit(c)) {
            lex_number(l);
        } else if (c == '\'' || c == '"') {
            lex_string(l);
        } else {
            lex_sign(l, brackets, &depth);
        }
    }
}

ftk_tmpl_tokens ftk_tmpl_lex(ftk_tmpl_job *j, const char *text, size_t n)
{
    lexer l = {.j = j, .s = normalize(j, text, n), .line = 1, .line_start = true};
    while (l.at < l.s.n) {
        const size_t tag = find_tag(&l);
        if (tag == l.s.n) {
            push_data(&l, tag, '+', true);
            break;
        }
        const char kind = l.s.p[tag + 1], sign = sign_at(&l, tag + 2);
        push_data(&l, tag, sign, kind == '{');
        if (kind == '#') {
            lex_comment(&l);
            continue;
        }
        if (kind == '%' && lex_raw(&l)) continue;
        push_kind(&l, kind == '{' ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN);
        advance(&l, tag + 2 + (sign != 0));
        lex_tag(&l, kind == '{' ? "}}" : "%}", kind == '{' ? TOKEN_PRINT_END : TOKEN_BLOCK_END);
    }
    push_kind(&l, TOKEN_END);
    return l.tokens;
}
