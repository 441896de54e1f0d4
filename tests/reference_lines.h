/* SPDX-License-Identifier: Apache-2.0
 *
 * The lines for which reference_tokens.py has asked other tokenizers. It ends the program when
 * memory runs out. */
#ifndef FTK_TESTS_REFERENCE_LINES_H
#define FTK_TESTS_REFERENCE_LINES_H

#include "foretoken.h"

enum { REF_MADE = 10240, REF_BLOCK = 16 };

typedef struct ref_lines {
    ftk_str *v; /* [n_given + REF_MADE], owned: those of reference_parts.txt, then made ones */
    size_t n_given;
} ref_lines;

/* False if the file of parts cannot be read. */
bool ref_lines_make(ref_lines *lines, const char *parts_file);
void ref_lines_free(ref_lines *lines);

/* FNV-1a: begins with h 0, goes on with what it gave for the line before. */
uint32_t ref_checksum(uint32_t h, const int32_t *ids, size_t n);

#endif
