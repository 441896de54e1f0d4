/* SPDX-License-Identifier: Apache-2.0
 * Lines of the person who talks: edited in a terminal, else as they come. */
#ifndef FTK_CLI_LINE_H
#define FTK_CLI_LINE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum cli_line_end {
    CLI_LINE,
    CLI_LINE_EOF,
    CLI_LINE_INTERRUPT,
    CLI_LINE_ERROR
} cli_line_end;

typedef struct cli_line cli_line;

/* interrupt is set by the handler of SIGINT, which must not restart reads. */
cli_line *cli_line_open(const volatile sig_atomic_t *interrupt);
void cli_line_close(cli_line *l);
bool cli_line_interactive(const cli_line *l); /* standard input is a terminal */
/* What was entered, without its newline, valid until the next call. In a terminal it may be
 * several lines: what is pasted there stays together until Enter is pressed, and Alt-Enter
 * begins a new one. CR LF and CR in what is pasted become LF. prompt must live as long. */
cli_line_end cli_line_read(cli_line *l, const char *prompt, const char **text, size_t *n);
/* What the arrow keys bring back, as one entry. */
void cli_line_remember(cli_line *l, const char *text);

#endif
