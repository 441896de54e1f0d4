/* SPDX-License-Identifier: Apache-2.0
 * GGUF files: what the library alone may do with them, and words for messages about them. */
#ifndef FTK_GGUF_H
#define FTK_GGUF_H

#include "foretoken.h"

/* "u8", "string" ...; type must be below FTK_GGUF_N_TYPES. */
const char *ftk_gguf_type_name(ftk_gguf_type type);
/* ftk_show() of a text of a file, into buf (cap at least 16), for a message. Returns buf. */
const char *ftk_gguf_show(char *buf, size_t cap, ftk_str s);
/* The same in place, of 95 bytes at most. */
#define FTK_SHOW(s) ftk_gguf_show((char[96]){0}, 96, s)
/* The same for a path, of which the end is kept: cap at least 256. Returns buf. */
const char *ftk_gguf_show_path(char *buf, size_t cap, const char *path);
/* "MXFP4, which is not supported": a type that no pass can run, and why, for a message; cap at
 * least
 * 64. Returns buf. */
const char *ftk_gguf_refuse_type(char *buf, size_t cap, uint32_t type);
/* What a file that does not begin with GGUF is, and how to mend it, "a zip archive: unpack it
 * ...", by its first bytes (of n in all); NULL: not known. */
const char *ftk_gguf_not(const void *data, size_t n);

/* The text of a string key; p NULL: there is none, or it is of another type. */
ftk_str ftk_gguf_text(const ftk_gguf *g, const char *key);
/* A value of any integer type, cut at INT64_MAX; false: it is of no such type. */
bool ftk_gguf_whole(const ftk_gguf_value *v, int64_t *i);
/* The same of floats, too. */
bool ftk_gguf_number(const ftk_gguf_value *v, double *x);
/* An integer key in [lo, hi]; absent: what a missing one means; negative: an error. Errors: FORMAT,
 * with one line. */
ftk_err ftk_gguf_int(const ftk_gguf *g, const char *key, int64_t lo, int64_t hi, int64_t absent,
                     int *out, const char *path, const ftk_host *host);
/* The number of the tensor of that name, as ftk_gguf_tensor() counts; of all: there is none. */
size_t ftk_gguf_place(const ftk_gguf *g, const char *name);

/* ftk_gguf_open() of one file, which may be a part of a model. */
ftk_err ftk_gguf_open_file(ftk_gguf **out, const char *path, const ftk_host *host);
/* Makes one of n + 1 parts: `first` gets the tensors of the others, in that order, and owns them
 * then. path: the model's, for messages. Errors, after which the caller owns all: FORMAT (a tensor
 * is in two parts), UNSUPPORTED, NOMEM. */
ftk_err ftk_gguf_join(ftk_gguf *first, ftk_gguf *const *others, size_t n, const char *path);
/* Gives the memory behind n bytes of tensor data back; they are read from the file again when they
 * are wanted again. */
void ftk_gguf_forget(const void *data, size_t n);

#endif
