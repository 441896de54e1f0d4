/* SPDX-License-Identifier: Apache-2.0
 * Growing byte strings: whole files, clean UTF-8, JSON texts. */
#ifndef FTK_CLI_BYTES_H
#define FTK_CLI_BYTES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* All-zero is empty. Once something was added, p is terminated (not counted in n). */
typedef struct cli_bytes {
    char *p;
    size_t n, cap;
} cli_bytes;

/* Out of memory ends the program, with a line. */
void cli_bytes_add(cli_bytes *b, const char *p, size_t n);
void cli_bytes_free(cli_bytes *b);
/* realloc() of n elements that ends the program; n may be 0. */
void *cli_array(void *old, size_t n, size_t size);

/* Adds a whole file, or standard input for "-". Says why not. */
bool cli_bytes_read(cli_bytes *b, const char *path);

/* Adds n bytes with every ill-formed sequence replaced by U+FFFD. */
void cli_bytes_add_utf8(cli_bytes *b, const char *p, size_t n);

/* Adds n bytes as one line that is harmless for a terminal, with ftk_show(). */
void cli_bytes_add_shown(cli_bytes *b, const char *p, size_t n);

/* Clean JSON values of anything a file may hold: texts as above; JSON has neither infinity nor NaN
 * nor integers past 63 bits, so those become texts. */
json_t *cli_json_text(const char *p, size_t n);
json_t *cli_json_real(double v);
json_t *cli_json_unsigned(unsigned long long v);

#endif
