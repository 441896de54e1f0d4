/* SPDX-License-Identifier: Apache-2.0
 * Lines of the person who talks: edited in a terminal, else as they come. */
#include "line.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#ifdef FTK_HAVE_EDIT
#include <histedit.h>
#endif
#if defined(FTK_HAVE_EDIT) && defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

#include "common.h"
#include "terminal.h"

enum { CTRL_C = 3, QUIET_MS = 100 };

struct cli_line {
    const volatile sig_atomic_t *interrupt;
    bool interactive;
    FILE *out; /* where the prompt goes */
    cli_bytes text; /* pasted, or the line that was read without an editor */
    cli_bytes plain;
    char in[4096]; /* read without an editor; in[at..n) is still to be used */
    size_t at, n;
#ifdef FTK_HAVE_EDIT
    EditLine *edit;
    History *history; /* in memory only */
    const char *prompt;
    bool stopped; /* Ctrl-C was pressed */
    char unread;  /* a byte that is still to be read; 0: none */
#endif
};

bool cli_line_interactive(const cli_line *l)
{
    return l->interactive;
}

/* Until there is something to read, the end of it among that; false: interrupted. SIGINT comes
 * in only while this waits: none falls between the look at what its handler has set and the
 * wait. */
static bool wait_for_input(const cli_line *l)
{
    sigset_t interrupt, before;
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    while (!*l->interrupt && ppoll(&in, 1, NULL, &before) < 0 && errno == EINTR) {
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !*l->interrupt;
}

/* As read(2) from standard input; -1 also where it was interrupted. */
static ssize_t read_input(const cli_line *l, void *p, size_t n)
{
    while (wait_for_input(l)) {
        const ssize_t got = read(STDIN_FILENO, p, n);
        if (got >= 0 || errno != EINTR) return got;
    }
    return -1;
}

#ifdef FTK_HAVE_EDIT
/* ---- libedit, which takes a newline in its line for one */

static cli_line *line_of(EditLine *edit)
{
    cli_line *l = NULL;
    el_get(edit, EL_CLIENTDATA, &l);
    return l;
}

static char *edit_prompt(EditLine *edit)
{
    return (char *)line_of(edit)->prompt; /* libedit reads it only */
}

/* One character, as libedit's own function, but that no interrupt is lost. */
static int read_key(EditLine *edit, wchar_t *key)
{
    cli_line *const l = line_of(edit);
    mbstate_t state = {0};
    for (;;) {
        char c = l->unread;
        const ssize_t n = c ? 1 : read_input(l, &c, 1);
        l->unread = 0;
        if (n != 1) return n == 0 ? 0 : -1;
        const bool begun = !mbsinit(&state);
        const size_t used = mbrtowc(key, &c, 1, &state);
        if (used == (size_t)-2) continue; /* more is to come */
        if (used == (size_t)-1) *key = 0xFFFD;
        if (used == (size_t)-1 && begun) l->unread = c; /* a key of its own behind a broken one */
        return 1;
    }
}

/* Ctrl-C in pasted text is text; one behind which nothing comes was pressed, as the end of the
 * paste was lost. */
static bool was_pressed(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, QUIET_MS) == 0;
}

/* Up to the mark behind it; false: it does not come. libedit reads byte by byte, too. */
static bool read_pasted(cli_line *l)
{
    static const char mark[] = CLI_PASTE_END;
    const size_t n_mark = sizeof mark - 1;
    cli_bytes *b = &l->text;
    b->n = 0;
    for (;;) {
        char c;
        const ssize_t n = read_input(l, &c, 1);
        l->stopped = *l->interrupt || (n == 1 && c == CTRL_C && was_pressed());
        if (n != 1 || l->stopped) return false;
        cli_bytes_add(b, &c, 1);
        if (b->n >= n_mark && memcmp(b->p + b->n - n_mark, mark, n_mark) == 0) break;
    }
    b->n -= n_mark;
    return true;
}

/* Lines end in LF; NULs, which no line can hold, are left out, and broken UTF-8 becomes U+FFFD. */
static void clean_pasted(const cli_bytes *b, cli_bytes *clean)
{
    size_t to = 0;
    char before = 0;
    for (size_t i = 0; i < b->n; i++) {
        const char c = b->p[i];
        if (c != 0 && !(c == '\n' && before == '\r')) b->p[to++] = c == '\r' ? '\n' : c;
        before = c;
    }
    cli_bytes_add(clean, "", 0);
    cli_bytes_add_utf8(clean, b->p, to);
}

static unsigned char on_paste(EditLine *edit, int key)
{
    (void)key;
    cli_line *l = line_of(edit);
    if (!read_pasted(l)) return CC_EOF;
    cli_bytes clean = {0};
    clean_pasted(&l->text, &clean);
    const bool fits = clean.n == 0 || el_insertstr(edit, clean.p) == 0;
    cli_bytes_free(&clean);
    return fits ? CC_REFRESH : CC_REFRESH_BEEP;
}

static unsigned char on_new_line(EditLine *edit, int key)
{
    (void)key;
    return el_insertstr(edit, "\n") == 0 ? CC_REFRESH : CC_REFRESH_BEEP;
}

/* The terminal itself acts on no key while a line is edited: in what is pasted they are text. */
static unsigned char on_ctrl_c(EditLine *edit, int key)
{
    (void)key;
    line_of(edit)->stopped = true;
    return CC_EOF;
}

static unsigned char on_ctrl_z(EditLine *edit, int key)
{
    (void)edit, (void)key;
    kill(0, SIGTSTP); /* all of the pipeline, as the terminal does */
    return CC_REDISPLAY;
}

static unsigned char on_quit(EditLine *edit, int key)
{
    (void)edit, (void)key;
    kill(0, SIGQUIT);
    return CC_REDISPLAY;
}

static void bind_keys(EditLine *edit)
{
    static const struct {
        const char *name;
        unsigned char (*run)(EditLine *edit, int key);
        const char *keys[2];
    } table[] = {
        {"ftk-paste", on_paste, {CLI_PASTE_START}},
        {"ftk-new-line", on_new_line, {"\033\r", "\033\n"}},
        {"ftk-interrupt", on_ctrl_c, {"^C"}},
        {"ftk-stop", on_ctrl_z, {"^Z"}},
        {"ftk-quit", on_quit, {"^\\"}},
    };
#ifdef __SANITIZE_ADDRESS__
    __lsan_disable(); /* el_end() does not free the names of functions */
#endif
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        el_set(edit, EL_ADDFN, table[i].name, table[i].name, table[i].run);
        for (int k = 0; k < 2 && table[i].keys[k]; k++)
            el_set(edit, EL_BIND, table[i].keys[k], table[i].name, NULL);
    }
#ifdef __SANITIZE_ADDRESS__
    __lsan_enable();
#endif
    el_set(edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(edit, EL_SETTY, "-d", "-isig", "-ixon", "-icrnl", "-inlcr", NULL);
}

static void edit_open(cli_line *l)
{
    /* libedit goes by the locale; without one, letters past ASCII could not be typed. */
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
    l->edit = el_init("foretoken", stdin, l->out, stderr);
    l->history = history_init();
    HistEvent event;
    if (l->history) history(l->history, &event, H_SETSIZE, 1000);
    if (!l->edit) return;
    el_set(l->edit, EL_CLIENTDATA, l);
    el_set(l->edit, EL_GETCFN, read_key);
    el_set(l->edit, EL_PROMPT, edit_prompt);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_SIGNAL, 0); /* SIGINT is ours */
    if (l->history) el_set(l->edit, EL_HIST, history, l->history);
    bind_keys(l->edit);
}

static cli_line_end edit_read(cli_line *l, const char **text, size_t *n)
{
    int count = 0;
    errno = 0;
    l->stopped = false;
    el_resize(l->edit); /* the window may have changed since */
    const char *line = el_gets(l->edit, &count);
    if (*l->interrupt || l->stopped) {
        el_reset(l->edit);
        return CLI_LINE_INTERRUPT;
    }
    if (!line || count <= 0) return count < 0 && errno ? CLI_LINE_ERROR : CLI_LINE_EOF;
    *text = line;
    *n = (size_t)count - (line[count - 1] == '\n');
    return CLI_LINE;
}

static void edit_close(cli_line *l)
{
    if (l->edit) el_end(l->edit);
    if (l->history) history_end(l->history);
}
#endif

/* ---- */

cli_line *cli_line_open(const volatile sig_atomic_t *interrupt)
{
    cli_line *l = cli_array(NULL, 1, sizeof *l);
    *l = (cli_line){.interrupt = interrupt,
                    .interactive = isatty(STDIN_FILENO),
                    .out = isatty(STDOUT_FILENO) ? stdout : stderr};
    if (!l->interactive) return l;
    cli_terminal_hold(fileno(l->out));
#ifdef FTK_HAVE_EDIT
    edit_open(l);
#endif
    return l;
}

void cli_line_close(cli_line *l)
{
    if (!l) return;
#ifdef FTK_HAVE_EDIT
    edit_close(l);
#endif
    if (l->interactive) cli_terminal_release();
    cli_bytes_free(&l->text);
    cli_bytes_free(&l->plain);
    free(l);
}

/* Adds a line to the text, without the marks round what was pasted; *open: a mark is still to
 * come. */
static void add_unmarked(cli_bytes *b, const char *line, size_t n, bool *open)
{
    for (size_t i = 0; i < n;) {
        const char *mark = *open ? CLI_PASTE_END : CLI_PASTE_START;
        const size_t n_mark = strlen(mark);
        if (n - i >= n_mark && memcmp(line + i, mark, n_mark) == 0) {
            *open = !*open;
            i += n_mark;
        } else {
            cli_bytes_add(b, line + i++, 1);
        }
    }
}

/* Up to the newline, which is left out, or the end, into l->plain. */
static cli_line_end read_line(cli_line *l)
{
    cli_bytes *b = &l->plain;
    b->n = 0;
    cli_bytes_add(b, "", 0);
    for (;;) {
        if (l->at == l->n) {
            const ssize_t n = read_input(l, l->in, sizeof l->in);
            if (*l->interrupt) return CLI_LINE_INTERRUPT;
            if (n < 0) return CLI_LINE_ERROR;
            if (n == 0) return b->n > 0 ? CLI_LINE : CLI_LINE_EOF;
            l->at = 0;
            l->n = (size_t)n;
        }
        const char *from = l->in + l->at, *end = memchr(from, '\n', l->n - l->at);
        const size_t n = end ? (size_t)(end - from) : l->n - l->at;
        cli_bytes_add(b, from, n);
        l->at += n + (end != NULL);
        if (end) return CLI_LINE;
    }
}

static cli_line_end plain_read(cli_line *l, const char *prompt, const char **text, size_t *n)
{
    if (l->interactive) {
        fputs(prompt, l->out);
        fflush(l->out);
    }
    l->text.n = 0;
    cli_bytes_add(&l->text, "", 0);
    for (bool open = false, more = true; more; more = open) {
        const cli_line_end end = read_line(l);
        if (end != CLI_LINE) return end;
        size_t len = l->plain.n;
        while (len > 0 && l->plain.p[len - 1] == '\r') len--;
        if (open) cli_bytes_add(&l->text, "\n", 1);
        if (l->interactive)
            add_unmarked(&l->text, l->plain.p, len, &open);
        else
            cli_bytes_add(&l->text, l->plain.p, len);
    }
    *text = l->text.p;
    *n = l->text.n;
    return CLI_LINE;
}

cli_line_end cli_line_read(cli_line *l, const char *prompt, const char **text, size_t *n)
{
#ifdef FTK_HAVE_EDIT
    l->prompt = prompt;
    if (l->edit) return edit_read(l, text, n);
#endif
    return plain_read(l, prompt, text, n);
}

void cli_line_remember(cli_line *l, const char *text)
{
#ifdef FTK_HAVE_EDIT
    HistEvent event;
    if (l->edit && l->history && text[0]) history(l->history, &event, H_ENTER, text);
#else
    (void)l, (void)text;
#endif
}
