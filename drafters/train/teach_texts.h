/* SPDX-License-Identifier: Apache-2.0
 * What a model is to read or to answer: conversations and plain texts, from files. */
#ifndef FTK_TEACH_TEXTS_H
#define FTK_TEACH_TEXTS_H

#include "foretoken.h"
#include "lessons.h"

typedef struct teach_text {
    const char *p; /* a line of JSON, or plain text */
    size_t n;
    bool json;
} teach_text;

typedef struct teach_texts {
    teach_text *at;
    size_t n;
    char **files;
    size_t n_files;
    uint64_t sum; /* of all bytes: the texts are others where this differs */
} teach_texts;

enum { TEACH_PIECE = 2048 /* bytes of a plain text that are a text of their own */ };

/* Reads files: JSON lines, each {"messages": [...]}, {"prompt": ..., "response": ...} or
 * {"text": ...}, or plain text. The texts are in an order by chance, the same in each run. Exits
 * with a line for a file that cannot be read. */
void texts_read(teach_texts *t, char **files, int n);
void texts_free(teach_texts *t);
/* The tokens of a text, at most cap, and whose they are. written: the whole text, what the
 * assistant says counting as answers; else a conversation as far as the first answer, or the
 * first tokens of a text. False: it has nothing to learn from, or is too long, or the template
 * refuses it. */
bool texts_lesson(const ftk_model *m, const teach_text *t, bool written, lesson *d, size_t cap);

#endif
