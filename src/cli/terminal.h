/* SPDX-License-Identifier: Apache-2.0
 * What a conversation changes of the terminal, taken back however the program ends. */
#ifndef FTK_CLI_TERMINAL_H
#define FTK_CLI_TERMINAL_H

#include <stdbool.h>

/* What a terminal puts round pasted text, once it was asked to. */
#define CLI_PASTE_START "\033[200~"
#define CLI_PASTE_END   "\033[201~"

/* Remembers the modes of standard input, a terminal, and asks the one behind fd to mark what is
 * pasted. From here on exit(), signals that end the program and Ctrl-Z take that back first.
 * Does nothing where fd is no terminal, or one that knows no commands (TERM=dumb). */
void cli_terminal_hold(int fd);
/* Takes it back; more than once is harmless. */
void cli_terminal_release(void);

#endif
