/* SPDX-License-Identifier: Apache-2.0
 * What is said to the model: one line, or several. */
#ifndef FTK_CLI_MESSAGE_H
#define FTK_CLI_MESSAGE_H

#include "bytes.h"
#include "line.h"

typedef struct cli_message {
    cli_bytes text; /* terminated, without blanks at its ends; indents stay */
    bool verbatim;  /* several lines, or quoted: never a command */
} cli_message;

/* Reads one, which may be empty:
 *  - a line; one that ends in a backslash (an odd number of them) goes on in the next, without it;
 *  - """ at its start: all lines up to """ at the end of one, as they stand;
 *  - what is several lines already, pasted or typed with Alt-Enter, as it stands.
 * At the end of the input what has come is the message. All-zero before the first; text is kept
 * for the next. */
cli_line_end cli_message_read(cli_line *l, cli_message *m);

#endif
