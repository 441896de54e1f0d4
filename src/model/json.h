/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON (RFC 8259) of files that lie beside weights: read at once into a flat list of values that
 * point into the text. jansson, which the program reads JSON with, takes memory behind the host. */
#ifndef FTK_JSON_H
#define FTK_JSON_H

#include "foretoken.h"

typedef enum ftk_json_kind {
    FTK_JSON_NULL,
    FTK_JSON_BOOL,
    FTK_JSON_NUMBER,
    FTK_JSON_STRING,
    FTK_JSON_ARRAY,
    FTK_JSON_OBJECT
} ftk_json_kind;

typedef struct ftk_json_value {
    ftk_json_kind kind;
    ftk_str name;    /* in an object: as it is written, escapes too */
    ftk_str text;    /* of a string: likewise */
    double number;   /* of a number; of a bool 0 or 1 */
    bool whole;      /* a number without a fraction, that a double holds exactly */
    int count;       /* of an array or object */
    int first, next; /* value in it, value behind this one in the same array or object; 0: none */
} ftk_json_value;

/* values[0] is the whole. */
typedef struct ftk_json {
    ftk_json_value *values;
    int n;
    size_t cap;
} ftk_json;

/* what: the file, for messages. Errors: FORMAT, with the place, NOMEM; ftk_json_free() is due
 * then, too. */
ftk_err ftk_json_read(ftk_json *j, const char *text, size_t n, const char *what,
                      const ftk_host *host);
void ftk_json_free(ftk_json *j, const ftk_host *host);
/* The value of that name in an object; NULL: there is none, or `in` is NULL or no object. */
const ftk_json_value *ftk_json_get(const ftk_json *j, const ftk_json_value *in, const char *name);
/* The first value in an array or object and the one behind it; NULL at the end. */
const ftk_json_value *ftk_json_first(const ftk_json *j, const ftk_json_value *in);
const ftk_json_value *ftk_json_next(const ftk_json *j, const ftk_json_value *v);

#endif
