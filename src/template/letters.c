/* SPDX-License-Identifier: Apache-2.0
 * Upper and lower case, as Python has them. */
#include "template/cases.h"
#include "template/parts.h"

/* 0: the letter stays. */
static int delta_of(const struct case_run *runs, size_t n, uint32_t code)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (runs[mid].last < code)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < n && runs[lo].first <= code; lo++)
        if (code <= runs[lo].last && (code - runs[lo].first) % (uint32_t)runs[lo].step == 0)
            return runs[lo].delta;
    return 0;
}

#define DELTA(runs, code) delta_of(runs, sizeof(runs) / sizeof *(runs), code)

bool ftk_tmpl_has_case(uint32_t code, bool *upper)
{
    *upper = DELTA(to_lower, code) != 0 || code == 0x130;
    return *upper || DELTA(to_upper, code) != 0 || code == 0xDF;
}

/* Letters of scripts, roughly: signs, punctuation and pictures have blocks of their own. */
bool ftk_tmpl_is_alpha(uint32_t c)
{
    if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
    if (c < 0xC0) return c == 0xAA || c == 0xB5 || c == 0xBA;
    return c != 0xD7 && c != 0xF7 && !(c >= 0x2000 && c < 0x2C00 && c != 0x2071 && c != 0x207F) &&
           !(c >= 0x2E00 && c < 0x3005) && !(c >= 0xD800 && c < 0xF900) &&
           !(c >= 0xFE00 && c < 0xFE70) && !(c >= 0xFF00 && c < 0xFF21) && c < 0x1F000;
}

/* Two letters in one, of which the first alone is raised at the start of a word. */
static uint32_t title_of(uint32_t code)
{
    if (code >= 0x1C4 && code <= 0x1CC) return 0x1C5 + (code - 0x1C4) / 3 * 3;
    return code >= 0x1F1 && code <= 0x1F3 ? 0x1F2 : 0;
}

static void add_upper(ftk_tmpl_job *j, ftk_tmpl_text *t, uint32_t code, bool input, bool title)
{
    if (title && title_of(code) != 0) {
        ftk_tmpl_add_code(j, t, title_of(code), input);
        return;
    }
    for (size_t i = 0; i < sizeof to_several / sizeof *to_several; i++) {
        if (to_several[i].code != code) continue;
        for (int k = 0; k < 3 && to_several[i].upper[k] != 0; k++) {
            const uint32_t c = to_several[i].upper[k];
            ftk_tmpl_add_code(j, t, title && k > 0 ? c + (uint32_t)DELTA(to_lower, c) : c, input);
        }
        return;
    }
    ftk_tmpl_add_code(j, t, code + (uint32_t)DELTA(to_upper, code), input);
}

/* A sigma is another one at the end of a word. */
static bool ends_word(const ftk_tmpl_str *s, size_t at, bool after_letter)
{
    const size_t next = at + ftk_tmpl_char(s, at);
    bool upper;
    return after_letter && (next >= s->n || !ftk_tmpl_has_case(ftk_tmpl_code(s, next), &upper));
}

static void add_lower(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s, size_t at,
                      bool after_letter)
{
    const uint32_t code = ftk_tmpl_code(s, at);
    const bool input = ftk_tmpl_mark(s, at);
    if (code == 0x130) {
        ftk_tmpl_add_code(j, t, 'i', input);
        ftk_tmpl_add_code(j, t, 0x307, input);
    } else if (code == 0x3A3 && ends_word(s, at, after_letter)) {
        ftk_tmpl_add_code(j, t, 0x3C2, input);
    } else {
        ftk_tmpl_add_code(j, t, code + (uint32_t)DELTA(to_lower, code), input);
    }
}

static bool starts_after(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || ftk_tmpl_is_space(c);
}

ftk_tmpl_value ftk_tmpl_recase(ftk_tmpl_job *j, const ftk_tmpl_str *s, ftk_tmpl_case how)
{
    ftk_tmpl_text t = {0};
    bool first = true, after_letter = false, upper;
    ftk_tmpl_spend(j, s->n / 4);
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at)) {
        const uint32_t code = ftk_tmpl_code(s, at);
        const bool raise = how == TMPL_UPPER || (how != TMPL_LOWER && first);
        if (code >= 0xDC00 && code < 0xDD00)
            ftk_tmpl_add(j, &t, s, at, at + 1);
        else if (raise)
            add_upper(j, &t, code, ftk_tmpl_mark(s, at), how != TMPL_UPPER);
        else
            add_lower(j, &t, s, at, after_letter);
        after_letter = ftk_tmpl_has_case(code, &upper);
        first = how == TMPL_TITLE        ? !after_letter
                : how == TMPL_WORD_TITLE ? starts_after(code)
                                         : false;
    }
    return ftk_tmpl_text_end(j, &t);
}
