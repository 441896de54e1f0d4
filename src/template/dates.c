/* SPDX-License-Identifier: Apache-2.0
 * Dates as strftime() of the C locale writes them. */
#include "template/parts.h"

#include <stdio.h>
#include <string.h>

typedef struct date {
    int64_t year;
    int month, day; /* from 0 and from 1 */
    int hour, minute, second;
    int weekday, yearday; /* from 0; 0 is a Sunday */
} date;

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month] + (month == 1 && is_leap(year));
}

static date date_of(int64_t seconds)
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    date d = {.hour = (int)(rest / 3600),
              .minute = (int)(rest / 60 % 60),
              .second = (int)(rest % 60),
              .weekday = (int)(((days + 4) % 7 + 7) % 7)};
    int64_t cycles = days / 146097; /* of 400 years */
    days -= cycles * 146097;
    if (days < 0) {
        days += 146097;
        cycles--;
    }
    d.year = 1970 + 400 * cycles;
    for (; days >= 365 + is_leap(d.year); d.year++) days -= 365 + is_leap(d.year);
    d.yearday = (int)days;
    for (; days >= days_in(d.year, d.month); d.month++) days -= days_in(d.year, d.month);
    d.day = (int)days + 1;
    return d;
}

/* The week by ISO 8601, and the year it belongs to. */
static int iso_week(const date *d, int64_t *year)
{
    const int monday = (d->weekday + 6) % 7;
    int week = (d->yearday - monday + 10) / 7;
    *year = d->year;
    if (week < 1) {
        const int64_t before = d->year - 1;
        const int last = d->yearday + 365 + is_leap(before);
        week = (last - monday + 10) / 7;
        *year = before;
    } else if (week == 53) {
        const int left = 364 + is_leap(d->year) - d->yearday;
        if (left + monday < 3) {
            week = 1;
            *year = d->year + 1;
        }
    }
    return week;
}

static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static const char *expansion(char c)
{
    switch (c) {
    case 'c': return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x': return "%m/%d/%y";
    case 'F': return "%Y-%m-%d";
    case 'R': return "%H:%M";
    case 'r': return "%I:%M:%S %p";
    case 'T':
    case 'X': return "%H:%M:%S";
    default: return NULL;
    }
}

static bool put_name(ftk_tmpl_job *j, ftk_tmpl_text *t, const date *d, char c)
{
    switch (c) {
    case 'a': ftk_tmpl_add_bytes(j, t, weekdays[d->weekday], 3, false); return true;
    case 'A': ftk_tmpl_add_word(j, t, weekdays[d->weekday]); return true;
    case 'b':
    case 'h': ftk_tmpl_add_bytes(j, t, months[d->month], 3, false); return true;
    case 'B': ftk_tmpl_add_word(j, t, months[d->month]); return true;
    case 'p': ftk_tmpl_add_word(j, t, d->hour < 12 ? "AM" : "PM"); return true;
    case 'P': ftk_tmpl_add_word(j, t, d->hour < 12 ? "am" : "pm"); return true;
    case 'n': ftk_tmpl_add_word(j, t, "\n"); return true;
    case 't': ftk_tmpl_add_word(j, t, "\t"); return true;
    case '%': ftk_tmpl_add_word(j, t, "%"); return true;
    case 'f': ftk_tmpl_add_word(j, t, "000000"); return true;
    case 'z':
    case 'Z': return true; /* a clock without a zone */
    default: return false;
    }
}

/* The number behind a letter, its digits and what fills them up; false: no such letter. */
static bool number_of(const date *d, char c, int64_t seconds, int64_t *v, int *width, char *fill)
{
    int64_t iso_year;
    const int week = iso_week(d, &iso_year), hour12 = d->hour % 12 == 0 ? 12 : d->hour % 12;
    *width = 2;
    *fill = '0';
    switch (c) {
    case 'd': *v = d->day; return true;
    case 'e': *v = d->day, *fill = ' '; return true;
    case 'm': *v = d->month + 1; return true;
    case 'y': *v = (d->year % 100 + 100) % 100; return true;
    case 'Y': *v = d->year, *width = 1; return true;
    case 'C': *v = d->year / 100; return true;
    case 'H': *v = d->hour; return true;
    case 'k': *v = d->hour, *fill = ' '; return true;
    case 'I': *v = hour12; return true;
    case 'l': *v = hour12, *fill = ' '; return true;
    case 'M': *v = d->minute; return true;
    case 'S': *v = d->second; return true;
    case 'j': *v = d->yearday + 1, *width = 3; return true;
    case 'w': *v = d->weekday, *width = 1; return true;
    case 'u': *v = d->weekday == 0 ? 7 : d->weekday, *width = 1; return true;
    case 'U': *v = (d->yearday + 7 - d->weekday) / 7; return true;
    case 'W': *v = (d->yearday + 7 - (d->weekday + 6) % 7) / 7; return true;
    case 'V': *v = week; return true;
    case 'G': *v = iso_year, *width = 1; return true;
    case 'g': *v = (iso_year % 100 + 100) % 100; return true;
    case 's': *v = seconds, *width = 1; return true;
    default: return false;
    }
}

static void put(ftk_tmpl_job *j, ftk_tmpl_text *t, const date *d, int64_t seconds,
                const ftk_tmpl_str *format, bool expand)
{
    const char *const p = format->p;
    const size_t n = format->n;
    for (size_t i = 0; i < n; i++) {
        const size_t start = i;
        if (p[i] != '%' || i + 1 == n) {
            ftk_tmpl_add(j, t, format, i, i + 1);
            continue;
        }
        const bool bare = p[i + 1] == '-' && i + 2 < n; /* glibc: without filling */
        i += bare ? 2 : 1;
        const char *expanded = expand ? expansion(p[i]) : NULL;
        int64_t v;
        int width;
        char fill, b[32];
        if (expanded) {
            const ftk_tmpl_str inner = {.p = expanded, .n = strlen(expanded)};
            put(j, t, d, seconds, &inner, false);
        } else if (number_of(d, p[i], seconds, &v, &width, &fill)) {
            if (bare) width = 1;
            const int len =
                snprintf(b, sizeof b, fill == '0' ? "%0*lld" : "%*lld", width, (long long)v);
            ftk_tmpl_add_bytes(j, t, b, (size_t)len, false);
        } else if (!put_name(j, t, d, p[i])) {
            ftk_tmpl_add(j, t, format, start, i + 1);
        }
    }
}

ftk_tmpl_value ftk_tmpl_date(ftk_tmpl_job *j, const ftk_tmpl_str *format, int64_t seconds)
{
    const int64_t most = (int64_t)253402300799; /* the end of the year 9999 */
    if (seconds < 0) seconds = 0;
    if (seconds > most) seconds = most;
    const date d = date_of(seconds);
    ftk_tmpl_text t = {0};
    put(j, &t, &d, seconds, format, true);
    return ftk_tmpl_text_end(j, &t);
}
